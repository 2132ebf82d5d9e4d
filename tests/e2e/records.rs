//! The frame and its records in every form that a client may choose (PROTOCOL 5, 6, 7), and the
//! forms that end the session (PROTOCOL 15.13).

use crate::support::client::{CCS, Client, Handshake, record};
use crate::support::fixture::Fixture;
use crate::support::hello::{App, Hello};
use crate::support::obfuscated2::{self, DD, EE, EF};
use crate::support::peer::{End, Peer};
use crate::support::{QUIET, eventually, pattern};

fn handshake(fixture: &Fixture) -> Handshake {
    Handshake::connect(fixture.proxy.addr, &fixture.secret, App::PostQuantum)
}

#[test]
fn payload_after_the_frame_in_one_record_reaches_the_dc() {
    let fixture = Fixture::new();
    for size in [1, 100, 2814] {
        let (mut client, header) = handshake(&fixture).make_frame(DD, 2);
        let plain = pattern(5, size);
        let sealed = client.up.encrypt(&plain);
        let first = record(0x17, &[&header[..], &sealed].concat());
        client.up.send_raw(&[&CCS[..], &first].concat());
        assert!(fixture.dc.accept().from.recv(size) == plain, "{size} bytes");
    }
}

#[test]
fn payload_after_the_frame_in_the_same_segment_reaches_the_dc() {
    let fixture = Fixture::new();
    let (mut client, header) = handshake(&fixture).make_frame(DD, 2);
    let plain = pattern(6, 40_000);
    let mut wire = [&CCS[..], &record(0x17, &header)].concat();
    for part in client.up.encrypt(&plain).chunks(2878) {
        wire.extend(record(0x17, part));
    }
    client.up.send_raw(&wire);
    assert!(fixture.dc.accept().from.recv(plain.len()) == plain);
}

#[test]
fn payload_sent_before_the_dc_answers_waits_for_it() {
    let fixture = Fixture::new();
    let mut client = handshake(&fixture).send_frame(DD, 2);
    let plain = pattern(7, 300_000);
    let sending = plain.clone();
    let writer = std::thread::spawn(move || {
        client.up.send(&sending);
        client
    });
    let mut session = fixture.dc.accept();
    assert!(session.from.recv(plain.len()) == plain);
    drop(writer.join().expect("the writer"));
}

#[test]
fn a_client_that_does_not_wait_for_the_answer_is_served() {
    let fixture = Fixture::new();
    let hello = Hello::new(&fixture.secret, App::PostQuantum);
    let mut header = obfuscated2::write(DD, 2, Some(&fixture.secret.key));
    let data = record(0x17, &header.to_receiver.transform(b"early"));
    let mut peer = Peer::connect("early client", fixture.proxy.addr);
    peer.send(&[&hello.wire[..], &CCS, &record(0x17, &header.wire), &data].concat());
    let handshake = Handshake::read_answer(peer, &fixture.secret, &hello);
    let mut client = handshake.with_streams(header.to_receiver, header.to_sender);
    let mut session = fixture.dc.accept();
    assert_eq!(session.from.recv(5), b"early");
    session.to.send(b"late");
    assert_eq!(client.down.recv(4), b"late");
}

#[test]
fn records_that_arrive_byte_by_byte_are_understood() {
    let fixture = Fixture::new();
    let (mut client, header) = handshake(&fixture).make_frame(DD, 2);
    let data = client.up.encrypt(b"a few bytes");
    for byte in [&CCS[..], &record(0x17, &header), &record(0x17, &data)].concat() {
        client.up.send_raw(&[byte]);
    }
    assert_eq!(fixture.dc.accept().from.recv(11), b"a few bytes");
}

#[test]
fn ccs_is_allowed_anywhere() {
    let fixture = Fixture::new();
    let (mut client, header) = handshake(&fixture).make_frame(DD, 2);
    let ccs = &CCS[..];
    client.up.send_raw(&[ccs, ccs, &record(0x17, &header), ccs].concat());
    let mut session = fixture.dc.accept();
    for bytes in [&b"one"[..], b"two", b"three"] {
        client.up.send_raw(ccs);
        client.up.send(bytes);
        assert_eq!(session.from.recv(bytes.len()), bytes);
    }
    session.to.send(b"fine");
    assert_eq!(client.down.recv(4), b"fine");
}

/// What a TLS server does that waits for Finished.
#[derive(Debug, PartialEq, Eq)]
enum Reaction {
    Alert,
    Fin,
    Silence,
}

/// Measured with `openssl s_server` 3.0.19 (PROTOCOL 15.13).
#[test]
fn after_the_answer_records_are_judged_as_openssl_does() {
    use Reaction::{Alert, Fin, Silence};
    let fixture = Fixture::new();
    let data = |len| record(0x17, &pattern(8, len));
    let header = |kind, len: u16| [&[kind, 3, 3], &len.to_be_bytes()[..]].concat();
    let ccs = |body: &[u8]| record(0x14, body);
    let cases = [
        (data(0), Alert),
        (data(1), Alert),
        ([&CCS[..], &data(16)].concat(), Alert),
        ([&CCS[..], &data(53)].concat(), Alert),
        (data(63), Alert),
        (data(64), Alert),
        (data(200), Alert),
        (data(200)[..100].to_vec(), Silence),
        (header(0x17, 5), Silence),
        (header(0x17, 16_640), Silence),
        (header(0x17, 16_641), Alert),
        (header(0x17, 65_535), Alert),
        (data(0).repeat(100), Alert),
        (CCS.repeat(32), Silence),
        (CCS.repeat(33), Alert),
        (CCS.repeat(50), Alert),
        (ccs(&[0]), Alert),
        (ccs(&[]), Alert),
        (ccs(&[1, 1]), Alert),
        (header(0x14, 2), Silence),
        (header(0x14, 20_000), Alert),
        (record(0x15, &[2, 40]), Fin),
        (record(0x15, &[1, 0]), Fin),
        ([&CCS[..], &record(0x15, &[2, 40])].concat(), Fin),
        (record(0x15, &[1, 90]), Silence),
        (record(0x15, &[1, 90]).repeat(4), Silence),
        (record(0x15, &[1, 90]).repeat(5), Alert),
        (header(0x15, 2), Silence),
        (record(0x15, &[2]), Alert),
        (record(0x15, &[7; 19]), Alert),
        (header(0x16, 36), Alert),
        (header(0x18, 8), Alert),
        (header(0x63, 64), Alert),
        (vec![0x63], Silence),
        (vec![0x16, 3, 3, 0], Silence),
        (vec![0x17, 3, 1, 0, 64], Alert),
        (vec![0x17, 2, 3, 0, 64], Alert),
    ];
    for (wire, reaction) in cases {
        let mut peer = handshake(&fixture).peer;
        peer.send(&wire);
        match reaction {
            Silence => assert!(peer.is_quiet_for(QUIET), "{wire:?}"),
            Fin => assert_eq!(peer.recv_rest(), (Vec::new(), End::Fin), "{wire:?}"),
            Alert => assert_looks_like_an_alert(peer.recv_rest()),
        }
    }
    assert!(fixture.dc.accept_within(QUIET).is_none(), "nothing was dialled");
    fixture.proxy.wait_for_connections("alice", 0);
}

#[test]
fn the_lengths_of_tls_hold_as_long_as_the_session_lives() {
    let fixture = Fixture::new();
    for header in [[0x17, 3, 3, 0, 0], [0x17, 3, 3, 0x41, 1], [0x15, 3, 3, 0, 2]] {
        let (mut client, mut session) = fixture.session();
        client.up.send(b"before");
        assert_eq!(session.from.recv(6), b"before");
        client.up.send_raw(&header);
        assert_eq!(client.down.next_record().expect("an alert").len(), 19);
        assert_eq!(client.down.next_record(), Err(End::Fin));
    }
    fixture.proxy.wait_for_connections("alice", 0);
}

#[test]
fn a_client_without_ccs_is_served() {
    let fixture = Fixture::new();
    let (mut client, header) = handshake(&fixture).make_frame(DD, 2);
    client.up.send_raw(&record(0x17, &header));
    assert_eq!(fixture.dc.accept().dc, 2);
}

#[test]
fn transports_that_no_app_uses_inside_tls_are_answered_like_a_broken_record() {
    let fixture = Fixture::new();
    for tag in [EE, EF, [0; 4], [0xdd, 0xdd, 0xdd, 0xde]] {
        let mut client = handshake(&fixture).send_frame(tag, 2);
        assert_looks_like_an_alert(client.up.peer.recv_rest());
    }
    assert!(fixture.dc.accept_within(QUIET).is_none(), "nothing was dialled");
}

#[test]
fn media_and_undefined_data_centres_are_served_by_their_plain_number() {
    let fixture = Fixture::new();
    for (asked, dialled) in [(2, 2), (-2, 2), (0, 2), (-5, 5), (1, 1), (203, 203), (-203, 203)] {
        let _client = handshake(&fixture).send_frame(DD, asked);
        assert_eq!(fixture.dc.accept().dc, dialled, "asked for {asked}");
    }
}

#[test]
fn an_unknown_data_centre_ends_the_session() {
    let fixture = Fixture::new();
    for asked in [6, -77, 999, i16::MIN, i16::MAX] {
        let mut client = handshake(&fixture).send_frame(DD, asked);
        let (payload, _) = client.down.recv_rest();
        assert!(payload.is_empty(), "{} bytes for DC {asked}", payload.len());
    }
    assert!(fixture.dc.accept_within(QUIET).is_none(), "nothing was dialled");
    fixture.proxy.wait_for_connections("alice", 0);
}

#[test]
fn an_unknown_data_centre_becomes_the_second_if_the_config_allows() {
    let fixture = Fixture::with(|config| config.set("", "allow-fallback-on-unknown-dc", "true"));
    for asked in [6, -77, 999, i16::MIN] {
        let mut client = handshake(&fixture).send_frame(DD, asked);
        let mut session = fixture.dc.accept();
        assert_eq!(session.dc, 2, "asked for {asked}");
        client.up.send(b"hi");
        assert_eq!(session.from.recv(2), b"hi");
    }
}

#[test]
fn a_record_that_no_client_sends_is_answered_like_a_broken_tls_record() {
    let fixture = Fixture::new();
    let header = [0x5a; 64];
    let flipped_type = record(0x16, &header);
    let unknown_type = record(0x99, &header);
    let mut old_version = record(0x17, &header);
    old_version[2] = 1;
    for wire in [flipped_type, unknown_type, old_version] {
        let mut handshake = handshake(&fixture);
        handshake.peer.send(&wire);
        assert_looks_like_an_alert(handshake.peer.recv_rest());
    }
    assert!(fixture.dc.accept_within(QUIET).is_none(), "nothing was dialled");
    fixture.proxy.wait_for_connections("alice", 0);
}

/// As behind nginx, whose kernel has no socket any more.
#[test]
fn bytes_behind_a_broken_record_are_answered_by_a_reset() {
    let fixture = Fixture::new();
    let mut peer = handshake(&fixture).peer;
    peer.send(&record(0x17, &[]));
    assert_looks_like_an_alert(peer.recv_rest());
    peer.send(b"more");
    eventually("the socket is gone", || peer.try_send(b"more").is_err());
}

#[test]
fn a_frame_that_decrypts_to_noise_is_answered_like_a_broken_tls_record() {
    let fixture = Fixture::new();
    let mut handshake = handshake(&fixture);
    handshake.peer.send(&[&CCS[..], &record(0x17, &[0x5a; 64])].concat());
    assert_looks_like_an_alert(handshake.peer.recv_rest());
    assert!(fixture.dc.accept_within(QUIET).is_none(), "nothing was dialled");
}

#[test]
fn a_broken_record_in_the_middle_ends_both_sides() {
    let fixture = Fixture::new();
    for wire in [vec![0x16, 3, 3, 0, 1, 0], vec![0x17, 3, 1, 0, 1, 0], vec![0, 0, 0, 0, 0]] {
        let (mut client, mut session) = fixture.session();
        client.up.send(b"before");
        assert_eq!(session.from.recv(6), b"before");
        client.up.send_raw(&wire);
        session.from.recv_rest();
        while client.down.next_record().is_ok() {}
    }
    fixture.proxy.wait_for_connections("alice", 0);
}

#[test]
fn an_alert_from_the_client_ends_the_session() {
    let fixture = Fixture::new();
    let (mut client, mut session) = fixture.session();
    client.up.send_raw(&record(0x15, &[0x5a; 19]));
    assert_eq!(session.from.recv_rest().0, b"");
    while client.down.next_record().is_ok() {}
    fixture.proxy.wait_for_connections("alice", 0);
    assert!(Client::open(fixture.proxy.addr, &fixture.secret).down.is_quiet_for(QUIET));
}

/// One record as long as an encrypted alert, then FIN (PROTOCOL 15.13).
fn assert_looks_like_an_alert((bytes, end): (Vec<u8>, End)) {
    assert_eq!(bytes.len(), 24, "one record of 19 bytes");
    assert_eq!(bytes[..5], [0x17, 3, 3, 0, 19]);
    assert_eq!(end, End::Fin);
}

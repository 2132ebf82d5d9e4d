//! The answer to a hello, for every app in use (PROTOCOL 3 and 4).

use crate::support::QUIET;
use crate::support::answer::MLKEM_CIPHERTEXT;
use crate::support::captured::{payloads, sessions};
use crate::support::client::Handshake;
use crate::support::curve::mlkem_score;
use crate::support::dc::Dc;
use crate::support::fixture::Fixture;
use crate::support::front::Front;
use crate::support::hello::{App, Hello, HelloOptions};
use crate::support::obfuscated2::{self, DD};
use crate::support::peer::Peer;
use crate::support::proxy::Config;

#[test]
fn the_answer_is_three_records_and_then_silence_until_the_frame() {
    let fixture = Fixture::new();
    for (shape, group) in [(App::Classic, 0x001d), (App::PostQuantum, 0x11ec)] {
        let mut handshake = Handshake::connect(fixture.proxy.addr, &fixture.secret, shape);
        assert_eq!(handshake.answer.group, group);
        assert!(handshake.peer.is_quiet_for(QUIET), "bytes before the client sent its frame");
        let mut client = handshake.send_frame(DD, 2);
        let mut session = fixture.dc.accept();
        assert_eq!((session.tag, session.dc), (DD, 2));
        assert!(client.down.is_quiet_for(QUIET), "bytes before the DC sent any");
        client.up.send(b"question");
        assert_eq!(session.from.recv(8), b"question");
        session.to.send(b"answer");
        assert_eq!(client.down.recv(6), b"answer");
    }
}

#[test]
fn a_hello_cut_into_up_to_eleven_records_is_understood() {
    let fixture = Fixture::new();
    for count in [2, 3, 5, 8, 11] {
        for shape in [App::Classic, App::PostQuantum] {
            let hello = Hello::new(&fixture.secret, shape);
            let mut peer = Peer::connect("client", fixture.proxy.addr);
            peer.send(&hello.in_records(count));
            let _client = Handshake::read_answer(peer, &fixture.secret, &hello).send_frame(DD, 2);
            assert_eq!(fixture.dc.accept().dc, 2, "{count} records");
        }
    }
}

#[test]
fn a_hello_cut_inside_the_handshake_header_is_understood() {
    let fixture = Fixture::new();
    let hello = Hello::new(&fixture.secret, App::PostQuantum);
    let mut cut = Vec::new();
    for part in [&hello.wire[5..7], &hello.wire[7..8], &[], &hello.wire[8..]] {
        cut.extend_from_slice(&[0x16, 3, 1]);
        cut.extend_from_slice(&(part.len() as u16).to_be_bytes());
        cut.extend_from_slice(part);
    }
    let mut peer = Peer::connect("client", fixture.proxy.addr);
    peer.send(&cut);
    let _client = Handshake::read_answer(peer, &fixture.secret, &hello).send_frame(DD, 2);
    assert_eq!(fixture.dc.accept().dc, 2);
}

#[test]
fn a_hello_that_arrives_byte_by_byte_is_understood() {
    let fixture = Fixture::new();
    let hello = Hello::new(&fixture.secret, App::PostQuantum);
    let mut peer = Peer::connect("client", fixture.proxy.addr);
    for byte in &hello.wire {
        peer.send(&[*byte]);
    }
    let _client = Handshake::read_answer(peer, &fixture.secret, &hello).send_frame(DD, 2);
    assert_eq!(fixture.dc.accept().dc, 2);
}

#[test]
fn the_cipher_is_the_clients_first_of_tls_1_3() {
    let fixture = Fixture::new();
    for suites in [vec![0x1302, 0x1303, 0x1301], vec![0xc02b, 0x1303, 0x1301], vec![0x1301]] {
        let mut options = HelloOptions::new(&fixture.secret, App::PostQuantum);
        options.suites = suites;
        let hello = Hello::build(&fixture.secret, &options);
        Handshake::send_hello(Peer::connect("client", fixture.proxy.addr), &fixture.secret, &hello);
    }
}

#[test]
fn post_quantum_shares_look_like_ml_kem_and_no_two_answers_are_alike() {
    let fixture = Fixture::new();
    let answers: Vec<_> = (0..20)
        .map(|_| Handshake::connect(fixture.proxy.addr, &fixture.secret, App::PostQuantum).answer)
        .collect();
    let score: f64 = answers.iter().map(|answer| mlkem_score(&answer.share)).sum();
    // Twenty genuine ciphertexts score 132 with a deviation of 17, random bytes -124.
    assert!(score > 30.0, "compressed coefficients score {score}");
    let tails = |answer: &crate::support::answer::Answer| answer.share[MLKEM_CIPHERTEXT..].to_vec();
    let mut keys: Vec<_> = answers.iter().map(tails).collect();
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), 20, "fresh x25519 keys");
    let noise: Vec<_> = answers.iter().map(|answer| answer.noise).collect();
    assert!(noise.iter().any(|length| *length != noise[0]), "flights of one length: {noise:?}");
}

#[test]
fn recorded_sessions_of_real_apps_replay_completely() {
    let (dc, front) = (Dc::listen(), Front::listen());
    let sessions = sessions();
    let mut secrets: Vec<_> = sessions.iter().map(|session| session.secret.clone()).collect();
    secrets.sort_by_key(|secret| secret.text());
    secrets.dedup_by_key(|secret| secret.text());
    let config = Config::new(dc.addr, front.addr).set("", "tolerate-time-skewness", "\"87600h\"");
    let proxy = secrets
        .iter()
        .enumerate()
        .fold(config, |config, (index, secret)| config.user(&format!("app{index}"), secret))
        .start();

    for app in sessions {
        let sealed = payloads(&app.up);
        let header = sealed[..64].try_into().expect("a frame");
        let streams = obfuscated2::read(header, Some(&app.secret.key));
        let peer = Peer::connect("recorded app", proxy.addr);
        let handshake = Handshake::send_hello(peer, &app.secret, &app.hello);
        let mut client = handshake.with_streams(streams.to_receiver, streams.to_sender);
        client.up.send_raw(&app.up);

        let mut session = dc.accept();
        assert_eq!((session.tag, session.dc), (DD, app.dc), "{}", app.name);
        assert!(session.from.recv(app.plain_up.len()) == app.plain_up, "{}", app.name);
        session.to.send(&app.plain_down);
        assert!(client.down.recv(app.plain_down.len()) == app.plain_down, "{}", app.name);
    }
}

//! The connection to an encrypted server in virtual time: what is sent when, and what a lost
//! connection means.

use super::*;
use crate::proto::url::Url;

const V4: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

fn encrypted(server: NameServer, bootstrap: Option<IpAddr>) -> EncryptedServer {
    EncryptedServer::new(&DnsSettings { server, bootstrap }).unwrap()
}

fn stream() -> EncryptedServer {
    encrypted(NameServer::Tls(HostPort::new("127.0.0.1", 853)), None)
}

fn https() -> EncryptedServer {
    encrypted(NameServer::Https(Url::parse("https://127.0.0.1/dns-query").unwrap()), None)
}

fn drbg() -> Drbg {
    Drbg::new([7; 48])
}

/// Answers every framed query with `V4`, the last one first.
fn answers(sent: &[u8]) -> Vec<u8> {
    let (mut sent, mut packets) = (sent.to_vec(), Vec::new());
    while let Some(mut packet) = dns::pop_frame(&mut sent) {
        packet[2..4].copy_from_slice(&[0x81, 0x80]);
        if packet[packet.len() - 3] == 1 {
            packet[7] = 1;
            packet.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1]);
        }
        packets.push(packet);
    }
    let mut out = Vec::new();
    packets.iter().rev().for_each(|packet| dns::write_frame(&mut out, packet));
    out
}

fn found(slot: usize) -> QueryResult {
    (slot, RecordType::A, Ok(AddressAnswer { addrs: vec![V4], ttl_s: 60 }))
}

fn absent(slot: usize) -> QueryResult {
    (slot, RecordType::Aaaa, Err(DnsFault::NoData))
}

/// Opens a connection and lets it bring one answer.
fn bring_answer(server: &mut EncryptedServer, now: Tick) {
    server.queue(0, RecordType::A, "first.example");
    assert!(matches!(server.next_action(false, now), ConnectionAction::Connect(_)));
    let mut inbox = answers(&server.write_queries(&mut drbg(), now));
    assert_eq!(server.read_answers(&mut inbox, false, now), Ok(vec![found(0)]));
}

#[test]
fn plain_servers_have_no_encrypted_connection() {
    for server in [NameServer::System, NameServer::Udp("127.0.0.1:53".parse().unwrap())] {
        assert!(EncryptedServer::new(&DnsSettings { server, bootstrap: None }).is_none());
    }
}

#[test]
fn nothing_is_opened_before_a_name_is_wanted() {
    let mut server = stream();
    assert_eq!(server.next_action(false, Tick(0)), ConnectionAction::Idle);
    server.queue(0, RecordType::A, "a.example");
    assert_eq!(
        server.next_action(false, Tick(1)),
        ConnectionAction::Connect(vec!["127.0.0.1:853".parse().unwrap()])
    );
}

#[test]
fn queries_on_a_stream_are_sent_together_and_answered_in_any_order() {
    let mut server = stream();
    for slot in [0, 1] {
        server.queue(slot, RecordType::A, "A.example");
        server.queue(slot, RecordType::Aaaa, "A.example");
    }
    let sent = server.write_queries(&mut drbg(), Tick(0));
    assert!(server.write_queries(&mut drbg(), Tick(0)).is_empty());
    let (mut results, mut inbox) = (Vec::new(), Vec::new());
    for byte in answers(&sent) {
        inbox.push(byte);
        results.extend(server.read_answers(&mut inbox, false, Tick(1)).unwrap());
    }
    assert_eq!(results, [absent(1), found(1), absent(0), found(0)]);
}

#[test]
fn queries_over_http_are_sent_one_by_one_with_id_zero() {
    let mut server = https();
    server.queue(0, RecordType::A, "a.example");
    server.queue(0, RecordType::Aaaa, "a.example");
    for result in [found(0), absent(0)] {
        let sent = server.write_queries(&mut drbg(), Tick(0));
        assert!(server.write_queries(&mut drbg(), Tick(0)).is_empty());
        let body_at = sent.windows(4).position(|end| end == b"\r\n\r\n").unwrap() + 4;
        assert_eq!(sent[body_at..body_at + 2], [0, 0]);
        let mut framed = Vec::new();
        dns::write_frame(&mut framed, &sent[body_at..]);
        let body = answers(&framed).split_off(2);
        let head = "HTTP/1.1 200 OK\r\nContent-Type: application/dns-message\r\n";
        let mut inbox = format!("{head}Content-Length: {}\r\n\r\n", body.len()).into_bytes();
        inbox.extend(body);
        assert_eq!(server.read_answers(&mut inbox, false, Tick(0)), Ok(vec![result]));
    }
}

#[test]
fn a_refusal_over_http_fails_one_query_and_keeps_the_connection() {
    let mut server = https();
    server.queue(3, RecordType::A, "a.example");
    server.write_queries(&mut drbg(), Tick(0));
    let mut inbox = b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n".to_vec();
    assert_eq!(
        server.read_answers(&mut inbox, false, Tick(0)),
        Ok(vec![(3, RecordType::A, Err(DnsFault::NotDns(503)))])
    );
    assert_eq!(server.next_action(true, Tick(0)), ConnectionAction::Exchange);
}

#[test]
fn an_unrelated_answer_ends_only_a_connection_without_ids() {
    let packet = [0; 12];
    let mut framed = Vec::new();
    dns::write_frame(&mut framed, &packet);
    assert_eq!(stream().read_answers(&mut framed, false, Tick(0)), Ok(vec![]));
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/dns-message\r\n";
    let mut inbox = format!("{head}Content-Length: 12\r\n\r\n").into_bytes();
    inbox.extend(packet);
    assert!(https().read_answers(&mut inbox, false, Tick(0)).is_err());
}

#[test]
fn queries_of_a_connection_that_had_answered_are_sent_again() {
    let mut server = stream();
    bring_answer(&mut server, Tick(0));
    server.queue(1, RecordType::A, "b.example");
    server.queue(2, RecordType::A, "c.example");
    server.write_queries(&mut drbg(), Tick(5));
    server.cancel(2);
    assert_eq!(server.connection_lost(&mut drbg(), Tick(6)), None);
    assert!(matches!(server.next_action(false, Tick(6)), ConnectionAction::Connect(_)));
    let mut inbox = answers(&server.write_queries(&mut drbg(), Tick(6)));
    assert_eq!(server.read_answers(&mut inbox, false, Tick(7)), Ok(vec![found(1)]));
}

#[test]
fn a_connection_without_an_answer_fails_its_queries_and_those_of_the_next_moment() {
    let mut server = stream();
    server.queue(1, RecordType::A, "b.example");
    server.next_action(false, Tick(0));
    server.write_queries(&mut drbg(), Tick(0));
    assert_eq!(
        server.connection_lost(&mut drbg(), Tick(0)),
        Some(vec![(1, RecordType::A, Err(REFUSED))])
    );
    server.queue(2, RecordType::A, "b.example");
    assert_eq!(server.next_action(false, Tick(700)), ConnectionAction::FailWaiting);
    assert_eq!(
        server.connection_lost(&mut drbg(), Tick(700)),
        Some(vec![(2, RecordType::A, Err(REFUSED))])
    );
    server.queue(3, RecordType::A, "b.example");
    assert!(matches!(server.next_action(false, Tick(1_000)), ConnectionAction::Connect(_)));
}

#[test]
fn the_pause_doubles_to_sixteen_seconds_and_an_answer_ends_it() {
    let mut server = stream();
    let mut now = 0;
    for longest_ms in [1_000, 2_000, 4_000, 8_000, 16_000, 16_000] {
        server.connection_lost(&mut drbg(), Tick(now));
        let pause_ms = server.retry_at.0 - now;
        assert!(pause_ms > longest_ms * 3 / 4 && pause_ms <= longest_ms, "{pause_ms}");
        now = server.retry_at.0;
    }
    bring_answer(&mut server, Tick(now));
    assert_eq!(server.failures, 0);
}

#[test]
fn a_connection_is_kept_for_half_a_minute_and_waits_three_seconds_for_an_answer() {
    let mut server = stream();
    bring_answer(&mut server, Tick(100));
    assert_eq!(server.due(), Some(Tick(30_100)));
    assert_eq!(server.next_action(true, Tick(30_099)), ConnectionAction::Exchange);
    assert_eq!(server.next_action(true, Tick(30_100)), ConnectionAction::Close);
    server.queue(1, RecordType::A, "b.example");
    assert_eq!(
        (server.due(), server.next_action(true, Tick(30_100))),
        (None, ConnectionAction::Exchange)
    );
    server.write_queries(&mut drbg(), Tick(30_100));
    assert_eq!(server.due(), Some(Tick(33_100)));
    assert_eq!(server.next_action(true, Tick(33_100)), ConnectionAction::TimeOut);
}

#[test]
fn a_named_server_is_looked_up_when_needed_and_again_after_a_failure() {
    let mut server = encrypted(NameServer::Tls(HostPort::new("dns.example", 1)), None);
    assert_eq!(server.next_action(false, Tick(0)), ConnectionAction::Idle);
    server.queue(0, RecordType::A, "a.example");
    assert_eq!(
        server.next_action(false, Tick(0)),
        ConnectionAction::LookUp("dns.example".to_owned())
    );
    assert_eq!(server.next_action(false, Tick(1)), ConnectionAction::Idle, "returned once");
    server.set_addresses(vec![V4], 0, Tick(2));
    assert_eq!(
        server.next_action(false, Tick(2)),
        ConnectionAction::Connect(vec![SocketAddr::new(V4, 1)])
    );
    server.connection_lost(&mut drbg(), Tick(3));
    server.queue(0, RecordType::A, "a.example");
    assert_eq!(
        server.next_action(false, Tick(2_000)),
        ConnectionAction::LookUp("dns.example".to_owned())
    );
    server.set_addresses(Vec::new(), 0, Tick(2_001));
    assert_eq!(server.connection_lost(&mut drbg(), Tick(2_001)).unwrap().len(), 1);
    server.queue(0, RecordType::A, "a.example");
    assert_eq!(
        server.next_action(false, Tick(9_000)),
        ConnectionAction::LookUp("dns.example".to_owned())
    );
}

#[test]
fn a_bootstrap_address_needs_no_lookup() {
    let named = NameServer::Tls(HostPort::new("dns.example", 1));
    let mut server = encrypted(named, Some(V4));
    server.queue(0, RecordType::A, "a.example");
    assert_eq!(
        server.next_action(false, Tick(0)),
        ConnectionAction::Connect(vec![SocketAddr::new(V4, 1)])
    );
    assert_eq!(server.host(), "dns.example");
}

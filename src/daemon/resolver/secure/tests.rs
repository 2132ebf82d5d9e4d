//! The life of a connection in virtual time: who is asked, when, and what a loss means.

use super::*;
use crate::proto::url::Url;

const V4: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

fn server(server: NameServer, bootstrap: Option<IpAddr>) -> EncryptedServer {
    EncryptedServer::new(&DnsSettings { server, bootstrap }).unwrap()
}

fn stream() -> EncryptedServer {
    server(NameServer::Tls { host: "127.0.0.1".to_owned(), port: 853 }, None)
}

fn https() -> EncryptedServer {
    server(NameServer::Https(Url::parse("https://127.0.0.1/dns-query").unwrap()), None)
}

fn drbg() -> Drbg {
    Drbg::new([7; 48])
}

/// Answers every framed question with `V4`, the last one first.
fn answers(said: &[u8]) -> Vec<u8> {
    let (mut said, mut packets) = (said.to_vec(), Vec::new());
    while let Some(mut packet) = dns::pop_frame(&mut said) {
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

fn found(place: usize) -> QueryResult {
    (place, RecordType::A, Ok(AddressAnswer { addrs: vec![V4], ttl_s: 60 }))
}

fn absent(place: usize) -> QueryResult {
    (place, RecordType::Aaaa, Err(DnsFault::NoData))
}

/// Opens a connection and lets it bring one answer.
fn make_useful(secure: &mut EncryptedServer, now: Tick) {
    secure.ask(0, RecordType::A, "first.example");
    assert!(matches!(secure.next(false, now), ConnectionAction::Open(_)));
    let mut inbox = answers(&secure.say(&mut drbg(), now));
    assert_eq!(secure.hear(&mut inbox, false, now), Ok(vec![found(0)]));
}

#[test]
fn plain_servers_have_no_such_connection() {
    for server in [NameServer::System, NameServer::Udp("127.0.0.1:53".parse().unwrap())] {
        assert!(EncryptedServer::new(&DnsSettings { server, bootstrap: None }).is_none());
    }
}

#[test]
fn nothing_is_opened_before_a_name_is_wanted() {
    let mut secure = stream();
    assert_eq!(secure.next(false, Tick(0)), ConnectionAction::Rest);
    secure.ask(0, RecordType::A, "a.example");
    assert_eq!(
        secure.next(false, Tick(1)),
        ConnectionAction::Open(vec!["127.0.0.1:853".parse().unwrap()])
    );
}

#[test]
fn questions_on_a_stream_travel_together_and_are_answered_in_any_order() {
    let mut secure = stream();
    for place in [0, 1] {
        secure.ask(place, RecordType::A, "A.example");
        secure.ask(place, RecordType::Aaaa, "A.example");
    }
    let said = secure.say(&mut drbg(), Tick(0));
    assert!(secure.say(&mut drbg(), Tick(0)).is_empty());
    let (mut told, mut inbox) = (Vec::new(), Vec::new());
    for byte in answers(&said) {
        inbox.push(byte);
        told.extend(secure.hear(&mut inbox, false, Tick(1)).unwrap());
    }
    assert_eq!(told, [absent(1), found(1), absent(0), found(0)]);
}

#[test]
fn questions_over_http_travel_one_by_one_with_id_zero() {
    let mut secure = https();
    secure.ask(0, RecordType::A, "a.example");
    secure.ask(0, RecordType::Aaaa, "a.example");
    for told in [found(0), absent(0)] {
        let said = secure.say(&mut drbg(), Tick(0));
        assert!(secure.say(&mut drbg(), Tick(0)).is_empty());
        let body_at = said.windows(4).position(|end| end == b"\r\n\r\n").unwrap() + 4;
        assert_eq!(said[body_at..body_at + 2], [0, 0]);
        let mut framed = Vec::new();
        dns::write_frame(&mut framed, &said[body_at..]);
        let body = answers(&framed).split_off(2);
        let head = "HTTP/1.1 200 OK\r\nContent-Type: application/dns-message\r\n";
        let mut inbox = format!("{head}Content-Length: {}\r\n\r\n", body.len()).into_bytes();
        inbox.extend(body);
        assert_eq!(secure.hear(&mut inbox, false, Tick(0)), Ok(vec![told]));
    }
}

#[test]
fn a_refusal_over_http_fails_one_question_and_keeps_the_connection() {
    let mut secure = https();
    secure.ask(3, RecordType::A, "a.example");
    secure.say(&mut drbg(), Tick(0));
    let mut inbox = b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n".to_vec();
    assert_eq!(secure.hear(&mut inbox, false, Tick(0)), Ok(vec![(3, RecordType::A, Err(REFUSED))]));
    assert_eq!(secure.next(true, Tick(0)), ConnectionAction::Talk);
}

#[test]
fn an_answer_that_nobody_asked_for_ends_only_a_connection_without_ids() {
    let packet = [0; 12];
    let mut framed = Vec::new();
    dns::write_frame(&mut framed, &packet);
    assert_eq!(stream().hear(&mut framed, false, Tick(0)), Ok(vec![]));
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/dns-message\r\n";
    let mut inbox = format!("{head}Content-Length: 12\r\n\r\n").into_bytes();
    inbox.extend(packet);
    assert!(https().hear(&mut inbox, false, Tick(0)).is_err());
}

#[test]
fn what_a_useful_connection_still_owed_is_asked_again() {
    let mut secure = stream();
    make_useful(&mut secure, Tick(0));
    secure.ask(1, RecordType::A, "b.example");
    secure.ask(2, RecordType::A, "c.example");
    secure.say(&mut drbg(), Tick(5));
    secure.forget(2);
    assert_eq!(secure.lose(&mut drbg(), Tick(6)), None);
    assert!(matches!(secure.next(false, Tick(6)), ConnectionAction::Open(_)));
    let mut inbox = answers(&secure.say(&mut drbg(), Tick(6)));
    assert_eq!(secure.hear(&mut inbox, false, Tick(7)), Ok(vec![found(1)]));
}

#[test]
fn a_useless_connection_fails_its_questions_and_those_of_the_next_moment() {
    let mut secure = stream();
    secure.ask(1, RecordType::A, "b.example");
    secure.next(false, Tick(0));
    secure.say(&mut drbg(), Tick(0));
    assert_eq!(secure.lose(&mut drbg(), Tick(0)), Some(vec![(1, RecordType::A, Err(REFUSED))]));
    secure.ask(2, RecordType::A, "b.example");
    assert_eq!(secure.next(false, Tick(700)), ConnectionAction::Refuse);
    assert_eq!(secure.lose(&mut drbg(), Tick(700)), Some(vec![(2, RecordType::A, Err(REFUSED))]));
    secure.ask(3, RecordType::A, "b.example");
    assert!(matches!(secure.next(false, Tick(1_000)), ConnectionAction::Open(_)));
}

#[test]
fn the_pause_doubles_to_sixteen_seconds_and_an_answer_ends_it() {
    let mut secure = stream();
    let mut now = 0;
    for longest_ms in [1_000, 2_000, 4_000, 8_000, 16_000, 16_000] {
        secure.lose(&mut drbg(), Tick(now));
        let pause_ms = secure.retry_at.0 - now;
        assert!(pause_ms > longest_ms * 3 / 4 && pause_ms <= longest_ms, "{pause_ms}");
        now = secure.retry_at.0;
    }
    make_useful(&mut secure, Tick(now));
    assert_eq!(secure.failures, 0);
}

#[test]
fn a_connection_rests_for_half_a_minute_and_owes_an_answer_for_three_seconds() {
    let mut secure = stream();
    make_useful(&mut secure, Tick(100));
    assert_eq!(secure.due(), Some(Tick(30_100)));
    assert_eq!(secure.next(true, Tick(30_099)), ConnectionAction::Talk);
    assert_eq!(secure.next(true, Tick(30_100)), ConnectionAction::Close);
    secure.ask(1, RecordType::A, "b.example");
    assert_eq!((secure.due(), secure.next(true, Tick(30_100))), (None, ConnectionAction::Talk));
    secure.say(&mut drbg(), Tick(30_100));
    assert_eq!(secure.due(), Some(Tick(33_100)));
    assert_eq!(secure.next(true, Tick(33_100)), ConnectionAction::GiveUp);
}

#[test]
fn a_named_server_is_looked_up_when_needed_and_again_after_a_failure() {
    let mut secure = server(NameServer::Tls { host: "dns.example".to_owned(), port: 1 }, None);
    assert_eq!(secure.next(false, Tick(0)), ConnectionAction::Rest);
    secure.ask(0, RecordType::A, "a.example");
    assert_eq!(secure.next(false, Tick(0)), ConnectionAction::Find("dns.example".to_owned()));
    assert_eq!(secure.next(false, Tick(1)), ConnectionAction::Rest, "said once");
    secure.found(vec![V4], 0, Tick(2));
    assert_eq!(secure.next(false, Tick(2)), ConnectionAction::Open(vec![SocketAddr::new(V4, 1)]));
    secure.lose(&mut drbg(), Tick(3));
    secure.ask(0, RecordType::A, "a.example");
    assert_eq!(secure.next(false, Tick(2_000)), ConnectionAction::Find("dns.example".to_owned()));
    secure.found(Vec::new(), 0, Tick(2_001));
    assert_eq!(secure.lose(&mut drbg(), Tick(2_001)).unwrap().len(), 1);
    secure.ask(0, RecordType::A, "a.example");
    assert_eq!(secure.next(false, Tick(9_000)), ConnectionAction::Find("dns.example".to_owned()));
}

#[test]
fn a_bootstrap_address_needs_no_look_up() {
    let named = NameServer::Tls { host: "dns.example".to_owned(), port: 1 };
    let mut secure = server(named, Some(V4));
    secure.ask(0, RecordType::A, "a.example");
    assert_eq!(secure.next(false, Tick(0)), ConnectionAction::Open(vec![SocketAddr::new(V4, 1)]));
    assert_eq!(secure.host(), "dns.example");
}

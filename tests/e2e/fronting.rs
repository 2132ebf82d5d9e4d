//! A client without a valid hello reaches the front, with exactly its own bytes in one piece
//! (PROTOCOL 10, DECISIONS D10).

use std::net::Ipv4Addr;

use crate::support::captured::sessions;
use crate::support::client::Handshake;
use crate::support::dc::Dc;
use crate::support::fixture::{Fixture, HOST};
use crate::support::front::Front;
use crate::support::hello::{App, Hello, HelloOptions, Secret, unix_now};
use crate::support::obfuscated2::DD;
use crate::support::peer::{End, Peer};
use crate::support::proxy::{Config, free_port};
use crate::support::tls::{PAGE, TlsFront};
use crate::support::{QUIET, eventually, holds_within};

const REPLY: &[u8] = b"HTTP/1.1 400 Bad Request\r\n\r\n";

/// Sends `bytes` in one write. They must reach the front in one read, and its answer and FIN must
/// reach the client.
fn assert_fronted(fixture: &Fixture, what: &str, bytes: &[u8]) {
    let mut prober = Peer::connect("prober", fixture.proxy.addr);
    prober.send(bytes);
    let mut conn = fixture.front.accept();
    assert!(conn.first == bytes, "{what}: {} of {} bytes", conn.first.len(), bytes.len());
    conn.peer.send(REPLY);
    conn.peer.send_fin();
    assert_eq!(prober.recv_rest(), (REPLY.to_vec(), End::Fin), "{what}");
}

#[test]
fn bytes_that_are_not_a_hello_reach_the_front() {
    let fixture = Fixture::new();
    let hello = Hello::new(&Secret::new(HOST), App::PostQuantum).wire;
    let with = |at: usize, byte: u8| {
        let mut changed = hello.clone();
        changed[at] = byte;
        changed
    };
    let http = b"GET / HTTP/1.1\r\nHost: front.example\r\n\r\n";
    assert_fronted(&fixture, "plain HTTP", http);
    assert_fronted(&fixture, "one wrong byte", &[0x00]);
    assert_fronted(&fixture, "garbage", &crate::support::pattern(1, 9000));
    assert_fronted(&fixture, "an alert first", &[0x15, 3, 1, 0, 2, 1, 0]);
    assert_fronted(&fixture, "SSLv2", &[0x80, 0x2e, 1, 0, 2, 0, 0x15, 0, 0, 0, 0x10]);
    assert_fronted(&fixture, "record version 3.3", &with(2, 3));
    assert_fronted(&fixture, "record version 4.1", &with(1, 4));
    assert_fronted(&fixture, "a ServerHello", &with(5, 2));
    assert_fronted(
        &fixture,
        "a record beyond 16384",
        &[0x16, 3, 1, 0x40, 1, 1, 0, 0x3f, 0xfd, 3, 3],
    );
    assert_fronted(&fixture, "a message beyond 16380", &[0x16, 3, 1, 0x40, 0, 1, 1, 0, 0, 3, 3]);
    assert_fronted(&fixture, "a broken body", &with(43, 0xff));
}

#[test]
fn a_hello_of_twelve_records_reaches_the_front() {
    let fixture = Fixture::new();
    let hello = Hello::new(&fixture.secret, App::PostQuantum);
    assert_fronted(&fixture, "twelve records", &hello.in_records(12));
}

#[test]
fn a_hello_of_no_user_reaches_the_front() {
    let fixture = Fixture::new();
    let unknown = Secret::new(HOST);
    for shape in [App::Classic, App::PostQuantum] {
        assert_fronted(&fixture, "a wrong key", &Hello::new(&unknown, shape).wire);
    }
    let mut options = HelloOptions::new(&fixture.secret, App::PostQuantum);
    options.sni = Some("elsewhere.example".to_owned());
    assert_fronted(&fixture, "a foreign SNI", &Hello::build(&fixture.secret, &options).wire);
    options.sni = None;
    assert_fronted(&fixture, "no SNI", &Hello::build(&unknown, &options).wire);
    options = HelloOptions::new(&fixture.secret, App::Classic);
    options.suites = vec![0xc02b, 0xc02f, 0x009c];
    assert_fronted(&fixture, "TLS 1.2 suites", &Hello::build(&fixture.secret, &options).wire);
    for digit in 0..28 {
        let mut flipped = Hello::new(&fixture.secret, App::Classic).wire;
        flipped[11 + digit] ^= 1;
        assert_fronted(&fixture, "a flipped digest bit", &flipped);
    }
}

#[test]
fn a_hello_from_another_hour_reaches_the_front() {
    let fixture = Fixture::new();
    for clock in [unix_now() - 3600, unix_now() + 3600, 0, u32::MAX] {
        let mut options = HelloOptions::new(&fixture.secret, App::PostQuantum);
        options.clock = clock;
        assert_fronted(&fixture, "a wrong clock", &Hello::build(&fixture.secret, &options).wire);
    }
}

#[test]
fn a_key_is_not_valid_for_another_users_host() {
    let (dc, front) = (Dc::listen(), Front::listen());
    let (secret, bob) = (Secret::new(HOST), Secret::new("bob.example"));
    let config = Config::new(dc.addr, front.addr).user("alice", &secret).user("bob", &bob);
    let fixture = Fixture { proxy: config.start(), dc, front, secret };
    let mut options = HelloOptions::new(&fixture.secret, App::PostQuantum);
    options.sni = Some(bob.host.clone());
    assert_fronted(&fixture, "key and host mixed", &Hello::build(&fixture.secret, &options).wire);
    let _client = Handshake::connect(fixture.proxy.addr, &bob, App::PostQuantum).send_frame(DD, 2);
    assert_eq!(fixture.dc.accept().dc, 2);
}

#[test]
fn a_hello_sent_a_second_time_reaches_the_front() {
    let fixture = Fixture::new();
    let hello = Hello::new(&fixture.secret, App::PostQuantum);
    Handshake::send_hello(Peer::connect("client", fixture.proxy.addr), &fixture.secret, &hello);
    for _ in 0..3 {
        assert_fronted(&fixture, "a replay", &hello.wire);
    }
    assert_fronted(&fixture, "a replay in records", &hello.in_records(3));
}

#[test]
fn recorded_hellos_of_real_apps_reach_the_front() {
    let (dc, front, sessions) = (Dc::listen(), Front::listen(), sessions());
    assert!(sessions.len() >= 19, "{} captures", sessions.len());
    // Every recorded key belongs to a user here: the keys are valid, the times are not.
    let mut config = Config::new(dc.addr, front.addr);
    for (number, session) in sessions.iter().enumerate() {
        config = config.user(&format!("user{number:02}"), &session.secret);
    }
    let secret = sessions[0].secret.clone();
    let fixture = Fixture { proxy: config.start(), dc, front, secret };
    for session in &sessions {
        assert_fronted(&fixture, &session.name, &session.hello.wire);
    }
}

#[test]
fn half_a_hello_and_fin_reach_the_front() {
    let fixture = Fixture::new();
    let hello = Hello::new(&fixture.secret, App::PostQuantum).wire;
    for length in [1, 4, 5, 9, 500, hello.len() - 1] {
        let mut prober = Peer::connect("prober", fixture.proxy.addr);
        prober.send(&hello[..length]);
        prober.send_fin();
        let mut conn = fixture.front.accept();
        assert!(conn.first == hello[..length], "{length} bytes");
        assert_eq!(conn.peer.recv_rest(), (Vec::new(), End::Fin));
        conn.peer.send(REPLY);
        conn.peer.send_fin();
        assert_eq!(prober.recv_rest(), (REPLY.to_vec(), End::Fin), "{length} bytes");
    }
}

#[test]
fn half_a_hello_and_silence_reach_the_front() {
    let fixture = Fixture::with(|config| config.set("network.timeout", "handshake", "\"1s\""));
    let hello = Hello::new(&fixture.secret, App::PostQuantum).wire;
    let mut prober = Peer::connect("prober", fixture.proxy.addr);
    prober.send(&hello[..700]);
    let mut conn = fixture.front.accept();
    assert!(conn.first == hello[..700]);
    prober.send(&hello[700..]);
    assert!(conn.peer.recv(hello.len() - 700) == hello[700..], "the rest follows");
    conn.peer.send(REPLY);
    assert_eq!(prober.recv(REPLY.len()), REPLY);
}

#[test]
fn a_silent_client_is_fronted_or_closed() {
    let fixture = Fixture::with(|config| config.set("network.timeout", "handshake", "\"1s\""));
    let mut prober = Peer::connect("prober", fixture.proxy.addr);
    eventually("the front gets a connection", || fixture.front.connections() == 1);
    prober.send(b"late\r\n");
    let mut conn = fixture.front.accept();
    assert_eq!(conn.first, b"late\r\n");
    conn.peer.send(REPLY);
    conn.peer.send_fin();
    assert_eq!(prober.recv_rest(), (REPLY.to_vec(), End::Fin));
}

#[test]
fn a_client_that_ends_without_a_byte_gets_the_fronts_answer() {
    let fixture = Fixture::new();
    let files = fixture.proxy.files();
    for answer in [REPLY, b""] {
        let mut prober = Peer::connect("prober", fixture.proxy.addr);
        prober.send_fin();
        let mut conn = fixture.front.accept();
        assert!(conn.first.is_empty());
        conn.peer.send(answer);
        conn.peer.send_fin();
        assert_eq!(prober.recv_rest(), (answer.to_vec(), End::Fin));
    }
    fixture.proxy.wait_until_idle(files);
    assert_eq!(fixture.proxy.stats()["dials"]["refused"].as_u64().unwrap_or(0), 0);
}

#[test]
fn a_client_that_resets_without_a_byte_does_not_reach_the_front() {
    let fixture = Fixture::new();
    let files = fixture.proxy.files();
    for _ in 0..10 {
        Peer::connect("client", fixture.proxy.addr).reset();
    }
    fixture.proxy.wait_until_idle(files);
    assert_eq!(fixture.front.connections(), 0);
}

#[test]
fn a_client_that_closes_without_a_byte_leaves_nothing_behind() {
    let fixture = Fixture::new();
    let files = fixture.proxy.files();
    for _ in 0..10 {
        drop(Peer::connect("client", fixture.proxy.addr));
    }
    // The proxy may have fronted them or not. Accepting ends those connections.
    while fixture.front.accept_within(QUIET).is_some() {}
    fixture.proxy.wait_until_idle(files);
}

#[test]
fn a_browser_gets_the_fronts_page_and_certificate() {
    let (dc, secret) = (Dc::listen(), Secret::new(HOST));
    let site = TlsFront::listen(&[HOST, "elsewhere.example"]);
    let proxy = Config::new(dc.addr, site.addr).user("alice", &secret).start();
    let files = proxy.files();
    for sni in [HOST, "elsewhere.example", HOST] {
        assert_eq!(site.page_through(proxy.addr, sni), PAGE, "{sni}");
    }
    proxy.wait_until_idle(files);
}

#[test]
fn a_front_that_is_our_own_listener_is_refused_without_a_loop() {
    assert_no_loop(&Fixture::with(|config| config.set("domain-fronting", "port", "{port}")));
}

#[test]
fn a_front_whose_name_resolves_to_our_own_listener_is_refused_without_a_loop() {
    assert_no_loop(&Fixture::with(|config| {
        let config = config.set("domain-fronting", "host", "\"localhost\"");
        config.set("domain-fronting", "port", "{port}")
    }));
}

#[test]
fn a_front_that_is_our_own_listener_on_every_address_is_refused_without_a_loop() {
    let mut fixture = Fixture::with(|config| {
        let config = config.set("domain-fronting", "port", "{port}");
        config.binds(&[Ipv4Addr::UNSPECIFIED.into()])
    });
    fixture.proxy.addr.set_ip(Ipv4Addr::LOCALHOST.into());
    assert_no_loop(&fixture);
}

#[test]
fn a_front_may_be_a_name() {
    let fixture = Fixture::with(|config| config.set("domain-fronting", "host", "\"localhost\""));
    assert_fronted(&fixture, "a named front", b"GET / HTTP/1.1\r\n\r\n");
}

fn assert_no_loop(fixture: &Fixture) {
    let files = fixture.proxy.files();
    let quiet_log = fixture.proxy.log().len();
    for _ in 0..5 {
        let mut prober = Peer::connect("prober", fixture.proxy.addr);
        prober.send(b"GET / HTTP/1.1\r\n\r\n");
        assert!(prober.recv_rest().0.is_empty(), "closed without a byte");
    }
    fixture.proxy.wait_until_idle(files);
    eventually("it is logged", || fixture.proxy.log().len() > quiet_log);
    let before = fixture.proxy.ticks();
    assert!(!holds_within(QUIET * 4, || fixture.proxy.ticks() > before + 50), "it must not spin");
    // Users are still served.
    let (_client, session) = fixture.session();
    assert_eq!(session.dc, 2);
}

#[test]
fn an_unreachable_front_closes_the_connection() {
    let dead = free_port();
    let fixture = Fixture::with(|config| config.set("domain-fronting", "port", &dead.to_string()));
    let files = fixture.proxy.files();
    let mut prober = Peer::connect("prober", fixture.proxy.addr);
    prober.send(b"GET / HTTP/1.1\r\n\r\n");
    assert!(prober.recv_rest().0.is_empty());
    fixture.proxy.wait_until_idle(files);
}

//! Whoever is not provably ours meets the origin, with exactly his own bytes, in one piece
//! (spec: protocol 10, decision D10).

use std::net::Ipv4Addr;

use crate::support::captured::sessions;
use crate::support::client::Visitor;
use crate::support::dc::Dc;
use crate::support::hello::{Hello, Secret, Shape, Wish, unix_now};
use crate::support::obfuscated2::DD;
use crate::support::origin::Origin;
use crate::support::peer::{End, Peer};
use crate::support::proxy::{Config, free_port};
use crate::support::stage::{HOST, Stage};
use crate::support::tls::{PAGE, TlsOrigin};
use crate::support::{QUIET, eventually, holds_within};

const REPLY: &[u8] = b"HTTP/1.1 400 Bad Request\r\n\r\n";

/// Sends `bytes` in one write; they must reach the origin in one read, and its answer and FIN
/// must come back.
fn assert_fronted(stage: &Stage, what: &str, bytes: &[u8]) {
    let mut prober = Peer::connect("prober", stage.proxy.addr);
    prober.send(bytes);
    let mut visit = stage.origin.visit();
    assert!(visit.first == bytes, "{what}: {} of {} bytes", visit.first.len(), bytes.len());
    visit.peer.send(REPLY);
    visit.peer.finish();
    assert_eq!(prober.recv_rest(), (REPLY.to_vec(), End::Fin), "{what}");
}

#[test]
fn what_is_no_hello_reaches_the_origin() {
    let stage = Stage::plain();
    let hello = Hello::fresh(&Secret::new(HOST), Shape::PostQuantum).wire;
    let with = |at: usize, byte: u8| {
        let mut changed = hello.clone();
        changed[at] = byte;
        changed
    };
    let http = b"GET / HTTP/1.1\r\nHost: front.example\r\n\r\n";
    assert_fronted(&stage, "plain HTTP", http);
    assert_fronted(&stage, "one wrong byte", &[0x00]);
    assert_fronted(&stage, "garbage", &crate::support::pattern(1, 9000));
    assert_fronted(&stage, "an alert first", &[0x15, 3, 1, 0, 2, 1, 0]);
    assert_fronted(&stage, "SSLv2", &[0x80, 0x2e, 1, 0, 2, 0, 0x15, 0, 0, 0, 0x10]);
    assert_fronted(&stage, "record version 3.3", &with(2, 3));
    assert_fronted(&stage, "record version 4.1", &with(1, 4));
    assert_fronted(&stage, "a ServerHello", &with(5, 2));
    assert_fronted(&stage, "a record beyond 16384", &[0x16, 3, 1, 0x40, 1, 1, 0, 0x3f, 0xfd, 3, 3]);
    assert_fronted(&stage, "a message beyond 16380", &[0x16, 3, 1, 0x40, 0, 1, 1, 0, 0, 3, 3]);
    assert_fronted(&stage, "a broken body", &with(43, 0xff));
}

#[test]
fn a_hello_of_twelve_records_reaches_the_origin() {
    let stage = Stage::plain();
    let hello = Hello::fresh(&stage.secret, Shape::PostQuantum);
    assert_fronted(&stage, "twelve records", &hello.in_records(12));
}

#[test]
fn a_hello_of_no_user_reaches_the_origin() {
    let stage = Stage::plain();
    let stranger = Secret::new(HOST);
    for shape in [Shape::Classic, Shape::PostQuantum] {
        assert_fronted(&stage, "a wrong key", &Hello::fresh(&stranger, shape).wire);
    }
    let mut wish = Wish::honest(&stage.secret, Shape::PostQuantum);
    wish.sni = Some("elsewhere.example".to_owned());
    assert_fronted(&stage, "a foreign SNI", &Hello::forge(&stage.secret, &wish).wire);
    wish.sni = None;
    assert_fronted(&stage, "no SNI", &Hello::forge(&stage.secret, &wish).wire);
    wish = Wish::honest(&stage.secret, Shape::Classic);
    wish.suites = vec![0xc02b, 0xc02f, 0x009c];
    assert_fronted(&stage, "TLS 1.2 suites", &Hello::forge(&stage.secret, &wish).wire);
    for digit in 0..28 {
        let mut flipped = Hello::fresh(&stage.secret, Shape::Classic).wire;
        flipped[11 + digit] ^= 1;
        assert_fronted(&stage, "a flipped digest bit", &flipped);
    }
}

#[test]
fn a_hello_from_another_hour_reaches_the_origin() {
    let stage = Stage::plain();
    for clock in [unix_now() - 3600, unix_now() + 3600, 0, u32::MAX] {
        let mut wish = Wish::honest(&stage.secret, Shape::PostQuantum);
        wish.clock = clock;
        assert_fronted(&stage, "a wrong clock", &Hello::forge(&stage.secret, &wish).wire);
    }
}

#[test]
fn a_key_is_worth_nothing_under_another_users_host() {
    let (dc, origin) = (Dc::listen(), Origin::listen());
    let (secret, bob) = (Secret::new(HOST), Secret::new("bob.example"));
    let config = Config::new(dc.addr, origin.addr).user("alice", &secret).user("bob", &bob);
    let stage = Stage { proxy: config.start(), dc, origin, secret };
    let mut wish = Wish::honest(&stage.secret, Shape::PostQuantum);
    wish.sni = Some(bob.host.clone());
    assert_fronted(&stage, "key and host mixed", &Hello::forge(&stage.secret, &wish).wire);
    let _client = Visitor::knock(stage.proxy.addr, &bob, Shape::PostQuantum).begin(DD, 2);
    assert_eq!(stage.dc.accept().dc, 2);
}

#[test]
fn a_hello_sent_a_second_time_reaches_the_origin() {
    let stage = Stage::plain();
    let hello = Hello::fresh(&stage.secret, Shape::PostQuantum);
    Visitor::greet(Peer::connect("client", stage.proxy.addr), &stage.secret, &hello);
    for _ in 0..3 {
        assert_fronted(&stage, "a replay", &hello.wire);
    }
    assert_fronted(&stage, "a replay in records", &hello.in_records(3));
}

#[test]
fn recorded_hellos_of_real_apps_reach_the_origin() {
    let (dc, origin, sessions) = (Dc::listen(), Origin::listen(), sessions());
    assert!(sessions.len() >= 19, "{} captures", sessions.len());
    // Everybody who was ever recorded is a user here: the keys are right, the time is not.
    let mut config = Config::new(dc.addr, origin.addr);
    for (number, session) in sessions.iter().enumerate() {
        config = config.user(&format!("user{number:02}"), &session.secret);
    }
    let secret = sessions[0].secret.clone();
    let stage = Stage { proxy: config.start(), dc, origin, secret };
    for session in &sessions {
        assert_fronted(&stage, &session.name, &session.hello.wire);
    }
}

#[test]
fn half_a_hello_and_fin_reach_the_origin() {
    let stage = Stage::plain();
    let hello = Hello::fresh(&stage.secret, Shape::PostQuantum).wire;
    for length in [1, 4, 5, 9, 500, hello.len() - 1] {
        let mut prober = Peer::connect("prober", stage.proxy.addr);
        prober.send(&hello[..length]);
        prober.finish();
        let mut visit = stage.origin.visit();
        assert!(visit.first == hello[..length], "{length} bytes");
        assert_eq!(visit.peer.recv_rest(), (Vec::new(), End::Fin));
        visit.peer.send(REPLY);
        visit.peer.finish();
        assert_eq!(prober.recv_rest(), (REPLY.to_vec(), End::Fin), "{length} bytes");
    }
}

#[test]
fn half_a_hello_and_silence_reach_the_origin() {
    let stage = Stage::with(|config| config.set("network.timeout", "handshake", "\"1s\""));
    let hello = Hello::fresh(&stage.secret, Shape::PostQuantum).wire;
    let mut prober = Peer::connect("prober", stage.proxy.addr);
    prober.send(&hello[..700]);
    let mut visit = stage.origin.visit();
    assert!(visit.first == hello[..700]);
    prober.send(&hello[700..]);
    assert!(visit.peer.recv(hello.len() - 700) == hello[700..], "the rest follows");
    visit.peer.send(REPLY);
    assert_eq!(prober.recv(REPLY.len()), REPLY);
}

#[test]
fn a_silent_visitor_is_led_to_the_origin_or_let_go() {
    let stage = Stage::with(|config| config.set("network.timeout", "handshake", "\"1s\""));
    let mut prober = Peer::connect("prober", stage.proxy.addr);
    eventually("the origin hears of it", || stage.origin.knocks() == 1);
    prober.send(b"late\r\n");
    let mut visit = stage.origin.visit();
    assert_eq!(visit.first, b"late\r\n");
    visit.peer.send(REPLY);
    visit.peer.finish();
    assert_eq!(prober.recv_rest(), (REPLY.to_vec(), End::Fin));
}

#[test]
fn a_visitor_who_leaves_without_a_word_leaves_nothing_behind() {
    let stage = Stage::plain();
    let files = stage.proxy.files();
    for _ in 0..10 {
        drop(Peer::connect("passer-by", stage.proxy.addr));
    }
    // Whether the origin learns of them is a matter of taste; its visits end when taken.
    while stage.origin.visit_within(QUIET).is_some() {}
    stage.proxy.wait_for_rest(files);
}

#[test]
fn a_browser_gets_the_origins_page_and_certificate() {
    let (dc, secret) = (Dc::listen(), Secret::new(HOST));
    let site = TlsOrigin::listen(&[HOST, "elsewhere.example"]);
    let proxy = Config::new(dc.addr, site.addr).user("alice", &secret).start();
    let files = proxy.files();
    for sni in [HOST, "elsewhere.example", HOST] {
        assert_eq!(site.page_through(proxy.addr, sni), PAGE, "{sni}");
    }
    proxy.wait_for_rest(files);
}

#[test]
fn a_front_that_is_our_own_listener_is_refused_without_a_loop() {
    assert_no_loop(&Stage::with(|config| config.set("domain-fronting", "port", "{port}")));
}

#[test]
fn a_front_whose_name_leads_to_our_own_listener_is_refused_without_a_loop() {
    assert_no_loop(&Stage::with(|config| {
        let config = config.set("domain-fronting", "host", "\"localhost\"");
        config.set("domain-fronting", "port", "{port}")
    }));
}

#[test]
fn a_front_that_is_our_own_listener_on_every_address_is_refused_without_a_loop() {
    let mut stage = Stage::with(|config| {
        let config = config.set("domain-fronting", "port", "{port}");
        config.binds(&[Ipv4Addr::UNSPECIFIED.into()])
    });
    stage.proxy.addr.set_ip(Ipv4Addr::LOCALHOST.into());
    assert_no_loop(&stage);
}

#[test]
fn a_front_may_be_named() {
    let stage = Stage::with(|config| config.set("domain-fronting", "host", "\"localhost\""));
    assert_fronted(&stage, "a named front", b"GET / HTTP/1.1\r\n\r\n");
}

fn assert_no_loop(stage: &Stage) {
    let files = stage.proxy.files();
    let quiet_log = stage.proxy.log().len();
    for _ in 0..5 {
        let mut prober = Peer::connect("prober", stage.proxy.addr);
        prober.send(b"GET / HTTP/1.1\r\n\r\n");
        assert!(prober.recv_rest().0.is_empty(), "closed without a word");
    }
    stage.proxy.wait_for_rest(files);
    assert!(stage.proxy.log().len() > quiet_log, "the operator is told");
    let before = stage.proxy.ticks();
    assert!(!holds_within(QUIET * 4, || stage.proxy.ticks() > before + 50), "it spins");
    // Users are served all the same.
    let (_client, session) = stage.session();
    assert_eq!(session.dc, 2);
}

#[test]
fn a_dead_origin_closes_the_connection() {
    let dead = free_port();
    let stage = Stage::with(|config| config.set("domain-fronting", "port", &dead.to_string()));
    let files = stage.proxy.files();
    let mut prober = Peer::connect("prober", stage.proxy.addr);
    prober.send(b"GET / HTTP/1.1\r\n\r\n");
    assert!(prober.recv_rest().0.is_empty());
    stage.proxy.wait_for_rest(files);
}

//! PROXY protocol: who the client is, as a balancer before us says it and as we say it to the
//! front (spec: network 6). The front's own header is the witness of what we have understood.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};

use crate::support::client::{Client, Visitor};
use crate::support::dc::Dc;
use crate::support::hello::{Hello, Secret, Shape};
use crate::support::obfuscated2::DD;
use crate::support::origin::Origin;
use crate::support::peer::{End, Peer};
use crate::support::proxy::Config;
use crate::support::proxy_header::{announcing, binary, body, text};
use crate::support::stage::{HOST, Stage};
use crate::support::{QUIET, eventually};

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: front.example\r\n\r\n";
const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

fn listening(config: Config) -> Config {
    config.set("", "proxy-protocol-listener", "true")
}

/// Headers come in and go out.
fn both_ways(config: Config) -> Config {
    listening(config).set("domain-fronting", "proxy-protocol", "true")
}

fn addr(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

fn has_ipv6() -> bool {
    let there = TcpListener::bind((V6, 0)).is_ok();
    if !there {
        eprintln!("skipped: this machine has no ::1");
    }
    there
}

/// Sends `opening`; the front must hear of `source`, or of the socket's address, and get `stream`
/// behind that, all in one read.
fn assert_heard(
    stage: &Stage,
    what: &str,
    opening: &[u8],
    source: Option<SocketAddr>,
    stream: &[u8],
) {
    let mut prober = Peer::connect("prober", stage.proxy.addr);
    prober.send(opening);
    let mut visit = stage.origin.visit();
    let source = source.unwrap_or_else(|| prober.stream().local_addr().expect("an address"));
    let expected = [&announcing(source, stage.origin.addr)[..], stream].concat();
    assert_eq!(visit.first, expected, "{what}");
    visit.peer.send(b"seen");
    assert_eq!(prober.recv(4), b"seen", "{what}");
}

/// Nobody hears of it, and the client hears nothing.
fn assert_closed(stage: &Stage, what: &str, opening: &[u8]) {
    let mut prober = Peer::connect("prober", stage.proxy.addr);
    prober.send(opening);
    assert!(prober.recv_rest().0.is_empty(), "{what}");
    assert_eq!(stage.origin.knocks(), 0, "{what}");
}

fn assert_served(stage: &Stage, client: &mut Client) {
    let mut session = stage.dc.accept();
    client.up.send(b"ping");
    assert_eq!(session.from.recv(4), b"ping");
    session.to.send(b"pong");
    assert_eq!(client.down.recv(4), b"pong");
}

#[test]
fn an_announced_address_is_the_clients_address() {
    let stage = Stage::with(both_ways);
    let (v4, v6) = (addr("203.0.113.9:40001"), addr("[2001:db8::9]:40002"));
    let (to_v4, to_v6) = (addr("192.0.2.1:443"), addr("[2001:db8::1]:443"));
    let v6_body = body(v6, to_v6);
    let extended = [&body(v4, to_v4)[..], &[0x04, 0, 3, 1, 2, 3, 0x20, 0, 1, 0]].concat();
    let longest = [&v6_body[..], &[0; 4_060]].concat();
    for (what, header, source) in [
        ("version 1, IPv4", text(v4, to_v4), v4),
        ("version 1, IPv6", text(v6, to_v6), v6),
        ("version 2, IPv4", binary(1, 0x11, &body(v4, to_v4)), v4),
        ("version 2, IPv6", binary(1, 0x21, &v6_body), v6),
        ("version 2, extensions", binary(1, 0x11, &extended), v4),
        ("version 2, 4096 bytes", binary(1, 0x21, &longest), v6),
    ] {
        assert_heard(&stage, what, &[&header, REQUEST].concat(), Some(source), REQUEST);
    }
    // The same person in IPv6's clothes.
    let mapped = body(addr("[::ffff:203.0.113.9]:40001"), to_v6);
    assert_heard(
        &stage,
        "mapped",
        &[&binary(1, 0x21, &mapped), REQUEST].concat(),
        Some(v4),
        REQUEST,
    );
}

/// The reference dies of the last five (gotcha A2).
#[test]
fn a_header_that_announces_no_tcp_client_leaves_the_sockets_address() {
    let stage = Stage::with(both_ways);
    let addresses = body(addr("203.0.113.9:40001"), addr("192.0.2.1:443"));
    for (what, header) in [
        ("version 1, UNKNOWN", b"PROXY UNKNOWN\r\n".to_vec()),
        ("version 1, UNKNOWN with words", b"PROXY UNKNOWN ::9 ::1 1 2\r\n".to_vec()),
        ("LOCAL", binary(0, 0x00, b"")),
        ("LOCAL with addresses", binary(0, 0x11, &addresses)),
        ("unspecified", binary(1, 0x00, b"")),
        ("unix stream", binary(1, 0x31, &[b'/'; 216])),
        ("unix datagram", binary(1, 0x32, &[b'/'; 216])),
        ("an unknown family", binary(1, 0x41, &addresses)),
        ("an unknown transport", binary(1, 0x1f, &addresses)),
        ("no transport", binary(1, 0x10, &addresses)),
    ] {
        assert_heard(&stage, what, &[&header, REQUEST].concat(), None, REQUEST);
    }
    let (source, header) = (addr("203.0.113.9:40001"), binary(1, 0x12, &addresses));
    assert_heard(&stage, "UDP", &[&header, REQUEST].concat(), Some(source), REQUEST);
}

#[test]
fn a_user_is_served_behind_a_header_of_either_version() {
    let stage = Stage::with(|config| listening(config).set("", "log-addresses", "true"));
    let source = addr("203.0.113.9:40001");
    for header in [text(source, addr("192.0.2.1:443")), announcing(source, stage.proxy.addr)] {
        let hello = Hello::fresh(&stage.secret, Shape::PostQuantum);
        let mut peer = Peer::connect("client", stage.proxy.addr);
        peer.send(&[&header[..], &hello.wire].concat());
        let mut client = Visitor::await_answer(peer, &stage.secret, &hello).begin(DD, 2);
        assert_served(&stage, &mut client);
    }
    eventually("the log knows the announced address", || {
        let log = stage.proxy.log();
        let lines = log.lines().filter(|line| line.contains("event=connected"));
        lines.filter(|line| line.contains("client=203.0.113.9")).count() == 2
    });
}

#[test]
fn a_header_and_a_hello_may_come_byte_by_byte() {
    let stage = Stage::with(listening);
    let source = addr("[2001:db8::9]:40002");
    for header in [text(source, addr("[2001:db8::1]:443")), announcing(source, stage.proxy.addr)] {
        let hello = Hello::fresh(&stage.secret, Shape::Classic);
        let mut peer = Peer::connect("client", stage.proxy.addr);
        for byte in [&header[..], &hello.wire].concat() {
            peer.send(&[byte]);
        }
        let mut client = Visitor::await_answer(peer, &stage.secret, &hello).begin(DD, 2);
        assert_served(&stage, &mut client);
    }
}

#[test]
fn without_a_header_every_byte_is_the_stream() {
    let stage = Stage::with(both_ways);
    let mut client = Client::open(stage.proxy.addr, &stage.secret);
    assert_served(&stage, &mut client);
    for stream in [
        REQUEST,
        b"PROXY / HTTP/1.1\r\n\r\n",
        b"PROXY TCP5 203.0.113.9 192.0.2.1 1 2\r\n",
        b"PROPFIND",
        b"\r\n\r\nGET / HTTP/1.1\r\n\r\n",
        b"\r\n\r\n\0\r\nQUIET",
    ] {
        assert_heard(&stage, "no header", stream, None, stream);
    }
    for stream in [&b"P"[..], b"PROXY TCP", b"\r\n\r\n\0\r\n"] {
        let prober = Peer::connect("prober", stage.proxy.addr);
        prober.twin().send(stream);
        prober.finish();
        let source = prober.stream().local_addr().expect("an address");
        let expected = [&announcing(source, stage.origin.addr)[..], stream].concat();
        let mut visit = stage.origin.visit();
        assert_eq!(visit.first, expected, "the start of a header, and FIN");
        assert_eq!(visit.peer.recv_rest(), (Vec::new(), End::Fin));
    }
}

#[test]
fn a_header_that_goes_wrong_ends_the_connection_and_is_counted() {
    let stage = Stage::with(both_ways);
    let addresses = body(addr("203.0.113.9:40001"), addr("192.0.2.1:443"));
    let mut older = binary(1, 0x11, &addresses);
    older[12] = 0x11;
    let broken = [
        b"PROXY TCP4 203.0.113.9 192.0.2.1 40001\r\n".to_vec(),
        b"PROXY TCP4 203.0.113.999 192.0.2.1 40001 443\r\n".to_vec(),
        [b"PROXY UNKNOWN ", &[b'x'; 120][..]].concat(),
        older,
        binary(2, 0x11, &addresses),
        binary(1, 0x11, &addresses[..11]),
        binary(1, 0x21, &addresses),
        binary(1, 0x11, &[0; 4_097]),
    ];
    for header in &broken {
        assert_closed(&stage, "a broken header", &[header, REQUEST].concat());
    }
    let half = Peer::connect("half a header", stage.proxy.addr);
    half.twin().send(&binary(1, 0x11, &addresses)[..20]);
    half.finish();
    assert!(half.twin().recv_rest().0.is_empty(), "half a header and FIN");
    stage.proxy.signal(nix::sys::signal::Signal::SIGUSR1);
    let told = format!("bad_headers={}", broken.len() + 1);
    eventually("the report counts them", || stage.proxy.log().contains(&told));
    assert!(!stage.proxy.log().contains("203.0.113.9"), "no address in the log");
}

#[test]
fn half_a_header_and_silence_end_the_connection() {
    let stage =
        Stage::with(|config| both_ways(config).set("network.timeout", "handshake", "\"1s\""));
    let header = announcing(addr("203.0.113.9:40001"), stage.proxy.addr);
    assert_closed(&stage, "half of version 2", &header[..20]);
    assert_closed(&stage, "half of version 1", b"PROXY TCP4 203.0.113.9 ");
}

#[test]
fn a_visitor_who_never_says_a_word_is_announced_to_the_front() {
    let stage =
        Stage::with(|config| both_ways(config).set("network.timeout", "handshake", "\"1s\""));
    assert_heard(&stage, "silence", b"", None, b"");
    let source = addr("203.0.113.9:40001");
    let header = announcing(source, stage.proxy.addr);
    assert_heard(&stage, "a header and silence", &header, Some(source), b"");
}

/// The reference reads headers in its accept loop, where each silent client takes ten seconds of
/// everybody's time (gotcha A3).
#[test]
fn silent_clients_stall_nobody() {
    let stage = Stage::with(listening);
    let mut silent: Vec<_> = (0..20).map(|_| Peer::connect("silent", stage.proxy.addr)).collect();
    let header = announcing(addr("203.0.113.9:40001"), stage.proxy.addr);
    silent.iter_mut().skip(10).for_each(|peer| peer.send(&header[..20]));
    let hello = Hello::fresh(&stage.secret, Shape::PostQuantum);
    let mut peer = Peer::connect("client", stage.proxy.addr);
    peer.send(&[&header[..], &hello.wire].concat());
    let mut client = Visitor::await_answer(peer, &stage.secret, &hello).begin(DD, 2);
    assert_served(&stage, &mut client);
    assert_eq!(stage.origin.knocks(), 0, "nobody's patience had to end first");
}

#[test]
fn a_health_check_disturbs_no_site() {
    let stage = Stage::with(listening);
    let files = stage.proxy.files();
    for words in [&b""[..], &binary(0, 0, b""), b"PROXY UNKNOWN\r\n"] {
        let check = Peer::connect("health check", stage.proxy.addr);
        check.twin().send(words);
        check.finish();
        assert_eq!(check.twin().recv_rest(), (Vec::new(), End::Fin), "{words:?}");
    }
    stage.proxy.wait_for_rest(files);
    assert_eq!(stage.origin.knocks(), 0);
}

#[test]
fn silent_clients_at_the_limit_are_cleared_for_users() {
    let stage = Stage::with(|config| {
        let config = listening(config).set("", "concurrency", "8");
        config.set("network.timeout", "handshake", "\"1s\"").set(
            "network.timeout",
            "idle",
            "\"2s\"",
        )
    });
    let header = announcing(addr("203.0.113.9:40001"), stage.proxy.addr);
    let _silent: Vec<_> = (0..20)
        .map(|number| {
            let mut peer = Peer::connect("silent", stage.proxy.addr);
            // Some are gone already for want of a place, which is fine.
            let _ = peer.try_send(&header[..number]);
            peer
        })
        .collect();
    eventually("a user gets a place", || {
        let hello = Hello::fresh(&stage.secret, Shape::PostQuantum);
        let mut peer = Peer::connect("client", stage.proxy.addr);
        let sent = peer.try_send(&[&header[..], &hello.wire].concat());
        sent.is_ok() && peer.hears_within(QUIET)
    });
}

#[test]
fn only_the_trusted_announce() {
    let trusting = |list: &str| {
        let list = list.to_owned();
        Stage::with(move |config| both_ways(config).set("", "proxy-protocol-trusted", &list))
    };
    let source = addr("203.0.113.9:40001");
    let opening = [&announcing(source, addr("192.0.2.1:443"))[..], REQUEST].concat();
    let stage = trusting("[\"10.0.0.0/8\", \"127.0.0.2\", \"2001:db8::/32\"]");
    assert_heard(&stage, "a stranger's header", &opening, None, &opening);
    let half = &opening[..20];
    assert_heard(&stage, "half of a stranger's header", half, None, half);
    let stage = trusting("[\"10.0.0.0/8\", \"127.0.0.0/29\"]");
    assert_heard(&stage, "a friend's header", &opening, Some(source), REQUEST);
}

#[test]
fn a_header_is_a_strangers_talk_where_nobody_asked_for_one() {
    let stage = Stage::plain();
    let opening = [&announcing(addr("203.0.113.9:1"), stage.proxy.addr)[..], REQUEST].concat();
    let mut prober = Peer::connect("prober", stage.proxy.addr);
    prober.send(&opening);
    assert_eq!(stage.origin.visit().first, opening);
}

/// The reference panics when an IPv4 client visits an IPv6 front (gotcha A1).
#[test]
fn clients_and_fronts_of_different_families_meet() {
    if !has_ipv6() {
        return;
    }
    let out = |config: Config| config.set("domain-fronting", "proxy-protocol", "true");
    let with_origin = |origin: Origin, bind: IpAddr| {
        let (dc, secret) = (Dc::listen(), Secret::new(HOST));
        let config = Config::new(dc.addr, origin.addr).user("alice", &secret);
        Stage { proxy: out(config).binds(&[bind]).start(), dc, origin, secret }
    };
    let v4 = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let stage = with_origin(Origin::listen_on(V6), v4);
    assert_heard(&stage, "IPv4 client, IPv6 front", REQUEST, None, REQUEST);
    let stage = with_origin(Origin::listen(), V6);
    assert_heard(&stage, "IPv6 client, IPv4 front", REQUEST, None, REQUEST);
    let stage = with_origin(Origin::listen_on(V6), V6);
    assert_heard(&stage, "IPv6 client, IPv6 front", REQUEST, None, REQUEST);
    assert_served(&stage, &mut Client::open(stage.proxy.addr, &stage.secret));
}

#[test]
fn a_front_by_name_is_told_too_and_a_dc_never_is() {
    let stage = Stage::with(|config| {
        let config = config.set("domain-fronting", "proxy-protocol", "true");
        config.set("domain-fronting", "host", "\"localhost\"")
    });
    assert_heard(&stage, "one byte", b"G", None, b"G");
    assert_heard(&stage, "a named front", REQUEST, None, REQUEST);
    assert_served(&stage, &mut Client::open(stage.proxy.addr, &stage.secret));
}

#[test]
fn a_list_judges_the_announced_address_and_not_the_balancers() {
    let path = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join(format!("announced-{}.netset", std::process::id()));
    std::fs::write(&path, "203.0.113.0/24\n127.0.0.0/8\n").expect("a list");
    let list = format!("[{:?}]", path.to_str().expect("UTF-8"));
    let stage = Stage::with(|config| {
        let config = both_ways(config).set("defense.blocklist", "enabled", "true");
        config.set("defense.blocklist", "urls", &list)
    });
    eventually("the list is loaded", || stage.proxy.log().contains("event=list name=blocklist"));
    let to = addr("192.0.2.1:443");
    let listed = [&text(addr("203.0.113.9:40001"), to)[..], REQUEST].concat();
    assert_closed(&stage, "a listed client", &listed);
    let local = [&binary(0, 0, b"")[..], REQUEST].concat();
    assert_closed(&stage, "a listed socket that announces nobody", &local);
    assert_closed(&stage, "a listed socket without a header", REQUEST);
    let other = addr("198.51.100.9:40001");
    let opening = [&text(other, to)[..], REQUEST].concat();
    assert_heard(&stage, "a client that is not listed", &opening, Some(other), REQUEST);
    // The test has ended well; a file that stays behind would be harmless.
    let _ = std::fs::remove_file(path);
}

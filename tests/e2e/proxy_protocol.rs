//! PROXY protocol from a balancer and to the front (COMPATIBILITY 5.6). The header that the front
//! gets shows which client address was understood.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};

use crate::support::client::{Client, Handshake};
use crate::support::dc::Dc;
use crate::support::fixture::{Fixture, HOST};
use crate::support::front::Front;
use crate::support::hello::{App, Hello, Secret};
use crate::support::obfuscated2::DD;
use crate::support::peer::{End, Peer};
use crate::support::proxy::Config;
use crate::support::proxy_header::{announcing, binary, body, text};
use crate::support::{QUIET, eventually};

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: front.example\r\n\r\n";
const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

fn listening(config: Config) -> Config {
    config.set("", "proxy-protocol-listener", "true")
}

/// Accepts headers from balancers and sends them to the front.
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

/// Sends `opening`. With one read the front must get a header with `source`, or with the address of
/// the socket, and then `stream`.
fn assert_received(
    fixture: &Fixture,
    what: &str,
    opening: &[u8],
    source: Option<SocketAddr>,
    stream: &[u8],
) {
    let mut prober = Peer::connect("prober", fixture.proxy.addr);
    prober.send(opening);
    let mut conn = fixture.front.accept();
    let source = source.unwrap_or_else(|| prober.stream().local_addr().expect("an address"));
    let expected = [&announcing(source, fixture.front.addr)[..], stream].concat();
    assert_eq!(conn.first, expected, "{what}");
    conn.peer.send(b"seen");
    assert_eq!(prober.recv(4), b"seen", "{what}");
}

/// The client is closed without a byte, and the front gets no connection.
fn assert_closed(fixture: &Fixture, what: &str, opening: &[u8]) {
    let mut prober = Peer::connect("prober", fixture.proxy.addr);
    prober.send(opening);
    assert!(prober.recv_rest().0.is_empty(), "{what}");
    assert_eq!(fixture.front.connections(), 0, "{what}");
}

fn assert_served(fixture: &Fixture, client: &mut Client) {
    let mut session = fixture.dc.accept();
    client.up.send(b"ping");
    assert_eq!(session.from.recv(4), b"ping");
    session.to.send(b"pong");
    assert_eq!(client.down.recv(4), b"pong");
}

#[test]
fn an_announced_address_is_the_clients_address() {
    let fixture = Fixture::with(both_ways);
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
        assert_received(&fixture, what, &[&header, REQUEST].concat(), Some(source), REQUEST);
    }
    // The same address, mapped to IPv6.
    let mapped = body(addr("[::ffff:203.0.113.9]:40001"), to_v6);
    assert_received(
        &fixture,
        "mapped",
        &[&binary(1, 0x21, &mapped), REQUEST].concat(),
        Some(v4),
        REQUEST,
    );
}

/// The reference crashes at the last five (COMPATIBILITY A2).
#[test]
fn a_header_that_announces_no_tcp_client_leaves_the_sockets_address() {
    let fixture = Fixture::with(both_ways);
    let addresses = body(addr("203.0.113.9:40001"), addr("192.0.2.1:443"));
    for (what, header) in [
        ("version 1, UNKNOWN", b"PROXY UNKNOWN\r\n".to_vec()),
        ("version 1, UNKNOWN with addresses", b"PROXY UNKNOWN ::9 ::1 1 2\r\n".to_vec()),
        ("LOCAL", binary(0, 0x00, b"")),
        ("LOCAL with addresses", binary(0, 0x11, &addresses)),
        ("unspecified", binary(1, 0x00, b"")),
        ("unix stream", binary(1, 0x31, &[b'/'; 216])),
        ("unix datagram", binary(1, 0x32, &[b'/'; 216])),
        ("an unknown family", binary(1, 0x41, &addresses)),
        ("an unknown transport", binary(1, 0x1f, &addresses)),
        ("no transport", binary(1, 0x10, &addresses)),
    ] {
        assert_received(&fixture, what, &[&header, REQUEST].concat(), None, REQUEST);
    }
    let (source, header) = (addr("203.0.113.9:40001"), binary(1, 0x12, &addresses));
    assert_received(&fixture, "UDP", &[&header, REQUEST].concat(), Some(source), REQUEST);
}

#[test]
fn a_user_is_served_after_a_header_of_either_version() {
    let fixture = Fixture::with(|config| listening(config).set("", "log-addresses", "true"));
    let source = addr("203.0.113.9:40001");
    for header in [text(source, addr("192.0.2.1:443")), announcing(source, fixture.proxy.addr)] {
        let hello = Hello::new(&fixture.secret, App::PostQuantum);
        let mut peer = Peer::connect("client", fixture.proxy.addr);
        peer.send(&[&header[..], &hello.wire].concat());
        let mut client = Handshake::read_answer(peer, &fixture.secret, &hello).send_frame(DD, 2);
        assert_served(&fixture, &mut client);
    }
    eventually("the log has the announced address", || {
        let log = fixture.proxy.log();
        let lines = log.lines().filter(|line| line.contains("event=connected"));
        lines.filter(|line| line.contains("client=203.0.113.9")).count() == 2
    });
}

#[test]
fn a_header_and_a_hello_may_arrive_byte_by_byte() {
    let fixture = Fixture::with(listening);
    let source = addr("[2001:db8::9]:40002");
    for header in [text(source, addr("[2001:db8::1]:443")), announcing(source, fixture.proxy.addr)]
    {
        let hello = Hello::new(&fixture.secret, App::Classic);
        let mut peer = Peer::connect("client", fixture.proxy.addr);
        for byte in [&header[..], &hello.wire].concat() {
            peer.send(&[byte]);
        }
        let mut client = Handshake::read_answer(peer, &fixture.secret, &hello).send_frame(DD, 2);
        assert_served(&fixture, &mut client);
    }
}

#[test]
fn without_a_header_every_byte_is_the_stream() {
    let fixture = Fixture::with(both_ways);
    let mut client = Client::open(fixture.proxy.addr, &fixture.secret);
    assert_served(&fixture, &mut client);
    for stream in [
        REQUEST,
        b"PROXY / HTTP/1.1\r\n\r\n",
        b"PROXY TCP5 203.0.113.9 192.0.2.1 1 2\r\n",
        b"PROPFIND",
        b"\r\n\r\nGET / HTTP/1.1\r\n\r\n",
        b"\r\n\r\n\0\r\nQUIET",
    ] {
        assert_received(&fixture, "no header", stream, None, stream);
    }
    for stream in [&b"P"[..], b"PROXY TCP", b"\r\n\r\n\0\r\n"] {
        let prober = Peer::connect("prober", fixture.proxy.addr);
        prober.duplicate().send(stream);
        prober.send_fin();
        let source = prober.stream().local_addr().expect("an address");
        let expected = [&announcing(source, fixture.front.addr)[..], stream].concat();
        let mut conn = fixture.front.accept();
        assert_eq!(conn.first, expected, "the start of a header, and FIN");
        assert_eq!(conn.peer.recv_rest(), (Vec::new(), End::Fin));
    }
}

#[test]
fn a_malformed_header_ends_the_connection_and_is_counted() {
    let fixture = Fixture::with(both_ways);
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
        assert_closed(&fixture, "a broken header", &[header, REQUEST].concat());
    }
    let half = Peer::connect("half a header", fixture.proxy.addr);
    half.duplicate().send(&binary(1, 0x11, &addresses)[..20]);
    half.send_fin();
    assert!(half.duplicate().recv_rest().0.is_empty(), "half a header and FIN");
    fixture.proxy.signal(nix::sys::signal::Signal::SIGUSR1);
    let counted = format!("bad_headers={}", broken.len() + 1);
    eventually("the summary counts them", || fixture.proxy.log().contains(&counted));
    assert!(!fixture.proxy.log().contains("203.0.113.9"), "no address in the log");
}

#[test]
fn half_a_header_and_silence_end_the_connection() {
    let fixture =
        Fixture::with(|config| both_ways(config).set("network.timeout", "handshake", "\"1s\""));
    let header = announcing(addr("203.0.113.9:40001"), fixture.proxy.addr);
    assert_closed(&fixture, "half of version 2", &header[..20]);
    assert_closed(&fixture, "half of version 1", b"PROXY TCP4 203.0.113.9 ");
}

#[test]
fn a_client_that_sends_nothing_is_announced_to_the_front() {
    let fixture =
        Fixture::with(|config| both_ways(config).set("network.timeout", "handshake", "\"1s\""));
    assert_received(&fixture, "silence", b"", None, b"");
    let source = addr("203.0.113.9:40001");
    let header = announcing(source, fixture.proxy.addr);
    assert_received(&fixture, "a header and silence", &header, Some(source), b"");
}

/// The reference reads headers in its accept loop, where each silent client blocks all others for
/// ten seconds (COMPATIBILITY A3).
#[test]
fn silent_clients_block_no_other_client() {
    let fixture = Fixture::with(listening);
    let mut silent: Vec<_> = (0..20).map(|_| Peer::connect("silent", fixture.proxy.addr)).collect();
    let header = announcing(addr("203.0.113.9:40001"), fixture.proxy.addr);
    silent.iter_mut().skip(10).for_each(|peer| peer.send(&header[..20]));
    let hello = Hello::new(&fixture.secret, App::PostQuantum);
    let mut peer = Peer::connect("client", fixture.proxy.addr);
    peer.send(&[&header[..], &hello.wire].concat());
    let mut client = Handshake::read_answer(peer, &fixture.secret, &hello).send_frame(DD, 2);
    assert_served(&fixture, &mut client);
    assert_eq!(fixture.front.connections(), 0, "no time limit had to pass first");
}

#[test]
fn a_health_check_does_not_reach_the_front() {
    let fixture = Fixture::with(listening);
    let files = fixture.proxy.files();
    for header in [&b""[..], &binary(0, 0, b""), b"PROXY UNKNOWN\r\n"] {
        let check = Peer::connect("health check", fixture.proxy.addr);
        check.duplicate().send(header);
        check.send_fin();
        assert_eq!(check.duplicate().recv_rest(), (Vec::new(), End::Fin), "{header:?}");
    }
    fixture.proxy.wait_until_idle(files);
    assert_eq!(fixture.front.connections(), 0);
}

#[test]
fn silent_clients_at_the_limit_are_closed_for_users() {
    let fixture = Fixture::with(|config| {
        let config = listening(config).set("", "concurrency", "8");
        config.set("network.timeout", "handshake", "\"1s\"").set(
            "network.timeout",
            "idle",
            "\"2s\"",
        )
    });
    let header = announcing(addr("203.0.113.9:40001"), fixture.proxy.addr);
    let _silent: Vec<_> = (0..20)
        .map(|number| {
            let mut peer = Peer::connect("silent", fixture.proxy.addr);
            // Some of them may have been closed already.
            let _ = peer.try_send(&header[..number]);
            peer
        })
        .collect();
    eventually("a user gets a session", || {
        let hello = Hello::new(&fixture.secret, App::PostQuantum);
        let mut peer = Peer::connect("client", fixture.proxy.addr);
        let sent = peer.try_send(&[&header[..], &hello.wire].concat());
        sent.is_ok() && peer.receives_within(QUIET)
    });
}

#[test]
fn only_trusted_senders_can_announce() {
    let trusting = |list: &str| {
        let list = list.to_owned();
        Fixture::with(move |config| both_ways(config).set("", "proxy-protocol-trusted", &list))
    };
    let source = addr("203.0.113.9:40001");
    let opening = [&announcing(source, addr("192.0.2.1:443"))[..], REQUEST].concat();
    let fixture = trusting("[\"10.0.0.0/8\", \"127.0.0.2\", \"2001:db8::/32\"]");
    assert_received(&fixture, "the header of an unlisted sender", &opening, None, &opening);
    let half = &opening[..20];
    assert_received(&fixture, "half of the header of an unlisted sender", half, None, half);
    let fixture = trusting("[\"10.0.0.0/8\", \"127.0.0.0/29\"]");
    assert_received(&fixture, "the header of a listed sender", &opening, Some(source), REQUEST);
}

#[test]
fn a_header_is_ordinary_bytes_where_none_is_configured() {
    let fixture = Fixture::new();
    let opening = [&announcing(addr("203.0.113.9:1"), fixture.proxy.addr)[..], REQUEST].concat();
    let mut prober = Peer::connect("prober", fixture.proxy.addr);
    prober.send(&opening);
    assert_eq!(fixture.front.accept().first, opening);
}

/// The reference panics when an IPv4 client is fronted to IPv6 (COMPATIBILITY A1).
#[test]
fn clients_and_fronts_of_different_families_meet() {
    if !has_ipv6() {
        return;
    }
    let out = |config: Config| config.set("domain-fronting", "proxy-protocol", "true");
    let with_origin = |front: Front, bind: IpAddr| {
        let (dc, secret) = (Dc::listen(), Secret::new(HOST));
        let config = Config::new(dc.addr, front.addr).user("alice", &secret);
        Fixture { proxy: out(config).binds(&[bind]).start(), dc, front, secret }
    };
    let v4 = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let fixture = with_origin(Front::listen_on(V6), v4);
    assert_received(&fixture, "IPv4 client, IPv6 front", REQUEST, None, REQUEST);
    let fixture = with_origin(Front::listen(), V6);
    assert_received(&fixture, "IPv6 client, IPv4 front", REQUEST, None, REQUEST);
    let fixture = with_origin(Front::listen_on(V6), V6);
    assert_received(&fixture, "IPv6 client, IPv6 front", REQUEST, None, REQUEST);
    assert_served(&fixture, &mut Client::open(fixture.proxy.addr, &fixture.secret));
}

#[test]
fn a_front_with_a_name_gets_a_header_and_a_dc_never_does() {
    let fixture = Fixture::with(|config| {
        let config = config.set("domain-fronting", "proxy-protocol", "true");
        config.set("domain-fronting", "host", "\"localhost\"")
    });
    assert_received(&fixture, "one byte", b"G", None, b"G");
    assert_received(&fixture, "a named front", REQUEST, None, REQUEST);
    assert_served(&fixture, &mut Client::open(fixture.proxy.addr, &fixture.secret));
}

#[test]
fn a_list_checks_the_announced_address_and_not_the_balancers() {
    let path = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join(format!("announced-{}.netset", std::process::id()));
    std::fs::write(&path, "203.0.113.0/24\n127.0.0.0/8\n").expect("a list");
    let list = format!("[{:?}]", path.to_str().expect("UTF-8"));
    let fixture = Fixture::with(|config| {
        let config = both_ways(config).set("defense.blocklist", "enabled", "true");
        config.set("defense.blocklist", "urls", &list)
    });
    eventually("the list is loaded", || fixture.proxy.log().contains("event=list name=blocklist"));
    let to = addr("192.0.2.1:443");
    let listed = [&text(addr("203.0.113.9:40001"), to)[..], REQUEST].concat();
    assert_closed(&fixture, "a listed client", &listed);
    let local = [&binary(0, 0, b"")[..], REQUEST].concat();
    assert_closed(&fixture, "a listed socket that announces no client", &local);
    assert_closed(&fixture, "a listed socket without a header", REQUEST);
    let other = addr("198.51.100.9:40001");
    let opening = [&text(other, to)[..], REQUEST].concat();
    assert_received(&fixture, "a client that is not listed", &opening, Some(other), REQUEST);
    // A file that is left behind by a failed test does no harm.
    let _ = std::fs::remove_file(path);
}

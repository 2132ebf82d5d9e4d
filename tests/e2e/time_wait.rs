//! Connections to the front leave no port in TIME_WAIT when an unauthenticated client has gone:
//! otherwise a few clients per second use up the local ports (DECISIONS D165).

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use crate::support::blackhole::BlackHole;
use crate::support::fixture::Fixture;
use crate::support::front::FrontConn;
use crate::support::hello::{App, Hello};
use crate::support::peer::{End, Peer};
use crate::support::{QUIET, eventually, holds_within, raise_descriptor_limit};

const CROWD: Ipv4Addr = Ipv4Addr::new(127, 0, 68, 1);
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\n\r\n";
const ANSWER: &[u8] = b"HTTP/1.1 400 Bad Request\r\n\r\n";

/// Number of sockets of this machine that are in TIME_WAIT towards `to`.
fn in_time_wait(to: SocketAddr) -> usize {
    let SocketAddr::V4(to) = to else { panic!("an IPv4 address") };
    let remote = format!("{:08X}:{:04X}", u32::from_ne_bytes(to.ip().octets()), to.port());
    let table = fs::read_to_string("/proc/net/tcp").expect("the table of sockets");
    let rows = table.lines().map(|row| row.split_whitespace().collect::<Vec<_>>());
    rows.filter(|row| row.get(2) == Some(&remote.as_str()) && row.get(3) == Some(&"06")).count()
}

/// Connections to the front that may begin at once.
fn burst() -> usize {
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").expect("ports");
    let bounds: Vec<usize> = range.split_whitespace().map(|one| one.parse().unwrap()).collect();
    (bounds[1] - bounds[0]) / 64
}

fn fronted(fixture: &Fixture, request: &[u8]) -> (Peer, FrontConn) {
    let mut prober = Peer::connect("prober", fixture.proxy.addr);
    prober.send(request);
    let conn = fixture.front.accept();
    (prober, conn)
}

/// A front that answers and ends as web servers do: its FIN follows ours.
fn answer_and_end(mut conn: FrontConn) -> End {
    // The connection may be reset by now.
    let _ = conn.peer.try_send(ANSWER);
    conn.peer.recv_rest().1
}

#[test]
fn a_client_that_leaves_before_the_answer_leaves_no_time_wait() {
    let fixture = Fixture::new();
    let files = fixture.proxy.files();
    let hello = Hello::new(&fixture.secret, App::PostQuantum).wire;
    for request in [REQUEST, &hello[..300]] {
        for _ in 0..10 {
            let mut prober = Peer::connect("prober", fixture.proxy.addr);
            prober.send(request);
            drop(prober);
            assert_eq!(answer_and_end(fixture.front.accept()), End::Reset);
        }
    }
    fixture.proxy.wait_until_idle(files);
    assert_eq!(in_time_wait(fixture.front.addr), 0);
}

#[test]
fn a_client_that_resets_leaves_no_time_wait() {
    let fixture = Fixture::new();
    for _ in 0..10 {
        let (prober, mut conn) = fronted(&fixture, REQUEST);
        prober.reset();
        assert_eq!(conn.peer.recv_rest().1, End::Reset);
    }
    assert_eq!(in_time_wait(fixture.front.addr), 0);
}

#[test]
fn a_client_that_closes_with_bytes_of_the_answer_unread_leaves_no_time_wait() {
    let fixture = Fixture::new();
    for _ in 0..10 {
        let (mut prober, mut conn) = fronted(&fixture, REQUEST);
        conn.peer.send(ANSWER);
        assert!(prober.receives_within(Duration::from_secs(10)));
        drop(prober);
        assert_eq!(conn.peer.recv_rest().1, End::Reset);
    }
    assert_eq!(in_time_wait(fixture.front.addr), 0);
}

#[test]
fn a_front_that_ends_first_keeps_the_time_wait() {
    let fixture = Fixture::new();
    let files = fixture.proxy.files();
    for _ in 0..10 {
        let (mut prober, mut conn) = fronted(&fixture, REQUEST);
        conn.peer.send(ANSWER);
        conn.peer.send_fin();
        assert_eq!(prober.recv_rest(), (ANSWER.to_vec(), End::Fin));
        drop(prober);
        assert_eq!(conn.peer.recv_rest().1, End::Fin);
    }
    fixture.proxy.wait_until_idle(files);
    assert_eq!(in_time_wait(fixture.front.addr), 0);
}

/// The FIN of a client that still reads reaches the front: before the answer if it waits for the
/// FIN, and after the answer otherwise.
#[test]
fn the_fin_of_a_client_that_still_reads_reaches_the_front_with_or_without_an_answer() {
    let fixture = Fixture::new();
    for answers_first in [false, true] {
        let mut prober = Peer::connect("prober", fixture.proxy.addr);
        prober.send(REQUEST);
        prober.send_fin();
        let mut conn = fixture.front.accept();
        if answers_first {
            conn.peer.send(ANSWER);
            assert_eq!(prober.recv(ANSWER.len()), ANSWER);
        }
        assert_eq!(conn.peer.recv_rest(), (Vec::new(), End::Fin), "{answers_first}");
        conn.peer.send(ANSWER);
        conn.peer.send_fin();
        assert_eq!(prober.recv_rest(), (ANSWER.to_vec(), End::Fin));
    }
}

#[test]
fn a_fronted_connection_that_the_proxy_ends_is_reset_on_both_sides() {
    let fixture = Fixture::with(|config| config.set("network.timeout", "idle", "\"1s\""));
    let (mut prober, mut conn) = fronted(&fixture, REQUEST);
    assert_eq!(conn.peer.recv_rest(), (Vec::new(), End::Reset));
    assert_eq!(prober.recv_rest(), (Vec::new(), End::Reset));
    assert_eq!(in_time_wait(fixture.front.addr), 0);
}

#[test]
fn a_client_that_resets_while_the_front_is_dialled_ends_the_dial() {
    let hole = BlackHole::open();
    let fixture = Fixture::with(|config| {
        let (host, port) = (format!("\"{}\"", hole.addr.ip()), hole.addr.port().to_string());
        config.set("domain-fronting", "host", &host).set("domain-fronting", "port", &port)
    });
    let files = fixture.proxy.files();
    let mut prober = Peer::connect("prober", fixture.proxy.addr);
    prober.send(REQUEST);
    eventually("the front is dialled", || fixture.proxy.log().contains("event=dial-attempt"));
    prober.reset();
    fixture.proxy.wait_until_idle(files);
    assert!(!holds_within(QUIET, || in_time_wait(hole.addr) > 0));
}

/// While the tokens for such ports are low, the connection to the front is reset where the client
/// has everything: so each visitor of a flood is served, and the ports last (DECISIONS D166).
#[test]
fn a_flood_of_visitors_who_leave_is_served_whole_and_leaves_few_ports_in_time_wait() {
    raise_descriptor_limit();
    let fixture = Fixture::with(|config| config.set("", "concurrency", "4096"));
    let files = fixture.proxy.files();
    let (half_burst, begun) = (burst() / 2, Instant::now());
    for _ in 0..6 {
        let visitors: Vec<Peer> = (0..half_burst)
            .map(|_| {
                let mut visitor = Peer::connect_from("visitor", CROWD, fixture.proxy.addr);
                visitor.send(REQUEST);
                visitor
            })
            .collect();
        let mut served: Vec<FrontConn> = visitors.iter().map(|_| fixture.front.accept()).collect();
        served.iter_mut().for_each(|conn| conn.peer.send(ANSWER));
        for mut visitor in visitors {
            assert_eq!(visitor.recv(ANSWER.len()), ANSWER);
        }
        // Each ends when the proxy does.
        served.iter_mut().for_each(|conn| drop(conn.peer.recv_rest()));
        drop(served);
        fixture.proxy.wait_until_idle(files);
    }
    assert_eq!(fixture.proxy.stats()["dials"]["refused"].as_u64().unwrap_or(0), 0);
    // Both buckets fill by this many per second, and each may be used to its end.
    let filled = begun.elapsed().as_millis() as usize * burst() * 64 / 240 / 1_000;
    let left = in_time_wait(fixture.front.addr);
    assert!(left <= half_burst + filled, "{left} of {half_burst} and {filled}");
}

/// A client that only ended its direction gets what the front sends soon, and then our FIN.
#[test]
fn the_rest_of_an_answer_reaches_a_client_that_has_ended_while_tokens_are_low() {
    raise_descriptor_limit();
    let fixture = Fixture::with(|config| config.set("", "concurrency", "4096"));
    let mut held = Vec::new();
    // The network of these has used up its tokens, which takes seconds to end.
    while fixture.proxy.stats()["dials"]["delayed"].as_u64().unwrap_or(0) == 0 {
        for _ in 0..20 {
            let mut visitor = Peer::connect_from("visitor", CROWD, fixture.proxy.addr);
            visitor.send(b"of the crowd");
            held.push(visitor);
        }
    }
    let mut prober = Peer::connect("prober", fixture.proxy.addr);
    prober.send(REQUEST);
    let mut conn = fixture.front.accept();
    while conn.first != REQUEST {
        conn = fixture.front.accept();
    }
    conn.peer.send(ANSWER);
    assert_eq!(prober.recv(ANSWER.len()), ANSWER);
    prober.send_fin();
    conn.peer.send(ANSWER);
    assert_eq!(prober.recv(ANSWER.len()), ANSWER);
    assert_eq!(conn.peer.recv_rest(), (Vec::new(), End::Reset));
    assert_eq!(prober.recv_rest(), (Vec::new(), End::Fin));
    assert_eq!(in_time_wait(fixture.front.addr), 0);
}

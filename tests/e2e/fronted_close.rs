//! A fronted connection forwards every end: FIN as FIN, RST as RST, half close as half close
//! (PROTOCOL 9.3 and 15.11).

use std::thread;

use crate::support::fixture::Fixture;
use crate::support::front::FrontConn;
use crate::support::pattern;
use crate::support::peer::{End, Peer};

fn fronted(fixture: &Fixture) -> (Peer, FrontConn) {
    let mut prober = Peer::connect("prober", fixture.proxy.addr);
    prober.send(b"GET / HTTP/1.1\r\n\r\n");
    let conn = fixture.front.accept();
    assert_eq!(conn.first, b"GET / HTTP/1.1\r\n\r\n");
    (prober, conn)
}

#[test]
fn a_prober_that_sends_request_and_fin_gets_the_answer() {
    let fixture = Fixture::new();
    let files = fixture.proxy.files();
    let mut prober = Peer::connect("prober", fixture.proxy.addr);
    prober.send(b"GET / HTTP/1.0\r\n\r\n");
    prober.send_fin();
    let mut conn = fixture.front.accept();
    assert_eq!(conn.peer.recv_rest(), (Vec::new(), End::Fin));
    let page = pattern(9, 500_000);
    conn.peer.send(&page);
    conn.peer.send_fin();
    let (seen, end) = prober.recv_rest();
    assert!(seen == page);
    assert_eq!(end, End::Fin);
    fixture.proxy.wait_until_idle(files);
}

#[test]
fn a_fin_of_the_front_leaves_the_other_direction_open() {
    let fixture = Fixture::new();
    let (mut prober, mut conn) = fronted(&fixture);
    conn.peer.send_fin();
    assert_eq!(prober.recv_rest(), (Vec::new(), End::Fin));
    let more = pattern(10, 300_000);
    prober.send(&more);
    prober.send_fin();
    let (seen, end) = conn.peer.recv_rest();
    assert!(seen == more);
    assert_eq!(end, End::Fin);
}

#[test]
fn a_reset_of_the_front_resets_the_prober() {
    let fixture = Fixture::new();
    let files = fixture.proxy.files();
    let (mut prober, conn) = fronted(&fixture);
    conn.peer.reset();
    assert_eq!(prober.recv_rest(), (Vec::new(), End::Reset));
    fixture.proxy.wait_until_idle(files);
}

#[test]
fn a_reset_of_the_prober_resets_the_front() {
    let fixture = Fixture::new();
    let files = fixture.proxy.files();
    let (prober, mut conn) = fronted(&fixture);
    prober.reset();
    assert_eq!(conn.peer.recv_rest(), (Vec::new(), End::Reset));
    fixture.proxy.wait_until_idle(files);
}

#[test]
fn a_fronted_connection_forwards_any_bytes_in_both_directions() {
    let fixture = Fixture::new();
    let (mut prober, mut conn) = fronted(&fixture);
    let (up, down) = (pattern(11, 3_000_017), pattern(12, 5_000_011));
    thread::scope(|scope| {
        let (mut prober_out, mut origin_out) = (prober.duplicate(), conn.peer.duplicate());
        let (up, down) = (&up, &down);
        scope.spawn(move || prober_out.send(up));
        scope.spawn(move || origin_out.send(down));
        let seen_by_front = scope.spawn(|| conn.peer.recv(up.len()));
        assert!(prober.recv(down.len()) == *down);
        assert!(seen_by_front.join().expect("the front") == *up);
    });
    let stats = fixture.proxy.stats();
    assert_eq!(stats["total_connections"], 0, "fronted connections are not counted");
    assert_eq!(stats["users"]["alice"]["bytes_in"], 0);
}

#[test]
fn the_last_bytes_of_a_closing_front_reach_a_slow_prober() {
    let fixture = Fixture::new();
    let mut prober = Peer::connect("prober", fixture.proxy.addr).with_small_receive_buffer(65_536);
    prober.send(b"GET / HTTP/1.1\r\n\r\n");
    let mut conn = fixture.front.accept();
    let page = pattern(13, 8 << 20);
    thread::scope(|scope| {
        let page = &page;
        scope.spawn(move || {
            conn.peer.send(page);
            drop(conn);
        });
        let (seen, end) = prober.recv_rest();
        assert!(seen == *page, "{} of {} bytes", seen.len(), page.len());
        assert_eq!(end, End::Fin);
    });
}

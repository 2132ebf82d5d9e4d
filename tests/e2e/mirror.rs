//! A fronted connection behaves like a wire: FIN is FIN, RST is RST, half close is half close
//! (spec: protocol 9.3 and 15.11).

use std::thread;

use crate::support::origin::Visit;
use crate::support::pattern;
use crate::support::peer::{End, Peer};
use crate::support::stage::Stage;

fn fronted(stage: &Stage) -> (Peer, Visit) {
    let mut prober = Peer::connect("prober", stage.proxy.addr);
    prober.send(b"GET / HTTP/1.1\r\n\r\n");
    let visit = stage.origin.visit();
    assert_eq!(visit.first, b"GET / HTTP/1.1\r\n\r\n");
    (prober, visit)
}

#[test]
fn a_prober_who_sends_request_and_fin_gets_the_answer() {
    let stage = Stage::plain();
    let files = stage.proxy.files();
    let mut prober = Peer::connect("prober", stage.proxy.addr);
    prober.send(b"GET / HTTP/1.0\r\n\r\n");
    prober.finish();
    let mut visit = stage.origin.visit();
    assert_eq!(visit.peer.recv_rest(), (Vec::new(), End::Fin));
    let page = pattern(9, 500_000);
    visit.peer.send(&page);
    visit.peer.finish();
    let (seen, end) = prober.recv_rest();
    assert!(seen == page);
    assert_eq!(end, End::Fin);
    stage.proxy.wait_for_rest(files);
}

#[test]
fn a_fin_of_the_origin_leaves_the_other_direction_open() {
    let stage = Stage::plain();
    let (mut prober, mut visit) = fronted(&stage);
    visit.peer.finish();
    assert_eq!(prober.recv_rest(), (Vec::new(), End::Fin));
    let more = pattern(10, 300_000);
    prober.send(&more);
    prober.finish();
    let (seen, end) = visit.peer.recv_rest();
    assert!(seen == more);
    assert_eq!(end, End::Fin);
}

#[test]
fn a_reset_of_the_origin_resets_the_prober() {
    let stage = Stage::plain();
    let files = stage.proxy.files();
    let (mut prober, visit) = fronted(&stage);
    visit.peer.reset();
    assert_eq!(prober.recv_rest(), (Vec::new(), End::Reset));
    stage.proxy.wait_for_rest(files);
}

#[test]
fn a_reset_of_the_prober_resets_the_origin() {
    let stage = Stage::plain();
    let files = stage.proxy.files();
    let (prober, mut visit) = fronted(&stage);
    prober.reset();
    assert_eq!(visit.peer.recv_rest(), (Vec::new(), End::Reset));
    stage.proxy.wait_for_rest(files);
}

#[test]
fn a_fronted_connection_carries_anything_both_ways() {
    let stage = Stage::plain();
    let (mut prober, mut visit) = fronted(&stage);
    let (up, down) = (pattern(11, 3_000_017), pattern(12, 5_000_011));
    thread::scope(|scope| {
        let (mut prober_out, mut origin_out) = (prober.twin(), visit.peer.twin());
        let (up, down) = (&up, &down);
        scope.spawn(move || prober_out.send(up));
        scope.spawn(move || origin_out.send(down));
        let seen_by_origin = scope.spawn(|| visit.peer.recv(up.len()));
        assert!(prober.recv(down.len()) == *down);
        assert!(seen_by_origin.join().expect("the origin") == *up);
    });
    let stats = stage.proxy.stats();
    assert_eq!(stats["total_connections"], 0, "visits are not counted");
    assert_eq!(stats["users"]["alice"]["bytes_in"], 0);
}

#[test]
fn the_tail_of_a_closing_origin_reaches_a_slow_prober() {
    let stage = Stage::plain();
    let mut prober = Peer::connect("prober", stage.proxy.addr).with_small_receive_buffer(65_536);
    prober.send(b"GET / HTTP/1.1\r\n\r\n");
    let mut visit = stage.origin.visit();
    let page = pattern(13, 8 << 20);
    thread::scope(|scope| {
        let page = &page;
        scope.spawn(move || {
            visit.peer.send(page);
            drop(visit);
        });
        let (seen, end) = prober.recv_rest();
        assert!(seen == *page, "{} of {} bytes", seen.len(), page.len());
        assert_eq!(end, End::Fin);
    });
}

//! Connections to the front have a rate, since each can keep a local port for a minute (DECISIONS
//! D166).

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use crate::support::eventually;
use crate::support::fixture::Fixture;
use crate::support::peer::{End, Peer};
use crate::support::stats;

const CROWD: Ipv4Addr = Ipv4Addr::new(127, 0, 66, 1);
const HOME: Ipv4Addr = Ipv4Addr::new(127, 0, 67, 1);
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\n\r\n";

/// More than a burst and all that may wait at the usual number of ports. A wider range of the
/// machine needs more.
fn flood_size() -> usize {
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").expect("ports");
    let bounds: Vec<usize> = range.split_whitespace().map(|one| one.parse().unwrap()).collect();
    (bounds[1] - bounds[0]) / 64 + (bounds[1] - bounds[0]) / 480 * 3 + 200
}

#[test]
fn a_flood_of_one_network_is_limited_and_told_and_delays_no_other() {
    // At level debug, the lines of the flood would not fit into the pipe, and some would be lost.
    let fixture =
        Fixture::with(|config| config.without("", "debug").set("", "concurrency", "4096"));
    let dials = |name: &str| fixture.proxy.stats()["dials"][name].as_u64().unwrap_or(0);
    let mut refused = false;
    for count in 0..20 * flood_size() {
        let mut probe = Peer::connect_from("probe", CROWD, fixture.proxy.addr);
        probe.send(REQUEST);
        drop(probe);
        if count % 50 == 0 && dials("refused") > 0 {
            refused = true;
            break;
        }
    }
    assert!(refused && dials("delayed") > 0, "{}", fixture.proxy.stats());
    let mut last = Peer::connect_from("one of the flood", CROWD, fixture.proxy.addr);
    last.send(REQUEST);

    // While the flood waits, a visitor from another network reaches the site, and so does a user.
    let asked = Instant::now();
    let mut visitor = Peer::connect_from("visitor", HOME, fixture.proxy.addr);
    visitor.send(b"a visitor");
    loop {
        let mut conn = fixture.front.accept();
        if conn.first == b"a visitor" {
            conn.peer.send(b"the site");
            conn.peer.send_fin();
            break;
        }
    }
    assert_eq!(visitor.recv_rest(), (b"the site".to_vec(), End::Fin));
    assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
    let (mut client, mut session) = fixture.session();
    client.up.send(b"ping");
    assert_eq!(session.from.recv(4), b"ping");

    eventually("it is told", || fixture.proxy.log().contains("event=dials-limited"));
    let why = stats::get(fixture.proxy.api, "/explain").body;
    assert!(why.contains("dial-limit"), "{why}");
    eventually("the flood is served or gone", || {
        fixture.front.accept_within(Duration::from_millis(500)).is_none()
    });
}

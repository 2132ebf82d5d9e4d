//! Listeners that fail, are shared or ask for small segments, and connections that leave by a
//! given way or not at all (spec: network 1 to 3).

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::Command;

use nix::sys::socket::{getsockopt, sockopt};

use crate::support::client::Client;
use crate::support::dc::Dc;
use crate::support::hello::Secret;
use crate::support::origin::Origin;
use crate::support::peer::{End, Peer};
use crate::support::proxy::{Config, Proxy};
use crate::support::stage::{HOST, Stage};
use crate::support::{eventually, holds_within};

const HOME: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\n\r\n";

fn assert_served(stage: &Stage, at: SocketAddr) {
    let mut client = Client::open(at, &stage.secret);
    let mut session = stage.dc.accept();
    client.up.send(b"ping");
    assert_eq!(session.from.recv(4), b"ping", "{at}");
    session.to.send(b"pong");
    assert_eq!(client.down.recv(4), b"pong", "{at}");
}

/// A program of the machine that may be absent.
fn runs(program: &str, args: &[&str]) -> bool {
    let done = Command::new(program).args(args).output().is_ok_and(|done| done.status.success());
    if !done {
        eprintln!("skipped: {program} {args:?} does not work here");
    }
    done
}

#[test]
fn a_taken_port_among_several_is_said_and_nothing_listens() {
    let taken = TcpListener::bind((HOME, 0)).expect("a port");
    let addr = taken.local_addr().expect("an address");
    let (dc, origin, secret) = (Dc::listen(), Origin::listen(), Secret::new(HOST));
    let config = Config::new(dc.addr, origin.addr).user("alice", &secret);
    let log = config.set("", "bind-to", &format!("[{{binds}}, \"{addr}\"]")).give_up();
    let said = format!("cannot listen on {addr}");
    assert!(log.contains(&said) && log.contains("another program listens there"), "{log}");
}

/// The reference ends accepting on all listeners, for good and in silence, when one of them fails
/// (gotchas A4, A5).
#[test]
fn a_listener_that_breaks_leaves_the_others_alone() {
    let stage = Stage::with(|config| config.binds(&[HOME, HOME]));
    let [broken, whole] = stage.proxy.binds[..] else { panic!("two listeners") };
    // The system takes the socket away under the program.
    let filter = format!("sport = :{}", broken.port());
    if !runs("ss", &["-K", "-t", "-l", "-n", &filter]) || TcpStream::connect(broken).is_ok() {
        eprintln!("skipped: this kernel takes no listeners away");
        return;
    }
    let said = format!("event=accept-failed addr={broken}");
    eventually("the operator is told", || stage.proxy.log().contains(&said));
    for _ in 0..3 {
        assert_served(&stage, whole);
    }
    let before = stage.proxy.ticks();
    let spins = || stage.proxy.ticks() > before + 50;
    assert!(!holds_within(crate::support::QUIET * 4, spins), "it spins");
}

/// The reference is deaf from then on (gotcha A4).
#[test]
fn descriptors_that_run_out_pause_every_listener_and_end_none() {
    let stage = Stage::with(|config| config.binds(&[HOME, HOME]));
    let (mut client, mut session) = stage.session();
    if !stage.proxy.bound_files(6) {
        eprintln!("skipped: no prlimit");
        return;
    }
    let binds = stage.proxy.binds.clone();
    let flood: Vec<_> = (0..40).map(|number| Peer::connect("flood", binds[number % 2])).collect();
    eventually("the system gives no more", || stage.proxy.log().contains("event=accept-paused"));
    client.up.send(b"still served");
    assert_eq!(session.from.recv(12), b"still served");
    drop(flood);
    for bind in binds {
        assert_served(&stage, bind);
    }
}

#[test]
fn two_processes_share_a_port() {
    let (origin, secret) = (Origin::listen(), Secret::new(HOST));
    let config = Config::new(Dc::echoing(), origin.addr).user("alice", &secret).set(
        "network",
        "reuse-port",
        "true",
    );
    let first = config.clone().start();
    let second = config.port(first.addr.port()).start();
    assert_eq!(first.addr, second.addr);
    let mut clients = Vec::new();
    // The kernel chooses by the client's port, so each has half of the chances each time.
    eventually("both get sessions", || {
        clients.push(Client::open(first.addr, &secret));
        let has_some = |proxy: &Proxy| proxy.connections("alice") > 0;
        has_some(&first) && has_some(&second)
    });
    for client in &mut clients {
        client.up.send(b"echo");
        assert_eq!(client.down.recv(4), b"echo");
    }
}

#[test]
fn a_port_is_not_shared_unless_asked_for() {
    let (dc, origin, secret) = (Dc::listen(), Origin::listen(), Secret::new(HOST));
    let config = Config::new(dc.addr, origin.addr).user("alice", &secret);
    let first = config.clone().start();
    let log = config.port(first.addr.port()).give_up();
    assert!(log.contains("another program listens there"), "{log}");
}

#[test]
fn connections_leave_from_the_given_address() {
    let stage =
        Stage::with(|config| config.set("network", "bind-address", "[\"127.0.0.9\", \"::1\"]"));
    let source = IpAddr::from([127, 0, 0, 9]);
    let (_client, session) = stage.session();
    assert_eq!(session.caller().ip(), source, "to the DC");
    let mut prober = Peer::connect("prober", stage.proxy.addr);
    prober.send(REQUEST);
    let visit = stage.origin.visit();
    assert_eq!(visit.peer.stream().peer_addr().expect("a peer").ip(), source, "to the front");
}

#[test]
fn an_address_and_a_device_that_lead_away_are_not_for_loopback() {
    let stage = Stage::with(|config| {
        let config = config.set("network", "bind-address", "\"203.0.113.77\"");
        config.set("network", "bind-device", "\"wan0\"")
    });
    assert_served(&stage, stage.proxy.addr);
}

#[test]
fn a_mark_that_is_not_allowed_ends_the_dial_with_a_clear_word() {
    if !runs("setpriv", &["--bounding-set", "-net_admin,-net_raw", "true"]) {
        return;
    }
    let stage = Stage::with(|config| config.humble().set("network", "mark", "7"));
    let mut client = Client::open(stage.proxy.addr, &stage.secret);
    assert_eq!(client.down.recv_rest(), (Vec::new(), End::Fin));
    let mut prober = Peer::connect("prober", stage.proxy.addr);
    prober.send(REQUEST);
    assert_eq!(prober.recv_rest(), (Vec::new(), End::Reset), "like a site that is down");
    assert_eq!(stage.origin.knocks(), 0, "nothing leaves without the mark");
    eventually("the operator is told", || stage.proxy.log().contains("event=egress-refused"));
    let log = stage.proxy.log();
    let lines: Vec<&str> =
        log.lines().filter(|line| line.contains("event=egress-refused")).collect();
    assert!(lines[0].contains("level=warn") && lines[0].contains("network.mark = 7"), "{lines:?}");
    assert!(lines[0].contains("CAP_NET_ADMIN"), "{lines:?}");
    assert_eq!(lines.len(), 1, "one word for both");
}

#[test]
fn clients_send_no_larger_segments_than_asked_for() {
    let most = |stage: &Stage| {
        let peer = Peer::connect("client", stage.proxy.addr);
        getsockopt(peer.stream(), sockopt::TcpMaxSeg).expect("a segment size")
    };
    let small = Stage::with(|config| config.set("network", "max-segment", "536"));
    assert!(most(&small) <= 536);
    assert_served(&small, small.proxy.addr);
    assert!(most(&Stage::plain()) > 536);
}

#[test]
fn multipath_tcp_serves_ordinary_clients_or_falls_back() {
    let stage = Stage::with(|config| {
        config.set("network", "multipath-tcp", "true").set("network", "max-segment", "1200")
    });
    assert_served(&stage, stage.proxy.addr);
}

#[test]
fn an_unknown_congestion_control_is_said_once_and_costs_nothing() {
    let stage = Stage::with(|config| {
        config.binds(&[HOME, HOME]).set("network", "tcp-congestion", "\"nosuch\"")
    });
    for bind in stage.proxy.binds.clone() {
        assert_served(&stage, bind);
    }
    eventually("the operator is told", || stage.proxy.log().contains("congestion-refused"));
    let log = stage.proxy.log();
    assert_eq!(log.matches("event=congestion-refused").count(), 1, "{log}");
    assert!(log.contains("name=\"nosuch\""));
    let known = Stage::with(|config| config.set("network", "tcp-congestion", "\"reno\""));
    assert_served(&known, known.proxy.addr);
    assert!(!known.proxy.log().contains("congestion-refused"));
}

/// Out of range for the kernel, these made every dial of the reference fail (gotcha A9).
#[test]
fn keep_alive_beyond_the_kernels_range_still_connects() {
    let stage = Stage::with(|config| {
        let table = "network.keep-alive";
        let config = config.set(table, "idle", "\"24h\"").set(table, "interval", "\"24h\"");
        config.set(table, "count", "65535")
    });
    assert_served(&stage, stage.proxy.addr);
}

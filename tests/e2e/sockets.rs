//! Listeners that fail, are shared or set the segment size, and the source address, mark and device
//! of outgoing connections (COMPATIBILITY 5.1 to 5.3).

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::process::Command;

use nix::sys::socket::{MsgFlags, getsockopt, send, sockopt};

use crate::support::client::Client;
use crate::support::dc::Dc;
use crate::support::fixture::{Fixture, HOST};
use crate::support::front::Front;
use crate::support::hello::Secret;
use crate::support::peer::{End, Peer};
use crate::support::proxy::{Config, Proxy};
use crate::support::{eventually, holds_within};

const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\n\r\n";

fn assert_served(fixture: &Fixture, at: SocketAddr) {
    let mut client = Client::open(at, &fixture.secret);
    let mut session = fixture.dc.accept();
    client.up.send(b"ping");
    assert_eq!(session.from.recv(4), b"ping", "{at}");
    session.to.send(b"pong");
    assert_eq!(client.down.recv(4), b"pong", "{at}");
}

/// Runs a program that this machine may lack.
fn runs(program: &str, args: &[&str]) -> bool {
    let done = Command::new(program).args(args).output().is_ok_and(|done| done.status.success());
    if !done {
        eprintln!("skipped: {program} {args:?} does not work here");
    }
    done
}

#[test]
fn one_port_in_use_is_reported_and_no_listener_opens() {
    let taken = TcpListener::bind((LOCALHOST, 0)).expect("a port");
    let addr = taken.local_addr().expect("an address");
    let (dc, front, secret) = (Dc::listen(), Front::listen(), Secret::new(HOST));
    let config = Config::new(dc.addr, front.addr).user("alice", &secret);
    let log = config.set("", "bind-to", &format!("[{{binds}}, \"{addr}\"]")).run_until_exit();
    let line = format!("cannot listen on {addr}");
    assert!(log.contains(&line) && log.contains("another program listens there"), "{log}");
}

/// The reference stops accepting on all listeners without a log line when one of them fails
/// (COMPATIBILITY A4, A5).
#[test]
fn a_listener_that_fails_does_not_affect_the_others() {
    let fixture = Fixture::with(|config| config.binds(&[LOCALHOST, LOCALHOST]));
    let [broken, whole] = fixture.proxy.binds[..] else { panic!("two listeners") };
    // The system closes the socket of the program.
    let filter = format!("sport = :{}", broken.port());
    if !runs("ss", &["-K", "-t", "-l", "-n", &filter]) || TcpStream::connect(broken).is_ok() {
        eprintln!("skipped: this kernel cannot close listeners");
        return;
    }
    let line = format!("event=accept-failed addr={broken}");
    eventually("it is logged", || fixture.proxy.log().contains(&line));
    for _ in 0..3 {
        assert_served(&fixture, whole);
    }
    let before = fixture.proxy.ticks();
    let spins = || fixture.proxy.ticks() > before + 50;
    assert!(!holds_within(crate::support::QUIET * 4, spins), "it must not spin");
}

/// The reference never accepts again (COMPATIBILITY A4).
#[test]
fn a_lack_of_descriptors_pauses_every_listener_and_ends_none() {
    let fixture = Fixture::with(|config| config.binds(&[LOCALHOST, LOCALHOST]));
    let (mut client, mut session) = fixture.session();
    if !fixture.proxy.limit_files(6) {
        eprintln!("skipped: no prlimit");
        return;
    }
    let binds = fixture.proxy.binds.clone();
    let flood: Vec<_> = (0..40).map(|number| Peer::connect("flood", binds[number % 2])).collect();
    eventually("no descriptor is left", || fixture.proxy.log().contains("event=accept-paused"));
    client.up.send(b"still served");
    assert_eq!(session.from.recv(12), b"still served");
    drop(flood);
    for bind in binds {
        assert_served(&fixture, bind);
    }
}

#[test]
fn those_who_hold_all_descriptors_make_room_for_users_visitors_and_pages() {
    let fixture = Fixture::new();
    if !fixture.proxy.limit_files(6) {
        eprintln!("skipped: no prlimit");
        return;
    }
    let silent = || Peer::connect_from("silent", Ipv4Addr::new(127, 9, 0, 1), fixture.proxy.addr);
    let mut crowd: Vec<Peer> = (0..40).map(|_| silent()).collect();
    for _ in 0..3 {
        assert_served(&fixture, fixture.proxy.addr);
        crowd.extend((0..10).map(|_| silent()));
        let mut visitor = Peer::connect("visitor", fixture.proxy.addr);
        visitor.send(REQUEST);
        fixture.front.accept().peer.send(b"the site");
        assert_eq!(visitor.recv(8), b"the site");
        crowd.extend((0..10).map(|_| silent()));
        assert!(fixture.proxy.stats()["total_connections"].is_number());
    }
}

#[test]
fn two_processes_share_a_port() {
    let (front, secret) = (Front::listen(), Secret::new(HOST));
    let config = Config::new(Dc::echoing(), front.addr).user("alice", &secret).set(
        "network",
        "reuse-port",
        "true",
    );
    let first = config.clone().start();
    let second = config.port(first.addr.port()).start();
    assert_eq!(first.addr, second.addr);
    let mut clients = Vec::new();
    // The kernel chooses by the client's port, so each process gets about half.
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
fn a_port_is_not_shared_unless_configured() {
    let (dc, front, secret) = (Dc::listen(), Front::listen(), Secret::new(HOST));
    let config = Config::new(dc.addr, front.addr).user("alice", &secret);
    let first = config.clone().start();
    let log = config.port(first.addr.port()).run_until_exit();
    assert!(log.contains("another program listens there"), "{log}");
}

#[test]
fn connections_leave_from_the_given_address() {
    let fixture =
        Fixture::with(|config| config.set("network", "bind-address", "[\"127.0.0.9\", \"::1\"]"));
    let source = IpAddr::from([127, 0, 0, 9]);
    let (_client, session) = fixture.session();
    assert_eq!(session.peer_addr().ip(), source, "to the DC");
    let mut prober = Peer::connect("prober", fixture.proxy.addr);
    prober.send(REQUEST);
    let conn = fixture.front.accept();
    assert_eq!(conn.peer.stream().peer_addr().expect("a peer").ip(), source, "to the front");
}

#[test]
fn a_foreign_address_and_device_are_not_used_for_loopback() {
    let fixture = Fixture::with(|config| {
        let config = config.set("network", "bind-address", "\"203.0.113.77\"");
        config.set("network", "bind-device", "\"wan0\"")
    });
    assert_served(&fixture, fixture.proxy.addr);
}

#[test]
fn a_mark_that_is_not_allowed_ends_the_dial_with_a_clear_message() {
    if !runs("setpriv", &["--bounding-set", "-net_admin,-net_raw", "true"]) {
        return;
    }
    let fixture = Fixture::with(|config| config.unprivileged().set("network", "mark", "7"));
    let mut client = Client::open(fixture.proxy.addr, &fixture.secret);
    assert_eq!(client.down.recv_rest(), (Vec::new(), End::Fin));
    let mut prober = Peer::connect("prober", fixture.proxy.addr);
    prober.send(REQUEST);
    assert_eq!(prober.recv_rest(), (Vec::new(), End::Reset), "like a front that is down");
    assert_eq!(fixture.front.connections(), 0, "no connection without the mark");
    eventually("it is logged", || fixture.proxy.log().contains("event=egress-refused"));
    let log = fixture.proxy.log();
    let lines: Vec<&str> =
        log.lines().filter(|line| line.contains("event=egress-refused")).collect();
    assert!(lines[0].contains("level=warn") && lines[0].contains("network.mark = 7"), "{lines:?}");
    assert!(lines[0].contains("CAP_NET_ADMIN"), "{lines:?}");
    assert_eq!(lines.len(), 1, "one line for both");
}

#[test]
fn clients_send_no_larger_segments_than_configured() {
    let most = |fixture: &Fixture| {
        let peer = Peer::connect("client", fixture.proxy.addr);
        getsockopt(peer.stream(), sockopt::TcpMaxSeg).expect("a segment size")
    };
    let small = Fixture::with(|config| config.set("network", "max-segment", "536"));
    assert!(most(&small) <= 536);
    assert_served(&small, small.proxy.addr);
    assert!(most(&Fixture::new()) > 536);
}

#[test]
fn multipath_tcp_serves_ordinary_clients_or_falls_back() {
    let fixture = Fixture::with(|config| {
        config.set("network", "multipath-tcp", "true").set("network", "max-segment", "1200")
    });
    assert_served(&fixture, fixture.proxy.addr);
}

#[test]
fn an_unknown_congestion_control_is_logged_once_and_costs_nothing() {
    let fixture = Fixture::with(|config| {
        config.binds(&[LOCALHOST, LOCALHOST]).set("network", "tcp-congestion", "\"nosuch\"")
    });
    for bind in fixture.proxy.binds.clone() {
        assert_served(&fixture, bind);
    }
    eventually("it is logged", || fixture.proxy.log().contains("congestion-refused"));
    let log = fixture.proxy.log();
    assert_eq!(log.matches("event=congestion-refused").count(), 1, "{log}");
    assert!(log.contains("name=\"nosuch\""));
    let known = Fixture::with(|config| config.set("network", "tcp-congestion", "\"reno\""));
    assert_served(&known, known.proxy.addr);
    assert!(!known.proxy.log().contains("congestion-refused"));
}

/// These values are out of the kernel's range and make every dial of the reference fail
/// (COMPATIBILITY A9).
#[test]
fn keep_alive_beyond_the_kernels_range_still_connects() {
    let fixture = Fixture::with(|config| {
        let table = "network.keep-alive";
        let config = config.set(table, "idle", "\"24h\"").set(table, "interval", "\"24h\"");
        config.set(table, "count", "65535")
    });
    assert_served(&fixture, fixture.proxy.addr);
}

/// The timers of the established sockets at this local port, or towards this peer: 2 is that of
/// keep-alive (proc_pid_net(5)).
fn timers(is_at: impl Fn(u16, u16) -> bool) -> Vec<String> {
    let table = std::fs::read_to_string("/proc/net/tcp").expect("the sockets of this machine");
    let port = |addr: &str| {
        let (_, port) = addr.split_once(':').expect("a port");
        u16::from_str_radix(port, 16).expect("a number")
    };
    let rows = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    rows.filter(|row| row[3] == "01" && is_at(port(row[1]), port(row[2])))
        .map(|row| row[5].split(':').next().unwrap_or_default().to_owned())
        .collect()
}

/// A probe of keep-alive on an idle connection would show that this is not the web server.
#[test]
fn sockets_of_users_have_keep_alive_and_those_of_other_clients_do_not() {
    let fixture = Fixture::new();
    let (at, front) = (fixture.proxy.addr.port(), fixture.front.addr.port());
    let _idle = Peer::connect("an idle client", fixture.proxy.addr);
    let mut visitor = Peer::connect("a visitor", fixture.proxy.addr);
    visitor.send(REQUEST);
    let _leg = fixture.front.accept();
    eventually("both are accepted", || timers(|local, _| local == at).len() == 2);
    assert_eq!(timers(|local, _| local == at), ["00", "00"]);
    assert_eq!(timers(|_, peer| peer == front), ["00"]);
    let _session = fixture.session();
    let dc = fixture.dc.addr.port();
    let has_one = || {
        let mut all = timers(|local, _| local == at);
        all.sort();
        all == ["00", "00", "02"]
    };
    eventually("the socket of a user has", has_one);
    eventually("also to Telegram", || timers(|_, peer| peer == dc) == ["02"]);
}

/// A read stops at the mark of an urgent byte, and the bytes behind it come without another event.
#[test]
fn an_urgent_byte_does_not_hold_up_what_follows() {
    let fixture = Fixture::new();
    for first in [1, 5] {
        let mut visitor = Peer::connect("a visitor", fixture.proxy.addr);
        visitor.send(&REQUEST[..first]);
        let urgent = send(visitor.stream().as_raw_fd(), b"!", MsgFlags::MSG_OOB);
        assert_eq!(urgent, Ok(1));
        visitor.send(&REQUEST[first..]);
        let mut front = fixture.front.accept();
        let rest = front.peer.recv(REQUEST.len() - front.first.len());
        assert_eq!([front.first, rest].concat(), REQUEST);
    }
}

/// The old process may still drain when the new one starts.
#[test]
fn a_port_of_the_operator_is_taken_over_when_it_becomes_free() {
    let taken = TcpListener::bind((LOCALHOST, 0)).expect("a port");
    let addr = taken.local_addr().expect("an address");
    let fixture = Fixture::with(|config| {
        let bind = format!("\"{addr}\"");
        let table = "stats.prometheus";
        config.set(table, "enabled", "true").set(table, "bind-to", &bind)
    });
    eventually("it is told", || fixture.proxy.log().contains("event=metrics-off"));
    drop(taken);
    eventually("it is opened", || fixture.proxy.log().contains("event=metrics addr="));
    let mut operator = Peer::connect("an operator", addr);
    operator.send(b"GET /metrics HTTP/1.0\r\n\r\n");
    assert!(operator.recv_rest().0.starts_with(b"HTTP/1.0 200 "));
}

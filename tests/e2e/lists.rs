//! The blocklist and the allowlist: which clients may connect.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use nix::sys::signal::Signal;

use crate::support::client::Handshake;
use crate::support::doctor;
use crate::support::fixture::Fixture;
use crate::support::hello::{App, Hello};
use crate::support::lists::{
    Folder, LISTED, OTHER, assert_refused, assert_served, fixture, quoted, wait_until_loaded,
    with_list,
};
use crate::support::obfuscated2::DD;
use crate::support::peer::{End, Peer};
use crate::support::proxy::free_port;
use crate::support::proxy_header;
use crate::support::stats;
use crate::support::web::{WebServer, page};
use crate::support::{QUIET, eventually, holds_within};

/// Waits for a log line that contains all these words.
fn wait_for_line(fixture: &Fixture, words: &[&str]) {
    eventually(&words.join(" "), || {
        fixture.proxy.log().lines().any(|line| words.iter().all(|word| line.contains(word)))
    });
}

#[test]
fn a_list_that_refuses_the_only_private_address_of_all_clients_is_told() {
    let folder = Folder::new();
    let fixture = fixture("allowlist", &folder.write("allow", "8.8.8.8\n"));
    let hidden =
        "hides their addresses, let it send a PROXY header and set proxy-protocol-listener";
    let count = || fixture.proxy.log().matches("event=clients-hidden").count();
    (0..3).for_each(|_| assert_refused(&fixture, OTHER));
    wait_for_line(&fixture, &["level=warn event=clients-hidden", hidden]);
    let explained = || stats::get(fixture.proxy.api, "/explain?text").body;
    assert!(explained().contains(hidden), "{}", explained());
    let report = doctor::examine_file(fixture.proxy.file(), &["--skip-native-check"]);
    report.has("lists", "failed", hidden);
    assert_eq!(count(), 1, "once");
    assert_refused(&fixture, LISTED);
    eventually("another address", || !explained().contains(hidden));
}

/// COMPATIBILITY F1: the reference loses everything after a bad line.
#[test]
fn a_bad_line_affects_only_itself() {
    let folder = Folder::new();
    let file = folder.write("a", "# head\nno network\n192.0.2.0/24\n1.2.3.4/99\n127.0.0.2 # x\n");
    let fixture = Fixture::with(|config| with_list(config, "blocklist", &file));
    assert_refused(&fixture, LISTED);
    assert_served(&fixture, OTHER);
    let stats = &fixture.proxy.stats()["lists"]["blocklist"];
    assert_eq!(
        (&stats["entries"], &stats["bad_lines"], &stats["refused"]),
        (&2.into(), &2.into(), &1.into())
    );
    assert!(stats["updated"].is_string());
}

/// A compressed or foreign file must not pass for a list without entries.
#[test]
fn a_file_without_a_network_is_a_failure_in_the_log() {
    let folder = Folder::new();
    let fixture = fixture("blocklist", &folder.write("a", "name,country\nsome,where\n"));
    wait_for_line(&fixture, &["level=warn event=list-failed name=blocklist", "no network in it"]);
    assert_served(&fixture, LISTED);
}

#[test]
fn a_refused_home_address_gets_a_line_with_the_list_and_the_remedy() {
    let folder = Folder::new();
    let (block, allow) = (folder.write("block", "127.0.0.2\n"), folder.write("allow", "8.8.8.8\n"));
    let blocking = fixture("blocklist", &block);
    assert_refused(&blocking, LISTED);
    let path = folder.path().join("block");
    wait_for_line(
        &blocking,
        &["level=info event=refused list=blocklist", path.to_str().unwrap(), "hint="],
    );
    let allowing = fixture("allowlist", &allow);
    assert_refused(&allowing, OTHER);
    wait_for_line(&allowing, &["level=info event=refused list=allowlist", "hint="]);
    for fixture in [blocking, allowing] {
        assert!(!fixture.proxy.log().contains("client=127.0.0.2"), "addresses are shortened");
    }
}

#[test]
fn without_lists_the_stats_do_not_mention_them() {
    assert!(Fixture::new().proxy.stats().get("lists").is_none());
}

#[test]
fn an_address_on_both_lists_is_refused() {
    let folder = Folder::new();
    let (allow, block) =
        (folder.write("allow", "127.0.0.0/30\n"), folder.write("block", "127.0.0.2\n"));
    let fixture = Fixture::with(|config| {
        with_list(with_list(config, "allowlist", &allow), "blocklist", &block)
    });
    assert_refused(&fixture, LISTED);
    assert_refused(&fixture, Ipv4Addr::new(127, 0, 0, 9));
    assert_served(&fixture, OTHER);
    let lists = &fixture.proxy.stats()["lists"];
    let refused = |name: &str| lists[name]["refused"].as_u64();
    assert_eq!((refused("allowlist"), refused("blocklist")), (Some(1), Some(1)));
}

/// Unread bytes would make the kernel send RST (COMPATIBILITY 5.2).
#[test]
fn a_client_that_has_sent_bytes_is_refused_with_fin_too() {
    let folder = Folder::new();
    let fixture = fixture("blocklist", &folder.write("a", "127.0.0.2\n"));
    fixture.proxy.signal(Signal::SIGSTOP);
    let mut peer = Peer::connect_from("client", LISTED, fixture.proxy.addr);
    peer.send(&Hello::new(&fixture.secret, App::PostQuantum).wire);
    fixture.proxy.signal(Signal::SIGCONT);
    assert_eq!(peer.recv_rest(), (Vec::new(), End::Fin));
    let is_broken = || peer.stream().take_error().expect("a socket").is_some();
    assert!(!holds_within(QUIET, is_broken), "a reset followed");
    assert_eq!(fixture.front.connections(), 0);
}

#[test]
fn ipv4_clients_of_an_ipv6_listener_are_ipv4() {
    let folder = Folder::new();
    let file = folder.write("a", "127.0.0.2\n2001:db8::/32\n");
    let mut fixture = Fixture::with(|config| {
        with_list(config, "blocklist", &file).binds(&[IpAddr::V4(Ipv4Addr::UNSPECIFIED)])
    });
    fixture.proxy.addr.set_ip(IpAddr::V4(Ipv4Addr::LOCALHOST));
    assert_refused(&fixture, LISTED);
    assert_served(&fixture, OTHER);
    let v6 = SocketAddr::from((Ipv6Addr::LOCALHOST, fixture.proxy.addr.port()));
    if std::net::TcpStream::connect(v6).is_err() {
        eprintln!("skipped: this machine has no ::1");
        return;
    }
    folder.write("a", "::/1\n");
    let fixture = Fixture::with(|config| {
        with_list(config, "blocklist", &file).binds(&[IpAddr::V6(Ipv6Addr::LOCALHOST)])
    });
    let mut peer = Peer::connect("client", fixture.proxy.addr);
    assert_eq!(peer.recv_rest(), (Vec::new(), End::Fin));
}

#[test]
fn the_announced_address_is_checked_and_not_that_of_the_balancer() {
    let folder = Folder::new();
    let file = folder.write("a", "192.0.2.7\n127.0.0.1\n");
    let fixture = Fixture::with(|config| {
        with_list(config.set("", "proxy-protocol-listener", "true"), "blocklist", &file)
    });
    let announce = |source: &str| {
        let source = SocketAddr::new(source.parse().unwrap(), 4711);
        let mut peer = Peer::connect("balancer", fixture.proxy.addr);
        peer.send(&proxy_header::announcing(source, fixture.proxy.addr));
        peer
    };
    assert_eq!(announce("192.0.2.7").recv_rest(), (Vec::new(), End::Fin));
    let hello = Hello::new(&fixture.secret, App::PostQuantum);
    let mut client =
        Handshake::send_hello(announce("192.0.2.8"), &fixture.secret, &hello).send_frame(DD, 2);
    client.up.send(b"hello");
    assert_eq!(fixture.dc.accept().from.recv(5), b"hello");
    // Without a header the address of the socket counts.
    let mut peer = Peer::connect("client", fixture.proxy.addr);
    peer.send(&hello.wire);
    assert_eq!(peer.recv_rest().0, b"");
    assert_eq!(fixture.proxy.stats()["lists"]["blocklist"]["refused"], 2);
    assert_eq!(fixture.front.connections(), 0);
}

/// COMPATIBILITY F3: the reference refuses all clients without a log line.
#[test]
fn an_allowlist_that_is_not_loaded_refuses_all_clients_and_logs_it() {
    let port = free_port();
    let fixture = fixture("allowlist", &format!("\"http://127.0.0.1:{port}/\""));
    for _ in 0..3 {
        assert_refused(&fixture, LISTED);
    }
    wait_for_line(&fixture, &["level=info event=list-pending name=allowlist sources=1"]);
    wait_for_line(&fixture, &["level=warn event=allowlist-empty refused=1"]);
    assert_eq!(fixture.proxy.log().matches("event=allowlist-empty").count(), 1, "once a minute");
    let state = &fixture.proxy.stats()["lists"]["allowlist"];
    assert_eq!((&state["refused"], state["updated"].is_null()), (&3.into(), true));
    let _web = WebServer::http_on(port, |_, out| out.write_all(&page("127.0.0.2\n")));
    wait_until_loaded(&fixture.proxy, "allowlist");
    assert_served(&fixture, LISTED);
    assert_refused(&fixture, OTHER);
}

/// COMPATIBILITY A7: a server that hangs delays no client.
#[test]
fn a_blocklist_that_is_not_loaded_delays_no_client() {
    let web = WebServer::http(|_, _| {
        std::thread::park();
        Ok(())
    });
    let fixture = fixture("blocklist", &quoted(&web, "/"));
    eventually("it is connected", || web.connections() == 1);
    assert_served(&fixture, LISTED);
    wait_for_line(&fixture, &["level=info event=list-pending name=blocklist sources=1"]);
}

/// A client that connects before a large file is read completely has to wait.
#[test]
fn files_are_read_before_the_first_client_is_served() {
    let folder = Folder::new();
    // Unsorted, so that loading takes time.
    let mut many = String::new();
    for number in 0..400_000_u32 {
        let low = number.wrapping_mul(0x9e37_79b1) >> 8;
        many += &format!("{}\n", Ipv4Addr::from_bits(0x0900_0000 | low));
    }
    let file = folder.write("a", &format!("{many}127.0.0.2\n"));
    let blocking = fixture("blocklist", &file);
    assert_refused(&blocking, LISTED);
    let allowing = fixture("allowlist", &file);
    assert_served(&allowing, LISTED);
}

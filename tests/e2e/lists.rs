//! Who may connect at all: what the block and the allow list do to whoever comes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use nix::sys::signal::Signal;

use crate::support::client::Visitor;
use crate::support::hello::{Hello, Shape};
use crate::support::lists::{
    Folder, LISTED, OTHER, assert_refused, assert_served, loaded, quoted, stage, with_list,
};
use crate::support::obfuscated2::DD;
use crate::support::peer::{End, Peer};
use crate::support::proxy::free_port;
use crate::support::proxy_header;
use crate::support::stage::Stage;
use crate::support::web::{Web, page};
use crate::support::{QUIET, eventually, holds_within};

/// Waits for a line of the log that has all these words.
fn said(stage: &Stage, words: &[&str]) {
    eventually(&words.join(" "), || {
        stage.proxy.log().lines().any(|line| words.iter().all(|word| line.contains(word)))
    });
}

/// Gotcha F: the reference loses all that stands below a bad line.
#[test]
fn a_bad_line_costs_nothing_but_itself() {
    let folder = Folder::new();
    let file = folder.write("a", "# head\nno network\n192.0.2.0/24\n1.2.3.4/99\n127.0.0.2 # x\n");
    let stage = Stage::with(|config| with_list(config, "blocklist", &file));
    assert_refused(&stage, LISTED);
    assert_served(&stage, OTHER);
    let stats = &stage.proxy.stats()["lists"]["blocklist"];
    assert_eq!(
        (&stats["entries"], &stats["bad_lines"], &stats["refused"]),
        (&2.into(), &2.into(), &1.into())
    );
    assert!(stats["updated"].is_string());
}

#[test]
fn a_home_address_on_a_list_gets_a_line_that_names_the_list_and_the_remedy() {
    let folder = Folder::new();
    let (block, allow) = (folder.write("block", "127.0.0.2\n"), folder.write("allow", "8.8.8.8\n"));
    let blocking = stage("blocklist", &block);
    assert_refused(&blocking, LISTED);
    let path = folder.path().join("block");
    said(&blocking, &["level=info event=refused list=blocklist", path.to_str().unwrap(), "hint="]);
    let allowing = stage("allowlist", &allow);
    assert_refused(&allowing, OTHER);
    said(&allowing, &["level=info event=refused list=allowlist", "hint="]);
    for stage in [blocking, allowing] {
        assert!(!stage.proxy.log().contains("client=127.0.0.2"), "addresses are cut");
    }
}

#[test]
fn without_lists_the_stats_do_not_speak_of_them() {
    assert!(Stage::plain().proxy.stats().get("lists").is_none());
}

#[test]
fn who_is_on_both_lists_is_refused() {
    let folder = Folder::new();
    let (allow, block) =
        (folder.write("allow", "127.0.0.0/30\n"), folder.write("block", "127.0.0.2\n"));
    let stage = Stage::with(|config| {
        with_list(with_list(config, "allowlist", &allow), "blocklist", &block)
    });
    assert_refused(&stage, LISTED);
    assert_refused(&stage, Ipv4Addr::new(127, 0, 0, 9));
    assert_served(&stage, OTHER);
    let lists = &stage.proxy.stats()["lists"];
    let refused = |name: &str| lists[name]["refused"].as_u64();
    assert_eq!((refused("allowlist"), refused("blocklist")), (Some(1), Some(1)));
}

/// Bytes that wait unread would make the kernel say RST (spec: network 2).
#[test]
fn who_has_spoken_already_is_refused_with_fin_too() {
    let folder = Folder::new();
    let stage = stage("blocklist", &folder.write("a", "127.0.0.2\n"));
    stage.proxy.signal(Signal::SIGSTOP);
    let mut peer = Peer::connect_from("client", LISTED, stage.proxy.addr);
    peer.send(&Hello::fresh(&stage.secret, Shape::PostQuantum).wire);
    stage.proxy.signal(Signal::SIGCONT);
    assert_eq!(peer.recv_rest(), (Vec::new(), End::Fin));
    let is_broken = || peer.stream().take_error().expect("a socket").is_some();
    assert!(!holds_within(QUIET, is_broken), "a reset followed");
    assert_eq!(stage.origin.knocks(), 0);
}

#[test]
fn ipv4_clients_of_an_ipv6_listener_are_ipv4() {
    let folder = Folder::new();
    let file = folder.write("a", "127.0.0.2\n2001:db8::/32\n");
    let mut stage = Stage::with(|config| {
        with_list(config, "blocklist", &file).binds(&[IpAddr::V4(Ipv4Addr::UNSPECIFIED)])
    });
    stage.proxy.addr.set_ip(IpAddr::V4(Ipv4Addr::LOCALHOST));
    assert_refused(&stage, LISTED);
    assert_served(&stage, OTHER);
    let v6 = SocketAddr::from((Ipv6Addr::LOCALHOST, stage.proxy.addr.port()));
    if std::net::TcpStream::connect(v6).is_err() {
        eprintln!("skipped: this machine has no ::1");
        return;
    }
    folder.write("a", "::/1\n");
    let stage = Stage::with(|config| {
        with_list(config, "blocklist", &file).binds(&[IpAddr::V6(Ipv6Addr::LOCALHOST)])
    });
    let mut peer = Peer::connect("client", stage.proxy.addr);
    assert_eq!(peer.recv_rest(), (Vec::new(), End::Fin));
}

#[test]
fn the_announced_address_is_judged_and_not_that_of_the_balancer() {
    let folder = Folder::new();
    let file = folder.write("a", "192.0.2.7\n127.0.0.1\n");
    let stage = Stage::with(|config| {
        with_list(config.set("", "proxy-protocol-listener", "true"), "blocklist", &file)
    });
    let announce = |source: &str| {
        let source = SocketAddr::new(source.parse().unwrap(), 4711);
        let mut peer = Peer::connect("balancer", stage.proxy.addr);
        peer.send(&proxy_header::announcing(source, stage.proxy.addr));
        peer
    };
    assert_eq!(announce("192.0.2.7").recv_rest(), (Vec::new(), End::Fin));
    let hello = Hello::fresh(&stage.secret, Shape::PostQuantum);
    let mut client = Visitor::greet(announce("192.0.2.8"), &stage.secret, &hello).begin(DD, 2);
    client.up.send(b"hello");
    assert_eq!(stage.dc.accept().from.recv(5), b"hello");
    // Without a header the socket's address counts.
    let mut peer = Peer::connect("client", stage.proxy.addr);
    peer.send(&hello.wire);
    assert_eq!(peer.recv_rest().0, b"");
    assert_eq!(stage.proxy.stats()["lists"]["blocklist"]["refused"], 2);
    assert_eq!(stage.origin.knocks(), 0);
}

/// Gotcha F: the reference refuses everybody without a word.
#[test]
fn an_allowlist_that_never_came_lets_nobody_in_and_says_so_until_it_comes() {
    let port = free_port();
    let stage = stage("allowlist", &format!("\"http://127.0.0.1:{port}/\""));
    for _ in 0..3 {
        assert_refused(&stage, LISTED);
    }
    said(&stage, &["level=info event=list-pending name=allowlist sources=1"]);
    said(&stage, &["level=warn event=allowlist-empty refused=1"]);
    assert_eq!(stage.proxy.log().matches("event=allowlist-empty").count(), 1, "once a minute");
    let state = &stage.proxy.stats()["lists"]["allowlist"];
    assert_eq!((&state["refused"], state["updated"].is_null()), (&3.into(), true));
    let _web = Web::plain_at(port, |_, out| out.write_all(&page("127.0.0.2\n")));
    loaded(&stage.proxy, "allowlist");
    assert_served(&stage, LISTED);
    assert_refused(&stage, OTHER);
}

/// Gotcha A7: a server that hangs delays no client.
#[test]
fn a_blocklist_that_does_not_come_delays_nobody() {
    let web = Web::plain(|_, _| {
        std::thread::park();
        Ok(())
    });
    let stage = stage("blocklist", &quoted(&web, "/"));
    eventually("it is asked", || web.connections() == 1);
    assert_served(&stage, LISTED);
    said(&stage, &["level=info event=list-pending name=blocklist sources=1"]);
}

/// The first client may come before the last line of a large file is read, but not in.
#[test]
fn files_are_read_before_the_first_client_comes_in() {
    let folder = Folder::new();
    // In no order, so that it takes time.
    let mut many = String::new();
    for number in 0..400_000_u32 {
        let low = number.wrapping_mul(0x9e37_79b1) >> 8;
        many += &format!("{}\n", Ipv4Addr::from_bits(0x0900_0000 | low));
    }
    let file = folder.write("a", &format!("{many}127.0.0.2\n"));
    let blocking = stage("blocklist", &file);
    assert_refused(&blocking, LISTED);
    let allowing = stage("allowlist", &file);
    assert_served(&allowing, LISTED);
}

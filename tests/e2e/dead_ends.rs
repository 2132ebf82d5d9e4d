//! Proxies and addresses of Telegram that take a connection and serve nothing: they come last, and
//! the log and `mtbox explain` name them.

use std::io::Read;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crate::support::client::{Client, record};
use crate::support::dc::Dc;
use crate::support::fixture::{Fixture, HOST};
use crate::support::front::Front;
use crate::support::hello::Secret;
use crate::support::proxy::Config;
use crate::support::socks::{DeadEnd, SocksBehaviour, SocksServer};
use crate::support::{eventually, stats};

/// What an address does with a connection.
#[derive(Clone, Copy, PartialEq)]
enum Does {
    ClosesAtOnce,
    ClosesAfterBytes,
    StaysSilent,
}

/// An address that serves nothing.
struct DeadAddress {
    addr: SocketAddr,
    asked: Arc<AtomicUsize>,
}

impl DeadAddress {
    fn listen(does: Does) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let addr = listener.local_addr().expect("an address");
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                count.fetch_add(1, Ordering::SeqCst);
                thread::spawn(move || {
                    if does != Does::ClosesAtOnce {
                        let _ = stream.read(&mut [0; 4_096]);
                    }
                    if does == Does::StaysSilent {
                        let _ = stream.read_to_end(&mut Vec::new());
                    }
                });
            }
        });
        Self { addr, asked }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

/// A user asks and waits for the answer. Returns whether it came.
fn is_served(fixture: &Fixture) -> bool {
    let mut client = Client::open(fixture.proxy.addr, &fixture.secret);
    let sealed = client.up.encrypt(b"anyone?");
    let _ = client.up.peer.try_send(&record(0x17, &sealed));
    client.down.recv_rest().0.starts_with(b"here")
}

/// Answers every session with a word, and closes.
fn answer_all(dc: Dc) -> SocketAddr {
    let addr = dc.addr;
    thread::spawn(move || {
        loop {
            let Some(mut session) = dc.accept_within(Duration::from_secs(60)) else { return };
            session.from.recv(7);
            session.to.send(b"here");
        }
    });
    addr
}

fn with(change: impl FnOnce(Config) -> Config) -> Fixture {
    let (dc, front, secret) = (answer_all(Dc::listen()), Front::listen(), Secret::new(HOST));
    let config = Config::new(dc, front.addr).user("alice", &secret);
    Fixture { proxy: change(config).start(), dc: Dc::listen(), front, secret }
}

fn with_addresses(addrs: &[SocketAddr]) -> Fixture {
    let list: Vec<String> = addrs.iter().map(|addr| format!("\"{addr}\"")).collect();
    let list = format!("[{}]", list.join(", "));
    with(|config| config.set("telegram.dc-overrides", "2", &list))
}

fn explained(fixture: &Fixture) -> String {
    stats::get(fixture.proxy.api, "/explain/alice?text").body
}

#[test]
fn a_proxy_that_says_yes_and_closes_later_comes_last_and_is_named() {
    let bad = SocksServer::listen(SocksBehaviour {
        dead_end: Some(DeadEnd::ClosedLater),
        ..SocksBehaviour::default()
    });
    let good = SocksServer::listen(SocksBehaviour::default());
    let list = format!("[{:?}, {:?}]", bad.url(), good.url());
    let fixture = with(|config| config.set("network", "proxies", &list));
    while bad.connections() == 0 {
        is_served(&fixture);
    }
    for _ in 0..12 {
        assert!(is_served(&fixture), "{}", explained(&fixture));
    }
    assert_eq!(bad.connections(), 1);
    let why = "closed before the first byte of the destination";
    let line = format!("event=dial-failed addr={0} error=\"{why}\" proxy={0}", bad.addr);
    eventually("it is named in the log", || fixture.proxy.log().contains(&line));
    let explained = explained(&fixture);
    assert!(explained.contains(&format!("{}: {why}", bad.addr)), "{explained}");
    assert!(explained.contains("reaches Telegram") && !explained.contains("set network.proxies"));
    let proxies = fixture.proxy.stats()["proxies"].as_array().expect("a list").clone();
    let failures = |socks: &SocksServer| {
        let one = proxies.iter().find(|one| one["address"] == socks.addr.to_string());
        one.expect("a proxy")["failures"].as_u64()
    };
    assert_eq!((failures(&bad), failures(&good)), (Some(1), Some(0)));
}

#[test]
fn an_address_that_closes_comes_last_and_is_named() {
    for does in [Does::ClosesAtOnce, Does::ClosesAfterBytes] {
        let (bad, good) = (DeadAddress::listen(does), answer_all(Dc::listen()));
        let fixture = with_addresses(&[bad.addr, good]);
        while bad.asked() == 0 {
            is_served(&fixture);
        }
        for _ in 0..12 {
            assert!(is_served(&fixture), "{}", explained(&fixture));
        }
        assert_eq!(bad.asked(), 1);
        let line = format!("event=dial-failed addr={} error=\"closed before", bad.addr);
        eventually("it is named in the log", || fixture.proxy.log().contains(&line));
        let named = format!("{}: took the connection, and sent no byte", bad.addr);
        let explained = explained(&fixture);
        assert!(explained.contains(&named) && explained.contains("set network.proxies"));
    }
}

#[test]
fn an_address_that_stays_silent_comes_last_although_the_app_waits() {
    let (bad, good) = (DeadAddress::listen(Does::StaysSilent), answer_all(Dc::listen()));
    let fixture = with_addresses(&[bad.addr, good]);
    let mut waiting = Vec::new();
    while bad.asked() == 0 {
        let mut client = Client::open(fixture.proxy.addr, &fixture.secret);
        client.up.send(b"anyone?");
        waiting.push(client);
    }
    let line = format!("event=dial-failed addr={} error=\"no byte of the dest", bad.addr);
    eventually("it is named in the log", || fixture.proxy.log().contains(&line));
    let asked = bad.asked();
    for _ in 0..12 {
        assert!(is_served(&fixture), "{}", explained(&fixture));
    }
    assert_eq!(bad.asked(), asked);
}

#[test]
fn with_nothing_but_dead_ends_all_are_still_tried() {
    let bad = [DeadAddress::listen(Does::ClosesAtOnce), DeadAddress::listen(Does::ClosesAtOnce)];
    let fixture = with_addresses(&[bad[0].addr, bad[1].addr]);
    for _ in 0..6 {
        assert!(!is_served(&fixture));
    }
    let asked = bad.each_ref().map(DeadAddress::asked);
    assert!(asked.iter().all(|count| *count > 0) && asked.iter().sum::<usize>() >= 6, "{asked:?}");

    let socks = |_| {
        let dead_end = Some(DeadEnd::ClosedLater);
        SocksServer::listen(SocksBehaviour { dead_end, ..SocksBehaviour::default() })
    };
    let bad = [0, 1].map(socks);
    let list = format!("[{:?}, {:?}]", bad[0].url(), bad[1].url());
    let fixture = with(|config| config.set("network", "proxies", &list));
    for _ in 0..4 {
        assert!(!is_served(&fixture));
    }
    assert!(bad.iter().all(|one| one.connections() > 0));
}

#[test]
fn a_direct_connection_that_leads_nowhere_comes_after_the_proxies() {
    let bad = DeadAddress::listen(Does::ClosesAfterBytes);
    let good = SocksServer::listen(SocksBehaviour {
        leads_to: Some(answer_all(Dc::listen())),
        ..SocksBehaviour::default()
    });
    let list = format!("[\"direct\", {:?}]", good.url());
    let address = format!("[\"{}\"]", bad.addr);
    let fixture = with(|config| {
        config.set("network", "proxies", &list).set("telegram.dc-overrides", "2", &address)
    });
    while bad.asked() == 0 {
        is_served(&fixture);
    }
    for _ in 0..12 {
        assert!(is_served(&fixture), "{}", explained(&fixture));
    }
    let explained = explained(&fixture);
    assert!(explained.contains("each entry of network.proxies"), "{explained}");
}

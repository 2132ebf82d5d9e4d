//! Metrics for statsd, by datagrams (spec: stats 6): in three dialects, whenever something has
//! happened, and never a moment of anybody's time while nothing does.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::thread;

use nix::sys::signal::Signal;

use crate::support::client::Client;
use crate::support::dc::Dc;
use crate::support::eventually;
use crate::support::hello::{Hello, Secret, Shape};
use crate::support::origin::Origin;
use crate::support::peer::Peer;
use crate::support::prometheus;
use crate::support::proxy::{Config, free_port};
use crate::support::stage::{HOST, Stage};
use crate::support::stats;

/// A collector of statsd: the latest gauges, the sums of the counters.
struct Collector {
    socket: UdpSocket,
}

impl Collector {
    fn listen() -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        socket.set_nonblocking(true).unwrap();
        Self { socket }
    }

    fn config(&self, config: Config, tags: &str) -> Config {
        let addr = self.socket.local_addr().unwrap();
        config
            .set("stats.statsd", "enabled", "true")
            .set("stats.statsd", "address", &format!("\"{addr}\""))
            .set("stats.statsd", "tag-format", &format!("{tags:?}"))
    }

    /// Adds what has come to the numbers.
    fn collect(&self, numbers: &mut BTreeMap<String, u64>) {
        let mut datagram = [0; 4096];
        while let Ok(count) = self.socket.recv(&mut datagram) {
            assert!(count <= 1432);
            let text = std::str::from_utf8(&datagram[..count]).expect("text");
            assert!(!text.ends_with('\n'));
            for line in text.lines() {
                let (name, value, kind) = dissect(line);
                let number = numbers.entry(name).or_default();
                match kind {
                    'g' => *number = value,
                    'c' => *number += value,
                    other => panic!("{other} in {line}"),
                }
            }
        }
    }

    fn wait_for(&self, wanted: &[(String, u64)]) {
        let mut numbers = BTreeMap::new();
        eventually(&format!("{wanted:?}"), || {
            self.collect(&mut numbers);
            wanted.iter().all(|(name, value)| numbers.get(name) == Some(value))
        });
    }
}

/// `name;labels`, value and kind of a line in any of the dialects.
fn dissect(line: &str) -> (String, u64, char) {
    let (line, labels) = line.split_once("|#").unwrap_or((line, ""));
    let (head, kind) = line.rsplit_once('|').expect("a kind");
    let (name, value) = head.rsplit_once(':').expect("a value");
    let value = value.parse().unwrap_or_else(|_| panic!("{value} is no absolute number"));
    let name = if labels.is_empty() { name.to_owned() } else { format!("{name}|{labels}") };
    (name, value, kind.chars().next().expect("a letter"))
}

/// Gotcha D11: the reference glues prefix and name, and its gauges drift.
#[test]
fn statsd_hears_absolute_gauges_and_growing_counters_in_each_dialect() {
    for (tags, labels) in [
        ("datadog", "|telegram_ip:127.0.0.1,dc:2"),
        ("influxdb", ",telegram_ip=127.0.0.1,dc=2"),
        ("graphite", ";telegram_ip=127.0.0.1,dc=2"),
    ] {
        let labels = if tags == "graphite" { labels.replace(',', ";") } else { labels.to_owned() };
        let family = match tags {
            "datadog" => "|ip_family:ipv4",
            "influxdb" => ",ip_family=ipv4",
            _ => ";ip_family=ipv4",
        };
        let collector = Collector::listen();
        let stage = Stage::with(|config| collector.config(config, tags));
        collector.wait_for(&[(format!("mtg.client_connections{family}"), 0)]);
        let (mut client, mut session) = stage.session();
        client.up.send(&[7; 500]);
        session.from.recv(500);
        let traffic = match tags {
            "datadog" => format!("{labels},direction:from_client"),
            "influxdb" => format!("{labels},direction=from_client"),
            _ => format!("{labels};direction=from_client"),
        };
        collector.wait_for(&[
            (format!("mtg.client_connections{family}"), 1),
            (format!("mtg.telegram_connections{labels}"), 1),
            (format!("mtg.telegram_traffic{traffic}"), 500),
        ]);
        drop((client, session));
        collector.wait_for(&[
            (format!("mtg.client_connections{family}"), 0),
            (format!("mtg.telegram_connections{labels}"), 0),
        ]);
    }
}

#[test]
fn nothing_is_sent_and_nobody_wakes_while_nothing_happens() {
    let collector = Collector::listen();
    let stage = Stage::with(|config| collector.config(config, "datadog"));
    let (mut numbers, mut quiet) = (BTreeMap::new(), 0);
    eventually("it falls silent", || {
        let before = numbers.len();
        collector.collect(&mut numbers);
        quiet = if numbers.len() == before { quiet + 1 } else { 0 };
        quiet > 300
    });
    let before = stage.proxy.wake_ups();
    assert!(!crate::support::holds_within(crate::support::QUIET, || {
        collector.socket.recv(&mut [0; 2048]).is_ok() || stage.proxy.wake_ups() > before
    }));
}

/// A tick of the throttle is no event of the poller's, and still it changes a number.
#[test]
fn what_a_timer_changes_is_told_too() {
    let collector = Collector::listen();
    let stage = Stage::with(|config| {
        let config = config.set("throttle", "max-connections", "1");
        collector.config(config.set("throttle", "check-interval", "\"4s\""), "datadog")
    });
    let session = stage.session();
    let mut over = Peer::connect("one too many", stage.proxy.addr);
    over.send(&Hello::fresh(&stage.secret, Shape::PostQuantum).wire);
    let visit = stage.origin.visit();
    collector.wait_for(&[("mtg.throttle_active".to_owned(), 1)]);
    drop((session, over, visit));
    collector.wait_for(&[("mtg.throttle_active".to_owned(), 0)]);
}

#[test]
fn the_end_of_the_program_tells_all_that_was_counted() {
    let collector = Collector::listen();
    let mut stage = Stage::with(|config| collector.config(config, "datadog"));
    let (mut client, mut session) = stage.session();
    let mut numbers = BTreeMap::new();
    for _ in 0..3 {
        client.up.send(&[7; 1000]);
        session.from.recv(1000);
    }
    stage.proxy.signal(Signal::SIGTERM);
    assert_eq!(stage.proxy.wait_for_exit().code(), Some(0));
    collector.collect(&mut numbers);
    let traffic = "mtg.telegram_traffic|telegram_ip:127.0.0.1,dc:2,direction:from_client";
    assert_eq!(numbers.get(traffic), Some(&3000));
    assert_eq!(numbers.get("mtg.client_connections|ip_family:ipv4"), Some(&0));
}

#[test]
fn a_collector_that_is_new_hears_of_what_comes_and_not_of_what_was() {
    let (old, new) = (Collector::listen(), Collector::listen());
    let (dc, origin, secret) = (Dc::listen(), Origin::listen(), Secret::new(HOST));
    let config = Config::new(dc.addr, origin.addr).user("alice", &secret);
    let mut proxy = old.config(config.clone(), "datadog").start();
    let mut client = Client::open(proxy.addr, &secret);
    let mut session = dc.accept();
    let traffic = "mtg.telegram_traffic|telegram_ip:127.0.0.1,dc:2,direction:from_client";
    client.up.send(&[7; 700]);
    session.from.recv(700);
    old.wait_for(&[(traffic.to_owned(), 700)]);
    proxy.reload(&new.config(config, "datadog"));
    client.up.send(&[7; 11]);
    session.from.recv(11);
    new.wait_for(&[
        (traffic.to_owned(), 11),
        ("mtg.client_connections|ip_family:ipv4".to_owned(), 1),
    ]);
}

#[test]
fn a_collector_that_is_not_there_costs_nothing() {
    let [gone, metrics] = [0; 2].map(|_| SocketAddr::from((Ipv4Addr::LOCALHOST, free_port())));
    let stage = Stage::with(|config| {
        config
            .set("stats.statsd", "enabled", "true")
            .set("stats.statsd", "address", &format!("\"{gone}\""))
            .set("stats.prometheus", "enabled", "true")
            .set("stats.prometheus", "bind-to", &format!("\"{metrics}\""))
    });
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut client = Client::open(stage.proxy.addr, &stage.secret);
                client.up.send(b"hi");
            });
        }
        (0..4).for_each(|_| assert_eq!(stage.dc.accept().from.recv(2), b"hi"));
    });
    eventually("it says so, quietly", || {
        stage.proxy.log().contains("level=debug event=statsd-send-failed")
    });
    let page = prometheus::parse(&stats::get(metrics, "/").body);
    assert!(page.number("mtg_statsd_lost_total") > 0);
    let late = UdpSocket::bind(gone).unwrap();
    late.set_read_timeout(Some(crate::support::PATIENCE)).unwrap();
    let (_client, _session) = stage.session();
    assert!(late.recv(&mut [0; 2048]).unwrap() > 0, "it is told as soon as it is there");
}

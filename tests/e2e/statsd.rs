//! Metrics for statsd as datagrams (COMPATIBILITY 6.6), in three formats. Nothing is sent while
//! nothing changes.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::thread;

use nix::sys::signal::Signal;

use crate::support::client::Client;
use crate::support::dc::Dc;
use crate::support::eventually;
use crate::support::fixture::{Fixture, HOST};
use crate::support::front::Front;
use crate::support::hello::{App, Hello, Secret};
use crate::support::peer::Peer;
use crate::support::prometheus;
use crate::support::proxy::{Config, free_port};
use crate::support::stats;

/// A statsd server. It keeps the latest gauges and the sums of the counters.
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

    /// Adds the received datagrams to the numbers.
    fn collect(&self, numbers: &mut BTreeMap<String, u64>) {
        let mut datagram = [0; 4096];
        while let Ok(count) = self.socket.recv(&mut datagram) {
            assert!(count <= 1432);
            let text = std::str::from_utf8(&datagram[..count]).expect("text");
            assert!(!text.ends_with('\n'));
            for line in text.lines() {
                let (name, value, kind) = parse_line(line);
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

/// `name;labels`, value and type of a line in any of the formats.
fn parse_line(line: &str) -> (String, u64, char) {
    let (line, labels) = line.split_once("|#").unwrap_or((line, ""));
    let (head, kind) = line.rsplit_once('|').expect("a kind");
    let (name, value) = head.rsplit_once(':').expect("a value");
    let value = value.parse().unwrap_or_else(|_| panic!("{value} is no absolute number"));
    let name = if labels.is_empty() { name.to_owned() } else { format!("{name}|{labels}") };
    (name, value, kind.chars().next().expect("a letter"))
}

/// COMPATIBILITY D11: the reference joins prefix and name without a dot, and its gauges drift.
#[test]
fn statsd_gets_absolute_gauges_and_growing_counters_in_each_format() {
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
        let fixture = Fixture::with(|config| collector.config(config, tags));
        collector.wait_for(&[(format!("mtg.client_connections{family}"), 0)]);
        let (mut client, mut session) = fixture.session();
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
fn nothing_is_sent_and_the_program_sleeps_while_nothing_happens() {
    let collector = Collector::listen();
    let fixture = Fixture::with(|config| collector.config(config, "datadog"));
    let (mut numbers, mut quiet) = (BTreeMap::new(), 0);
    eventually("it sends nothing more", || {
        let before = numbers.len();
        collector.collect(&mut numbers);
        quiet = if numbers.len() == before { quiet + 1 } else { 0 };
        quiet > 300
    });
    let before = fixture.proxy.wake_ups();
    assert!(!crate::support::holds_within(crate::support::QUIET, || {
        collector.socket.recv(&mut [0; 2048]).is_ok() || fixture.proxy.wake_ups() > before
    }));
}

/// A timer of the throttle changes a metric without an event of the poller.
#[test]
fn a_change_by_a_timer_is_sent_too() {
    let collector = Collector::listen();
    let fixture = Fixture::with(|config| {
        let config = config.set("throttle", "max-connections", "1");
        collector.config(config.set("throttle", "check-interval", "\"4s\""), "datadog")
    });
    let session = fixture.session();
    let mut over = Peer::connect("one too many", fixture.proxy.addr);
    over.send(&Hello::new(&fixture.secret, App::PostQuantum).wire);
    let conn = fixture.front.accept();
    collector.wait_for(&[("mtg.throttle_active".to_owned(), 1)]);
    drop((session, over, conn));
    collector.wait_for(&[("mtg.throttle_active".to_owned(), 0)]);
}

#[test]
fn the_end_of_the_program_sends_all_counters() {
    let collector = Collector::listen();
    let mut fixture = Fixture::with(|config| collector.config(config, "datadog"));
    let (mut client, mut session) = fixture.session();
    let mut numbers = BTreeMap::new();
    for _ in 0..3 {
        client.up.send(&[7; 1000]);
        session.from.recv(1000);
    }
    fixture.proxy.signal(Signal::SIGTERM);
    assert_eq!(fixture.proxy.wait_for_exit().code(), Some(0));
    collector.collect(&mut numbers);
    let traffic = "mtg.telegram_traffic|telegram_ip:127.0.0.1,dc:2,direction:from_client";
    assert_eq!(numbers.get(traffic), Some(&3000));
    assert_eq!(numbers.get("mtg.client_connections|ip_family:ipv4"), Some(&0));
}

#[test]
fn a_new_collector_gets_later_changes_and_no_earlier_ones() {
    let (old, new) = (Collector::listen(), Collector::listen());
    let (dc, front, secret) = (Dc::listen(), Front::listen(), Secret::new(HOST));
    let config = Config::new(dc.addr, front.addr).user("alice", &secret);
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
fn a_missing_collector_costs_nothing() {
    let [gone, metrics] = [0; 2].map(|_| SocketAddr::from((Ipv4Addr::LOCALHOST, free_port())));
    let fixture = Fixture::with(|config| {
        config
            .set("stats.statsd", "enabled", "true")
            .set("stats.statsd", "address", &format!("\"{gone}\""))
            .set("stats.prometheus", "enabled", "true")
            .set("stats.prometheus", "bind-to", &format!("\"{metrics}\""))
    });
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut client = Client::open(fixture.proxy.addr, &fixture.secret);
                client.up.send(b"hi");
            });
        }
        (0..4).for_each(|_| assert_eq!(fixture.dc.accept().from.recv(2), b"hi"));
    });
    eventually("it is logged at debug", || {
        fixture.proxy.log().contains("level=debug event=statsd-send-failed")
    });
    let page = prometheus::parse(&stats::get(metrics, "/").body);
    assert!(page.number("mtg_statsd_lost_total") > 0);
    let late = UdpSocket::bind(gone).unwrap();
    late.set_read_timeout(Some(crate::support::TIMEOUT)).unwrap();
    let (_client, _session) = fixture.session();
    assert!(late.recv(&mut [0; 2048]).unwrap() > 0, "it is sent as soon as the receiver listens");
}

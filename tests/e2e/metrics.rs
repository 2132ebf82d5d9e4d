//! Metrics: for Prometheus by HTTP, for statsd by datagrams, both with the names of the reference,
//! and never a moment of anybody's time while nobody asks.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::thread;

use crate::support::dc::Dc;
use crate::support::eventually;
use crate::support::hello::Secret;
use crate::support::lists::{Folder, with_list};
use crate::support::origin::Origin;
use crate::support::peer::Peer;
use crate::support::prometheus::{self, Page};
use crate::support::proxy::{Config, free_port};
use crate::support::stage::{HOST, Stage};
use crate::support::stats;

/// A stage that serves metrics at this address.
fn stage(change: impl FnOnce(Config) -> Config) -> (Stage, SocketAddr) {
    let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
    let stage = Stage::with(|config| change(serving(config, &addr.to_string())));
    (stage, addr)
}

fn serving(config: Config, bind: &str) -> Config {
    config.set("stats.prometheus", "enabled", "true").set(
        "stats.prometheus",
        "bind-to",
        &format!("{bind:?}"),
    )
}

fn page(addr: SocketAddr) -> Page {
    let reply = stats::get(addr, "/");
    assert_eq!(reply.status, 200);
    assert_eq!(reply.header("Content-Type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    prometheus::parse(&reply.body)
}

#[test]
fn every_number_of_the_reference_moves_when_it_should() {
    let folder = Folder::new();
    let list = folder.write("block.netset", "127.0.0.7\n127.0.1.0/24\n");
    let (stage, addr) = stage(|config| with_list(config, "blocklist", &list));
    let ip = stage.dc.addr.ip().to_string();
    let telegram = format!("{{dc=\"2\",telegram_ip=\"{ip}\"}}");
    let still = page(addr);
    for (name, kind) in [
        ("client_connections", "gauge"),
        ("telegram_connections", "gauge"),
        ("domain_fronting_connections", "gauge"),
        ("iplist_size", "gauge"),
        ("telegram_traffic", "counter"),
        ("domain_fronting_traffic", "counter"),
        ("ip_blocklisted", "counter"),
        ("domain_fronting", "counter"),
        ("concurrency_limited", "counter"),
        ("replay_attacks", "counter"),
    ] {
        assert_eq!(still.kind(&format!("mtg_{name}")), Some(kind), "{name}");
        let alias = still.kind(&format!("mtg_{name}_total"));
        assert_eq!(alias, Some("counter").filter(|_| kind == "counter"), "{name}");
    }
    assert_eq!(still.number("mtg_client_connections{ip_family=\"ipv4\"}"), 0);

    let (mut client, mut session) = stage.session();
    client.up.send(&[1; 1000]);
    session.from.recv(1000);
    session.to.send(&[2; 3000]);
    client.down.recv(3000);
    let mut stranger = Peer::connect("prober", stage.proxy.addr);
    stranger.send(b"GET / HTTP/1.1\r\n\r\n");
    let mut visit = stage.origin.visit();
    visit.peer.send(b"HTTP/1.1 200 OK\r\n\r\n");
    stranger.recv(19);
    let mut blocked = Peer::connect_from("client", [127, 0, 0, 7].into(), stage.proxy.addr);
    assert!(blocked.recv_rest().0.is_empty());

    let traffic = |direction| {
        let labels = format!("dc=\"2\",direction=\"{direction}\",telegram_ip=\"{ip}\"");
        format!("mtg_telegram_traffic{{{labels}}}")
    };
    let expected = [
        ("mtg_client_connections{ip_family=\"ipv4\"}".to_owned(), 2),
        ("mtg_client_connections{ip_family=\"ipv6\"}".to_owned(), 0),
        ("mtg_domain_fronting_connections{ip_family=\"ipv4\"}".to_owned(), 1),
        (format!("mtg_telegram_connections{telegram}"), 1),
        (traffic("from_client"), 1000),
        (traffic("to_client"), 3000),
        ("mtg_domain_fronting_traffic{direction=\"from_client\"}".to_owned(), 18),
        ("mtg_domain_fronting_traffic{direction=\"to_client\"}".to_owned(), 19),
        ("mtg_domain_fronting".to_owned(), 1),
        ("mtg_domain_fronting_total".to_owned(), 1),
        ("mtg_iplist_size{ip_list=\"blocklist\"}".to_owned(), 2),
        ("mtg_ip_blocklisted{ip_list=\"blocklist\"}".to_owned(), 1),
        ("mtg_user_connections".to_owned(), 1),
    ];
    eventually("all numbers are there", || {
        let page = page(addr);
        expected.iter().all(|(sample, number)| page.get(sample) == Some(*number))
    });
    drop((client, session, stranger, visit));
    eventually("what stands comes back to zero", || {
        let page = page(addr);
        page.number("mtg_client_connections{ip_family=\"ipv4\"}") == 0
            && page.number("mtg_domain_fronting_connections{ip_family=\"ipv4\"}") == 0
            && page.number(&format!("mtg_telegram_connections{telegram}")) == 0
    });
    assert_eq!(page(addr).number("mtg_domain_fronting"), 1, "what was counted stays");
}

#[test]
fn users_are_told_of_on_request_whatever_they_are_called() {
    let names = ["alice", "a\"b\\c", "zoé <&> \u{1f600}"];
    let (dc, origin) = (Dc::listen(), Origin::listen());
    let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
    let mut config = serving(Config::new(dc.addr, origin.addr), &addr.to_string());
    for name in names {
        config = config.user(name, &Secret::new(HOST));
    }
    let mut proxy = config.clone().start();
    assert!(page(addr).labels("mtg_user_sessions").is_empty(), "nobody was asked for");
    proxy.reload(&config.set("stats.prometheus", "per-user", "true"));
    let page = page(addr);
    for family in ["sessions", "bytes_in_total", "bytes_out_total", "last_seen_seconds"] {
        let labels = page.labels(&format!("mtg_user_{family}"));
        let told: BTreeSet<String> = labels.iter().map(|labels| labels["user"].clone()).collect();
        assert_eq!(told, names.map(str::to_owned).into(), "{family}");
    }
}

#[test]
fn the_path_and_the_prefix_are_as_the_config_says() {
    let (stage, addr) = stage(|config| {
        config.set("stats.prometheus", "http-path", "\"/metrics\"").set(
            "stats.prometheus",
            "metric-prefix",
            "\"box7\"",
        )
    });
    assert_eq!(stats::get(addr, "/").status, 404);
    assert_eq!(stats::get(addr, "/stats").status, 404, "that is elsewhere");
    let reply = stats::get(addr, "/metrics?x=1");
    assert!(prometheus::parse(&reply.body).get("box7_domain_fronting") == Some(0));
    assert_eq!(stats::get(stage.proxy.api, "/metrics").status, 404);
    assert_eq!(stats::ask(addr, b"POST /metrics HTTP/1.0\r\n\r\n").status, 405);
    assert_eq!(stats::ask(addr, b"HEAD /metrics HTTP/1.0\r\n\r\n").body, "");
}

#[test]
fn stats_and_metrics_share_an_address_and_move_live() {
    let (dc, origin) = (Dc::listen(), Origin::listen());
    let config = Config::new(dc.addr, origin.addr).user("alice", &Secret::new(HOST));
    let shared = serving(config.clone(), "{api}");
    let mut proxy = shared.clone().start();
    assert_eq!(stats::get(proxy.api, "/stats").status, 200);
    assert!(stats::get(proxy.api, "/").body.contains("mtg_domain_fronting 0"));
    let elsewhere = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
    proxy.reload(&serving(config.clone(), &elsewhere.to_string()));
    assert_eq!(stats::get(proxy.api, "/").status, 404);
    assert_eq!(page(elsewhere).number("mtg_domain_fronting"), 0);
    proxy.reload(&config);
    eventually("nobody listens there", || std::net::TcpStream::connect(elsewhere).is_err());
    proxy.reload(&shared);
    assert!(stats::get(proxy.api, "/").body.contains("mtg_domain_fronting 0"));
}

/// The reference does not start (spec: stats 5); a family needs its proxy more than its metrics.
#[test]
fn an_address_that_is_taken_costs_the_metrics_and_nothing_else() {
    let taken = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, free_port())).unwrap();
    let bind = taken.local_addr().unwrap().to_string();
    let stage = Stage::with(|config| serving(config, &bind));
    assert!(stage.proxy.log().contains("level=warn event=metrics-off"));
    let (mut client, mut session) = stage.session();
    client.up.send(b"hi");
    assert_eq!(session.from.recv(2), b"hi");
}

#[test]
fn a_unix_socket_serves_the_same_and_goes_with_the_program() {
    let folder = Folder::new();
    let (stats_at, metrics_at) = (folder.path().join("s.sock"), folder.path().join("m.sock"));
    // What a program that was killed left behind.
    drop(std::os::unix::net::UnixListener::bind(&metrics_at).unwrap());
    let (dc, origin) = (Dc::listen(), Origin::listen());
    let config = Config::new(dc.addr, origin.addr).user("alice", &Secret::new(HOST));
    let config = serving(config, &format!("unix:{}", metrics_at.display()));
    let mut proxy = config.clone().start();
    assert!(stats::unix(&metrics_at, "/").contains("mtg_domain_fronting 0"));
    let moved = config.clone().set("", "api-bind-to", &format!("\"unix:{}\"", stats_at.display()));
    proxy.reload(&moved);
    assert!(stats::unix(&stats_at, "/stats").contains("\"alice\""));
    proxy.reload(&config);
    assert!(!stats_at.exists());
    proxy.stats();
    proxy.signal(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(proxy.wait_for_exit().code(), Some(0));
    assert!(!metrics_at.exists());
}

#[test]
fn slow_readers_of_metrics_hold_up_nobody() {
    let (stage, addr) = stage(|config| config);
    let mut slow: Vec<Peer> = (0..12).map(|_| Peer::connect("scraper", addr)).collect();
    for peer in &mut slow {
        peer.send(b"GET / HT");
    }
    let (mut client, mut session) = stage.session();
    client.up.send(b"hi");
    assert_eq!(session.from.recv(2), b"hi");
    for peer in &mut slow[..8] {
        assert!(peer.recv_rest().0.starts_with(b"HTTP/1.0 408"));
    }
    drop(slow);
    assert_eq!(page(addr).number("mtg_domain_fronting"), 0);
}

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

#[test]
fn a_collector_that_is_not_there_costs_nothing() {
    let gone = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
    let stage = Stage::with(|config| {
        config.set("stats.statsd", "enabled", "true").set(
            "stats.statsd",
            "address",
            &format!("\"{gone}\""),
        )
    });
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut client =
                    crate::support::client::Client::open(stage.proxy.addr, &stage.secret);
                client.up.send(b"hi");
            });
        }
        (0..4).for_each(|_| assert_eq!(stage.dc.accept().from.recv(2), b"hi"));
    });
    eventually("it says so, quietly", || {
        stage.proxy.log().contains("level=debug event=statsd-lost")
    });
    let late = UdpSocket::bind(gone).unwrap();
    late.set_read_timeout(Some(crate::support::PATIENCE)).unwrap();
    let (_client, _session) = stage.session();
    assert!(late.recv(&mut [0; 2048]).unwrap() > 0, "it is told as soon as it is there");
}

/// Every name in the dashboard is one that we serve.
#[test]
fn the_dashboard_asks_for_what_there_is() {
    let text = include_str!("../../docs/grafana.json");
    let board: serde_json::Value = serde_json::from_str(text).expect("JSON");
    let socks = crate::support::socks::Socks::listen(Default::default());
    let folder = Folder::new();
    let list = folder.write("block.netset", "127.0.0.7\n");
    let (stage, addr) = stage(|config| {
        let config = config
            .set("stats.prometheus", "per-user", "true")
            .set("throttle", "max-connections", "9")
            .set("network", "proxies", &format!("[{:?}]", socks.url()));
        with_list(config, "blocklist", &list)
    });
    let (_client, _session) = stage.session();
    let page = page(addr);
    let mut asked = 0;
    let panels = board["panels"].as_array().expect("panels");
    for target in panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten() {
        let expression = target["expr"].as_str().expect("an expression");
        for name in expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_') {
            if name.starts_with("mtg_") {
                assert!(page.kind(name).is_some(), "{name} in {expression}");
                asked += 1;
            }
        }
    }
    assert!(asked >= 15 && board["__inputs"][0]["pluginId"] == "prometheus");
}

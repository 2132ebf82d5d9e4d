//! Metrics for Prometheus over HTTP: the names of the reference and more, valid for strict parsers
//! (COMPATIBILITY 6.5).

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::support::client::{Client, Handshake};
use crate::support::dc::Dc;
use crate::support::eventually;
use crate::support::fixture::{Fixture, HOST};
use crate::support::front::Front;
use crate::support::hello::{App, Hello, Secret};
use crate::support::lists::{Folder, with_list};
use crate::support::obfuscated2::DD;
use crate::support::peer::Peer;
use crate::support::prometheus::{self, Page};
use crate::support::proxy::{Config, free_port};
use crate::support::proxy_header::{announcing, binary};
use crate::support::socks::SocksServer;
use crate::support::stats;

/// A fixture, and the address of its metrics.
fn fixture(change: impl FnOnce(Config) -> Config) -> (Fixture, SocketAddr) {
    let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
    let fixture = Fixture::with(|config| change(serving(config, &addr.to_string())));
    (fixture, addr)
}

fn serving(config: Config, bind: &str) -> Config {
    config.set("stats.prometheus", "enabled", "true").set(
        "stats.prometheus",
        "bind-to",
        &format!("{bind:?}"),
    )
}

/// All metrics of a user.
const USER_FAMILIES: [&str; 5] =
    ["sessions", "bytes_in_total", "bytes_out_total", "refused_total", "last_seen_seconds"];

fn page(addr: SocketAddr) -> Page {
    let reply = stats::get(addr, "/");
    assert_eq!(reply.status, 200);
    assert_eq!(reply.header("Content-Type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    prometheus::parse(&reply.body)
}

#[test]
fn every_metric_of_the_reference_is_counted() {
    let folder = Folder::new();
    let list = folder.write("block.netset", "127.0.0.7\n127.0.1.0/24\n");
    let (fixture, addr) = fixture(|config| with_list(config, "blocklist", &list));
    let ip = fixture.dc.addr.ip().to_string();
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

    let (mut client, mut session) = fixture.session();
    client.up.send(&[1; 1000]);
    session.from.recv(1000);
    session.to.send(&[2; 3000]);
    client.down.recv(3000);
    let mut prober = Peer::connect("prober", fixture.proxy.addr);
    prober.send(b"GET / HTTP/1.1\r\n\r\n");
    let mut conn = fixture.front.accept();
    conn.peer.send(b"HTTP/1.1 200 OK\r\n\r\n");
    prober.recv(19);
    let mut blocked = Peer::connect_from("client", [127, 0, 0, 7].into(), fixture.proxy.addr);
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
    eventually("all metrics are counted", || {
        let page = page(addr);
        expected.iter().all(|(sample, number)| page.get(sample) == Some(*number))
    });
    drop((client, session, prober, conn));
    eventually("all gauges return to zero", || {
        let page = page(addr);
        page.number("mtg_client_connections{ip_family=\"ipv4\"}") == 0
            && page.number("mtg_domain_fronting_connections{ip_family=\"ipv4\"}") == 0
            && page.number(&format!("mtg_telegram_connections{telegram}")) == 0
    });
    assert_eq!(page(addr).number("mtg_domain_fronting"), 1, "counters stay");
}

/// Every kind of refusal and failure, each caused once. COMPATIBILITY D6: no metric of the
/// reference counts a throttled hello.
#[test]
fn every_kind_of_refusal_has_a_metric() {
    let unused = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
    let (fixture, addr) = fixture(|config| {
        config
            .set("", "concurrency", "4")
            .set("", "proxy-protocol-listener", "true")
            .set("stats.prometheus", "per-user", "true")
            .set("throttle", "max-connections", "1")
            .set("throttle", "check-interval", "\"1h\"")
            .set("telegram.dc-overrides", "3", &format!("[\"{unused}\"]"))
    });
    let is = |sample: &str, number: u64| {
        eventually(&format!("{sample} is {number}"), || page(addr).get(sample) == Some(number));
    };
    let family = |name: &str, family: &str| format!("mtg_{name}{{ip_family=\"{family}\"}}");
    let refused = "mtg_user_refused_total{user=\"alice\"}";
    is("mtg_client_connections_limit", 4);
    is("mtg_domain_fronting_connections_limit", 4);
    is("mtg_throttle_limit", 1);

    // A fronted connection counts for the address family that a balancer announces.
    let [there, here] = ["[2001:db8::7]:1", "[2001:db8::1]:443"].map(|a| a.parse().unwrap());
    let mut prober = Peer::connect("prober", fixture.proxy.addr);
    prober.send(&[&announcing(there, here)[..], b"GET / HTTP/1.1\r\n\r\n"].concat());
    let conn = fixture.front.accept();
    is(&family("client_connections", "ipv6"), 1);
    is(&family("domain_fronting_connections", "ipv6"), 1);
    is(&family("client_connections", "ipv4"), 0);
    drop((prober, conn));
    is(&family("client_connections", "ipv6"), 0);
    is(&family("domain_fronting_connections", "ipv6"), 0);

    let mut garbled = Peer::connect("half a header", fixture.proxy.addr);
    garbled.send(&binary(1, 0x11, &[0; 11]));
    assert!(garbled.recv_rest().0.is_empty());
    is("mtg_bad_proxy_headers_total", 1);

    let hello = Hello::new(&fixture.secret, App::PostQuantum);
    let peer = Peer::connect("client", fixture.proxy.addr);
    let mut client = Handshake::send_hello(peer, &fixture.secret, &hello).send_frame(DD, 3);
    assert!(client.down.recv_rest().0.is_empty(), "no DC listens");
    drop(client);
    is("mtg_telegram_unreachable_total", 1);
    is(refused, 1);
    let mut again = Peer::connect("prober", fixture.proxy.addr);
    again.send(&hello.wire);
    drop((fixture.front.accept(), again));
    is("mtg_replay_attacks", 1);
    is("mtg_domain_fronting", 2);
    is(refused, 2);

    let session = fixture.session();
    let mut over = Peer::connect("one too many", fixture.proxy.addr);
    over.send(&Hello::new(&fixture.secret, App::PostQuantum).wire);
    drop((fixture.front.accept(), over));
    is("mtg_throttled_total", 1);
    is("mtg_throttle_active", 1);
    is("mtg_domain_fronting_total", 3);
    is(refused, 3);
    drop(session);

    is(&family("client_connections", "ipv4"), 0);
    let mut peers: Vec<Peer> =
        (0..4).map(|_| Peer::connect("silent", fixture.proxy.addr)).collect();
    is(&family("client_connections", "ipv4"), 4);
    peers.push(Peer::connect("silent", fixture.proxy.addr));
    is("mtg_concurrency_limited", 1);
    assert_eq!(page(addr).number(&family("client_connections", "ipv4")), 4);
}

#[test]
fn lists_have_metrics_for_their_size_refusals_and_missing_sources() {
    let folder = Folder::new();
    let allowed = folder.write("allow.netset", "127.0.0.1\n");
    let gone = format!("\"http://127.0.0.1:{}/\"", free_port());
    let (fixture, addr) =
        fixture(|config| with_list(with_list(config, "allowlist", &allowed), "blocklist", &gone));
    let mut other = Peer::connect_from("client", [127, 0, 0, 7].into(), fixture.proxy.addr);
    assert!(other.recv_rest().0.is_empty());
    eventually("one list has failed", || {
        page(addr).number("mtg_iplist_failures_total{ip_list=\"blocklist\"}") > 0
    });
    let page = page(addr);
    for (sample, number) in [
        ("iplist_size{ip_list=\"allowlist\"}", 1),
        ("iplist_size{ip_list=\"blocklist\"}", 0),
        ("ip_blocklisted{ip_list=\"allowlist\"}", 1),
        ("ip_blocklisted{ip_list=\"blocklist\"}", 0),
        ("iplist_failures_total{ip_list=\"allowlist\"}", 0),
        ("iplist_updated_seconds{ip_list=\"blocklist\"}", 0),
    ] {
        assert_eq!(page.number(&format!("mtg_{sample}")), number, "{sample}");
    }
    assert!(page.number("mtg_iplist_updated_seconds{ip_list=\"allowlist\"}") > 1_700_000_000);
}

/// A collector refuses a page with a duplicate sample.
#[test]
fn proxies_that_differ_only_in_the_password_are_one_sample() {
    let socks = SocksServer::listen(Default::default());
    let (fixture, addr) = fixture(|config| {
        let list = format!("[\"socks5://a:b@{0}\", \"socks5://c:d@{0}\"]", socks.addr);
        config.set("network", "proxies", &list)
    });
    let sessions: Vec<(Client, _)> = (0..3).map(|_| fixture.session()).collect();
    let page = page(addr);
    let labels = format!("{{proxy=\"{}\"}}", socks.addr);
    assert_eq!(page.number(&format!("mtg_upstream_dials_total{labels}")), 3);
    assert_eq!(page.number(&format!("mtg_upstream_failures_total{labels}")), 0);
    assert_eq!(page.number(&format!("mtg_upstream_up{labels}")), 1);
    drop(sessions);
}

#[test]
fn users_have_metrics_on_request_whatever_their_names() {
    let names = ["alice", "a\"b\\c", "zoé <&> \u{1f600}"];
    let (dc, front) = (Dc::listen(), Front::listen());
    let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
    let mut config = serving(Config::new(dc.addr, front.addr), &addr.to_string());
    for name in names {
        config = config.user(name, &Secret::new(HOST));
    }
    let mut proxy = config.clone().start();
    assert!(page(addr).labels("mtg_user_sessions").is_empty(), "no user was requested");
    proxy.reload(&config.set("stats.prometheus", "per-user", "true"));
    let page = page(addr);
    for family in USER_FAMILIES {
        let labels = page.labels(&format!("mtg_user_{family}"));
        let reported: BTreeSet<String> =
            labels.iter().map(|labels| labels["user"].clone()).collect();
        assert_eq!(reported, names.map(str::to_owned).into(), "{family}");
    }
}

#[test]
fn the_path_and_the_prefix_follow_the_config() {
    let (fixture, addr) = fixture(|config| {
        config.set("stats.prometheus", "http-path", "\"/metrics\"").set(
            "stats.prometheus",
            "metric-prefix",
            "\"box7\"",
        )
    });
    assert_eq!(stats::get(addr, "/").status, 404);
    assert_eq!(stats::get(addr, "/stats").status, 404, "/stats has another listener");
    let reply = stats::get(addr, "/metrics?x=1");
    assert!(prometheus::parse(&reply.body).get("box7_domain_fronting") == Some(0));
    assert_eq!(stats::get(fixture.proxy.api, "/metrics").status, 404);
    assert_eq!(stats::request(addr, b"POST /metrics HTTP/1.0\r\n\r\n").status, 405);
    assert_eq!(stats::request(addr, b"HEAD /metrics HTTP/1.0\r\n\r\n").body, "");
}

#[test]
fn stats_and_metrics_share_an_address_and_move_on_reload() {
    let (dc, front) = (Dc::listen(), Front::listen());
    let config = Config::new(dc.addr, front.addr).user("alice", &Secret::new(HOST));
    let shared = serving(config.clone(), "{api}");
    let mut proxy = shared.clone().start();
    assert_eq!(stats::get(proxy.api, "/stats").status, 200);
    assert!(stats::get(proxy.api, "/").body.contains("mtg_domain_fronting 0"));
    let elsewhere = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
    proxy.reload(&serving(config.clone(), &elsewhere.to_string()));
    assert_eq!(stats::get(proxy.api, "/").status, 404);
    assert_eq!(page(elsewhere).number("mtg_domain_fronting"), 0);
    proxy.reload(&config);
    eventually("the old listener is closed", || std::net::TcpStream::connect(elsewhere).is_err());
    proxy.reload(&shared);
    assert!(stats::get(proxy.api, "/").body.contains("mtg_domain_fronting 0"));
}

/// The reference then does not start (COMPATIBILITY 6.5). Users need the proxy more than its
/// metrics.
#[test]
fn an_address_in_use_disables_the_metrics_and_nothing_else() {
    let taken = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, free_port())).unwrap();
    let bind = taken.local_addr().unwrap().to_string();
    let fixture = Fixture::with(|config| serving(config, &bind));
    assert!(fixture.proxy.log().contains("level=warn event=metrics-off"));
    let (mut client, mut session) = fixture.session();
    client.up.send(b"hi");
    assert_eq!(session.from.recv(2), b"hi");
}

#[test]
fn a_unix_socket_serves_the_same_and_is_removed_at_the_end() {
    let folder = Folder::new();
    let (stats_at, metrics_at) = (folder.path().join("s.sock"), folder.path().join("m.sock"));
    // A socket of a killed program.
    drop(std::os::unix::net::UnixListener::bind(&metrics_at).unwrap());
    let (dc, front) = (Dc::listen(), Front::listen());
    let config = Config::new(dc.addr, front.addr).user("alice", &Secret::new(HOST));
    let config = serving(config, &format!("unix:{}", metrics_at.display()));
    let mut proxy = config.clone().start();
    assert!(stats::get_unix(&metrics_at, "/").contains("mtg_domain_fronting 0"));
    let moved = config.clone().set("", "api-bind-to", &format!("\"unix:{}\"", stats_at.display()));
    proxy.reload(&moved);
    assert!(stats::get_unix(&stats_at, "/stats").contains("\"alice\""));
    proxy.reload(&config);
    assert!(!stats_at.exists());
    proxy.stats();
    proxy.signal(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(proxy.wait_for_exit().code(), Some(0));
    assert!(!metrics_at.exists());
}

#[test]
fn slow_readers_of_metrics_block_no_client() {
    let (fixture, addr) = fixture(|config| config);
    let mut slow: Vec<Peer> = (0..12).map(|_| Peer::connect("scraper", addr)).collect();
    for peer in &mut slow {
        peer.send(b"GET / HT");
    }
    let (mut client, mut session) = fixture.session();
    client.up.send(b"hi");
    assert_eq!(session.from.recv(2), b"hi");
    for peer in &mut slow[..6] {
        assert!(peer.recv_rest().0.starts_with(b"HTTP/1.0 408"));
    }
    drop(slow);
    assert_eq!(page(addr).number("mtg_domain_fronting"), 0);
}

/// The listener of the metrics is often open to a network, that of `/stats` only to the operator.
#[test]
fn slow_readers_of_metrics_do_not_block_the_operator() {
    let (fixture, addr) = fixture(|config| config);
    let answered_in_time = || {
        let slow: Vec<Peer> = (0..12).map(|_| Peer::connect("scraper", addr)).collect();
        // After an answer, the readers that connected before it are accepted.
        (0..3).for_each(|_| drop(fixture.proxy.stats()));
        // None of them was closed for it.
        slow.into_iter().all(|mut peer| !peer.receives_within(Duration::from_millis(1)))
    };
    // Three times, because a machine may stop for seconds.
    assert!((0..3).any(|_| answered_in_time()));
}

#[test]
fn the_heads_of_requests_are_limited_as_those_for_stats() {
    let (_stage, addr) = fixture(|config| config);
    let long = format!("GET / HTTP/1.1\r\nA: {}\r\n\r\n", "a".repeat(3000));
    assert_eq!(stats::request(addr, long.as_bytes()).status, 431);
    assert_eq!(stats::request(addr, b"\x16\x03\x01\x02\x00\x01\x00").status, 400);
}

/// A daemon with every metric.
fn full_metrics(socks: &SocksServer, folder: &Folder) -> (Fixture, SocketAddr) {
    let list = folder.write("block.netset", "127.0.0.7\n");
    let state = format!("{:?}", folder.path().join("state"));
    let (fixture, addr) = fixture(|config| {
        let config = config
            .set("", "state-file", &state)
            .set("stats.prometheus", "per-user", "true")
            .set("stats.statsd", "enabled", "true")
            .set("stats.statsd", "address", &format!("\"127.0.0.1:{}\"", free_port()))
            .set("throttle", "max-connections", "9")
            .set("network", "proxies", &format!("[{:?}]", socks.url()));
        with_list(config, "blocklist", &list)
    });
    (fixture, addr)
}

/// Every metric and every label in the dashboard is served.
#[test]
fn the_dashboard_uses_metrics_that_exist() {
    let text = include_str!("../../docs/grafana.json");
    let board: serde_json::Value = serde_json::from_str(text).expect("JSON");
    let (socks, folder) = (SocksServer::listen(Default::default()), Folder::new());
    let (fixture, addr) = full_metrics(&socks, &folder);
    let (_client, _session) = fixture.session();
    let page = page(addr);
    let mut asked = 0;
    let panels = board["panels"].as_array().expect("panels");
    for target in panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten() {
        let expression = target["expr"].as_str().expect("an expression");
        let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let names: Vec<&str> = words.filter(|word| word.starts_with("mtg_")).collect();
        let [name] = names[..] else { panic!("one name in {expression}") };
        assert!(page.kind(name).is_some(), "{name} in {expression}");
        let labels = page.labels(name);
        let legend = target["legendFormat"].as_str().expect("a legend");
        let shown = legend.split("{{").skip(1).filter_map(|part| part.split("}}").next());
        let grouped = expression.split_once("by (").and_then(|(_, rest)| rest.split(')').next());
        // The collector adds `instance` itself.
        for label in shown.chain(grouped).filter(|label| *label != "instance") {
            assert!(labels.iter().all(|all| all.contains_key(label)), "{label} of {name}");
        }
        assert!(!labels.is_empty(), "{name} has a number");
        asked += 1;
    }
    assert!(asked >= 15 && board["__inputs"][0]["pluginId"] == "prometheus");
}

/// The document lists every metric that is served, and no other.
#[test]
fn the_document_lists_all_metrics() {
    let text = include_str!("../../docs/METRICS.md");
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `"));
    let written: BTreeSet<&str> = rows.filter_map(|row| row.split('`').next()).collect();
    let (socks, folder) = (SocksServer::listen(Default::default()), Folder::new());
    let (fixture, addr) = full_metrics(&socks, &folder);
    let (_client, _session) = fixture.session();
    let page = page(addr);
    for name in &written {
        assert!(page.kind(&format!("mtg_{name}")).is_some(), "{name} is not served");
    }
    for name in page.names() {
        let name = name.strip_prefix("mtg_").expect("our prefix");
        let old = name.strip_suffix("_total").unwrap_or(name);
        assert!(written.contains(name) || written.contains(old), "{name} is not in the document");
    }
}

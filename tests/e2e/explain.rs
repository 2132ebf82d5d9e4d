//! `mtbox explain`: each test causes refusals, and expects the right cause with a remedy
//! (COMPATIBILITY C6, E11: mtg-multi has a single reason and no names).

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use serde_json::Value;

use crate::support::blackhole::BlackHole;
use crate::support::client::{Client, Handshake};
use crate::support::dc::Dc;
use crate::support::fixture::{Fixture, HOST};
use crate::support::front::Front;
use crate::support::hello::{App, Hello, HelloOptions, Secret, unix_now};
use crate::support::lists::{Folder, with_list};
use crate::support::obfuscated2::DD;
use crate::support::peer::Peer;
use crate::support::proxy::{Config, Proxy, free_port};
use crate::support::proxy_header::{announcing, text};
use crate::support::socks::{SocksBehaviour, SocksServer};
use crate::support::stats;
use crate::support::{eventually, holds_within, program};

fn explained(proxy: &Proxy, path: &str) -> Value {
    let reply = stats::get(proxy.api, path);
    assert_eq!(reply.status, 200, "{path}: {}", reply.body);
    serde_json::from_str(&reply.body).expect("JSON")
}

/// Waits until a cause is recorded for a user, or for unauthenticated clients if `user` is empty.
/// Returns its entry.
fn cause(proxy: &Proxy, user: &str, cause: &str) -> Value {
    let mut found = Value::Null;
    eventually(&format!("{cause} of {user:?}"), || {
        let refusals = match user {
            "" => explained(proxy, "/explain")["strangers"].clone(),
            name => explained(proxy, &format!("/explain/{name}"))["refusals"].clone(),
        };
        let entries = refusals.as_array().expect("a list");
        found = entries.iter().find(|e| e["cause"] == cause).cloned().unwrap_or_default();
        !found.is_null()
    });
    assert!(found["remedy"].as_str().expect("a remedy").len() > 10, "{found}");
    assert!(found["count"].as_u64() > Some(0) && found["last"].is_string(), "{found}");
    found
}

/// Connects and sends the first bytes.
fn send(proxy: &Proxy, hello: &[u8]) -> Peer {
    let mut peer = Peer::connect("client", proxy.addr);
    peer.send(hello);
    peer
}

#[test]
fn causes_before_the_answer_are_told_apart() {
    let folder = Folder::new();
    let list = folder.write("block.netset", "127.0.0.7\n");
    let bob = Secret::new(HOST);
    let fixture = Fixture::with(|config| {
        with_list(config, "blocklist", &list)
            .user("bob", &bob)
            .set("", "disabled-users", "[\"bob\"]")
            .set("throttle", "max-connections", "2")
            .set("network.timeout", "handshake", "\"2s\"")
    });
    let proxy = &fixture.proxy;
    let honest = HelloOptions::new(&fixture.secret, App::PostQuantum);
    let off = HelloOptions { clock: unix_now() - 400, ..honest };
    let _late = send(proxy, &Hello::build(&fixture.secret, &off).wire);
    let detail = cause(proxy, "alice", "clock-off")["detail"].as_str().expect("detail").to_owned();
    assert!(detail.contains("40") && detail.contains("s behind"), "{detail}");
    let hello = Hello::new(&fixture.secret, App::PostQuantum);
    let peer = Peer::connect("client", proxy.addr);
    let _first = Handshake::send_hello(peer, &fixture.secret, &hello).send_frame(DD, 2);
    let _again = send(proxy, &hello.wire);
    cause(proxy, "alice", "replay");
    let _second = fixture.session();
    let _third = send(proxy, &Hello::new(&fixture.secret, App::PostQuantum).wire);
    cause(proxy, "alice", "throttled");
    let _off = send(proxy, &Hello::new(&bob, App::PostQuantum).wire);
    cause(proxy, "bob", "disabled");
    let unknown = Secret::new(HOST);
    let _wrong = send(proxy, &Hello::new(&unknown, App::PostQuantum).wire);
    assert_eq!(cause(proxy, "", "wrong-key")["detail"], "from 127.0.0.0/24");
    let _foreign = send(proxy, &Hello::new(&Secret::new("else.example"), App::PostQuantum).wire);
    cause(proxy, "", "unknown-host");
    let _noise = send(proxy, b"GET / HTTP/1.1\r\n\r\n");
    cause(proxy, "", "not-a-client");
    let _half = send(proxy, &hello.wire[..50]);
    cause(proxy, "", "unfinished-hello");
    let mut blocked = Peer::connect_from("client", Ipv4Addr::new(127, 0, 0, 7), proxy.addr);
    assert!(blocked.recv_rest().0.is_empty());
    cause(proxy, "", "blocklisted");

    let alice = explained(proxy, "/stats?explain=alice");
    assert_eq!((&alice["user"], &alice["connections"]), (&"alice".into(), &2.into()));
    assert_eq!(alice["refused"], 3);
    assert!(alice["hints"][0].as_str().expect("a hint").contains("connected, 2"));
    assert_eq!(proxy.number("alice", "refused"), 3);
    let bob = explained(proxy, "/explain/bob");
    assert_eq!(bob["enabled"], false);
    let hints = bob["hints"].to_string();
    assert!(hints.contains("is disabled") && hints.contains("never seen"), "{hints}");
    assert!(hints.contains("1 TLS hellos had a key that matches no user"), "{hints}");
    assert!(hints.contains("unknown-host 1, blocklisted 1; see"), "{hints}");
}

#[test]
fn causes_behind_the_answer_are_told_apart() {
    let closed = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
    let fixture = Fixture::with(|config| {
        config.set("network.timeout", "handshake", "\"1s\"").set(
            "telegram.dc-overrides",
            "4",
            &format!("[\"{closed}\"]"),
        )
    });
    let proxy = &fixture.proxy;
    let connect = || Handshake::connect(proxy.addr, &fixture.secret, App::PostQuantum);
    let mut silent = connect();
    cause(proxy, "alice", "silent");
    silent.peer.recv_rest();
    let _unknown = connect().send_frame(DD, 77);
    assert_eq!(cause(proxy, "alice", "unknown-dc")["detail"], "data centre 77");
    let _dead = connect().send_frame(DD, 4);
    let detail = cause(proxy, "alice", "dc-unreachable")["detail"].to_string();
    assert!(detail.contains(&closed.to_string()) && detail.contains("refused"), "{detail}");
    let (mut client, _session) = fixture.session();
    client.up.send_raw(b"\x16\x03\x01\x00\x01x");
    cause(proxy, "alice", "garbled");
    let (_client, session) = fixture.session();
    session.reset();
    cause(proxy, "alice", "dc-hung-up");
    let (mut well, mut session) = fixture.session();
    session.to.send(b"hello");
    assert_eq!(well.down.recv(5), b"hello");
    session.reset();
    proxy.wait_for_connections("alice", 0);
    assert_eq!(
        cause(proxy, "alice", "dc-hung-up")["count"],
        1,
        "a session with data was no refusal"
    );
}

#[test]
fn only_sessions_that_telegram_closes_first_are_recorded() {
    let fixture = Fixture::new();
    let proxy = &fixture.proxy;
    let (client, mut session) = fixture.session();
    client.up.send_fin();
    session.from.recv_rest();
    session.to.send_fin();
    proxy.wait_for_connections("alice", 0);
    let alice = explained(proxy, "/explain/alice");
    assert_eq!((&alice["refusals"], &alice["refused"]), (&Value::Array(Vec::new()), &0.into()));
    let (_client, session) = fixture.session();
    session.to.send_fin();
    cause(proxy, "alice", "dc-hung-up");
    assert_eq!(explained(proxy, "/explain/alice")["connections"], 1, "the app is still there");
}

#[test]
fn an_app_that_gives_up_on_a_silent_data_centre_is_recorded() {
    let hole = BlackHole::open();
    let fixture = Fixture::with(|config| {
        config.set("telegram.dc-overrides", "2", &format!("[\"{}\"]", hole.addr)).set(
            "network.timeout",
            "tcp",
            "\"25s\"",
        )
    });
    let client = Client::open(fixture.proxy.addr, &fixture.secret);
    fixture.proxy.wait_for_connections("alice", 1);
    let is_recorded = || explained(&fixture.proxy, "/explain/alice")["refused"] != 0;
    assert!(!holds_within(Duration::from_millis(2_500), is_recorded), "the dial is not over");
    client.reset();
    let detail = cause(&fixture.proxy, "alice", "dc-unreachable")["detail"].to_string();
    assert!(detail.contains(&format!("{}: no answer", hole.addr)), "{detail}");
}

#[test]
fn sessions_that_break_later_are_told_apart() {
    let mut fixture = Fixture::with(|config| config.set("network.timeout", "idle", "\"1s\""));
    let (_client, _session) = fixture.session();
    cause(&fixture.proxy, "alice", "idle");
    let config = Config::new(fixture.dc.addr, fixture.front.addr);
    let (_client, _session) = fixture.session();
    fixture.proxy.reload(&config.user("alice", &Secret::new(HOST)));
    cause(&fixture.proxy, "alice", "revoked");
    let alice = explained(&fixture.proxy, "/explain/alice");
    assert_eq!(alice["refused"], 0, "no client was refused: {alice}");
}

#[test]
fn upstreams_and_the_front_are_told_apart() {
    let (no_proxy, no_front) = (free_port(), free_port());
    let fixture = Fixture::with(|config| {
        config
            .set("network", "proxies", &format!("[\"socks5://u:geheim@127.0.0.1:{no_proxy}\"]"))
            .set("domain-fronting", "port", &no_front.to_string())
            .set("", "proxy-protocol-listener", "true")
            .set("", "proxy-protocol-trusted", "[\"127.0.0.9\"]")
    });
    let proxy = &fixture.proxy;
    let _client =
        Handshake::connect(proxy.addr, &fixture.secret, App::PostQuantum).send_frame(DD, 2);
    let detail = cause(proxy, "alice", "proxy-down")["detail"].to_string();
    assert!(detail.contains(&format!("127.0.0.1:{no_proxy}: ")) && !detail.contains("geheim"));
    let _probe = send(proxy, b"GET / HTTP/1.1\r\n\r\n");
    let detail = cause(proxy, "", "front-down")["detail"].to_string();
    assert!(detail.contains(&format!("127.0.0.1:{no_front}: ")), "{detail}");
    assert!(detail.contains("refused"), "{detail}");
    let mut balancer = Peer::connect_from("balancer", Ipv4Addr::new(127, 0, 0, 9), proxy.addr);
    balancer.send(b"PROXY TCP4 not an address\r\n");
    cause(proxy, "", "bad-proxy-header");
}

/// A relay and the config must agree about PROXY headers.
#[test]
fn a_relay_whose_headers_the_config_does_not_expect_is_named_once() {
    let [client, at] = ["203.0.113.9:40001", "192.0.2.1:443"].map(|one| one.parse().unwrap());
    let (v1, v2) = (text(client, at), announcing(client, at));
    let listener = |trusted: &'static str| {
        move |config: Config| {
            let config = config.set("", "proxy-protocol-listener", "true");
            config.set("", "proxy-protocol-trusted", trusted)
        }
    };
    let off = Fixture::new();
    let untrusted = Fixture::with(listener("[\"127.0.0.9\"]"));
    let twice = Fixture::with(listener("[]"));
    for header in [&v1, &v2] {
        for (fixture, name, count) in [
            (&off, "proxy-header-off", 1),
            (&untrusted, "proxy-header-untrusted", 1),
            (&twice, "proxy-header-twice", 2),
        ] {
            let hello = Hello::new(&fixture.secret, App::PostQuantum);
            let opening = [header.repeat(count), hello.wire].concat();
            let _relay = send(&fixture.proxy, &opening);
            let sent_on = opening[header.len() * (count - 1)..].to_vec();
            assert_eq!(fixture.front.accept().first, sent_on, "as the site would get it");
            let found = cause(&fixture.proxy, "", name);
            let from = if count == 1 { "from 127.0.0.1" } else { "from 203.0.113.0/24" };
            assert_eq!(found["detail"], from);
            assert!(
                explained(&fixture.proxy, "/explain/alice")["hints"].to_string().contains(name)
            );
        }
    }
    for (fixture, name) in [
        (&off, "proxy-header-off"),
        (&untrusted, "proxy-header-untrusted"),
        (&twice, "proxy-header-twice"),
    ] {
        let line = format!("event=proxy-header why={name} ");
        assert_eq!(fixture.proxy.log().matches(&line).count(), 1, "{}", fixture.proxy.log());
    }
}

#[test]
fn users_whom_a_relay_does_not_announce_are_told_of() {
    let fixture = Fixture::with(|config| config.set("", "proxy-protocol-listener", "true"));
    let _direct = fixture.session();
    let found = cause(&fixture.proxy, "alice", "proxy-header-missing");
    assert_eq!((&found["count"], &found["detail"]), (&1.into(), &"from 127.0.0.1".into()));
    let unknown = [&b"PROXY UNKNOWN\r\n"[..], b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"];
    let mut clients = Vec::new();
    for (header, count) in unknown.into_iter().zip([2, 3]) {
        let hello = Hello::new(&fixture.secret, App::PostQuantum);
        let mut relay = Peer::connect("relay", fixture.proxy.addr);
        relay.send(&[header, &hello.wire].concat());
        clients.push(Handshake::read_answer(relay, &fixture.secret, &hello).send_frame(DD, 2));
        let found = cause(&fixture.proxy, "alice", "proxy-header-missing");
        assert_eq!(found["count"], count, "{header:?}");
    }
    assert_eq!(explained(&fixture.proxy, "/explain/alice")["refused"], 0);
    assert!(fixture.proxy.log().contains("event=proxy-header why=proxy-header-missing "));
    let announced = b"PROXY TCP4 203.0.113.9 192.0.2.1 40001 443\r\n";
    let hello = Hello::new(&fixture.secret, App::PostQuantum);
    let mut relay = Peer::connect("relay", fixture.proxy.addr);
    relay.send(&[&announced[..], &hello.wire].concat());
    clients.push(Handshake::read_answer(relay, &fixture.secret, &hello).send_frame(DD, 2));
    fixture.proxy.wait_for_connections("alice", 4);
    let found = cause(&fixture.proxy, "alice", "proxy-header-missing");
    assert_eq!(found["count"], 3, "not this one");
}

#[test]
fn the_session_limit_a_missing_name_a_loop_and_an_allowlist_are_told_apart() {
    let (dc, front, secret) = (Dc::listen(), Front::listen(), Secret::new(HOST));
    let folder = Folder::new();
    let list = folder.write("allow.netset", "127.0.0.1\n");
    let config = Config::new(dc.addr, front.addr).user("alice", &secret);
    let mut proxy =
        with_list(config.clone(), "allowlist", &list).set("", "concurrency", "1").start();
    let mut away = Peer::connect_from("client", Ipv4Addr::new(127, 0, 0, 8), proxy.addr);
    assert!(away.recv_rest().0.is_empty());
    cause(&proxy, "", "not-allowlisted");
    let _only = Client::open(proxy.addr, &secret);
    let mut late = Peer::connect("client", proxy.addr);
    assert!(late.recv_rest().0.is_empty());
    cause(&proxy, "", "full");
    let names =
        crate::support::name_server::NameServer::listen(|question| question.reply().actions());
    proxy.reload(&config.clone().set("domain-fronting", "host", "\"no.such.example\"").set(
        "network",
        "dns",
        &names.url(),
    ));
    let _probe = send(&proxy, b"GET / HTTP/1.1\r\n\r\n");
    cause(&proxy, "", "front-unknown");
    let port = proxy.addr.port().to_string();
    proxy.reload(&config.set("domain-fronting", "port", &port));
    let _probe = send(&proxy, b"GET / HTTP/1.1\r\n\r\n");
    cause(&proxy, "", "front-loop");
}

#[test]
fn errors_of_a_proxy_or_the_system_are_quoted() {
    let socks =
        SocksServer::listen(SocksBehaviour { refuse: Some(4), ..SocksBehaviour::default() });
    let closed = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
    let mut fixture = Fixture::with(|config| {
        config.set("network", "proxies", &format!("[{:?}]", socks.url())).set(
            "telegram.dc-overrides",
            "2",
            &format!("[\"{closed}\"]"),
        )
    });
    let connect = |fixture: &Fixture| {
        Handshake::connect(fixture.proxy.addr, &fixture.secret, App::PostQuantum).send_frame(DD, 2)
    };
    let _client = connect(&fixture);
    let detail = cause(&fixture.proxy, "alice", "dc-unreachable")["detail"].to_string();
    assert!(detail.contains(&format!("{closed}: host unreachable from the proxy")), "{detail}");
    let config = Config::new(fixture.dc.addr, fixture.front.addr).user("alice", &fixture.secret);
    fixture.proxy.reload(&config.set("network", "proxies", "[\"direct\"]").set(
        "telegram.dc-overrides",
        "2",
        &format!("[\"{closed}\"]"),
    ));
    let _client = connect(&fixture);
    eventually("the system's error", || {
        let alice = explained(&fixture.proxy, "/explain/alice").to_string();
        alice.contains(&format!("{closed}: Connection refused"))
    });
}

#[test]
fn several_clocks_with_the_same_difference_mean_that_ours_is_wrong() {
    let bob = Secret::new(HOST);
    let fixture = Fixture::with(|config| config.user("bob", &bob));
    let off = |secret: &Secret, by: u32| {
        let honest = HelloOptions::new(secret, App::PostQuantum);
        send(
            &fixture.proxy,
            &Hello::build(secret, &HelloOptions { clock: honest.clock - by, ..honest }).wire,
        )
    };
    let hints = || explained(&fixture.proxy, "/explain/alice")["hints"].to_string();
    let _alice = off(&fixture.secret, 400);
    cause(&fixture.proxy, "alice", "clock-off");
    assert!(!hints().contains("clocks"), "one user alone is no evidence: {}", hints());
    let _bob = off(&bob, 500);
    cause(&fixture.proxy, "bob", "clock-off");
    assert!(hints().contains("clocks of 2 users differ in the same direction"), "{}", hints());
    assert!(hints().contains("this machine is probably ahead"), "{}", hints());
}

#[test]
fn a_name_cannot_forge_lines_of_the_text() {
    let name = "eve\n  nothing went wrong\t";
    let fixture = Fixture::with(|config| config.user(name, &Secret::new(HOST)));
    let reply =
        stats::get(fixture.proxy.api, "/explain/eve%0A%20%20nothing%20went%20wrong%09?text");
    assert_eq!(reply.status, 200);
    assert_eq!(reply.body.lines().next(), Some("eve\u{fffd}  nothing went wrong\u{fffd}"));
}

#[test]
fn names_may_be_anything_and_unknown_ones_get_a_suggestion() {
    let name = "zoé <b>\"q\"/%";
    let fixture = Fixture::with(|config| config.user(name, &Secret::new(HOST)));
    let reply = stats::get(fixture.proxy.api, "/explain/zo%C3%A9%20%3Cb%3E%22q%22%2F%25");
    assert_eq!(reply.status, 200);
    assert!(!reply.body.contains('<'), "escaped as in /stats");
    let user: Value = serde_json::from_str(&reply.body).expect("JSON");
    assert_eq!(user["user"], name);
    let reply = stats::get(fixture.proxy.api, "/explain/alcie");
    assert_eq!(
        (reply.status, reply.body.as_str()),
        (404, "no user is called \"alcie\"; did you mean \"alice\"?\n")
    );
    assert_eq!(stats::get(fixture.proxy.api, "/explain/%zz").status, 404);
    assert_eq!(stats::request(fixture.proxy.api, b"POST /explain HTTP/1.0\r\n\r\n").status, 405);
}

fn run(arguments: &[&str]) -> (i32, String, String) {
    let output = program::command().args(arguments).output().expect("a run");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    (output.status.code().expect("a code"), text(output.stdout), text(output.stderr))
}

#[test]
fn the_command_prints_readable_text() {
    let folder = Folder::new();
    let socket = folder.path().join("api.sock");
    let mut fixture = Fixture::with(|config| config);
    let file = fixture.proxy.file().to_str().expect("a path").to_owned();
    let (code, out, _) = run(&["explain", &file, "alice"]);
    assert_eq!(code, 0);
    assert!(out.starts_with("alice\n  never seen since the start: "), "{out}");
    assert!(out.ends_with("  nothing went wrong since the start\n"), "{out}");
    let _wrong = send(&fixture.proxy, &Hello::new(&Secret::new(HOST), App::PostQuantum).wire);
    cause(&fixture.proxy, "", "wrong-key");
    let (code, out, _) = run(&["explain", &file]);
    assert_eq!(code, 0);
    assert!(out.contains("unauthenticated clients\n  wrong-key (1 times, last 20"), "{out}");
    assert!(out.contains("    from 127.0.0.0/24\n    -> if this is one of your users"), "{out}");
    let (code, out, _) = run(&["explain", "--json", &file, "alice"]);
    assert_eq!(code, 0);
    assert!(serde_json::from_str::<Value>(&out).expect("JSON")["refusals"].is_array());
    let (code, _, err) = run(&["explain", &file, "alcie"]);
    assert_eq!(code, 1);
    assert_eq!(err, "mtbox: error: no user is called \"alcie\"; did you mean \"alice\"?\n");

    let config = Config::new(fixture.dc.addr, fixture.front.addr).user("alice", &fixture.secret);
    let moved = config.set("", "api-bind-to", &format!("\"unix:{}\"", socket.display()));
    fixture.proxy.reload(&moved);
    let (code, out, _) = run(&["explain", &file, "alice"]);
    assert_eq!(code, 0, "also over a Unix socket");
    assert!(out.starts_with("alice\n"), "{out}");
    fixture.proxy.signal(nix::sys::signal::Signal::SIGTERM);
    fixture.proxy.wait_for_exit();
    let (code, _, err) = run(&["explain", &file]);
    assert_eq!(code, 1);
    assert!(err.contains("is mtbox running with this config?"), "{err}");
    let text = std::fs::read_to_string(&file).expect("the config");
    let without: String =
        text.lines().filter(|l| !l.contains("api-bind-to")).map(|l| format!("{l}\n")).collect();
    let bare = folder.write("bare.toml", &without);
    let (code, _, err) = run(&["explain", bare.trim_matches('"')]);
    assert_eq!(code, 1);
    assert!(err.contains("add the line api-bind-to = "), "{err}");
}

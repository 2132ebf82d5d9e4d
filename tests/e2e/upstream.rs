//! Telegram through SOCKS5 proxies: byte for byte, with failover, never past them.

use std::thread;

use crate::support::client::{Client, Handshake};
use crate::support::dc::Dc;
use crate::support::eventually;
use crate::support::fixture::Fixture;
use crate::support::hello::App;
use crate::support::obfuscated2::DD;
use crate::support::pattern;
use crate::support::peer::{End, Peer};
use crate::support::proxy::free_port;
use crate::support::socks::{Bound, DeadEnd, SocksBehaviour, SocksServer, SocksStep};
use crate::support::stats;
use crate::support::web::{WebServer, page};

fn fixture(proxies: &[String], more: &[(&str, &str, &str)]) -> Fixture {
    let list: Vec<String> = proxies.iter().map(|url| format!("{url:?}")).collect();
    Fixture::with(|config| {
        let config = config.set("network", "proxies", &format!("[{}]", list.join(", ")));
        more.iter().fold(config, |config, (table, key, value)| config.set(table, key, value))
    })
}

/// Transfers bytes in both directions and checks all of them.
fn assert_relayed(fixture: &Fixture) {
    let (mut client, mut session) = fixture.session();
    let (up, down) = (pattern(1, 300_000), pattern(2, 900_000));
    thread::scope(|scope| {
        scope.spawn(|| {
            client.up.send(&up);
            client.up.send_fin();
        });
        scope.spawn(|| {
            session.to.send(&down);
            session.to.send_fin();
        });
        assert!(session.from.recv(up.len()) == up);
        assert!(client.down.recv(down.len()) == down);
    });
    assert_eq!(session.from.recv_rest(), (Vec::new(), End::Fin));
    assert_eq!(client.down.recv_rest(), (Vec::new(), End::Fin));
}

fn assert_session_fails(fixture: &Fixture) {
    let handshake = Handshake::connect(fixture.proxy.addr, &fixture.secret, App::PostQuantum);
    let mut client = handshake.send_frame(DD, 2);
    assert!(client.down.recv_rest().0.is_empty());
}

#[test]
fn sessions_go_through_the_proxy_and_fronted_connections_do_not() {
    for bound in [Bound::V4, Bound::V6, Bound::Name] {
        let socks = SocksServer::listen(SocksBehaviour {
            bound,
            byte_by_byte: true,
            ..SocksBehaviour::default()
        });
        let fixture = fixture(&[socks.url()], &[]);
        let files = fixture.proxy.files();
        assert_relayed(&fixture);
        assert_eq!(socks.destinations(), [fixture.dc.addr.to_string()]);

        let mut prober = Peer::connect("prober", fixture.proxy.addr);
        prober.send(b"GET / HTTP/1.1\r\n\r\n");
        drop(fixture.front.accept());
        assert_eq!(socks.connections(), 1, "fronting is direct");
        drop(prober);
        fixture.proxy.wait_until_idle(files);
        eventually("the connections to the proxy are closed", || socks.open() == 0);
        let state = &fixture.proxy.stats()["proxies"][0];
        assert_eq!(state["address"], socks.addr.to_string());
        assert_eq!((&state["state"], &state["dials"]), (&"closed".into(), &1.into()));
        assert!(state["last_error"].is_null());
    }
}

#[test]
fn name_and_password_are_sent_and_not_logged() {
    let behaviour =
        SocksBehaviour { password: Some(("anna", "hunter2")), ..SocksBehaviour::default() };
    let socks = SocksServer::listen(behaviour);
    assert_relayed(&fixture(&[socks.url()], &[]));

    let wrong = socks.url().replace("hunter2", "letmein");
    let shut = fixture(&[wrong], &[]);
    assert_session_fails(&shut);
    eventually("the reason in the log", || shut.proxy.log().contains("refuses name or password"));
    let log = shut.proxy.log();
    assert!(!log.contains("letmein") && !log.contains("anna"), "{log}");
    assert!(!shut.proxy.stats().to_string().contains("letmein"));

    let without = fixture(&[format!("socks5://{}", socks.addr)], &[]);
    assert_session_fails(&without);
}

/// A proxy that fails in some way, its URL, and the words for it.
fn failing_proxies() -> Vec<(Option<SocksServer>, String, &'static str)> {
    let as_said = |behaviour: SocksBehaviour, words| {
        let socks = SocksServer::listen(behaviour);
        let url = socks.url();
        (Some(socks), url, words)
    };
    let refusing = |code, words| {
        as_said(SocksBehaviour { refuse: Some(code), ..SocksBehaviour::default() }, words)
    };
    let saying = |bytes, words| {
        as_said(SocksBehaviour { first_bytes: Some(bytes), ..SocksBehaviour::default() }, words)
    };
    let password = Some(("anna", "hunter2"));
    let locked = SocksServer::listen(SocksBehaviour { password, ..SocksBehaviour::default() });
    let wrong = locked.url().replace("hunter2", "letmein");
    let stall = Some(SocksStep::Reply);
    vec![
        (Some(locked), wrong, "refuses name or password"),
        (None, format!("socks5://127.0.0.1:{}", free_port()), "Connection refused"),
        refusing(1, "the proxy failed"),
        refusing(2, "not allowed by the rules of the proxy"),
        refusing(3, "network unreachable from the proxy"),
        refusing(4, "host unreachable from the proxy"),
        refusing(5, "connection refused by the destination"),
        saying(b"\x05\xff", "requires another authentication method"),
        saying(b"HTTP/1.1 400 Bad Request\r\n\r\n", "not a SOCKS5 proxy"),
        saying(b"\x15\x03\x03\x00\x02\x02\x32", "not a SOCKS5 proxy"),
        saying(b"", "closed the connection without an answer"),
        as_said(SocksBehaviour { stall, ..SocksBehaviour::default() }, "is silent"),
    ]
}

#[test]
fn the_log_and_explain_name_the_proxy_that_fails_and_why() {
    for (socks, url, words) in failing_proxies() {
        let fixture =
            fixture(std::slice::from_ref(&url), &[("network.timeout", "tcp", "\"300ms\"")]);
        assert_session_fails(&fixture);
        let addr = url.rsplit(['@', '/']).next().expect("an address");
        let is_it = |line: &&str| {
            let has = |words: &str| line.contains(words);
            has("event=dc-unreachable") && has("dc=2") && has(&format!("proxy={addr}"))
        };
        eventually("the log names the proxy", || fixture.proxy.log().lines().any(|l| is_it(&l)));
        let log = fixture.proxy.log();
        let line = log.lines().find(is_it).expect("the line");
        assert!(line.contains(words), "{words}: {line}");
        assert!(!log.contains("letmein") && !log.contains("anna"), "{log}");
        let explained = explained(&fixture);
        assert!(explained.contains(addr) && explained.contains(words), "{words}: {explained}");
        let last_error = fixture.proxy.stats()["proxies"][0]["last_error"].to_string();
        assert!(last_error.contains(words), "{words}: {last_error}");
        drop(socks);
    }
}

#[test]
fn the_log_names_the_data_centre_and_the_address_that_fail() {
    let nowhere = format!("127.0.0.1:{}", free_port());
    let fixture = fixture(&[], &[("telegram.dc-overrides", "2", &format!("[{nowhere:?}]"))]);
    assert_session_fails(&fixture);
    let wanted = format!("why=unreachable addr={nowhere} error=\"Connection refused");
    eventually("the reason", || {
        let log = fixture.proxy.log();
        let mut lines = log.lines().filter(|line| line.contains("event=dc-unreachable"));
        lines.any(|line| line.contains("dc=2") && line.contains(&wanted))
    });
}

/// COMPATIBILITY B4: a silent proxy does not block a session for ever, at any step.
#[test]
fn a_silent_proxy_is_replaced_by_the_next_one() {
    let good = SocksServer::listen(SocksBehaviour::default());
    for step in [SocksStep::Method, SocksStep::Password, SocksStep::Reply] {
        let password = Some(("u", "p"));
        let silent = SocksServer::listen(SocksBehaviour {
            stall: Some(step),
            password,
            ..SocksBehaviour::default()
        });
        let fixture =
            fixture(&[silent.url(), good.url()], &[("network.timeout", "tcp", "\"300ms\"")]);
        // The order is random: some sessions begin with the silent one.
        while silent.connections() == 0 {
            assert_relayed(&fixture);
        }
        assert_relayed(&fixture);
        eventually("the connections to the silent one are closed", || silent.open() == 0);
    }
}

#[test]
fn a_proxy_that_refuses_or_fails_is_replaced_by_the_next_one() {
    let good = SocksServer::listen(SocksBehaviour::default());
    for bad in [
        SocksBehaviour { refuse: Some(1), ..SocksBehaviour::default() },
        SocksBehaviour { refuse: Some(2), ..SocksBehaviour::default() },
        SocksBehaviour { refuse: Some(5), ..SocksBehaviour::default() },
        SocksBehaviour {
            first_bytes: Some(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
            ..SocksBehaviour::default()
        },
        SocksBehaviour {
            first_bytes: Some(b"\x05\x00\x05\x00\x00\x09\x00"),
            ..SocksBehaviour::default()
        },
    ] {
        let bad = SocksServer::listen(bad);
        let dead = format!("socks5://127.0.0.1:{}", free_port());
        let fixture = fixture(&[bad.url(), dead, good.url()], &[]);
        while bad.connections() == 0 {
            assert_relayed(&fixture);
        }
        assert_relayed(&fixture);
    }
}

/// COMPATIBILITY E4: the documented circuit breaker works.
#[test]
fn a_proxy_that_fails_repeatedly_is_paused_and_then_tried_once() {
    let socks =
        SocksServer::listen(SocksBehaviour { refuse: Some(1), ..SocksBehaviour::default() });
    let url = format!("{}?open_threshold=3&half_open_timeout=1s&x=y", socks.url());
    let fixture = fixture(&[url], &[]);
    for _ in 0..6 {
        assert_session_fails(&fixture);
    }
    assert_eq!(socks.connections(), 3, "the circuit opens after three failures");
    assert_eq!(fixture.proxy.stats()["proxies"][0]["state"], "open");
    eventually("it is logged", || fixture.proxy.log().contains("event=upstream-circuit-open"));

    eventually("the circuit is half open", || {
        fixture.proxy.stats()["proxies"][0]["state"] == "half-open"
    });
    assert_session_fails(&fixture);
    assert_eq!(socks.connections(), 4, "one try");
    assert_eq!(fixture.proxy.stats()["proxies"][0]["state"], "open");

    socks.set_behaviour(SocksBehaviour::default());
    eventually("the circuit is half open", || {
        fixture.proxy.stats()["proxies"][0]["state"] == "half-open"
    });
    assert_relayed(&fixture);
    assert_eq!(fixture.proxy.stats()["proxies"][0]["state"], "closed");
    eventually("it is logged", || fixture.proxy.log().contains("event=upstream-circuit-closed"));
}

fn dead_end(end: DeadEnd) -> SocksServer {
    SocksServer::listen(SocksBehaviour { dead_end: Some(end), ..SocksBehaviour::default() })
}

/// The state of a proxy's circuit.
fn circuit(fixture: &Fixture, socks: &SocksServer) -> String {
    let proxies = fixture.proxy.stats()["proxies"].as_array().expect("a list").clone();
    let own = proxies.iter().find(|proxy| proxy["address"] == socks.addr.to_string());
    own.expect("the proxy")["state"].as_str().expect("a state").to_owned()
}

/// What `mtbox explain alice` says.
fn explained(fixture: &Fixture) -> String {
    stats::get(fixture.proxy.api, "/explain/alice?text").body
}

#[test]
fn a_proxy_that_says_yes_and_closes_is_paused_and_then_tried_once() {
    let socks = dead_end(DeadEnd::Closed);
    let url = format!("{}?open_threshold=3&half_open_timeout=1s", socks.url());
    let fixture = fixture(&[url], &[]);
    for _ in 0..3 {
        assert_session_fails(&fixture);
    }
    eventually("the circuit opens", || circuit(&fixture, &socks) != "closed");
    assert_eq!(socks.connections(), 3);
    let why = "closed before the first byte of the destination";
    eventually("it is logged", || fixture.proxy.log().contains(why));
    assert!(explained(&fixture).contains(why), "{}", explained(&fixture));

    eventually("the circuit is half open", || circuit(&fixture, &socks) == "half-open");
    assert_session_fails(&fixture);
    assert_eq!(circuit(&fixture, &socks), "open");
    socks.set_behaviour(SocksBehaviour::default());
    eventually("the circuit is half open", || circuit(&fixture, &socks) == "half-open");
    assert_relayed(&fixture);
    assert_eq!(circuit(&fixture, &socks), "closed");
}

#[test]
fn a_proxy_that_says_yes_and_stays_silent_is_replaced_by_the_next_one() {
    let (silent, good) =
        (dead_end(DeadEnd::Silent), SocksServer::listen(SocksBehaviour::default()));
    let fixture = fixture(&[format!("{}?open_threshold=2", silent.url()), good.url()], &[]);
    let asked = || silent.destinations().len() + good.destinations().len();
    let mut waiting = Vec::new();
    while waiting.len() < 2 {
        let before = (asked(), good.destinations().len());
        let mut client = Client::open(fixture.proxy.addr, &fixture.secret);
        client.up.send(b"anyone?");
        eventually("a proxy is asked", || asked() > before.0);
        if good.destinations().len() == before.1 {
            waiting.push(client);
            continue;
        }
        let mut session = fixture.dc.accept();
        assert_eq!(session.from.recv(7), b"anyone?");
        session.to.send(b"here");
        assert_eq!(client.down.recv(4), b"here");
    }
    eventually("the circuit opens, even if the clients go on asking", || {
        waiting.iter_mut().for_each(|client| client.up.send(b"anyone?"));
        circuit(&fixture, &silent) == "open"
    });
    for _ in 0..6 {
        assert_relayed(&fixture);
    }
    assert_eq!(silent.connections(), 2);
    assert_eq!(circuit(&fixture, &good), "closed");
    assert!(explained(&fixture).contains("no byte of the destination"), "{}", explained(&fixture));
}

#[test]
fn clients_that_leave_early_open_no_circuit_and_use_up_no_trial() {
    let socks = SocksServer::listen(SocksBehaviour::default());
    let url = format!("{}?open_threshold=1&half_open_timeout=1s", socks.url());
    let fixture = fixture(&[url], &[]);
    let leave_early = || {
        let mut client = Client::open(fixture.proxy.addr, &fixture.secret);
        client.up.send(b"anyone?");
        // The DC keeps its end open meanwhile.
        let mut session = fixture.dc.accept();
        assert_eq!(session.from.recv(7), b"anyone?");
        client.reset();
        fixture.proxy.wait_for_connections("alice", 0);
    };
    for _ in 0..3 {
        leave_early();
    }
    assert_eq!(circuit(&fixture, &socks), "closed");

    socks.set_behaviour(SocksBehaviour { refuse: Some(1), ..SocksBehaviour::default() });
    assert_session_fails(&fixture);
    socks.set_behaviour(SocksBehaviour::default());
    eventually("the circuit is half open", || circuit(&fixture, &socks) == "half-open");
    leave_early();
    assert_eq!(circuit(&fixture, &socks), "half-open");
    assert_relayed(&fixture);
    assert_eq!(circuit(&fixture, &socks), "closed");
}

#[test]
fn a_fetch_through_a_proxy_that_leads_nowhere_is_a_failure_of_the_proxy() {
    let socks = dead_end(DeadEnd::Closed);
    let more =
        [("", "auto-update", "true"), ("telegram", "dc-list-urls", "[\"http://lists.invalid/\"]")];
    let fixture = fixture(&[format!("{}?open_threshold=1", socks.url())], &more);
    eventually("the circuit opens", || circuit(&fixture, &socks) == "open");
}

/// An error of the data centre, reported by the proxy, does not count as a failure of the proxy.
#[test]
fn an_unreachable_data_centre_opens_no_circuit() {
    let socks =
        SocksServer::listen(SocksBehaviour { refuse: Some(5), ..SocksBehaviour::default() });
    let fixture = fixture(&[format!("{}?open_threshold=1", socks.url())], &[]);
    for _ in 0..3 {
        assert_session_fails(&fixture);
    }
    assert_eq!(fixture.proxy.stats()["proxies"][0]["state"], "closed");
}

#[test]
fn a_proxy_that_closes_in_the_middle_ends_the_session() {
    let socks = SocksServer::listen(SocksBehaviour {
        closes_after: Some(10_000),
        ..SocksBehaviour::default()
    });
    let fixture = fixture(&[socks.url()], &[]);
    let files = fixture.proxy.files();
    let (mut client, mut session) = fixture.session();
    session.to.send(&pattern(3, 10_000));
    assert!(client.down.recv(10_000) == pattern(3, 10_000));
    client.down.recv_rest();
    drop((client, session));
    fixture.proxy.wait_until_idle(files);
}

#[test]
fn a_client_that_closes_during_the_socks_handshake_ends_it() {
    let socks = SocksServer::listen(SocksBehaviour {
        stall: Some(SocksStep::Reply),
        ..SocksBehaviour::default()
    });
    let fixture = fixture(&[socks.url()], &[]);
    let files = fixture.proxy.files();
    let client = Client::open(fixture.proxy.addr, &fixture.secret);
    eventually("the proxy gets a request", || !socks.destinations().is_empty());
    client.reset();
    eventually("the connection to the proxy is closed", || socks.open() == 0);
    fixture.proxy.wait_until_idle(files);
}

#[test]
fn a_proxy_may_have_a_name() {
    let socks = SocksServer::listen(SocksBehaviour::default());
    let fixture = fixture(&[format!("socks5h://localhost:{}", socks.addr.port())], &[]);
    assert_relayed(&fixture);
    assert_eq!(socks.connections(), 1);
}

#[test]
fn direct_next_to_an_unreachable_proxy_serves_all_sessions() {
    let dead = format!("socks5://127.0.0.1:{}", free_port());
    let fixture = fixture(&[dead, "direct".to_owned()], &[]);
    for _ in 0..8 {
        assert_relayed(&fixture);
    }
}

#[test]
fn fetches_go_through_the_proxy_which_resolves_the_name() {
    let socks = SocksServer::listen(SocksBehaviour::default());
    let listed = Dc::listen();
    let text = format!("proxy_for 203 {};\n", listed.addr);
    let web = WebServer::http(move |_, out| out.write_all(&page(&text)));
    let urls = format!("[\"http://localhost:{}/\"]", web.addr.port());
    let bad = SocksServer::listen(SocksBehaviour { refuse: Some(1), ..SocksBehaviour::default() });
    let more = [("", "auto-update", "true"), ("telegram", "dc-list-urls", urls.as_str())];
    let fixture = fixture(&[socks.url(), bad.url()], &more);
    eventually("the page is requested", || web.connections() == 1);
    assert_eq!(socks.destinations(), [format!("localhost:{}", web.addr.port())]);
    drop(fixture);
}

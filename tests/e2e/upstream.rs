//! Telegram through SOCKS5 proxies: byte for byte, with failover, never around them.

use std::thread;

use crate::support::client::{Client, Visitor};
use crate::support::dc::Dc;
use crate::support::eventually;
use crate::support::hello::Shape;
use crate::support::obfuscated2::DD;
use crate::support::pattern;
use crate::support::peer::{End, Peer};
use crate::support::proxy::free_port;
use crate::support::socks::{Bound, Manners, Socks, Stage as Step};
use crate::support::stage::Stage;
use crate::support::web::{Web, page};

fn stage(proxies: &[String], more: &[(&str, &str, &str)]) -> Stage {
    let list: Vec<String> = proxies.iter().map(|url| format!("{url:?}")).collect();
    Stage::with(|config| {
        let config = config.set("network", "proxies", &format!("[{}]", list.join(", ")));
        more.iter().fold(config, |config, (table, key, value)| config.set(table, key, value))
    })
}

/// Bytes go both ways, to the last one.
fn assert_relayed(stage: &Stage) {
    let (mut client, mut session) = stage.session();
    let (up, down) = (pattern(1, 300_000), pattern(2, 900_000));
    thread::scope(|scope| {
        scope.spawn(|| {
            client.up.send(&up);
            client.up.finish();
        });
        scope.spawn(|| {
            session.to.send(&down);
            session.to.finish();
        });
        assert!(session.from.recv(up.len()) == up);
        assert!(client.down.recv(down.len()) == down);
    });
    assert_eq!(session.from.recv_rest(), (Vec::new(), End::Fin));
    assert_eq!(client.down.recv_rest(), (Vec::new(), End::Fin));
}

fn assert_session_fails(stage: &Stage) {
    let visitor = Visitor::knock(stage.proxy.addr, &stage.secret, Shape::PostQuantum);
    let mut client = visitor.begin(DD, 2);
    assert!(client.down.recv_rest().0.is_empty());
}

#[test]
fn sessions_go_through_the_proxy_and_strangers_do_not() {
    for bound in [Bound::V4, Bound::V6, Bound::Name] {
        let socks = Socks::listen(Manners { bound, dribble: true, ..Manners::default() });
        let stage = stage(&[socks.url()], &[]);
        let files = stage.proxy.files();
        assert_relayed(&stage);
        assert_eq!(socks.goals(), [stage.dc.addr.to_string()]);

        let mut prober = Peer::connect("prober", stage.proxy.addr);
        prober.send(b"GET / HTTP/1.1\r\n\r\n");
        drop(stage.origin.visit());
        assert_eq!(socks.connections(), 1, "fronting is native");
        drop(prober);
        stage.proxy.wait_for_rest(files);
        eventually("the proxy is left alone", || socks.open() == 0);
        let state = &stage.proxy.stats()["proxies"][0];
        assert_eq!(state["address"], socks.addr.to_string());
        assert_eq!((&state["state"], &state["dials"]), (&"closed".into(), &1.into()));
        assert!(state["last_error"].is_null());
    }
}

#[test]
fn name_and_password_open_the_door_and_stay_out_of_the_log() {
    let manners = Manners { password: Some(("anna", "hunter2")), ..Manners::default() };
    let socks = Socks::listen(manners);
    assert_relayed(&stage(&[socks.url()], &[]));

    let wrong = socks.url().replace("hunter2", "letmein");
    let shut = stage(&[wrong], &[]);
    assert_session_fails(&shut);
    eventually("the reason in the log", || shut.proxy.log().contains("refuses name or password"));
    let log = shut.proxy.log();
    assert!(!log.contains("letmein") && !log.contains("anna"), "{log}");
    assert!(!shut.proxy.stats().to_string().contains("letmein"));

    let without = stage(&[format!("socks5://{}", socks.addr)], &[]);
    assert_session_fails(&without);
}

/// Gotcha B4: a proxy that says nothing holds nobody up for ever, whatever the step.
#[test]
fn a_silent_proxy_is_left_for_the_next_one() {
    let good = Socks::listen(Manners::default());
    for step in [Step::Method, Step::Password, Step::Reply] {
        let password = Some(("u", "p"));
        let silent = Socks::listen(Manners { stall: Some(step), password, ..Manners::default() });
        let stage = stage(&[silent.url(), good.url()], &[("network.timeout", "tcp", "\"300ms\"")]);
        // The order is random: some sessions begin with the silent one.
        while silent.connections() == 0 {
            assert_relayed(&stage);
        }
        assert_relayed(&stage);
        eventually("the silent one is let go", || silent.open() == 0);
    }
}

#[test]
fn a_proxy_that_refuses_or_talks_nonsense_is_left_for_the_next_one() {
    let good = Socks::listen(Manners::default());
    for bad in [
        Manners { refuse: Some(1), ..Manners::default() },
        Manners { refuse: Some(2), ..Manners::default() },
        Manners { refuse: Some(5), ..Manners::default() },
        Manners { nonsense: Some(b"HTTP/1.1 400 Bad Request\r\n\r\n"), ..Manners::default() },
        Manners { nonsense: Some(b"\x05\x00\x05\x00\x00\x09\x00"), ..Manners::default() },
    ] {
        let bad = Socks::listen(bad);
        let dead = format!("socks5://127.0.0.1:{}", free_port());
        let stage = stage(&[bad.url(), dead, good.url()], &[]);
        while bad.connections() == 0 {
            assert_relayed(&stage);
        }
        assert_relayed(&stage);
    }
}

/// Gotcha E4: the documented circuit breaker works.
#[test]
fn a_proxy_that_fails_again_and_again_rests_and_is_tried_once_more() {
    let socks = Socks::listen(Manners { refuse: Some(1), ..Manners::default() });
    let url = format!("{}?open_threshold=3&half_open_timeout=1s&x=y", socks.url());
    let stage = stage(&[url], &[]);
    for _ in 0..6 {
        assert_session_fails(&stage);
    }
    assert_eq!(socks.connections(), 3, "it rests after three");
    assert_eq!(stage.proxy.stats()["proxies"][0]["state"], "open");
    assert!(stage.proxy.log().contains("event=upstream-circuit-open"));

    eventually("it may be tried", || stage.proxy.stats()["proxies"][0]["state"] == "half-open");
    assert_session_fails(&stage);
    assert_eq!(socks.connections(), 4, "one try");
    assert_eq!(stage.proxy.stats()["proxies"][0]["state"], "open");

    socks.behave(Manners::default());
    eventually("it may be tried", || stage.proxy.stats()["proxies"][0]["state"] == "half-open");
    assert_relayed(&stage);
    assert_eq!(stage.proxy.stats()["proxies"][0]["state"], "closed");
    assert!(stage.proxy.log().contains("event=upstream-circuit-closed"));
}

/// What the proxy truly says of the data centre is not held against the proxy.
#[test]
fn a_data_centre_that_is_down_opens_no_breaker() {
    let socks = Socks::listen(Manners { refuse: Some(5), ..Manners::default() });
    let stage = stage(&[format!("{}?open_threshold=1", socks.url())], &[]);
    for _ in 0..3 {
        assert_session_fails(&stage);
    }
    assert_eq!(stage.proxy.stats()["proxies"][0]["state"], "closed");
}

#[test]
fn a_proxy_that_dies_in_the_middle_ends_the_session() {
    let socks = Socks::listen(Manners { dies_after: Some(10_000), ..Manners::default() });
    let stage = stage(&[socks.url()], &[]);
    let files = stage.proxy.files();
    let (mut client, mut session) = stage.session();
    session.to.send(&pattern(3, 10_000));
    assert!(client.down.recv(10_000) == pattern(3, 10_000));
    client.down.recv_rest();
    drop((client, session));
    stage.proxy.wait_for_rest(files);
}

#[test]
fn a_client_that_leaves_during_the_negotiation_takes_it_with_it() {
    let socks = Socks::listen(Manners { stall: Some(Step::Reply), ..Manners::default() });
    let stage = stage(&[socks.url()], &[]);
    let files = stage.proxy.files();
    let client = Client::open(stage.proxy.addr, &stage.secret);
    eventually("the proxy is asked", || !socks.goals().is_empty());
    client.reset();
    eventually("the proxy is let go", || socks.open() == 0);
    stage.proxy.wait_for_rest(files);
}

#[test]
fn a_proxy_may_be_named() {
    let socks = Socks::listen(Manners::default());
    let stage = stage(&[format!("socks5h://localhost:{}", socks.addr.port())], &[]);
    assert_relayed(&stage);
    assert_eq!(socks.connections(), 1);
}

#[test]
fn a_direct_way_beside_a_dead_proxy_carries_everything() {
    let dead = format!("socks5://127.0.0.1:{}", free_port());
    let stage = stage(&[dead, "direct".to_owned()], &[]);
    for _ in 0..8 {
        assert_relayed(&stage);
    }
}

#[test]
fn what_is_fetched_goes_through_the_proxy_which_finds_the_name() {
    let socks = Socks::listen(Manners::default());
    let listed = Dc::listen();
    let text = format!("proxy_for 203 {};\n", listed.addr);
    let web = Web::plain(move |_, out| out.write_all(&page(&text)));
    let urls = format!("[\"http://localhost:{}/\"]", web.addr.port());
    let bad = Socks::listen(Manners { refuse: Some(1), ..Manners::default() });
    let more = [("", "auto-update", "true"), ("telegram", "dc-list-urls", urls.as_str())];
    let stage = stage(&[socks.url(), bad.url()], &more);
    eventually("the page is asked for by name", || web.connections() == 1);
    assert_eq!(socks.goals(), [format!("localhost:{}", web.addr.port())]);
    drop(stage);
}

//! Answers look like those of the site that strangers meet: it is looked at after start, and what
//! was seen is used (spec: protocol 15.2 to 15.5, 15.15). The sites are scripted, but for one.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use crate::support::answer::Answer;
use crate::support::client::Visitor;
use crate::support::dc::Dc;
use crate::support::hello::{Hello, Secret, Shape as App, Wish};
use crate::support::obfuscated2::DD;
use crate::support::origins::{ScriptedSite, Shape, old_answer, retry_answer};
use crate::support::peer::{End, Peer};
use crate::support::proxy::{Config, Proxy, free_port};
use crate::support::stage::HOST;
use crate::support::tls::TlsOrigin;
use crate::support::{QUIET, eventually};

/// Alice, her secret, a DC, and a proxy that looks at `site`.
struct Scene {
    proxy: Proxy,
    dc: Dc,
    secret: Secret,
}

impl Scene {
    fn before(site: SocketAddr) -> Self {
        Self::with(site, |config| config)
    }

    fn with(site: SocketAddr, change: impl FnOnce(Config) -> Config) -> Self {
        let (dc, secret) = (Dc::listen(), Secret::new(HOST));
        let config = Config::new(dc.addr, site).user("alice", &secret);
        let config = config.set("domain-fronting", "scout", "true");
        Self { proxy: change(config).start(), dc, secret }
    }

    fn wait_for_log(&self, what: &str) {
        eventually(what, || self.proxy.log().contains(what));
    }

    /// How often the log says something.
    fn times(&self, what: &str) -> usize {
        self.proxy.log().matches(what).count()
    }

    /// What an app is answered, if the suite is to be `cipher`.
    fn answer(&self, app: App, cipher: u16) -> Answer {
        let mut hello = Hello::fresh(&self.secret, app);
        hello.cipher = cipher;
        Visitor::greet(Peer::connect("client", self.proxy.addr), &self.secret, &hello).answer
    }

    /// A whole session with default looks.
    fn serves_plainly(&self) {
        let visitor = Visitor::knock(self.proxy.addr, &self.secret, App::PostQuantum);
        assert_eq!(visitor.answer.group, 0x11ec);
        assert!(visitor.answer.versions_first);
        assert!((2500..4700).contains(&visitor.answer.noise), "{}", visitor.answer.noise);
        let _client = visitor.begin(DD, 2);
        assert_eq!(self.dc.accept().dc, 2);
    }
}

#[test]
fn the_answer_has_the_suite_the_group_the_order_and_the_flight_of_the_site() {
    let chacha = Shape { cipher: 0x1303, group: 0x001d, flight: vec![2932], ..Shape::boring() };
    for shape in [Shape::openssl(), Shape::boring(), chacha] {
        let site = ScriptedSite::of(shape.clone());
        let scene = Scene::before(site.addr);
        scene.wait_for_log("event=front-probe host=");
        let flight: usize = shape.flight.iter().sum();
        for _ in 0..3 {
            let answer = scene.answer(App::PostQuantum, shape.cipher);
            let seen = (answer.group, answer.versions_first, answer.noise);
            assert_eq!(seen, (shape.group, shape.versions_first, flight));
            // Who offers no hybrid share cannot be answered with one.
            let answer = scene.answer(App::Classic, shape.cipher);
            assert_eq!((answer.group, answer.noise), (0x001d, flight));
        }
        let advice = scene.times("a front that sends one record");
        assert_eq!(advice, usize::from(shape.flight.len() > 1));
        let advice = scene.times("does not support X25519MLKEM768");
        assert_eq!(advice, usize::from(shape.group == 0x001d));
    }
}

#[test]
fn a_suite_that_the_app_does_not_offer_is_not_answered() {
    let site = ScriptedSite::of(Shape::openssl());
    let scene = Scene::before(site.addr);
    scene.wait_for_log("event=front-probe host=");
    let mut wish = Wish::honest(&scene.secret, App::PostQuantum);
    wish.suites = vec![0x1303, 0x1301];
    let hello = Hello::forge(&scene.secret, &wish);
    Visitor::greet(Peer::connect("client", scene.proxy.addr), &scene.secret, &hello);
}

#[test]
fn a_flight_that_apps_refuse_is_clamped() {
    let site = ScriptedSite::of(Shape { flight: vec![13_004], ..Shape::boring() });
    let scene = Scene::before(site.addr);
    scene.wait_for_log("event=front-probe host=");
    let first = scene.answer(App::PostQuantum, 0x1301).noise;
    assert!((9_000..=10_240).contains(&first), "{first}");
    assert_eq!(scene.answer(App::PostQuantum, 0x1301).noise, first, "as constant as the site's");
}

#[test]
fn a_look_is_a_chromes_hello_for_each_host_and_ends_with_fin() {
    let site = ScriptedSite::of(Shape::openssl());
    let other = Secret::new("other.example");
    let scene = Scene::with(site.addr, |config| config.user("bob", &other));
    let looks_at = |host| {
        let hellos = site.hellos().into_iter();
        hellos.filter(|hello| hello.sni == host).collect::<Vec<_>>()
    };
    for host in [HOST, "other.example"] {
        eventually("two looks", || looks_at(host).len() >= 2);
        let looks = looks_at(host);
        let orders = [&looks[0].suites[1..4], &looks[1].suites[1..4]];
        assert_eq!(orders, [[0x1301, 0x1302, 0x1303], [0x1302, 0x1301, 0x1303]]);
        assert!(looks.iter().all(|look| look.before.is_empty() && look.suites.len() == 16));
    }
    eventually("the first looks are over", || site.ends().len() >= 2);
    assert!(site.ends().iter().all(|end| *end == End::Fin), "{:?}", site.ends());
    scene.wait_for_log("event=front-probe host=\"front.example\"");
    scene.wait_for_log("event=front-probe host=\"other.example\"");
}

/// A true server finds nothing to object to in the hello.
#[test]
fn a_true_tls_server_answers_a_look() {
    let site = TlsOrigin::listen(&[HOST]);
    let scene = Scene::before(site.addr);
    scene.wait_for_log("event=front-probe host=\"front.example\" cipher=13");
    let log = scene.proxy.log();
    assert!(log.contains("group=x25519"), "{log}");
    let line = log.lines().find(|line| line.contains("event=front-probe")).expect("the line");
    let flight = line.split("flight=").nth(1).and_then(|rest| rest.split(' ').next());
    let flight: usize = flight.and_then(|text| text.parse().ok()).expect("a length");
    let noise = visit_any_cipher(&scene);
    // Its signature varies by a few bytes from look to look.
    assert!(noise.abs_diff(flight) <= 8, "{noise} for {flight}");
}

/// The flight of an answer with whatever suite.
fn visit_any_cipher(scene: &Scene) -> usize {
    let log = scene.proxy.log();
    let cipher = log.split("cipher=").nth(1).and_then(|rest| rest.get(..4)).expect("a suite");
    scene.answer(App::PostQuantum, u16::from_str_radix(cipher, 16).expect("hex")).noise
}

#[test]
fn a_site_behind_proxy_protocol_is_told_that_the_look_is_our_own() {
    let site = ScriptedSite::of(Shape::openssl());
    let scene =
        Scene::with(site.addr, |config| config.set("domain-fronting", "proxy-protocol", "true"));
    scene.wait_for_log("event=front-probe host=");
    assert_eq!(site.hellos()[0].before, b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0");
}

#[test]
fn nobody_is_looked_at_when_scouting_is_off() {
    let site = ScriptedSite::of(Shape::openssl());
    let scene = Scene::with(site.addr, |config| config.set("domain-fronting", "scout", "false"));
    scene.serves_plainly();
    std::thread::sleep(4 * QUIET);
    assert!(site.hellos().is_empty());
}

#[test]
fn we_never_look_at_ourselves() {
    let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
    let scene = Scene::with(nowhere, |config| {
        config.set("domain-fronting", "host", "\"127.0.0.1\"").set(
            "domain-fronting",
            "port",
            "{port}",
        )
    });
    scene.wait_for_log("error=\"the front is this proxy itself\"");
    assert_eq!(scene.times("event=fronted"), 0, "nobody has connected");
    scene.serves_plainly();
}

/// Gotcha A7: nothing that is fetched delays listening or clients.
#[test]
fn a_site_that_is_silent_or_dead_delays_nobody_and_changes_nothing() {
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let scene = Scene::before(silent.local_addr().expect("an address"));
    let (_look, _) = silent.accept().expect("a look");
    scene.serves_plainly();

    let scene = Scene::before(SocketAddr::from((Ipv4Addr::LOCALHOST, free_port())));
    scene.wait_for_log("event=front-probe-failed");
    scene.serves_plainly();
}

#[test]
fn a_site_that_is_no_model_is_named_and_changes_nothing() {
    type Script = fn(&crate::support::origins::SeenHello) -> Vec<u8>;
    let cases: [(Script, &str, usize); 5] = [
        (old_answer, "does not support TLS 1.3", 1),
        (retry_answer, "supports neither X25519MLKEM768 nor x25519", 1),
        (|_| b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), "the front is not a TLS server", 0),
        (|_| b"\x15\x03\x03\x00\x02\x02\x70".to_vec(), "refuses with TLS alert 112", 0),
        (|_| b"\x16\x03\x03\x00\x04\x02\xff\xff\xff\x16\x03\x03\x40\x00".to_vec(), "", 0),
    ];
    for (script, why, advice) in cases {
        let site = ScriptedSite::listen(move |hello, _| script(hello));
        let scene = Scene::before(site.addr);
        if !why.is_empty() {
            scene.wait_for_log("event=front-probe-failed");
            assert!(scene.proxy.log().contains(why), "{why}");
        }
        eventually("a look", || !site.hellos().is_empty());
        scene.serves_plainly();
        assert_eq!(scene.times("event=front-mismatch"), advice, "{why}");
    }
}

#[test]
fn a_site_that_fails_later_leaves_what_was_known() {
    let shape = Shape::openssl();
    let site = ScriptedSite::listen(move |hello, count| match count {
        0 => shape.answer(hello),
        _ => b"no more".to_vec(),
    });
    let scene = Scene::before(site.addr);
    scene.wait_for_log("event=front-probe-failed");
    assert_eq!(scene.answer(App::PostQuantum, 0x1302).noise, 581);
}

#[test]
fn a_distant_sites_time_is_taken_to_answer_when_asked_for() {
    let site = ScriptedSite::of(Shape { delay: Duration::from_millis(400), ..Shape::boring() });
    let scene =
        Scene::with(site.addr, |config| config.set("domain-fronting", "mimic-latency", "true"));
    scene.wait_for_log("event=front-probe host=");

    let before = Instant::now();
    let visitor = Visitor::knock(scene.proxy.addr, &scene.secret, App::PostQuantum);
    assert!(before.elapsed() >= Duration::from_millis(400), "{:?}", before.elapsed());
    let _client = visitor.begin(DD, 2);
    let _session = scene.dc.accept();
    scene.proxy.wait_for_connections("alice", 1);

    // Whoever waits for an answer is counted, and let go when it breaks off.
    let hello = Hello::fresh(&scene.secret, App::PostQuantum);
    let mut impatient = Peer::connect("impatient", scene.proxy.addr);
    impatient.send(&hello.wire);
    scene.proxy.wait_for_connections("alice", 2);
    impatient.reset();
    scene.proxy.wait_for_connections("alice", 1);
}

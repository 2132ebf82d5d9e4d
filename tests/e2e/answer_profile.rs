//! Answers look like those of the front: it is probed after the start, and answers use the observed
//! profile (PROTOCOL 15.2 to 15.5, 15.15). All fronts but one are scripted.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use crate::support::answer::Answer;
use crate::support::client::Handshake;
use crate::support::dc::Dc;
use crate::support::fixture::HOST;
use crate::support::hello::{App, Hello, HelloOptions, Secret};
use crate::support::obfuscated2::DD;
use crate::support::peer::{End, Peer};
use crate::support::proxy::{Config, Proxy, free_port};
use crate::support::scripted_front::{AnswerShape, ScriptedFront, retry_answer, tls12_answer};
use crate::support::tls::TlsFront;
use crate::support::{QUIET, eventually};

/// Alice's secret, a DC, and a proxy that probes its front.
struct Rig {
    proxy: Proxy,
    dc: Dc,
    secret: Secret,
}

impl Rig {
    fn new(front: SocketAddr) -> Self {
        Self::with(front, |config| config)
    }

    fn with(front: SocketAddr, change: impl FnOnce(Config) -> Config) -> Self {
        let (dc, secret) = (Dc::listen(), Secret::new(HOST));
        let config = Config::new(dc.addr, front).user("alice", &secret);
        let config = config.set("domain-fronting", "scout", "true");
        Self { proxy: change(config).start(), dc, secret }
    }

    fn wait_for_log(&self, what: &str) {
        eventually(what, || self.proxy.log().contains(what));
    }

    /// How often the log contains `what`.
    fn times(&self, what: &str) -> usize {
        self.proxy.log().matches(what).count()
    }

    /// The answer to an app; its cipher suite must be `cipher`.
    fn answer(&self, app: App, cipher: u16) -> Answer {
        let mut hello = Hello::new(&self.secret, app);
        hello.cipher = cipher;
        Handshake::send_hello(Peer::connect("client", self.proxy.addr), &self.secret, &hello).answer
    }

    /// A session whose answer has the default profile.
    fn serves_with_defaults(&self) {
        let handshake = Handshake::connect(self.proxy.addr, &self.secret, App::PostQuantum);
        assert_eq!(handshake.answer.group, 0x11ec);
        assert!(handshake.answer.versions_first);
        assert!((2500..4700).contains(&handshake.answer.noise), "{}", handshake.answer.noise);
        let _client = handshake.send_frame(DD, 2);
        assert_eq!(self.dc.accept().dc, 2);
    }
}

#[test]
fn the_answer_has_the_suite_the_group_the_order_and_the_flight_of_the_front() {
    let chacha = AnswerShape {
        cipher: 0x1303,
        group: 0x001d,
        flight: vec![2932],
        ..AnswerShape::boringssl()
    };
    for shape in [AnswerShape::openssl(), AnswerShape::boringssl(), chacha] {
        let front = ScriptedFront::of(shape.clone());
        let rig = Rig::new(front.addr);
        rig.wait_for_log("event=front-probe host=");
        let flight: usize = shape.flight.iter().sum();
        for _ in 0..3 {
            let answer = rig.answer(App::PostQuantum, shape.cipher);
            let seen = (answer.group, answer.versions_first, answer.noise);
            assert_eq!(seen, (shape.group, shape.versions_first, flight));
            // A hello without a hybrid share cannot be answered with one.
            let answer = rig.answer(App::Classic, shape.cipher);
            assert_eq!((answer.group, answer.noise), (0x001d, flight));
        }
        let advice = rig.times("a front that sends one record");
        assert_eq!(advice, usize::from(shape.flight.len() > 1));
        let advice = rig.times("does not offer X25519MLKEM768");
        assert_eq!(advice, usize::from(shape.group == 0x001d));
    }
}

#[test]
fn a_suite_that_the_app_does_not_offer_is_not_chosen() {
    let front = ScriptedFront::of(AnswerShape::openssl());
    let rig = Rig::new(front.addr);
    rig.wait_for_log("event=front-probe host=");
    let mut options = HelloOptions::new(&rig.secret, App::PostQuantum);
    options.suites = vec![0x1303, 0x1301];
    let hello = Hello::build(&rig.secret, &options);
    Handshake::send_hello(Peer::connect("client", rig.proxy.addr), &rig.secret, &hello);
}

#[test]
fn a_flight_that_apps_refuse_is_clamped() {
    let front = ScriptedFront::of(AnswerShape { flight: vec![13_004], ..AnswerShape::boringssl() });
    let rig = Rig::new(front.addr);
    rig.wait_for_log("event=front-probe host=");
    let first = rig.answer(App::PostQuantum, 0x1301).noise;
    assert!((9_000..=10_240).contains(&first), "{first}");
    assert_eq!(rig.answer(App::PostQuantum, 0x1301).noise, first, "as constant as the front's");
}

#[test]
fn a_front_probe_is_chromes_hello_for_each_host_and_ends_with_fin() {
    let front = ScriptedFront::of(AnswerShape::openssl());
    let other = Secret::new("other.example");
    let rig = Rig::with(front.addr, |config| config.user("bob", &other));
    let probes_of = |host| {
        let hellos = front.hellos().into_iter();
        hellos.filter(|hello| hello.sni == host).collect::<Vec<_>>()
    };
    for host in [HOST, "other.example"] {
        eventually("two probes", || probes_of(host).len() >= 2);
        let probes = probes_of(host);
        let orders = [&probes[0].suites[1..4], &probes[1].suites[1..4]];
        assert_eq!(orders, [[0x1301, 0x1302, 0x1303], [0x1302, 0x1301, 0x1303]]);
        assert!(probes.iter().all(|probe| probe.prefix.is_empty() && probe.suites.len() == 16));
    }
    eventually("the first probes are over", || front.ends().len() >= 2);
    assert!(front.ends().iter().all(|end| *end == End::Fin), "{:?}", front.ends());
    rig.wait_for_log("event=front-probe host=\"front.example\"");
    rig.wait_for_log("event=front-probe host=\"other.example\"");
}

/// A real server accepts the hello.
#[test]
fn a_real_tls_server_answers_a_front_probe() {
    let front = TlsFront::listen(&[HOST]);
    let rig = Rig::new(front.addr);
    rig.wait_for_log("event=front-probe host=\"front.example\" cipher=13");
    let log = rig.proxy.log();
    assert!(log.contains("group=x25519"), "{log}");
    let line = log.lines().find(|line| line.contains("event=front-probe")).expect("the line");
    let flight = line.split("flight=").nth(1).and_then(|rest| rest.split(' ').next());
    let flight: usize = flight.and_then(|text| text.parse().ok()).expect("a length");
    let noise = answer_of_any_cipher(&rig);
    // Its signature varies by a few bytes from look to probe.
    assert!(noise.abs_diff(flight) <= 8, "{noise} for {flight}");
}

/// Length of the flight of an answer, for any suite.
fn answer_of_any_cipher(rig: &Rig) -> usize {
    let log = rig.proxy.log();
    let cipher = log.split("cipher=").nth(1).and_then(|rest| rest.get(..4)).expect("a suite");
    rig.answer(App::PostQuantum, u16::from_str_radix(cipher, 16).expect("hex")).noise
}

#[test]
fn a_front_behind_proxy_protocol_gets_a_local_header_from_a_probe() {
    let front = ScriptedFront::of(AnswerShape::openssl());
    let rig =
        Rig::with(front.addr, |config| config.set("domain-fronting", "proxy-protocol", "true"));
    rig.wait_for_log("event=front-probe host=");
    assert_eq!(front.hellos()[0].prefix, b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0");
}

#[test]
fn no_front_is_probed_when_scout_is_off() {
    let front = ScriptedFront::of(AnswerShape::openssl());
    let rig = Rig::with(front.addr, |config| config.set("domain-fronting", "scout", "false"));
    rig.serves_with_defaults();
    std::thread::sleep(4 * QUIET);
    assert!(front.hellos().is_empty());
}

#[test]
fn the_proxy_never_probes_itself() {
    let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
    let rig = Rig::with(nowhere, |config| {
        config.set("domain-fronting", "host", "\"127.0.0.1\"").set(
            "domain-fronting",
            "port",
            "{port}",
        )
    });
    rig.wait_for_log("error=\"the front is this proxy itself\"");
    assert_eq!(rig.times("event=fronted"), 0, "no client has connected");
    rig.serves_with_defaults();
}

/// COMPATIBILITY A7: no fetch delays listening or clients.
#[test]
fn a_silent_or_unreachable_front_delays_no_client_and_changes_nothing() {
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let rig = Rig::new(silent.local_addr().expect("an address"));
    let (_probe, _) = silent.accept().expect("a front probe");
    rig.serves_with_defaults();

    let rig = Rig::new(SocketAddr::from((Ipv4Addr::LOCALHOST, free_port())));
    rig.wait_for_log("event=front-probe-failed");
    rig.serves_with_defaults();
}

#[test]
fn an_unsuitable_front_is_logged_and_changes_nothing() {
    type Script = fn(&crate::support::scripted_front::ReceivedHello) -> Vec<u8>;
    let cases: [(Script, &str, usize); 5] = [
        (tls12_answer, "does not support TLS 1.3", 1),
        (retry_answer, "supports neither X25519MLKEM768 nor x25519", 1),
        (|_| b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), "the front is not a TLS server", 0),
        (|_| b"\x15\x03\x03\x00\x02\x02\x70".to_vec(), "refuses with TLS alert 112", 0),
        (|_| b"\x16\x03\x03\x00\x04\x02\xff\xff\xff\x16\x03\x03\x40\x00".to_vec(), "", 0),
    ];
    for (script, why, advice) in cases {
        let front = ScriptedFront::listen(move |hello, _| script(hello));
        let rig = Rig::new(front.addr);
        if !why.is_empty() {
            rig.wait_for_log("event=front-probe-failed");
            assert!(rig.proxy.log().contains(why), "{why}");
        }
        eventually("a front probe", || !front.hellos().is_empty());
        rig.serves_with_defaults();
        assert_eq!(rig.times("event=front-mismatch"), advice, "{why}");
    }
}

#[test]
fn a_front_that_fails_later_leaves_the_profile() {
    let shape = AnswerShape::openssl();
    let front = ScriptedFront::listen(move |hello, count| match count {
        0 => shape.answer(hello),
        _ => b"no more".to_vec(),
    });
    let rig = Rig::new(front.addr);
    rig.wait_for_log("event=front-probe-failed");
    assert_eq!(rig.answer(App::PostQuantum, 0x1302).noise, 581);
}

#[test]
fn the_latency_of_a_distant_front_is_imitated_when_configured() {
    let front = ScriptedFront::of(AnswerShape {
        delay: Duration::from_millis(400),
        ..AnswerShape::boringssl()
    });
    let rig =
        Rig::with(front.addr, |config| config.set("domain-fronting", "mimic-latency", "true"));
    rig.wait_for_log("event=front-probe host=");

    let before = Instant::now();
    let handshake = Handshake::connect(rig.proxy.addr, &rig.secret, App::PostQuantum);
    assert!(before.elapsed() >= Duration::from_millis(400), "{:?}", before.elapsed());
    let _client = handshake.send_frame(DD, 2);
    let _session = rig.dc.accept();
    rig.proxy.wait_for_connections("alice", 1);

    // A client that waits for its answer is counted, and released when it closes.
    let hello = Hello::new(&rig.secret, App::PostQuantum);
    let mut early = Peer::connect("early", rig.proxy.addr);
    early.send(&hello.wire);
    rig.proxy.wait_for_connections("alice", 2);
    early.reset();
    rig.proxy.wait_for_connections("alice", 1);
}

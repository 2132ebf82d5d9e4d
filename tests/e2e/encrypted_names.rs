//! Names through DNS over TLS and HTTPS: one connection that is kept, a certificate that is
//! checked, and a server that may come up later than we do (spec: network 7, gotchas A8 and B12).

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;
use std::time::Duration;

use rustls::ServerConfig;

use crate::support::authority::Authority;
use crate::support::dc::Dc;
use crate::support::eventually;
use crate::support::hello::{Hello, Secret, Shape};
use crate::support::names::{A, AAAA, ASKED, Act, NameServer, Over, Question, response};
use crate::support::origin::Origin;
use crate::support::peer::Peer;
use crate::support::proxy::{Config, Proxy, free_port};

const HOME: Ipv4Addr = Ipv4Addr::LOCALHOST;
const NOWHERE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 99);
const HELLO: &[u8] = b"GET / HTTP/1.1\r\nHost: somebody\r\n\r\n";
const BOTH: [Over; 2] = [Over::Tls, Over::Https];
/// Hosts of three users, so that there are three names to ask for.
const HOSTS: [&str; 3] = ["one.example", "two.example", "three.example"];

/// A proxy with three users who have a host each, and the only one who knows the hosts' addresses.
struct Rig {
    proxy: Proxy,
    names: NameServer,
    origin: Origin,
    _dc: Dc,
    _authority: Authority,
}

impl Rig {
    fn new(over: Over, script: impl Fn(&Question) -> Vec<Act> + Send + Sync + 'static) -> Self {
        let (dc, origin, authority) = (Dc::listen(), Origin::listen(), Authority::new());
        let tls = authority.server(&["127.0.0.1"]);
        let names = NameServer::secure(over, anywhere(), tls, script);
        let proxy = start(&dc, &origin, &authority, &names.url());
        Self { proxy, names, origin, _dc: dc, _authority: authority }
    }

    /// A stranger who names one of the hosts reaches the origin.
    fn assert_led(&self, host: &str, what: &str) {
        let hello = Hello::fresh(&Secret::new(host), Shape::PostQuantum).wire;
        let mut prober = Peer::connect("prober", self.proxy.addr);
        prober.send(&hello);
        assert!(self.origin.visit().first == hello, "{what}");
    }

    /// A stranger is let go without a word.
    fn assert_lost(&self, what: &str) {
        assert_lost(&self.proxy, &self.origin, what);
    }
}

fn start(dc: &Dc, origin: &Origin, authority: &Authority, url: &str) -> Proxy {
    prepare(dc, origin, authority, url).start()
}

fn prepare(dc: &Dc, origin: &Origin, authority: &Authority, url: &str) -> Config {
    let config = Config::new(dc.addr, origin.addr)
        .without("domain-fronting", "host")
        .set("network", "dns", url)
        .set("network", "ca-file", &authority.quoted());
    HOSTS.iter().fold(config, |config, host| config.user(&host[..3], &Secret::new(host)))
}

fn assert_lost(proxy: &Proxy, origin: &Origin, what: &str) {
    let mut prober = Peer::connect("prober", proxy.addr);
    prober.send(HELLO);
    assert!(prober.recv_rest().0.is_empty(), "{what}");
    assert_eq!(origin.knocks(), 0, "{what}");
}

fn assert_led_at_last(proxy: &Proxy, origin: &Origin) {
    eventually("the name is found", || {
        let mut prober = Peer::connect("prober", proxy.addr);
        prober.send(HELLO);
        let visit = origin.visit_within(Duration::from_millis(500));
        visit.is_some_and(|visit| visit.first == HELLO)
    });
}

fn anywhere() -> SocketAddr {
    SocketAddr::from((HOME, 0))
}

fn truth(question: &Question) -> Vec<Act> {
    question.lead_to(HOME).say()
}

#[test]
fn names_are_asked_on_one_connection_that_is_opened_for_the_first_and_kept() {
    for over in BOTH {
        let rig = Rig::new(over, truth);
        assert_eq!(rig.names.connections(), 0, "{over:?}: nothing is asked before it is needed");
        for host in HOSTS {
            for visit in ["first", "second"] {
                rig.assert_led(host, &format!("{over:?}: {visit} visit to {host}"));
            }
        }
        let questions = rig.names.questions();
        assert_eq!(questions.len(), 6, "{over:?}");
        assert!(questions.iter().all(|q| q.over == over && HOSTS.contains(&q.name.as_str())));
        assert_eq!(rig.names.connections(), 1, "{over:?}");
    }
}

#[test]
fn many_names_at_once_share_the_connection() {
    for over in BOTH {
        let rig = Rig::new(over, truth);
        let hellos = HOSTS.map(|host| Hello::fresh(&Secret::new(host), Shape::Classic).wire);
        let probers = hellos.each_ref().map(|hello| {
            let mut prober = Peer::connect("prober", rig.proxy.addr);
            prober.send(hello);
            prober
        });
        for _ in &probers {
            assert!(hellos.contains(&rig.origin.visit().first), "{over:?}");
        }
        assert_eq!((rig.names.count(), rig.names.connections()), (6, 1), "{over:?}");
    }
}

#[test]
fn a_server_that_closes_after_each_answer_is_asked_on() {
    for over in BOTH {
        let rig = Rig::new(over, |question| {
            let mut acts = truth(question);
            acts.push(Act::Close);
            acts
        });
        for host in HOSTS {
            rig.assert_led(host, &format!("{over:?}: {host}"));
        }
    }
    let rig = Rig::new(Over::Https, |question| {
        let wire = response("200 OK\r\nConnection: close", &question.lead_to(HOME).packet());
        vec![Act::Raw(wire)]
    });
    for host in HOSTS {
        rig.assert_led(host, "Connection: close");
    }
}

#[test]
fn answers_may_come_in_pieces() {
    for over in BOTH {
        let rig = Rig::new(over, |question| vec![Act::Dribble(question.lead_to(HOME).packet())]);
        rig.assert_led(HOSTS[0], &format!("{over:?}: byte by byte"));
    }
    let rig = Rig::new(Over::Https, |question| vec![Act::Chunked(question.lead_to(HOME).packet())]);
    for host in HOSTS {
        rig.assert_led(host, "chunked");
    }
    assert_eq!(rig.names.connections(), 1, "after chunks the connection goes on");
}

#[test]
fn one_kind_of_address_is_enough() {
    for over in BOTH {
        let rig = Rig::new(over, |question| match question.kind {
            A => truth(question),
            _ => question.reply().code(2).say(),
        });
        rig.assert_led(HOSTS[0], &format!("{over:?}: AAAA fails"));
        let rig = Rig::new(over, |question| match question.kind {
            AAAA => {
                let mapped = HOME.to_ipv6_mapped().octets();
                question.reply().record(&ASKED, AAAA, 60, &mapped).say()
            }
            _ => question.reply().code(2).say(),
        });
        rig.assert_led(HOSTS[0], &format!("{over:?}: A fails"));
    }
}

#[test]
fn wrong_packets_on_a_stream_are_passed_over() {
    let rig = Rig::new(Over::Tls, |question| {
        let mut forged = question.lead_to(NOWHERE);
        forged.id ^= 0x8000;
        let mut acts = vec![Act::Say(Vec::new()), Act::Say(vec![0; 5])];
        acts.extend(forged.say());
        acts.extend(truth(question));
        acts
    });
    rig.assert_led(HOSTS[0], "the packet behind them");
}

#[test]
fn refusals_are_remembered_and_cost_no_connection() {
    type Make = fn(&Question) -> Vec<Act>;
    let nothing: Make = |q| q.reply().say();
    let failed: Make = |q| q.reply().code(2).say();
    let missing: Make = |q| q.reply().code(3).say();
    let broken: Make = |_| vec![Act::Raw(b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n".into())];
    let page: Make = |_| {
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>";
        vec![Act::Raw(head.into())]
    };
    for (over, what, make) in [
        (Over::Tls, "no data", nothing),
        (Over::Tls, "SERVFAIL", failed),
        (Over::Tls, "NXDOMAIN", missing),
        (Over::Https, "no data", nothing),
        (Over::Https, "SERVFAIL", failed),
        (Over::Https, "500", broken),
        (Over::Https, "a page", page),
    ] {
        let rig = Rig::new(over, make);
        for _ in 0..3 {
            rig.assert_lost(what);
        }
        assert_eq!((rig.names.count(), rig.names.connections()), (2, 1), "{over:?}: {what}");
    }
}

#[test]
fn a_server_that_talks_nonsense_lets_the_visitor_go() {
    type Make = fn(&Question) -> Vec<Act>;
    let silence: Make = |_| Vec::new();
    let close: Make = |_| vec![Act::Close];
    let noise: Make = |_| vec![Act::Raw(vec![0xff; 1 << 20])];
    let zeros: Make = |_| vec![Act::Raw(vec![0; 1 << 20]), Act::Close];
    let other: Make = |q| {
        let mut forged = q.lead_to(NOWHERE);
        forged.id ^= 1;
        forged.say()
    };
    let judge = |over, what, make: Make| {
        let rig = Rig::new(over, make);
        let files = rig.proxy.files();
        rig.assert_lost(&format!("{over:?}: {what}"));
        rig.proxy.wait_for_rest(files);
        let tells = || rig.proxy.log().contains("event=dns-unreachable");
        eventually(&format!("the log tells, {over:?}: {what}"), tells);
    };
    // Side by side, as most of them cost our patience.
    thread::scope(|scope| {
        for (what, make) in [
            ("silence", silence),
            ("closed", close),
            ("noise", noise),
            ("zeros", zeros),
            ("an answer to another question", other),
        ] {
            for over in BOTH {
                scope.spawn(move || judge(over, what, make));
            }
        }
    });
}

#[test]
fn a_connection_that_has_died_in_silence_is_replaced() {
    for over in BOTH {
        // The first connection answers questions for the first name only.
        let first_port = AtomicU16::new(0);
        let rig = Rig::new(over, move |question| {
            let port = question.from.port();
            let _ = first_port.compare_exchange(0, port, Ordering::SeqCst, Ordering::SeqCst);
            let is_dead = first_port.load(Ordering::SeqCst) == port && question.name != HOSTS[0];
            if is_dead { Vec::new() } else { truth(question) }
        });
        rig.assert_led(HOSTS[0], "on a good connection");
        rig.assert_led(HOSTS[1], &format!("{over:?}: on the next connection"));
        assert_eq!(rig.names.connections(), 2, "{over:?}");
    }
}

#[test]
fn wrong_certificates_are_asked_nothing() {
    let (dc, origin) = (Dc::listen(), Origin::listen());
    let (authority, stranger) = (Authority::new(), Authority::new());
    for over in BOTH {
        for (what, tls) in [
            ("another's name", authority.server(&["127.0.0.2", "localhost"])),
            ("another authority", stranger.server(&["127.0.0.1"])),
            ("expired", authority.server_until(&["127.0.0.1"], 2020)),
        ] {
            let names = NameServer::secure(over, anywhere(), tls, truth);
            let proxy = start(&dc, &origin, &authority, &names.url());
            assert_lost(&proxy, &origin, what);
            assert_eq!(names.count(), 0, "{over:?}: {what}");
            assert_eq!(names.connections(), 1, "{over:?}: {what}");
            eventually("the log tells", || proxy.log().contains("event=dns-unreachable"));
        }
    }
}

#[test]
fn a_server_that_comes_up_late_delays_nothing_and_is_found() {
    for over in BOTH {
        let (dc, origin, authority) = (Dc::listen(), Origin::listen(), Authority::new());
        let addr = SocketAddr::from((HOME, free_port()));
        let url = match over {
            Over::Tls => format!("\"tls://{addr}\""),
            _ => format!("\"https://{addr}/dns-query\""),
        };
        // Starting waits until the program listens.
        let proxy = start(&dc, &origin, &authority, &url);
        assert_lost(&proxy, &origin, &format!("{over:?}: nobody to ask"));
        let tls = authority.server(&["127.0.0.1"]);
        let _names = NameServer::secure(over, addr, tls, truth);
        assert_led_at_last(&proxy, &origin);
    }
}

#[test]
fn a_server_that_restarts_is_found_again() {
    let (dc, origin, authority) = (Dc::listen(), Origin::listen(), Authority::new());
    let first = NameServer::secure(Over::Tls, anywhere(), authority.server(&["127.0.0.1"]), truth);
    let proxy = start(&dc, &origin, &authority, &first.url());
    assert_led_at_last(&proxy, &origin);
    let addr = first.addr;
    first.close();
    let tls = authority.server(&["127.0.0.1"]);
    let _second = NameServer::secure(Over::Tls, addr, tls, truth);
    let hello = Hello::fresh(&Secret::new(HOSTS[2]), Shape::Classic).wire;
    let mut prober = Peer::connect("prober", proxy.addr);
    prober.send(&hello);
    assert!(origin.visit().first == hello);
}

#[test]
fn a_server_may_have_a_name() {
    let (dc, authority) = (Dc::listen(), Authority::new());
    for over in BOTH {
        // The hosts file of every system knows the first name; nobody knows the second one.
        for (name, bootstrap) in [("localhost", None), ("dns.invalid", Some("\"127.0.0.1\""))] {
            let origin = Origin::listen();
            let names = NameServer::secure(over, anywhere(), authority.server(&[name]), truth);
            let url = names.url().replace("127.0.0.1", name);
            let config = prepare(&dc, &origin, &authority, &url);
            let proxy = match bootstrap {
                Some(ip) => config.set("network", "dns-bootstrap", ip).start(),
                None => config.start(),
            };
            assert_led_at_last(&proxy, &origin);
            assert!(names.count() > 0, "{over:?}: {name}");
        }
    }
}

#[test]
fn a_server_that_insists_on_its_protocol_is_understood() {
    let (dc, authority) = (Dc::listen(), Authority::new());
    let both: [(Over, &[&[u8]]); 2] =
        [(Over::Tls, &[b"dot"]), (Over::Https, &[b"h2", b"http/1.1"])];
    for (over, protocols) in both {
        let origin = Origin::listen();
        let mut tls = ServerConfig::clone(&authority.server(&["127.0.0.1"]));
        tls.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        let names = NameServer::secure(over, anywhere(), Arc::new(tls), truth);
        let proxy = start(&dc, &origin, &authority, &names.url());
        assert_led_at_last(&proxy, &origin);
        assert_eq!(names.connections(), 1, "{over:?}");
    }
}

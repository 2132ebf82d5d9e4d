//! DNS over TLS and HTTPS: one kept connection, a checked certificate, and a server that may start
//! later than the proxy (COMPATIBILITY 5.7, A8 and B12).

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;
use std::time::Duration;

use rustls::server::Acceptor;
use rustls::{ServerConfig, StreamOwned};

use crate::support::authority::Authority;
use crate::support::dc::Dc;
use crate::support::eventually;
use crate::support::front::Front;
use crate::support::hello::{App, Hello, Secret};
use crate::support::lists::with_list;
use crate::support::name_server::{
    A, AAAA, Action, NameServer, QUESTION_NAME, Question, Transport, response,
};
use crate::support::peer::Peer;
use crate::support::proxy::{Config, Proxy, free_port};
use crate::support::web::{WebServer, page};

const FRONT_IP: Ipv4Addr = Ipv4Addr::LOCALHOST;
const NOWHERE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 99);
const HELLO: &[u8] = b"GET / HTTP/1.1\r\nHost: front.example\r\n\r\n";
const BOTH: [Transport; 2] = [Transport::Tls, Transport::Https];
/// The hosts of three users.
const HOSTS: [&str; 3] = ["one.example", "two.example", "three.example"];

/// A proxy whose three users have a host each, and the name server for these hosts.
struct Rig {
    proxy: Proxy,
    config: Config,
    /// The host that is the front now.
    host: String,
    names: NameServer,
    front: Front,
    _dc: Dc,
    _authority: Authority,
}

impl Rig {
    fn new(
        transport: Transport,
        script: impl Fn(&Question) -> Vec<Action> + Send + Sync + 'static,
    ) -> Self {
        let (dc, front, authority) = (Dc::listen(), Front::listen(), Authority::new());
        let tls = authority.server(&["127.0.0.1"]);
        let names = NameServer::secure(transport, anywhere(), tls, script);
        let config = prepare(&dc, &front, &authority, &names.url());
        let (proxy, host) = (config.clone().start(), HOSTS[0].to_owned());
        Self { proxy, config, host, names, front, _dc: dc, _authority: authority }
    }

    /// A hello for this host, without a valid secret, reaches the front.
    fn assert_reaches_front(&mut self, host: &str, what: &str) {
        if self.host != host {
            self.proxy.reload(&with_front(self.config.clone(), host));
            self.host = host.to_owned();
        }
        let hello = Hello::new(&Secret::new(host), App::PostQuantum).wire;
        let mut prober = Peer::connect("prober", self.proxy.addr);
        prober.send(&hello);
        assert!(self.front.accept().first == hello, "{what}");
    }

    /// A connection without a valid secret is closed without a byte.
    fn assert_closed_silently(&self, what: &str) {
        assert_closed_silently(&self.proxy, &self.front, what);
    }
}

fn start(dc: &Dc, front: &Front, authority: &Authority, url: &str) -> Proxy {
    prepare(dc, front, authority, url).start()
}

fn prepare(dc: &Dc, front: &Front, authority: &Authority, url: &str) -> Config {
    let config = Config::new(dc.addr, front.addr).set("network", "dns", url).set(
        "network",
        "ca-file",
        &authority.quoted(),
    );
    let config = with_front(config, HOSTS[0]);
    HOSTS.iter().fold(config, |config, host| config.user(&host[..3], &Secret::new(host)))
}

/// Only a front in the config may be at a loopback address.
fn with_front(config: Config, host: &str) -> Config {
    config.set("domain-fronting", "host", &format!("{host:?}"))
}

fn assert_closed_silently(proxy: &Proxy, front: &Front, what: &str) {
    let mut prober = Peer::connect("prober", proxy.addr);
    prober.send(HELLO);
    assert!(prober.recv_rest().0.is_empty(), "{what}");
    assert_eq!(front.connections(), 0, "{what}");
}

fn assert_reaches_front_in_the_end(proxy: &Proxy, front: &Front) {
    eventually("the name is found", || {
        let mut prober = Peer::connect("prober", proxy.addr);
        prober.send(HELLO);
        let conn = front.accept_within(Duration::from_millis(500));
        conn.is_some_and(|conn| conn.first == HELLO)
    });
}

fn anywhere() -> SocketAddr {
    SocketAddr::from((FRONT_IP, 0))
}

fn correct_answer(question: &Question) -> Vec<Action> {
    question.with_address(FRONT_IP).actions()
}

#[test]
fn lookups_use_one_connection_that_is_opened_for_the_first_and_kept() {
    for transport in BOTH {
        let mut rig = Rig::new(transport, correct_answer);
        assert_eq!(
            rig.names.connections(),
            0,
            "{transport:?}: no connection before the first lookup"
        );
        for host in HOSTS {
            for count in ["first", "second"] {
                rig.assert_reaches_front(
                    host,
                    &format!("{transport:?}: {count} connection to {host}"),
                );
            }
        }
        let questions = rig.names.questions();
        assert_eq!(questions.len(), 6, "{transport:?}");
        assert!(
            questions.iter().all(|q| q.transport == transport && HOSTS.contains(&q.name.as_str()))
        );
        assert_eq!(rig.names.connections(), 1, "{transport:?}");
    }
}

#[test]
fn many_lookups_at_once_share_the_connection() {
    for transport in BOTH {
        let (dc, front, authority) = (Dc::listen(), Front::listen(), Authority::new());
        let tls = authority.server(&["127.0.0.1"]);
        let names = NameServer::secure(transport, anywhere(), tls, correct_answer);
        let web = WebServer::http(|_, out| out.write_all(&page("192.0.2.0/24\n")));
        let port = web.addr.port();
        let urls = ["one", "two", "three"].map(|host| format!("http://{host}.internal:{port}/"));
        let config = prepare(&dc, &front, &authority, &names.url());
        let _proxy =
            with_list(config, "blocklist", &format!("{urls:?}").replace(['[', ']'], "")).start();
        eventually("the lists are fetched", || web.requests().len() == 3);
        assert_eq!((names.count(), names.connections()), (6, 1), "{transport:?}");
    }
}

#[test]
fn a_server_that_closes_after_each_answer_is_still_used() {
    for transport in BOTH {
        let mut rig = Rig::new(transport, |question| {
            let mut actions = correct_answer(question);
            actions.push(Action::Close);
            actions
        });
        for host in HOSTS {
            rig.assert_reaches_front(host, &format!("{transport:?}: {host}"));
        }
    }
    let mut rig = Rig::new(Transport::Https, |question| {
        let wire =
            response("200 OK\r\nConnection: close", &question.with_address(FRONT_IP).packet());
        vec![Action::SendRaw(wire)]
    });
    for host in HOSTS {
        rig.assert_reaches_front(host, "Connection: close");
    }
}

#[test]
fn answers_may_arrive_in_pieces() {
    for transport in BOTH {
        let mut rig = Rig::new(transport, |question| {
            vec![Action::SendByteByByte(question.with_address(FRONT_IP).packet())]
        });
        rig.assert_reaches_front(HOSTS[0], &format!("{transport:?}: byte by byte"));
    }
    let mut rig = Rig::new(Transport::Https, |question| {
        vec![Action::SendChunked(question.with_address(FRONT_IP).packet())]
    });
    for host in HOSTS {
        rig.assert_reaches_front(host, "chunked");
    }
    assert_eq!(rig.names.connections(), 1, "the connection is kept after a chunked body");
}

#[test]
fn one_type_of_address_is_enough() {
    for transport in BOTH {
        let mut rig = Rig::new(transport, |question| match question.kind {
            A => correct_answer(question),
            _ => question.reply().code(2).actions(),
        });
        rig.assert_reaches_front(HOSTS[0], &format!("{transport:?}: AAAA fails"));
        let mut rig = Rig::new(transport, |question| match question.kind {
            AAAA => {
                let mapped = FRONT_IP.to_ipv6_mapped().octets();
                question.reply().record(&QUESTION_NAME, AAAA, 60, &mapped).actions()
            }
            _ => question.reply().code(2).actions(),
        });
        rig.assert_reaches_front(HOSTS[0], &format!("{transport:?}: A fails"));
    }
}

#[test]
fn wrong_packets_on_a_stream_are_skipped() {
    let mut rig = Rig::new(Transport::Tls, |question| {
        let mut forged = question.with_address(NOWHERE);
        forged.id ^= 0x8000;
        let mut actions = vec![Action::Send(Vec::new()), Action::Send(vec![0; 5])];
        actions.extend(forged.actions());
        actions.extend(correct_answer(question));
        actions
    });
    rig.assert_reaches_front(HOSTS[0], "the packet after them");
}

#[test]
fn refusals_are_remembered_and_cost_no_connection() {
    type Make = fn(&Question) -> Vec<Action>;
    let nothing: Make = |q| q.reply().actions();
    let failed: Make = |q| q.reply().code(2).actions();
    let missing: Make = |q| q.reply().code(3).actions();
    let broken: Make =
        |_| vec![Action::SendRaw(b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n".into())];
    let page: Make = |_| {
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>";
        vec![Action::SendRaw(head.into())]
    };
    for (transport, what, make) in [
        (Transport::Tls, "no data", nothing),
        (Transport::Tls, "SERVFAIL", failed),
        (Transport::Tls, "NXDOMAIN", missing),
        (Transport::Https, "no data", nothing),
        (Transport::Https, "SERVFAIL", failed),
        (Transport::Https, "500", broken),
        (Transport::Https, "a page", page),
    ] {
        let rig = Rig::new(transport, make);
        for _ in 0..3 {
            rig.assert_closed_silently(what);
        }
        assert_eq!((rig.names.count(), rig.names.connections()), (2, 1), "{transport:?}: {what}");
    }
}

#[test]
fn an_invalid_answer_closes_the_connection_of_a_probe() {
    type Make = fn(&Question) -> Vec<Action>;
    let silence: Make = |_| Vec::new();
    let close: Make = |_| vec![Action::Close];
    let noise: Make = |_| vec![Action::SendRaw(vec![0xff; 1 << 20])];
    let zeros: Make = |_| vec![Action::SendRaw(vec![0; 1 << 20]), Action::Close];
    let other: Make = |q| {
        let mut forged = q.with_address(NOWHERE);
        forged.id ^= 1;
        forged.actions()
    };
    let check = |transport, what, make: Make| {
        let rig = Rig::new(transport, make);
        let files = rig.proxy.files();
        rig.assert_closed_silently(&format!("{transport:?}: {what}"));
        rig.proxy.wait_until_idle(files);
        let is_logged = || rig.proxy.log().contains("event=dns-unreachable");
        eventually(&format!("it is logged, {transport:?}: {what}"), is_logged);
    };
    // In parallel, because most of them end with a timeout.
    thread::scope(|scope| {
        for (what, make) in [
            ("silence", silence),
            ("closed", close),
            ("noise", noise),
            ("zeros", zeros),
            ("an answer to another question", other),
        ] {
            for transport in BOTH {
                scope.spawn(move || check(transport, what, make));
            }
        }
    });
}

#[test]
fn a_connection_that_no_longer_answers_is_replaced() {
    for transport in BOTH {
        // The first connection answers only the questions for the first name.
        let first_port = AtomicU16::new(0);
        let mut rig = Rig::new(transport, move |question| {
            let port = question.from.port();
            let _ = first_port.compare_exchange(0, port, Ordering::SeqCst, Ordering::SeqCst);
            let is_dead = first_port.load(Ordering::SeqCst) == port && question.name != HOSTS[0];
            if is_dead { Vec::new() } else { correct_answer(question) }
        });
        rig.assert_reaches_front(HOSTS[0], "on the first connection");
        rig.assert_reaches_front(HOSTS[1], &format!("{transport:?}: on the next connection"));
        assert_eq!(rig.names.connections(), 2, "{transport:?}");
    }
}

#[test]
fn a_server_with_a_wrong_certificate_gets_no_question() {
    let (dc, front) = (Dc::listen(), Front::listen());
    let (authority, unknown) = (Authority::new(), Authority::new());
    for transport in BOTH {
        for (what, tls) in [
            ("another name", authority.server(&["127.0.0.2", "localhost"])),
            ("another authority", unknown.server(&["127.0.0.1"])),
            ("expired", authority.server_until(&["127.0.0.1"], 2020)),
        ] {
            let names = NameServer::secure(transport, anywhere(), tls, correct_answer);
            let proxy = start(&dc, &front, &authority, &names.url());
            assert_closed_silently(&proxy, &front, what);
            assert_eq!(names.count(), 0, "{transport:?}: {what}");
            assert_eq!(names.connections(), 1, "{transport:?}: {what}");
            eventually("the log is_logged", || proxy.log().contains("event=dns-unreachable"));
        }
    }
}

#[test]
fn a_server_that_starts_later_delays_nothing_and_is_used() {
    for transport in BOTH {
        let (dc, front, authority) = (Dc::listen(), Front::listen(), Authority::new());
        let addr = SocketAddr::from((FRONT_IP, free_port()));
        let url = match transport {
            Transport::Tls => format!("\"tls://{addr}\""),
            _ => format!("\"https://{addr}/dns-query\""),
        };
        // `start` waits until the program listens.
        let proxy = start(&dc, &front, &authority, &url);
        assert_closed_silently(&proxy, &front, &format!("{transport:?}: no server"));
        let tls = authority.server(&["127.0.0.1"]);
        let _names = NameServer::secure(transport, addr, tls, correct_answer);
        assert_reaches_front_in_the_end(&proxy, &front);
    }
}

#[test]
fn a_server_that_restarts_is_used_again() {
    let (dc, front, authority) = (Dc::listen(), Front::listen(), Authority::new());
    let first = NameServer::secure(
        Transport::Tls,
        anywhere(),
        authority.server(&["127.0.0.1"]),
        correct_answer,
    );
    let config = prepare(&dc, &front, &authority, &first.url());
    let mut proxy = config.clone().start();
    assert_reaches_front_in_the_end(&proxy, &front);
    let addr = first.addr;
    first.close();
    let tls = authority.server(&["127.0.0.1"]);
    let _second = NameServer::secure(Transport::Tls, addr, tls, correct_answer);
    proxy.reload(&with_front(config, HOSTS[2]));
    let hello = Hello::new(&Secret::new(HOSTS[2]), App::Classic).wire;
    let mut prober = Peer::connect("prober", proxy.addr);
    prober.send(&hello);
    assert!(front.accept().first == hello);
}

#[test]
fn a_server_may_have_a_name() {
    let (dc, authority) = (Dc::listen(), Authority::new());
    for transport in BOTH {
        // The hosts file of every system has the first name. The second name exists nowhere.
        for (name, bootstrap) in [("localhost", None), ("dns.invalid", Some("\"127.0.0.1\""))] {
            let front = Front::listen();
            let names = NameServer::secure(
                transport,
                anywhere(),
                authority.server(&[name]),
                correct_answer,
            );
            let url = names.url().replace("127.0.0.1", name);
            let config = prepare(&dc, &front, &authority, &url);
            let proxy = match bootstrap {
                Some(ip) => config.set("network", "dns-bootstrap", ip).start(),
                None => config.start(),
            };
            assert_reaches_front_in_the_end(&proxy, &front);
            assert!(names.count() > 0, "{transport:?}: {name}");
        }
    }
}

#[test]
fn a_server_that_requires_alpn_is_understood() {
    let (dc, authority) = (Dc::listen(), Authority::new());
    let both: [(Transport, &[&[u8]]); 2] =
        [(Transport::Tls, &[b"dot"]), (Transport::Https, &[b"h2", b"http/1.1"])];
    for (transport, protocols) in both {
        let front = Front::listen();
        let mut tls = ServerConfig::clone(&authority.server(&["127.0.0.1"]));
        tls.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        let names = NameServer::secure(transport, anywhere(), Arc::new(tls), correct_answer);
        let proxy = start(&dc, &front, &authority, &names.url());
        assert_reaches_front_in_the_end(&proxy, &front);
        assert_eq!(names.connections(), 1, "{transport:?}");
    }
}

/// unbound and BIND take a client without ALPN and close when it does not speak HTTP/2, often
/// before their SETTINGS are sent.
#[test]
fn a_server_that_speaks_only_http2_is_recognised_whatever_it_sends_before_it_closes() {
    const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
    let (dc, front, authority) = (Dc::listen(), Front::listen(), Authority::new());
    let http2_only = "the server speaks HTTP/2 only; use its tls:// address";
    // An unread request makes the close a reset.
    for (settings, reads, has_http2) in [
        (SETTINGS, true, true),
        (SETTINGS, false, true),
        (&[], true, true),
        (&[], false, true),
        (&[], true, false),
    ] {
        let listener = TcpListener::bind(anywhere()).expect("a port");
        let url = format!("\"https://{}/dns-query\"", listener.local_addr().expect("an address"));
        let plain = authority.server(&["127.0.0.1"]);
        let mut http2 = ServerConfig::clone(&plain);
        http2.alpn_protocols = vec![b"h2".to_vec()];
        let http2 = Arc::new(http2);
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let mut acceptor = Acceptor::default();
                let accepted = loop {
                    acceptor.read_tls(&mut stream).expect("a hello");
                    if let Some(accepted) = acceptor.accept().expect("a valid hello") {
                        break accepted;
                    }
                };
                let alpn = accepted.client_hello().alpn();
                let offers_http2 = alpn.into_iter().flatten().any(|one| one == b"h2");
                let config = if has_http2 && offers_http2 { &http2 } else { &plain };
                let tls = accepted.into_connection(Arc::clone(config)).expect("a connection");
                let mut stream = StreamOwned::new(tls, stream);
                while stream.conn.is_handshaking() {
                    stream.conn.complete_io(&mut stream.sock).expect("a handshake");
                }
                let _ = stream.write_all(settings);
                let _ = stream.flush();
                match reads {
                    true => drop(stream.read(&mut [0; 1_024])),
                    // Waits for the request, which the handshake may have read too.
                    false => {
                        let wait = Some(Duration::from_millis(100));
                        stream.sock.set_read_timeout(wait).expect("a timeout");
                        let _ = stream.sock.peek(&mut [0]);
                    }
                }
            }
        });
        let proxy = start(&dc, &front, &authority, &url);
        let what = format!("{} bytes, reads: {reads}, HTTP/2: {has_http2}", settings.len());
        assert_closed_silently(&proxy, &front, &what);
        eventually("it is logged", || proxy.log().contains("event=dns-unreachable"));
        assert_eq!(proxy.log().contains(http2_only), has_http2, "{what}: {}", proxy.log());
    }
}

//! A front that leads back to the proxy over a router: its own hellos come back. They are refused,
//! and nothing is led to that front for a minute, or before a reload (DECISIONS D194).

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use crate::support::client::Client;
use crate::support::dc::Dc;
use crate::support::doctor::examine_file;
use crate::support::fixture::{Fixture, HOST};
use crate::support::front::Front;
use crate::support::hello::{App, Hello, Secret};
use crate::support::peer::{End, Peer};
use crate::support::proxy::{Config, Proxy, free_port};
use crate::support::{QUIET, eventually, stats};

/// A TCP router, as an SNI router or a forwarded port is.
struct Router {
    addr: SocketAddr,
    to: Arc<Mutex<SocketAddr>>,
    count: Arc<AtomicUsize>,
}

impl Router {
    /// Leads nowhere at first.
    fn listen() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let addr = listener.local_addr().expect("an address");
        let (to, count) =
            (Arc::new(Mutex::new(([127, 0, 0, 1], 1).into())), Arc::new(AtomicUsize::new(0)));
        let (target, counter) = (Arc::clone(&to), Arc::clone(&count));
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                counter.fetch_add(1, Ordering::SeqCst);
                let to = *target.lock().expect("an address");
                let Ok(server) = TcpStream::connect(to) else { continue };
                copy(&client, &server);
                copy(&server, &client);
            }
        });
        Self { addr, to, count }
    }

    fn lead_to(&self, addr: SocketAddr) {
        *self.to.lock().expect("an address") = addr;
    }

    fn count(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }
}

/// Copies one direction. An end or a reset ends the other direction too, as with HAProxy.
fn copy(from: &TcpStream, to: &TcpStream) {
    let (mut from, mut to) = (from.try_clone().expect("a socket"), to.try_clone().expect("one"));
    thread::spawn(move || {
        let end = io::copy(&mut from, &mut to);
        let how = if end.is_ok() { std::net::Shutdown::Write } else { std::net::Shutdown::Both };
        let _ = (to.shutdown(how), end.is_err() && from.shutdown(how).is_err());
    });
}

struct Rig {
    proxy: Proxy,
    config: Config,
    dc: Dc,
    router: Router,
    secret: Secret,
}

/// `leads_back` = from the start.
fn rig(leads_back: bool, change: impl FnOnce(Config) -> Config) -> Rig {
    let (dc, router, secret) = (Dc::listen(), Router::listen(), Secret::new(HOST));
    let port = free_port();
    if leads_back {
        router.lead_to((Ipv4Addr::LOCALHOST, port).into());
    }
    let config = Config::new(dc.addr, router.addr).user("alice", &secret).port(port);
    let config = change(config);
    let proxy = config.clone().start();
    Rig { proxy, config, dc, router, secret }
}

impl Rig {
    /// A client without a valid secret gets no byte, and its bytes go round at most once.
    fn assert_refused(&self, bytes: &[u8], rounds: usize) {
        let before = self.router.count();
        let mut prober = Peer::connect("prober", self.proxy.addr);
        prober.send(bytes);
        if bytes.is_empty() {
            prober.send_fin();
        }
        let (seen, _) = prober.recv_rest();
        assert!(seen.is_empty(), "{} bytes", seen.len());
        assert_eq!(self.router.count() - before, rounds);
    }

    fn assert_told(&self) {
        assert!(self.proxy.log().contains("event=front-loop"), "{}", self.proxy.log());
        let why = stats::get(self.proxy.api, "/explain").body;
        assert!(why.contains("front-loop"), "{why}");
        let report = examine_file(self.proxy.file(), &["--skip-native-check"]);
        report.has("fronting", "failed", "leads back to this proxy");
    }

    fn assert_serves(&self) {
        let _client = Client::open(self.proxy.addr, &self.secret);
        assert_eq!(self.dc.accept().dc, 2);
    }
}

fn with_looks(config: Config) -> Config {
    config.set("domain-fronting", "scout", "true")
}

fn foreign_hello() -> Vec<u8> {
    Hello::new(&Secret::new(HOST), App::PostQuantum).wire
}

#[test]
fn a_hello_that_comes_back_is_refused_and_the_front_is_known() {
    let rig = rig(true, |config| config);
    let files = rig.proxy.files();
    rig.assert_refused(&foreign_hello(), 1);
    for bytes in [&foreign_hello()[..], b"GET / HTTP/1.1\r\n\r\n", b""] {
        rig.assert_refused(bytes, 0);
    }
    rig.assert_told();
    rig.assert_serves();
    rig.proxy.wait_until_idle(files);
}

#[test]
fn a_look_that_meets_itself_stops_until_a_reload() {
    let mut rig = rig(true, with_looks);
    eventually("the loop is told", || rig.proxy.log().contains("event=front-loop"));
    eventually("the look has ended", || rig.proxy.log().contains("event=front-probe-failed"));
    let looks = rig.router.count();
    assert!(looks <= 2, "{looks} connections");
    for bytes in [&foreign_hello()[..], b"GET / HTTP/1.1\r\n\r\n", b""] {
        rig.assert_refused(bytes, 0);
    }
    rig.assert_told();
    rig.assert_serves();

    let front = Front::listen();
    rig.router.lead_to(front.addr);
    rig.proxy.reload(&rig.config.clone());
    eventually("it looks again", || front.connections() > 0);
    drop(front.accept());
    let mut prober = Peer::connect("prober", rig.proxy.addr);
    prober.send(b"GET / HTTP/1.1\r\n\r\n");
    let mut conn = front.accept();
    conn.peer.send(b"the site");
    conn.peer.send_fin();
    assert_eq!(prober.recv_rest(), (b"the site".to_vec(), End::Fin));
}

#[test]
fn a_request_that_comes_back_makes_the_proxy_look_and_is_refused() {
    let rig = rig(false, with_looks);
    let files = rig.proxy.files();
    eventually("the first look fails", || rig.proxy.log().contains("event=front-probe-failed"));
    rig.router.lead_to(rig.proxy.addr);
    // The request once, and the look.
    rig.assert_refused(b"GET / HTTP/1.1\r\n\r\n", 2);
    rig.assert_refused(b"", 0);
    rig.assert_told();
    rig.assert_serves();
    rig.proxy.wait_until_idle(files);
}

#[test]
fn a_replay_of_a_hello_that_the_front_has_not_answered_waits_for_the_answer() {
    let fixture = Fixture::new();
    let hello = foreign_hello();
    let connect = || {
        let mut peer = Peer::connect("prober", fixture.proxy.addr);
        peer.send(&hello);
        peer
    };
    let mut first = connect();
    let mut conn = fixture.front.accept();
    let mut second = connect();
    assert!(fixture.front.accept_within(QUIET / 8).is_none(), "it waits");
    conn.peer.send(b"an alert");
    let mut other = fixture.front.accept();
    assert!(other.first == hello);
    other.peer.send(b"an alert");
    assert_eq!((first.recv(8), second.recv(8)), (b"an alert".to_vec(), b"an alert".to_vec()));
    assert!(!fixture.proxy.log().contains("front-loop"));
}

//! A connection over a scripted network.

use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice, IoSliceMut};
use std::net::Ipv4Addr;
use std::rc::Rc;

use super::*;
use crate::config::load;
use crate::config::settings::Settings;
use crate::io::listen::{AcceptError, ListenAddr};
use crate::io::logger::RateLimitedLog;
use crate::io::mio_net::MioDatagram;
use crate::io::sockopt::SocketOptions;
use crate::io::wire::ListenSocket;
use crate::proto::socks5::SocksFault;
use crate::util::drbg::Drbg;
use crate::util::memory::{Account, Budget, Class};

mod reach;

/// The other end of a socket. Clones share it.
#[derive(Clone, Default)]
struct ScriptedWire {
    addr: Option<SocketAddr>,
    token: usize,
    connected: Rc<Cell<Option<Result<(), io::ErrorKind>>>>,
    sent: Rc<RefCell<Vec<u8>>>,
    received: Rc<RefCell<Vec<u8>>>,
    resets: Rc<Cell<bool>>,
}

impl Wire for ScriptedWire {
    fn read(&mut self, into: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let mut received = self.received.borrow_mut();
        let len = into[0].len().min(received.len());
        if len == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        into[0][..len].copy_from_slice(&received[..len]);
        received.drain(..len);
        Ok(len)
    }

    fn write(&mut self, from: &[IoSlice<'_>]) -> io::Result<usize> {
        self.sent.borrow_mut().extend_from_slice(&from[0]);
        Ok(from[0].len())
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn reset_on_close(&mut self) {
        self.resets.set(true);
    }

    fn unacknowledged(&self) -> Option<u32> {
        Some(0)
    }

    fn memory(&self) -> u64 {
        0
    }

    fn limit_buffers(&mut self, _bytes: Option<u32>) {}

    fn set_options(&mut self, _: &SocketOptions) {}

    fn poll_connect(&mut self) -> Poll<io::Result<()>> {
        match self.connected.take() {
            Some(outcome) => Poll::Ready(outcome.map_err(io::Error::from)),
            None => Poll::Pending,
        }
    }
}

/// A connector opens no listener.
enum NoListener {}

impl ListenSocket for NoListener {
    type Wire = ScriptedWire;

    fn accept(&mut self) -> Result<Option<(ScriptedWire, SocketAddr)>, AcceptError> {
        match *self {}
    }

    fn local_addr(&self) -> SocketAddr {
        match *self {}
    }

    fn set_client_options(&self, _: &SocketOptions) {
        match *self {}
    }
}

/// Records every dial. Addresses with port 9 are unreachable at once.
#[derive(Default)]
struct ScriptedNet {
    dialled: Vec<ScriptedWire>,
    /// The error of every dial.
    shortage: Option<i32>,
}

impl Net for ScriptedNet {
    type Wire = ScriptedWire;
    type Datagram = MioDatagram;
    type Listener = NoListener;

    fn dial(
        &mut self,
        to: SocketAddr,
        _: &SocketOptions,
        token: usize,
    ) -> io::Result<ScriptedWire> {
        if let Some(errno) = self.shortage {
            return Err(io::Error::from_raw_os_error(errno));
        }
        if to.port() == 9 {
            return Err(io::ErrorKind::NetworkUnreachable.into());
        }
        self.dialled.push(ScriptedWire { addr: Some(to), token, ..ScriptedWire::default() });
        Ok(self.dialled[self.dialled.len() - 1].clone())
    }

    fn register(&mut self, _: &mut ScriptedWire, _: usize) -> io::Result<()> {
        Ok(())
    }

    fn is_own_address(&mut self, ip: IpAddr) -> bool {
        ip.is_loopback() || ip == OWN
    }

    fn datagram(&mut self, _: SocketAddr, _: usize) -> io::Result<MioDatagram> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn datagram_sender(&mut self, _: SocketAddr) -> io::Result<MioDatagram> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn listen(&mut self, _: &ListenAddr, _: usize) -> io::Result<NoListener> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn memory_in_use(&mut self) -> (u64, u64) {
        (0, 0)
    }

    fn micros(&self) -> u64 {
        0
    }
}

struct Scene {
    now: Tick,
    settings: Settings,
    outbound: Outbound,
    net: ScriptedNet,
    drbg: Drbg,
    log: RateLimitedLog,
    account: Rc<Account>,
}

type Outcome = Poll<Result<Connected<ScriptedWire>, ConnectError>>;

impl Scene {
    fn new(proxies: &str) -> Self {
        let secret = format!("ee{}{}", "11".repeat(16), "61".repeat(4));
        let text = format!(
            "bind-to = \"192.0.2.1:443\"\nsecret = \"{secret}\"\n[network]\nproxies = [{proxies}]"
        );
        let settings = load::load(text.as_bytes(), "test").unwrap().settings;
        Self {
            now: Tick(1_000),
            outbound: Outbound::new(&settings),
            settings,
            net: ScriptedNet::default(),
            drbg: Drbg::new([7; 48]),
            log: RateLimitedLog::default(),
            account: Account::of_class(&Budget::new(1 << 20), Class::Users),
        }
    }

    fn poll(&mut self, connect: &mut Connect<ScriptedWire>) -> Outcome {
        let mut context = ConnectContext {
            now: self.now,
            settings: &self.settings,
            outbound: &mut self.outbound,
            drbg: &mut self.drbg,
            log: &mut self.log,
            account: &self.account,
            first_buffers: None,
        };
        connect.poll(TOKEN, &mut context, &mut self.net)
    }

    fn poll_after(&mut self, time: Duration, connect: &mut Connect<ScriptedWire>) -> Outcome {
        self.now = self.now + time;
        self.poll(connect)
    }

    /// Ends the TCP connect of a dial.
    fn end(&mut self, dial: usize, outcome: Result<(), io::ErrorKind>) -> ScriptedWire {
        self.net.dialled[dial].connected.set(Some(outcome));
        self.net.dialled[dial].clone()
    }

    /// Sends each message of a proxy after the bytes before it.
    fn answer(&mut self, connect: &mut Connect<ScriptedWire>, messages: &[&[u8]]) -> Outcome {
        let wire = self.end(self.net.dialled.len() - 1, Ok(()));
        let mut outcome = Poll::Pending;
        for message in [&[][..]].iter().chain(messages) {
            wire.received.borrow_mut().extend_from_slice(message);
            connect.wake(0);
            outcome = self.poll(connect);
        }
        outcome
    }

    fn dialled(&self) -> Vec<SocketAddr> {
        self.net.dialled.iter().filter_map(|wire| wire.addr).collect()
    }
}

fn addr(port: u16) -> SocketAddr {
    SocketAddr::from(([198, 51, 100, 1], port))
}

fn to_addrs(ports: &[u16], route: Route) -> Connect<ScriptedWire> {
    let addrs = ports.iter().copied().map(addr).collect();
    Connect::new(HostOrAddrs::Addrs(addrs), route, 1)
}

fn to_host(host: &str, route: Route) -> Connect<ScriptedWire> {
    within(Reach::Any, host, route)
}

fn within(reach: Reach, host: &str, route: Route) -> Connect<ScriptedWire> {
    Connect::new(HostOrAddrs::Host(HostPort::new(host, 443), reach), route, 1)
}

fn connected(outcome: Outcome) -> Connected<ScriptedWire> {
    match outcome {
        Poll::Ready(Ok(connected)) => connected,
        Poll::Ready(Err(error)) => panic!("{error}"),
        Poll::Pending => panic!("pending"),
    }
}

fn error(outcome: Outcome) -> ConnectError {
    match outcome {
        Poll::Ready(Err(error)) => error,
        Poll::Ready(Ok(_)) => panic!("connected"),
        Poll::Pending => panic!("pending"),
    }
}

#[test]
fn a_second_attempt_starts_after_the_stagger_and_the_first_answer_wins() {
    let mut scene = Scene::new("");
    let mut connect = to_addrs(&[1, 2, 3], Route::Native);
    assert_eq!(connect.due(), Tick(0));
    assert!(scene.poll(&mut connect).is_pending());
    assert_eq!(connect.due(), scene.now + STAGGER);
    assert!(scene.poll_after(Duration::from_millis(249), &mut connect).is_pending());
    assert_eq!(scene.dialled(), [addr(1)]);
    assert!(scene.poll_after(Duration::from_millis(1), &mut connect).is_pending());
    assert_eq!(scene.dialled(), [addr(1), addr(2)]);
    assert_eq!(connect.due(), Tick(1_000) + scene.settings.timeouts.tcp, "two attempts at most");
    assert!(scene.poll_after(STAGGER, &mut connect).is_pending());
    scene.outbound.bad_addresses.add(addr(2), scene.now);
    scene.end(1, Ok(()));
    assert!(scene.poll(&mut connect).is_pending(), "no event");
    connect.wake(1);
    let connected = connected(scene.poll(&mut connect));
    assert_eq!((connected.addr, connected.destination), (addr(2), addr(2)));
    assert_eq!((connected.offset, connected.wire.token), (1, TOKEN + 1));
    assert_eq!(connected.upstream, None);
    assert!(!scene.outbound.bad_addresses.contains(addr(2), scene.now), "it has answered");
}

#[test]
fn a_failed_address_is_followed_at_once_and_goes_last_later() {
    let mut scene = Scene::new("");
    let mut connect = to_addrs(&[9, 1, 2], Route::Native);
    assert!(scene.poll(&mut connect).is_pending());
    assert_eq!(scene.dialled(), [addr(1)], "port 9 fails at once");
    scene.end(0, Err(io::ErrorKind::ConnectionRefused));
    connect.wake(0);
    assert!(scene.poll(&mut connect).is_pending());
    assert_eq!(scene.dialled(), [addr(1), addr(2)]);
    let late = scene.settings.timeouts.tcp;
    let error = error(scene.poll_after(late, &mut connect));
    assert!(matches!(error, ConnectError::Address(at, None) if at == addr(2)), "{error:?}");
    let mut later = to_addrs(&[1, 3], Route::Native);
    assert!(scene.poll(&mut later).is_pending());
    assert_eq!(scene.dialled().last(), Some(&addr(3)));
}

#[test]
fn the_other_ports_of_a_data_centre_are_a_second_chance() {
    let mut scene = Scene::new("");
    let mut connect = to_addrs(&[9], Route::Upstreams).with_other_ports_of(4);
    assert!(scene.poll(&mut connect).is_pending());
    assert_eq!(scene.dialled(), addresses::other_ports(&scene.settings, 4)[..1]);
    let count = addresses::other_ports(&scene.settings, 4).len();
    for _ in 0..count {
        assert!(scene.poll(&mut connect).is_pending());
        scene.now = connect.due();
    }
    while scene.poll(&mut connect).is_pending() {
        scene.now = connect.due();
    }
    assert_eq!(scene.dialled().len(), count);
}

#[test]
fn a_name_is_looked_up_for_ten_seconds() {
    let mut scene = Scene::new("");
    let mut connect = to_host("a.example", Route::Native);
    assert!(scene.poll(&mut connect).is_pending());
    assert_eq!(connect.due(), scene.now + LOOKUP);
    let ips = Ok(vec![addr(0).ip()]);
    assert_eq!(scene.outbound.dns.answer("a.example", ips, 60, scene.now), [TOKEN]);
    assert!(scene.poll(&mut connect).is_pending());
    assert_eq!(scene.dialled(), [addr(443)]);

    let mut late = to_host("b.example", Route::Front);
    assert!(scene.poll(&mut late).is_pending());
    let error = error(scene.poll_after(LOOKUP, &mut late));
    assert!(matches!(&error, ConnectError::NameNotFound(host, _) if host == "b.example"));
    let text = "no address for the host name \"b.example\": no name server has answered";
    assert_eq!(error.to_string(), text);
}

#[test]
fn old_addresses_serve_when_a_lookup_takes_longer_than_a_client_waits() {
    let mut scene = Scene::new("");
    let ips = || Ok(vec![addr(0).ip()]);
    scene.outbound.dns.answer("a.example", ips(), 60, Tick(0));
    scene.now = Tick(0) + Duration::from_secs(61);
    let mut first = to_host("a.example", Route::Native);
    assert!(scene.poll(&mut first).is_pending());
    let wait = Duration::from_millis(1_800);
    assert_eq!(first.due(), scene.now + wait);
    assert!(scene.dialled().is_empty());
    assert!(scene.poll_after(wait, &mut first).is_pending());
    assert_eq!(scene.dialled(), [addr(443)]);
    let mut second = to_host("a.example", Route::Native);
    assert!(scene.poll(&mut second).is_pending());
    assert_eq!(scene.dialled().len(), 2, "it waits no longer");
}

#[test]
fn a_front_is_not_one_of_our_own_listeners() {
    let mut scene = Scene::new("");
    scene.outbound.own_listeners = vec!["0.0.0.0:443".parse().unwrap(), addr(7)];
    let error = |scene: &mut Scene, mut connect| error(scene.poll(&mut connect));
    assert!(matches!(error(&mut scene, to_host("::1", Route::Front)), ConnectError::Loop));
    assert!(matches!(error(&mut scene, to_addrs(&[], Route::Front)), ConnectError::NoAddress));
    let mut one_left = to_addrs(&[7, 8], Route::Front);
    assert!(scene.poll(&mut one_left).is_pending());
    assert!(scene.poll(&mut to_addrs(&[7], Route::Native)).is_pending());
    assert_eq!(scene.dialled(), [addr(8), addr(7)]);
}

#[test]
fn a_proxy_connects_the_destination_and_is_not_proven_by_that() {
    let mut scene = Scene::new(PROXY);
    let mut connect = to_addrs(&[1, 2, 3, 4], Route::Upstreams);
    assert!(scene.poll(&mut connect).is_pending());
    assert!(scene.poll_after(STAGGER, &mut connect).is_pending());
    assert_eq!(scene.dialled(), [proxy(1)], "one at a time");
    // The first destination is refused, so the proxy is asked for the second one.
    assert!(scene.answer(&mut connect, &[NO_AUTH, b"\x05\x05\x00"]).is_pending());
    let connected = connected(scene.answer(&mut connect, &[NO_AUTH, YES]));
    assert_eq!((connected.addr, connected.destination), (proxy(1), addr(2)));
    assert_eq!(connected.upstream, Some(UpstreamId(0)));
    assert!(connected.wire.sent.borrow().ends_with(b"\x05\x01\x00\x01\xc6\x33\x64\x01\x00\x02"));
    let (_, _, state) = scene.outbound.upstreams.proxies(scene.now).next().unwrap();
    assert_eq!((state.dials, state.failures), (2, 0));
}

#[test]
fn a_proxy_looks_up_names_itself() {
    let mut scene = Scene::new(PROXY);
    let mut connect = to_host("a.example", Route::Upstreams);
    assert!(scene.poll(&mut connect).is_pending());
    let connected = connected(scene.answer(&mut connect, &[NO_AUTH, YES]));
    assert_eq!(connected.destination, proxy(1));
    assert!(connected.wire.sent.borrow().ends_with(b"\x03\x09a.example\x01\xbb"));
    assert_eq!(scene.outbound.dns.pending(), 0);
    assert!(scene.poll(&mut to_addrs(&[1], Route::Front)).is_pending());
    assert_eq!(scene.dialled()[1], addr(1), "a front is reached directly");
}

#[test]
fn a_proxy_that_fails_is_replaced_until_its_circuit_opens() {
    let mut scene = Scene::new(&format!("{PROXY}, \"socks5://127.0.0.1:2?open_threshold=1\""));
    let mut connect = to_addrs(&[1, 2], Route::Upstreams);
    assert!(scene.poll(&mut connect).is_pending());
    assert!(scene.answer(&mut connect, &[b"HTTP"]).is_pending());
    let mut both = scene.dialled();
    both.sort();
    assert_eq!(both, [proxy(1), proxy(2)], "another address would not help");
    let late = scene.settings.timeouts.tcp;
    let silent = error(scene.poll_after(late, &mut connect));
    assert!(matches!(&silent, ConnectError::Upstream(_, why) if why == "timeout"), "{silent:?}");
    let shut = error(scene.poll(&mut to_addrs(&[1], Route::Upstreams)));
    assert!(matches!(shut, ConnectError::CircuitOpen(_)));
    assert_eq!(scene.dialled().len(), 2);
}

#[test]
fn an_attempt_without_a_use_is_reset() {
    let mut scene = Scene::new("");
    let target = HostOrAddrs::Addrs(vec![addr(1), addr(2)]);
    let mut connect = Connect::new(target, Route::Front, 0);
    assert!(scene.poll(&mut connect).is_pending());
    assert!(scene.poll_after(STAGGER, &mut connect).is_pending());
    let winner = scene.end(1, Ok(()));
    connect.wake(1);
    assert!(scene.poll(&mut connect).is_ready());
    assert!(scene.net.dialled[0].resets.get(), "the other one may be connected meanwhile");
    assert!(!winner.resets.get());

    let mut connect = Connect::new(HostOrAddrs::Addrs(vec![addr(3)]), Route::Front, 0);
    assert!(scene.poll(&mut connect).is_pending());
    connect.abandon(&mut scene.outbound.upstreams);
    assert!(scene.net.dialled[2].resets.get());
}

#[test]
fn an_abandoned_trial_leaves_room_for_the_next_one() {
    let mut scene = Scene::new("\"socks5://127.0.0.1:1?open_threshold=1&half_open_timeout=5s\"");
    scene.outbound.upstreams.record_failure(UpstreamId(0), "no", scene.now);
    scene.now = scene.now + Duration::from_secs(5);
    let mut trial = to_addrs(&[1], Route::Upstreams);
    assert!(scene.poll(&mut trial).is_pending());
    assert!(scene.poll(&mut to_addrs(&[1], Route::Upstreams)).is_ready(), "one trial");
    trial.abandon(&mut scene.outbound.upstreams);
    assert!(scene.poll(&mut to_addrs(&[1], Route::Upstreams)).is_pending());
}

#[test]
fn a_name_of_a_proxy_that_is_not_found_is_a_failure_of_the_proxy() {
    let mut scene = Scene::new("\"socks5://p.example:1\", \"direct\"");
    let mut connect = to_addrs(&[9], Route::Upstreams);
    while scene.poll(&mut connect).is_pending() {
        scene.outbound.dns.answer("p.example", Err(LookupFault::NoAddress), 60, scene.now);
    }
    let (_, _, state) = scene.outbound.upstreams.proxies(scene.now).next().unwrap();
    assert_eq!((state.dials, state.failures), (0, 1));
}

#[test]
fn a_connection_that_is_given_up_reports_what_it_waits_for() {
    let mut scene = Scene::new("");
    let mut connect = to_addrs(&[9, 1], Route::Native);
    assert!(connect.current_error().is_none());
    assert!(scene.poll(&mut connect).is_pending());
    let error = connect.current_error().unwrap();
    assert!(matches!(error, ConnectError::Address(at, None) if at == addr(1)));
    let mut name = to_host("a.example", Route::Front);
    assert!(scene.poll(&mut name).is_pending());
    assert!(matches!(name.current_error(), Some(ConnectError::NameNotFound(..))));
}

#[test]
fn errors_of_a_destination_are_told_apart_from_those_of_the_proxy() {
    let mut scene = Scene::new(PROXY);
    let mut connect = to_addrs(&[1], Route::Upstreams);
    assert!(scene.poll(&mut connect).is_pending());
    let error = error(scene.answer(&mut connect, &[NO_AUTH, b"\x05\x04\x00"]));
    let wanted = (Destination::Addr(addr(1)), SocksFault::Refused(4));
    assert!(
        matches!(error, ConnectError::Refused(_, to, why) if (&to, &why) == (&wanted.0, &wanted.1))
    );
}

fn proxy(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

const TOKEN: usize = 40;
/// A public address of this machine.
const OWN: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 9));
const PROXY: &str = "\"socks5://127.0.0.1:1?open_threshold=1\"";
const NO_AUTH: &[u8] = b"\x05\x00";
const YES: &[u8] = b"\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x50";

#[test]
fn a_shortage_of_this_machine_blames_no_address_and_pauses_the_front() {
    let mut scene = Scene::new("");
    scene.net.shortage = Some(nix::libc::ENOBUFS);
    let mut user = Connect::new(HostOrAddrs::Addrs(vec![addr(1)]), Route::Upstreams, 0);
    assert!(scene.poll(&mut user).is_pending());
    assert_eq!(user.due(), Tick(1_000) + RETRY);
    scene.net.shortage = None;
    let front = || Connect::new(HostOrAddrs::Addrs(vec![addr(2), addr(3)]), Route::Front, 0);
    let mut probe = front();
    assert!(scene.poll(&mut probe).is_pending());
    assert!(scene.net.dialled.is_empty(), "the front is not dialled now");
    assert_eq!(probe.due(), Tick(1_000) + FRONT_PAUSE);
    assert!(scene.poll_after(RETRY, &mut user).is_pending());
    assert_eq!(scene.dialled(), [addr(1)], "users are not paused");
    assert!(scene.poll_after(FRONT_PAUSE, &mut probe).is_pending());
    assert_eq!(scene.dialled(), [addr(1), addr(2)]);
    let mut both = vec![addr(9), addr(1)];
    scene.outbound.bad_addresses.sort(&mut both, scene.now);
    assert_eq!(both, [addr(9), addr(1)], "no address is bad");
    assert_eq!(scene.outbound.shortages, 1);

    scene.net.shortage = Some(nix::libc::ENOMEM);
    let mut probe = front();
    assert!(scene.poll(&mut probe).is_pending());
    for _ in 0..4 {
        assert!(scene.poll_after(FRONT_PAUSE, &mut probe).is_pending());
    }
    let outcome = scene.poll_after(FRONT_PAUSE, &mut probe);
    assert!(matches!(outcome, Poll::Ready(Err(ConnectError::Shortage(_)))), "for five seconds");
    assert_eq!(scene.outbound.shortages, 7, "one attempt per second, whatever the addresses");
}

#[test]
fn a_lack_of_descriptors_pauses_no_other_connection_to_the_front() {
    let mut scene = Scene::new("");
    let front = || Connect::new(HostOrAddrs::Addrs(vec![addr(1)]), Route::Front, 0);
    for errno in [nix::libc::EMFILE, nix::libc::ENFILE] {
        scene.net.shortage = Some(errno);
        let mut short = front();
        assert!(scene.poll(&mut short).is_pending());
        assert_eq!(short.due(), scene.now + RETRY);
        scene.net.shortage = None;
        assert!(scene.poll(&mut front()).is_pending());
        assert!(scene.poll_after(RETRY, &mut short).is_pending());
        assert_eq!(scene.dialled(), [addr(1), addr(1)]);
        scene.net.dialled.clear();
    }
}

#[test]
fn a_machine_without_an_address_of_the_family_tries_the_next_address() {
    let mut scene = Scene::new("");
    // The scripted network has no datagram sockets either: there is no address.
    scene.net.shortage = Some(nix::libc::EADDRNOTAVAIL);
    let mut connect = Connect::new(HostOrAddrs::Addrs(vec![addr(1)]), Route::Upstreams, 0);
    let outcome = scene.poll(&mut connect);
    assert!(matches!(outcome, Poll::Ready(Err(ConnectError::Address(..)))));
    assert_eq!(scene.outbound.shortages, 0);
}

#[test]
fn a_shortage_is_no_failure_of_a_proxy() {
    let mut scene = Scene::new("\"socks5://127.0.0.1:1?open_threshold=1\"");
    scene.net.shortage = Some(nix::libc::ENOBUFS);
    let mut connect = Connect::new(HostOrAddrs::Addrs(vec![addr(1)]), Route::Upstreams, 0);
    assert!(scene.poll(&mut connect).is_pending());
    scene.net.shortage = None;
    assert!(scene.poll_after(RETRY, &mut connect).is_pending());
    assert_eq!(scene.dialled(), ["127.0.0.1:1".parse().unwrap()], "its circuit is closed");
}

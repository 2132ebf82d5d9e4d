//! One outgoing connection of ours: a name is looked up, its addresses are tried in turn, TLS is
//! spoken where asked for. Never waits: the owner steps it after an event, a wake-up or its
//! deadline.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::task::Poll;
use std::time::Instant;

use crate::daemon::fetch::{FetchTarget, WireEvent};
use crate::daemon::resolver::dns_cache::CachedAddrs;
use crate::daemon::shared::World;
use crate::daemon::upstream::proxies::{FirstHop, UpstreamId};
use crate::daemon::upstream::sockets;
use crate::daemon::upstream::socks_handshake::{ProxyFailure, SocksHandshake};
use crate::io::clock::Tick;
use crate::io::readiness::Readiness;
use crate::io::wire::{MioNet, MioWire, Net, Wire};
use crate::proto::socks5::Destination;

#[cfg(feature = "tls")]
use crate::daemon::fetch::tls_client::TlsClient;

/// Where a line goes.
#[derive(Debug, Clone)]
pub enum HostOrAddr {
    /// A name or a literal address, and a port.
    Named {
        /// Without brackets.
        host: String,
        /// The port at each of its addresses.
        port: u16,
    },
    /// These addresses, in this order.
    Known(Vec<SocketAddr>),
}

/// By which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FetchRoute {
    /// Straight from this machine.
    Native,
    /// Through `network.proxies`, when there are any.
    Routes,
    /// As strangers are led: straight from this machine, and never to a listener of ours.
    Front,
}

/// Where a line stands.
#[derive(Debug, PartialEq, Eq)]
pub enum ConnectionState {
    /// Looking up, connecting, or shaking hands.
    Opening,
    /// Bytes may go both ways.
    Open,
    /// The peer has said its last byte.
    Ended,
    /// It never came to be, or broke. Says why.
    Failed(String),
}

/// One connection, from the name to the last byte.
pub struct Connection {
    target: FetchTarget,
    token: usize,
    /// `None` = the name has not been found yet.
    addrs: Option<std::vec::IntoIter<SocketAddr>>,
    wire: Option<MioWire>,
    connected: bool,
    ready: Readiness,
    channel: Channel,
    /// What is still to be said before everything else, without TLS.
    preface: Vec<u8>,
    /// Plain bytes that wait to be sent.
    outbox: Vec<u8>,
    /// The ways that are left to try, the next one last; `None` = none has been chosen yet.
    ways: Option<Vec<UpstreamId>>,
    /// The present way.
    hop: Option<SocksHandshake>,
    /// The connection to where the way begins stands.
    stands: bool,
    begun: Instant,
    /// TLS tells the server that HTTP follows.
    is_http: bool,
    /// The lookup, the present address or the TLS handshake has until then.
    until: Option<Tick>,
    /// Why the last address failed.
    trouble: String,
}

/// What is spoken over the socket.
enum Channel {
    Plain,
    #[cfg(feature = "tls")]
    TlsClient(Box<TlsClient>),
}

/// A watcher of raw bytes and when they came.
pub type ByteWatcher<'a> = &'a mut dyn FnMut(WireEvent<'_>, u64);

impl Connection {
    /// A line that has not begun; events come with `token`.
    pub fn new(target: FetchTarget, token: usize) -> Self {
        Self {
            target,
            token,
            addrs: None,
            wire: None,
            connected: false,
            ready: Readiness::default(),
            channel: Channel::Plain,
            preface: Vec::new(),
            outbox: Vec::new(),
            ways: None,
            hop: None,
            stands: false,
            begun: Instant::now(),
            is_http: true,
            until: None,
            trouble: "no address".to_owned(),
        }
    }

    /// The same without a word of HTTP in the TLS hello, for servers that speak something else
    /// and close on whoever asks for a protocol that they lack (RFC 7301 3.2).
    pub fn without_alpn(mut self) -> Self {
        self.is_http = false;
        self
    }

    /// The same with something to say before everything else, TLS included: a PROXY header.
    pub fn with_preface(mut self, bytes: Vec<u8>) -> Self {
        self.preface = bytes;
        self
    }

    /// Notes what the poller says.
    pub fn on_ready(&mut self, fresh: Readiness) {
        self.ready.readable |= fresh.readable || fresh.hup;
        self.ready.writable |= fresh.writable;
    }

    /// Takes bytes to be sent; steps send them.
    pub fn say(&mut self, bytes: &[u8]) {
        self.outbox.extend_from_slice(bytes);
    }

    /// Whether there is more to be had without a new event.
    pub fn has_more(&self) -> bool {
        self.connected && self.ready.readable
    }

    /// When it must be stepped even if nothing comes; `None` once it stands.
    pub fn due(&self) -> Option<Tick> {
        self.until
    }

    /// Goes on as far as it can without waiting, with at most `STEP_MAX` bytes read. Plain
    /// bytes are appended to `heard`.
    pub fn step(
        &mut self,
        world: &mut World,
        net: &mut MioNet,
        heard: &mut Vec<u8>,
        watch: ByteWatcher<'_>,
    ) -> ConnectionState {
        if !self.connected {
            match self.connect(world, net, watch) {
                Ok(true) => {}
                Ok(false) => return ConnectionState::Opening,
                Err(why) => return ConnectionState::Failed(why),
            }
        }
        match self.exchange(heard, watch) {
            Err(e) => ConnectionState::Failed(e.to_string()),
            Ok(true) => ConnectionState::Ended,
            Ok(false) if !self.is_shaking_hands() => {
                self.until = None;
                ConnectionState::Open
            }
            Ok(false) if self.until.is_some_and(|until| world.time.now < until) => {
                ConnectionState::Opening
            }
            Ok(false) => ConnectionState::Failed("no answer to the TLS hello".to_owned()),
        }
    }

    /// `true` = connected. Every way is tried where there are several, every address of each.
    fn connect(
        &mut self,
        world: &mut World,
        net: &mut MioNet,
        watch: ByteWatcher<'_>,
    ) -> Result<bool, String> {
        // Decided once: the ways may come and go while this goes on.
        let is_fresh = self.wire.is_none() && self.addrs.is_none() && self.hop.is_none();
        let is_routed = self.target.via == FetchRoute::Routes
            && (self.ways.is_some() || is_fresh && !world.outbound.upstreams.is_empty());
        loop {
            if is_routed && self.hop.is_none() && !self.choose_way(world)? {
                return Ok(false);
            }
            if !self.find(world)? {
                return Ok(false);
            }
            match self.reach(world, net, watch) {
                Ok(reached) => return Ok(reached),
                Err(trouble) => {
                    let Some(hop) = self.hop.take() else { return Err(blamed(trouble)) };
                    match &trouble {
                        ProxyFailure::Upstream(why) => world.outbound.upstreams.record_failure(
                            hop.upstream,
                            why,
                            world.time.now,
                        ),
                        ProxyFailure::Destination(_) => {
                            world.outbound.upstreams.record_success(hop.upstream)
                        }
                    }
                    self.trouble = blamed(trouble);
                    (self.wire, self.addrs, self.stands, self.until) = (None, None, false, None);
                }
            }
        }
    }

    /// Goes by the next way. `false` = its proxy is being looked up.
    fn choose_way(&mut self, world: &mut World) -> Result<bool, String> {
        let now = world.time.now;
        let ways =
            self.ways.get_or_insert_with(|| world.outbound.upstreams.shuffled(&mut world.drbg));
        loop {
            let Some(way) = ways.last().copied() else {
                return Err(std::mem::replace(&mut self.trouble, NO_WAY.to_owned()));
            };
            let until = *self.until.get_or_insert(now + sockets::LOOKUP);
            let entry = match world.outbound.upstreams.first_hop(
                way,
                &mut world.outbound.dns,
                self.token,
                now,
            ) {
                FirstHop::Pending if now < until => return Ok(false),
                FirstHop::Direct => None,
                FirstHop::Proxy(addr) => Some(vec![addr].into_iter()),
                FirstHop::Pending | FirstHop::Unknown => {
                    world.outbound.upstreams.record_failure(way, "its name cannot be found", now);
                    ways.pop();
                    continue;
                }
            };
            ways.pop();
            self.until = None;
            if world.outbound.upstreams.admit(way, now) {
                world.outbound.upstreams.record_dial(way);
                let goal = match &self.target.place {
                    HostOrAddr::Named { host, port } => match host.parse::<IpAddr>() {
                        Ok(ip) => Destination::Addr(SocketAddr::new(ip, *port)),
                        Err(_) => Destination::Name(host.clone(), *port),
                    },
                    HostOrAddr::Known(list) => match list.first() {
                        Some(addr) => Destination::Addr(*addr),
                        None => return Err(NO_WAY.to_owned()),
                    },
                };
                self.hop = Some(SocksHandshake::new(way, goal, &world.outbound.upstreams));
                self.addrs = entry;
                return Ok(true);
            }
        }
    }

    /// Tries the addresses that are left. `true` = the far end stands.
    fn reach(
        &mut self,
        world: &mut World,
        net: &mut MioNet,
        watch: ByteWatcher<'_>,
    ) -> Result<bool, ProxyFailure> {
        let patience_ms = world.settings.timeouts.tcp.as_millis() as u64;
        loop {
            let late = self.until.is_none_or(|until| world.time.now >= until);
            if let Some(wire) = &mut self.wire {
                let outcome = match self.stands {
                    true => Ok(true),
                    false => match wire.poll_connect() {
                        Poll::Ready(Ok(())) => Ok(true),
                        Poll::Ready(Err(e)) => Err(ProxyFailure::Upstream(e.to_string())),
                        Poll::Pending => Ok(false),
                    },
                };
                if matches!(outcome, Ok(true)) && !self.stands {
                    self.stands = true;
                    self.until = Some(Tick(world.time.now.0 + patience_ms));
                }
                let outcome = match (outcome, &mut self.hop) {
                    (Ok(true), Some(hop)) => match hop.poll(wire) {
                        Poll::Ready(outcome) => outcome.map(|()| true),
                        Poll::Pending => Ok(false),
                    },
                    (outcome, _) => outcome,
                };
                match outcome {
                    Ok(true) => {
                        if let Some(hop) = &self.hop {
                            world.outbound.upstreams.record_success(hop.upstream);
                        }
                        self.connected = true;
                        self.ready = Readiness { readable: true, writable: true, ..self.ready };
                        self.until = Some(Tick(world.time.now.0 + patience_ms));
                        return self.greet(world).map(|()| true).map_err(ProxyFailure::Upstream);
                    }
                    Ok(false) if !late => return Ok(false),
                    Ok(false) => self.trouble = "timeout".to_owned(),
                    Err(trouble @ ProxyFailure::Destination(_)) => return Err(trouble),
                    Err(ProxyFailure::Upstream(why)) => self.trouble = why,
                }
            }
            (self.wire, self.stands) = (None, false);
            let Some(addr) = self.addrs.as_mut().and_then(Iterator::next) else {
                return Err(ProxyFailure::Upstream(std::mem::take(&mut self.trouble)));
            };
            if self.target.via == FetchRoute::Front
                && sockets::is_own_listener(addr, &world.outbound.own_listeners, net)
            {
                self.trouble = "the site is this proxy itself".to_owned();
                continue;
            }
            self.begun = Instant::now();
            watch(WireEvent::Start, 0);
            match net.dial(addr, &sockets::relay_socket_options(&world.settings), self.token) {
                Ok(wire) => {
                    self.wire = Some(wire);
                    self.until = Some(Tick(world.time.now.0 + patience_ms));
                    return Ok(false);
                }
                Err(e) => self.trouble = e.to_string(),
            }
        }
    }

    /// `true` = the addresses are known; `false` = the name is being looked up.
    fn find(&mut self, world: &mut World) -> Result<bool, String> {
        if self.addrs.is_some() {
            return Ok(true);
        }
        let list = match &self.target.place {
            HostOrAddr::Known(list) => list.clone(),
            HostOrAddr::Named { host, port } => match host.parse::<IpAddr>() {
                Ok(ip) => vec![SocketAddr::new(ip, *port)],
                Err(_) => {
                    let until = *self.until.get_or_insert(world.time.now + sockets::LOOKUP);
                    match world.outbound.dns.lookup(host, self.token, world.time.now) {
                        CachedAddrs::Found(ips) => {
                            ips.iter().map(|ip| SocketAddr::new(*ip, *port)).collect()
                        }
                        CachedAddrs::Pending if world.time.now < until => return Ok(false),
                        _ => return Err(format!("the name {host:?} cannot be found")),
                    }
                }
            },
        };
        self.until = None;
        self.addrs = Some(list.into_iter());
        Ok(true)
    }

    /// Begins TLS where it is wanted.
    fn greet(&mut self, world: &mut World) -> Result<(), String> {
        let Some(name) = &self.target.tls else { return Ok(()) };
        #[cfg(feature = "tls")]
        {
            let config = world.outbound.tls_roots.config(world.settings.ca_file.as_deref())?;
            self.channel =
                Channel::TlsClient(Box::new(TlsClient::new(name, config, self.is_http)?));
            Ok(())
        }
        #[cfg(not(feature = "tls"))]
        {
            let _ = world;
            Err(format!("this build has no TLS for {name}"))
        }
    }

    fn is_shaking_hands(&self) -> bool {
        match &self.channel {
            Channel::Plain => false,
            #[cfg(feature = "tls")]
            Channel::TlsClient(secure) => secure.is_shaking_hands(),
        }
    }

    /// Sends what waits and reads what is there. `true` = the peer has ended.
    fn exchange(&mut self, heard: &mut Vec<u8>, watch: ByteWatcher<'_>) -> io::Result<bool> {
        let Some(wire) = &mut self.wire else { return Ok(true) };
        let (ready, begun) = (&mut self.ready, self.begun);
        let mut socket = Socket { wire, ready, watch, begun, room: STEP_MAX };
        socket.send(&mut self.preface)?;
        if !self.preface.is_empty() {
            return Ok(false);
        }
        match &mut self.channel {
            Channel::Plain => {
                socket.send(&mut self.outbox)?;
                socket.receive(heard)
            }
            #[cfg(feature = "tls")]
            Channel::TlsClient(secure) => secure.exchange(&mut socket, &mut self.outbox, heard),
        }
    }
}

/// The socket during one step: watched, and read only so far.
pub struct Socket<'a> {
    wire: &'a mut MioWire,
    ready: &'a mut Readiness,
    watch: ByteWatcher<'a>,
    begun: Instant,
    room: usize,
}

impl Socket<'_> {
    /// Shows something to the watcher.
    fn show(&mut self, sight: WireEvent<'_>) {
        (self.watch)(sight, self.begun.elapsed().as_micros() as u64);
    }

    fn send(&mut self, bytes: &mut Vec<u8>) -> io::Result<()> {
        while !bytes.is_empty() {
            match io::Write::write(self, bytes) {
                Ok(n) => drop(bytes.drain(..n.min(bytes.len()))),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    fn receive(&mut self, heard: &mut Vec<u8>) -> io::Result<bool> {
        let mut chunk = [0; CHUNK];
        loop {
            match io::Read::read(self, &mut chunk) {
                Ok(0) => return Ok(true),
                Ok(n) => heard.extend_from_slice(chunk.get(..n).unwrap_or_default()),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(e) => return Err(e),
            }
        }
    }
}

impl io::Read for Socket<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let room = self.room.min(into.len());
        if room == 0 || !self.ready.readable {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let Some(into) = into.get_mut(..room) else { return Ok(0) };
        match self.wire.read(&mut [IoSliceMut::new(into)]) {
            Ok(n) => {
                self.room -= n;
                self.show(WireEvent::Bytes(into.get(..n).unwrap_or_default()));
                Ok(n)
            }
            Err(e) => {
                self.ready.readable &= e.kind() != io::ErrorKind::WouldBlock;
                Err(e)
            }
        }
    }
}

impl io::Write for Socket<'_> {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        if !self.ready.writable {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let outcome = self.wire.write(&[IoSlice::new(from)]);
        match &outcome {
            Ok(_) => self.show(WireEvent::Sent),
            Err(e) => self.ready.writable &= e.kind() != io::ErrorKind::WouldBlock,
        }
        outcome
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn blamed(trouble: ProxyFailure) -> String {
    match trouble {
        ProxyFailure::Upstream(why) => why,
        ProxyFailure::Destination(why) => why.to_string(),
    }
}

const NO_WAY: &str = "every proxy rests or has failed";
/// Bytes read in one step at most.
const STEP_MAX: usize = 16_384;
const CHUNK: usize = 4_096;

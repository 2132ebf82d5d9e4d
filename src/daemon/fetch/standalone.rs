//! Fetches for commands, without a daemon. Egress, host names and upstreams are those of the
//! daemon; there are no listeners and no sessions. Each method ends by its own deadline.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::task;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mio::{Events, Poll};

use crate::config::settings::{DnsSettings, NameServer, Settings, UpstreamSettings};
use crate::daemon::fetch::runner::{HasTask, TaskQueue, TaskRunner};
use crate::daemon::fetch::task::{FetchError, FetchTask};
use crate::daemon::resolver::Resolver;
use crate::daemon::resolver::dns_cache::CachedAddrs;
use crate::daemon::resolver::lookup::{LookupFault, LookupResult};
use crate::daemon::time::Time;
use crate::daemon::upstream::connect::error::ConnectError;
use crate::daemon::upstream::connect::target::{HostOrAddrs, Route};
use crate::daemon::upstream::connect::{self, Connect, Connected, RefusalContext};
use crate::daemon::upstream::outbound::{ConnectContext, Outbound};
use crate::daemon::upstream::sockets;
use crate::io::clock::{Clock, Tick};
use crate::io::logger::RateLimitedLog;
use crate::io::mio_net::{MioNet, MioWire};
use crate::io::readiness::{self, Readiness};
use crate::io::wire::{DatagramSocket, Net};
use crate::util::drbg::Drbg;
use crate::util::memory::{Account, Budget, Class};

/// The resolver, the upstreams and the poller of a command.
pub struct Standalone {
    poll: Poll,
    clock: Clock,
    net: MioNet,
    resolver: Resolver<MioNet>,
    outbound: Outbound,
    log: RateLimitedLog,
    account: Rc<Account>,
    /// The settings of the config.
    pub settings: Rc<Settings>,
    /// The time of the latest event.
    pub time: Time,
    /// Random bytes.
    pub drbg: Drbg,
}

/// A datagram that was received.
pub struct DatagramReply<'a> {
    /// Its bytes, [`DATAGRAM_MAX`] at most.
    pub packet: &'a [u8],
    /// When the request was sent, by our clock, since 1970.
    pub asked: Duration,
    /// When this reply was received.
    pub answered: Duration,
}

/// A task of a command, and its index among them.
struct CommandTask<'a, 'b> {
    index: usize,
    task: &'a mut &'b mut dyn FetchTask,
}

impl HasTask for CommandTask<'_, '_> {
    fn task(&mut self) -> &mut dyn FetchTask {
        &mut **self.task
    }
}

/// Receives the token of an event and its readiness; the readiness is empty when a lookup ended.
type EventSink<'a> = &'a mut dyn FnMut(usize, Readiness);

impl Standalone {
    /// Opens no socket. The listeners of the settings count as our own.
    ///
    /// # Errors
    /// The system refuses a poller or random bytes.
    pub fn new(settings: Rc<Settings>) -> io::Result<Self> {
        let poll = Poll::new()?;
        let net = MioNet::new(poll.registry().try_clone()?, sockets::egress(&settings));
        let mut seed = [0; 48];
        getrandom::fill(&mut seed).map_err(|e| io::Error::other(e.to_string()))?;
        let mut outbound = Outbound::new(&settings);
        outbound.own_listeners.clone_from(&settings.binds);
        let mut standalone = Self {
            poll,
            clock: Clock::start(),
            net,
            resolver: Resolver::new(&settings.dns),
            outbound,
            log: RateLimitedLog::default(),
            account: Account::of_class(&Budget::new(usize::MAX), Class::Fetches),
            settings,
            time: Time::default(),
            drbg: Drbg::new(seed),
        };
        let public = [standalone.settings.public_ipv4, standalone.settings.public_ipv6];
        public.into_iter().flatten().for_each(|ip| standalone.add_own_address(ip));
        standalone.read_clock();
        Ok(standalone)
    }

    /// Replaces the upstreams of the settings.
    pub fn use_upstreams(&mut self, upstreams: &[UpstreamSettings]) {
        self.outbound.upstreams.reload(upstreams, self.time.now);
    }

    /// Adds an address, with the ports of all listeners, to our own listeners.
    pub fn add_own_address(&mut self, ip: IpAddr) {
        let ports = self.settings.binds.iter().map(SocketAddr::port);
        self.outbound.own_listeners.extend(ports.map(|port| SocketAddr::new(ip, port)));
    }

    /// Runs all tasks, a few at a time, and returns their outcomes in order. Tasks that have not
    /// ended after `limit` fail with [`FetchError::TooSlow`].
    pub fn run(
        &mut self,
        tasks: &mut [&mut dyn FetchTask],
        limit: Duration,
    ) -> Vec<Result<(), FetchError>> {
        let until = self.deadline_after(limit);
        let mut outcomes: Vec<_> = tasks.iter().map(|_| Err(FetchError::TooSlow)).collect();
        let tasks = tasks.iter_mut().enumerate();
        let mut queue = TaskQueue::of(tasks.map(|(index, task)| CommandTask { index, task }));
        let mut runner = TaskRunner::<_, MioNet, TASKS_AT_ONCE>::default();
        loop {
            let (mut context, net, _) = self.split();
            for (task, outcome) in runner.poll(&mut queue, &mut context, net, 0) {
                outcomes[task.index] = outcome;
            }
            let due = match runner.has_work(&queue) {
                true => Some(self.time.now),
                false => runner.due(),
            };
            let Some(due) = due.filter(|_| self.time.now < until) else { return outcomes };
            self.wait(due.min(until), &mut |token, ready| runner.on_ready(token, ready));
        }
    }

    /// The addresses of each host, which may be a literal address, or why none was found within
    /// `limit`.
    pub fn lookup(
        &mut self,
        hosts: &[String],
        limit: Duration,
    ) -> Vec<Result<Vec<IpAddr>, LookupFault>> {
        let until = self.deadline_after(limit);
        let mut found: Vec<Option<Result<Vec<IpAddr>, LookupFault>>> =
            hosts.iter().map(|host| host.parse().ok().map(|ip| Ok(vec![ip]))).collect();
        loop {
            let mut is_complete = true;
            for (host, found) in hosts.iter().zip(&mut found).filter(|(_, found)| found.is_none()) {
                match self.outbound.dns.lookup(host, 0, self.time.now) {
                    CachedAddrs::Found(ips) => *found = Some(Ok(ips.to_vec())),
                    CachedAddrs::Failed(fault) => *found = Some(Err(fault.clone())),
                    CachedAddrs::Pending => is_complete = false,
                }
            }
            if is_complete || self.time.now >= until {
                let late = || Err(LookupFault::unanswered());
                return found.into_iter().map(|found| found.unwrap_or_else(late)).collect();
            }
            self.wait(until, &mut |_, _| {});
        }
    }

    /// Asks a name server for a name, although the hosts file may have it. Returns how long the
    /// answer took, whatever it says.
    ///
    /// # Errors
    /// There was no answer; names the server and says why.
    pub fn ask_name_server(
        &self,
        server: NameServer,
        name: &str,
        limit: Duration,
    ) -> Result<Duration, String> {
        let dns = DnsSettings { server, ..self.settings.dns.clone() };
        let settings = Settings { dns, ..(*self.settings).clone() };
        let mut asking = Self::new(Rc::new(settings)).map_err(|e| e.to_string())?;
        asking.resolver.skip_hosts();
        let begun_us = asking.net.micros();
        match asking.lookup(&[name.to_owned()], limit).pop() {
            Some(Err(LookupFault::Server(why))) => Err(why),
            _ => Ok(Duration::from_micros(asking.net.micros().saturating_sub(begun_us))),
        }
    }

    /// Sends one datagram and passes each reply to `is_answer`, until that returns `true` or
    /// `limit` has passed. Returns whether there was an answer.
    ///
    /// # Errors
    /// Those of the system, such as an unreachable network or port.
    pub fn exchange_datagram(
        &mut self,
        to: SocketAddr,
        request: &[u8],
        limit: Duration,
        is_answer: &mut dyn FnMut(&DatagramReply<'_>) -> bool,
    ) -> io::Result<bool> {
        let until = self.deadline_after(limit);
        let mut socket = self.net.datagram(to, 0)?;
        let asked = since_1970();
        socket.send(request)?;
        let mut packet = [0; DATAGRAM_MAX];
        loop {
            match socket.recv(&mut packet) {
                Ok(count) => {
                    let packet = packet.get(..count).unwrap_or_default();
                    if is_answer(&DatagramReply { packet, asked, answered: since_1970() }) {
                        return Ok(true);
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    if self.time.now >= until {
                        return Ok(false);
                    }
                    self.wait(until, &mut |_, _| {});
                }
                Err(e) => return Err(e),
            }
        }
    }

    /// Continues to connect; see [`Connect::poll`].
    ///
    /// # Errors
    /// As there.
    pub fn poll_connect(
        &mut self,
        connect: &mut Connect<MioWire>,
        first_token: usize,
    ) -> task::Poll<Result<Connected<MioWire>, ConnectError>> {
        let (mut context, net, _) = self.split();
        connect.poll(first_token, &mut context, net)
    }

    /// Checks that the system has a route to an address. Sends nothing.
    ///
    /// # Errors
    /// There is no route; says why.
    pub fn check_route(&mut self, to: SocketAddr) -> io::Result<()> {
        self.net.datagram(to, 0).map(drop)
    }

    /// Whether a connection to an address would reach one of our own listeners.
    pub fn is_own_listener(&mut self, addr: SocketAddr) -> bool {
        sockets::is_own_listener(addr, &self.outbound.own_listeners, &mut self.net)
    }

    /// Why the daemon would not dial this address of a target; `None` = it would.
    pub fn refusal_of(
        &mut self,
        addr: SocketAddr,
        target: &HostOrAddrs,
        route: Route,
    ) -> Option<ConnectError> {
        let own_listeners = &self.outbound.own_listeners;
        let ours = RefusalContext { settings: &self.settings, own_listeners };
        connect::refusal_of(addr, target, route, &ours, &mut self.net)
    }

    /// Reads the clock, and adds `limit`.
    pub fn deadline_after(&mut self, limit: Duration) -> Tick {
        self.read_clock();
        self.time.now + limit
    }

    /// Waits for events until `until`, and passes them to `sink`.
    pub fn wait(&mut self, until: Tick, sink: EventSink<'_>) {
        // A lookup that has ended just now must not wait for an event.
        let until = if self.resolve(sink) { self.time.now } else { until };
        let due = self.resolver.due().map_or(until, |due| due.min(until));
        let mut events = Events::with_capacity(EVENTS);
        // A signal looks like a wait without events; the callers check their deadlines.
        let _ = self.poll.poll(&mut events, Some(due.since(self.time.now)));
        self.read_clock();
        for event in &events {
            let ready = readiness::of(event);
            match event.token().0.checked_sub(RESOLVER_TOKENS) {
                Some(offset) => self.resolver.on_ready(offset, ready),
                None => sink(event.token().0, ready),
            }
        }
        self.resolve(sink);
    }

    /// Polls the resolver and wakes the tokens of finished lookups. Returns whether there were
    /// any.
    fn resolve(&mut self, sink: EventSink<'_>) -> bool {
        let (mut context, net, resolver) = self.split();
        let results = resolver.poll(&mut context, net, RESOLVER_TOKENS);
        let has_results = !results.is_empty();
        for LookupResult { name, found, ttl_s } in results {
            for token in self.outbound.dns.answer(&name, found, ttl_s, self.time.now) {
                sink(token, Readiness::default());
            }
        }
        has_results
    }

    fn split(&mut self) -> (ConnectContext<'_>, &mut MioNet, &mut Resolver<MioNet>) {
        let context = ConnectContext {
            now: self.time.now,
            settings: &self.settings,
            outbound: &mut self.outbound,
            drbg: &mut self.drbg,
            log: &mut self.log,
            account: &self.account,
            first_buffers: None,
        };
        (context, &mut self.net, &mut self.resolver)
    }

    fn read_clock(&mut self) {
        let (now, wall) = self.clock.read();
        self.time.set(now, wall);
    }
}

/// The wall clock, since 1970.
pub fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Tasks that run at once.
const TASKS_AT_ONCE: usize = 32;
/// The resolver's first token; it is above the tokens of all callers.
const RESOLVER_TOKENS: usize = 1 << 20;
const EVENTS: usize = 64;
/// Longer replies are cut, in bytes.
pub const DATAGRAM_MAX: usize = 512;

//! Errands without the daemon: for commands that ask the outside a few questions and leave. The
//! way out, the names and the proxies are those of the daemon; listeners and sessions are not
//! there, and every verb ends by its own deadline.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mio::{Events, Poll};

use crate::config::settings::Settings;
use crate::daemon::fetch::FetchTask;
use crate::daemon::fetch::task_run::TaskRun;
use crate::daemon::resolver::dns_cache::CachedAddrs;
use crate::daemon::resolver::{LookupResult, Resolver};
use crate::daemon::shared::World;
use crate::daemon::upstream::sockets;
use crate::io::clock::{Clock, Tick};
use crate::io::readiness::{self, Readiness};
use crate::io::wire::{MioNet, MioWire, Net};

/// What a command has to go out with.
pub struct Standalone {
    poll: Poll,
    clock: Clock,
    net: MioNet,
    resolver: Resolver,
    /// Settings, names, ways and random bytes; the rest of it is idle.
    pub world: World,
}

/// A datagram that came back.
pub struct DatagramReply<'a> {
    /// Its bytes, [`DATAGRAM`] at most.
    pub packet: &'a [u8],
    /// When the question left by our clock, since 1970.
    pub asked: Duration,
    /// When this came.
    pub answered: Duration,
}

/// Whom an event or a name is for.
type EventSink<'a> = &'a mut dyn FnMut(usize, Readiness);

impl Standalone {
    /// Nothing is asked yet. No listener is opened; those of the settings count as our own.
    ///
    /// # Errors
    /// The system's poller or its randomness is not to be had.
    pub fn new(settings: Settings) -> io::Result<Self> {
        let poll = Poll::new()?;
        let net = MioNet::new(poll.registry().try_clone()?, sockets::egress(&settings));
        let mut seed = [0; 48];
        getrandom::fill(&mut seed).map_err(|e| io::Error::other(e.to_string()))?;
        // The least of everything that sessions would need.
        let mut world = World::new(Rc::new(settings), seed, 1, 1);
        let settings = Rc::clone(&world.settings);
        world.outbound.own_listeners.clone_from(&settings.binds);
        [settings.public_ipv4, settings.public_ipv6]
            .into_iter()
            .flatten()
            .for_each(|ip| own(&mut world, ip));
        let resolver = Resolver::new(&settings.dns);
        let mut alone = Self { poll, clock: Clock::start(), net, resolver, world };
        alone.look_at_the_clock();
        Ok(alone)
    }

    /// This address is ours as well, at the ports of all listeners.
    pub fn add_own(&mut self, ip: IpAddr) {
        own(&mut self.world, ip);
    }

    /// Runs all errands, a few at a time. Each outcome stands where its errand stands; what the
    /// errand has learned is in the errand. Those that are not over after `limit` have failed.
    pub fn run(
        &mut self,
        errands: &mut [&mut dyn FetchTask],
        limit: Duration,
    ) -> Vec<Result<(), String>> {
        let until = self.from_now(limit);
        let mut outcomes: Vec<_> = errands.iter().map(|_| Err(LATE.to_owned())).collect();
        let mut waiting = errands.iter_mut().zip(&mut outcomes);
        let mut places: Vec<Option<(TaskRun, _, _)>> = (0..PLACES).map(|_| None).collect();
        loop {
            let mut busy = false;
            for (token, place) in places.iter_mut().enumerate() {
                if place.is_none()
                    && let Some((errand, outcome)) = waiting.next()
                {
                    let trip = TaskRun::start(&**errand, token, &self.world);
                    *place = Some((trip, errand, outcome));
                }
                let Some((trip, errand, outcome)) = place else { continue };
                if let Some(end) = trip.turn(&mut ***errand, &mut self.world, &mut self.net) {
                    **outcome = end;
                    (*place, busy) = (None, true);
                }
            }
            let trips = || places.iter().flatten().map(|(trip, ..)| trip);
            busy |= trips().any(TaskRun::is_awake);
            let due =
                if busy { Some(self.world.time.now) } else { trips().map(TaskRun::due).min() };
            let Some(due) = due.filter(|_| self.world.time.now < until) else { break };
            self.wait(due.min(until), &mut |token, fresh| {
                if let Some(Some((trip, ..))) = places.get_mut(token) {
                    trip.on_ready(fresh);
                }
            });
        }
        drop(places);
        outcomes
    }

    /// The addresses of each host, which may be a literal address; none = none were found within
    /// `limit`.
    pub fn lookup(&mut self, hosts: &[String], limit: Duration) -> Vec<Vec<IpAddr>> {
        let until = self.from_now(limit);
        let mut found: Vec<Option<Vec<IpAddr>>> =
            hosts.iter().map(|host| host.parse().ok().map(|ip| vec![ip])).collect();
        loop {
            let mut is_over = true;
            for (host, found) in hosts.iter().zip(&mut found).filter(|(_, found)| found.is_none()) {
                match self.world.outbound.dns.lookup(host, 0, self.world.time.now) {
                    CachedAddrs::Found(ips) => *found = Some(ips.to_vec()),
                    CachedAddrs::Failed => *found = Some(Vec::new()),
                    CachedAddrs::Pending => is_over = false,
                }
            }
            if is_over || self.world.time.now >= until {
                return found.into_iter().map(Option::unwrap_or_default).collect();
            }
            self.wait(until, &mut |_, _| {});
        }
    }

    /// Sends one datagram and shows every answer to `judge`, until that has what it wants (`true`)
    /// or `limit` has passed.
    ///
    /// # Errors
    /// The system's, such as an unreachable network or port.
    pub fn ask(
        &mut self,
        to: SocketAddr,
        question: &[u8],
        limit: Duration,
        judge: &mut dyn FnMut(&DatagramReply<'_>) -> bool,
    ) -> io::Result<bool> {
        let until = self.from_now(limit);
        let socket = self.net.udp_socket(to, 0)?;
        let asked = since_1970();
        socket.send(question)?;
        let mut packet = [0; DATAGRAM];
        loop {
            match socket.recv(&mut packet) {
                Ok(count) => {
                    let packet = packet.get(..count).unwrap_or_default();
                    if judge(&DatagramReply { packet, asked, answered: since_1970() }) {
                        return Ok(true);
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    if self.world.time.now >= until {
                        return Ok(false);
                    }
                    self.wait(until, &mut |_, _| {});
                }
                Err(e) => return Err(e),
            }
        }
    }

    /// Starts a plain connection by the way out of the settings; events come with `token`.
    ///
    /// # Errors
    /// What the system says at once.
    pub fn dial(&mut self, to: SocketAddr, token: usize) -> io::Result<MioWire> {
        self.net.dial(to, &sockets::relay_socket_options(&self.world.settings), token)
    }

    /// Whether the system knows a way to an address. Sends nothing.
    ///
    /// # Errors
    /// Why not.
    pub fn has_way(&mut self, to: SocketAddr) -> io::Result<()> {
        self.net.udp_socket(to, 0).map(drop)
    }

    /// Whether an address leads back to one of our listeners.
    pub fn is_own_listener(&mut self, addr: SocketAddr) -> bool {
        sockets::is_own_listener(addr, &self.world.outbound.own_listeners, &mut self.net)
    }

    /// The time so much later than now.
    pub fn from_now(&mut self, limit: Duration) -> Tick {
        self.look_at_the_clock();
        Tick(self.world.time.now.0 + limit.as_millis() as u64)
    }

    /// Waits for events until `until` at the latest, and hands them on.
    pub fn wait(&mut self, until: Tick, heed: EventSink<'_>) {
        // Whoever has been woken already must not wait for an event.
        let until = if self.resolve(heed) { self.world.time.now } else { until };
        let due = self.resolver.due().map_or(until, |due| due.min(until));
        let patience = Duration::from_millis(due.0.saturating_sub(self.world.time.now.0));
        let mut events = Events::with_capacity(EVENTS);
        // A signal in between looks as if nothing had come.
        let _ = self.poll.poll(&mut events, Some(patience));
        self.look_at_the_clock();
        for event in &events {
            let fresh = readiness::of(event);
            match event.token().0.checked_sub(QUESTS) {
                Some(offset) => self.resolver.on_ready(offset, fresh),
                None => heed(event.token().0, fresh),
            }
        }
        self.resolve(heed);
    }

    /// Takes the resolver further and wakes those whose names were found; `true` = some were.
    fn resolve(&mut self, heed: EventSink<'_>) -> bool {
        let mut has_news = false;
        for LookupResult { name, addrs, ttl_s } in
            self.resolver.turn(&mut self.world, &mut self.net, QUESTS)
        {
            has_news = true;
            let now = self.world.time.now;
            for token in self.world.outbound.dns.answer(&name, addrs, ttl_s, now) {
                heed(token, Readiness::default());
            }
        }
        has_news
    }

    fn look_at_the_clock(&mut self) {
        let (now, wall) = self.clock.read();
        self.world.set_time(now, wall);
    }
}

/// Adds an address at the ports of all listeners.
fn own(world: &mut World, ip: IpAddr) {
    let ports: Vec<u16> = world.settings.binds.iter().map(SocketAddr::port).collect();
    world.outbound.own_listeners.extend(ports.into_iter().map(|port| SocketAddr::new(ip, port)));
}

/// Our clock, since 1970.
pub fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

const LATE: &str = "too slow";
/// Errands at a time.
const PLACES: usize = 32;
/// Tokens from here on are the resolver's.
const QUESTS: usize = 1 << 20;
const EVENTS: usize = 64;
/// Longer answers are cut.
pub const DATAGRAM: usize = 512;

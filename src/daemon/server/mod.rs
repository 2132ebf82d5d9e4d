//! Joins the daemon to the operating system: the poller, the listeners, signals, the resolver's
//! sockets and the stats listener. The only place that waits. `server/reload.rs` takes a new
//! config.

pub mod listeners;
pub mod logging;
pub mod privileges;
mod reload;
pub mod sizing;
pub mod totals_file;

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use mio::event::Event;
use mio::{Events, Poll};

use crate::config::settings::{LogChoice, LogTo, Settings, SettingsSource};
use crate::config::{HAS_METRICS, HAS_TLS};
use crate::daemon::Daemon;
use crate::daemon::admin::statsd::Statsd;
use crate::daemon::admin::{AdminServer, MOST_DESKS, MOST_VISITS};
use crate::daemon::fetch::dc_list;
use crate::daemon::fetch::front_probe;
use crate::daemon::fetch::ip_lists;
#[cfg(feature = "tls")]
use crate::daemon::fetch::page_timing;
use crate::daemon::fetch::schedule::Job;
use crate::daemon::fetch::{MOST_ERRANDS, TaskRunner};
use crate::daemon::resolver::{self, LookupResult, Resolver};
use crate::daemon::server::listeners::{Accepted, ClientListeners};
use crate::daemon::server::totals_file::TotalsFile;
use crate::daemon::shared::World;
use crate::daemon::upstream::sockets;
use crate::io::clock::{Clock, Tick};
use crate::io::listen::{self, ListenOptions};
use crate::io::logger;
use crate::io::notify::Notify;
use crate::io::pid_file::PidFile;
use crate::io::readiness;
use crate::io::signals::{Signal, Signals};
use crate::io::sockopt::SocketOptions;
use crate::io::wire::MioNet;
use crate::limits::read_coalescing::{ReadCoalescing, Round};

/// Runs the proxy until a signal ends it.
///
/// # Errors
/// One line that says what could not be had at start: a listener, or the system's poller.
pub fn run(mut settings: Settings, origin: SettingsSource) -> Result<(), String> {
    settings.log = origin.log.apply_to(settings.log);
    let log = settings.log;
    logging::settle(&log);
    for warning in &origin.warnings {
        log::warn!("event=config {warning}");
    }
    if let Some(user) = &origin.user {
        privileges::settle(user, &settings, origin.config_path.as_deref())?;
    }
    let outcome = Server::new(settings, origin.config_path, origin.log)
        .map_err(|e| e.to_string())
        .and_then(|mut server| {
            let served = server.serve();
            server.state.close(&mut server.daemon.world);
            served.map_err(|e| format!("the event loop failed: {e}"))
        });
    if let (Err(e), true) = (&outcome, log.to != LogTo::Stderr) {
        // Standard error hears it from whoever has called.
        log::error!("event=failed error={e:?}");
    }
    outcome
}

struct Server {
    poll: Poll,
    daemon: Daemon<MioNet>,
    clock: Clock,
    doors: ClientListeners,
    /// Accepting is paused until then, or until a session ends.
    paused: Option<Tick>,
    admin: AdminServer,
    resolver: Resolver,
    errands: TaskRunner,
    state: TotalsFile,
    signals: Signals,
    statsd: Option<Statsd>,
    moderation: ReadCoalescing,
    /// We are leaving, at the latest then.
    leaving: Option<Tick>,
    /// The file that a reload reads.
    config: Option<PathBuf>,
    /// What a reload does not change about the log.
    log: LogChoice,
    /// Removed when we leave.
    pid_file: Option<PidFile>,
    notify: Notify,
    /// When the service manager must hear of us.
    watchdog: Option<Tick>,
}

impl Server {
    fn new(settings: Settings, config: Option<PathBuf>, log: LogChoice) -> io::Result<Self> {
        let poll = Poll::new()?;
        let registry = poll.registry();
        let binds = listen::plan(&settings.binds, manner(&settings));
        let doors = ClientListeners::open(&binds, registry, DOORS)?;
        let mut admin = AdminServer::default();
        admin.settle(&settings, registry, DESKS);
        let mut signals = Signals::new()?;
        signals.register(registry, SIGNALS)?;

        let sizes = sizing::measure(&settings);
        let mut seed = [0; 48];
        getrandom::fill(&mut seed).map_err(|e| io::Error::other(e.to_string()))?;
        let clock = Clock::start();
        let (now, wall) = clock.read();
        let mut world = World::new(Rc::new(settings), seed, sizes.blocks, sizes.slots);
        world.set_time(now, wall);
        settle_doors(&doors, &mut world);
        if world.time.is_unset() {
            log::warn!(
                "event=clock-unset hint=\"earlier than this build: no time checks for now\""
            );
        }
        let resolver = Resolver::new(&world.settings.dns);
        let wanted = world.settings.statsd.clone().filter(|_| HAS_METRICS);
        let statsd = wanted.map(|settings| Statsd::new(settings, &world));
        let moderation = ReadCoalescing::new(world.settings.coalesce_reads);
        dc_list::plan(&mut world);
        ip_lists::plan(&mut world);
        front_probe::plan(&mut world);
        #[cfg(feature = "tls")]
        page_timing::plan(&mut world);
        let state = TotalsFile::new(&mut world);
        let net = MioNet::new(registry.try_clone()?, sockets::egress(&world.settings));
        let pid_file = world.settings.pid_file.as_deref().and_then(write_pid);
        let daemon = Daemon::new(world, net, sizes.sessions);
        let notify = Notify::from_env();
        let watchdog = notify.watchdog().map(|_| now);
        Ok(Self {
            poll,
            daemon,
            clock,
            doors,
            paused: None,
            admin,
            resolver,
            errands: TaskRunner::default(),
            state,
            signals,
            statsd,
            moderation,
            leaving: None,
            config,
            log,
            pid_file,
            notify,
            watchdog,
        })
    }

    fn serve(&mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS);
        let mut busy = true;
        self.notify.ready(&self.status());
        loop {
            let timeout = if busy { Some(Duration::ZERO) } else { self.patience() };
            match self.poll.poll(&mut events, timeout) {
                Err(e) if e.kind() != io::ErrorKind::Interrupted => return Err(e),
                _ => {}
            }
            let (now, wall) = self.clock.read();
            self.daemon.begin_round(now, wall);
            self.show_life();
            for event in &events {
                if self.note(event) {
                    return Ok(());
                }
            }
            self.admin.expire(&self.daemon.world);
            self.state.turn(&mut self.daemon.world);
            self.fetch();
            self.resolve();
            let before = self.daemon.sessions();
            busy = self.daemon.run_ready();
            if self.daemon.sessions() < before {
                self.paused = None;
            }
            busy |= self.accept_all() | self.has_errands();
            self.tell_statsd(!events.is_empty() || self.daemon.sessions() != before);
            // A name that this turn asked for must not wait for the next event.
            busy |= self.resolver.has_room() && self.daemon.world.outbound.dns.is_wanted();
            if let Some(until) = self.leaving
                && (self.daemon.sessions() == 0 || now >= until)
            {
                self.say_goodbye();
                return Ok(());
            }
            if !busy {
                if events.is_empty() {
                    self.daemon.world.mimicry.key_shares.refill(&mut self.daemon.world.drbg);
                    self.refine_pace();
                }
                busy = self.daemon.world.mimicry.key_shares.is_short()
                    || self.daemon.world.mimicry.fit.is_running();
            }
            self.rest();
        }
    }

    /// How long the poller may wait: until the next deadline, or for ever.
    fn patience(&self) -> Option<Duration> {
        let dues = [
            self.daemon.next_due(),
            self.admin.due(self.daemon.world.time.now),
            self.resolver.due(),
            self.errands.due(),
            self.state.due(),
            self.daemon.world.fetch.schedule.due(),
            self.statsd.as_ref().and_then(Statsd::due),
            self.paused,
            self.leaving,
            self.watchdog,
        ];
        let now = self.daemon.world.time.now;
        let resting = self.doors.iter().map(|door| door.due(now));
        let due = dues.into_iter().chain(resting).flatten().min()?;
        Some(Duration::from_millis(due.0.saturating_sub(now.0)))
    }

    /// Notes one event. `true` = leave at once.
    fn note(&mut self, event: &Event) -> bool {
        match event.token().0 {
            SIGNALS => return self.obey(),
            token if token >= DOORS => self.doors.knock(token),
            token if token >= DESKS => self.admin.knock(token - DESKS),
            token if token >= QUESTS => {
                self.resolver.on_ready(token - QUESTS, readiness::of(event))
            }
            token if token >= ERRANDS => {
                self.errands.on_ready(token - ERRANDS, readiness::of(event));
            }
            token if token >= VISITS => self.admin.step(token - VISITS, &self.daemon.world),
            token => self.daemon.on_ready(token, readiness::of(event)),
        }
        false
    }

    /// Reads the signals. `true` = leave at once.
    fn obey(&mut self) -> bool {
        while let Some(signal) = self.signals.pending() {
            match signal {
                Signal::Terminate if self.leaving.is_some() => {
                    self.say_goodbye();
                    return true;
                }
                Signal::Terminate => {
                    log::info!("event=stopping sessions={}", self.daemon.sessions());
                    self.notify.stopping();
                    self.leaving = Some(Tick(self.daemon.world.time.now.0 + DRAIN_MS));
                    self.doors.close();
                    self.daemon.drain();
                }
                // Who leaves needs no new config.
                Signal::Reload if self.leaving.is_some() => {}
                Signal::Reload => self.reload(),
                Signal::Report => {
                    let lines = self.daemon.report(self.errands.count());
                    lines.iter().for_each(|line| logger::log_always(line));
                }
            }
        }
        false
    }

    /// Whether there is something to fetch, read or write without waiting.
    fn has_errands(&self) -> bool {
        let world = &self.daemon.world;
        self.errands.has_work(world) || world.lists.has_work()
    }

    /// Starts what is due and takes the errands a step further.
    fn fetch(&mut self) {
        let (world, net) = self.daemon.parts();
        while let Some(job) = world.fetch.schedule.next(world.time.now) {
            match job {
                Job::DcPage(page) => dc_list::fetch(page, world),
                Job::IpList(which, source) => ip_lists::begin(world, which, source),
                Job::Look(host) => front_probe::look(host, world),
                #[cfg(feature = "tls")]
                Job::Visit(page) => page_timing::visit(page, world),
            }
        }
        self.errands.turn(world, net, ERRANDS);
        ip_lists::turn(world);
    }

    /// Starts what is wanted of the resolver and ends what came or is late.
    fn resolve(&mut self) {
        let (world, net) = self.daemon.parts();
        for LookupResult { name, addrs, ttl_s } in self.resolver.turn(world, net, QUESTS) {
            let now = self.daemon.world.time.now;
            for token in self.daemon.world.outbound.dns.answer(&name, addrs, ttl_s, now) {
                match token.checked_sub(ERRANDS) {
                    Some(place) => self.errands.wake(place),
                    None => self.daemon.wake(token),
                }
            }
        }
    }

    /// Accepts at most a few per listener. `true` = more stand before a door.
    fn accept_all(&mut self) -> bool {
        let now = self.daemon.world.time.now;
        if self.paused.is_some_and(|until| now < until) {
            return false;
        }
        self.paused = None;
        let world = &mut self.daemon.world;
        if self.admin.accept(world, self.poll.registry(), VISITS).is_err() {
            self.paused = Some(Tick(now.0 + ACCEPT_PAUSE_MS));
            return false;
        }
        if self.daemon.world.lists.is_opening() {
            return true;
        }
        for door in self.doors.iter_mut() {
            for _ in 0..ACCEPTS_PER_ROUND {
                match door.look(now, &mut self.daemon.world.telemetry.log) {
                    Accepted::New(wire, peer) => self.daemon.accept(wire, peer),
                    Accepted::Gone => {}
                    Accepted::Nobody => break,
                    Accepted::NoRoom => {
                        self.paused = Some(Tick(now.0 + ACCEPT_PAUSE_MS));
                        return false;
                    }
                }
            }
        }
        self.doors.iter().any(|door| door.is_worth_a_look(now))
    }

    /// Sends metrics where there is something to tell.
    fn tell_statsd(&mut self, has_news: bool) {
        let Some(statsd) = self.statsd.as_mut().filter(|_| HAS_METRICS) else { return };
        let (world, net) = self.daemon.parts();
        if has_news || world.telemetry.counters.stirred {
            statsd.note(world.time.now);
        }
        statsd.turn(world, net);
    }

    /// Tells a service manager that waits for it that the loop still turns.
    fn show_life(&mut self) {
        let now = self.daemon.world.time.now;
        if let (Some(due), Some(period)) = (self.watchdog, self.notify.watchdog())
            && now >= due
        {
            self.notify.alive();
            self.watchdog = Some(Tick(now.0 + period.as_millis() as u64));
        }
    }

    /// The last words in the log.
    fn say_goodbye(&mut self) {
        let (world, net) = self.daemon.parts();
        world.telemetry.flush_all();
        if let Some(statsd) = self.statsd.as_mut().filter(|_| HAS_METRICS) {
            // Or it would go on with the numbers of a second ago.
            statsd.tell(world, net);
        }
        log::info!("event=stopped sessions={}", self.daemon.sessions());
    }

    /// Takes one step of learning the pace of downloads.
    fn refine_pace(&mut self) {
        let mimicry = &mut self.daemon.world.mimicry;
        // Without TLS there is never anything to learn from, and the mathematics can be left out.
        if HAS_TLS && let Some(pace) = mimicry.refine_pace() {
            let (k, lambda_ms, durations) = (pace.k(), pace.lambda_ms(), mimicry.fit.len());
            log::info!("event=pacing-fit k={k:.4} lambda_ms={lambda_ms:.4} durations={durations}");
        }
    }

    /// One line for the service manager.
    fn status(&self) -> String {
        let settings = &self.daemon.world.settings;
        let binds: Vec<String> =
            self.doors.iter().map(|door| door.listener().local_addr().to_string()).collect();
        format!("{} users on {}", settings.users.len(), binds.join(", "))
    }

    /// Many small reads: let bytes gather for a moment instead of waking for each.
    fn rest(&mut self) {
        let world = &self.daemon.world;
        let round = Round {
            now_ms: world.time.now.0,
            reads: world.telemetry.counters.reads,
            bytes: world.telemetry.counters.read_bytes,
            is_handshaking: world.time.now.0 < self.daemon.last_handshake().0 + GREETED_MS,
        };
        if let Some(time) = self.moderation.pause(round) {
            std::thread::sleep(time);
        }
    }
}

/// Gives listeners and world what the one must know of the other.
fn settle_doors(doors: &ClientListeners, world: &mut World) {
    // Accepted sockets inherit these.
    let options = sockets::relay_socket_options(&world.settings);
    let outcomes = doors.iter().map(|door| door.listener().set_client_options(&options));
    if let Some(Err(e)) = outcomes.reduce(|all, one| all.and(one)) {
        congestion_refused(&options, &e);
    }
    world.outbound.own_listeners = doors.iter().map(|door| door.listener().local_addr()).collect();
    let public = [world.settings.public_ipv4, world.settings.public_ipv6];
    for ip in public.into_iter().flatten() {
        let ports = world.settings.binds.iter().map(SocketAddr::port);
        world.outbound.own_listeners.extend(ports.map(|port| SocketAddr::new(ip, port)));
    }
}

/// The pid file. Failing to write it is no reason not to run.
fn write_pid(path: &Path) -> Option<PidFile> {
    let outcome = PidFile::write(path);
    outcome
        .inspect_err(|e| {
            log::warn!("event=pid-file-failed path={path:?} error={:?}", e.to_string());
        })
        .ok()
}

fn manner(settings: &Settings) -> ListenOptions {
    ListenOptions {
        max_segment: settings.max_segment,
        multipath: settings.multipath,
        reuse_port: settings.reuse_port,
    }
}

fn congestion_refused(options: &SocketOptions, error: &io::Error) {
    let name = options.congestion.as_deref().unwrap_or_default();
    log::warn!(
        "event=congestion-refused name={name:?} error={:?} hint=\"the system's own is used; see \
         net.ipv4.tcp_available_congestion_control, and run as root for others\"",
        error.to_string()
    );
}

/// Tokens above the sessions': each kind has a range of its own.
const VISITS: usize = usize::MAX - 0xff_ffff;
const ERRANDS: usize = VISITS + MOST_VISITS;
const QUESTS: usize = ERRANDS + MOST_ERRANDS;
const DESKS: usize = QUESTS + resolver::TOKENS;
const DOORS: usize = DESKS + MOST_DESKS;
const SIGNALS: usize = usize::MAX - 2;

const EVENTS: usize = 256;
const ACCEPTS_PER_ROUND: usize = 16;
/// The pause after the system ran out of descriptors or memory.
const ACCEPT_PAUSE_MS: u64 = 100;
/// A TERM gives sessions this long to flush (procd kills after five seconds).
const DRAIN_MS: u64 = 4_500;
/// A handshake counts as in flight for this long after its last step.
const GREETED_MS: u64 = 100;

//! Connects the daemon to the operating system: poller, listeners, signals, and the sockets of the
//! resolver, of fetches and of the admin pages. The only module that blocks.

pub mod error;
mod listeners;
mod logging;
mod privileges;
mod reload;
mod setup;
pub mod sizing;
mod tokens;
mod totals_file;

use std::io;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::{Events, Poll, Token};

use crate::config::load::Loaded;
use crate::config::report::Diagnostic;
use crate::config::settings::{LogChoice, LogTo, Settings, SettingsSource};
use crate::config::{HAS_METRICS, HAS_TLS};
use crate::daemon::Daemon;
use crate::daemon::admin::statsd::Statsd;
use crate::daemon::admin::view::View;
use crate::daemon::admin::{AdminServer, state_dump};
use crate::daemon::fetch;
use crate::daemon::fetch::background::BackgroundTask;
use crate::daemon::fetch::runner::TaskRunner;
use crate::daemon::reload::Reloaded;
use crate::daemon::resolver::Resolver;
use crate::daemon::resolver::lookup::LookupResult;
use crate::daemon::server::error::RunError;
use crate::daemon::server::listeners::{Accepted, ClientListener, ClientListeners};
use crate::daemon::server::reload::ReloadError;
use crate::daemon::server::sizing::Sizes;
use crate::daemon::server::tokens::TokenKind;
use crate::daemon::server::totals_file::{TotalsContext, TotalsFile};
use crate::daemon::shared::Shared;
use crate::daemon::upstream::sockets;
use crate::io::clock::{Clock, Tick};
use crate::io::logger;
use crate::io::notify::Notify;
use crate::io::pid_file::PidFile;
use crate::io::readiness;
use crate::io::signals::{Signal, Signals};
use crate::io::wire::{MioDatagram, MioNet};
use crate::limits::read_coalescing::{ReadCoalescing, Round};

/// Runs the proxy until a signal ends it.
///
/// # Errors
/// See [`RunError`].
pub fn run(mut settings: Settings, origin: SettingsSource) -> Result<(), RunError> {
    settings.log = origin.log.apply_to(settings.log);
    let log = settings.log;
    logging::apply(&log);
    for warning in &origin.warnings {
        log::warn!("event=config {warning}");
    }
    if let Some(user) = &origin.user {
        privileges::drop_to(user, &settings, origin.config_path.as_deref())?;
    }
    let outcome = Server::new(settings, origin.config_path, origin.log)
        .map_err(RunError::Start)
        .and_then(|mut server| {
            let outcome = server.run();
            server.totals.close(&mut totals_context(&mut server.daemon.shared));
            outcome.map_err(RunError::EventLoop)
        });
    // The caller prints the error to standard error.
    if let (Err(e), true) = (&outcome, log.to != LogTo::Stderr) {
        log::error!("event=failed error={:?}", e.to_string());
    }
    outcome
}

struct Server {
    poll: Poll,
    daemon: Daemon<MioNet>,
    clock: Clock,
    listeners: ClientListeners,
    /// No connection is accepted until then, or until a session ends.
    accept_paused_until: Option<Tick>,
    admin: AdminServer,
    resolver: Resolver<MioNet>,
    tasks: TaskRunner<BackgroundTask, MioNet>,
    totals: TotalsFile,
    signals: Signals,
    statsd: Option<Statsd<MioDatagram>>,
    coalescing: ReadCoalescing,
    /// Set during a graceful shutdown: the process exits then, also if sessions are left.
    shutdown_at: Option<Tick>,
    /// The config file, for reloads.
    config_path: Option<PathBuf>,
    /// Log settings of the command line, which a reload does not change.
    log: LogChoice,
    /// Removes the file when dropped.
    pid_file: Option<PidFile>,
    notify: Notify,
    /// The next message to the watchdog of the service manager.
    watchdog_at: Option<Tick>,
}

impl Server {
    fn new(settings: Settings, config_path: Option<PathBuf>, log: LogChoice) -> io::Result<Self> {
        let poll = Poll::new()?;
        let registry = poll.registry();
        let binds = setup::binds(&settings);
        let listeners = ClientListeners::open(&binds, registry, tokens::LISTENERS.first())?;
        let mut admin = AdminServer::default();
        admin.apply(&settings, registry, tokens::ADMIN_SOCKETS.first());
        let mut signals = Signals::new()?;
        signals.register(registry, tokens::SIGNALS)?;

        let sizes = sizing::measure(&settings);
        let clock = Clock::start();
        let (now, wall) = clock.read();
        let mut shared = new_shared(settings, &sizes)?;
        shared.set_time(now, wall);
        if shared.time.is_unset() {
            log::warn!(
                "event=clock-unset hint=\"the clock is earlier than this build; client clocks are \
                 not checked until it is set\""
            );
        }
        apply_to_listeners(&listeners, &mut shared);
        // Before the first fetches, so that statsd gets the counters of their failures.
        let statsd = new_statsd(&shared);
        fetch::plan(&mut shared.fetch_context());
        let net = MioNet::new(registry.try_clone()?, sockets::egress(&shared.settings));
        let notify = Notify::from_env();
        Ok(Self {
            clock,
            listeners,
            accept_paused_until: None,
            admin,
            resolver: Resolver::new(&shared.settings.dns),
            tasks: TaskRunner::default(),
            totals: TotalsFile::new(&mut totals_context(&mut shared)),
            signals,
            statsd,
            coalescing: ReadCoalescing::new(shared.settings.coalesce_reads),
            shutdown_at: None,
            config_path,
            log,
            pid_file: shared.settings.pid_file.as_deref().and_then(setup::write_pid_file),
            watchdog_at: notify.watchdog().map(|_| now),
            notify,
            daemon: Daemon::new(shared, net, sizes.sessions),
            poll,
        })
    }

    /// The event loop.
    fn run(&mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS);
        let mut busy = true;
        self.notify.ready(&self.status());
        loop {
            let timeout = if busy { Some(Duration::ZERO) } else { self.poll_timeout() };
            match self.poll.poll(&mut events, timeout) {
                Err(e) if e.kind() != io::ErrorKind::Interrupted => return Err(e),
                _ => {}
            }
            let (now, wall) = self.clock.read();
            self.daemon.begin_round(now, wall);
            self.notify_watchdog();
            for event in &events {
                if self.dispatch(event).is_break() {
                    return Ok(());
                }
            }
            self.admin.expire(&view(&self.daemon.shared));
            self.totals.write_due(&mut totals_context(&mut self.daemon.shared));
            self.fetch();
            self.resolve();
            let before = self.daemon.sessions();
            busy = self.daemon.run_ready();
            if self.daemon.sessions() < before {
                self.accept_paused_until = None;
            }
            busy |= self.accept_all() | self.has_fetches();
            self.send_metrics(!events.is_empty() || self.daemon.sessions() != before);
            // A lookup that this round started must not wait for the next event.
            busy |= self.resolver.has_room() && self.daemon.shared.outbound.dns.is_wanted();
            if let Some(until) = self.shutdown_at
                && (self.daemon.sessions() == 0 || now >= until)
            {
                self.log_stopped();
                return Ok(());
            }
            if !busy {
                busy = self.use_idle_time(events.is_empty());
            }
            self.coalesce_reads();
        }
    }

    /// The time until the next deadline; `None` = wait for an event.
    fn poll_timeout(&self) -> Option<Duration> {
        let now = self.daemon.shared.time.now;
        let deadlines = [
            self.daemon.next_due(),
            self.admin.due(now),
            self.resolver.due(),
            self.tasks.due(),
            self.totals.due(),
            self.daemon.shared.fetch.schedule.due(),
            self.statsd.as_ref().and_then(Statsd::due),
            self.accept_paused_until,
            self.shutdown_at,
            self.watchdog_at,
        ];
        let pauses = self.listeners.iter().map(|listener| listener.due(now));
        let due = deadlines.into_iter().chain(pauses).flatten().min()?;
        Some(due.since(now))
    }

    /// Passes an event to the owner of its token. `Break` = exit at once.
    fn dispatch(&mut self, event: &Event) -> ControlFlow<()> {
        match TokenKind::of(event.token()) {
            TokenKind::Signals => return self.handle_signals(),
            TokenKind::Listener(slot) => self.listeners.mark_readable(slot),
            TokenKind::AdminSocket(slot) => self.admin.mark_readable(slot),
            TokenKind::Resolver(slot) => self.resolver.on_ready(slot, readiness::of(event)),
            TokenKind::FetchTask(slot) => self.tasks.on_ready(slot, readiness::of(event)),
            TokenKind::AdminConnection(slot) => self.admin.step(slot, &view(&self.daemon.shared)),
            TokenKind::Session(token) => self.daemon.on_ready(token, readiness::of(event)),
        }
        ControlFlow::Continue(())
    }

    /// Handles all pending signals. `Break` = exit at once.
    fn handle_signals(&mut self) -> ControlFlow<()> {
        while let Some(signal) = self.signals.pending() {
            match signal {
                Signal::Terminate if self.shutdown_at.is_some() => {
                    self.log_stopped();
                    return ControlFlow::Break(());
                }
                Signal::Terminate => {
                    log::info!("event=stopping sessions={}", self.daemon.sessions());
                    self.notify.stopping();
                    self.shutdown_at = Some(self.daemon.shared.time.now + DRAIN_TIME);
                    self.listeners.close();
                    self.daemon.drain();
                }
                // Not during a shutdown: the listeners are closed.
                Signal::Reload if self.shutdown_at.is_some() => {}
                Signal::Reload => self.reload(),
                Signal::Report => {
                    let (view, sessions) =
                        (view(&self.daemon.shared), self.daemon.session_counts());
                    let lines = state_dump::lines(&view, &sessions, self.tasks.count());
                    lines.iter().for_each(|line| logger::log_always(line));
                }
            }
        }
        ControlFlow::Continue(())
    }

    /// Whether fetch tasks or file work can continue without an event.
    fn has_fetches(&self) -> bool {
        let shared = &self.daemon.shared;
        self.tasks.has_work(&shared.fetch.queue) || shared.lists.has_work()
    }

    /// Starts the jobs that are due, and steps the running fetch tasks and the file work.
    fn fetch(&mut self) {
        let (shared, net) = self.daemon.parts();
        let base = tokens::FETCH_TASKS.first();
        fetch::poll(&mut shared.fetch_context(), &mut self.tasks, net, base);
    }

    /// Steps the resolver, and wakes the sessions and tasks whose lookups are complete.
    fn resolve(&mut self) {
        let (shared, net) = self.daemon.parts();
        let base = tokens::RESOLVER.first();
        let results = self.resolver.poll(&mut shared.connect_context(), net, base);
        for LookupResult { name, addrs, ttl_s } in results {
            let now = self.daemon.shared.time.now;
            for token in self.daemon.shared.outbound.dns.answer(&name, addrs, ttl_s, now) {
                match TokenKind::of(Token(token)) {
                    TokenKind::FetchTask(slot) => self.tasks.wake(slot),
                    _ => self.daemon.wake(token),
                }
            }
        }
    }

    /// Accepts a bounded number of connections per listener. Returns whether more may be waiting.
    fn accept_all(&mut self) -> bool {
        let now = self.daemon.shared.time.now;
        if self.accept_paused_until.is_some_and(|until| now < until) {
            return false;
        }
        self.accept_paused_until = None;
        if self.accept_admin().is_err() {
            self.accept_paused_until = Some(now + EXHAUSTED_PAUSE);
            return false;
        }
        if self.daemon.shared.lists.is_opening() {
            return true;
        }
        for listener in self.listeners.iter_mut() {
            for _ in 0..ACCEPTS_PER_ROUND {
                match listener.accept(now, &mut self.daemon.shared.telemetry.log) {
                    Accepted::Connection(wire, peer) => self.daemon.accept(wire, peer),
                    Accepted::Transient => {}
                    Accepted::None => break,
                    Accepted::Exhausted => {
                        self.accept_paused_until = Some(now + EXHAUSTED_PAUSE);
                        return false;
                    }
                }
            }
        }
        self.listeners.iter().any(|listener| listener.may_accept(now))
    }

    /// Accepts connections to the admin pages, and answers requests that came with them.
    fn accept_admin(&mut self) -> io::Result<()> {
        let (registry, base) = (self.poll.registry(), tokens::ADMIN_CONNECTIONS.first());
        let shared = &mut self.daemon.shared;
        let now = shared.time.now;
        while let Some(slot) = self.admin.accept(now, &mut shared.telemetry.log, registry, base)? {
            self.admin.step(slot, &view(shared));
        }
        Ok(())
    }

    /// Sends metrics to statsd when they are due.
    fn send_metrics(&mut self, had_events: bool) {
        let Some(statsd) = self.statsd.as_mut().filter(|_| HAS_METRICS) else { return };
        let (shared, net) = self.daemon.parts();
        if had_events || shared.telemetry.counters.state_changed {
            statsd.schedule(shared.time.now);
        }
        shared.telemetry.counters.statsd_lost += statsd.send_due(&view(shared), net);
    }

    /// Shows the service manager that the event loop is running, if it expects that.
    fn notify_watchdog(&mut self) {
        let now = self.daemon.shared.time.now;
        if let (Some(due), Some(period)) = (self.watchdog_at, self.notify.watchdog())
            && now >= due
        {
            self.notify.alive();
            self.watchdog_at = Some(now + period);
        }
    }

    /// Flushes the log and the metrics at the end of the process.
    fn log_stopped(&mut self) {
        let (shared, net) = self.daemon.parts();
        shared.telemetry.flush_all();
        if let Some(statsd) = self.statsd.as_mut().filter(|_| HAS_METRICS) {
            // Without this, statsd would keep the values of a second ago.
            statsd.send(&view(shared), net);
        }
        log::info!("event=stopped sessions={}", self.daemon.sessions());
    }

    /// Work for rounds without other work: key shares, and one step of the fit of page timing.
    /// Returns whether some of it is left.
    fn use_idle_time(&mut self, had_no_events: bool) -> bool {
        let Shared { mimicry, drbg, .. } = &mut self.daemon.shared;
        if had_no_events {
            mimicry.key_shares.refill(drbg);
            // Without TLS no durations are measured, and the compiler can leave the fit out.
            if HAS_TLS && let Some(pace) = mimicry.refine_pace() {
                let (k, lambda_ms, durations) = (pace.k(), pace.lambda_ms(), mimicry.fit.len());
                log::info!(
                    "event=pacing-fit k={k:.4} lambda_ms={lambda_ms:.4} durations={durations}"
                );
            }
        }
        mimicry.key_shares.is_short() || mimicry.fit.is_running()
    }

    /// One line for the service manager.
    fn status(&self) -> String {
        let settings = &self.daemon.shared.settings;
        let addrs = self.listeners.iter().map(|one| one.listener().local_addr().to_string());
        let addrs: Vec<String> = addrs.collect();
        format!("{} users on {}", settings.users.len(), addrs.join(", "))
    }

    /// Pauses after rounds with many small reads, so that the next round reads more bytes at once.
    fn coalesce_reads(&mut self) {
        let shared = &self.daemon.shared;
        let round = Round {
            now_ms: shared.time.now.0,
            reads: shared.telemetry.counters.reads,
            bytes: shared.telemetry.counters.read_bytes,
            is_handshaking: shared.time.now < self.daemon.last_handshake() + HANDSHAKE_TIME,
        };
        if let Some(time) = self.coalescing.pause(round) {
            std::thread::sleep(time);
        }
    }

    /// Reads the config file and applies it. On an error the old config stays in force.
    fn reload(&mut self) {
        self.notify.reloading();
        let started = Instant::now();
        match self.try_reload() {
            Ok(Reloaded { change, ended, .. }) => log::info!(
                "event=reloaded users={} added={} removed={} changed={} ended={ended} ms={}",
                self.daemon.shared.settings.users.len(),
                change.added,
                change.removed,
                change.changed,
                started.elapsed().as_millis() as u64
            ),
            Err(error) => {
                for line in error.lines() {
                    log::error!("event=reload-refused error={line:?} kept=\"the old config\"");
                }
            }
        }
        self.notify.ready(&self.status());
    }

    fn try_reload(&mut self) -> Result<Reloaded, ReloadError> {
        let Loaded { mut settings, warnings } = reload::read(self.config_path.as_deref())?;
        settings.log = self.log.apply_to(settings.log);
        self.move_listeners(&settings).map_err(ReloadError::Listener)?;
        // From here on nothing can fail.
        for warning in &warnings {
            log::warn!("event=config {}", Diagnostic::without_severity(warning));
        }
        let sizes = sizing::measure(&settings);
        let before = Rc::clone(&self.daemon.shared.settings);
        self.totals.save(&mut totals_context(&mut self.daemon.shared));
        let reloaded = self.daemon.reload(settings, &sizes);
        self.totals.apply(&mut totals_context(&mut self.daemon.shared));
        let queue = &mut self.daemon.shared.fetch.queue;
        self.tasks.cancel(queue, |task| reloaded.removed_jobs.contains(&task.job()));
        apply_to_listeners(&self.listeners, &mut self.daemon.shared);
        self.apply(&before);
        Ok(reloaded)
    }

    /// Applies the new settings of the daemon to the parts of the server.
    fn apply(&mut self, before: &Settings) {
        let now = Rc::clone(&self.daemon.shared.settings);
        self.admin.apply(&now, self.poll.registry(), tokens::ADMIN_SOCKETS.first());
        self.daemon.net().set_egress(sockets::egress(&now));
        if before.log != now.log {
            logging::apply(&now.log);
        }
        if before.dns != now.dns {
            self.resolver = Resolver::new(&now.dns);
        }
        if self.statsd.as_ref().map(Statsd::settings) != now.statsd.as_ref() {
            self.statsd = new_statsd(&self.daemon.shared);
        }
        if before.coalesce_reads != now.coalesce_reads {
            self.coalescing = ReadCoalescing::new(now.coalesce_reads);
        }
        if before.pid_file != now.pid_file {
            // The old file must be removed before the new one is written: they can be the same.
            self.pid_file = None;
            self.pid_file = now.pid_file.as_deref().and_then(setup::write_pid_file);
        }
    }

    /// Opens the new listeners and closes the old ones, after accepting their connections.
    fn move_listeners(&mut self, settings: &Settings) -> io::Result<()> {
        let (binds, registry) = (setup::binds(settings), self.poll.registry());
        let daemon = &mut self.daemon;
        let accept_pending = |listener: &mut ClientListener| accept_pending(listener, daemon);
        let (opened, closed) = self.listeners.reopen(&binds, registry, accept_pending)?;
        if opened + closed > 0 {
            log::info!("event=listeners opened={opened} closed={closed}");
        }
        Ok(())
    }
}

/// Accepts all pending connections of a listener before it is closed.
fn accept_pending(listener: &mut ClientListener, daemon: &mut Daemon<MioNet>) {
    listener.mark_readable();
    let now = daemon.shared.time.now;
    loop {
        match listener.accept(now, &mut daemon.shared.telemetry.log) {
            Accepted::Connection(wire, peer) => daemon.accept(wire, peer),
            Accepted::Transient => {}
            Accepted::None | Accepted::Exhausted => return,
        }
    }
}

fn new_shared(settings: Settings, sizes: &Sizes) -> io::Result<Shared> {
    let mut seed = [0; 48];
    getrandom::fill(&mut seed).map_err(|e| io::Error::other(e.to_string()))?;
    Ok(Shared::new(Rc::new(settings), seed, sizes.blocks, sizes.slots))
}

fn new_statsd(shared: &Shared) -> Option<Statsd<MioDatagram>> {
    let settings = shared.settings.statsd.clone().filter(|_| HAS_METRICS)?;
    Some(Statsd::new(settings, &view(shared)))
}

/// Sets the options of the listeners, and records their addresses as our own.
fn apply_to_listeners(listeners: &ClientListeners, shared: &mut Shared) {
    setup::set_client_options(listeners, &sockets::relay_socket_options(&shared.settings));
    shared.outbound.own_listeners = setup::own_addrs(listeners, &shared.settings);
}

/// The state that the admin pages and statsd show.
fn view(shared: &Shared) -> View<'_> {
    View {
        settings: &shared.settings,
        time: &shared.time,
        accounts: &shared.accounts,
        limits: &shared.limits,
        lists: &shared.lists,
        outbound: &shared.outbound,
        fetch: &shared.fetch,
        buffers: &shared.buffers,
        capacity: &shared.capacity,
        telemetry: &shared.telemetry,
    }
}

fn totals_context(shared: &mut Shared) -> TotalsContext<'_> {
    TotalsContext {
        settings: &shared.settings,
        time: &shared.time,
        accounts: &mut shared.accounts,
        telemetry: &mut shared.telemetry,
    }
}

const EVENTS: usize = 256;
const ACCEPTS_PER_ROUND: usize = 16;
/// The pause after the system ran out of descriptors or memory.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);
/// After SIGTERM, sessions have this long to flush. procd sends SIGKILL after five seconds.
const DRAIN_TIME: Duration = Duration::from_millis(4_500);
/// A handshake counts as in progress for this long after its last step.
const HANDSHAKE_TIME: Duration = Duration::from_millis(100);

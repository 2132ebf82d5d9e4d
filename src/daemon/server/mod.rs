//! Connects the daemon to the operating system: poller, signals, files and the service manager. The
//! only module that blocks.

pub mod error;
mod privileges;
mod reload;
pub mod sizing;
mod totals_file;

use std::fs;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant, UNIX_EPOCH};

use mio::event::Event;
use mio::{Events, Poll, Token};

use crate::config::load::Loaded;
use crate::config::report::Diagnostic;
use crate::config::settings::{LogChoice, LogTo, Settings, SettingsSource};
use crate::daemon::Daemon;
use crate::daemon::listeners::Listeners;
use crate::daemon::reload::Reloaded;
use crate::daemon::server::error::RunError;
use crate::daemon::server::reload::ReloadError;
use crate::daemon::server::sizing::Sizes;
use crate::daemon::server::totals_file::{TotalsContext, TotalsFile};
use crate::daemon::shared::Shared;
use crate::daemon::tokens;
use crate::daemon::upstream::sockets;
use crate::io::clock::{Clock, Tick, earliest};
use crate::io::logger::{self, event};
use crate::io::mio_net::MioNet;
use crate::io::notify::Notify;
use crate::io::pid_file::PidFile;
use crate::io::readiness;
use crate::io::rlimit;
use crate::io::signals::{Signal, Signals};
use crate::io::sockopt;
use crate::limits::dial_rate::DialRate;
use crate::limits::replay::Replay;

/// Runs the proxy until a signal ends it.
///
/// # Errors
/// See [`RunError`].
pub fn run(mut settings: Settings, origin: SettingsSource) -> Result<(), RunError> {
    settings.log = origin.log.apply_to(settings.log);
    let log = settings.log;
    logger::init(&log);
    for warning in &origin.warnings {
        event!(Warn, "config"; warning);
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
        event!(Error, "failed", error = ?e);
    }
    outcome
}

struct Server {
    poll: Poll,
    daemon: Daemon<MioNet>,
    clock: Clock,
    totals: TotalsFile,
    signals: Signals,
    /// Set during a graceful shutdown: the process exits then, also if sessions are left.
    shutdown_at: Option<Tick>,
    /// During a graceful shutdown, the process does not exit earlier.
    shutdown_from: Tick,
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
        let mut net = MioNet::new(registry.try_clone()?, sockets::egress(&settings));
        let listeners = Listeners::open(&settings, &mut net)?;
        let mut signals = Signals::new()?;
        signals.register(registry, tokens::SIGNALS)?;

        check_congestion_control(&settings);
        let sizes = sizing::measure(&settings);
        let clock = Clock::start();
        let (now, wall) = clock.read();
        let mut shared = new_shared(settings, &sizes)?;
        shared.set_time(now, wall);
        shared.limits.dials = rlimit::local_ports().map(DialRate::new).unwrap_or_default();
        if shared.time.is_unset() {
            event!(
                Warn, "clock-unset",
                hint = ?"the clock is earlier than this build; client clocks are not checked until \
                    it is set"
            );
        }
        shared.memory.set_limits(sizes.limit, sizes.kernel);
        if let (Some(replay), Some(path)) = (&mut shared.limits.replay, &config_path) {
            replay.set_secrets_time(changed_s(path).unwrap_or(0));
        }
        let mut daemon = Daemon::new(shared, net, listeners, sizes.sessions);
        let notify = Notify::from_env();
        let shared = &mut daemon.shared;
        Ok(Self {
            clock,
            totals: TotalsFile::new(&mut totals_context(shared)),
            signals,
            shutdown_at: None,
            shutdown_from: Tick(0),
            config_path,
            log,
            pid_file: shared.settings.pid_file.as_deref().and_then(write_pid_file),
            watchdog_at: notify.watchdog().map(|_| now),
            notify,
            daemon,
            poll,
        })
    }

    /// The event loop.
    fn run(&mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS);
        self.notify.ready(&self.status());
        loop {
            match self.poll.poll(&mut events, self.poll_timeout()) {
                Err(e) if e.kind() != io::ErrorKind::Interrupted => return Err(e),
                _ => {}
            }
            let (now, wall) = self.clock.read();
            self.daemon.shared.set_time(now, wall);
            self.notify_watchdog();
            let is_signal = |event: &Event| event.token() == Token(tokens::SIGNALS);
            if events.iter().any(is_signal) && self.handle_signals().is_break() {
                return Ok(());
            }
            self.totals.write_due(&mut totals_context(&mut self.daemon.shared));
            let events = events.iter().map(|event| (event.token().0, readiness::of(event)));
            let pause = self.daemon.round(events, now, wall);
            if let Some(until) = self.shutdown_at
                && (now >= until || self.daemon.sessions() == 0 && now >= self.shutdown_from)
            {
                self.log_stopped();
                return Ok(());
            }
            pause.into_iter().for_each(std::thread::sleep);
        }
    }

    /// The time until the next deadline; `None` = wait for an event.
    fn poll_timeout(&self) -> Option<Duration> {
        let now = self.daemon.shared.time.now;
        let exit = self.shutdown_at.map(|until| match now < self.shutdown_from {
            true => self.shutdown_from,
            false => until,
        });
        let due = earliest(&[self.daemon.due(), self.totals.due(), exit, self.watchdog_at])?;
        Some(due.since(now))
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
                    event!(Info, "stopping", sessions = self.daemon.sessions());
                    self.notify.stopping();
                    self.shutdown_at = Some(self.daemon.shared.time.now + DRAIN_TIME);
                    self.shutdown_from = self.exit_from();
                    self.daemon.drain();
                }
                // Not during a shutdown: the listeners are closed.
                Signal::Reload if self.shutdown_at.is_some() => {}
                Signal::Reload => self.reload(),
                Signal::Report => self.daemon.log_state(),
            }
        }
        ControlFlow::Continue(())
    }

    /// The earliest end of a graceful shutdown. The next process tells by the second in a hello
    /// whether it is older than itself, unless the digests are saved. So it must not begin in the
    /// same second as the latest hello.
    fn exit_from(&self) -> Tick {
        let Shared { time, limits, .. } = &self.daemon.shared;
        let latest_s = limits.replay.as_ref().map_or(0, Replay::latest_unsaved_s);
        match latest_s < time.wall.unix_s || self.totals.is_open() {
            true => time.now,
            false => time.now + Duration::from_nanos(1_000_000_000 - u64::from(time.wall.nanos)),
        }
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

    fn log_stopped(&mut self) {
        self.daemon.finish();
        event!(Info, "stopped", sessions = self.daemon.sessions());
    }

    /// One line for the service manager.
    fn status(&self) -> String {
        let settings = &self.daemon.shared.settings;
        let addrs: Vec<String> = self.daemon.listen_addrs().map(|addr| addr.to_string()).collect();
        format!("{} users on {}", settings.users.len(), addrs.join(", "))
    }

    /// Reads the config file and applies it. On an error the old config stays in force.
    fn reload(&mut self) {
        self.notify.reloading();
        let started = Instant::now();
        match self.try_reload() {
            Ok(Reloaded { change, ended }) => event! {
                Info, "reloaded", users = self.daemon.shared.settings.users.len(),
                added = change.added, removed = change.removed, changed = change.changed,
                ended = ended, ms = started.elapsed().as_millis() as u64
            },
            Err(error) => {
                for line in error.lines() {
                    event!(Error, "reload-refused", error = ?line, kept = ?"the old config");
                }
            }
        }
        self.notify.ready(&self.status());
    }

    fn try_reload(&mut self) -> Result<Reloaded, ReloadError> {
        let Loaded { mut settings, warnings } = reload::read(self.config_path.as_deref())?;
        settings.log = self.log.apply_to(settings.log);
        self.daemon.move_listeners(&settings).map_err(ReloadError::Listener)?;
        // From here on nothing can fail.
        for warning in &warnings {
            event!(Warn, "config"; Diagnostic::without_severity(warning));
        }
        let sizes = sizing::measure(&settings);
        let before = Rc::clone(&self.daemon.shared.settings);
        self.totals.save(&mut totals_context(&mut self.daemon.shared));
        let reloaded = self.daemon.reload(settings, &sizes);
        self.totals.apply(&mut totals_context(&mut self.daemon.shared));
        self.apply(&before);
        Ok(reloaded)
    }

    /// Applies the new settings of the daemon to the parts of the server.
    fn apply(&mut self, before: &Settings) {
        let now = Rc::clone(&self.daemon.shared.settings);
        check_congestion_control(&now);
        self.daemon.net().set_egress(sockets::egress(&now));
        if before.log != now.log {
            logger::init(&now.log);
        }
        if before.pid_file != now.pid_file {
            // The old file must be removed before the new one is written: they can be the same.
            self.pid_file = None;
            self.pid_file = now.pid_file.as_deref().and_then(write_pid_file);
        }
    }
}

/// Warns if the kernel refuses the congestion control: connections then have the system's.
fn check_congestion_control(settings: &Settings) {
    let Some(name) = &settings.congestion else { return };
    if let Err(e) = sockopt::check_congestion_control(name) {
        event!(
            Warn, "congestion-refused", name = ?name, error = ?e,
            hint = ?"using the default of the system; for allowed names see \
                net.ipv4.tcp_available_congestion_control, other names need root"
        );
    }
}

/// When a file was changed, in Unix seconds.
fn changed_s(path: &Path) -> Option<u64> {
    let changed = fs::metadata(path).ok()?.modified().ok()?;
    Some(changed.duration_since(UNIX_EPOCH).ok()?.as_secs())
}

fn new_shared(settings: Settings, sizes: &Sizes) -> io::Result<Shared> {
    let mut seed = [0; 48];
    getrandom::fill(&mut seed).map_err(|e| io::Error::other(e.to_string()))?;
    Ok(Shared::new(Rc::new(settings), seed, sizes.blocks, sizes.slots))
}

/// Writes the pid file. The proxy runs without one if that fails.
fn write_pid_file(path: &Path) -> Option<PidFile> {
    let outcome = PidFile::write(path);
    outcome
        .inspect_err(|e| {
            event!(Warn, "pid-file-failed", path = ?path.display(), error = ?e);
        })
        .ok()
}

fn totals_context(shared: &mut Shared) -> TotalsContext<'_> {
    TotalsContext {
        settings: &shared.settings,
        time: &shared.time,
        accounts: &mut shared.accounts,
        telemetry: &mut shared.telemetry,
        replay: shared.limits.replay.as_mut(),
    }
}

const EVENTS: usize = 256;
/// After SIGTERM, sessions have this long to flush. procd sends SIGKILL after five seconds.
const DRAIN_TIME: Duration = Duration::from_millis(4_500);

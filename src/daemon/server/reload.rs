//! SIGHUP: read, parse, validate, and only then swap. A file with an error, or a listener that
//! cannot be had, changes nothing and is named in the log.

use std::io;
use std::path::Path;
use std::time::Instant;

use super::{Server, manner, settle_doors, write_pid};
use crate::config::HAS_METRICS;
use crate::config::load::{self, Loaded};
use crate::config::report::{Diagnostic, Severity};
use crate::config::settings::Settings;
use crate::daemon::Daemon;
use crate::daemon::admin::statsd::Statsd;
use crate::daemon::reload::Reloaded;
use crate::daemon::resolver::Resolver;
use crate::daemon::server::listeners::{Accepted, ClientListener};
use crate::daemon::server::logging;
use crate::daemon::server::sizing;
use crate::daemon::upstream::sockets;
use crate::io::listen;
use crate::io::wire::MioNet;
use crate::limits::read_coalescing::ReadCoalescing;

impl Server {
    /// Takes the config file as it is now.
    pub(super) fn reload(&mut self) {
        self.notify.reloading();
        let begun = Instant::now();
        match self.try_reload() {
            Ok(Reloaded { change, ended, .. }) => log::info!(
                "event=reloaded users={} added={} removed={} changed={} ended={ended} ms={}",
                self.daemon.world.settings.users.len(),
                change.added,
                change.removed,
                change.changed,
                begun.elapsed().as_millis() as u64
            ),
            Err(complaints) => {
                for complaint in complaints {
                    log::error!("event=reload-refused error={complaint:?} kept=\"the old config\"");
                }
            }
        }
        self.notify.ready(&self.status());
    }

    fn try_reload(&mut self) -> Result<Reloaded, Vec<String>> {
        let Some(path) = &self.config else {
            return Err(vec!["there is no config file to read; start with `mtbox run`".to_owned()]);
        };
        let Loaded { mut settings, warnings } = read(path)?;
        settings.log = self.log.apply_to(settings.log);
        self.move_doors(&settings).map_err(|e| vec![e.to_string()])?;
        // From here on nothing can fail.
        for warning in &warnings {
            log::warn!("event=config {}", Diagnostic::without_severity(warning));
        }
        let before = self.daemon.world.settings.clone();
        let sizes = sizing::measure(&settings);
        self.state.save(&mut self.daemon.world);
        let reloaded = self.daemon.reload(settings, &sizes);
        self.state.settle(&mut self.daemon.world);
        let now = self.daemon.world.settings.clone();
        self.errands.cancel(&reloaded.gone, &mut self.daemon.world);
        settle_doors(&self.doors, &mut self.daemon.world);
        self.admin.settle(&now, self.poll.registry(), super::DESKS);
        self.daemon.net().set_egress(sockets::egress(&now));
        if before.log != now.log {
            logging::settle(&now.log);
        }
        if before.dns != now.dns {
            self.resolver = Resolver::new(&now.dns);
        }
        if self.statsd.as_ref().map(Statsd::settings) != now.statsd.as_ref() {
            let world = &self.daemon.world;
            let wanted = now.statsd.clone().filter(|_| HAS_METRICS);
            self.statsd = wanted.map(|settings| Statsd::new(settings, world));
        }
        if before.coalesce_reads != now.coalesce_reads {
            self.moderation = ReadCoalescing::new(now.coalesce_reads);
        }
        if before.pid_file != now.pid_file {
            self.pid_file = None;
            self.pid_file = now.pid_file.as_deref().and_then(write_pid);
        }
        Ok(reloaded)
    }

    /// Opens the new listeners, closes the old ones, and lets in who stands before them.
    fn move_doors(&mut self, settings: &Settings) -> io::Result<()> {
        let binds = listen::plan(&settings.binds, manner(settings));
        let daemon = &mut self.daemon;
        let (opened, closed) =
            self.doors.reopen(&binds, self.poll.registry(), |door| empty(door, daemon))?;
        if opened + closed > 0 {
            log::info!("event=listeners opened={opened} closed={closed}");
        }
        Ok(())
    }
}

/// Lets in everybody who stands before a door that is about to close.
fn empty(door: &mut ClientListener, daemon: &mut Daemon<MioNet>) {
    door.knock();
    let now = daemon.world.time.now;
    loop {
        match door.look(now, &mut daemon.world.telemetry.log) {
            Accepted::New(wire, peer) => daemon.accept(wire, peer),
            Accepted::Gone => {}
            Accepted::Nobody | Accepted::NoRoom => return,
        }
    }
}

/// Reads the file; each error of it is a line.
fn read(path: &Path) -> Result<Loaded, Vec<String>> {
    let trouble = |fault: &dyn std::fmt::Display| vec![format!("{}: {fault}", path.display())];
    let found = path.metadata().map_err(|e| trouble(&e))?;
    if !found.is_file() {
        // A pipe would have to be written again, and waited for.
        return Err(trouble(&"not a regular file, so it is read only once"));
    }
    let bytes = load::read(path).map_err(|e| trouble(&e))?;
    load::load(&bytes, &path.to_string_lossy()).map_err(|complaints| {
        let errors = complaints.iter().filter(|one| one.severity == Severity::Error);
        errors.map(Diagnostic::without_severity).collect()
    })
}

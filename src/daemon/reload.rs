//! Applies a new config to a running daemon, between two rounds. The config has been checked; only
//! moving the listeners for clients can fail, and comes first.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use crate::accounts::users::{ReloadChange, UserId};
use crate::config::settings::Settings;
use crate::daemon::admin::statsd::Statsd;
use crate::daemon::fetch;
use crate::daemon::resolver::Resolver;
use crate::daemon::server::sizing::Sizes;
use crate::daemon::session::key::SessionKey;
use crate::daemon::session::outcome::Outcome;
use crate::daemon::shared::{self, Shared};
use crate::daemon::upstream::addresses::BadAddresses;
use crate::daemon::upstream::outbound::Outbound;
use crate::daemon::upstream::sockets;
#[cfg(feature = "tls")]
use crate::daemon::upstream::tls_roots::TlsRoots;
use crate::daemon::{Daemon, new_statsd};
use crate::io::clock::Tick;
use crate::io::logger::event;
use crate::io::wire::Net;
use crate::limits::Limits;
use crate::limits::read_coalescing::ReadCoalescing;
use crate::limits::relay_rate::RelayRate;
use crate::limits::replay::Replay;
use crate::limits::throttle::Throttle;

/// The result of a reload.
#[derive(Debug, Default)]
pub struct Reloaded {
    /// The changes to the users.
    pub change: ReloadChange,
    /// Number of sessions that were closed because their users were revoked.
    pub ended: usize,
}

impl<N: Net> Daemon<N> {
    /// Moves the listeners for clients to the addresses of `settings`, before
    /// [`Daemon::reload`] applies these. The connections that wait at an old one are accepted.
    ///
    /// # Errors
    /// A new listener cannot be opened. Then nothing has changed.
    pub fn move_listeners(&mut self, settings: &Settings) -> io::Result<()> {
        let (now, log) = (self.shared.time.now, &mut self.shared.telemetry.log);
        let mut pending = Vec::new();
        let outcome = self.listeners.move_clients(settings, &mut self.net, &mut |listener| {
            pending.extend(listener.accept_pending(now, log));
        });
        pending.into_iter().for_each(|(wire, peer)| self.accept(wire, peer));
        let (opened, closed) = outcome?;
        if opened + closed > 0 {
            event!(Info, "listeners", opened = opened, closed = closed);
        }
        Ok(())
    }

    /// Applies new settings. Sessions of users who were removed, disabled or given another secret
    /// are closed; all others stay open. Settings of the handshake apply to new connections.
    pub fn reload(&mut self, settings: Settings, sizes: &Sizes) -> Reloaded {
        let before = std::mem::replace(&mut self.shared.settings, Rc::new(settings));
        let settings = Rc::clone(&self.shared.settings);
        let change = self.shared.accounts.users.reload(shared::configured_users(&settings));
        self.admin.reload();
        let ended = self.close_revoked(&change);
        let users = &self.shared.accounts.users;
        self.shared.telemetry.recorder.retain_users(|id| users.is_configured(id));
        self.resize(sizes);
        let Shared { accounts, limits, outbound, telemetry, time, .. } = &mut self.shared;
        reload_limits(limits, &before, &settings, accounts.users.connections(), time.now);
        if before.relay_rate != settings.relay_rate {
            limits.rate = settings.relay_rate.map(|rate| RelayRate::new(rate, time.now.0));
        }
        telemetry.logs_addresses = settings.log_addresses;
        reload_outbound(outbound, &before, &settings, time.now);
        let removed_jobs = fetch::reload(&mut self.shared.fetch_context(), &before, &change);
        let queue = &mut self.shared.fetch.queue;
        self.tasks.cancel(queue, |task| removed_jobs.contains(&task.job()));
        // Deadlines may be earlier now; each session computes its own in its next step.
        self.keys().into_iter().for_each(|key| self.queue(key));
        self.reload_sockets(&before, &settings);
        Reloaded { change, ended }
    }

    /// Applies new settings to the listeners, the resolver and statsd.
    fn reload_sockets(&mut self, before: &Settings, now: &Settings) {
        self.apply_to_listeners();
        self.listeners.apply_admin(now, &mut self.net);
        if before.dns != now.dns {
            self.resolver = Resolver::new(&now.dns);
        }
        if self.statsd.as_ref().map(Statsd::settings) != now.statsd.as_ref() {
            self.statsd = new_statsd(&self.shared);
        }
        if before.coalesce_reads != now.coalesce_reads {
            self.coalescing = ReadCoalescing::new(now.coalesce_reads);
        }
    }

    /// Sets the options of the listeners for clients, and records their addresses as our own: those
    /// that they have, and their ports at the public addresses.
    pub(super) fn apply_to_listeners(&mut self) {
        let settings = &self.shared.settings;
        self.listeners.set_client_options(&sockets::plain_socket_options(settings));
        let mut own: Vec<SocketAddr> = self.listeners.client_addrs().collect();
        for ip in [settings.public_ipv4, settings.public_ipv6].into_iter().flatten() {
            own.extend(settings.binds.iter().map(|bind| SocketAddr::new(ip, bind.port())));
        }
        self.shared.outbound.own_listeners = own;
    }

    /// Closes the sessions of revoked users. Returns their number.
    fn close_revoked(&mut self, change: &ReloadChange) -> usize {
        if change.revoked.is_empty() {
            return 0;
        }
        let users = &self.shared.accounts.users;
        let mut is_revoked = vec![false; users.connections().len()];
        change.revoked.iter().for_each(|id| is_revoked[users.position(*id)] = true);
        let sessions = self.sessions.iter();
        let is_over = |user: UserId| is_revoked[users.position(user)];
        let over = sessions.filter(|(_, session)| session.client.user.is_some_and(is_over));
        let over: Vec<SessionKey> = over.map(|(index, _)| SessionKey::of_index(index)).collect();
        over.iter().for_each(|key| self.close(*key, Outcome::Revoked));
        over.len()
    }

    /// Sets new limits. Sessions and blocks over a limit stay until they are released.
    fn resize(&mut self, sizes: &Sizes) {
        self.set_sessions_max(sizes.sessions);
        self.shared.buffers.set_blocks_max(sizes.blocks);
        self.shared.memory.set_limits(sizes.limit, sizes.kernel);
    }
}

/// `connections` is the number of sessions of each user.
fn reload_limits(
    limits: &mut Limits,
    before: &Settings,
    wanted: &Settings,
    connections: &[u32],
    now: Tick,
) {
    limits.throttle = match (limits.throttle.take(), wanted.throttle) {
        (Some(mut throttle), Some(settings)) => {
            throttle.set_limit(settings.max_connections);
            throttle.recompute(connections);
            Some(throttle)
        }
        (None, Some(settings)) => Some(Throttle::new(settings.max_connections, connections.len())),
        (_, None) => None,
    };
    limits.replay = match (limits.replay.take(), wanted.replay) {
        (kept, Some(settings)) => {
            let max_bytes = usize::try_from(settings.max_bytes).unwrap_or(usize::MAX);
            let mut replay = kept.unwrap_or_else(|| Replay::new(max_bytes, now.0));
            if before.replay != wanted.replay {
                replay.set_max_bytes(max_bytes, now.0);
            }
            Some(replay)
        }
        (_, None) => None,
    };
}

fn reload_outbound(outbound: &mut Outbound, before: &Settings, now: &Settings, at: Tick) {
    outbound.upstreams.reload(&now.upstreams, at);
    if before.dns != now.dns {
        outbound.dns.restart_lookups();
    }
    if before.egress != now.egress || before.dc_overrides != now.dc_overrides {
        outbound.bad_addresses = BadAddresses::default();
    }
    // The file of `network.ca-file` may have changed.
    #[cfg(feature = "tls")]
    {
        outbound.tls_roots = TlsRoots::default();
    }
}

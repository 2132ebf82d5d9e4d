//! Applies new settings to a running daemon, in one step between two rounds of the loop. Sessions
//! of users who are still configured are not affected. The settings were validated before.
//!
//! This file handles sessions and jobs; `server/reload.rs` handles listeners and other resources.

use std::rc::Rc;

use crate::accounts::users::{ReloadChange, UserId};
use crate::config::settings::Settings;
use crate::daemon::Daemon;
use crate::daemon::fetch;
use crate::daemon::fetch::schedule::Job;
use crate::daemon::server::sizing::Sizes;
use crate::daemon::session::key::SessionKey;
use crate::daemon::session::step::CloseReason;
use crate::daemon::shared::{self, World};
use crate::daemon::upstream::addresses::BadAddresses;
#[cfg(feature = "tls")]
use crate::daemon::upstream::tls_roots::TlsRoots;
use crate::io::wire::Net;
use crate::limits::replay::Replay;
use crate::limits::throttle::Throttle;

/// What a reload did.
#[derive(Debug, Default)]
pub struct Reloaded {
    /// Changes of the users.
    pub change: ReloadChange,
    /// Sessions that were closed because their users may not connect any more.
    pub ended: usize,
    /// Jobs that were removed; their tasks have to be cancelled.
    pub removed_jobs: Vec<Job>,
}

impl<N: Net> Daemon<N> {
    /// Applies new settings. Sessions of users who were removed, disabled or given another secret
    /// are closed; all others go on. Settings of the handshake apply to new connections only.
    pub fn reload(&mut self, settings: Settings, sizes: &Sizes) -> Reloaded {
        let before = std::mem::replace(&mut self.world.settings, Rc::new(settings));
        let settings = Rc::clone(&self.world.settings);
        let change = self.world.accounts.users.reload(shared::configured_users(&settings));
        let ended = self.end_revoked(&change);
        let users = &self.world.accounts.users;
        self.world.telemetry.recorder.retain_users(|id| users.is_configured(id));
        self.resize(sizes);
        let removed_jobs = self.world.reload(&before, &settings, &change);
        // Deadlines may have come nearer; each session finds its own in its next step.
        self.keys().into_iter().for_each(|key| self.queue(key));
        Reloaded { change, ended, removed_jobs }
    }

    fn end_revoked(&mut self, change: &ReloadChange) -> usize {
        if change.revoked.is_empty() {
            return 0;
        }
        let users = &self.world.accounts.users;
        let mut is_revoked = vec![false; users.connections().len()];
        change.revoked.iter().for_each(|id| is_revoked[users.position(*id)] = true);
        let sessions = self.sessions.iter();
        let is_over = |user: UserId| is_revoked[users.position(user)];
        let over = sessions.filter(|(_, session)| session.client.user.is_some_and(is_over));
        let over: Vec<SessionKey> = over.map(|(index, _)| SessionKey::of_index(index)).collect();
        over.iter().for_each(|key| self.close(*key, CloseReason::Revoked));
        over.len()
    }

    /// Applies new limits. Sessions above a lower limit stay until they end.
    fn resize(&mut self, sizes: &Sizes) {
        self.set_sessions_max(sizes.sessions);
        self.world.buffers.pool.set_capacity(sizes.blocks);
    }
}

impl World {
    /// Applies what has changed from `before` to `now`. Returns the jobs that were removed.
    fn reload(&mut self, before: &Settings, now: &Settings, change: &ReloadChange) -> Vec<Job> {
        self.limits.throttle = match (self.limits.throttle.take(), now.throttle) {
            (Some(mut throttle), Some(wanted)) => {
                throttle.set_limit(wanted.max_connections);
                throttle.recompute(self.accounts.users.connections());
                Some(throttle)
            }
            (None, Some(wanted)) => {
                Some(Throttle::new(wanted.max_connections, self.accounts.users.connections().len()))
            }
            (_, None) => None,
        };
        self.limits.replay = match (self.limits.replay.take(), now.replay) {
            (kept, Some(wanted)) => {
                let most = usize::try_from(wanted.max_bytes).unwrap_or(usize::MAX);
                let mut replay = kept.unwrap_or_else(|| Replay::new(most));
                if before.replay != now.replay {
                    replay.set_max_bytes(most);
                }
                Some(replay)
            }
            (_, None) => None,
        };
        self.telemetry.logs_addresses = now.log_addresses;
        self.outbound.upstreams.reload(&now.upstreams, self.time.now);
        if before.dns != now.dns {
            self.outbound.dns.restart_lookups();
        }
        if before.egress != now.egress || before.dc_overrides != now.dc_overrides {
            self.outbound.bad_addresses = BadAddresses::default();
        }
        #[cfg(feature = "tls")]
        {
            // The file of `network.ca-file` may have changed.
            self.outbound.tls_roots = TlsRoots::default();
        }
        fetch::reload(&mut self.fetch_context(), before, change)
    }
}

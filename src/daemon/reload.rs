//! A new config in a running daemon: everything is swapped in one step between two rounds, and
//! nobody who is still welcome notices. What is wrong with a file was found before.
//!
//! Here is what sessions and jobs share; `server.rs` swaps what belongs to the system.

use std::rc::Rc;

use crate::accounts::users::{ReloadChange, UserId};
use crate::config::settings::Settings;
use crate::daemon::Daemon;
use crate::daemon::fetch::dc_list;
use crate::daemon::fetch::front_probe;
use crate::daemon::fetch::ip_lists;
use crate::daemon::fetch::schedule::Job;
use crate::daemon::server::sizing::Sizes;
use crate::daemon::session::key::SessionKey;
use crate::daemon::session::step::CloseReason;
use crate::daemon::shared::{self, World};
use crate::daemon::upstream::addresses::BadAddresses;
use crate::io::clock::Tick;
use crate::io::wire::Net;
use crate::limits::replay::Replay;
use crate::limits::throttle::Throttle;

/// What a reload did.
#[derive(Debug, Default)]
pub struct Reloaded {
    /// To the people.
    pub change: ReloadChange,
    /// Sessions that were ended, because their users may not connect any more.
    pub ended: usize,
    /// Jobs that are not there any more; their errands have to be dropped.
    pub gone: Vec<Job>,
}

impl<N: Net> Daemon<N> {
    /// Takes new settings. Sessions of users who were removed, disabled or given another secret
    /// end; all others go on. What concerns the start of a connection holds from the next one on.
    pub fn reload(&mut self, settings: Settings, sizes: &Sizes) -> Reloaded {
        let before = std::mem::replace(&mut self.world.settings, Rc::new(settings));
        let settings = Rc::clone(&self.world.settings);
        let change = self.world.accounts.users.reload(shared::configured_users(&settings));
        let ended = self.end_revoked(&change);
        let users = &self.world.accounts.users;
        self.world.telemetry.recorder.retain_users(|id| users.is_configured(id));
        self.resize(sizes);
        let gone = self.world.reload(&before, &settings, &change);
        // Deadlines may have come nearer; each session finds its own in its next step.
        self.keys().into_iter().for_each(|key| self.queue(key));
        Reloaded { change, ended, gone }
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

    /// Other limits. Who is over one stays until the end of the connection.
    fn resize(&mut self, sizes: &Sizes) {
        self.set_sessions_max(sizes.sessions);
        self.world.buffers.pool.set_capacity(sizes.blocks);
    }
}

impl World {
    /// Takes over what has changed from one config to the next.
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
            self.outbound.dns.start_over();
        }
        if before.egress != now.egress || before.dc_overrides != now.dc_overrides {
            self.outbound.bad_addresses = BadAddresses::default();
        }
        self.reload_jobs(before, now, change)
    }

    /// What is fetched again and again; each kind only if something about it has changed.
    fn reload_jobs(
        &mut self,
        before: &Settings,
        now: &Settings,
        change: &ReloadChange,
    ) -> Vec<Job> {
        #[cfg(feature = "tls")]
        {
            // The file may hold other certificates now.
            self.outbound.tls_roots = crate::daemon::upstream::tls_roots::TlsRoots::default();
        }
        let mut gone = front_probe::reload(before.front != now.front, change, self);
        let lists = |s: &Settings| (s.blocklist.clone(), s.allowlist.clone(), s.cache_dir.clone());
        match lists(before) == lists(now) {
            true => ip_lists::refresh(self),
            false => gone.extend(ip_lists::reload(self)),
        }
        if before.dc_list != now.dc_list {
            gone.extend(dc_list::reload(self));
        }
        #[cfg(feature = "tls")]
        if before.page_timing.pages != now.page_timing.pages
            || before.shape.is_some() != now.shape.is_some()
        {
            gone.extend(crate::daemon::fetch::page_timing::reload(self));
        }
        let latest = Tick(self.time.now.0 + now.page_timing.interval.as_millis() as u64);
        #[cfg(feature = "tls")]
        self.fetch.schedule.hasten(|job| matches!(job, Job::Visit(_)), latest);
        self.fetch.schedule.hasten(|job| matches!(job, Job::Look(_)), latest);
        gone
    }
}

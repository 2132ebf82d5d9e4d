//! One round of the event loop, and when the next one is due.

use std::time::Duration;

use crate::config::{HAS_METRICS, HAS_TLS};
use crate::daemon::Daemon;
use crate::daemon::admin::pages::AdminPages;
use crate::daemon::admin::statsd::Statsd;
use crate::daemon::fetch;
use crate::daemon::listeners::{Accepted, ListenerKind};
use crate::daemon::resolver::lookup::LookupResult;
use crate::daemon::shared::Shared;
use crate::daemon::tokens::{self, TokenKind};
use crate::io::clock::{Tick, Wall, earliest};
use crate::io::logger::{event, fields};
use crate::io::readiness::Readiness;
use crate::io::wire::Net;
use crate::limits::read_coalescing::Round;

impl<N: Net> Daemon<N> {
    /// Runs one round at this time: passes the events of the poller to the owners of their tokens,
    /// and lets every part of the daemon do one bounded step. Returns how long to pause before the
    /// next round, so that it reads more bytes at once.
    pub fn round(
        &mut self,
        events: impl IntoIterator<Item = (usize, Readiness)>,
        now: Tick,
        wall: Wall,
    ) -> Option<Duration> {
        self.shared.begin_round(now, wall);
        let mut has_events = false;
        for (token, ready) in events {
            has_events = true;
            self.dispatch(token, ready);
        }
        self.fetch();
        self.resolve();
        let before = self.sessions();
        self.run_ready();
        if self.net.has_lacked_files() {
            // A dial or a lookup tries again soon.
            self.free_descriptor();
        }
        if self.sessions() < before {
            self.listeners.end_exhaustion();
        }
        if self.listeners.open_missing(&mut self.net, now) {
            self.apply_to_listeners();
        }
        self.serve_pages();
        let may_accept = self.accept_all();
        self.send_metrics(has_events || self.sessions() != before);
        let watches_memory = self.watch_memory();
        let dns = &self.shared.outbound.dns;
        self.has_work = may_accept
            || watches_memory
            || self.tasks.has_work(&self.shared.fetch.queue)
            || self.shared.lists.has_work()
            // A lookup that this round started must not wait for the next event.
            || (self.resolver.has_room() && dns.is_wanted());
        if !self.is_busy() {
            self.has_work = self.use_idle_time(!has_events);
        }
        let pause = self.coalescing.pause(Round {
            now_ms: now.0,
            reads: self.shared.telemetry.counters.reads,
            bytes: self.shared.telemetry.counters.read_bytes,
            is_handshaking: now < self.last_handshake + HANDSHAKE_TIME,
        });
        // Sessions that had no step yet must not wait longer.
        pause.filter(|_| !self.is_cut)
    }

    /// When the next round must run even without an event; `None` = wait for an event.
    pub fn due(&self) -> Option<Tick> {
        let now = self.shared.time.now;
        if self.is_busy() {
            return Some(now);
        }
        earliest(&[
            self.wheel.next(),
            self.ready_at(),
            self.shared.telemetry.due(),
            self.admin.due(),
            self.resolver.due(),
            self.tasks.due(),
            self.shared.fetch.schedule.due(),
            self.statsd.as_ref().and_then(Statsd::due),
            self.listeners.due(now),
            self.next_relief,
        ])
    }

    fn is_busy(&self) -> bool {
        self.has_work || self.ready_at().is_some_and(|at| at <= self.shared.time.now)
    }

    /// Passes an event to the owner of its token.
    fn dispatch(&mut self, token: usize, ready: Readiness) {
        match TokenKind::of(token) {
            TokenKind::Listener(slot) => self.listeners.mark_readable(slot),
            TokenKind::Resolver(slot) => self.resolver.on_ready(slot, ready),
            TokenKind::FetchTask(slot) => self.tasks.on_ready(slot, ready),
            TokenKind::AdminConnection(slot) => self.admin.mark_ready(slot),
            TokenKind::Session(token) => self.on_ready(token, ready),
            TokenKind::Signals => {}
        }
    }

    /// Starts the jobs that are due, and steps the running fetch tasks and the file work.
    fn fetch(&mut self) {
        let base = tokens::FETCH_TASKS.first();
        let context = &mut self.shared.fetch_context();
        fetch::poll(context, &mut self.tasks, &mut self.net, base);
    }

    /// Steps the resolver, and wakes the sessions and tasks whose lookups are complete.
    fn resolve(&mut self) {
        let base = tokens::RESOLVER.first();
        let context = &mut self.shared.connect_context();
        let results = self.resolver.poll(context, &mut self.net, base);
        for LookupResult { name, found, ttl_s } in results {
            let now = self.shared.time.now;
            let fault = found.as_ref().err().cloned();
            let dns = &mut self.shared.outbound.dns;
            let was_stale = dns.is_stale(&name);
            let tokens = dns.answer(&name, found, ttl_s, now);
            if let (Some(fault), false, true) = (fault, was_stale, dns.is_stale(&name)) {
                let fields = fields!("dns-stale", host = ?name, error = ?fault, hint = ?OLD_SERVE);
                self.shared.telemetry.log.warn(now, fields);
            }
            for token in tokens {
                match TokenKind::of(token) {
                    TokenKind::FetchTask(slot) => self.tasks.wake(slot),
                    _ => self.wake(token),
                }
            }
        }
    }

    /// Accepts connections to the admin pages and serves them.
    fn serve_pages(&mut self) {
        let now = self.shared.time.now;
        let mut accept_at = None;
        for slot in self.listeners.slots() {
            if let Some(ListenerKind::Admin(_, pages)) = self.listeners.kind(slot)
                && self.listeners.may_accept(slot, now)
            {
                let next = self.accept_admin(slot, *pages, now);
                accept_at = earliest(&[accept_at, next]);
            }
        }
        self.admin.set_accept_at(accept_at);
        if !self.admin.is_idle() {
            self.admin.turn(&self.shared.view(), || self.net.micros());
        }
    }

    /// Accepts a few connections to the admin pages. Returns when the next one may be accepted;
    /// `None` = after an event.
    fn accept_admin(&mut self, slot: usize, pages: AdminPages, now: Tick) -> Option<Tick> {
        let has_others = self.listeners.has_several_admin();
        for _ in 0..ADMIN_ACCEPTS_PER_ROUND {
            // Before accept(2): a connection that finds no slot waits at the listener.
            let place = match self.admin.slot_for(slot, has_others, now) {
                Ok(place) => place,
                Err(at) => return at,
            };
            let begun_us = self.net.micros();
            let accepted = self.listeners.accept(slot, now, &mut self.shared.telemetry.log);
            let is_exhausted = matches!(accepted, Accepted::Exhausted);
            let is_last = is_exhausted || matches!(accepted, Accepted::None);
            if let Accepted::Connection(wire, _) = accepted {
                let net = (&mut self.net, tokens::ADMIN_CONNECTIONS.first());
                if self.admin.accept(place, (slot, pages), wire, net, now) {
                    self.shared.telemetry.info(fields!("page-client-evicted"));
                }
            }
            self.admin.spend(self.net.micros() - begun_us);
            if is_exhausted {
                self.free_descriptor();
            }
            if is_last {
                return None;
            }
        }
        Some(now)
    }

    /// Accepts a bounded number of clients per listener. Returns whether more may be waiting.
    fn accept_all(&mut self) -> bool {
        if self.shared.lists.is_opening() {
            return true;
        }
        let now = self.shared.time.now;
        let mut may_accept = false;
        for slot in self.listeners.slots() {
            may_accept |= self.accept_at(slot, now);
        }
        may_accept
    }

    /// The part of [`Daemon::accept_all`] for one listener.
    fn accept_at(&mut self, slot: usize, now: Tick) -> bool {
        let Some(ListenerKind::Clients(_)) = self.listeners.kind(slot) else { return false };
        let mut has_accepted = false;
        for _ in 0..ACCEPTS_PER_ROUND {
            match self.listeners.accept(slot, now, &mut self.shared.telemetry.log) {
                Accepted::Connection(wire, peer) => {
                    self.accept(wire, peer);
                    has_accepted = true;
                }
                Accepted::Transient => {}
                Accepted::None => return false,
                Accepted::Exhausted => {
                    // Lookups and dials come first: they may use the descriptor in the next round.
                    if self.free_descriptor() && has_accepted {
                        self.listeners.end_exhaustion();
                    }
                    break;
                }
            }
        }
        self.listeners.may_accept(slot, now)
    }

    /// Sends metrics to statsd when they are due.
    fn send_metrics(&mut self, may_have_changed: bool) {
        let Some(statsd) = self.statsd.as_mut().filter(|_| HAS_METRICS) else { return };
        if may_have_changed || self.shared.telemetry.counters.state_changed {
            statsd.schedule(self.shared.time.now);
        }
        let lost = statsd.send_due(&self.shared.view(), &mut self.net);
        self.shared.telemetry.counters.statsd_lost += lost;
    }

    /// Flushes the log and the metrics at the end of the process.
    pub fn finish(&mut self) {
        self.shared.telemetry.flush_all();
        if let Some(statsd) = self.statsd.as_mut().filter(|_| HAS_METRICS) {
            // Without this, statsd would keep the values of a second ago.
            statsd.send(&self.shared.view(), &mut self.net);
        }
    }

    /// Work for rounds without other work: key shares, and one step of the fit of page timing.
    /// Returns whether some of it is left.
    fn use_idle_time(&mut self, had_no_events: bool) -> bool {
        let Shared { mimicry, drbg, .. } = &mut self.shared;
        if had_no_events {
            mimicry.key_shares.refill(drbg);
            // Without TLS no durations are measured, and the compiler can leave the fit out.
            if HAS_TLS && let Some(pace) = mimicry.refine_pace() {
                let (k, lambda_ms, durations) = (pace.k(), pace.lambda_ms(), mimicry.fit.len());
                event! {
                    Info, "pacing-fit", k = format_args!("{:.4}", k),
                    lambda_ms = format_args!("{:.4}", lambda_ms), durations = durations
                };
            }
        }
        mimicry.key_shares.is_short() || mimicry.fit.is_running()
    }
}

const ACCEPTS_PER_ROUND: usize = 16;
const ADMIN_ACCEPTS_PER_ROUND: usize = 4;
/// A handshake counts as in progress for this long after its last step.
const HANDSHAKE_TIME: Duration = Duration::from_millis(100);

/// What `dns-stale` means.
const OLD_SERVE: &str = "the last good addresses serve on; mtbox doctor examines the name servers";

//! The HTTP pages for the operator: `/stats`, `/explain` and metrics. They have listeners and
//! connections of their own, with one request per connection, so that they answer under any load.

mod connection;
pub mod counters;
mod explain;
pub mod metrics;
mod page_store;
pub(super) mod pages;
pub mod probe_summary;
mod rows;
pub mod state_dump;
pub mod stats;
pub mod stats_table;
pub mod statsd;
pub mod telemetry;
pub mod view;

use crate::config::settings::{HttpBind, Settings};
use crate::daemon::admin::connection::AdminConnection;
use crate::daemon::admin::page_store::PageStore;
use crate::daemon::admin::pages::AdminPages;
use crate::daemon::admin::view::View;
use crate::io::clock::{Tick, earliest};
use crate::io::wire::{Net, Wire};
use crate::limits::time_budget::TimeBudget;

/// The connections to the admin pages, and the pages that they ask for. All of them together get a
/// bounded share of the time of the loop.
pub struct AdminServer<W> {
    connections: [Option<AdminConnection<W>>; CONNECTIONS_MAX],
    store: PageStore,
    budget: TimeBudget,
    /// Connections since start.
    accepted: u64,
    /// Connections that gave their slot to a new one.
    evicted: u64,
    /// When a connection that waits at a listener may be accepted.
    accept_at: Option<Tick>,
}

/// Numbers for the log.
#[derive(Debug, Clone, Copy)]
pub struct AdminCounts {
    /// Open connections.
    pub connections: usize,
    /// Connections since start.
    pub accepted: u64,
    /// Connections that gave their slot to a new one.
    pub evicted: u64,
    /// Pages that were written; one page can answer several requests.
    pub written: u64,
    /// Pages for which there was no memory.
    pub refused: u64,
}

impl<W> Default for AdminServer<W> {
    fn default() -> Self {
        Self {
            connections: std::array::from_fn(|_| None),
            store: PageStore::default(),
            budget: TimeBudget::default(),
            accepted: 0,
            evicted: 0,
            accept_at: None,
        }
    }
}

impl<W: Wire> AdminServer<W> {
    /// Whether no connection is open and no page is kept.
    pub(super) fn is_idle(&self) -> bool {
        self.connections.iter().all(Option::is_none) && self.store.due().is_none()
    }

    /// A slot for a connection to this listener, or when to ask again. With several listeners, none
    /// may use all slots: slow readers of the metrics must not block `/stats`. The connection in
    /// the slot, if there is one, is a slow one that [`AdminServer::accept`] evicts.
    pub(super) fn slot_for(
        &mut self,
        listener: usize,
        has_others: bool,
        now: Tick,
    ) -> Result<usize, Option<Tick>> {
        if !self.budget.refill(now.0) {
            return Err(Some(Tick(self.budget.due_ms())));
        }
        let max = if has_others { CONNECTIONS_MAX - RESERVED } else { CONNECTIONS_MAX };
        let is_own = |one: &&AdminConnection<W>| one.listener == listener;
        let is_full = self.connections.iter().flatten().filter(is_own).count() >= max;
        if let Some(free) = self.connections.iter().position(Option::is_none).filter(|_| !is_full) {
            return Ok(free);
        }
        let open = self.connections.iter().enumerate().filter_map(|(slot, one)| {
            let one = one.as_ref().filter(|one| !is_full || is_own(one))?;
            Some((one.evictable_at()?, one.number, slot))
        });
        match open.min() {
            Some((at, _, slot)) if at <= now => Ok(slot),
            later => Err(later.map(|(at, ..)| at)),
        }
    }

    /// Adds an accepted connection. `slot` comes from [`AdminServer::slot_for`]; the connection in
    /// slot `n` gets the poll token `token_base + n`. Returns whether it evicts another.
    pub(super) fn accept(
        &mut self,
        slot: usize,
        listener: (usize, AdminPages),
        mut wire: W,
        (net, token_base): (&mut impl Net<Wire = W>, usize),
        now: Tick,
    ) -> bool {
        let Some(place) = self.connections.get_mut(slot) else { return false };
        let evicted = place.take().map(|one| one.evict(now)).is_some();
        self.evicted += u64::from(evicted);
        if net.register(&mut wire, token_base + slot).is_ok() {
            self.accepted += 1;
            *place = Some(AdminConnection::new(listener, self.accepted, wire, now));
        }
        evicted
    }

    /// Sets when the next connection may be accepted; `None` = after an event.
    pub(super) fn set_accept_at(&mut self, at: Option<Tick>) {
        self.accept_at = at;
    }

    /// Counts time that was used for the pages.
    pub(super) fn spend(&mut self, us: u64) {
        self.budget.spend(us);
    }

    /// Records an event of the connection in this slot.
    pub(super) fn mark_ready(&mut self, slot: usize) {
        if let Some(Some(connection)) = self.connections.get_mut(slot) {
            connection.mark_ready();
        }
    }

    /// Lets the connections read, write and answer, the oldest first, until the time of a turn is
    /// used up. `micros` reads a clock.
    pub(super) fn turn(&mut self, view: &View<'_>, micros: impl Fn() -> u64) {
        let now = view.time.now;
        self.store.begin_turn();
        let (begun_us, mut number) = (micros(), 0);
        let mut last_us = begun_us;
        while let Some((next, slot)) = self.after(number) {
            number = next;
            let Some(place) = self.connections.get_mut(slot) else { continue };
            let Some(connection) = place else { continue };
            let is_late = connection.deadline().is_some_and(|deadline| now >= deadline);
            let may_work = last_us - begun_us < TURN_US && self.budget.refill(now.0);
            if is_late || connection.has_work() && may_work {
                // A failed connection is closed like a finished one: its client needs no answer.
                if connection.step(&mut self.store, view).map_or(true, |step| step.is_ready()) {
                    *place = None;
                }
                let now_us = micros();
                self.budget.spend(now_us - last_us);
                last_us = now_us;
            }
        }
        let connections = &self.connections;
        self.store.retain(now, |page, until| {
            connections.iter().flatten().any(|one| one.asks(page, until))
        });
    }

    /// The number and slot of the connection that was accepted next after `number`.
    fn after(&self, number: u64) -> Option<(u64, usize)> {
        let all = self.connections.iter().enumerate();
        let numbers = all.filter_map(|(slot, one)| Some((one.as_ref()?.number, slot)));
        numbers.filter(|(other, _)| *other > number).min()
    }

    /// When the next turn is due without an event.
    pub(super) fn due(&self) -> Option<Tick> {
        let open = || self.connections.iter().flatten();
        let work = open().any(AdminConnection::has_work).then(|| Tick(self.budget.due_ms()));
        let deadlines = open().filter_map(AdminConnection::deadline);
        earliest(&[deadlines.min(), work, self.accept_at, self.store.due()])
    }

    /// Starts pages in progress again, because users and settings have changed.
    pub(super) fn reload(&mut self) {
        self.store.clear();
    }

    /// Numbers for the log.
    pub(super) fn counts(&self) -> AdminCounts {
        AdminCounts {
            connections: self.connections.iter().flatten().count(),
            accepted: self.accepted,
            evicted: self.evicted,
            written: self.store.written(),
            refused: self.store.refused(),
        }
    }
}

/// The listeners that the settings name. One address for both kinds of pages is one listener.
pub(super) fn wanted(settings: &Settings) -> Vec<(HttpBind, AdminPages)> {
    let mut wanted: Vec<(HttpBind, AdminPages)> = Vec::new();
    let stats =
        settings.api_bind.as_ref().map(|bind| (bind, AdminPages { stats: true, metrics: false }));
    let metrics = settings.prometheus.as_ref().map(|metrics| &metrics.bind);
    let metrics = metrics.map(|bind| (bind, AdminPages { stats: false, metrics: true }));
    for (bind, pages) in stats.into_iter().chain(metrics) {
        match wanted.iter_mut().find(|(endpoint, _)| endpoint == bind) {
            Some((_, both)) => both.metrics = true,
            None => wanted.push((bind.clone(), pages)),
        }
    }
    wanted
}

/// Connections at once.
pub const CONNECTIONS_MAX: usize = 8;
/// Connections that one listener leaves to the others.
const RESERVED: usize = 2;
/// Time of one turn, in microseconds. Its last step may exceed it.
const TURN_US: u64 = 1_000;

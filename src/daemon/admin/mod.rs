//! The HTTP pages for the operator: `/stats`, `/explain` and metrics. They have listeners and
//! connections of their own, with one request per connection, so that they answer under any load.

pub mod counters;
pub mod explain;
pub mod metrics;
pub(super) mod pages;
pub mod probe_summary;
pub mod state_dump;
pub mod stats;
pub mod stats_table;
pub mod statsd;
pub mod telemetry;
pub mod view;

use std::io::{self, IoSlice, IoSliceMut};
use std::task::Poll;
use std::time::Duration;

use crate::config::settings::{HttpBind, Settings};
use crate::daemon::admin::pages::AdminPages;
use crate::daemon::admin::view::View;
use crate::io::clock::Tick;
use crate::io::wire::{Net, Wire};
use crate::proto::http1::REQUEST_HEAD_MAX;

/// The connections to the admin pages.
pub struct AdminServer<W> {
    connections: [Option<AdminConnection<W>>; CONNECTIONS_MAX],
}

struct AdminConnection<W> {
    /// The slot of the listener that accepted it.
    listener: usize,
    wire: W,
    pages: AdminPages,
    received: Vec<u8>,
    answer: Option<Vec<u8>>,
    /// Bytes of `answer` that the socket took.
    sent: usize,
    /// The client sent FIN.
    is_finished: bool,
    deadline: Tick,
}

impl<W> Default for AdminServer<W> {
    fn default() -> Self {
        Self { connections: std::array::from_fn(|_| None) }
    }
}

impl<W: Wire> AdminServer<W> {
    /// Adds an accepted connection, and answers a request that came with it. `slot` comes from
    /// [`AdminServer::free_slot`]; the connection in slot `n` gets the poll token `token_base + n`.
    pub fn accept(
        &mut self,
        slot: usize,
        (listener, pages): (usize, AdminPages),
        mut wire: W,
        net: &mut impl Net<Wire = W>,
        token_base: usize,
        view: &View<'_>,
    ) {
        if net.register(&mut wire, token_base + slot).is_ok() {
            self.connections[slot] =
                Some(AdminConnection::new(listener, wire, pages, view.time.now));
            self.step(slot, view);
        }
    }

    /// A slot for a connection to this listener. With several listeners, none may use all slots:
    /// slow readers of the metrics must not block `/stats`.
    pub fn free_slot(&self, listener: usize, has_others: bool) -> Option<usize> {
        let max = if has_others { CONNECTIONS_MAX - RESERVED } else { CONNECTIONS_MAX };
        let open = self.connections.iter().flatten().filter(|one| one.listener == listener).count();
        self.connections.iter().position(Option::is_none).filter(|_| open < max)
    }

    /// Reads, answers or closes the connection in this slot, after an event or at its deadline.
    pub fn step(&mut self, slot: usize, view: &View<'_>) {
        let Some(Some(connection)) = self.connections.get_mut(slot) else { return };
        // A failed connection is closed like a finished one: its client needs no other answer.
        if connection.step(view).map_or(true, |step| step.is_ready()) {
            self.connections[slot] = None;
        }
    }

    /// The earliest deadline of a connection.
    pub fn due(&self) -> Option<Tick> {
        self.connections.iter().flatten().map(|connection| connection.deadline).min()
    }

    /// Steps every connection whose deadline has passed.
    pub fn expire(&mut self, view: &View<'_>) {
        for slot in 0..self.connections.len() {
            let connection = self.connections[slot].as_ref();
            if connection.is_some_and(|connection| view.time.now >= connection.deadline) {
                self.step(slot, view);
            }
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

impl<W: Wire> AdminConnection<W> {
    fn new(listener: usize, wire: W, pages: AdminPages, now: Tick) -> Self {
        let (received, answer) = (Vec::new(), None);
        let (sent, is_finished, deadline) = (0, false, now + ANSWER_TIMEOUT);
        Self { listener, wire, pages, received, answer, sent, is_finished, deadline }
    }

    /// Reads the request, writes the answer, and waits for the client's FIN. `Ready` = close it.
    fn step(&mut self, view: &View<'_>) -> io::Result<Poll<()>> {
        self.read(view)?;
        let is_late = view.time.now >= self.deadline;
        match &self.answer {
            None if self.is_finished => return Ok(Poll::Ready(())),
            None if is_late => {
                self.set_answer(pages::timeout_answer());
                self.deadline = view.time.now + CLOSE_TIMEOUT;
            }
            Some(_) if is_late => return Ok(Poll::Ready(())),
            _ => {}
        }
        self.write()
    }

    fn read(&mut self, view: &View<'_>) -> io::Result<()> {
        let mut chunk = [0; 1024];
        // Bounded: a client that sends without end is cut off at the deadline.
        for _ in 0..READS_PER_STEP {
            match self.wire.read(&mut [IoSliceMut::new(&mut chunk)]) {
                Ok(0) => {
                    self.is_finished = true;
                    break;
                }
                Ok(n) if self.answer.is_none() => {
                    let room = REQUEST_HEAD_MAX.saturating_sub(self.received.len());
                    self.received.extend_from_slice(&chunk[..n.min(room)]);
                    if let Some(answer) = pages::answer(&self.received, self.pages, view) {
                        self.set_answer(answer);
                    }
                }
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    fn set_answer(&mut self, answer: Vec<u8>) {
        self.answer = Some(answer);
        self.received = Vec::new();
    }

    fn write(&mut self) -> io::Result<Poll<()>> {
        let Some(answer) = &self.answer else { return Ok(Poll::Pending) };
        while self.sent < answer.len() {
            match self.wire.write(&[IoSlice::new(&answer[self.sent..])]) {
                Ok(n) => self.sent += n,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(Poll::Pending),
                Err(e) => return Err(e),
            }
        }
        // The slot stays in use until the client answers our FIN: closing a socket with unread
        // bytes sends RST, which can overtake the answer.
        self.wire.shutdown_write()?;
        Ok(if self.is_finished { Poll::Ready(()) } else { Poll::Pending })
    }
}

/// Connections at once.
pub const CONNECTIONS_MAX: usize = 8;
/// Connections that one listener leaves to the others.
const RESERVED: usize = 2;
/// From accept to the client's FIN.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// For the client to read a 408.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
const READS_PER_STEP: usize = 16;

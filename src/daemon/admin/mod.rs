//! The HTTP pages for the operator: `/stats`, `/explain` and metrics. They have listeners and
//! connections of their own, with one request per connection, so that they answer under any load.

pub mod counters;
pub mod explain;
pub mod metrics;
mod pages;
pub mod probe_summary;
pub mod state_dump;
pub mod stats;
pub mod stats_table;
pub mod statsd;
pub mod telemetry;
pub mod view;

use std::io::{self, Read, Write};
use std::task::Poll;
use std::time::Duration;

use mio::Registry;

use crate::config::settings::{HttpBind, Settings};
use crate::daemon::admin::pages::AdminPages;
use crate::daemon::admin::view::View;
use crate::io::admin_socket::{AdminSocket, AdminStream};
use crate::io::clock::Tick;
use crate::io::listen::AcceptError;
use crate::io::logger::RateLimitedLog;
use crate::proto::http1::REQUEST_HEAD_MAX;

/// The listeners for the operator and their connections.
#[derive(Default)]
pub struct AdminServer {
    listeners: [Option<AdminListener>; LISTENERS_MAX],
    connections: [Option<AdminConnection>; CONNECTIONS_MAX],
}

struct AdminListener {
    socket: AdminSocket,
    endpoint: HttpBind,
    pages: AdminPages,
    /// The poller reported a connection that accept(2) has not returned yet.
    readable: bool,
    /// accept(2) failed on this listener: no further call until then.
    paused_until: Option<Tick>,
}

struct AdminConnection {
    /// Index of the listener that accepted it.
    listener: usize,
    stream: AdminStream,
    pages: AdminPages,
    received: Vec<u8>,
    answer: Option<Vec<u8>>,
    /// Bytes of `answer` that the socket took.
    sent: usize,
    /// The client sent FIN.
    is_finished: bool,
    deadline: Tick,
}

impl AdminServer {
    /// Opens the listeners that the settings name and closes all others. A listener that cannot be
    /// opened is logged; the proxy runs without it (COMPATIBILITY 6.1). The listener in slot `n`
    /// gets the poll token `token_base + n`.
    pub fn apply(&mut self, settings: &Settings, registry: &Registry, token_base: usize) {
        let wanted = wanted(settings);
        let mut missing = Vec::new();
        for (endpoint, pages) in &wanted {
            let mut open = self.listeners.iter_mut().flatten();
            match open.find(|listener| listener.endpoint == *endpoint) {
                Some(listener) => listener.pages = *pages,
                None => missing.push((endpoint.clone(), *pages)),
            }
        }
        let is_unwanted = |listener: &mut AdminListener| {
            !wanted.iter().any(|(endpoint, _)| *endpoint == listener.endpoint)
        };
        for (endpoint, pages) in missing {
            let outcome = self.open(&endpoint, pages, registry, token_base).or_else(|_| {
                // The address may belong to a listener that is about to close.
                self.close(is_unwanted);
                self.open(&endpoint, pages, registry, token_base)
            });
            let event = if pages.stats { "stats" } else { "metrics" };
            match outcome {
                Ok(()) => log::info!("event={event} addr={endpoint}"),
                Err(e) => {
                    log::warn!("event={event}-off addr={endpoint} error={:?}", e.to_string());
                }
            }
        }
        self.close(is_unwanted);
    }

    fn open(
        &mut self,
        endpoint: &HttpBind,
        pages: AdminPages,
        registry: &Registry,
        token_base: usize,
    ) -> io::Result<()> {
        let Some(slot) = self.listeners.iter().position(Option::is_none) else {
            return Err(io::Error::other("too many admin listeners"));
        };
        let mut socket = match endpoint {
            HttpBind::Tcp(addr) => AdminSocket::tcp(*addr)?,
            HttpBind::Unix(path) => AdminSocket::unix(path)?,
        };
        socket.register(registry, token_base + slot)?;
        self.listeners[slot] = Some(AdminListener {
            socket,
            endpoint: endpoint.clone(),
            pages,
            readable: true,
            paused_until: None,
        });
        Ok(())
    }

    fn close(&mut self, is_unwanted: impl Fn(&mut AdminListener) -> bool) {
        self.listeners.iter_mut().for_each(|slot| drop(slot.take_if(&is_unwanted)));
    }

    /// Records that the poller reported a connection at the listener in this slot.
    pub fn mark_readable(&mut self, slot: usize) {
        if let Some(Some(listener)) = self.listeners.get_mut(slot) {
            listener.readable = true;
        }
    }

    /// Accepts one connection and returns its slot, for [`AdminServer::step`]. `None` = no
    /// connection is waiting, or no slot is free. The connection in slot `n` gets the poll token
    /// `token_base + n`.
    ///
    /// # Errors
    /// The system is out of descriptors or memory.
    pub fn accept(
        &mut self,
        now: Tick,
        log: &mut RateLimitedLog,
        registry: &Registry,
        token_base: usize,
    ) -> io::Result<Option<usize>> {
        for at in 0..LISTENERS_MAX {
            while let Some(slot) = self.free_slot(at) {
                let Some(listener) = &mut self.listeners[at] else { break };
                let Some(mut stream) = listener.accept(now, log)? else { break };
                if stream.register(registry, token_base + slot).is_ok() {
                    let connection = AdminConnection::new(at, stream, listener.pages, now);
                    self.connections[slot] = Some(connection);
                    return Ok(Some(slot));
                }
            }
        }
        Ok(None)
    }

    /// A slot for a connection to this listener. With several listeners, none may use all slots:
    /// slow readers of the metrics must not block `/stats`.
    fn free_slot(&self, listener: usize) -> Option<usize> {
        let has_others = self.listeners.iter().flatten().count() > 1;
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

    /// The earliest deadline of a connection, or end of a pause.
    pub fn due(&self, now: Tick) -> Option<Tick> {
        let deadlines = self.connections.iter().flatten().map(|connection| connection.deadline);
        let pauses = self.listeners.iter().flatten().filter_map(|listener| listener.paused_until);
        deadlines.chain(pauses.filter(|until| now < *until)).min()
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
fn wanted(settings: &Settings) -> Vec<(HttpBind, AdminPages)> {
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

impl AdminListener {
    /// `None` = no connection is waiting, or this listener is paused.
    fn accept(&mut self, now: Tick, log: &mut RateLimitedLog) -> io::Result<Option<AdminStream>> {
        if !self.readable || self.paused_until.is_some_and(|until| now < until) {
            return Ok(None);
        }
        self.paused_until = None;
        loop {
            match self.socket.accept() {
                Ok(Some(stream)) => return Ok(Some(stream)),
                Ok(None) => {
                    self.readable = false;
                    return Ok(None);
                }
                Err(AcceptError::Transient) => {}
                Err(AcceptError::Exhausted(e)) => {
                    log.warn(now, format_args!("event=accept-paused error={:?}", e.to_string()));
                    return Err(e);
                }
                Err(AcceptError::Broken(e)) => {
                    let (addr, error) = (&self.endpoint, e.to_string());
                    log.error(now, format_args!("event=accept-failed addr={addr} error={error:?}"));
                    self.paused_until = Some(now + BROKEN_PAUSE);
                    return Ok(None);
                }
            }
        }
    }
}

impl AdminConnection {
    fn new(listener: usize, stream: AdminStream, pages: AdminPages, now: Tick) -> Self {
        let (received, answer) = (Vec::new(), None);
        let (sent, is_finished, deadline) = (0, false, now + ANSWER_TIMEOUT);
        Self { listener, stream, pages, received, answer, sent, is_finished, deadline }
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
            match self.stream.read(&mut chunk) {
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
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
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
            match self.stream.write(&answer[self.sent..]) {
                Ok(n) => self.sent += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(Poll::Pending),
                Err(e) => return Err(e),
            }
        }
        // The slot stays in use until the client answers our FIN: closing a socket with unread
        // bytes sends RST, which can overtake the answer.
        self.stream.shutdown_write()?;
        Ok(if self.is_finished { Poll::Ready(()) } else { Poll::Pending })
    }
}

/// Listeners at once: two, and two more while they move to other addresses.
pub const LISTENERS_MAX: usize = 4;
/// Connections at once.
pub const CONNECTIONS_MAX: usize = 8;
/// Connections that one listener leaves to the others.
const RESERVED: usize = 2;
/// From accept to the client's FIN.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// For the client to read a 408.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
const READS_PER_STEP: usize = 16;
/// Pause of a listener whose accept(2) failed.
const BROKEN_PAUSE: Duration = Duration::from_secs(1);

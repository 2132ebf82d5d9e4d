//! Runs probe scripts against servers, several at a time, each over a plain TCP connection, and
//! records what the servers do.

use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::SocketAddr;
use std::task::Poll;
use std::time::Duration;

use crate::cli::doctor::censor::observation::{ConnectionEnd, Observation};
use crate::cli::doctor::censor::probes::ProbeStep;
use crate::daemon::fetch::standalone::Standalone;
use crate::io::clock::Tick;
use crate::io::readiness::Readiness;
use crate::io::wire::{MioWire, Wire};

/// No address of the server accepts a connection.
struct AddrsExhausted;

/// One script in progress against one server.
pub(super) struct ProbeRun {
    addrs: VecDeque<SocketAddr>,
    steps: VecDeque<ProbeStep>,
    wire: Option<MioWire>,
    is_connected: bool,
    ready: Readiness,
    /// Bytes of the current [`ProbeStep::Send`] that the socket has not taken yet.
    outbox: Vec<u8>,
    /// The current step is [`ProbeStep::Listen`]: the number of bytes received when it began.
    listening_since: Option<usize>,
    /// All steps are done. The run ends when the server closes or stays silent.
    is_watching: bool,
    received: Vec<u8>,
    deadline: Tick,
    observation: Option<Observation>,
}

impl ProbeRun {
    /// Connects to the first of the addresses that accepts. `header` is sent before the first step,
    /// in one write with it if that is a [`ProbeStep::Send`].
    pub(super) fn new(addrs: &[SocketAddr], steps: &[ProbeStep], header: &[u8]) -> Self {
        let mut steps: VecDeque<ProbeStep> = steps.iter().cloned().collect();
        match steps.front_mut() {
            _ if header.is_empty() => {}
            Some(ProbeStep::Send(bytes)) => *bytes = [header, bytes].concat(),
            _ => steps.push_front(ProbeStep::Send(header.to_vec())),
        }
        Self {
            addrs: addrs.iter().copied().collect(),
            steps,
            wire: None,
            is_connected: false,
            ready: Readiness::default(),
            outbox: Vec::new(),
            listening_since: None,
            is_watching: false,
            received: Vec::new(),
            deadline: Tick(0),
            observation: None,
        }
    }

    /// `None` = the run has not finished.
    pub(super) fn observation(&self) -> Option<&Observation> {
        self.observation.as_ref()
    }

    /// Advances as far as possible without blocking. Ready = there is an observation.
    fn poll(&mut self, standalone: &mut Standalone, token: usize) -> Poll<()> {
        let now = standalone.time.now;
        if !self.is_connected {
            match self.poll_connect(standalone, token) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(AddrsExhausted)) => {
                    return self.finish(ConnectionEnd::NoConnection);
                }
                Poll::Pending => return Poll::Pending,
            }
        }
        self.run_steps(now);
        match self.read() {
            Ok(Poll::Ready(())) => return self.finish(ConnectionEnd::Fin),
            Ok(Poll::Pending) => {}
            // A censor cannot tell other errors from a reset.
            Err(_) => return self.finish(ConnectionEnd::Reset),
        }
        // The new bytes may complete a `Listen`.
        self.run_steps(now);
        if now >= self.deadline {
            return self.finish(ConnectionEnd::Waits);
        }
        Poll::Pending
    }

    /// Tries the addresses one after the other.
    fn poll_connect(
        &mut self,
        standalone: &mut Standalone,
        token: usize,
    ) -> Poll<Result<(), AddrsExhausted>> {
        loop {
            if let Some(wire) = &mut self.wire {
                match wire.poll_connect() {
                    Poll::Ready(Ok(())) => {
                        self.is_connected = true;
                        self.ready = Readiness { readable: true, writable: true, ..self.ready };
                        self.deadline = standalone.deadline_after(WATCH_LIMIT);
                        return Poll::Ready(Ok(()));
                    }
                    Poll::Pending if standalone.time.now < self.deadline => {
                        return Poll::Pending;
                    }
                    _ => self.wire = None,
                }
            }
            let Some(addr) = self.addrs.pop_front() else {
                return Poll::Ready(Err(AddrsExhausted));
            };
            self.deadline = standalone.deadline_after(CONNECT_LIMIT);
            self.wire = standalone.dial(addr, token).ok();
            if self.wire.is_some() {
                return Poll::Pending;
            }
        }
    }

    /// Runs steps until one has to wait. A failed write skips the remaining steps: the answer of
    /// the server is still of interest.
    fn run_steps(&mut self, now: Tick) {
        let Some(wire) = &mut self.wire else { return };
        while !self.is_watching {
            if !self.outbox.is_empty() {
                if !self.ready.writable {
                    return;
                }
                match wire.write(&[IoSlice::new(&self.outbox)]) {
                    Ok(count) => drop(self.outbox.drain(..count.min(self.outbox.len()))),
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => self.ready.writable = false,
                    Err(_) => {
                        self.outbox.clear();
                        self.steps.clear();
                    }
                }
                continue;
            }
            if self.listening_since == Some(self.received.len()) {
                return;
            }
            self.listening_since = None;
            // Each step restarts the time in which the server may react.
            self.deadline = now + WATCH_LIMIT;
            match self.steps.pop_front() {
                None => self.is_watching = true,
                Some(ProbeStep::Send(bytes)) => self.outbox = bytes,
                Some(ProbeStep::Listen) => self.listening_since = Some(self.received.len()),
                Some(ProbeStep::Finish) => drop(wire.shutdown_write()),
            }
        }
    }

    /// Reads until the socket has no more bytes (pending) or the peer has closed (ready).
    fn read(&mut self) -> io::Result<Poll<()>> {
        let Some(wire) = &mut self.wire else { return Ok(Poll::Pending) };
        let mut chunk = [0; CHUNK];
        while self.ready.readable {
            match wire.read(&mut [IoSliceMut::new(&mut chunk)]) {
                Ok(0) => return Ok(Poll::Ready(())),
                Ok(count) => {
                    let room = RECEIVED_MAX.saturating_sub(self.received.len()).min(count);
                    self.received.extend_from_slice(chunk.get(..room).unwrap_or_default());
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => self.ready.readable = false,
                Err(e) => return Err(e),
            }
        }
        Ok(Poll::Pending)
    }

    fn finish(&mut self, end: ConnectionEnd) -> Poll<()> {
        self.observation = Some(Observation::new(&self.received, end));
        self.wire = None;
        Poll::Ready(())
    }
}

/// Runs up to `parallel` runs at the same time, until all are finished or `limit` has passed.
pub(super) fn run_all(
    runs: &mut [ProbeRun],
    parallel: usize,
    limit: Duration,
    standalone: &mut Standalone,
) {
    let end = standalone.deadline_after(limit);
    // The token of a connection is the index of its slot.
    let mut slots: Vec<Option<&mut ProbeRun>> = (0..parallel.max(1)).map(|_| None).collect();
    let mut waiting = runs.iter_mut();
    loop {
        for (token, slot) in slots.iter_mut().enumerate() {
            // A run that finishes frees its slot for the next one, until one has to wait.
            loop {
                if slot.is_none() {
                    *slot = waiting.next();
                }
                let Some(run) = slot else { break };
                if run.poll(standalone, token).is_pending() {
                    break;
                }
                *slot = None;
            }
        }
        let due = slots.iter().flatten().map(|run| run.deadline).min();
        let Some(due) = due.filter(|_| standalone.time.now < end) else { return };
        standalone.wait(due.min(end), &mut |token, fresh| {
            if let Some(Some(run)) = slots.get_mut(token) {
                run.ready.readable |= fresh.readable || fresh.hup;
                run.ready.writable |= fresh.writable;
            }
        });
    }
}

/// Per address.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// A server that reacts to a probe reacts within this time.
const WATCH_LIMIT: Duration = Duration::from_secs(5);
const CHUNK: usize = 4_096;
/// In bytes. Longer than any answer to a hello.
const RECEIVED_MAX: usize = 65_536;

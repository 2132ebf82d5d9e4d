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
use crate::daemon::upstream::connect::error::ConnectError;
use crate::daemon::upstream::connect::target::{HostOrAddrs, Route};
use crate::daemon::upstream::connect::{Connect, SOCKETS};
use crate::io::clock::Tick;
use crate::io::mio_net::MioWire;
use crate::io::readiness::Readiness;
use crate::io::wire::Wire;

/// One script in progress against one server.
pub(super) struct ProbeRun {
    steps: VecDeque<ProbeStep>,
    /// `None` = it is connected.
    connect: Option<Connect<MioWire>>,
    wire: Option<MioWire>,
    /// The offset of the wire's token.
    offset: usize,
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
            steps,
            connect: Some(Connect::new(HostOrAddrs::Addrs(addrs.to_vec()), Route::Native, 0)),
            wire: None,
            offset: 0,
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
    fn poll(&mut self, standalone: &mut Standalone, first_token: usize) -> Poll<()> {
        let now = standalone.time.now;
        if let Some(mut connect) = self.connect.take() {
            match self.poll_connect(&mut connect, standalone, first_token) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => return self.finish(ConnectionEnd::NoConnection),
                Poll::Pending => {
                    self.connect = Some(connect);
                    return Poll::Pending;
                }
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

    /// Continues to connect.
    fn poll_connect(
        &mut self,
        connect: &mut Connect<MioWire>,
        standalone: &mut Standalone,
        first_token: usize,
    ) -> Poll<Result<(), ConnectError>> {
        let connected = match standalone.poll_connect(connect, first_token) {
            Poll::Ready(outcome) => outcome?,
            Poll::Pending => {
                self.deadline = connect.due();
                return Poll::Pending;
            }
        };
        (self.wire, self.offset) = (Some(connected.wire), connected.offset);
        self.ready = Readiness { readable: true, writable: true, ..self.ready };
        self.deadline = standalone.deadline_after(WATCH_LIMIT);
        Poll::Ready(Ok(()))
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

    /// Records an event of the poller for the socket with this offset.
    fn on_ready(&mut self, offset: usize, fresh: Readiness) {
        match &mut self.connect {
            Some(connect) => connect.wake(offset),
            None if offset == self.offset => {
                self.ready.readable |= fresh.readable || fresh.hup;
                self.ready.writable |= fresh.writable;
            }
            None => {}
        }
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
    let mut slots: Vec<Option<&mut ProbeRun>> = (0..parallel.max(1)).map(|_| None).collect();
    let mut waiting = runs.iter_mut();
    loop {
        for (index, slot) in slots.iter_mut().enumerate() {
            // A run that finishes frees its slot for the next one, until one has to wait.
            loop {
                if slot.is_none() {
                    *slot = waiting.next();
                }
                let Some(run) = slot else { break };
                if run.poll(standalone, index * SOCKETS).is_pending() {
                    break;
                }
                *slot = None;
            }
        }
        let due = slots.iter().flatten().map(|run| run.deadline).min();
        let Some(due) = due.filter(|_| standalone.time.now < end) else { return };
        standalone.wait(due.min(end), &mut |token, fresh| {
            if let Some(Some(run)) = slots.get_mut(token / SOCKETS) {
                run.on_ready(token % SOCKETS, fresh);
            }
        });
    }
}

/// A server that reacts to a probe reacts within this time.
const WATCH_LIMIT: Duration = Duration::from_secs(5);
const CHUNK: usize = 4_096;
/// In bytes. Longer than any answer to a hello.
const RECEIVED_MAX: usize = 65_536;

//! The socket of a connection during one step. Reports events to an observer and limits reads.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};

use crate::daemon::fetch::task::WireEvent;
use crate::io::readiness::Readiness;
use crate::io::wire::{Net, Wire};

/// Receives the events of a socket, with the microseconds since the connection attempt began.
pub type WireObserver<'a> = &'a mut dyn FnMut(WireEvent<'_>, u64);

/// A socket for one step. Reads return `WouldBlock` after a few kilobytes, so that one connection
/// cannot delay the others.
pub struct StepSocket<'a, N: Net> {
    wire: &'a mut N::Wire,
    /// Measures the time of events.
    net: &'a N,
    ready: &'a mut Readiness,
    observer: WireObserver<'a>,
    begun_us: u64,
    /// Bytes that this step may still read.
    room: usize,
}

impl<'a, N: Net> StepSocket<'a, N> {
    /// `begun_us` is the time of `net` when the connection attempt began.
    pub fn new(
        wire: &'a mut N::Wire,
        net: &'a N,
        ready: &'a mut Readiness,
        observer: WireObserver<'a>,
        begun_us: u64,
    ) -> Self {
        Self { wire, net, ready, observer, begun_us, room: STEP_MAX }
    }

    /// Sends as much of `bytes` as the socket takes, and removes it.
    ///
    /// # Errors
    /// The connection is broken.
    pub fn send(&mut self, bytes: &mut Vec<u8>) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.write(bytes) {
                Ok(n) => drop(bytes.drain(..n.min(bytes.len()))),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Appends what has been received to `inbox`.
    ///
    /// # Errors
    /// The connection is broken.
    pub fn receive(&mut self, inbox: &mut Vec<u8>) -> io::Result<PeerState> {
        let mut chunk = [0; CHUNK];
        loop {
            match self.read(&mut chunk) {
                Ok(0) => return Ok(PeerState::Closed),
                Ok(n) => inbox.extend_from_slice(chunk.get(..n).unwrap_or_default()),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(PeerState::Open),
                Err(e) => return Err(e),
            }
        }
    }

    fn report(&mut self, event: WireEvent<'_>) {
        (self.observer)(event, self.net.micros().saturating_sub(self.begun_us));
    }
}

/// Whether the peer may send more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerState {
    /// It may.
    Open,
    /// It has sent its FIN.
    Closed,
}

impl<N: Net> Read for StepSocket<'_, N> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let room = self.room.min(into.len());
        if room == 0 || !self.ready.readable {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let Some(into) = into.get_mut(..room) else { return Ok(0) };
        match self.wire.read(&mut [IoSliceMut::new(into)]) {
            Ok(n) => {
                self.room -= n;
                self.report(WireEvent::Bytes(into.get(..n).unwrap_or_default()));
                Ok(n)
            }
            Err(e) => {
                self.ready.readable &= e.kind() != io::ErrorKind::WouldBlock;
                Err(e)
            }
        }
    }
}

impl<N: Net> Write for StepSocket<'_, N> {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        if !self.ready.writable {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let outcome = self.wire.write(&[IoSlice::new(from)]);
        match &outcome {
            Ok(_) => self.report(WireEvent::Sent),
            Err(e) => self.ready.writable &= e.kind() != io::ErrorKind::WouldBlock,
        }
        outcome
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Bytes read in one step at most.
const STEP_MAX: usize = 16_384;
const CHUNK: usize = 4_096;

//! A socket of a session, with the bytes that it has not accepted yet.

use std::io::{self, IoSlice};

use crate::daemon::session::memory::SessionAccount;
use crate::io::clock::Tick;
use crate::io::pool::{Outbox, Pool};
use crate::io::readiness::Readiness;
use crate::io::wire::Wire;
use crate::util::memory::{ChargedBytes, MemoryFull};

/// A socket of a session and its outbox.
pub struct Endpoint<W> {
    /// The socket.
    pub wire: W,
    /// Bytes that the socket has not accepted yet.
    pub outbox: Outbox,
    /// What the poller reported last.
    pub ready: Readiness,
    /// The peer's FIN has been read.
    pub fin_received: bool,
    /// Our FIN has been sent.
    pub fin_sent: bool,
    /// A write failed, so the peer accepts no more bytes.
    pub write_failed: bool,
    /// The peer reset the connection.
    pub reset_received: bool,
    /// The kernel has given the peer up: it acknowledged nothing for too long.
    pub timed_out: bool,
    /// Since when the first buffer of the outbox waits, or the last time at which
    /// [`Endpoint::has_acknowledged_more`]; `None` = the outbox is empty.
    pub stalled_since: Option<Tick>,
    /// [`Wire::unacknowledged`] at the last look; `u32::MAX` after a write.
    unacknowledged: u32,
    /// Payload bytes that were sent.
    pub sent: u64,
    /// Payload bytes in the outbox. They are counted once the outbox is empty, so that a peer that
    /// reads nothing is not reported as served.
    pub uncounted: u32,
}

/// The result of a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadOutcome {
    /// The number of bytes read, at least 1.
    Bytes(usize),
    /// No bytes are available.
    WouldBlock,
    /// The peer's FIN.
    Fin,
    /// The peer reset the connection, or it failed.
    Reset,
}

impl<W: Wire> Endpoint<W> {
    /// A new socket. It counts as readable and writable until a call would block, since events are
    /// edge-triggered.
    pub fn new(wire: W) -> Self {
        Self {
            wire,
            outbox: Outbox::default(),
            ready: Readiness { readable: true, writable: true, ..Readiness::default() },
            fin_received: false,
            fin_sent: false,
            write_failed: false,
            reset_received: false,
            timed_out: false,
            stalled_since: None,
            unacknowledged: 0,
            sent: 0,
            uncounted: 0,
        }
    }

    /// Records what the poller reports.
    pub fn on_ready(&mut self, fresh: Readiness) {
        self.ready.readable |= (fresh.readable || fresh.hup || fresh.urgent) && !self.fin_received;
        self.ready.writable |= fresh.writable;
        self.ready.hup |= fresh.hup;
        self.ready.urgent |= fresh.urgent;
        self.ready.broken |= fresh.broken;
    }

    /// One read. Clears the readable bit when the socket is drained.
    pub fn read(&mut self, into: &mut [io::IoSliceMut<'_>]) -> ReadOutcome {
        let room: usize = into.iter().map(|slice| slice.len()).sum();
        match self.wire.read(into) {
            // After a failed write has consumed the error, a reset reads as an end.
            Ok(0) if self.write_failed && !self.fin_received => self.reset(),
            Ok(0) => {
                self.fin_received = true;
                self.ready.readable = false;
                ReadOutcome::Fin
            }
            Ok(n) => {
                if n < room && !self.ready.hup && !self.ready.urgent {
                    self.ready.readable = false;
                }
                ReadOutcome::Bytes(n)
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                self.ready.readable = false;
                ReadOutcome::WouldBlock
            }
            Err(e) => {
                self.timed_out |= e.kind() == io::ErrorKind::TimedOut;
                self.reset()
            }
        }
    }

    fn reset(&mut self) -> ReadOutcome {
        self.reset_received = true;
        self.fin_received = true;
        self.ready.readable = false;
        ReadOutcome::Reset
    }

    /// Writes `bytes` after the outbox; the outbox keeps what the socket does not accept, in blocks
    /// that are charged to `account`.
    ///
    /// # Errors
    /// The account has no room for the rest. Not in a relay: it reads no more than it can keep.
    pub fn send(
        &mut self,
        bytes: &[u8],
        pool: &Pool,
        account: &SessionAccount,
        now: Tick,
    ) -> Result<(), MemoryFull> {
        match self.unsent_of(bytes, now) {
            [] => Ok(()),
            rest => self.outbox.push(pool, account.get(), rest),
        }
    }

    /// As [`Endpoint::send`], but the outbox takes over the allocation with its charge.
    pub fn send_charged(&mut self, bytes: ChargedBytes, now: Tick) {
        let left = self.unsent_of(&bytes, now).len();
        let sent = bytes.len() - left;
        self.outbox.push_charged(bytes, sent);
    }

    /// Writes if the outbox is empty. Returns what the outbox has to keep.
    fn unsent_of<'a>(&mut self, bytes: &'a [u8], now: Tick) -> &'a [u8] {
        if self.write_failed || self.fin_sent || bytes.is_empty() {
            return &[];
        }
        let mut taken = 0;
        if self.outbox.is_empty() && self.ready.writable {
            let outcome = self.wire.write(&[IoSlice::new(bytes)]);
            taken = self.written(outcome, bytes.len());
        }
        if self.write_failed || taken == bytes.len() {
            return &[];
        }
        self.stalled_since.get_or_insert(now);
        &bytes[taken..]
    }

    /// Writes the outbox with at most one write. Returns the number of bytes written.
    pub fn flush(&mut self, now: Tick) -> usize {
        if self.outbox.is_empty() || !self.ready.writable || self.write_failed {
            return 0;
        }
        let mut slices = [IoSlice::new(&[]); FLUSH_SLICES];
        let count = self.outbox.slices(&mut slices);
        let offered: usize = slices[..count].iter().map(|s| s.len()).sum();
        let outcome = self.wire.write(&slices[..count]);
        let taken = self.written(outcome, offered);
        let before = self.outbox.buffers();
        self.outbox.advance(taken);
        if self.outbox.is_empty() {
            self.stalled_since = None;
        } else if self.outbox.buffers() < before {
            // Single bytes of a block do not count: they would hold it for ever.
            self.stalled_since = Some(now);
        }
        taken
    }

    /// Looks at the socket: whether bytes are left that the peer has not acknowledged, and some
    /// were acknowledged since the last look or since a write before it. A large send buffer takes
    /// no bytes of the outbox for minutes while a slow peer reads.
    pub fn has_acknowledged_more(&mut self) -> bool {
        let left = self.wire.unacknowledged().unwrap_or_default();
        let before = std::mem::replace(&mut self.unacknowledged, left);
        left > 0 && left < before
    }

    /// Whether no byte is left to write, or writes have failed.
    pub fn is_flushed(&self) -> bool {
        self.outbox.is_empty() || self.write_failed
    }

    /// Sends our FIN, unless it was sent.
    pub fn send_fin(&mut self) {
        if !self.fin_sent {
            self.fin_sent = true;
            if self.wire.shutdown_write().is_err() {
                self.write_failed = true;
            }
        }
    }

    /// Handles the outcome of a write of `offered` bytes. Returns how many were accepted.
    fn written(&mut self, outcome: io::Result<usize>, offered: usize) -> usize {
        match outcome {
            Ok(n) => {
                if n < offered {
                    self.ready.writable = false;
                }
                self.unacknowledged = u32::MAX;
                n
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                self.ready.writable = false;
                0
            }
            Err(e) => {
                self.timed_out |= e.kind() == io::ErrorKind::TimedOut;
                self.write_failed = true;
                self.outbox.clear();
                self.stalled_since = None;
                0
            }
        }
    }
}

/// Blocks written by one flush.
const FLUSH_SLICES: usize = 17;

#[cfg(test)]
mod tests {
    use std::task::Poll;

    use super::*;
    use crate::daemon::session::memory::Ledger;
    use crate::io::pool::BLOCK_LEN;

    /// A socket that accepts as many bytes as it has room for, and what its peer has not
    /// acknowledged; `u32::MAX` = the kernel has given it up.
    struct RoomWire(usize, u32);

    impl Wire for RoomWire {
        fn read(&mut self, _: &mut [io::IoSliceMut<'_>]) -> io::Result<usize> {
            Err(match self.1 {
                u32::MAX => io::ErrorKind::TimedOut.into(),
                _ => io::ErrorKind::WouldBlock.into(),
            })
        }

        fn write(&mut self, from: &[IoSlice<'_>]) -> io::Result<usize> {
            let offered: usize = from.iter().map(|slice| slice.len()).sum();
            let taken = offered.min(std::mem::take(&mut self.0));
            if taken == 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(taken) }
        }

        fn shutdown_write(&mut self) -> io::Result<()> {
            Ok(())
        }

        fn reset_on_close(&mut self) {}

        fn unacknowledged(&self) -> Option<u32> {
            Some(self.1)
        }

        fn memory(&self) -> u64 {
            0
        }

        fn limit_buffers(&mut self, _: Option<u32>) {}

        fn set_options(&mut self, _: &crate::io::sockopt::SocketOptions) {}

        fn poll_connect(&mut self) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[test]
    fn only_a_buffer_that_has_left_whole_is_progress() {
        let (pool, mut ledger) = (Pool::new(4), Ledger::new(1 << 20));
        let account = SessionAccount::new(ledger.of_user(0));
        let mut endpoint = Endpoint::new(RoomWire(100, 0));
        endpoint.send(&vec![7; 2 * BLOCK_LEN + 100], &pool, &account, Tick(5)).unwrap();
        let mut flush = |room, now| {
            endpoint.wire.0 = room;
            endpoint.ready.writable = true;
            assert_eq!(endpoint.flush(Tick(now)), room);
            endpoint.stalled_since
        };
        assert_eq!(flush(1, 10), Some(Tick(5)));
        assert_eq!(flush(BLOCK_LEN - 2, 20), Some(Tick(5)));
        assert_eq!(flush(1, 30), Some(Tick(30)));
        assert_eq!(flush(BLOCK_LEN - 1, 40), Some(Tick(30)));
        assert_eq!(flush(1, 50), None);
        assert_eq!(account.used(), 0);
    }

    #[test]
    fn a_peer_that_was_given_up_is_told_from_one_that_resets() {
        let mut endpoint = Endpoint::new(RoomWire(0, u32::MAX));
        endpoint.on_ready(Readiness { readable: true, ..Readiness::default() });
        assert!(matches!(endpoint.read(&mut []), ReadOutcome::Reset));
        assert!(endpoint.timed_out && endpoint.reset_received);
    }

    #[test]
    fn a_look_tells_whether_the_peer_acknowledges_what_is_left() {
        let mut endpoint = Endpoint::new(RoomWire(100, 100));
        let mut look = |left, written| {
            endpoint.wire = RoomWire(written, left);
            endpoint.outbox.clear();
            endpoint.ready.writable = true;
            endpoint.unsent_of(&vec![7; written], Tick(5));
            endpoint.has_acknowledged_more()
        };
        assert!(!look(100, 0), "nothing was written");
        assert!(look(90, 0) && !look(90, 0) && look(89, 0));
        assert!(look(200, 111), "there was room");
        assert!(!look(200, 0) && !look(0, 0), "none is left");
    }
}

//! Signals as events (signalfd(2)), without handlers and global state.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use nix::sys::signal::{SigSet, Signal as Number};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// Meaning of a received signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM or SIGINT: stop.
    Terminate,
    /// SIGHUP: reload the configuration.
    Reload,
    /// SIGUSR1: log a report.
    Report,
}

/// The handled signals, blocked for the process and read from a descriptor.
pub struct Signals(SignalFd);

impl Signals {
    /// Blocks TERM, INT, HUP and USR1. Call it while the process has one thread.
    ///
    /// # Errors
    /// The system has no free descriptor.
    pub fn new() -> io::Result<Self> {
        let mut set = SigSet::empty();
        for number in [Number::SIGTERM, Number::SIGINT, Number::SIGHUP, Number::SIGUSR1] {
            set.add(number);
        }
        set.thread_block()?;
        let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
        Ok(Self(SignalFd::with_flags(&set, flags)?))
    }

    /// Registers for readiness events with `token`.
    ///
    /// # Errors
    /// The poller's error.
    pub fn register(&mut self, registry: &Registry, token: usize) -> io::Result<()> {
        let fd = self.0.as_fd().as_raw_fd();
        registry.register(&mut SourceFd(&fd), Token(token), Interest::READABLE)
    }

    /// Reads the next pending signal.
    pub fn pending(&mut self) -> Option<Signal> {
        let info = self.0.read_signal().ok().flatten()?;
        Some(match Number::try_from(info.ssi_signo as i32) {
            Ok(Number::SIGHUP) => Signal::Reload,
            Ok(Number::SIGUSR1) => Signal::Report,
            _ => Signal::Terminate,
        })
    }
}

#[cfg(test)]
mod tests {
    use mio::{Events, Poll};
    use nix::sys::signal::raise;

    use super::*;

    #[test]
    fn a_signal_becomes_an_event_and_then_a_value() {
        // raise(3) signals this thread only, where the signals are blocked.
        let mut signals = Signals::new().unwrap();
        let mut poll = Poll::new().unwrap();
        signals.register(poll.registry(), 7).unwrap();
        assert_eq!(signals.pending(), None);
        for (number, meaning) in [
            (Number::SIGHUP, Signal::Reload),
            (Number::SIGUSR1, Signal::Report),
            (Number::SIGTERM, Signal::Terminate),
            (Number::SIGINT, Signal::Terminate),
        ] {
            raise(number).unwrap();
            let mut events = Events::with_capacity(4);
            poll.poll(&mut events, None).unwrap();
            assert!(events.iter().all(|event| event.token() == Token(7)));
            assert_eq!(signals.pending(), Some(meaning));
            assert_eq!(signals.pending(), None);
        }
    }
}

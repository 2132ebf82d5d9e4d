//! Signals as one more source of events (signalfd(2)): no handler, no global.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use nix::sys::signal::{SigSet, Signal as Number};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// TERM or INT.
    Terminate,
    /// HUP.
    Reload,
    /// USR1.
    Report,
}

/// The signals that we take, blocked for the process and read from a descriptor.
pub struct Signals(SignalFd);

impl Signals {
    /// Blocks TERM, INT, HUP and USR1. Call it while there is one thread.
    ///
    /// # Errors
    /// When the system has no descriptor left.
    pub fn new() -> io::Result<Self> {
        let mut set = SigSet::empty();
        for number in [Number::SIGTERM, Number::SIGINT, Number::SIGHUP, Number::SIGUSR1] {
            set.add(number);
        }
        set.thread_block()?;
        let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
        Ok(Self(SignalFd::with_flags(&set, flags)?))
    }

    /// Events come with `token`.
    ///
    /// # Errors
    /// When the poller refuses it.
    pub fn register(&mut self, registry: &Registry, token: usize) -> io::Result<()> {
        let fd = self.0.as_fd().as_raw_fd();
        registry.register(&mut SourceFd(&fd), Token(token), Interest::READABLE)
    }

    /// The next signal that waits.
    pub fn pending(&mut self) -> Option<Signal> {
        let info = self.0.read_signal().ok().flatten()?;
        Some(match Number::try_from(info.ssi_signo as i32) {
            Ok(Number::SIGHUP) => Signal::Reload,
            Ok(Number::SIGUSR1) => Signal::Report,
            _ => Signal::Terminate,
        })
    }
}

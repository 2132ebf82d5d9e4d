//! Why the proxy could not start or stopped with an error.

use std::fmt;
use std::io;

/// The error of `mtbox run`. Its text is one line.
#[derive(Debug)]
pub enum RunError {
    /// The process could not change to the user of `--user`. Says what to do.
    User(String),
    /// A listener, the poller, signals or random bytes were not available at start.
    Start(io::Error),
    /// The poller failed while the proxy was running.
    EventLoop(io::Error),
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(text) => f.write_str(text),
            Self::Start(e) => e.fmt(f),
            Self::EventLoop(e) => write!(f, "the event loop failed: {e}"),
        }
    }
}

impl std::error::Error for RunError {}

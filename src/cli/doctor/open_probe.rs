//! Looks whether a server takes a connection: opens it, TLS included, and sends no request.

use std::net::SocketAddr;
use std::time::Duration;

use crate::daemon::fetch::task::{FetchTarget, FetchTask, TaskStep};
use crate::daemon::upstream::connect::target::{HostOrAddrs, Route};

/// One look, over a direct connection.
pub(super) struct OpenProbe<'a> {
    /// The addresses to try.
    pub(super) addrs: Vec<SocketAddr>,
    /// The name that the certificate must have; `None` = no TLS.
    pub(super) tls: Option<&'a str>,
    /// What is sent before everything else; may be empty.
    pub(super) preface: &'static [u8],
    /// How long the server may be silent.
    pub(super) limit: Duration,
    /// The connection has been opened. What becomes of it does not matter.
    pub(super) is_open: bool,
}

impl FetchTask for OpenProbe<'_> {
    fn target(&self) -> FetchTarget {
        FetchTarget {
            server: HostOrAddrs::Addrs(self.addrs.clone()),
            tls: self.tls.map(str::to_owned),
            route: Route::Native,
        }
    }

    fn preface(&self) -> Vec<u8> {
        self.preface.to_vec()
    }

    fn request(&mut self) -> Vec<u8> {
        self.is_open = true;
        Vec::new()
    }

    fn push_bytes(&mut self, _bytes: &[u8]) -> TaskStep {
        TaskStep::Done
    }

    fn finish(&mut self) -> TaskStep {
        TaskStep::Done
    }

    /// Ends the task as soon as the connection is open.
    fn idle_timeout(&self) -> Option<Duration> {
        Some(if self.is_open { Duration::ZERO } else { self.limit })
    }
}

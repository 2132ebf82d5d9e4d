//! A fetch task: one exchange with a server, without sockets and clock.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use crate::daemon::upstream::connect::error::ConnectError;
use crate::daemon::upstream::connect::target::{HostOrAddrs, Route};
use crate::daemon::upstream::proxies::Upstreams;

/// One exchange with a server. A new kind needs this trait, and in the daemon a
/// [`Job`](crate::daemon::fetch::schedule::Job). Commands run their own tasks, see
/// [`Standalone`](crate::daemon::fetch::standalone::Standalone).
pub trait FetchTask {
    /// The server to connect to.
    fn target(&self) -> FetchTarget;

    /// Bytes that are sent before everything else, TLS included, such as a PROXY header.
    fn preface(&self) -> Vec<u8> {
        Vec::new()
    }

    /// Bytes to send once the connection is open.
    fn request(&mut self) -> Vec<u8>;

    /// Handles received bytes.
    fn push_bytes(&mut self, bytes: &[u8]) -> TaskStep;

    /// Ends the exchange: the server has sent its FIN.
    fn finish(&mut self) -> TaskStep;

    /// Observes the socket below TLS. `at_us` counts microseconds since the latest
    /// [`WireEvent::Start`].
    fn observe(&mut self, _event: WireEvent<'_>, _at_us: u64) {}

    /// How long the task waits for bytes; `None` = `network.timeout.http`.
    fn idle_timeout(&self) -> Option<Duration> {
        None
    }
}

/// An event of a socket, below TLS.
pub enum WireEvent<'a> {
    /// A connection attempt begins.
    Start,
    /// Bytes that were received.
    Bytes(&'a [u8]),
    /// Bytes were sent.
    Sent,
}

/// The target of a task's connection.
pub struct FetchTarget {
    /// The server.
    pub server: HostOrAddrs,
    /// The name that the server's certificate must have; `None` = no TLS.
    pub tls: Option<String>,
    /// The route to the server.
    pub route: Route,
}

/// What a task needs next.
#[derive(Debug, PartialEq, Eq)]
pub enum TaskStep {
    /// More bytes.
    More,
    /// Nothing: the task has succeeded.
    Done,
    /// A new connection, to the current [`FetchTask::target`].
    Reconnect,
    /// Nothing: the task has failed.
    Failed(FetchError),
}

/// Why a fetch failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FetchError {
    /// The task did not end, or received nothing, in time.
    TooSlow,
    /// Too many tasks are waiting.
    QueueFull,
    /// A proxy of `network.proxies` failed, which the text names.
    Proxy(String),
    /// The connection could not be established, or it failed.
    Connection(String),
    /// The status of an HTTP response.
    Status(u16),
    /// The document is larger than this many bytes.
    TooLarge(u64),
    /// The server's answer is not usable.
    Response(Cow<'static, str>),
}

impl FetchError {
    /// An error for an answer that is not usable; `why` is the reason.
    pub fn response(why: impl Into<Cow<'static, str>>) -> Self {
        Self::Response(why.into())
    }

    /// The error of a connection that could not be established.
    pub fn of_connect(error: ConnectError, upstreams: &Upstreams) -> Self {
        match error {
            error if error.upstream().is_some() => Self::Proxy(error.report(upstreams)),
            error @ ConnectError::NotPublic(..) => {
                Self::Connection(format!("{error}; if that is right, write the address in the URL"))
            }
            error => Self::Connection(error.to_string()),
        }
    }
}

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooSlow => f.write_str("too slow"),
            Self::QueueFull => f.write_str("too many fetches are waiting"),
            Self::Proxy(why) | Self::Connection(why) => f.write_str(why),
            Self::Status(status) => write!(f, "the server answered {status}"),
            Self::TooLarge(limit) => write!(f, "larger than {limit} bytes"),
            Self::Response(why) => f.write_str(why),
        }
    }
}

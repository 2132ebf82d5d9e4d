//! A fetch task: the bytes of one exchange with a server, without sockets and time.

use std::borrow::Cow;
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use crate::util::host_port::HostPort;

/// One exchange with a server. To add a kind: implement this trait, and give the daemon a
/// [`Job`](crate::daemon::fetch::schedule::Job) for it. Commands run their own tasks, see
/// [`Standalone`](crate::daemon::fetch::standalone::Standalone).
pub trait FetchTask {
    /// Where to connect.
    fn target(&self) -> FetchTarget;

    /// Bytes that are sent before everything else, TLS included, such as a PROXY header.
    fn preface(&self) -> Vec<u8> {
        Vec::new()
    }

    /// Bytes to send once the connection is open.
    fn request(&mut self) -> Vec<u8>;

    /// Takes received bytes.
    fn push_bytes(&mut self, bytes: &[u8]) -> TaskStep;

    /// The server has closed its direction.
    fn finish(&mut self) -> TaskStep;

    /// Observes the socket below TLS. `at_us` counts microseconds since the latest
    /// [`WireEvent::Start`].
    fn observe(&mut self, _event: WireEvent<'_>, _at_us: u64) {}

    /// How long the task waits for bytes; `None` = `network.timeout.http`.
    fn idle_timeout(&self) -> Option<Duration> {
        None
    }
}

/// What happens at a socket, below TLS.
pub enum WireEvent<'a> {
    /// A connection attempt begins.
    Start,
    /// Bytes that were received.
    Bytes(&'a [u8]),
    /// Bytes were sent.
    Sent,
}

/// Where a task connects.
pub struct FetchTarget {
    /// The server.
    pub place: HostOrAddrs,
    /// The name that the server's certificate must have; `None` = no TLS.
    pub tls: Option<String>,
    /// How the server is reached.
    pub route: FetchRoute,
}

/// A server.
#[derive(Debug, Clone)]
pub enum HostOrAddrs {
    /// A host name or literal address.
    Host(HostPort),
    /// Addresses in the order to try.
    Addrs(Vec<SocketAddr>),
}

/// How a server is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FetchRoute {
    /// Directly from this machine.
    Native,
    /// Through `network.proxies` where they are configured, otherwise directly.
    Upstreams,
    /// As unauthenticated clients reach the front: directly, and never to one of our listeners.
    Front,
}

/// What a task needs next.
#[derive(Debug, PartialEq, Eq)]
pub enum TaskStep {
    /// More bytes.
    More,
    /// Nothing: the task has succeeded.
    Done,
    /// A new connection, to the present [`FetchTask::target`].
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
    /// The host name has no address.
    HostNotFound(String),
    /// Every upstream has failed or its circuit is open.
    NoUpstream,
    /// The connection could not be made, or broke.
    Connection(String),
    /// The status of an HTTP response.
    Status(u16),
    /// The document is larger than this many bytes.
    TooLarge(u64),
    /// What the server sent is of no use.
    Response(Cow<'static, str>),
}

impl FetchError {
    /// The server's answer is of no use. Says why.
    pub fn response(why: impl Into<Cow<'static, str>>) -> Self {
        Self::Response(why.into())
    }
}

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooSlow => f.write_str("too slow"),
            Self::QueueFull => f.write_str("too many fetches are waiting"),
            Self::HostNotFound(host) => write!(f, "no address for the host name {host:?}"),
            Self::NoUpstream => {
                f.write_str("every proxy has failed lately and its circuit is open")
            }
            Self::Connection(why) => f.write_str(why),
            Self::Status(status) => write!(f, "the server answered {status}"),
            Self::TooLarge(limit) => write!(f, "larger than {limit} bytes"),
            Self::Response(why) => f.write_str(why),
        }
    }
}

//! Why a connection could not be established.

use std::fmt;
use std::io;
use std::net::SocketAddr;

use crate::daemon::upstream::proxies::UpstreamId;
use crate::proto::socks5::{Destination, SocksFault};

/// Why a connection, or one attempt of it, failed.
#[derive(Debug)]
pub enum ConnectError {
    /// This host name has no address, or its lookup took too long.
    NameNotFound(String),
    /// Every address is one of our own listeners.
    Loop,
    /// There is no address to try.
    NoAddress,
    /// The address did not answer in time (`None`) or cannot be reached.
    Address(SocketAddr, Option<io::Error>),
    /// This machine has no local port, descriptor or memory for the connection. Says which.
    Shortage(String),
    /// The upstream itself failed. Says why.
    Upstream(UpstreamId, String),
    /// The upstream failed often lately, so it was not tried.
    CircuitOpen(UpstreamId),
    /// The upstream works, but cannot connect to the destination.
    Refused(Destination, SocksFault),
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NameNotFound(host) => write!(f, "no address for the host name {host:?}"),
            Self::Loop => f.write_str("the front is this proxy itself"),
            Self::NoAddress => f.write_str("no address"),
            Self::Address(_, None) => f.write_str("timeout"),
            Self::Address(_, Some(error)) => error.fmt(f),
            Self::Shortage(why) | Self::Upstream(_, why) => f.write_str(why),
            Self::CircuitOpen(_) => {
                f.write_str("every proxy has failed lately and its circuit is open")
            }
            Self::Refused(_, fault) => f.write_str(fault.as_str()),
        }
    }
}

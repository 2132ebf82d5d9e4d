//! Why a connection could not be established.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};

use crate::daemon::resolver::lookup::LookupFault;
use crate::daemon::upstream::proxies::{UpstreamId, Upstreams};
use crate::proto::socks5::{Destination, SocksFault};

/// Why a connection, or one attempt of it, failed.
#[derive(Debug)]
pub enum ConnectError {
    /// No address was found for this host name.
    NameNotFound(String, LookupFault),
    /// Every address is one of our own listeners, or of this machine.
    Loop,
    /// This host leads to an address that it must not lead to, see
    /// [`Reach`](crate::daemon::upstream::connect::target::Reach).
    NotPublic(String, IpAddr),
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
    Refused(UpstreamId, Destination, SocksFault),
}

impl ConnectError {
    /// The upstream that failed; `None` = the attempt was direct.
    pub fn upstream(&self) -> Option<UpstreamId> {
        match self {
            Self::Upstream(id, _) | Self::CircuitOpen(id) | Self::Refused(id, ..) => Some(*id),
            _ => None,
        }
    }

    /// Why the connection failed; of a proxy that is not tried now, its last error.
    pub fn reason(&self, upstreams: &Upstreams) -> String {
        let last = |id| upstreams.last_error(id)?.1;
        match self {
            Self::CircuitOpen(id) => match last(*id) {
                Some(error) => format!("{error}; it failed often lately, so it rests"),
                None => self.to_string(),
            },
            _ => self.to_string(),
        }
    }

    /// [`ConnectError::reason`] behind the name of the proxy that failed.
    pub fn report(&self, upstreams: &Upstreams) -> String {
        let reason = self.reason(upstreams);
        match self.upstream().and_then(|id| upstreams.last_error(id)) {
            Some((name, _)) => format!("proxy {name}: {reason}"),
            None => reason,
        }
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NameNotFound(host, fault) => {
                write!(f, "no address for the host name {host:?}: {fault}")
            }
            Self::Loop => f.write_str("the front is this proxy itself"),
            Self::NotPublic(host, ip) => write!(
                f,
                "the host {host:?} leads to {ip}, an address of this machine or a private network"
            ),
            Self::NoAddress => f.write_str("no address"),
            Self::Address(_, None) => f.write_str("timeout"),
            Self::Address(_, Some(error)) => error.fmt(f),
            Self::Shortage(why) | Self::Upstream(_, why) => f.write_str(why),
            Self::CircuitOpen(_) => {
                f.write_str("the proxy has failed lately and its circuit is open")
            }
            Self::Refused(.., fault) => f.write_str(fault.as_str()),
        }
    }
}

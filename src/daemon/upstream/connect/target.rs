//! Where a connection leads, and on which route.

use std::net::SocketAddr;

use crate::proto::socks5::Destination;
use crate::util::host_port::HostPort;

/// A server.
#[derive(Debug, Clone)]
pub enum HostOrAddrs {
    /// A host name or literal address.
    Host(HostPort),
    /// Addresses in the order to try.
    Addrs(Vec<SocketAddr>),
}

/// The route to a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// Directly from this machine.
    Native,
    /// Through `network.proxies` if configured, otherwise directly.
    Upstreams,
    /// As for relays to the front: directly, and never to one of our own listeners.
    Front,
}

impl HostOrAddrs {
    /// What a proxy is asked for, in order. Names are left to the proxy.
    pub(super) fn destinations(&self) -> Vec<Destination> {
        match self {
            Self::Host(server) => vec![match server.ip() {
                Some(ip) => Destination::Addr(SocketAddr::new(ip, server.port)),
                None => Destination::Name(server.host.clone(), server.port),
            }],
            Self::Addrs(addrs) => {
                addrs.iter().take(DESTINATIONS_MAX).copied().map(Destination::Addr).collect()
            }
        }
    }
}

/// Addresses of a server that are tried through one proxy.
const DESTINATIONS_MAX: usize = 3;

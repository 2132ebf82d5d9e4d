//! Where a connection leads, and on which route.

use std::net::{IpAddr, SocketAddr};

use crate::proto::socks5::Destination;
use crate::util::host_port::HostPort;

/// A server.
#[derive(Debug, Clone)]
pub enum HostOrAddrs {
    /// A host name or literal address, and where it may lead.
    Host(HostPort, Reach),
    /// Addresses in the order to try.
    Addrs(Vec<SocketAddr>),
}

/// The addresses that a host may lead to. The name server decides where a name leads, so a
/// name must not open the services of this machine or of its networks (DECISIONS D199).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Any.
    Any,
    /// Public addresses.
    Public,
    /// Public addresses that this machine does not have.
    Elsewhere,
}

impl Reach {
    /// The reach of a host that the operator has written: any if it is an address or a name that
    /// only the local network knows (RFC 6761, RFC 6762, RFC 8375).
    pub fn of_configured(host: &str) -> Self {
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        let is_local = !host.contains('.')
            || host.parse::<IpAddr>().is_ok()
            || LOCAL_ZONES.iter().any(|zone| host.ends_with(zone));
        if is_local { Self::Any } else { Self::Public }
    }
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
            Self::Host(server, _) => vec![match server.ip() {
                Some(ip) => Destination::Addr(SocketAddr::new(ip, server.port)),
                None => Destination::Name(server.host.clone(), server.port),
            }],
            Self::Addrs(addrs) => {
                addrs.iter().take(DESTINATIONS_MAX).copied().map(Destination::Addr).collect()
            }
        }
    }
}

/// Zones of which the public DNS has no names.
const LOCAL_ZONES: [&str; 5] = [".localhost", ".local", ".lan", ".internal", ".home.arpa"];
/// Addresses of a server that are tried through one proxy.
const DESTINATIONS_MAX: usize = 3;

//! A host name or address with a port.

use std::fmt;
use std::net::IpAddr;

/// A host and a TCP or UDP port.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HostPort {
    /// A host name, or an IP address without brackets.
    pub host: String,
    /// The port number.
    pub port: u16,
}

impl HostPort {
    /// Joins a host and a port; `host` may be a name or an address.
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Self { host: host.into(), port }
    }

    /// The host as an address; `None` if it is a name.
    pub fn ip(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }
}

/// `HOST:PORT`, with brackets around an IPv6 address (RFC 3986 3.2.2).
impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        match host.contains(':') {
            true => write!(f, "[{host}]:{port}"),
            false => write!(f, "{host}:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ipv6_addresses_have_brackets() {
        assert_eq!(HostPort::new("::1", 443).to_string(), "[::1]:443");
        assert_eq!(HostPort::new("192.0.2.1", 443).to_string(), "192.0.2.1:443");
        assert_eq!(HostPort::new("example.com", 80).to_string(), "example.com:80");
        assert_eq!(HostPort::new("::1", 443).ip(), "::1".parse().ok());
        assert_eq!(HostPort::new("example.com", 443).ip(), None);
    }
}

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

/// `HOST:PORT`, with brackets around an IPv6 address.
impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", Bracketed(&self.host), self.port)
    }
}

/// A host as part of a URL: an IPv6 address has brackets (RFC 3986 3.2.2).
pub struct Bracketed<'a>(pub &'a str);

impl fmt::Display for Bracketed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(host) = self;
        if host.contains(':') { write!(f, "[{host}]") } else { f.write_str(host) }
    }
}

/// Splits `HOST`, `HOST:PORT` or `[HOST]:PORT`; `None` if the host has characters that no host of a
/// URL has, or the port is not valid.
pub fn split(text: &str) -> Option<(&str, Option<u16>)> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']')?;
            (host, if after.is_empty() { "" } else { after.strip_prefix(':')? })
        }
        None => text.rsplit_once(':').unwrap_or((text, "")),
    };
    let is_invalid = |c: char| matches!(c, ' ' | '"' | '<' | '>' | '[' | ']' | '\\');
    if host.contains(is_invalid) || (!text.starts_with('[') && host.contains(':')) {
        return None;
    }
    if port.is_empty() { Some((host, None)) } else { Some((host, Some(port_number(port)?))) }
}

/// Parses a port of decimal digits, 1 to 65535. Leading zeros are allowed.
pub fn port_number(text: &str) -> Option<u16> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|port| is_plain && *port != 0)
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

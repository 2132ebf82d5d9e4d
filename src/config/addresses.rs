//! Parsers for addresses, networks, host names and kernel names in the file (COMPATIBILITY 3.2.5 to
//! 3.2.7). They resolve no names.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use crate::config::settings::HttpBind;
use crate::util::cidr::Cidr;
use crate::util::host_port;

/// Parses `IP:port`, IPv6 in brackets, port 1 to 65535.
pub fn socket_addr(text: &str) -> Result<SocketAddr, &'static str> {
    if text.contains("://") {
        return Err(A_URL);
    } else if text.contains(',') {
        return Err(SEVERAL);
    } else if !text.starts_with('[') && text.matches(':').count() > 1 {
        return Err(BARE_IPV6);
    }
    let (host, port) = host_port::split(text).ok_or(NOT_A_SOCKET)?;
    let ip = ip(host).map_err(|_| NOT_A_SOCKET)?;
    Ok(SocketAddr::new(ip, port.ok_or(NOT_A_SOCKET)?))
}

/// Parses `IP:port`, or `unix:` and the absolute path of a socket (unix(7): at most 107 bytes).
pub fn http_bind(text: &str) -> Result<HttpBind, &'static str> {
    let Some(path) = text.strip_prefix("unix:") else {
        return socket_addr(text).map(HttpBind::Tcp);
    };
    let fits = path.starts_with('/') && path.len() <= 107 && !path.contains('\0');
    if fits { Ok(HttpBind::Unix(PathBuf::from(path))) } else { Err(NOT_A_UNIX_SOCKET) }
}

/// Parses the first part of metric names: lower-case letters and digits.
pub(super) fn metric_prefix(text: &str) -> Result<String, &'static str> {
    let is_valid = text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    if is_valid {
        Ok(text.to_owned())
    } else {
        Err("not a metric prefix; use lower-case letters and digits only")
    }
}

/// Parses the path of a page that we serve. Adds the first slash if it is missing.
pub(super) fn http_path(text: &str) -> Result<String, &'static str> {
    if text.bytes().any(|byte| !byte.is_ascii_graphic() || byte == b'?' || byte == b'#') {
        return Err("not a URL path; write one such as /metrics");
    }
    Ok(if text.starts_with('/') { text.to_owned() } else { format!("/{text}") })
}

/// Parses an IPv4 or IPv6 address without brackets or zone. An IPv4-mapped one becomes IPv4.
pub fn ip(text: &str) -> Result<IpAddr, &'static str> {
    text.parse::<IpAddr>().map(|ip| ip.to_canonical()).map_err(|_| NOT_AN_IP)
}

/// Parses a host name or an IP address. In a name, only characters that belong to a URL are
/// refused.
pub fn host(text: &str) -> Result<String, &'static str> {
    let forbidden = |c| matches!(c, ' ' | '\t' | '\n' | '/' | '?' | '#' | ':');
    let is_name = !text.is_empty() && !text.contains(forbidden);
    if is_name || text.parse::<Ipv6Addr>().is_ok() { Ok(text.to_string()) } else { Err(NOT_A_HOST) }
}

/// Parses `IP/bits`, or an address as a network with one host. Host bits may be set. An IPv4-mapped
/// network becomes IPv4.
pub fn network(text: &str) -> Result<Cidr, &'static str> {
    text.parse().map_err(|()| NOT_A_NETWORK)
}

/// Parses the name of a network device (netdevice(7)).
pub(super) fn device_name(text: &str) -> Result<String, &'static str> {
    let fits = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'/' | b':');
    kernel_name(text, fits).filter(|name| name != "." && name != "..").ok_or(NOT_A_DEVICE)
}

/// Parses the name of a congestion control algorithm (tcp(7)).
pub(super) fn congestion_name(text: &str) -> Result<String, &'static str> {
    let fits =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte);
    kernel_name(text, fits).ok_or(NOT_A_CONGESTION)
}

/// The kernel stores at most 15 bytes of a name (`IFNAMSIZ`, `TCP_CA_NAME_MAX`).
fn kernel_name(text: &str, fits: impl Fn(u8) -> bool) -> Option<String> {
    let is_name = (1..=15).contains(&text.len()) && text.bytes().all(fits);
    is_name.then(|| text.to_owned())
}

const NOT_A_SOCKET: &str =
    "not IP:port; write an IP address and a port, such as 0.0.0.0:443 or [::]:443";
const NOT_A_UNIX_SOCKET: &str = "not the path of a socket; write an absolute path of at most 107 \
                                 bytes, such as unix:/run/mtbox.sock";
const A_URL: &str = "write IP:port alone, without what is before ://";
const SEVERAL: &str = "write several addresses as a list: [\"IP:port\", \"IP:port\"]";
const BARE_IPV6: &str = "an IPv6 address needs brackets, such as [::]:443";
const NOT_AN_IP: &str = "not an IP address; write one such as 192.0.2.1 or 2001:db8::1";
const NOT_A_NETWORK: &str = "not a network; write one such as 192.0.2.0/24 or 2001:db8::/32";
const NOT_A_DEVICE: &str = "not a network device; write a name such as eth0 or wan";
const NOT_A_CONGESTION: &str = "not a congestion control algorithm; write one such as bbr or cubic";
const NOT_A_HOST: &str =
    "not a host; write a host name or an IP address, without scheme, port or path";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_contains_addresses_with_the_same_leading_bits() {
        let has = |net: &str, ip: &str| network(net).unwrap().contains(ip.parse().unwrap());
        for (net, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.0"),
            ("10.1.2.3/8", "10.0.0.0", "9.255.255.255"),
            ("192.0.2.1", "192.0.2.1", "192.0.2.0"),
            ("192.0.2.0/31", "::ffff:192.0.2.1", "::ffff:192.0.2.2"),
            ("0.0.0.0/0", "203.0.113.9", "2001:db8::1"),
            ("2001:db8::/32", "2001:db8:ffff::1", "2001:db9::"),
            ("2001:db8::1", "2001:db8::1", "2001:db8::2"),
            ("::/0", "fe80::1", "192.0.2.1"),
        ] {
            assert!(has(net, inside), "{inside} in {net}");
            assert!(!has(net, outside), "{outside} in {net}");
        }
    }

    #[test]
    fn sockets_are_literal_addresses_with_a_port() {
        for (text, want) in [
            ("0.0.0.0:443", "0.0.0.0:443"),
            ("1.2.3.4:0443", "1.2.3.4:443"),
            ("1.2.3.4:00000000443", "1.2.3.4:443"),
            ("[::]:65535", "[::]:65535"),
            ("[1.2.3.4]:1", "1.2.3.4:1"),
            ("[::ffff:1.2.3.4]:1", "1.2.3.4:1"),
        ] {
            assert_eq!(
                socket_addr(text).map(|addr| addr.to_string()),
                Ok(want.to_string()),
                "{text}"
            );
        }
        for text in [
            "",
            ":443",
            "1.2.3.4",
            "1.2.3.4:",
            "1.2.3.4:0",
            "1.2.3.4:65536",
            "1.2.3.4:+1",
            "1.2.3.4:http",
            "localhost:443",
            "*:443",
            "01.2.3.4:443",
            "[fe80::1%eth0]:443",
            "[::1]",
            "[::1:443",
            " 1.2.3.4:443",
            "1.2.3.4:443 ",
            "1.2.3.4:４４３",
        ] {
            assert_eq!(socket_addr(text), Err(NOT_A_SOCKET), "{text}");
        }
        assert_eq!(socket_addr("::1:443"), Err(BARE_IPV6));
    }

    #[test]
    fn hosts_are_names_or_addresses() {
        for text in ["example.org", "1.2.3.4", "::1", "*", "a@b", "bücher", "a\0b", "a%b"] {
            assert_eq!(host(text).as_deref(), Ok(text));
        }
        for text in ["", "a b", "a\tb", "a\nb", "a/b", "a?b", "a#b", "a:1", "[::1]", "::1%eth0"] {
            assert_eq!(host(text), Err(NOT_A_HOST), "{text}");
        }
    }

    #[test]
    fn an_ip_has_no_brackets_zone_or_leading_zeros() {
        assert_eq!(ip("2001:db8::1").unwrap().to_string(), "2001:db8::1");
        for text in ["", "[::1]", "fe80::1%lo", "1.2.3", "1.2.3.04", "example.org"] {
            assert_eq!(ip(text), Err(NOT_AN_IP), "{text}");
        }
    }

    #[test]
    fn a_network_is_an_address_and_a_number_of_bits() {
        for (text, addr, bits) in [
            ("192.0.2.1", "192.0.2.1", 32),
            ("192.0.2.1/24", "192.0.2.1", 24),
            ("0.0.0.0/0", "0.0.0.0", 0),
            ("2001:db8::/32", "2001:db8::", 32),
            ("::1", "::1", 128),
            ("::ffff:192.0.2.1", "192.0.2.1", 32),
            ("::ffff:192.0.2.0/120", "192.0.2.0", 24),
            ("::ffff:0:0/95", "::ffff:0:0", 95),
        ] {
            assert_eq!(network(text), Cidr::new(addr.parse().unwrap(), bits).ok_or(""), "{text}");
        }
        for text in ["", "/8", "1.2.3.4/33", "::/129", "1.2.3.4/", "1.2.3.4/+8", "a/8", "1.2.3/8"] {
            assert_eq!(network(text), Err(NOT_A_NETWORK), "{text}");
        }
    }

    #[test]
    fn kernel_names_are_short_and_plain() {
        for text in ["lo", "eth0.2", "br-lan", "fifteen_letters"] {
            assert_eq!(device_name(text).as_deref(), Ok(text));
        }
        for text in ["", "a b", "a/b", "eth0:1", ".", "..", "sixteen-letters-", "\u{e9}th0"] {
            assert_eq!(device_name(text), Err(NOT_A_DEVICE), "{text}");
        }
        for text in ["bbr", "dctcp", "tcp_x-2"] {
            assert_eq!(congestion_name(text).as_deref(), Ok(text));
        }
        for text in ["", "BBR", "b.b", "bbr ", "sixteen-letters-"] {
            assert_eq!(congestion_name(text), Err(NOT_A_CONGESTION), "{text}");
        }
    }
}

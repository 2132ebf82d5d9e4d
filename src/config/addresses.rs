//! Addresses and host names as the file writes them (spec: config 2.5 to 2.7). Nothing here
//! resolves a name.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use crate::config::settings::{Cidr, HttpBind};

/// Reads `IP:port` with a literal address, IPv6 in brackets, port 1 to 65535.
pub fn socket_addr(text: &str) -> Result<SocketAddr, &'static str> {
    let (host, port) = text.rsplit_once(':').ok_or(NOT_A_SOCKET)?;
    let bare = match host.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']').ok_or(NOT_A_SOCKET)?,
        None if host.contains(':') => return Err(BARE_IPV6),
        None => host,
    };
    let ip = ip(bare).map_err(|_| NOT_A_SOCKET)?;
    Ok(SocketAddr::new(ip, port_number(port).ok_or(NOT_A_SOCKET)?))
}

/// Reads `IP:port`, or `unix:` and the absolute path of a socket (unix(7): at most 107 bytes).
pub fn http_bind(text: &str) -> Result<HttpBind, &'static str> {
    let Some(path) = text.strip_prefix("unix:") else {
        return socket_addr(text).map(HttpBind::Tcp);
    };
    let fits = path.starts_with('/') && path.len() <= 107 && !path.contains('\0');
    if fits { Ok(HttpBind::Unix(PathBuf::from(path))) } else { Err(NOT_A_UNIX_SOCKET) }
}

/// Reads the first part of metric names: lower-case letters and digits.
pub fn metric_prefix(text: &str) -> Result<String, &'static str> {
    let plain = text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    if plain { Ok(text.to_owned()) } else { Err("must be lower-case letters and digits only") }
}

/// Reads the path of a page that we serve. One without its first slash gets it.
pub fn http_path(text: &str) -> Result<String, &'static str> {
    if text.bytes().any(|byte| !byte.is_ascii_graphic() || byte == b'?' || byte == b'#') {
        return Err("must be the path of a URL, such as /metrics");
    }
    Ok(if text.starts_with('/') { text.to_owned() } else { format!("/{text}") })
}

/// Reads a literal IPv4 or IPv6 address without brackets or zone. An IPv4-mapped one is IPv4.
pub fn ip(text: &str) -> Result<IpAddr, &'static str> {
    text.parse::<IpAddr>().map(|ip| ip.to_canonical()).map_err(|_| NOT_AN_IP)
}

/// Reads an address or a name; a name is checked only for what would make it a URL.
pub fn host(text: &str) -> Result<String, &'static str> {
    let forbidden = |c| matches!(c, ' ' | '\t' | '\n' | '/' | '?' | '#' | ':');
    let is_name = !text.is_empty() && !text.contains(forbidden);
    if is_name || text.parse::<Ipv6Addr>().is_ok() { Ok(text.to_string()) } else { Err(NOT_A_HOST) }
}

/// Reads `IP/bits`, or a bare address, which is a network of its own. Host bits may be set. An
/// IPv4-mapped network is one of IPv4.
pub fn network(text: &str) -> Result<Cidr, &'static str> {
    let (addr, bits) = text.split_once('/').map_or((text, None), |(a, bits)| (a, Some(bits)));
    let addr: IpAddr = addr.parse().map_err(|_| NOT_A_NETWORK)?;
    let most = if addr.is_ipv4() { 32 } else { 128 };
    let plain = |bits: &str| bits.bytes().all(|byte| byte.is_ascii_digit());
    let bits = match bits {
        None => Some(most),
        Some(bits) => bits.parse().ok().filter(|n| plain(bits) && *n <= most),
    };
    let bits: u8 = bits.ok_or(NOT_A_NETWORK)?;
    match (addr.to_canonical(), bits.checked_sub(MAPPED_BITS)) {
        (mapped @ IpAddr::V4(_), Some(bits)) if addr.is_ipv6() => Ok(Cidr { addr: mapped, bits }),
        _ => Ok(Cidr { addr, bits }),
    }
}

/// Reads the name of a network device (netdevice(7)).
pub fn device_name(text: &str) -> Result<String, &'static str> {
    let fits = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'/' | b':');
    kernel_name(text, fits).filter(|name| name != "." && name != "..").ok_or(NOT_A_DEVICE)
}

/// Reads the name of a congestion control (tcp(7)).
pub fn congestion_name(text: &str) -> Result<String, &'static str> {
    let fits =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte);
    kernel_name(text, fits).ok_or(NOT_A_CONGESTION)
}

/// The kernel keeps 15 bytes of a name (`IFNAMSIZ`, `TCP_CA_NAME_MAX`).
fn kernel_name(text: &str, fits: impl Fn(u8) -> bool) -> Option<String> {
    let is_name = (1..=15).contains(&text.len()) && text.bytes().all(fits);
    is_name.then(|| text.to_owned())
}

/// Decimal digits only; leading zeros are fine, port 0 is not.
pub fn port_number(text: &str) -> Option<u16> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|port| plain && *port != 0)
}

const NOT_A_SOCKET: &str = "not IP:port; write a literal address, such as 0.0.0.0:443 or [::]:443";
const NOT_A_UNIX_SOCKET: &str =
    "not the path of a socket; write it such as unix:/run/mtbox.sock, at most 107 bytes";
const BARE_IPV6: &str = "an IPv6 address needs brackets; write it as [::]:443";
const NOT_AN_IP: &str = "not an IP address; write it such as 192.0.2.1 or 2001:db8::1";
const NOT_A_NETWORK: &str = "not a network; write it such as 192.0.2.0/24 or 2001:db8::/32";
const NOT_A_DEVICE: &str = "not a network device; write its name, such as eth0 or wan";
const NOT_A_CONGESTION: &str = "not a congestion control; write one such as bbr or cubic";
/// `::ffff:0:0/96` (RFC 4291 2.5.5.2).
const MAPPED_BITS: u8 = 96;
const NOT_A_HOST: &str = "not a host; write a bare name or address, without scheme, port or path";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_contains_what_shares_its_leading_bits() {
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
    fn hosts_are_names_or_addresses_and_nothing_more() {
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
            assert_eq!(network(text), Ok(Cidr { addr: addr.parse().unwrap(), bits }), "{text}");
        }
        for text in ["", "/8", "1.2.3.4/33", "::/129", "1.2.3.4/", "1.2.3.4/+8", "a/8", "1.2.3/8"] {
            assert_eq!(network(text), Err(NOT_A_NETWORK), "{text}");
        }
    }

    #[test]
    fn names_of_the_kernel_are_short_and_plain() {
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

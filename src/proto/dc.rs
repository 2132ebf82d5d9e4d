//! Telegram's data centres: the number in a client's frame, and the built-in addresses (PROTOCOL
//! 7). The caller decides about the order of addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// A data centre, decoded from the field of a client's frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DcId {
    /// Number: 1 to 5 and 203 in production, 10001 to 10003 in the test environment. A hostile
    /// client may send any number.
    pub number: u16,
    /// Whether the client uses this connection for media only.
    pub media: bool,
}

impl DcId {
    /// Decodes the field: a negative sign means media; 0 means "not stated" and becomes
    /// [`DEFAULT_DC`].
    pub fn decode(raw: i16) -> Self {
        let number = if raw == 0 { DEFAULT_DC } else { raw.unsigned_abs() };
        Self { number, media: raw < 0 }
    }

    /// The field to send to the DC: the number without the media sign.
    pub fn encode(self) -> i16 {
        self.number.cast_signed()
    }

    /// Whether it is a DC of the test environment.
    pub fn is_test(self) -> bool {
        (TEST_BASE + 1..=TEST_BASE + 3).contains(&self.number)
    }
}

/// The built-in addresses of a DC; empty if it is unknown.
pub fn builtin(number: u16) -> &'static [SocketAddr] {
    TABLE.iter().find(|(known, _)| *known == number).map_or(&[], |(_, addresses)| addresses)
}

/// Parses a line of `getProxyConfig` such as `proxy_for 203 192.0.2.1:443;` into the number of a DC
/// and one of its addresses (COMPATIBILITY 5.8). `None` for other directives, host names and
/// negative numbers.
pub fn parse_proxy_for(line: &str) -> Option<(u16, SocketAddr)> {
    let mut words = line.trim().strip_suffix(';')?.split_ascii_whitespace();
    let (directive, number, addr) = (words.next()?, words.next()?, words.next()?);
    if directive != "proxy_for" || words.next().is_some() {
        return None;
    }
    Some((number.parse().ok()?, addr.parse().ok().filter(|addr: &SocketAddr| addr.port() != 0)?))
}

/// The DC for clients that state none, and for unknown numbers if the operator enables that.
pub const DEFAULT_DC: u16 = 2;

/// The port of every built-in address.
pub const PORT: u16 = 443;

/// Base of the numbers of the test environment.
const TEST_BASE: u16 = 10_000;

/// Addresses as of November 2026. Each row has IPv4 first, then IPv6.
static TABLE: [(u16, &[SocketAddr]); 9] = [
    (1, &[v4([149, 154, 175, 50]), v6([0x2001, 0xb28, 0xf23d, 0xf001, 0, 0, 0, 0xa])]),
    (
        2,
        &[
            v4([149, 154, 167, 51]),
            v4([95, 161, 76, 100]),
            v6([0x2001, 0x67c, 0x4e8, 0xf002, 0, 0, 0, 0xa]),
        ],
    ),
    (3, &[v4([149, 154, 175, 100]), v6([0x2001, 0xb28, 0xf23d, 0xf003, 0, 0, 0, 0xa])]),
    (4, &[v4([149, 154, 167, 91]), v6([0x2001, 0x67c, 0x4e8, 0xf004, 0, 0, 0, 0xa])]),
    (5, &[v4([149, 154, 171, 5]), v6([0x2001, 0xb28, 0xf23f, 0xf005, 0, 0, 0, 0xa])]),
    (203, &[v4([91, 105, 192, 100]), v6([0x2a0a, 0xf280, 0x203, 0xa, 0x5000, 0, 0, 0x100])]),
    (10_001, &[v4([149, 154, 175, 10]), v6([0x2001, 0xb28, 0xf23d, 0xf001, 0, 0, 0, 0xe])]),
    (10_002, &[v4([149, 154, 167, 40]), v6([0x2001, 0x67c, 0x4e8, 0xf002, 0, 0, 0, 0xe])]),
    (10_003, &[v4([149, 154, 175, 117]), v6([0x2001, 0xb28, 0xf23d, 0xf003, 0, 0, 0, 0xe])]),
];

const fn v4([a, b, c, d]: [u8; 4]) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(a, b, c, d)), PORT)
}

const fn v6([a, b, c, d, e, f, g, h]: [u16; 8]) -> SocketAddr {
    SocketAddr::new(IpAddr::V6(Ipv6Addr::new(a, b, c, d, e, f, g, h)), PORT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sign_means_media_and_zero_means_two() {
        assert_eq!(DcId::decode(-4), DcId { number: 4, media: true });
        assert_eq!(DcId::decode(0), DcId { number: 2, media: false });
        assert_eq!(DcId::decode(i16::MIN), DcId { number: 32_768, media: true });
        assert_eq!(DcId::decode(-203).encode(), 203);
        assert!(DcId::decode(-10_003).is_test() && !DcId::decode(10_004).is_test());
    }

    #[test]
    fn unknown_numbers_have_no_address() {
        assert_eq!(builtin(2).len(), 3);
        assert!(builtin(0).is_empty() && builtin(6).is_empty() && builtin(10_004).is_empty());
    }

    #[test]
    fn a_line_of_the_list_has_a_number_and_an_ip_address() {
        let addr = |text: &str| text.parse().unwrap();
        assert_eq!(
            parse_proxy_for(" proxy_for 203  192.0.2.1:443; "),
            Some((203, addr("192.0.2.1:443")))
        );
        assert_eq!(
            parse_proxy_for("proxy_for 2 [2001:db8::1]:8888;"),
            Some((2, addr("[2001:db8::1]:8888")))
        );
        for line in [
            "",
            "# proxy_for 203 192.0.2.1:443;",
            "proxy_for 203 192.0.2.1:443",
            "proxy_for -203 192.0.2.1:443;",
            "proxy_for 203 192.0.2.1;",
            "proxy_for 203 192.0.2.1:0;",
            "proxy_for 203 dc.example:443;",
            "proxy_for 203 192.0.2.1:443 x;",
            "proxy_for 203 ;",
            "default 2;",
        ] {
            assert_eq!(parse_proxy_for(line), None, "{line}");
        }
    }
}

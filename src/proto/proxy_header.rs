//! The PROXY protocol (haproxy.org, `proxy-protocol.txt`, revision 2020/03/05): a parser for
//! headers of a load balancer before mtbox, and a writer for headers to the front.
//!
//! Accepts any bytes. The caller decides which senders may announce a client address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Result of [`parse`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preface {
    /// No header: the bytes belong to the stream.
    Absent,
    /// Too few bytes to distinguish a header from a stream.
    Ambiguous,
    /// An incomplete header.
    Incomplete,
    /// A complete header.
    Complete {
        /// Length of the header in bytes, at most [`HEADER_MAX`]; the stream follows it.
        len: usize,
        /// The announced client, never an IPv4-mapped address. `None` = the header has no IP
        /// address; use the address of the socket.
        source: Option<SocketAddr>,
    },
    /// An invalid header.
    Malformed,
}

/// Parses the bytes seen so far. Only [`Preface::Ambiguous`] and [`Preface::Incomplete`] change
/// with more bytes.
pub fn parse(seen: &[u8]) -> Preface {
    if seen.starts_with(SIGNATURE) {
        return parse_binary(seen);
    }
    if let Some(prefix) = TEXT_PREFIXES.iter().find(|prefix| seen.starts_with(prefix)) {
        return parse_text(seen, prefix);
    }
    let could_be = [SIGNATURE].iter().chain(&TEXT_PREFIXES).any(|start| start.starts_with(seen));
    if could_be { Preface::Ambiguous } else { Preface::Absent }
}

/// Appends a version 2 header for a TCP connection from `source` to `destination`. If only one
/// address is IPv6, the other is written as an IPv4-mapped address (RFC 4291 2.5.5.2).
pub fn write(out: &mut Vec<u8>, source: SocketAddr, destination: SocketAddr) {
    out.extend_from_slice(SIGNATURE);
    match (source.ip().to_canonical(), destination.ip().to_canonical()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            out.extend_from_slice(&[VERSION | PROXY, INET | STREAM, 0, INET_LEN as u8]);
            out.extend_from_slice(&from.octets());
            out.extend_from_slice(&to.octets());
        }
        (from, to) => {
            out.extend_from_slice(&[VERSION | PROXY, INET6 | STREAM, 0, INET6_LEN as u8]);
            out.extend_from_slice(&to_ipv6(from).octets());
            out.extend_from_slice(&to_ipv6(to).octets());
        }
    }
    out.extend_from_slice(&source.port().to_be_bytes());
    out.extend_from_slice(&destination.port().to_be_bytes());
}

/// Parses version 1: one line of text (section 2.1).
fn parse_text(seen: &[u8], prefix: &[u8]) -> Preface {
    let line = seen.get(..TEXT_MAX).unwrap_or(seen);
    let Some(end) = line.windows(2).position(|pair| pair == b"\r\n") else {
        return if line.len() < TEXT_MAX { Preface::Incomplete } else { Preface::Malformed };
    };
    let len = end + 2;
    let fields = line.get(prefix.len()..end).unwrap_or_default();
    let source = match prefix {
        TCP4 => parse_fields(fields, |text| text.parse().map(IpAddr::V4).ok()),
        TCP6 => parse_fields(fields, |text| text.parse().map(IpAddr::V6).ok()),
        // UNKNOWN: the rest of the line must be ignored.
        _ => return Preface::Complete { len, source: None },
    };
    source.map_or(Preface::Malformed, |source| Preface::Complete { len, source: Some(source) })
}

/// Parses source, destination and their ports, separated by single spaces. All must be valid;
/// returns the source.
fn parse_fields(fields: &[u8], address: fn(&str) -> Option<IpAddr>) -> Option<SocketAddr> {
    let mut fields = std::str::from_utf8(fields).ok()?.split(' ');
    let (source, _) = (address(fields.next()?)?, address(fields.next()?)?);
    let (port, _) = (decimal(fields.next()?)?, decimal(fields.next()?)?);
    fields.next().is_none().then(|| SocketAddr::new(source.to_canonical(), port))
}

/// A number from 0 to 65535 without sign and leading zeros.
fn decimal(text: &str) -> Option<u16> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    let is_padded = text.len() > 1 && text.starts_with('0');
    if is_number && !is_padded { text.parse().ok() } else { None }
}

/// Parses version 2 (section 2.2). Ignores the extensions (TLVs), none of which changes the
/// client's address.
fn parse_binary(seen: &[u8]) -> Preface {
    let Some(&[version_command, family_transport, high, low]) =
        seen.get(SIGNATURE.len()..FIXED_LEN).and_then(|fixed| fixed.first_chunk())
    else {
        let is_valid = seen.get(SIGNATURE.len()).is_none_or(|byte| is_supported(*byte));
        return if is_valid { Preface::Incomplete } else { Preface::Malformed };
    };
    let body = usize::from(u16::from_be_bytes([high, low]));
    if !is_supported(version_command) || body > BODY_MAX {
        return Preface::Malformed;
    }
    let len = FIXED_LEN + body;
    let Some(body) = seen.get(FIXED_LEN..len) else { return Preface::Incomplete };
    let is_local = version_command == VERSION | LOCAL;
    let has_ports = matches!(family_transport & 0x0f, STREAM | DATAGRAM);
    let source = match family_transport & 0xf0 {
        INET if has_ports && !is_local => parse_inet(body),
        INET6 if has_ports && !is_local => parse_inet6(body),
        // Unspecified, Unix or unknown families have no IP address.
        _ => return Preface::Complete { len, source: None },
    };
    source.map_or(Preface::Malformed, |source| Preface::Complete { len, source: Some(source) })
}

fn is_supported(version_command: u8) -> bool {
    matches!(version_command & 0x0f, LOCAL | PROXY) && version_command & 0xf0 == VERSION
}

fn parse_inet(body: &[u8]) -> Option<SocketAddr> {
    let &[a, b, c, d, _, _, _, _, high, low, _, _] = body.first_chunk::<INET_LEN>()?;
    Some(SocketAddr::new(Ipv4Addr::new(a, b, c, d).into(), u16::from_be_bytes([high, low])))
}

fn parse_inet6(body: &[u8]) -> Option<SocketAddr> {
    let body = body.first_chunk::<INET6_LEN>()?;
    let source = Ipv6Addr::from(*body.first_chunk::<16>()?);
    let port = u16::from_be_bytes(*body.get(32..)?.first_chunk()?);
    Some(SocketAddr::new(IpAddr::from(source).to_canonical(), port))
}

fn to_ipv6(ip: IpAddr) -> Ipv6Addr {
    match ip {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    }
}

/// Longest header in bytes.
pub const HEADER_MAX: usize = FIXED_LEN + BODY_MAX;

/// Longest header that [`write()`] appends, in bytes.
pub const WRITTEN_MAX: usize = FIXED_LEN + INET6_LEN;

/// A version 2 header with command LOCAL, for a connection without a client.
pub const LOCAL_HEADER: &[u8; FIXED_LEN] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
const FIXED_LEN: usize = 16;
/// Longest addresses and extensions in bytes; the limit of mtg-multi (COMPATIBILITY 5.6.1).
const BODY_MAX: usize = 4_096;
const VERSION: u8 = 0x20;
const LOCAL: u8 = 0x0;
const PROXY: u8 = 0x1;
const INET: u8 = 0x10;
const INET6: u8 = 0x20;
const STREAM: u8 = 0x1;
const DATAGRAM: u8 = 0x2;
const INET_LEN: usize = 12;
const INET6_LEN: usize = 36;

/// Longest line of version 1 in bytes, with its line end.
const TEXT_MAX: usize = 107;
const TCP4: &[u8] = b"PROXY TCP4 ";
const TCP6: &[u8] = b"PROXY TCP6 ";
/// Possible starts of a version 1 line. Any other start is not a header.
const TEXT_PREFIXES: [&[u8]; 4] = [TCP4, TCP6, b"PROXY UNKNOWN ", b"PROXY UNKNOWN\r"];

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn whole(header: &[u8], source: Option<&str>) -> Preface {
        Preface::Complete { len: header.len(), source: source.map(addr) }
    }

    /// A version 2 header with this command, family and body.
    fn binary(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let len = u16::try_from(body.len()).unwrap().to_be_bytes();
        [SIGNATURE, &[0x20 | command, family], &len, body].concat()
    }

    const V4_BODY: [u8; 12] = [192, 0, 2, 7, 192, 0, 2, 1, 0x30, 0x39, 0x01, 0xbb];

    #[test]
    fn a_line_announces_the_client() {
        for (line, source) in [
            ("PROXY TCP4 192.0.2.7 192.0.2.1 12345 443\r\n", Some("192.0.2.7:12345")),
            ("PROXY TCP4 255.255.255.255 0.0.0.0 0 65535\r\n", Some("255.255.255.255:0")),
            ("PROXY TCP6 2001:db8::7 ::1 12345 443\r\n", Some("[2001:db8::7]:12345")),
            ("PROXY TCP6 ::ffff:192.0.2.7 ::1 1 2\r\n", Some("192.0.2.7:1")),
            ("PROXY UNKNOWN\r\n", None),
            ("PROXY UNKNOWN ffff:f... whatever 1 2\r\n", None),
        ] {
            let seen = format!("{line}GET / HTTP/1.1\r\n\r\n");
            assert_eq!(parse(seen.as_bytes()), whole(line.as_bytes(), source), "{line}");
        }
    }

    #[test]
    fn a_broken_line_is_malformed() {
        for line in [
            "PROXY TCP4 192.0.2.7 192.0.2.1 12345\r\n",
            "PROXY TCP4 192.0.2.7 192.0.2.1 12345 443 \r\n",
            "PROXY TCP4 192.0.2.7  192.0.2.1 12345 443\r\n",
            "PROXY TCP4 192.0.2.7 192.0.2.1 12345 65536\r\n",
            "PROXY TCP4 192.0.2.7 192.0.2.1 012345 443\r\n",
            "PROXY TCP4 192.0.2.7 192.0.2.1 +1 443\r\n",
            "PROXY TCP4 2001:db8::7 ::1 12345 443\r\n",
            "PROXY TCP6 192.0.2.7 192.0.2.1 12345 443\r\n",
            "PROXY TCP4 \r\n",
            "PROXY TCP6 ü ü 1 2\r\n",
            "PROXY TCP4 192.0.2.7 192.0.2.1 1 443\n\r\n",
        ] {
            assert_eq!(parse(line.as_bytes()), Preface::Malformed, "{line}");
        }
    }

    #[test]
    fn a_line_ends_within_107_bytes_or_is_malformed() {
        let longest = format!("PROXY UNKNOWN {}\r\n", "x".repeat(91));
        assert_eq!(longest.len(), 107);
        assert_eq!(parse(longest.as_bytes()), whole(longest.as_bytes(), None));
        assert_eq!(parse(&longest.as_bytes()[..106]), Preface::Incomplete);
        let endless = format!("PROXY UNKNOWN {}\r\n", "x".repeat(92));
        assert_eq!(parse(endless.as_bytes()), Preface::Malformed);
        assert_eq!(parse(&endless.as_bytes()[..107]), Preface::Malformed);
    }

    #[test]
    fn other_bytes_are_the_stream_at_the_first_difference() {
        for (seen, at) in [
            (&b"GET / HTTP/1.1"[..], 1),
            (b"\x16\x03\x01", 1),
            (b"POST /", 2),
            (b"PROXY /path", 7),
            (b"PROXY TCP5 192.0.2.7", 10),
            (b"PROXY UNKNOWNS", 14),
            (b"proxy tcp4", 1),
            (b"\r\n\r\n\r\n", 5),
            (b"\r\n\r\n\0\r\nQUIT\r\n", 12),
        ] {
            assert_eq!(parse(&seen[..at]), Preface::Absent, "{seen:?}");
            assert_eq!(parse(&seen[..at - 1]), Preface::Ambiguous, "{seen:?}");
        }
    }

    #[test]
    fn a_binary_header_announces_the_client() {
        let v4 = binary(1, 0x11, &V4_BODY);
        assert_eq!(parse(&v4), whole(&v4, Some("192.0.2.7:12345")));
        let v6_body = [
            &addr_bytes("2001:db8::7")[..],
            &addr_bytes("::1"),
            &[0x30, 0x39, 0x01, 0xbb],
            b"\x04\0\x01x",
        ];
        let v6 = binary(1, 0x21, &v6_body.concat());
        assert_eq!(parse(&v6), whole(&v6, Some("[2001:db8::7]:12345")));
        let datagram = binary(1, 0x12, &V4_BODY);
        assert_eq!(parse(&datagram), whole(&datagram, Some("192.0.2.7:12345")));
    }

    fn addr_bytes(text: &str) -> [u8; 16] {
        text.parse::<Ipv6Addr>().unwrap().octets()
    }

    #[test]
    fn headers_without_an_ip_address_are_complete() {
        for header in [
            binary(0, 0x00, b""),
            binary(0, 0x11, &V4_BODY),
            binary(0, 0xff, b"anything"),
            binary(1, 0x00, b""),
            binary(1, 0x01, b""),
            binary(1, 0x10, &V4_BODY),
            binary(1, 0x1f, &V4_BODY),
            binary(1, 0x2f, b""),
            binary(1, 0x31, &[b'/'; 216]),
            binary(1, 0x32, b"short"),
            binary(1, 0x41, &V4_BODY),
            binary(1, 0xff, b""),
            LOCAL_HEADER.to_vec(),
        ] {
            assert_eq!(parse(&header), whole(&header, None), "{header:?}");
        }
    }

    #[test]
    fn broken_binary_headers_are_malformed() {
        let with = |at: usize, byte: u8| {
            let mut header = binary(1, 0x11, &V4_BODY);
            header[at] = byte;
            header
        };
        for header in [
            binary(1, 0x11, &V4_BODY[..11]),
            binary(1, 0x21, &[0; 35]),
            binary(1, 0x11, b""),
            with(12, 0x22),
            with(12, 0x11),
            with(14, 0x10),
        ] {
            assert_eq!(parse(&header), Preface::Malformed, "{header:?}");
        }
        assert_eq!(parse(&[SIGNATURE, &[0x31]].concat()), Preface::Malformed);
    }

    #[test]
    fn the_longest_binary_header_has_4112_bytes() {
        let longest = binary(1, 0x11, &[&V4_BODY[..], &[0; 4_084]].concat());
        assert_eq!(longest.len(), HEADER_MAX);
        assert_eq!(parse(&longest), whole(&longest, Some("192.0.2.7:12345")));
        assert_eq!(parse(&longest[..HEADER_MAX - 1]), Preface::Incomplete);
        let longer = binary(1, 0x11, &[0; 4_097]);
        assert_eq!(parse(&longer[..16]), Preface::Malformed);
    }

    /// mtg-multi panics at the second and cannot write the third (COMPATIBILITY A1).
    #[test]
    fn every_mix_of_families_can_be_written() {
        let written = |source: &str, destination: &str| {
            let mut out = b"before".to_vec();
            write(&mut out, addr(source), addr(destination));
            out.split_off(6)
        };
        let v4 = written("192.0.2.7:12345", "192.0.2.1:443");
        assert_eq!(v4, binary(1, 0x11, &V4_BODY));
        assert_eq!(written("[::ffff:192.0.2.7]:12345", "192.0.2.1:443"), v4);
        let mixed = written("192.0.2.7:12345", "[2001:db8::1]:443");
        let mapped = addr_bytes("::ffff:192.0.2.7");
        let ports = [0x30, 0x39, 0x01, 0xbb];
        let body = [&mapped[..], &addr_bytes("2001:db8::1"), &ports].concat();
        assert_eq!(mixed, binary(1, 0x21, &body));
        assert_eq!(parse(&mixed), whole(&mixed, Some("192.0.2.7:12345")));
        let other = written("[2001:db8::1]:12345", "192.0.2.7:443");
        let body = [&addr_bytes("2001:db8::1")[..], &mapped, &ports].concat();
        assert_eq!(other, binary(1, 0x21, &body));
    }
}

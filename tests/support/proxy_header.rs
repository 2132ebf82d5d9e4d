//! PROXY protocol headers as a load balancer writes them, built from the specification alone.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// A header of version 1.
pub fn text(source: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
    let (from, to) = (source.ip(), destination.ip());
    format!("PROXY {family} {from} {to} {} {}\r\n", source.port(), destination.port()).into_bytes()
}

/// A header of version 2 with any command, family and transport.
pub fn binary(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).expect("at most 65535 bytes");
    [&SIGNATURE[..], &[0x20 | command, family], &length.to_be_bytes(), body].concat()
}

/// The addresses of version 2. If the families differ, the IPv4 address is mapped to IPv6.
pub fn body(source: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    let mut body = Vec::new();
    let narrow = source.is_ipv4() && destination.is_ipv4();
    for ip in [source.ip(), destination.ip()] {
        match ip {
            IpAddr::V4(v4) if narrow => body.extend(v4.octets()),
            ip => body.extend(wide(ip).octets()),
        }
    }
    body.extend(source.port().to_be_bytes());
    body.extend(destination.port().to_be_bytes());
    body
}

/// The header that a front must get: version 2, PROXY, TCP, no extensions.
pub fn announcing(source: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    let body = body(source, destination);
    binary(1, if body.len() == 12 { 0x11 } else { 0x21 }, &body)
}

fn wide(ip: IpAddr) -> Ipv6Addr {
    match ip {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    }
}

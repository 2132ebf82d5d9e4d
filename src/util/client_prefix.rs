//! The network that a client address belongs to: /24 for IPv4, /48 for IPv6.

use std::fmt;
use std::net::IpAddr;

use crate::util::cidr::leading_bits;

/// A client address with the host part cut off. IPv4-mapped IPv6 addresses count as IPv4.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientPrefix(IpAddr);

impl ClientPrefix {
    /// The /24 or /48 that contains `addr`.
    pub fn of(addr: IpAddr) -> Self {
        let addr = addr.to_canonical();
        Self(leading_bits(addr, if addr.is_ipv4() { 24 } else { 48 }))
    }

    /// The first address of the network.
    pub fn addr(self) -> IpAddr {
        self.0
    }

    /// The prefix as an integer: 24 bits with the top bit set for IPv4, 48 bits for IPv6.
    pub fn to_bits(self) -> u64 {
        match self.0 {
            IpAddr::V4(v4) => u64::from(v4.to_bits() >> 8) | 1 << 63,
            IpAddr::V6(v6) => (v6.to_bits() >> 80) as u64,
        }
    }
}

impl fmt::Display for ClientPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpAddr::V4(v4) => write!(f, "{v4}/24"),
            IpAddr::V6(v6) => {
                // Three groups in full, so that a reader of logs can compare prefixes by eye.
                let [a, b, c, ..] = v6.segments();
                write!(f, "{a:x}:{b:x}:{c:x}::/48")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(text: &str) -> String {
        ClientPrefix::of(text.parse().unwrap()).to_string()
    }

    #[test]
    fn the_host_part_is_cut_off() {
        assert_eq!(prefix("192.0.2.77"), "192.0.2.0/24");
        assert_eq!(prefix("::ffff:192.0.2.77"), "192.0.2.0/24");
        assert_eq!(prefix("2001:db8:1:2::3"), "2001:db8:1::/48");
        assert_eq!(prefix("2001:db8::3"), "2001:db8:0::/48");
    }

    #[test]
    fn different_prefixes_have_different_bits() {
        let bits = |text: &str| ClientPrefix::of(text.parse().unwrap()).to_bits();
        assert_eq!(bits("192.0.2.1"), bits("192.0.2.200"));
        assert_ne!(bits("192.0.2.1"), bits("192.0.3.1"));
        assert_ne!(bits("2001:db8:1::"), bits("2001:db8:2::"));
        assert_ne!(bits("::c0:2:0:0:0:0:1"), bits("192.0.2.1"));
    }
}

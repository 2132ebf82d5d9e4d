//! Networks in CIDR notation (RFC 4632 3.1, RFC 4291 2.3).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// A network in CIDR notation. An IPv4-mapped IPv6 network counts as IPv4.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr {
    first: IpAddr,
    /// Prefix length: 0..=32 for IPv4, 0..=128 for IPv6.
    bits: u8,
}

impl Cidr {
    /// The network of `bits` leading bits of `addr`, whose host bits may be set. `None` if `bits`
    /// exceeds the length of the address.
    pub fn new(addr: IpAddr, bits: u8) -> Option<Self> {
        let (addr, bits) = match (addr, addr.to_canonical(), bits.checked_sub(MAPPED_BITS)) {
            (IpAddr::V6(_), addr @ IpAddr::V4(_), Some(bits)) => (addr, bits),
            _ => (addr, bits),
        };
        let is_valid = u32::from(bits) <= if addr.is_ipv4() { 32 } else { 128 };
        is_valid.then(|| Self { first: leading_bits(addr, bits), bits })
    }

    /// The first address of the network.
    pub fn first(&self) -> IpAddr {
        self.first
    }

    /// Prefix length: 0..=32 for IPv4, 0..=128 for IPv6.
    pub fn bits(&self) -> u8 {
        self.bits
    }

    /// Whether the network contains an address. An IPv4-mapped IPv6 address counts as IPv4.
    pub fn contains(&self, addr: IpAddr) -> bool {
        leading_bits(addr.to_canonical(), self.bits) == self.first
    }
}

/// An address whose bits after the first `bits` are cleared.
pub(super) fn leading_bits(addr: IpAddr, bits: u8) -> IpAddr {
    let bits = u32::from(bits);
    match addr {
        IpAddr::V4(v4) => {
            Ipv4Addr::from_bits(v4.to_bits() & !u32::MAX.checked_shr(bits).unwrap_or(0)).into()
        }
        IpAddr::V6(v6) => {
            Ipv6Addr::from_bits(v6.to_bits() & !u128::MAX.checked_shr(bits).unwrap_or(0)).into()
        }
    }
}

/// `ADDRESS/BITS`, or an address as a network with one host. Host bits may be set.
impl FromStr for Cidr {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (addr, bits) = text.split_once('/').map_or((text, None), |(a, bits)| (a, Some(bits)));
        let addr: IpAddr = addr.parse().map_err(|_| ())?;
        let bits = match bits {
            None if addr.is_ipv4() => 32,
            None => 128,
            Some(bits) if bits.bytes().all(|byte| byte.is_ascii_digit()) => {
                bits.parse().map_err(|_| ())?
            }
            Some(_) => return Err(()),
        };
        Self::new(addr, bits).ok_or(())
    }
}

/// Prefix length of the IPv4-mapped addresses (RFC 4291 2.5.5.2).
const MAPPED_BITS: u8 = 96;

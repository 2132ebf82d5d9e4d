//! The addresses of this machine's network interfaces.

use std::net::IpAddr;
use std::time::{Duration, Instant};

/// The addresses of all interfaces that are up, including loopback; empty if getifaddrs(3) fails.
pub fn addresses() -> Vec<IpAddr> {
    let Ok(list) = nix::ifaddrs::getifaddrs() else { return Vec::new() };
    let storages = list.filter_map(|interface| interface.address);
    storages
        .filter_map(|storage| {
            let v4 = storage.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
            v4.or_else(|| storage.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
        })
        .collect()
}

/// A cache of [`addresses`], refreshed after 60 seconds.
#[derive(Default)]
pub(super) struct OwnAddresses {
    list: Vec<IpAddr>,
    fetched: Option<Instant>,
}

impl OwnAddresses {
    /// Whether an address, IPv4 or IPv4-mapped IPv6, belongs to an interface of this machine.
    pub fn contains(&mut self, ip: IpAddr) -> bool {
        if self.fetched.is_none_or(|at| at.elapsed() > MAX_AGE) {
            let list = addresses();
            // Without a descriptor there is no list: the old one stays.
            if !list.is_empty() {
                (self.list, self.fetched) = (list, Some(Instant::now()));
            }
        }
        self.list.contains(&ip.to_canonical())
    }
}

const MAX_AGE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_an_own_address_and_a_documentation_address_is_not() {
        let mut own = OwnAddresses::default();
        let mut has = |text: &str| own.contains(text.parse().unwrap());
        assert!(has("127.0.0.1") && has("::ffff:127.0.0.1"));
        assert!(!has("203.0.113.77") && !has("2001:db8::77"));
    }
}

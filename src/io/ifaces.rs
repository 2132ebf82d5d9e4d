//! The addresses on this machine's own interfaces.

use std::net::IpAddr;
use std::time::{Duration, Instant};

/// The addresses of all interfaces that are up, loopback included; empty when the system will
/// not tell.
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

/// The same, asked of the system again after a minute.
#[derive(Default)]
pub struct OwnAddresses {
    list: Vec<IpAddr>,
    read: Option<Instant>,
}

impl OwnAddresses {
    /// Whether an address, IPv4 in whichever spelling, is one of ours.
    pub fn contains(&mut self, ip: IpAddr) -> bool {
        if self.read.is_none_or(|at| at.elapsed() > FRESH) {
            self.list = addresses();
            self.read = Some(Instant::now());
        }
        self.list.contains(&ip.to_canonical())
    }
}

const FRESH: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_among_our_own_addresses_and_the_documentation_net_is_not() {
        let mut own = OwnAddresses::default();
        let mut has = |text: &str| own.contains(text.parse().unwrap());
        assert!(has("127.0.0.1") && has("::ffff:127.0.0.1"));
        assert!(!has("203.0.113.77") && !has("2001:db8::77"));
    }
}

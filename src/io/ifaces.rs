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
    /// Whether an address is one of ours.
    pub fn contains(&mut self, ip: IpAddr) -> bool {
        if self.read.is_none_or(|at| at.elapsed() > FRESH) {
            self.list = addresses();
            self.read = Some(Instant::now());
        }
        self.list.contains(&ip)
    }
}

const FRESH: Duration = Duration::from_secs(60);

//! Where to dial for a DC, and which addresses failed lately.

use std::net::SocketAddr;

use crate::config::settings::{PreferIp, Settings};
use crate::daemon::dc_list::DcList;
use crate::io::clock::Tick;
use crate::policy::drbg::Drbg;
use crate::proto::dc;

/// Addresses that refused or timed out, remembered for two minutes so that the next session
/// starts with a better one. Bounded: the oldest is forgotten first.
#[derive(Default)]
pub struct BadAddresses {
    list: Vec<(SocketAddr, Tick)>,
}

impl BadAddresses {
    /// Remembers a failure.
    pub fn add(&mut self, addr: SocketAddr, now: Tick) {
        self.list.retain(|(other, until)| *other != addr && *until > now);
        if self.list.len() >= MOST {
            self.list.remove(0);
        }
        self.list.push((addr, Tick(now.0 + FOR_MS)));
    }

    /// Forgets a failure, since the address answered.
    pub fn forgive(&mut self, addr: SocketAddr) {
        self.list.retain(|(other, _)| *other != addr);
    }

    /// Whether an address failed lately.
    pub fn contains(&self, addr: SocketAddr, now: Tick) -> bool {
        self.list.iter().any(|(other, until)| *other == addr && *until > now)
    }

    /// Puts the addresses that failed lately last; keeps the order otherwise.
    pub fn sort(&self, addrs: &mut [SocketAddr], now: Tick) {
        put_last(addrs, |addr| self.contains(*addr, now));
    }
}

/// Puts those that `goes_last` names behind the others; the order within each group stays. For
/// the few addresses of a name, where each use of the library's sort would cost 8 KB of code.
pub fn put_last<T>(list: &mut [T], goes_last: impl Fn(&T) -> bool) {
    for end in 1..list.len() {
        let mut at = end;
        while at > 0 && goes_last(&list[at - 1]) && !goes_last(&list[at]) {
            list.swap(at - 1, at);
            at -= 1;
        }
    }
}

/// The addresses of a DC in the order to dial: overrides replace the built-in ones, each family
/// is shuffled, those that Telegram lists follow, then `prefer-ip` orders or filters them. Empty
/// = unknown DC.
pub fn of_dc(settings: &Settings, list: &DcList, dc: u16, drbg: &mut Drbg) -> Vec<SocketAddr> {
    let (mut addrs, filter) = match settings.dc_overrides.iter().find(|(id, _)| *id == dc) {
        // The operator named these; `only-*` does not take them away.
        Some((_, addrs)) => (addrs.clone(), false),
        None => (dc::builtin(dc).to_vec(), true),
    };
    shuffle(&mut addrs, drbg);
    let mut listed: Vec<SocketAddr> = list.of(dc).filter(|addr| !addrs.contains(addr)).collect();
    shuffle(&mut listed, drbg);
    addrs.append(&mut listed);
    let prefer = settings.prefer_ip;
    let wants_v4 = matches!(prefer, PreferIp::PreferIpv4 | PreferIp::OnlyIpv4);
    if filter && matches!(prefer, PreferIp::OnlyIpv4 | PreferIp::OnlyIpv6) {
        addrs.retain(|a| a.is_ipv4() == wants_v4);
    }
    put_last(&mut addrs, |a| a.is_ipv4() != wants_v4);
    addrs
}

fn shuffle<T>(list: &mut [T], drbg: &mut Drbg) {
    for at in (1..list.len()).rev() {
        list.swap(at, drbg.u32_below(at as u32 + 1) as usize);
    }
}

const MOST: usize = 64;
const FOR_MS: u64 = 120_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_address_goes_last_until_it_is_forgiven_or_forgotten() {
        let a: SocketAddr = "127.0.0.1:1".parse().unwrap();
        let b: SocketAddr = "127.0.0.1:2".parse().unwrap();
        let mut bad = BadAddresses::default();
        bad.add(a, Tick(0));
        let mut list = vec![a, b];
        bad.sort(&mut list, Tick(1));
        assert_eq!(list, [b, a]);
        assert!(!bad.contains(a, Tick(FOR_MS)));
        bad.forgive(a);
        assert!(!bad.contains(a, Tick(1)));
    }

    #[test]
    fn who_goes_last_keeps_the_order() {
        let mut list = [1, 2, 3, 4, 5, 6, 7];
        put_last(&mut list, |n| n % 3 == 1);
        assert_eq!(list, [2, 3, 5, 6, 1, 4, 7]);
    }

    #[test]
    fn the_memory_is_bounded() {
        let mut bad = BadAddresses::default();
        for port in 1..=1000 {
            bad.add(SocketAddr::from(([127, 0, 0, 1], port)), Tick(0));
        }
        assert_eq!(bad.list.len(), MOST);
    }
}

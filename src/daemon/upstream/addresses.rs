//! Where to dial for a DC, and which addresses failed lately.

use std::net::{IpAddr, SocketAddr};

use crate::config::settings::{PreferIp, Settings};
use crate::daemon::upstream::dc_list::DcList;
use crate::io::clock::Tick;
use crate::proto::dc;
use crate::util::drbg::Drbg;

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

    /// How many failed lately.
    pub fn count(&self, now: Tick) -> usize {
        self.list.iter().filter(|(_, until)| *until > now).count()
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
    drbg.shuffle(&mut addrs);
    let mut listed: Vec<SocketAddr> = list.of(dc).filter(|addr| !addrs.contains(addr)).collect();
    drbg.shuffle(&mut listed);
    addrs.append(&mut listed);
    let prefer = settings.prefer_ip;
    let wants_v4 = matches!(prefer, PreferIp::PreferIpv4 | PreferIp::OnlyIpv4);
    if filter && matches!(prefer, PreferIp::OnlyIpv4 | PreferIp::OnlyIpv6) {
        addrs.retain(|a| a.is_ipv4() == wants_v4);
    }
    put_last(&mut addrs, |a| a.is_ipv4() != wants_v4);
    addrs
}

/// The hosts of a DC at its other ports (spec: protocol 7.2), for when all addresses have failed.
/// Addresses that the operator named have no second chance.
pub fn second_chance(settings: &Settings, dc: u16) -> Vec<SocketAddr> {
    if settings.dc_overrides.iter().any(|(id, _)| *id == dc) {
        return Vec::new();
    }
    let prefer = settings.prefer_ip;
    let wants_v4 = matches!(prefer, PreferIp::PreferIpv4 | PreferIp::OnlyIpv4);
    let is_only = matches!(prefer, PreferIp::OnlyIpv4 | PreferIp::OnlyIpv6);
    let hosts = dc::builtin(dc).iter().filter(|addr| !is_only || addr.is_ipv4() == wants_v4);
    let mut addrs: Vec<SocketAddr> =
        hosts.flat_map(|addr| OTHER_PORTS.map(|port| SocketAddr::new(addr.ip(), port))).collect();
    put_last(&mut addrs, |addr| addr.is_ipv4() != wants_v4);
    addrs
}

/// An address of a home network or of this machine (RFC 1918, RFC 4193).
pub fn is_home(addr: IpAddr) -> bool {
    match addr.to_canonical() {
        IpAddr::V4(v4) => v4.is_private() || v4.is_loopback() || v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local(),
    }
}

const OTHER_PORTS: [u16; 2] = [80, 5222];

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

    fn settings(more: &str) -> Settings {
        let secret = format!("ee{}{}", "11".repeat(16), "61".repeat(4));
        let text = format!("bind-to = \"192.0.2.1:443\"\nsecret = \"{secret}\"\n{more}");
        crate::config::load::load(text.as_bytes(), "test").unwrap().settings
    }

    #[test]
    fn a_second_chance_has_the_same_hosts_at_other_ports() {
        let addrs = second_chance(&settings("prefer-ip = \"only-ipv4\""), 4);
        let wanted: Vec<SocketAddr> =
            vec!["149.154.167.91:80".parse().unwrap(), "149.154.167.91:5222".parse().unwrap()];
        assert_eq!(addrs, wanted);
        assert!(second_chance(&settings(""), 4)[0].is_ipv6());
        assert_eq!(second_chance(&settings(""), 2).len(), 6);
        assert!(second_chance(&settings(""), 77).is_empty());
        let named = settings("[telegram.dc-overrides]\n4 = [\"127.0.0.1:1\"]");
        assert!(second_chance(&named, 4).is_empty());
    }

    #[test]
    fn the_order_of_a_dc_follows_prefer_ip() {
        let mut drbg = Drbg::new([7; 48]);
        let mut families = |word: &str| -> String {
            let settings = settings(&format!("prefer-ip = {word:?}"));
            let addrs = of_dc(&settings, &DcList::default(), 2, &mut drbg);
            addrs.iter().map(|addr| if addr.is_ipv4() { '4' } else { '6' }).collect()
        };
        assert_eq!(families("prefer-ipv4"), "446");
        assert_eq!(families("prefer-ipv6"), "644");
        assert_eq!(families("only-ipv4"), "44");
        assert_eq!(families("only-ipv6"), "6");
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

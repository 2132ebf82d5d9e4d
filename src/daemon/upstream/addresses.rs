//! The addresses to dial for a data centre, and the addresses that failed recently.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::config::settings::{PreferIp, Settings};
use crate::daemon::upstream::dc_list::DcList;
use crate::io::clock::Tick;
use crate::proto::dc;
use crate::util::drbg::Drbg;

/// Addresses that refused or timed out in the last two minutes; later sessions try them last.
/// Bounded; a new entry replaces the oldest one.
#[derive(Default)]
pub struct BadAddresses {
    list: Vec<(SocketAddr, Tick)>,
}

impl BadAddresses {
    /// Adds an address that failed.
    pub fn add(&mut self, addr: SocketAddr, now: Tick) {
        self.list.retain(|(other, until)| *other != addr && *until > now);
        if self.list.len() >= MAX_ENTRIES {
            self.list.remove(0);
        }
        self.list.push((addr, now + KEEP));
    }

    /// Removes an address that answered.
    pub fn remove(&mut self, addr: SocketAddr) {
        self.list.retain(|(other, _)| *other != addr);
    }

    /// Whether an address failed recently.
    pub fn contains(&self, addr: SocketAddr, now: Tick) -> bool {
        self.list.iter().any(|(other, until)| *other == addr && *until > now)
    }

    /// The number of addresses that failed recently.
    pub fn count(&self, now: Tick) -> usize {
        self.list.iter().filter(|(_, until)| *until > now).count()
    }

    /// Moves the addresses that failed recently to the end; the order within each group is kept.
    pub fn sort(&self, addrs: &mut [SocketAddr], now: Tick) {
        put_last(addrs, |addr| self.contains(*addr, now));
    }
}

/// Moves the items for which `goes_last` holds to the end; the order within each group is kept.
/// An insertion sort for short lists: each use of the library's sort would cost 8 KB of code.
pub fn put_last<T>(list: &mut [T], goes_last: impl Fn(&T) -> bool) {
    for end in 1..list.len() {
        let mut at = end;
        while at > 0 && goes_last(&list[at - 1]) && !goes_last(&list[at]) {
            list.swap(at - 1, at);
            at -= 1;
        }
    }
}

/// The addresses of a data centre in the order to dial. Overrides replace the built-in ones, each
/// family is shuffled, listed addresses follow, then `prefer-ip` orders or filters them. Empty
/// when the data centre is unknown.
pub fn of_dc(settings: &Settings, list: &DcList, dc: u16, drbg: &mut Drbg) -> Vec<SocketAddr> {
    let (mut addrs, filter) = match settings.dc_overrides.iter().find(|(id, _)| *id == dc) {
        // `only-*` does not filter addresses that the operator has configured.
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

/// The hosts of a data centre at its other ports (PROTOCOL 7.2), tried when all addresses have
/// failed. Empty if the operator has configured the addresses.
pub fn other_ports(settings: &Settings, dc: u16) -> Vec<SocketAddr> {
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

/// Whether an address belongs to a private network or to this machine (RFC 1918, RFC 4193).
pub fn is_private(addr: IpAddr) -> bool {
    match addr.to_canonical() {
        IpAddr::V4(v4) => v4.is_private() || v4.is_loopback() || v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local(),
    }
}

/// Whether an address can belong to a server on the internet (the IANA registries of addresses with
/// a special purpose). Those that contain an IPv4 address count as that. Addresses for
/// documentation and benchmarks are not special here, since some networks use them.
pub fn is_public(addr: IpAddr) -> bool {
    match addr {
        IpAddr::V4(v4) => {
            let [first, second, ..] = v4.octets();
            // RFC 6598: carrier-grade NAT.
            let is_shared = first == 100 && second & 0xc0 == 64;
            let is_special = v4.is_private() || v4.is_loopback() || v4.is_link_local();
            !(is_shared || is_special || first == 0 || first >= 224)
        }
        IpAddr::V6(v6) => {
            let v4 = |high: u16, low: u16| {
                IpAddr::V4(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)))
            };
            match v6.segments() {
                // Mapped, translated and compatible addresses (RFC 4291, RFC 2765), NAT64
                // (RFC 6052, RFC 8215).
                [0, 0, 0, 0, 0, 0 | 0xffff, high, low]
                | [0, 0, 0, 0, 0xffff, 0, high, low]
                | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
                | [0x64, 0xff9b, 1, .., high, low]
                // 6to4 (RFC 3056).
                | [0x2002, high, low, ..] => is_public(v4(high, low)),
                // Unique local, link-local, site-local, multicast.
                [first, ..] => {
                    !matches!(first >> 8, 0xfc | 0xfd | 0xff) && first & 0xff80 != 0xfe80
                }
            }
        }
    }
}

const OTHER_PORTS: [u16; 2] = [80, 5222];

const MAX_ENTRIES: usize = 64;
const KEEP: Duration = Duration::from_secs(120);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_address_goes_last_until_it_is_removed_or_expires() {
        let a: SocketAddr = "127.0.0.1:1".parse().unwrap();
        let b: SocketAddr = "127.0.0.1:2".parse().unwrap();
        let mut bad = BadAddresses::default();
        bad.add(a, Tick(0));
        let mut list = vec![a, b];
        bad.sort(&mut list, Tick(1));
        assert_eq!(list, [b, a]);
        assert!(!bad.contains(a, Tick(0) + KEEP));
        bad.remove(a);
        assert!(!bad.contains(a, Tick(1)));
    }

    fn settings(more: &str) -> Settings {
        let secret = format!("ee{}{}", "11".repeat(16), "61".repeat(4));
        let text = format!("bind-to = \"192.0.2.1:443\"\nsecret = \"{secret}\"\n{more}");
        crate::config::load::load(text.as_bytes(), "test").unwrap().settings
    }

    #[test]
    fn other_ports_have_the_same_hosts() {
        let addrs = other_ports(&settings("prefer-ip = \"only-ipv4\""), 4);
        let wanted: Vec<SocketAddr> =
            vec!["149.154.167.91:80".parse().unwrap(), "149.154.167.91:5222".parse().unwrap()];
        assert_eq!(addrs, wanted);
        assert!(other_ports(&settings(""), 4)[0].is_ipv6());
        assert_eq!(other_ports(&settings(""), 2).len(), 6);
        assert!(other_ports(&settings(""), 77).is_empty());
        let named = settings("[telegram.dc-overrides]\n4 = [\"127.0.0.1:1\"]");
        assert!(other_ports(&named, 4).is_empty());
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
    fn items_that_go_last_keep_their_order() {
        let mut list = [1, 2, 3, 4, 5, 6, 7];
        put_last(&mut list, |n| n % 3 == 1);
        assert_eq!(list, [2, 3, 5, 6, 1, 4, 7]);
    }

    #[test]
    fn public_addresses_are_told_from_those_of_local_networks() {
        for public in [
            "1.1.1.1",
            "100.63.255.255",
            "100.128.0.1",
            "172.15.0.1",
            "172.32.0.1",
            "192.0.2.1",
            "198.18.0.1",
            "203.0.113.1",
            "223.255.255.255",
            "2606:4700::1111",
            "2001:db8::1",
            "::ffff:1.1.1.1",
            "64:ff9b::1.1.1.1",
            "64:ff9b:1::101:101",
            "2002:101:101::1",
        ] {
            assert!(is_public(public.parse().unwrap()), "{public}");
        }
        for other in [
            "127.0.0.1",
            "127.255.255.254",
            "10.0.0.1",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "100.64.0.1",
            "100.127.255.255",
            "169.254.169.254",
            "0.0.0.0",
            "0.1.2.3",
            "224.0.0.251",
            "239.255.255.250",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::ffff:127.0.0.1",
            "::ffff:192.168.1.1",
            "::ffff:0:127.0.0.1",
            "fc00::1",
            "fd12::1",
            "fe80::1",
            "febf::1",
            "fec0::1",
            "ff02::1",
            "64:ff9b::127.0.0.1",
            "64:ff9b::192.168.1.1",
            "64:ff9b:1::a00:1",
            "2002:7f00:1::1",
            "2002:c0a8:101::1",
        ] {
            assert!(!is_public(other.parse().unwrap()), "{other}");
        }
    }

    #[test]
    fn the_list_is_bounded() {
        let mut bad = BadAddresses::default();
        for port in 1..=1000 {
            bad.add(SocketAddr::from(([127, 0, 0, 1], port)), Tick(0));
        }
        assert_eq!(bad.list.len(), MAX_ENTRIES);
    }
}

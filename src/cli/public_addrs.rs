//! The addresses under which clients reach this machine: from the flags, the config, the listeners
//! and the network interfaces. Sends no packets; see `public_ip.rs` for the query of a web service.

use std::net::IpAddr;

use crate::config::settings::Settings;
use crate::util::order::order;

/// The addresses for links.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct PublicAddrs {
    pub(super) ipv4: Option<IpAddr>,
    pub(super) ipv6: Option<IpAddr>,
    /// Reachable in the local network only. Sorted, without duplicates.
    pub(super) lan: Vec<IpAddr>,
}

impl PublicAddrs {
    /// The public addresses, IPv4 first.
    pub(super) fn public(&self) -> Vec<IpAddr> {
        self.ipv4.into_iter().chain(self.ipv6).collect()
    }

    /// The flags take precedence over the config, the config over the listeners. Addresses of
    /// `interfaces` count only if a listener is on the unspecified address.
    pub(super) fn of(settings: &Settings, flags: AddressFlags, interfaces: &[IpAddr]) -> Self {
        let binds = settings.binds.iter().map(|bind| bind.ip());
        let mut own: Vec<IpAddr> = binds.filter(|ip| !ip.is_unspecified()).collect();
        if settings.binds.iter().any(|bind| bind.ip().is_unspecified()) {
            own.extend(interfaces.iter().map(IpAddr::to_canonical));
        }
        let first = |v4: bool| {
            let mut public = own.iter().filter(|ip| scope(**ip) == Scope::Public);
            public.find(|ip| ip.is_ipv4() == v4).copied()
        };
        // As in mtg-multi, an IPv6 address given as IPv4 means none, while an IPv4 address given as
        // IPv6 is accepted (COMPATIBILITY 4.3).
        let given_v4 = flags.ipv4.or(settings.public_ipv4);
        let ipv4 = given_v4.map_or_else(|| first(true), |ip| ip.is_ipv4().then_some(ip));
        let ipv6 = flags.ipv6.or(settings.public_ipv6).or_else(|| first(false));
        let lan = own.iter().filter(|ip| scope(**ip) == Scope::Lan).copied();
        let lan: Vec<IpAddr> = lan.collect();
        let order = order(lan.len(), &|a, b| lan[a].cmp(&lan[b]));
        let mut lan: Vec<IpAddr> = order.into_iter().map(|at| lan[at]).collect();
        lan.dedup();
        Self { ipv4, ipv6, lan }
    }
}

/// `--ipv4` and `--ipv6`, which override the config.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct AddressFlags {
    pub(super) ipv4: Option<IpAddr>,
    pub(super) ipv6: Option<IpAddr>,
}

#[derive(Debug, PartialEq, Eq)]
enum Scope {
    Public,
    Lan,
    /// Of no use in a link: this host, this link, or no unicast address.
    Local,
}

fn scope(ip: IpAddr) -> Scope {
    if ip.is_unspecified() || ip.is_loopback() || ip.is_multicast() {
        return Scope::Local;
    }
    let (is_local, is_lan) = match ip {
        IpAddr::V4(v4) => {
            let [first, second, ..] = v4.octets();
            // RFC 6598: carrier-grade NAT. RFC 2544: benchmarks.
            let is_shared = first == 100 && second & 0xc0 == 64;
            let is_benchmark = first == 198 && second & 0xfe == 18;
            let is_lan = v4.is_private() || v4.is_documentation() || is_shared || is_benchmark;
            (v4.is_link_local() || v4.is_broadcast() || first == 0, is_lan)
        }
        IpAddr::V6(v6) => {
            // RFC 3849: documentation.
            let is_documentation = matches!(v6.segments(), [0x2001, 0x0db8, ..]);
            (v6.is_unicast_link_local(), v6.is_unique_local() || is_documentation)
        }
    };
    match (is_local, is_lan) {
        (true, _) => Scope::Local,
        (false, true) => Scope::Lan,
        (false, false) => Scope::Public,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load;

    fn settings(binds: &str, more: &str) -> Settings {
        let secret = "ee00112233445566778899aabbccddeeff6578616d706c652e6f7267";
        let text = format!("secret = \"{secret}\"\nbind-to = {binds}\n{more}\n");
        load::load(text.as_bytes(), "a.toml").unwrap().settings
    }

    fn ips(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn scopes_follow_the_registries() {
        for (text, want) in [
            ("8.8.8.8", Scope::Public),
            ("2606:4700::1111", Scope::Public),
            ("100.128.0.1", Scope::Public),
            ("100.64.0.1", Scope::Lan),
            ("10.0.0.1", Scope::Lan),
            ("192.168.1.1", Scope::Lan),
            ("198.19.0.1", Scope::Lan),
            ("192.0.2.1", Scope::Lan),
            ("fd00::1", Scope::Lan),
            ("2001:db8::1", Scope::Lan),
            ("169.254.1.1", Scope::Local),
            ("fe80::1", Scope::Local),
            ("127.0.0.1", Scope::Local),
            ("::1", Scope::Local),
            ("0.1.2.3", Scope::Local),
            ("255.255.255.255", Scope::Local),
            ("ff02::1", Scope::Local),
        ] {
            assert_eq!(scope(text.parse().unwrap()), want, "{text}");
        }
    }

    #[test]
    fn interfaces_count_only_beside_a_listener_on_all_addresses() {
        let interfaces =
            ips(&["127.0.0.1", "192.168.1.2", "8.8.8.8", "9.9.9.9", "fe80::1", "fd00::2"]);
        let any =
            PublicAddrs::of(&settings("\"0.0.0.0:1\"", ""), AddressFlags::default(), &interfaces);
        assert_eq!(any.ipv4, Some("8.8.8.8".parse().unwrap()));
        assert_eq!(any.ipv6, None);
        assert_eq!(any.lan, ips(&["192.168.1.2", "fd00::2"]));
        let one =
            PublicAddrs::of(&settings("\"10.0.0.1:1\"", ""), AddressFlags::default(), &interfaces);
        assert_eq!(one, PublicAddrs { lan: ips(&["10.0.0.1"]), ..PublicAddrs::default() });
        let none =
            PublicAddrs::of(&settings("\"127.0.0.1:1\"", ""), AddressFlags::default(), &interfaces);
        assert_eq!(none, PublicAddrs::default());
    }

    #[test]
    fn flags_override_the_config_and_the_config_overrides_the_machine() {
        let file = "public-ipv4 = \"7.7.7.7\"\npublic-ipv6 = \"7.7.7.8\"";
        let settings = settings("[\"8.8.8.8:1\", \"[::]:1\"]", file);
        let from_config = PublicAddrs::of(&settings, AddressFlags::default(), &[]);
        assert_eq!(from_config.public(), ips(&["7.7.7.7", "7.7.7.8"]));
        let ip = |text: &str| Some(text.parse().unwrap());
        let flags = AddressFlags { ipv4: ip("6.6.6.6"), ipv6: ip("2001:db8::6") };
        let from_flags = PublicAddrs::of(&settings, flags, &[]);
        assert_eq!(from_flags.public(), ips(&["6.6.6.6", "2001:db8::6"]));
        let wrong = AddressFlags { ipv4: ip("2001:db8::6"), ipv6: None };
        assert_eq!(PublicAddrs::of(&settings, wrong, &[]).ipv4, None);
    }
}

//! Under which addresses people reach this machine, as far as it knows itself: from what the
//! operator states, what it listens on, and its own interfaces. Never asks anybody outside; that
//! is for `public_ip.rs`.

use std::net::IpAddr;

use crate::config::settings::Settings;

/// The addresses for links.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct PublicAddrs {
    /// From everywhere, over IPv4.
    pub ipv4: Option<IpAddr>,
    /// From everywhere, over IPv6.
    pub ipv6: Option<IpAddr>,
    /// From the same network only.
    pub lan: Vec<IpAddr>,
}

impl PublicAddrs {
    /// The addresses from everywhere.
    pub fn public(&self) -> Vec<IpAddr> {
        self.ipv4.into_iter().chain(self.ipv6).collect()
    }

    /// Adds what the listeners and the interfaces tell to what is stated. Interfaces count only
    /// where a listener takes every address.
    pub fn of(settings: &Settings, stated: AddressFlags, interfaces: &[IpAddr]) -> Self {
        let binds = settings.binds.iter().map(|bind| bind.ip());
        let mut own: Vec<IpAddr> = binds.filter(|ip| !ip.is_unspecified()).collect();
        if settings.binds.iter().any(|bind| bind.ip().is_unspecified()) {
            own.extend(interfaces.iter().map(IpAddr::to_canonical));
        }
        let first = |v4: bool| {
            let mut public = own.iter().filter(|ip| scope(**ip) == Scope::Everywhere);
            public.find(|ip| ip.is_ipv4() == v4).copied()
        };
        // A stated address of the wrong family is no IPv4 address, yet any will do for IPv6
        // (spec: cli 3).
        let stated_v4 = stated.ipv4.or(settings.public_ipv4);
        let ipv4 = stated_v4.map_or_else(|| first(true), |ip| ip.is_ipv4().then_some(ip));
        let ipv6 = stated.ipv6.or(settings.public_ipv6).or_else(|| first(false));
        let lan = own.iter().filter(|ip| scope(**ip) == Scope::Lan).copied();
        let mut lan: Vec<IpAddr> = lan.collect();
        lan.sort();
        lan.dedup();
        Self { ipv4, ipv6, lan }
    }
}

/// What flags say, which goes before what the file says.
#[derive(Debug, Clone, Copy, Default)]
pub struct AddressFlags {
    /// `--ipv4`.
    pub ipv4: Option<IpAddr>,
    /// `--ipv6`.
    pub ipv6: Option<IpAddr>,
}

#[derive(Debug, PartialEq, Eq)]
enum Scope {
    Everywhere,
    Lan,
    /// This machine or this cable only.
    Nowhere,
}

fn scope(ip: IpAddr) -> Scope {
    if ip.is_unspecified() || ip.is_loopback() || ip.is_multicast() {
        return Scope::Nowhere;
    }
    let (nowhere, lan) = match ip {
        IpAddr::V4(v4) => {
            let [first, second, ..] = v4.octets();
            // RFC 6598: shared between a provider and its customers. RFC 2544: test benches.
            let is_shared = first == 100 && second & 0xc0 == 64;
            let is_bench = first == 198 && second & 0xfe == 18;
            let is_lan = v4.is_private() || v4.is_documentation() || is_shared || is_bench;
            (v4.is_link_local() || v4.is_broadcast() || first == 0, is_lan)
        }
        IpAddr::V6(v6) => {
            // RFC 3849: documentation.
            let is_documentation = matches!(v6.segments(), [0x2001, 0x0db8, ..]);
            (v6.is_unicast_link_local(), v6.is_unique_local() || is_documentation)
        }
    };
    match (nowhere, lan) {
        (true, _) => Scope::Nowhere,
        (false, true) => Scope::Lan,
        (false, false) => Scope::Everywhere,
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
            ("8.8.8.8", Scope::Everywhere),
            ("2606:4700::1111", Scope::Everywhere),
            ("100.128.0.1", Scope::Everywhere),
            ("100.64.0.1", Scope::Lan),
            ("10.0.0.1", Scope::Lan),
            ("192.168.1.1", Scope::Lan),
            ("198.19.0.1", Scope::Lan),
            ("192.0.2.1", Scope::Lan),
            ("fd00::1", Scope::Lan),
            ("2001:db8::1", Scope::Lan),
            ("169.254.1.1", Scope::Nowhere),
            ("fe80::1", Scope::Nowhere),
            ("127.0.0.1", Scope::Nowhere),
            ("::1", Scope::Nowhere),
            ("0.1.2.3", Scope::Nowhere),
            ("255.255.255.255", Scope::Nowhere),
            ("ff02::1", Scope::Nowhere),
        ] {
            assert_eq!(scope(text.parse().unwrap()), want, "{text}");
        }
    }

    #[test]
    fn interfaces_count_only_where_every_address_is_taken() {
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
    fn flags_go_before_the_file_and_the_file_before_the_machine() {
        let file = "public-ipv4 = \"7.7.7.7\"\npublic-ipv6 = \"7.7.7.8\"";
        let settings = settings("[\"8.8.8.8:1\", \"[::]:1\"]", file);
        let by_file = PublicAddrs::of(&settings, AddressFlags::default(), &[]);
        assert_eq!(by_file.public(), ips(&["7.7.7.7", "7.7.7.8"]));
        let ip = |text: &str| Some(text.parse().unwrap());
        let stated = AddressFlags { ipv4: ip("6.6.6.6"), ipv6: ip("2001:db8::6") };
        let by_flag = PublicAddrs::of(&settings, stated, &[]);
        assert_eq!(by_flag.public(), ips(&["6.6.6.6", "2001:db8::6"]));
        let wrong = AddressFlags { ipv4: ip("2001:db8::6"), ipv6: None };
        assert_eq!(PublicAddrs::of(&settings, wrong, &[]).ipv4, None);
    }
}

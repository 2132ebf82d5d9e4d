//! The addresses under which clients reach this machine: from the flags, the config, the listeners
//! and the network interfaces. Sends no packets; see `public_ip.rs` for the query of a web service.

use std::net::IpAddr;

use crate::config::settings::Settings;
use crate::util::order::sorted;

/// The addresses for links.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct PublicAddrs {
    /// Stands in links instead of the public addresses.
    pub(super) host: Option<String>,
    /// The port in links for other networks.
    pub(super) port: u16,
    /// The port in links for the local network.
    pub(super) lan_port: u16,
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

    /// The servers in links for other networks.
    pub(super) fn public_servers(&self) -> Vec<LinkServer> {
        let server = |host: String, is_name| LinkServer { host, port: self.port, is_name };
        match &self.host {
            Some(host) => vec![server(host.clone(), host.parse::<IpAddr>().is_err())],
            None => self.public().iter().map(|ip| server(ip.to_string(), false)).collect(),
        }
    }

    /// The servers in links for the local network.
    pub(super) fn lan_servers(&self) -> Vec<LinkServer> {
        let server =
            |ip: &IpAddr| LinkServer { host: ip.to_string(), port: self.lan_port, is_name: false };
        self.lan.iter().map(server).collect()
    }

    /// The flags take precedence over the config, the config over the listeners. Addresses of
    /// `interfaces` count only if a listener is on the unspecified address.
    pub(super) fn of(settings: &Settings, flags: AddressFlags, interfaces: &[IpAddr]) -> Self {
        let own = served(settings, interfaces);
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
        let mut lan = sorted(&lan, &Ord::cmp);
        lan.dedup();
        let is_given = flags.ipv4.or(flags.ipv6).is_some();
        let bind_port = settings.binds.first().map_or(0, |bind| bind.port());
        let lan_port = flags.port.unwrap_or(bind_port);
        Self {
            host: settings.public_host.clone().filter(|_| !is_given),
            port: flags.port.or(settings.public_port).unwrap_or(bind_port),
            lan_port,
            ipv4,
            ipv6,
            lan,
        }
    }
}

/// The addresses at which the listeners serve: their own, and those of `interfaces` if a listener
/// is on the unspecified address.
fn served(settings: &Settings, interfaces: &[IpAddr]) -> Vec<IpAddr> {
    let binds = settings.binds.iter().map(|bind| bind.ip());
    let mut own: Vec<IpAddr> = binds.filter(|ip| !ip.is_unspecified()).collect();
    if settings.binds.iter().any(|bind| bind.ip().is_unspecified()) {
        own.extend(interfaces.iter().map(IpAddr::to_canonical));
    }
    own
}

/// All public addresses at which the listeners serve; a machine may have several of a family.
pub(super) fn served_public(settings: &Settings, interfaces: &[IpAddr]) -> Vec<IpAddr> {
    let own = served(settings, interfaces).into_iter();
    own.filter(|ip| scope(*ip) == Scope::Public).collect()
}

/// Why links may have the wrong port; `None` if they have the right one for all that is known.
pub(super) fn port_warning(settings: &Settings, addrs: &PublicAddrs) -> Option<String> {
    let is_local = settings.binds.iter().all(|bind| bind.ip().is_loopback());
    let why = match (is_local, settings.proxy_protocol.is_some()) {
        (true, _) => "only this machine can reach bind-to",
        (false, true) => "clients come through a relay (proxy-protocol-listener)",
        (false, false) => return None,
    };
    let is_guess = settings.public_port.is_none() && addrs.port == addrs.lan_port;
    is_guess.then(|| {
        format!(
            "{why}, and the links have its port {}; set public-port to the port that clients \
             connect to",
            addrs.port
        )
    })
}

/// A server in a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LinkServer {
    pub(super) host: String,
    pub(super) port: u16,
    /// The host is no IP address.
    pub(super) is_name: bool,
}

/// `--ipv4`, `--ipv6` and `--port`, which override the config.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct AddressFlags {
    pub(super) ipv4: Option<IpAddr>,
    pub(super) ipv6: Option<IpAddr>,
    pub(super) port: Option<u16>,
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
        assert_eq!((one.public(), one.lan), (vec![], ips(&["10.0.0.1"])));
        let none =
            PublicAddrs::of(&settings("\"127.0.0.1:1\"", ""), AddressFlags::default(), &interfaces);
        assert_eq!((none.public(), none.lan), (vec![], vec![]));
    }

    #[test]
    fn flags_override_the_config_and_the_config_overrides_the_machine() {
        let file = "public-ipv4 = \"7.7.7.7\"\npublic-ipv6 = \"7.7.7.8\"";
        let settings = settings("[\"8.8.8.8:1\", \"[::]:1\"]", file);
        let from_config = PublicAddrs::of(&settings, AddressFlags::default(), &[]);
        assert_eq!(from_config.public(), ips(&["7.7.7.7", "7.7.7.8"]));
        let ip = |text: &str| Some(text.parse().unwrap());
        let flags = AddressFlags { ipv4: ip("6.6.6.6"), ipv6: ip("2001:db8::6"), port: None };
        let from_flags = PublicAddrs::of(&settings, flags, &[]);
        assert_eq!(from_flags.public(), ips(&["6.6.6.6", "2001:db8::6"]));
        let wrong = AddressFlags { ipv4: ip("2001:db8::6"), ..AddressFlags::default() };
        assert_eq!(PublicAddrs::of(&settings, wrong, &[]).ipv4, None);
    }

    #[test]
    fn a_public_host_and_port_stand_in_links_for_other_networks() {
        let file = "public-ipv4 = \"8.8.8.8\"\npublic-host = \"a.example\"\npublic-port = 443";
        let settings = settings("\"10.0.0.1:3128\"", file);
        let addrs = PublicAddrs::of(&settings, AddressFlags::default(), &[]);
        let server = |host: &str, port| LinkServer {
            host: host.to_owned(),
            port,
            is_name: host.ends_with('e'),
        };
        assert_eq!(addrs.public_servers(), [server("a.example", 443)]);
        assert_eq!(addrs.lan_servers(), [server("10.0.0.1", 3128)]);
        let ipv4 = Some("7.7.7.7".parse().unwrap());
        let flags = AddressFlags { ipv4, port: Some(8443), ..AddressFlags::default() };
        let addrs = PublicAddrs::of(&settings, flags, &[]);
        assert_eq!(addrs.public_servers(), [server("7.7.7.7", 8443)]);
        assert_eq!(addrs.lan_servers(), [server("10.0.0.1", 8443)]);
    }

    #[test]
    fn the_port_of_a_hidden_listener_is_doubtful() {
        for (binds, more, is_doubtful) in [
            ("\"127.0.0.1:3128\"", "public-ipv4 = \"8.8.8.8\"", true),
            ("[\"127.0.0.1:3128\", \"[::1]:3128\"]", "", true),
            ("\"127.0.0.1:3128\"", "public-port = 443", false),
            ("\"0.0.0.0:3128\"", "proxy-protocol-listener = true", true),
            ("[\"127.0.0.1:3128\", \"10.0.0.1:443\"]", "", false),
        ] {
            let settings = settings(binds, more);
            let addrs = PublicAddrs::of(&settings, AddressFlags::default(), &[]);
            assert_eq!(port_warning(&settings, &addrs).is_some(), is_doubtful, "{binds} {more}");
        }
    }
}

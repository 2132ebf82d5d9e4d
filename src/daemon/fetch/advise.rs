//! Gives the advice of `guidance.rs` once after the start, from what the front probes and their
//! lookups have shown by then.

use std::net::{IpAddr, SocketAddr};

use crate::accounts::users::{HostId, Users};
use crate::config::settings::Settings;
use crate::daemon::fetch::front_probe::FrontProbes;
use crate::daemon::fetch::guidance::{
    Advice, Comparison, ELSEWHERE, NO_HYBRID, SILENT_V6, UNRESOLVED, UNSURE, is_v4, joined,
};
use crate::daemon::resolver::dns_cache::DnsCache;
use crate::daemon::upstream::addresses::{is_private, is_public};
use crate::io::logger::event;
use crate::io::wire::Net;
use crate::mimicry::profile::Profiles;
use crate::util::log_settings::LogLevel;

/// What the advice is about.
pub struct AdviceContext<'a, N> {
    /// Fronts and public addresses.
    pub settings: &'a Settings,
    /// The hosts.
    pub users: &'a Users,
    /// Their addresses.
    pub dns: &'a mut DnsCache,
    /// What the fronts answered.
    pub profiles: &'a Profiles,
    /// Says which addresses are ours, and to which there is a route.
    pub net: &'a mut N,
}

impl<N: Net> AdviceContext<'_, N> {
    /// Queues the lookups of the hosts; the front probes may need other names.
    pub fn look_up_hosts(&mut self) {
        for host in self.users.hosts().take(HOSTS_MAX) {
            let name = self.name_of(host);
            self.dns.prefetch(&name);
        }
    }

    /// The IPv6 addresses of a front to look at now; empty = none, or not now.
    pub fn v6_to_look_at(&mut self, host: HostId, probes: &FrontProbes) -> Vec<SocketAddr> {
        let (front, name) = (&self.settings.front, self.name_of(host));
        let is_other = front.host.as_ref().is_some_and(|host| *host != name);
        if is_other || !probes.may_look_at_v6(host) {
            return Vec::new();
        }
        let Some(Ok(ips)) = self.dns.peek(&name) else { return Vec::new() };
        let is_dual = ips.iter().any(is_v4);
        let v6 = ips.iter().filter(|ip| is_dual && !is_v4(ip));
        let mut addrs: Vec<SocketAddr> = v6.map(|ip| SocketAddr::new(*ip, front.port)).collect();
        // A name server must not lead us into this machine or its networks.
        addrs.retain(|addr| {
            let is_elsewhere = is_public(addr.ip()) && !self.net.is_own_address(addr.ip());
            front.host.is_some() || is_elsewhere
        });
        // Without a route, silence would show nothing about the site.
        match addrs.first().is_some_and(|addr| self.net.datagram_sender(*addr).is_ok()) {
            true => addrs,
            false => Vec::new(),
        }
    }

    /// Logs one line of advice once all hosts have been looked at.
    pub fn give(&mut self, probes: &mut FrontProbes) {
        if probes.advice.is_some() {
            return;
        }
        let (mut advice, mut is_certain) = (Vec::new(), false);
        for host in self.users.hosts().take(HOSTS_MAX) {
            let Some(is_v6_silent) = probes.is_v6_silent(host) else { return };
            let name = self.name_of(host);
            let literal = name.parse().ok().map(|ip| Ok(vec![ip]));
            let Some(found) = literal.or_else(|| self.dns.peek(&name).cloned()) else { return };
            let mut add = |what, detail| advice.push(Advice { host: name.clone(), what, detail });
            let ips = match found {
                Ok(ips) => ips,
                Err(fault) => {
                    add(UNRESOLVED, fault.to_string());
                    Vec::new()
                }
            };
            let own = self.own_addresses(&ips);
            let compared = Comparison::of(&ips, &own);
            if !compared.elsewhere.is_empty() {
                is_certain = true;
                let others = joined(&compared.elsewhere);
                add(ELSEWHERE, format!("{others}; this machine is {}", joined(&own)));
            }
            compared.unknown().into_iter().for_each(|unknown| add(UNSURE, unknown));
            if is_v6_silent {
                let v6: Vec<IpAddr> = ips.iter().filter(|ip| !is_v4(ip)).copied().collect();
                add(SILENT_V6, joined(&v6));
            }
            if !self.profiles.get(host).is_hybrid() {
                is_certain = true;
                add(NO_HYBRID, String::new());
            }
        }
        if !advice.is_empty() {
            let level = if is_certain { LogLevel::Warn } else { LogLevel::Info };
            let texts: Vec<String> = advice.iter().map(Advice::to_string).collect();
            event!((level), "guidance", advice = ?texts.join("; "), hint = ?MORE);
        }
        probes.advice = Some(advice);
    }

    /// The public addresses of the settings, and those of `ips` that an interface has.
    fn own_addresses(&mut self, ips: &[IpAddr]) -> Vec<IpAddr> {
        let set = [self.settings.public_ipv4, self.settings.public_ipv6].into_iter().flatten();
        let mut own: Vec<IpAddr> = set.collect();
        for ip in ips.iter().filter(|ip| !is_private(**ip)) {
            if self.net.is_own_address(*ip) && !own.contains(ip) {
                own.push(*ip);
            }
        }
        own
    }

    fn name_of(&self, host: HostId) -> String {
        String::from_utf8_lossy(self.users.host_name(host)).into_owned()
    }
}

/// Hosts that are looked at; each costs a lookup.
const HOSTS_MAX: usize = 8;
const MORE: &str = "mtbox doctor says more";

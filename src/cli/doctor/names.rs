//! Do the hosts in the secrets resolve to this machine? This is the cheapest test of a censor
//! (COMPATIBILITY 4.5, PROTOCOL 15.10).

use std::net::IpAddr;
use std::time::Duration;

use crate::cli::doctor::context::CheckContext;
use crate::cli::doctor::dns;
use crate::cli::doctor::findings::{Finding, Section};
use crate::cli::public_addrs;
use crate::daemon::resolver::lookup::LookupFault;
use crate::io::ifaces;
use crate::util::json::Json;

/// Compares the addresses of every distinct host with the public addresses of this machine.
pub(super) fn check(context: &mut CheckContext) -> Vec<Section> {
    let mut section = Section::new("sni-dns", "Validate SNI-DNS match");
    let served = public_addrs::served_public(&context.settings, &ifaces::addresses());
    let own = context.own_addrs();
    let public = own.addrs.public();
    let error = match &own.error {
        Some(e) => e.to_string(),
        None => "the public address of this machine is unknown".to_owned(),
    };
    let hosts = context.hosts();
    let found = context.standalone.lookup(&hosts, LIMIT);
    for (host, found) in hosts.iter().zip(found) {
        let ips = match found {
            Ok(ips) => ips,
            Err(fault) => {
                section
                    .unknown(host, &format!("the name cannot be resolved: {fault}"))
                    .remedy(match fault {
                        LookupFault::Server(_) => dns::SERVER_REMEDY,
                        _ => "correct the host in the secret, or check network.dns",
                    })
                    .fact("host", Json::text(host));
                continue;
            }
        };
        if public.is_empty() {
            let finding = section.unknown(host, &error).remedy(
                "set public-ipv4 or public-ipv6, or set network.public-ip-url to another service",
            );
            add_facts(finding, host, &ips, &public);
        } else {
            compare(host, &ips, &public, &served, &mut section);
        }
    }
    vec![section]
}

/// Compares the addresses of a name with ours. `served`: more of ours.
fn compare(
    host: &str,
    ips: &[IpAddr],
    public: &[IpAddr],
    served: &[IpAddr],
    section: &mut Section,
) {
    let Comparison { elsewhere, unknown } = Comparison::of(ips, public, served);
    let known = joined(public);
    let unknown_text = match unknown {
        Some(family) => format!("; the {family} address of this machine is unknown"),
        None => String::new(),
    };
    let finding = if elsewhere.is_empty() {
        section.ok(format!("{host} resolves to {}, which is this machine", joined(ips)))
    } else if elsewhere.len() == ips.len() {
        let all = joined(ips);
        section
            .fail(format!("{host} resolves to {all}, but this machine is {known}{unknown_text}"))
            .remedy(
                "a censor can compare the two: use a host name that resolves to this machine, \
                 with a web server behind [domain-fronting]",
            )
    } else {
        let others = joined(&elsewhere);
        let text = format!(
            "{host} also resolves to {others}, which does not lead here: this machine is \
             {known}{unknown_text}"
        );
        match elsewhere.iter().any(|ip| public.iter().any(|own| is_same_family(own, ip))) {
            true => section.fail(text),
            false => section.warn(text),
        }
        .remedy(
            "clients, and a censor, may use any address of the name: remove the A or AAAA record \
             that leads elsewhere, or set public-ipv4 or public-ipv6 if it is this machine's",
        )
    };
    add_facts(finding, host, ips, public);
}

/// How the addresses of a name compare with ours.
#[derive(Debug, PartialEq, Eq)]
struct Comparison {
    /// The addresses that are not ours, as far as ours are known.
    elsewhere: Vec<IpAddr>,
    /// The family of one of them of which none of our addresses is known.
    unknown: Option<&'static str>,
}

impl Comparison {
    fn of(ips: &[IpAddr], public: &[IpAddr], served: &[IpAddr]) -> Self {
        let own = |ip: &IpAddr| {
            public.iter().chain(served).any(|own| own.to_canonical() == ip.to_canonical())
        };
        let elsewhere: Vec<IpAddr> = ips.iter().filter(|ip| !own(ip)).copied().collect();
        let is_unknown =
            |ip: &&IpAddr| !public.iter().chain(served).any(|own| is_same_family(own, ip));
        let unknown = elsewhere.iter().find(is_unknown);
        let unknown = unknown.map(|ip| if ip.to_canonical().is_ipv4() { "IPv4" } else { "IPv6" });
        Self { elsewhere, unknown }
    }
}

fn is_same_family(one: &IpAddr, other: &IpAddr) -> bool {
    one.to_canonical().is_ipv4() == other.to_canonical().is_ipv4()
}

fn add_facts(finding: &mut Finding, host: &str, ips: &[IpAddr], public: &[IpAddr]) {
    let texts = |ips: &[IpAddr]| Json::List(ips.iter().map(Json::text).collect());
    finding.fact("host", Json::text(host));
    finding.fact("resolved", texts(ips)).fact("public", texts(public));
}

fn joined(ips: &[IpAddr]) -> String {
    let texts: Vec<String> = ips.iter().map(IpAddr::to_string).collect();
    texts.join(", ")
}

const LIMIT: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    fn ips(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn every_address_that_leads_elsewhere_and_an_unknown_family_are_found() {
        let found = |name: &[&str], public: &[&str], served: &[&str]| {
            let Comparison { elsewhere, unknown } =
                Comparison::of(&ips(name), &ips(public), &ips(served));
            (joined(&elsewhere), unknown)
        };
        let (v4, v6) = ("192.0.2.1", "2001:db8::1");
        assert_eq!(found(&[v4, v6], &[v4, v6], &[]), (String::new(), None));
        assert_eq!(found(&[v4, v6], &[v4], &[]), (v6.to_owned(), Some("IPv6")));
        assert_eq!(found(&[v4, v6], &[v6], &[]), (v4.to_owned(), Some("IPv4")));
        assert_eq!(found(&[v4, v6], &[v4, "2001:db8::2"], &[]), (v6.to_owned(), None));
        assert_eq!(found(&[v4, v6], &[v4, "2001:db8::2"], &[v6]), (String::new(), None));
        assert_eq!(found(&["::ffff:192.0.2.1"], &[v4], &[]), (String::new(), None));
        let two = "192.0.2.2, 192.0.2.3";
        assert_eq!(found(&["192.0.2.2", v4, "192.0.2.3"], &[v4], &[]), (two.to_owned(), None));
    }
}

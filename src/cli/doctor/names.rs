//! Do the hosts in the secrets resolve to this machine? This is the cheapest test of a censor
//! (COMPATIBILITY 4.5, PROTOCOL 15.10).

use std::net::IpAddr;
use std::time::Duration;

use crate::cli::doctor::context::CheckContext;
use crate::cli::doctor::findings::Section;
use crate::util::json::Json;

/// Compares the addresses of every distinct host with the public addresses of this machine.
pub(super) fn check(context: &mut CheckContext) -> Vec<Section> {
    let mut section = Section::new("sni-dns", "Validate SNI-DNS match");
    let own = context.own_addrs();
    let public = own.addrs.public();
    let error = match &own.error {
        Some(e) => e.to_string(),
        None => "the public address of this machine is unknown".to_owned(),
    };
    let hosts = context.hosts();
    let found = context.standalone.lookup(&hosts, LIMIT);
    for (host, ips) in hosts.iter().zip(found) {
        compare(host, &ips, &public, &error, &mut section);
    }
    vec![section]
}

/// `error`: why `public` is empty.
fn compare(host: &str, ips: &[IpAddr], public: &[IpAddr], error: &str, section: &mut Section) {
    let finding = if ips.is_empty() {
        section
            .unknown(host, "the name cannot be resolved")
            .remedy("correct the host in the secret, or check network.dns")
    } else if public.is_empty() {
        section.unknown(host, error).remedy(
            "set public-ipv4 or public-ipv6, or set network.public-ip-url to another service",
        )
    } else {
        let own: Vec<IpAddr> = public.iter().map(IpAddr::to_canonical).collect();
        match ips.iter().find(|ip| own.contains(&ip.to_canonical())) {
            Some(ip) => section.ok(format!("{host} resolves to {ip}, which is this machine")),
            None => section
                .fail(format!(
                    "{host} resolves to {}, but this machine is {}",
                    joined(ips),
                    joined(public)
                ))
                .remedy(
                    "a censor can compare the two: use a host name that resolves to this machine, \
                     with a web server behind [domain-fronting]",
                ),
        }
    };
    let texts = |ips: &[IpAddr]| Json::List(ips.iter().map(Json::text).collect());
    finding.fact("host", Json::text(host));
    finding.fact("resolved", texts(ips)).fact("public", texts(public));
}

fn joined(ips: &[IpAddr]) -> String {
    let texts: Vec<String> = ips.iter().map(IpAddr::to_string).collect();
    texts.join(", ")
}

const LIMIT: Duration = Duration::from_secs(10);

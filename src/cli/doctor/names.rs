//! Do the names in the secrets lead to this machine? That is the cheapest test that a censor has
//! (spec: cli 5, protocol 15.10).

use std::net::IpAddr;
use std::time::Duration;

use crate::cli::doctor::context::CheckContext;
use crate::cli::doctor::findings::Section;
use crate::cli::json::Json;

/// Compares the addresses of every distinct host with our own public ones.
pub fn check(patient: &mut CheckContext) -> Vec<Section> {
    let mut section = Section::new("sni-dns", "Validate SNI-DNS match");
    let (reach, outcome) = patient.reach();
    let public = reach.public();
    let why = outcome.clone().err().unwrap_or_else(|| "our public address is not known".to_owned());
    let hosts = patient.hosts();
    let found = patient.alone.lookup(&hosts, LIMIT);
    for (host, ips) in hosts.iter().zip(found) {
        compare(host, &ips, &public, &why, &mut section);
    }
    vec![section]
}

fn compare(host: &str, ips: &[IpAddr], public: &[IpAddr], why: &str, section: &mut Section) {
    let finding = if ips.is_empty() {
        section
            .unknown(host, "its name cannot be found")
            .remedy("correct the name in the secret, or look at network.dns")
    } else if public.is_empty() {
        section.unknown(host, why).remedy(
            "state public-ipv4 or public-ipv6 in the file, or a page that tells it in \
             network.public-ip-url",
        )
    } else {
        let own: Vec<IpAddr> = public.iter().map(IpAddr::to_canonical).collect();
        match ips.iter().find(|ip| own.contains(&ip.to_canonical())) {
            Some(ip) => section.ok(format!("{host} leads to {ip}, which is this machine")),
            None => section
                .fail(format!(
                    "{host} leads to {}, and this machine is {}",
                    listed(ips),
                    listed(public)
                ))
                .remedy(
                    "a censor who compares the two knows that this is not the site: use a name of \
                     your own that leads here, with a web server behind [domain-fronting]",
                ),
        }
    };
    let texts = |ips: &[IpAddr]| Json::List(ips.iter().map(Json::text).collect());
    finding.fact("host", Json::text(host));
    finding.fact("resolved", texts(ips)).fact("public", texts(public));
}

fn listed(ips: &[IpAddr]) -> String {
    let texts: Vec<String> = ips.iter().map(IpAddr::to_string).collect();
    texts.join(", ")
}

const LIMIT: Duration = Duration::from_secs(10);

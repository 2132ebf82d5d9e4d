//! Do the hosts in the secrets resolve to this machine? This is the cheapest test of a censor
//! (COMPATIBILITY 4.5, PROTOCOL 15.10).

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::cli::doctor::context::CheckContext;
use crate::cli::doctor::dns;
use crate::cli::doctor::findings::{Finding, Section};
use crate::cli::doctor::open_probe::OpenProbe;
use crate::cli::public_addrs;
use crate::daemon::fetch::guidance::{Comparison, SILENT_V6, joined};
use crate::daemon::fetch::task::FetchTask;
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
    let limit = context.limit(LIMIT);
    let found = context.standalone.lookup(&hosts, limit);
    let mut looked_up = Vec::new();
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
        looked_up.push((host.clone(), ips));
    }
    check_ipv6(&looked_up, context, &mut section);
    vec![section]
}

/// Compares the addresses of a name with ours: `public`, and `more` of them.
fn compare(host: &str, ips: &[IpAddr], public: &[IpAddr], more: &[IpAddr], section: &mut Section) {
    let compared = Comparison::of(ips, &[public, more].concat());
    let (unknown, elsewhere) = (compared.unknown(), &compared.elsewhere);
    let finding = if elsewhere.is_empty() {
        match &unknown {
            None => {
                section.ok(format!("{host} resolves to {}, which is this machine", joined(ips)))
            }
            Some(unknown) => section.warn(format!("{host}: {unknown}")),
        }
    } else if elsewhere.len() == ips.len() {
        let (all, own) = (joined(ips), joined(public));
        section.fail(format!("{host} resolves to {all}, but this machine is {own}")).remedy(
            "a censor can compare the two: use a host name that resolves to this machine, with a \
             web server behind [domain-fronting]",
        )
    } else {
        let (others, own) = (joined(elsewhere), joined(public));
        let unknown = unknown.map_or_else(String::new, |unknown| format!("; {unknown}"));
        let text = format!(
            "{host} also resolves to {others}, which does not lead here: this machine is \
             {own}{unknown}"
        );
        section.fail(text).remedy(
            "clients, and a censor, may use any address of the name: remove the A or AAAA record \
             that leads elsewhere, or set public-ipv4 or public-ipv6 if it is this machine's",
        )
    };
    add_facts(finding, host, ips, public);
}

/// Reports the IPv6 addresses of names that take no connection.
fn check_ipv6(
    looked_up: &[(String, Vec<IpAddr>)],
    context: &mut CheckContext,
    section: &mut Section,
) {
    let own = context.own_addrs().addrs.public();
    let (own_port, port) = (context.own_addrs().addrs.port, context.settings.front.port);
    let (mut targets, mut probes) = (Vec::new(), Vec::new());
    for (host, ips) in looked_up {
        for ip in ips.iter().filter(|ip| ip.to_canonical().is_ipv6()) {
            // A front with another name is behind the proxy.
            let front = context.settings.front.host.as_ref();
            let is_ours = own.contains(ip) || front.is_some_and(|front| front != host);
            // `check` runs before the proxy does.
            if is_ours && context.options.is_quick {
                continue;
            }
            let addr = SocketAddr::new(*ip, if is_ours { own_port } else { port });
            match context.standalone.check_route(addr) {
                Ok(()) => {
                    let (addrs, tls, preface, limit) = (vec![addr], None, &[][..], LIMIT);
                    targets.push((host, addr));
                    probes.push(OpenProbe { addrs, tls, preface, limit, is_open: false });
                }
                Err(e) => {
                    let text = format!("{host}: {ip} is not checked: {e}");
                    section.skip(text).fact("host", Json::text(host));
                }
            }
        }
    }
    let mut tasks: Vec<&mut dyn FetchTask> = Vec::new();
    probes.iter_mut().for_each(|probe| tasks.push(probe));
    let limit = context.limit(LIMIT);
    let outcomes = context.standalone.run(&mut tasks, limit);
    for (((host, addr), probe), outcome) in targets.iter().zip(&probes).zip(outcomes) {
        let ip = addr.ip();
        let finding = match outcome {
            Err(e) if !probe.is_open => {
                let Some((what, remedy)) = SILENT_V6.split_once(": ") else { continue };
                section.warn(format!("{host}: {what} ({addr}: {e})")).remedy(remedy)
            }
            _ => section.ok(format!("{host} answers at its IPv6 address {ip}")),
        };
        finding.fact("host", Json::text(host)).fact("address", Json::text(ip));
    }
}

fn add_facts(finding: &mut Finding, host: &str, ips: &[IpAddr], public: &[IpAddr]) {
    let texts = |ips: &[IpAddr]| Json::List(ips.iter().map(Json::text).collect());
    finding.fact("host", Json::text(host));
    finding.fact("resolved", texts(ips)).fact("public", texts(public));
}

const LIMIT: Duration = Duration::from_secs(10);

//! Do the name servers answer? Asks each of them for a name, so that a fault of a server is not
//! mistaken for a fault of a name.

use std::time::Duration;

use crate::cli::doctor::context::{CheckContext, format_us};
use crate::cli::doctor::findings::Section;
use crate::config::settings::{ListSource, NameServer, Settings, UpstreamSettings};
use crate::daemon::resolver;
use crate::proto::dns;
use crate::proto::url::Url;
use crate::util::json::Json;

pub(super) fn check(context: &mut CheckContext) -> Vec<Section> {
    let mut section = Section::new("dns", "Validate name servers");
    let settings = &context.settings;
    let mut names = context.hosts();
    names.extend(settings.front.host.clone());
    let name = names.iter().find(|name| is_name(name));
    let name = name.map_or_else(|| ANY_NAME.to_owned(), String::clone);
    let (servers, remedy) = match &settings.dns.server {
        NameServer::System => {
            names.extend(other_names(settings));
            if names.iter().all(|name| !is_name(name) || resolver::is_known_locally(name)) {
                section.skip("the config has no name that needs a name server");
                return vec![section];
            }
            let servers = resolver::system_servers().into_iter().map(NameServer::Udp);
            (servers.collect(), "correct /etc/resolv.conf, or set network.dns to another server")
        }
        server => (vec![server.clone()], "start the server, or set network.dns to another one"),
    };
    for server in servers {
        let shown = label(&server);
        let finding = match context.standalone.ask_name_server(server, &name, LIMIT) {
            Ok(took) => {
                let us = took.as_micros() as u64;
                let finding = section.ok(format!("{shown} answers in {}", format_us(us)));
                finding.fact("rtt_us", Json::Number(us))
            }
            Err(why) => {
                // Without the name of the server, which it begins with.
                let why = why.split_once(": ").map_or(why.as_str(), |(_, why)| why);
                let known = REMEDIES.iter().find(|(words, _)| why.contains(words));
                let remedy = known.map_or(remedy, |(_, remedy)| remedy);
                section.fail(format!("{shown}: {why}")).remedy(remedy)
            }
        };
        finding.fact("server", Json::text(shown));
    }
    vec![section]
}

fn is_name(name: &str) -> bool {
    name.parse::<std::net::IpAddr>().is_err() && dns::is_valid_name(name)
}

/// Names of proxies, lists and pages.
fn other_names(settings: &Settings) -> Vec<String> {
    let proxies = settings.upstreams.iter().filter_map(|upstream| match upstream {
        UpstreamSettings::Socks5(proxy) => Some(&proxy.server.host),
        UpstreamSettings::Direct => None,
    });
    let lists = [&settings.blocklist, &settings.allowlist].into_iter().flatten();
    let lists = lists.flat_map(|list| &list.sources).filter_map(|source| match source {
        ListSource::Web(url) => Some(&url.host),
        ListSource::File(_) => None,
    });
    let pages = settings.dc_list.iter().chain(settings.shape.map(|_| &settings.page_timing.pages));
    let pages = pages.flatten().map(|url: &Url| &url.host);
    proxies.chain(lists).chain(pages).cloned().collect()
}

/// As in the config, without the path of a URL.
fn label(server: &NameServer) -> String {
    match server {
        NameServer::System => "the system's server".to_owned(),
        NameServer::Udp(addr) => format!("name server udp://{addr}"),
        NameServer::Tls(server) => format!("name server tls://{server}"),
        NameServer::Https(url) => format!("name server https://{}", url.server(HTTPS_PORT)),
    }
}

/// What is in the text of a fault, and what to do about it.
const REMEDIES: [(&str, &str); 7] = [
    ("tls:// address", "write tls:// and no path in network.dns, or choose another server"),
    (
        "network.ca-file",
        "let network.ca-file be a PEM file with a certificate that the account of mtbox can read",
    ),
    (
        "certificate",
        "write the name or the address of the certificate in network.dns; put the authority of a \
         private one into network.ca-file; check the clock",
    ),
    ("path of the URL", "correct the path in network.dns, which most servers call /dns-query"),
    (
        "no TLS at this port",
        "write the port of its TLS, by default 853 for tls:// and 443 for https://, or udp:// for \
         a server without TLS",
    ),
    (
        "HTTP status",
        "correct the server, of which the HTTP status says more, or set network.dns to another one",
    ),
    (
        "it answers",
        "let the server answer this machine: check its access rules and its forwarders; or set \
         network.dns to another one",
    ),
];
/// For a name that could not be looked up since no server answered.
pub(super) const SERVER_REMEDY: &str =
    "the name server fails, not the name: see \"Validate name servers\"";
/// For a config without names.
const ANY_NAME: &str = "telegram.org";
/// For one server: all attempts of a lookup.
const LIMIT: Duration = Duration::from_secs(9);
const HTTPS_PORT: u16 = 443;

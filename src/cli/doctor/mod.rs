//! `mtbox doctor CONFIG`: checks everything that a config depends on, and prints findings with
//! remedies, in the order of mtg-multi (COMPATIBILITY 4.4). One file per check; a failed check does
//! not stop the others. Findings contain no secrets and no passwords.

mod censor;
mod clock;
mod context;
mod deprecated;
mod dns;
mod files;
mod findings;
mod fronts;
mod ipv6;
mod limits;
mod listeners;
mod lists;
mod names;
mod open_probe;
mod telegram;

use std::path::PathBuf;
use std::time::Duration;

use crate::cli::args::{Flag, ParsedArgs};
use crate::cli::config_file;
use crate::cli::failure::Failure;
use crate::cli::output::print;
use crate::config::load::Loaded;
use crate::daemon::resolver::lookup::LookupFault;
use crate::proto::url::Url;
use crate::util::host_port::HostPort;
use crate::util::json::Json;
use context::{CheckContext, DoctorOptions};
use findings::{Section, exit_code, printable};

/// Runs the checks and prints their findings. Exit codes: see [`exit_code`].
pub(super) fn doctor(args: &ParsedArgs) -> Result<(), Failure> {
    let options = options(args)?;
    let path = config_file::path(args)?;
    let loaded = config_file::load(&path)?;
    let mut context = CheckContext::new(loaded, path, options)
        .map_err(|e| Failure::error(format!("cannot start the checks: {e}")))?;
    let checks = if args.is_on("as-censor") { AS_CENSOR } else { CHECKS };
    let is_json = args.is_on("json");
    let mut sections = Vec::new();
    for check in checks {
        let found = check(&mut context);
        // Text is printed after each check, since all of them together may take a minute.
        if !is_json {
            found.iter().for_each(|section| print(&section.print()));
        }
        sections.extend(found);
    }
    let code = exit_code(sections.iter().flat_map(Section::statuses));
    if is_json {
        print(&format!("{:#}\n", document(sections, code)));
    }
    match code {
        0 => Ok(()),
        code => Err(Failure::Exit(code)),
    }
}

/// What the looks at names and fronts show, in one line for `mtbox check`, which takes a few
/// seconds at most. `None` = nothing is wrong, or it cannot be told.
pub(super) fn advice(loaded: Loaded, path: PathBuf) -> Option<String> {
    let options = DoctorOptions { skip_native: true, ntp: None, target: None, is_quick: true };
    let mut context = CheckContext::new(loaded, path, options).ok()?;
    let mut files = Section::new("files", "");
    files::check_ca_file(&context, &mut files);
    let mut sections = vec![files];
    if has_names_and_addresses(&mut context) {
        sections.extend(names::check(&mut context));
        sections.extend(fronts::check(&mut context));
    }
    let problems: Vec<&str> = sections.iter().flat_map(Section::problems).collect();
    (!problems.is_empty()).then(|| printable(&problems.join("; ")))
}

/// Whether the config or the interfaces have a public address, and a name server answers.
fn has_names_and_addresses(context: &mut CheckContext) -> bool {
    if context.own_addrs().addrs.public().is_empty() {
        return false;
    }
    let (hosts, limit) = (context.hosts(), context.limit(Duration::MAX));
    let found = context.standalone.lookup(&hosts, limit);
    !found.iter().all(|found| matches!(found, Err(LookupFault::Server(_))))
}

fn options(args: &ParsedArgs) -> Result<DoctorOptions, Failure> {
    let ntp = args.parsed("ntp-server", |text| host_port(text, NTP_PORT))?;
    let default_ntp = args.is_on("ntp").then(|| HostPort::new(NTP_SERVER, NTP_PORT));
    Ok(DoctorOptions {
        skip_native: args.is_on("skip-native-check"),
        ntp: ntp.or(default_ntp),
        target: args.parsed("target", |text| host_port(text, TLS_PORT))?,
        is_quick: false,
    })
}

/// Parses `HOST` or `HOST:PORT`, with an IPv6 address in brackets.
fn host_port(text: &str, default_port: u16) -> Result<HostPort, &'static str> {
    let url = Url::parse(&format!("x://{text}"));
    let url = url.filter(|url| !url.host.is_empty() && url.path.is_empty() && url.user.is_none());
    url.map(|url| HostPort { port: url.port.unwrap_or(default_port), host: url.host })
        .ok_or("not HOST or HOST:PORT")
}

fn document(sections: Vec<Section>, code: u8) -> Json<'static> {
    let verdict = match code {
        0 => "ok",
        1 => "failed",
        _ => "warning",
    };
    Json::Object(vec![
        ("version", env!("CARGO_PKG_VERSION").into()),
        ("verdict", verdict.into()),
        ("exit_code", Json::Number(code.into())),
        ("checks", Json::List(sections.into_iter().map(Section::json).collect())),
    ])
}

/// Returns one section, or one per subject, such as per proxy.
type Check = fn(&mut CheckContext) -> Vec<Section>;

/// The checks of mtg-multi, followed by our own.
const CHECKS: &[Check] = &[
    deprecated::check,
    clock::check,
    telegram::check_native,
    telegram::check_proxies,
    fronts::check,
    names::check,
    dns::check,
    lists::check,
    files::check,
    limits::check,
    listeners::check,
    ipv6::check,
];

const AS_CENSOR: &[Check] = &[censor::check];

/// The flag of mtg-multi is `skip-native-check`.
pub(super) const FLAGS: &[Flag] = &[
    Flag::switch(None, "json", "print one JSON object"),
    Flag::switch(None, "skip-native-check", "do not connect to Telegram without the proxies"),
    Flag::switch(None, "ntp", "compare the clock with the time server 0.pool.ntp.org"),
    Flag::with_value(None, "ntp-server", "HOST[:PORT]", "compare the clock with this time server"),
    Flag::switch(None, "as-censor", "only probe the proxy and the front, and report differences"),
    Flag::with_value(None, "target", "HOST[:PORT]", "probe this address, not the first listener"),
];

pub(super) const NOTES: &str = "Connects to Telegram, the proxies, the fronts and the web pages of \
lists. If the config has no\npublic address, queries network.public-ip-url.\n\
Exit code: 0 = no problem, 1 = a check failed, 2 = warnings only.";

const NTP_SERVER: &str = "0.pool.ntp.org";
const NTP_PORT: u16 = 123;
const TLS_PORT: u16 = 443;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_may_have_a_port() {
        for (text, host, port) in [
            ("time.example", "time.example", 123),
            ("time.example:1123", "time.example", 1123),
            ("192.0.2.1", "192.0.2.1", 123),
            ("[2001:db8::1]", "2001:db8::1", 123),
            ("[2001:db8::1]:9", "2001:db8::1", 9),
        ] {
            assert_eq!(host_port(text, 123), Ok(HostPort::new(host, port)), "{text}");
        }
        for text in ["", ":1", "a:0", "a:x", "a:65536", "2001:db8::1", "a/b", "u:p@a", "a b"] {
            assert!(host_port(text, 123).is_err(), "{text}");
        }
    }
}

//! `mtbox doctor CONFIG`: looks at everything that a config depends on, in the order of the
//! reference (spec: cli 4), and says what is wrong and what to do. One file per check; a check
//! that fails stops no other. Nothing secret is ever said.

mod censor;
mod clock;
mod context;
mod deprecated;
mod files;
mod findings;
mod fronts;
mod ipv6;
mod limits;
mod listeners;
mod lists;
mod names;
mod telegram;

use crate::cli::args::{Flag, ParsedArgs};
use crate::cli::config_file;
use crate::cli::failure::Failure;
use crate::cli::json::Json;
use crate::cli::output::print;
use crate::proto::url::Url;
use context::{CheckContext, DoctorOptions};
use findings::{Section, exit_code};

/// Runs the checks and prints what they find. Leaves with 0, or 1 when something has failed, or 2
/// when there are warnings only.
pub fn doctor(given: &ParsedArgs) -> Result<(), Failure> {
    let wishes = wishes(given)?;
    let path = config_file::path(given)?;
    let loaded = config_file::load(&path)?;
    let mut patient = CheckContext::new(loaded, path, wishes)
        .map_err(|e| Failure::error(format!("cannot look at anything: {e}")))?;
    let checks = if given.is_on("as-censor") { AS_CENSOR } else { CHECKS };
    let is_json = given.is_on("json");
    let mut sections = Vec::new();
    for check in checks {
        let found = check(&mut patient);
        if !is_json {
            found.iter().for_each(|section| print(&section.print()));
        }
        sections.extend(found);
    }
    let code = exit_code(sections.iter().flat_map(Section::verdicts));
    if is_json {
        print(&document(sections, code).print());
    }
    match code {
        0 => Ok(()),
        code => Err(Failure::Exit(code)),
    }
}

fn wishes(given: &ParsedArgs) -> Result<DoctorOptions, Failure> {
    let ntp = given.parsed("ntp-server", |text| place(text, NTP_PORT))?;
    let asks = given.is_on("ntp").then(|| (NTP_SERVER.to_owned(), NTP_PORT));
    Ok(DoctorOptions {
        skip_native: given.is_on("skip-native-check"),
        ntp: ntp.or(asks),
        target: given.parsed("target", |text| place(text, TLS_PORT))?,
    })
}

/// A host and a port; a literal IPv6 address stands in brackets.
fn place(text: &str, port: u16) -> Result<(String, u16), &'static str> {
    let url = Url::parse(&format!("x://{text}"));
    let url = url.filter(|url| !url.host.is_empty() && url.path.is_empty() && url.user.is_none());
    url.map(|url| (url.port.unwrap_or(port), url.host))
        .map(|(port, host)| (host, port))
        .ok_or("not HOST or HOST:PORT")
}

fn document(sections: Vec<Section>, code: u8) -> Json {
    let verdict = match code {
        0 => "ok",
        1 => "failed",
        _ => "warning",
    };
    Json::object([
        ("version", Json::text(env!("CARGO_PKG_VERSION"))),
        ("verdict", Json::text(verdict)),
        ("exit_code", Json::Number(code.into())),
        ("checks", Json::List(sections.into_iter().map(Section::json).collect())),
    ])
}

/// What a check is: it may ask anything of the patient, and says what it has found.
type Check = fn(&mut CheckContext) -> Vec<Section>;

/// The checks of the reference, then ours.
const CHECKS: &[Check] = &[
    deprecated::check,
    clock::check,
    telegram::check_native,
    telegram::check_proxies,
    fronts::check,
    names::check,
    lists::check,
    files::check,
    limits::check,
    listeners::check,
    ipv6::check,
];

const AS_CENSOR: &[Check] = &[censor::check];

/// The flag of the reference, and ours.
pub const FLAGS: &[Flag] = &[
    Flag::switch(None, "json", "print one JSON object"),
    Flag::switch(None, "skip-native-check", "do not try Telegram without the proxies"),
    Flag::switch(None, "ntp", "compare the clock with a time server, 0.pool.ntp.org"),
    Flag::with_value(None, "ntp-server", "HOST[:PORT]", "compare it with this one"),
    Flag::switch(None, "as-censor", "only this: probe the proxy and the site, tell differences"),
    Flag::with_value(None, "target", "HOST[:PORT]", "probe this, not the first listener"),
];

/// For the help.
pub const NOTES: &str = "It connects to Telegram, to the proxies, to the sites in the secrets and \
to the pages of lists,\nand asks network.public-ip-url for the own address where the file does not \
state it.\nExit code: 0 = all is well, 1 = something failed, 2 = there are warnings only.";

const NTP_SERVER: &str = "0.pool.ntp.org";
const NTP_PORT: u16 = 123;
const TLS_PORT: u16 = 443;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_host_and_perhaps_a_port() {
        for (text, host, port) in [
            ("time.example", "time.example", 123),
            ("time.example:1123", "time.example", 1123),
            ("192.0.2.1", "192.0.2.1", 123),
            ("[2001:db8::1]", "2001:db8::1", 123),
            ("[2001:db8::1]:9", "2001:db8::1", 9),
        ] {
            assert_eq!(place(text, 123), Ok((host.to_owned(), port)), "{text}");
        }
        for text in ["", ":1", "a:0", "a:x", "a:65536", "2001:db8::1", "a/b", "u:p@a", "a b"] {
            assert!(place(text, 123).is_err(), "{text}");
        }
    }
}

//! `mtbox simple-run BIND SECRET`: runs the proxy without a config file. The arguments set the same
//! draft of the settings as a file, so defaults and checks are the same (COMPATIBILITY 4.7).

use std::time::Duration;

use crate::cli::args::{Flag, ParsedArgs};
use crate::cli::failure::Failure;
use crate::cli::log_flags;
use crate::cli::secret_text;
use crate::config::addresses;
use crate::config::draft::{LocatedSecret, SettingsDraft};
use crate::config::keys::{self, PREFER_IP, SHORT};
use crate::config::report::{Diagnostics, Severity};
use crate::config::settings::{Settings, SettingsSource};
use crate::config::units;
use crate::config::urls;
use crate::config::value::{Parse, choose};
use crate::proto::secret::Secret;

/// Runs the proxy until a signal ends it.
pub(super) fn simple_run(args: &ParsedArgs) -> Result<(), Failure> {
    let (settings, warnings) = settings(args)?;
    let log = log_flags::read(args)?;
    let source = SettingsSource { config_path: None, warnings, log, user: None };
    crate::daemon::server::run(settings, source).map_err(|e| Failure::error(e.to_string()))
}

/// The settings and the warnings. As in mtg-multi, malformed numbers and times are usage errors,
/// other invalid values are run-time errors.
fn settings(args: &ParsedArgs) -> Result<(Settings, Vec<String>), Failure> {
    let mut warnings = Vec::new();
    let mut draft = keys::defaults();
    let bind = addresses::socket_addr(args.text_at(0, "BIND")?);
    draft.settings.binds = vec![bind.map_err(|fault| Failure::error(format!("BIND: {fault}")))?];
    let secret = secret_text::resolve("SECRET", args.text_at(1, "SECRET")?)?;
    let secret =
        Secret::parse(&secret).map_err(|fault| Failure::error(format!("SECRET: {fault}")))?;
    draft.secret = Some(LocatedSecret { secret, at: 0 });
    draft.debug = args.is_on("debug");
    draft.settings.fallback_on_unknown_dc = true;
    draft.settings.concurrency = number(args, "concurrency")?.unwrap_or(CONCURRENCY).into();
    if let Some(port) = number(args, "domain-fronting-port")? {
        draft.settings.front.port = port;
    }
    draft.settings.front.host = valid(args, "domain-fronting-host", addresses::host)?;
    draft.settings.timeouts.tcp = timeout(args, &mut warnings)?.unwrap_or(TIMEOUT);
    draft.settings.timeouts.http = draft.settings.timeouts.tcp;
    let replay_bytes = valid(args, "antireplay-cache-size", units::bytes)?;
    if let Some(bytes) = replay_bytes.filter(|bytes| *bytes > 0) {
        draft.replay.max_bytes = bytes;
    }
    if let Some(word) = args.text("prefer-ip")? {
        choose(PREFER_IP, word, &mut draft).map_err(|words| {
            Failure::error(format!("--prefer-ip: unknown word; write one of {words}"))
        })?;
    }
    network_flags(args, &mut draft, &mut warnings)?;

    let mut report = Diagnostics::default();
    let settings = draft.finish(&mut report);
    let (errors, others): (Vec<_>, Vec<_>) =
        report.into_pending().into_iter().partition(|note| note.severity == Severity::Error);
    warnings.extend(others.into_iter().map(|note| note.text));
    settings
        .map(|settings| (settings, warnings))
        .ok_or_else(|| Failure::Errors(errors.into_iter().map(|note| note.text).collect()))
}

fn network_flags(
    args: &ParsedArgs,
    draft: &mut SettingsDraft,
    warnings: &mut Vec<String>,
) -> Result<(), Failure> {
    for entry in args.list("socks5-proxy") {
        let upstream = urls::proxy(&entry)
            .map_err(|fault| Failure::error(format!("--socks5-proxy: {fault}")))?;
        draft.settings.upstreams.push(upstream);
    }
    if let Some(ip) = args.parsed("doh-ip", addresses::ip)? {
        let server = urls::doh_at(ip);
        draft.settings.dns.server =
            server.map_err(|fault| Failure::error(format!("--doh-ip: {fault}")))?;
    }
    if valid(args, "domain-fronting-ip", addresses::ip)?.is_some() {
        warnings.push("--domain-fronting-ip: no effect; use --domain-fronting-host".to_string());
    }
    draft.enabled.proxy_protocol = args.is_on("proxy-protocol-listener");
    Ok(())
}

/// As [`ParsedArgs::parsed`], but an invalid value is a run-time error.
fn valid<T>(args: &ParsedArgs, long: &str, parse: Parse<T>) -> Result<Option<T>, Failure> {
    let Some(text) = args.text(long)? else { return Ok(None) };
    parse(text).map(Some).map_err(|fault| Failure::error(format!("--{long}: {fault}")))
}

/// A number up to 65535; 0 means the default. Text that is no number is a usage error.
fn number(args: &ParsedArgs, long: &str) -> Result<Option<u16>, Failure> {
    let number = args.parsed(long, |text| text.parse::<u64>().map_err(|_| "not a number"))?;
    match number {
        None | Some(0) => Ok(None),
        Some(number) => match u16::try_from(number) {
            Ok(number) => Ok(Some(number)),
            Err(_) => Err(Failure::error(format!("--{long}: must be at most 65535"))),
        },
    }
}

fn timeout(args: &ParsedArgs, warnings: &mut Vec<String>) -> Result<Option<Duration>, Failure> {
    let time = args.parsed("timeout", units::duration)?;
    if time == Some(Duration::ZERO) {
        warnings.push("--timeout: 0 is not allowed; using the default (10s)".to_string());
    }
    if time.is_some_and(|time| !time.is_zero() && time < SHORT) {
        warnings.push("--timeout: too short; using 100ms".to_string());
    }
    Ok(time.filter(|time| !time.is_zero()).map(|time| time.max(SHORT)))
}

/// The flags of mtg-multi, followed by our own.
pub(super) const FLAGS: &[Flag] = &[
    Flag::switch(Some('d'), "debug", "log at level debug"),
    Flag::with_value(Some('c'), "concurrency", "N", "maximum number of connections, default: 8192"),
    Flag::with_value(Some('b'), "tcp-buffer", "SIZE", "no effect"),
    Flag::with_value(
        Some('i'),
        "prefer-ip",
        "WORD",
        "prefer-ipv4, prefer-ipv6, only-ipv4 or only-ipv6",
    ),
    Flag::with_value(Some('p'), "domain-fronting-port", "PORT", "port of the front, default: 443"),
    Flag::with_value(None, "domain-fronting-host", "HOST", "front instead of the host in SECRET"),
    Flag::with_value(None, "domain-fronting-ip", "IP", "no effect"),
    Flag::with_value(Some('n'), "doh-ip", "IP", "resolve names through https://IP"),
    Flag::with_value(
        Some('t'),
        "timeout",
        "TIME",
        "time limit of connects and downloads, default: 10s",
    ),
    Flag::with_value(Some('s'), "socks5-proxy", "URL", "SOCKS5 proxy for connections to Telegram"),
    Flag::with_value(
        Some('a'),
        "antireplay-cache-size",
        "SIZE",
        "memory of the anti-replay cache, default: 1MB",
    ),
    Flag::switch(None, "proxy-protocol-listener", "accept PROXY protocol headers"),
    log_flags::LEVEL,
    log_flags::FORMAT,
    log_flags::TO,
];

const CONCURRENCY: u16 = 8192;
const TIMEOUT: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::{self, Argument, Command, Invocation};
    use crate::config::HAS_TLS;
    use crate::config::settings::NameServer;

    const SECRET: &str = "ee00112233445566778899aabbccddeeff6578616d706c652e6f7267";

    const TABLE: &[Command] = &[Command {
        arguments: &[Argument::required("BIND", ""), Argument::required("SECRET", "")],
        flags: FLAGS,
        ..Command::named("simple-run")
    }];

    fn read(flags: &[&str]) -> Result<(Settings, Vec<String>), Failure> {
        let words = ["simple-run", "0.0.0.0:3128", SECRET].iter().chain(flags);
        match args::read(TABLE, words.map(Into::into)) {
            Ok(Invocation::Run(_, args)) => settings(&args),
            _ => panic!("{flags:?}"),
        }
    }

    #[test]
    fn bare_arguments_mean_the_defaults_of_the_reference() {
        let (settings, warnings) = read(&[]).unwrap();
        assert_eq!(warnings, [""; 0]);
        assert_eq!(settings.users[0].name, "default");
        assert_eq!(settings.binds, ["0.0.0.0:3128".parse().unwrap()]);
        assert_eq!((settings.concurrency, settings.front.port), (8192, 443));
        assert!(settings.fallback_on_unknown_dc && settings.replay.is_some());
        assert_eq!(settings.timeouts.tcp, Duration::from_secs(10));
        assert_eq!(settings.timeouts.idle, Duration::from_secs(300), "not the dial's");
    }

    #[test]
    fn every_flag_works_in_its_short_and_its_long_form() {
        for flags in [
            &["-d", "-c", "9", "-b", "4KB", "-i", "only-ipv4", "-p8443", "-t", "3s", "-a2MB"][..],
            &[
                "--debug",
                "--concurrency=9",
                "--tcp-buffer=4KB",
                "--prefer-ip",
                "Only-IPv4",
                "--domain-fronting-port=8443",
                "--timeout=3s",
                "--antireplay-cache-size=2MB",
            ],
        ] {
            let (settings, warnings) = read(flags).unwrap();
            assert_eq!(warnings, [""; 0]);
            assert_eq!(settings.log.level, crate::config::settings::LogLevel::Debug);
            assert_eq!((settings.concurrency, settings.front.port), (9, 8443));
            assert_eq!(settings.prefer_ip, crate::config::settings::PreferIp::OnlyIpv4);
            assert_eq!(settings.timeouts.tcp, Duration::from_secs(3));
            assert_eq!(settings.timeouts.http, Duration::from_secs(3));
            assert_eq!(settings.replay.unwrap().max_bytes, 2 << 20);
        }
        let (settings, _) = read(&["--domain-fronting-host", "127.0.0.1"]).unwrap();
        assert_eq!(settings.front.host.as_deref(), Some("127.0.0.1"));
    }

    #[test]
    fn a_timeout_that_is_too_short_is_raised_with_a_warning() {
        let (settings, warnings) = read(&["--timeout", "1ns"]).unwrap();
        assert_eq!(settings.timeouts.tcp, SHORT);
        assert_eq!(warnings, ["--timeout: too short; using 100ms"]);
    }

    #[test]
    fn the_network_flags_work() {
        let (settings, warnings) =
            read(&["--proxy-protocol-listener", "-s", "socks5://u:p@h", "-s", "direct"]).unwrap();
        assert_eq!(warnings, [""; 0]);
        assert!(settings.proxy_protocol.is_some_and(|one| one.trusted.is_empty()));
        assert_eq!(settings.upstreams.len(), 2);
    }

    /// COMPATIBILITY E2: an IPv6 address silently meant the system's name servers.
    #[test]
    fn doh_ip_may_be_of_either_family() {
        for ip in ["9.9.9.9", "2620:fe::fe"] {
            match read(&["-n", ip]) {
                Ok((settings, _)) if HAS_TLS => {
                    let NameServer::Https(url) = settings.dns.server else { panic!("{ip}") };
                    assert_eq!((url.host.as_str(), url.path.as_str()), (ip, "/dns-query"));
                }
                Err(Failure::Errors(lines)) if !HAS_TLS => {
                    assert!(lines[0].starts_with("--doh-ip: this build has no TLS"), "{lines:?}");
                }
                other => panic!("{ip}: {other:?}"),
            }
        }
    }

    #[test]
    fn flags_without_effect_cause_warnings_and_bad_proxies_are_refused() {
        let (_, warnings) = read(&["--domain-fronting-ip", "9.9.9.9", "-t0"]).unwrap();
        assert_eq!(warnings.len(), 2);
        read(&["-s", "direct,"]).unwrap();
        for flags in [["-s", "socks4://u:hunter2@h"], ["-s", "direct,http://u:hunter2@h"]] {
            let Err(Failure::Errors(lines)) = read(&flags) else { panic!("{flags:?}") };
            assert!(lines[0].starts_with("--socks5-proxy: ") && !lines[0].contains("hunter2"));
        }
    }

    #[test]
    fn malformed_numbers_are_usage_errors_and_bad_values_are_not() {
        for flags in [["-c", "x"], ["-p", "-1"], ["-t", "5"], ["-n", "x"]] {
            assert!(matches!(read(&flags), Err(Failure::Usage(_))), "{flags:?}");
        }
        for flags in [
            ["-c", "65536"],
            ["-i", "ipv4"],
            ["-a", "1"],
            ["--domain-fronting-host", "a/b"],
            ["--domain-fronting-ip", "x"],
        ] {
            assert!(matches!(read(&flags), Err(Failure::Errors(_))), "{flags:?}");
        }
    }
}

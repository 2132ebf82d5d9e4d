//! Loading config files: valid ones, invalid ones, and the diagnostics with their position.

use std::fs;
use std::path::Path;
use std::time::Duration;

use mtbox::config::HAS_TLS;
use mtbox::config::load::{self, Loaded};
use mtbox::config::settings::{HttpBind, LogLevel, LogSettings, NameServer, PreferIp, Settings};
use mtbox::util::host_port::HostPort;

#[path = "config/hints.rs"]
mod hints;
#[path = "config/hostile.rs"]
mod hostile;
#[path = "config/operator.rs"]
mod operator;
#[path = "config/outside.rs"]
mod outside;
#[path = "config/readme.rs"]
mod readme;
#[path = "config/rendered.rs"]
mod rendered;

/// Key 00112233445566778899aabbccddeeff, host example.org.
const SECRET: &str = "ee00112233445566778899aabbccddeeff6578616d706c652e6f7267";

fn minimal() -> String {
    format!("secret = \"{SECRET}\"\nbind-to = \"[::]:443\"\n")
}

fn load(text: &str) -> Result<Loaded, Vec<String>> {
    let as_text = |diagnostics: Vec<_>| diagnostics.iter().map(ToString::to_string).collect();
    load::load(text.as_bytes(), "mtbox.toml").map_err(as_text)
}

/// The settings of a file without diagnostics.
#[track_caller]
fn load_without_warnings(text: &str) -> Settings {
    let loaded = load(text).unwrap_or_else(|diagnostics| panic!("{diagnostics:#?}"));
    assert!(loaded.warnings.is_empty(), "{:#?}", loaded.warnings);
    loaded.settings
}

/// The diagnostics of a minimal file followed by these lines.
fn diagnostics_below(lines: &str) -> Vec<String> {
    diagnostics_of(&format!("{}{lines}", minimal()))
}

fn diagnostics_of(text: &str) -> Vec<String> {
    match load(text) {
        Ok(loaded) => loaded.warnings.iter().map(ToString::to_string).collect(),
        Err(diagnostics) => diagnostics,
    }
}

/// COMPATIBILITY E7: time limits that mtg-multi documents and does not apply.
#[test]
fn the_minimal_file_means_the_defaults() {
    let settings = load_without_warnings(&minimal());
    assert_eq!(settings.users.len(), 1);
    assert_eq!(settings.users[0].name, "default");
    assert_eq!(settings.users[0].secret.host(), b"example.org");
    assert_eq!(settings.binds, ["[::]:443".parse().unwrap()]);
    assert_eq!(settings.api_bind, None);
    assert!(
        settings.log == LogSettings::default()
            && !settings.fallback_on_unknown_dc
            && !settings.log_addresses
    );
    assert_eq!(settings.concurrency, 4096);
    assert_eq!(settings.prefer_ip, PreferIp::PreferIpv6);
    assert_eq!(settings.time_skew, Duration::from_secs(120));
    assert_eq!((settings.front.host, settings.front.port), (None, 443));
    assert!(settings.throttle.is_none());
    assert_eq!(settings.timeouts.tcp, Duration::from_secs(5));
    assert_eq!(settings.timeouts.http, Duration::from_secs(10));
    assert_eq!(settings.timeouts.idle, Duration::from_secs(300));
    assert_eq!(settings.timeouts.handshake, Duration::from_secs(10));
    let keep = settings.keep_alive;
    assert!(keep.enabled);
    assert_eq!((keep.idle, keep.interval, keep.count), (SECS_15, SECS_15, 9));
    assert_eq!(settings.not_sent_lowat, Some(131_072));
    assert!(!settings.re_encrypt && settings.coalesce_reads);
    assert_eq!(settings.replay.unwrap().max_bytes, 1 << 20);
    assert!(settings.dc_overrides.is_empty());
    assert_eq!((settings.dns.server, settings.buffer_bytes), (NameServer::System, None));
}

const SECS_15: Duration = Duration::from_secs(15);

#[test]
fn every_key_that_works_reaches_the_settings() {
    let settings = load_without_warnings(&format!(
        r#"
        DEBUG = true
        api-bind-to = "127.0.0.1:9090"
        Bind-To = ["192.0.2.10:0443", "[2001:db8::10]:443", "0.0.0.0:1", "[::]:1"]
        concurrency = 65535
        prefer-ip = "ONLY-IPv4"
        public-ipv4 = "192.0.2.10"
        public-ipv6 = "2001:db8::10"
        tolerate-time-skewness = "1 m 30 s"
        allow-fallback-on-unknown-dc = true
        log-addresses = true
        [domain-fronting]
        host = "127.0.0.1"
        port = 8443
        [throttle]
        max-connections = 2000
        check-interval = "7s"
        [network]
        dns = "udp://9.9.9.9:5353"
        tcp-not-sent-lowat = "256kib"
        re-encrypt = true
        moderation = "off"
        timeout = {{ tcp = "1s", http = "2s", idle = "3s", handshake = "4s" }}
        keep-alive.disabled = true
        keep-alive.idle = "30500ms"
        keep-alive.interval = "10s"
        keep-alive.count = 3
        [defense.anti-replay]
        max-size = "4mib"
        error-rate = 0.001
        [telegram.dc-overrides]
        203 = ["127.0.0.1:1", "[::1]:2"]
        2 = ["127.0.0.1:3"]
        [memory]
        buffers = "8mib"
        [SECRETS]
        zoe = "{SECRET}"
        "bob 2nd" = "7g8ODQwLCgkIBwYFBAMCAQB3d3cuZXhhbXBsZS5vcmc"
        "#
    ));
    let names: Vec<&str> = settings.users.iter().map(|user| user.name.as_str()).collect();
    assert_eq!(names, ["bob 2nd", "zoe"]);
    assert_eq!(settings.log.level, LogLevel::Debug);
    assert!(settings.fallback_on_unknown_dc && settings.log_addresses);
    assert_eq!(settings.binds[0], "192.0.2.10:443".parse().unwrap());
    assert_eq!(settings.binds.len(), 4);
    assert_eq!(settings.api_bind, Some(HttpBind::Tcp("127.0.0.1:9090".parse().unwrap())));
    assert_eq!((settings.concurrency, settings.prefer_ip), (65535, PreferIp::OnlyIpv4));
    assert_eq!(settings.public_ipv4, Some("192.0.2.10".parse().unwrap()));
    assert_eq!(settings.public_ipv6, Some("2001:db8::10".parse().unwrap()));
    assert_eq!(settings.time_skew, Duration::from_secs(90));
    assert_eq!((settings.front.host.as_deref(), settings.front.port), (Some("127.0.0.1"), 8443));
    let throttle = settings.throttle.unwrap();
    assert_eq!(throttle.max_connections, 2000);
    assert_eq!(throttle.check_interval, Duration::from_secs(7));
    assert_eq!(settings.dns.server, NameServer::Udp("9.9.9.9:5353".parse().unwrap()));
    assert_eq!(settings.not_sent_lowat, Some(262_144));
    assert!(settings.re_encrypt && !settings.coalesce_reads);
    assert_eq!(settings.timeouts.tcp, Duration::from_secs(1));
    assert_eq!(settings.timeouts.idle, Duration::from_secs(3));
    assert_eq!(settings.timeouts.handshake, Duration::from_secs(4));
    assert!(!settings.keep_alive.enabled);
    assert_eq!(settings.keep_alive.idle, Duration::from_secs(31), "whole seconds, upwards");
    assert_eq!(settings.keep_alive.interval, Duration::from_secs(10));
    assert_eq!(settings.keep_alive.count, 3);
    assert_eq!(settings.replay.unwrap().max_bytes, 4 << 20);
    let overrides = &settings.dc_overrides;
    assert_eq!(overrides[0], (2, vec!["127.0.0.1:3".parse().unwrap()]));
    assert_eq!(overrides[1].0, 203);
    assert_eq!(overrides[1].1.len(), 2);
    assert_eq!(settings.buffer_bytes, Some(8 << 20));
}

/// A file with every key of mtg-multi.
#[test]
fn the_largest_file_of_mtg_multi_loads() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/config/maximal.toml");
    let text = fs::read_to_string(path).unwrap();
    if !HAS_TLS {
        let diagnostics = load(&text).unwrap_err();
        let errors = diagnostics.iter().filter(|one| one.contains(": error: "));
        assert!(errors.clone().count() > 0);
        assert!(
            errors.clone().all(|one| one.contains("this build has no TLS")),
            "{diagnostics:#?}"
        );
        return;
    }
    let loaded = load(&text).unwrap();
    let warnings: Vec<String> = loaded.warnings.iter().map(|one| one.text.clone()).collect();
    assert_eq!(warnings, [""; 0]);
    let settings = loaded.settings;
    assert_eq!(settings.users.len(), 2);
    assert_eq!(settings.throttle.unwrap().max_connections, 2000);
    assert_eq!(settings.upstreams.len(), 2);
    assert_eq!(settings.dns.server, NameServer::Tls(HostPort::new("1.1.1.1", 853)));
    assert_eq!(settings.dc_list.unwrap().len(), 2);
    assert_eq!(settings.page_timing.pages.len(), 2);
    assert_eq!(settings.blocklist.unwrap().concurrency, 2);
    assert!(settings.allowlist.is_none());
}

/// Each line is valid, so there must be no diagnostics.
#[test]
fn valid_values_have_no_diagnostics() {
    for line in [
        "debug = false",
        "api-bind-to = \"\"",
        "prefer-ip = \"\"",
        "public-ipv4 = \"2001:db8::1\"",
        "concurrency = 1",
        "tolerate-time-skewness = \".5h\"",
        "tolerate-time-skewness = \"2562047h\"",
        "proxy-protocol-listener = false",
        "auto-update = false",
        "domain-fronting.host = \"bücher.example\"",
        "domain-fronting.host = \"::1\"",
        "domain-fronting.proxy-protocol = false",
        "throttle.max-connections = 0",
        "network.dns = \"\"",
        "network.dns = \"1.1.1.1\"",
        "network.dns = \"udp://[2606:4700::1111]\"",
        "network.tcp-not-sent-lowat = \"0b\"",
        "network.moderation = \"Auto\"",
        "defense.anti-replay.error-rate = 0",
        "defense.anti-replay.enabled = false",
        "defense.blocklist.enabled = false",
        "defense.blocklist = { enabled = true, urls = [\"http://a.example/x\", \"Cargo.toml\"] }",
        "network.bind-address = \"192.0.2.1\"",
        "network.proxies = [\"socks5://h:99\"]",
        "defense.blocklist.download-concurrency = 2",
        "defense.blocklist.update-each = \"24h\"",
        "defense.doppelganger = { urls = [], repeats-per-raid = 10, raid-each = \"6h\" }",
        "defense.doppelganger.drs = false",
        "stats.statsd.enabled = false",
        "stats.statsd.address = \"127.0.0.1:8888\"",
        "stats.statsd.metric-prefix = \"mtg2\"",
        "stats.statsd.tag-format = \"GraphITE\"",
        "stats.prometheus.http-path = \"//a/b//\"",
        "stats.prometheus.bind-to = \"[::1]:3129\"",
        "secrets = {}",
        "telegram.dc-overrides = {}",
    ] {
        assert_eq!(diagnostics_below(line), [""; 0], "{line}");
    }
}

/// Each line is invalid: the diagnostic has this column of line 3 and starts with this text.
#[test]
fn invalid_values_are_errors_with_their_position() {
    for (line, column, text) in [
        ("debug = \"true\"", 9, "debug: must be true or false"),
        ("debug = 1", 9, "debug: must be true or false"),
        ("[debug]", 1, "debug: must be a value, not a table"),
        ("concurrency = -1", 15, "concurrency: must be a whole number"),
        ("concurrency = 65536", 15, "concurrency: must be a whole number"),
        ("concurrency = 1.0", 15, "concurrency: must be a whole number"),
        ("concurrency = \"1\"", 15, "concurrency: must be a whole number"),
        ("api-bind-to = \"localhost:1\"", 15, "api-bind-to: not IP:port"),
        ("api-bind-to = \"::1:9090\"", 15, "api-bind-to: an IPv6 address needs brackets"),
        ("prefer-ip = \"ipv4\"", 13, "prefer-ip: unknown value; write one of prefer-ipv4, "),
        ("public-ipv4 = \"example.org\"", 15, "public-ipv4: not an IP address"),
        ("tolerate-time-skewness = 5", 26, "tolerate-time-skewness: must be a string in quotes"),
        ("tolerate-time-skewness = \"5\"", 26, "tolerate-time-skewness: not a duration"),
        ("tolerate-time-skewness = \"-5s\"", 26, "tolerate-time-skewness: not a duration"),
        ("domain-fronting-ip = \"x\"", 22, "domain-fronting-ip: not an IP address"),
        ("domain-fronting-port = 65536", 24, "domain-fronting-port: must be a whole number"),
        ("domain-fronting.host = \"a/b\"", 24, "domain-fronting.host: not a host"),
        ("domain-fronting = 5", 1, "domain-fronting: must be a table"),
        ("[[domain-fronting]]", 3, "domain-fronting: must be a table"),
        ("network.dns = \"1.1.1.1:53\"", 15, "network.dns: not a name server"),
        ("network.dns = \"dns://x\"", 15, "network.dns: not a name server"),
        ("network.doh-ip = \"x\"", 18, "network.doh-ip: not an IP address"),
        ("network.proxies = \"socks5://h\"", 19, "network.proxies: must be a list"),
        ("network.proxies = [\"http://h\"]", 20, "network.proxies, entry 1: not a SOCKS5 proxy"),
        (
            "network.proxies = [\"socks5://h?open_threshold=x\"]",
            20,
            "network.proxies, entry 1: open_threshold must be",
        ),
        (
            "network.proxies = [\"direct\", \"socks5://h?half_open_timeout=0\"]",
            30,
            "network.proxies, entry 2: half_open_timeout must be",
        ),
        (
            "network.bind-address = [\"1.1.1.1\", \"1.1.1.2\"]",
            24,
            "network.bind-address: at most one",
        ),
        ("network.bind-device = \"a/b\"", 23, "network.bind-device: not a network device"),
        ("network.tcp-congestion = \"BBR\"", 26, "network.tcp-congestion: not a congestion"),
        ("network.dns-bootstrap = \"dns.example\"", 25, "network.dns-bootstrap: not an IP"),
        ("network.ca-file = \"src\"", 19, "network.ca-file: this is a directory"),
        ("network.reuse-port = 1", 22, "network.reuse-port: must be true or false"),
        ("defense.cache-dir = \"Cargo.toml\"", 21, "defense.cache-dir: not a directory"),
        ("telegram.dc-list-urls = [\"ftp://a\"]", 26, "telegram.dc-list-urls, entry 1: not a web"),
        ("domain-fronting.scout = \"yes\"", 25, "domain-fronting.scout: must be true or false"),
        ("defense.doppelganger.mode = \"x\"", 29, "defense.doppelganger.mode: unknown value"),
        ("network.max-segment = 32768", 23, "network.max-segment: must be a whole number from"),
        ("network.mark = 4294967296", 16, "network.mark: must be a whole number from 1"),
        ("network.mark = 0", 16, "network.mark: must be a whole number from 1"),
        ("network.max-segment = 87", 23, "network.max-segment: must be a whole number from 88"),
        ("proxy-protocol-trusted = [\"x\"]", 27, "proxy-protocol-trusted, entry 1: not a network"),
        ("network.tcp-not-sent-lowat = \"1k\"", 30, "network.tcp-not-sent-lowat: not a size"),
        ("network.moderation = \"on\"", 22, "network.moderation: unknown value"),
        ("defense.anti-replay.error-rate = 100", 34, "defense.anti-replay.error-rate: must be"),
        ("defense.anti-replay.error-rate = nan", 34, "defense.anti-replay.error-rate: must be"),
        ("defense.anti-replay.error-rate = -0.1", 34, "defense.anti-replay.error-rate: must be"),
        ("defense.blocklist.urls = [\"\"]", 27, "defense.blocklist.urls, entry 1: neither"),
        ("defense.blocklist.urls = [\"src\"]", 27, "defense.blocklist.urls, entry 1: this is a"),
        ("defense.doppelganger.urls = [\"http://a\"]", 30, "defense.doppelganger.urls, entry 1"),
        ("stats.statsd.metric-prefix = \"a.b\"", 30, "stats.statsd.metric-prefix: not a metric"),
        ("stats.statsd.tag-format = \"x\"", 27, "stats.statsd.tag-format: unknown value"),
        ("telegram.dc-overrides.x = [\"1.1.1.1:1\"]", 27, "\"x\": not a data centre"),
        ("telegram.dc-overrides.0 = [\"1.1.1.1:1\"]", 27, "\"0\": not a data centre"),
        ("telegram.dc-overrides.2 = []", 27, "data centre 2: no address"),
        ("telegram.dc-overrides.2 = [\"a:1\"]", 28, "telegram.dc-overrides, entry 1: not IP:port"),
        ("secrets = \"x\"", 11, "secrets: must be a table"),
        ("secrets.alice = 5", 17, "\"alice\": must be a string in quotes"),
        ("secrets.alice = \"\"", 17, "\"alice\": this is neither hexadecimal nor base64"),
        ("debug = tru", 9, "invalid TOML: "),
    ] {
        let found = diagnostics_below(line);
        let wanted = format!("mtbox.toml:3:{column}: error: {text}");
        assert!(found.len() == 1 && found[0].starts_with(&wanted), "{line}\n{found:#?}\n{wanted}");
    }
}

#[test]
fn all_errors_are_reported_in_the_order_of_the_file() {
    assert_eq!(
        diagnostics_of("debug = 1\nbind-to = [\"x\", 5, \"1.1.1.1:1\", \"1.1.1.1:01\"]\nfoo = 1\n"),
        [
            "mtbox.toml:1:1: error: no user; add [secrets] at the end of the file, with a line \
             NAME = \"SECRET\" (`mtbox generate-secret HOST` prints a secret)",
            "mtbox.toml:1:9: error: debug: must be true or false, without quotes",
            "mtbox.toml:2:12: error: bind-to, entry 1: not IP:port; write an IP address and a \
             port, such as 0.0.0.0:443 or [::]:443",
            "mtbox.toml:2:17: error: bind-to, entry 2: must be a string in quotes",
            "mtbox.toml:2:33: error: bind-to: duplicate address 1.1.1.1:1; remove one",
            "mtbox.toml:3:1: warning: unknown key \"foo\", so it has no effect; remove it",
        ]
    );
}

#[test]
fn a_listener_is_required() {
    let secret = format!("secret = \"{SECRET}\"\n");
    for (line, wanted) in [
        ("", "1:1: error: bind-to: missing; add a line bind-to = \"0.0.0.0:443\""),
        ("bind-to = []", "2:11: error: bind-to: the list is empty"),
        ("bind-to = \"\"", "2:11: error: bind-to: not IP:port"),
        ("bind-to = 443", "2:11: error: bind-to: must be a string in quotes or a list"),
    ] {
        let found = diagnostics_of(&format!("{secret}{line}"));
        let wanted = format!("mtbox.toml:{wanted}");
        assert!(found.len() == 1 && found[0].starts_with(&wanted), "{line}: {found:#?}");
    }
}

#[test]
fn a_zero_without_a_meaning_is_a_warning_and_the_default_is_used() {
    for (line, default) in [
        ("concurrency = 0", "4096"),
        ("tolerate-time-skewness = \"0s\"", "\"2m\""),
        ("domain-fronting.port = 0", "443"),
        ("domain-fronting-port = 0", "443"),
        ("throttle.check-interval = \"0\"", "\"5s\""),
        ("network.timeout.tcp = \"0s\"", "\"5s\""),
        ("network.timeout.idle = \"0s\"", "\"5m\""),
        ("network.timeout.handshake = \"0ms\"", "\"10s\""),
        ("network.keep-alive.idle = \"0s\"", "\"15s\""),
        ("network.keep-alive.count = 0", "9"),
        ("defense.anti-replay.max-size = \"0b\"", "\"1mib\""),
        ("memory.buffers = \"0.3b\"", "automatic"),
    ] {
        let found = diagnostics_below(line);
        let wanted = format!("0 is not allowed; using the default ({default}). Remove");
        assert!(found.len() == 1, "{line}: {found:#?}");
        assert!(found[0].contains(": warning: ") && found[0].contains(&wanted), "{found:#?}");
    }
    let text = format!("{}concurrency = 0\nnetwork.timeout.idle = \"0s\"\n", minimal());
    let settings = load(&text).unwrap().settings;
    assert_eq!(settings.concurrency, 4096);
    assert_eq!(settings.timeouts.idle, Duration::from_secs(300));
}

#[test]
fn a_zero_that_means_off_is_applied() {
    let off = load_without_warnings(&format!(
        "{}network.tcp-not-sent-lowat = \"0b\"\nthrottle.max-connections = 0\n\
         defense.anti-replay.enabled = false\n",
        minimal()
    ));
    assert_eq!(off.not_sent_lowat, None);
    assert!(off.throttle.is_none() && off.replay.is_none());
    assert_eq!(
        off.time_skew,
        Duration::from_secs(5),
        "then the clock check is the only protection"
    );
}

/// COMPATIBILITY A9: such values make every dial of mtg-multi fail.
#[test]
fn values_that_the_kernel_refuses_are_lowered_with_a_warning() {
    let loaded = load(&format!(
        "{}network.tcp-not-sent-lowat = \"3gib\"\n\
         network.keep-alive = {{ count = 128, idle = \"10h\", interval = \"32768s\" }}\n",
        minimal()
    ))
    .unwrap();
    let keep = loaded.settings.keep_alive;
    let most = Duration::from_secs(32767);
    assert_eq!((keep.count, keep.idle, keep.interval), (127, most, most));
    assert_eq!(loaded.settings.not_sent_lowat, Some(i32::MAX as u32));
    let warnings: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        warnings[..2],
        [
            "mtbox.toml:3:30: warning: network.tcp-not-sent-lowat: larger than the kernel's \
             maximum; using 2147483647 bytes. Set a smaller value.",
            "mtbox.toml:4:32: warning: network.keep-alive.count: larger than the kernel's \
             maximum; using 127. Set a smaller value.",
        ]
    );
    assert_eq!(warnings.len(), 4);
}

/// COMPATIBILITY 1.1: mtg-multi loads such files.
#[test]
fn durations_that_are_too_short_for_a_timer_are_raised_with_a_warning() {
    for (line, column, path, least) in [
        ("throttle.check-interval = \"1ns\"", 27, "throttle.check-interval", "100ms"),
        ("network.timeout.tcp = \"99ms\"", 23, "network.timeout.tcp", "100ms"),
        ("network.timeout.http = \"1ms\"", 24, "network.timeout.http", "100ms"),
        ("network.timeout.handshake = \"1us\"", 29, "network.timeout.handshake", "100ms"),
        ("network.timeout.idle = \"999ms\"", 24, "network.timeout.idle", "1s"),
        ("network.keep-alive.idle = \"1ms\"", 27, "network.keep-alive.idle", "1s"),
        ("network.keep-alive.interval = \"1ms\"", 31, "network.keep-alive.interval", "1s"),
        ("state-interval = \"1ms\"", 18, "state-interval", "1s"),
    ] {
        let wanted = format!(
            "mtbox.toml:3:{column}: warning: {path}: too short; using {least}. Set a longer time."
        );
        assert_eq!(diagnostics_below(line), [wanted]);
    }
    let least = "throttle = { max-connections = 1, check-interval = \"1ns\" }\n\
                 network.timeout = { tcp = \"1ns\", http = \"1ns\", handshake = \"1ns\", \
                 idle = \"1ns\" }\n";
    let settings = load(&format!("{}{least}", minimal())).unwrap().settings;
    let (short, second) = (Duration::from_millis(100), Duration::from_secs(1));
    let timeouts = settings.timeouts;
    assert_eq!(settings.throttle.unwrap().check_interval, short);
    assert_eq!((timeouts.tcp, timeouts.http, timeouts.handshake), (short, short, short));
    assert_eq!(timeouts.idle, second);
    let exact = "network.timeout = { tcp = \"100ms\", idle = \"1s\" }\n";
    load_without_warnings(&format!("{}{exact}", minimal()));
}

/// COMPATIBILITY E6: a rate of 2 stops mtg-multi at the first handshake.
#[test]
fn no_error_rate_has_an_effect() {
    for rate in ["0.5", "1", "2", "99.9"] {
        let found = diagnostics_below(&format!("defense.anti-replay.error-rate = {rate}"));
        assert_eq!(
            found,
            ["mtbox.toml:3:34: warning: defense.anti-replay.error-rate: has no effect, since \
              the store makes no errors; remove the line"]
        );
    }
}

#[test]
fn old_names_work_as_before_with_a_warning() {
    let loaded = load(&format!("{}domain-fronting-port = 8443\n", minimal())).unwrap();
    assert_eq!(loaded.settings.front.port, 8443);
    // The new name wins, also with the default as its value.
    for port in [9443, 443] {
        let both = format!("domain-fronting-port = 8443\ndomain-fronting.port = {port}\n");
        let loaded = load(&format!("{}{both}", minimal())).unwrap();
        assert_eq!(loaded.settings.front.port, port);
    }
    for (line, wanted) in [
        ("domain-fronting-port = 1", "old name; write port below [domain-fronting]"),
        ("domain-fronting-ip = \"::1\"", "old name; it has no effect; write host below"),
        ("domain-fronting.ip = \"::1\"", "old name; it has no effect; write host instead"),
        ("domain-fronting-proxy-protocol = true", "old name; write proxy-protocol below"),
    ] {
        let found = diagnostics_below(line);
        assert!(found.len() == 1 && found[0].contains(wanted), "{line}: {found:#?}");
    }
}

#[test]
fn a_single_secret_has_no_effect_with_named_ones_but_must_be_valid() {
    let table = format!("[secrets]\nalice = \"{SECRET}\"\n");
    let loaded = load(&format!("{}{table}", minimal())).unwrap();
    assert_eq!(loaded.settings.users[0].name, "alice");
    assert_eq!(loaded.settings.users.len(), 1);
    assert_eq!(loaded.warnings.len(), 1);
    assert!(
        loaded.warnings[0].text.starts_with("secret: has no effect, since [secrets] has users")
    );

    let settings = load_without_warnings(&format!("{}[secrets]\n", minimal()));
    assert_eq!(settings.users[0].name, "default", "an empty table has no users");

    let broken = format!("secret = \"ee00\"\nbind-to = \"[::]:443\"\n{table}");
    let found = diagnostics_of(&broken);
    assert_eq!(
        found,
        ["mtbox.toml:1:10: error: secret: this secret is cut short: its key has 16 bytes; make \
          one with `mtbox generate-secret HOST`"]
    );
    let none = diagnostics_of("secret = \"\"\nbind-to = \"[::]:443\"\n[secrets]\n");
    assert!(none.len() == 1 && none[0].contains("error: no user; add [secrets]"), "{none:#?}");
}

#[test]
fn invalid_secrets_are_errors_and_doubtful_ones_warnings() {
    let host = "6578616d706c652e6f7267";
    let zero = format!("ee{}{host}", "00".repeat(16));
    let spaced = format!("ee{}{}", "11".repeat(16), "6120622e6f7267");
    for (lines, wanted) in [
        (format!("a = \"{zero}\""), "error: \"a\": the key is all zeros"),
        (format!("a = \"{spaced}\""), "warning: \"a\": clients may refuse this secret: the host"),
        (
            format!("b = \"{SECRET}\"\na = \"{}\"", SECRET.to_uppercase()),
            "warning: \"b\": same secret as \"a\", who gets the traffic",
        ),
        (
            "a = \"dd00112233445566778899aabbccddeeff\"".into(),
            "error: \"a\": this is a key without a host",
        ),
        (format!("{SECRET} = \"alice\""), "error: name and secret are swapped"),
    ] {
        let found = diagnostics_of(&format!("bind-to = \"[::]:443\"\n[secrets]\n{lines}\n"));
        assert!(found.len() == 1 && found[0].contains(wanted), "{found:#?}");
    }
}

#[test]
fn a_key_in_two_spellings_is_a_warning_and_the_last_one_wins() {
    let loaded = load(&format!("{}debug = true\nDebug = false\n", minimal())).unwrap();
    assert_eq!(loaded.settings.log.level, LogLevel::Info);
    assert_eq!(
        loaded.warnings[0].to_string(),
        "mtbox.toml:4:1: warning: debug: duplicate key; the last one wins. Remove one."
    );
}

#[test]
fn a_user_in_two_spellings_of_the_table_has_the_last_secret() {
    let other = "7g8ODQwLCgkIBwYFBAMCAQB3d3cuZXhhbXBsZS5vcmc";
    let text =
        format!("bind-to = \"[::]:443\"\n[Secrets]\nbob = \"{SECRET}\"\nann = \"{SECRET}\"\n");
    let loaded = load(&format!("{text}[SECRETS]\nbob = \"{other}\"\n")).unwrap();
    let users: Vec<_> =
        loaded.settings.users.iter().map(|user| (&*user.name, user.secret.to_base64())).collect();
    let [("ann", first), ("bob", last)] = &users[..] else { panic!("{users:?}") };
    assert!(first != last && last == other);
    assert_eq!(loaded.warnings.len(), 1, "{:#?}", loaded.warnings);
}

#[test]
fn text_that_is_not_utf_8_or_not_toml_is_an_error_with_its_position() {
    let diagnostics = load::load(b"debug = true\n# \xff\n", "a b.toml").unwrap_err();
    let found: Vec<String> = diagnostics.iter().map(ToString::to_string).collect();
    assert_eq!(found, ["a b.toml:2:3: error: not UTF-8; save the file as UTF-8"]);
    assert!(
        diagnostics_of("debug = true\ndebug = false")[0]
            .starts_with("mtbox.toml:2:1: error: invalid TOML: ")
    );
    assert!(diagnostics_of("[a\n")[0].starts_with("mtbox.toml:1:3: error: invalid TOML: "));
}

#[test]
fn a_file_larger_than_a_mebibyte_is_not_read() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let path = folder.join("long.toml");
    fs::write(&path, vec![b'#'; (1 << 20) + 1]).unwrap();
    let fault = load::read(&path).unwrap_err();
    assert!(fault.to_string().contains("larger than 1024 KiB"));
    fs::write(&path, vec![b'#'; 1 << 20]).unwrap();
    assert_eq!(load::read(&path).unwrap().len(), 1 << 20);
}

//! Keys of defence and network: the connections that the daemon makes, and those it accepts.

use std::path::Path;
use std::time::Duration;

use mtbox::config::HAS_TLS;
use mtbox::config::settings::{ListSource, NameServer, UpstreamSettings};
use mtbox::proto::url::Url;
use mtbox::util::cidr::Cidr;
use mtbox::util::host_port::HostPort;

use super::{SECRET, diagnostics_below, load, load_without_warnings, minimal};

#[test]
fn every_key_of_defence_and_network_reaches_the_settings() {
    let here = env!("CARGO_MANIFEST_DIR");
    // Without TLS it has no effect, which is a warning.
    let ca_file = if HAS_TLS { "ca-file = \"Cargo.toml\"" } else { "" };
    let settings = load_without_warnings(&format!(
        r#"
        secret = "{SECRET}"
        bind-to = "0.0.0.0:443"
        proxy-protocol-listener = true
        proxy-protocol-trusted = ["127.0.0.1", "2001:db8::/32"]
        auto-update = true
        [domain-fronting]
        proxy-protocol = true
        mimic-latency = true
        [network]
        dns-bootstrap = "192.0.2.53"
        proxies = ["", "socks5://u:p@[::1]:1081"]
        bind-device = "br-lan"
        bind-address = ["192.0.2.7", "2001:db8::7"]
        mark = 4294967295
        tcp-congestion = "reno"
        max-segment = 536
        multipath-tcp = true
        reuse-port = true
        {ca_file}
        timeout.http = "7s"
        [telegram]
        dc-list-urls = ["http://127.0.0.1:1/x"]
        [defense]
        cache-dir = "{here}/src"
        [defense.blocklist]
        enabled = true
        urls = ["{here}/Cargo.toml", "http://lists.example/bad"]
        [defense.allowlist]
        enabled = true
        urls = ["Cargo.toml"]
        download-concurrency = 3
        update-each = "20s"
        [defense.doppelganger]
        mode = "always"
        drs = true
        repeats-per-raid = 4
        raid-each = "2h"
        "#
    ));
    let network = |addr: &str, bits| Cidr::new(addr.parse().unwrap(), bits).unwrap();
    let trusted = settings.proxy_protocol.unwrap().trusted;
    assert_eq!(trusted, [network("127.0.0.1", 32), network("2001:db8::", 32)]);
    assert_eq!(settings.dc_list, Some(vec![Url::parse("http://127.0.0.1:1/x").unwrap()]));
    let front = settings.front;
    assert!(front.proxy_protocol && front.probe && front.mimic_latency);
    assert_eq!(settings.dns.bootstrap, Some("192.0.2.53".parse().unwrap()));
    assert!(matches!(
        settings.upstreams[..],
        [UpstreamSettings::Direct, UpstreamSettings::Socks5(_)]
    ));
    assert_eq!(settings.egress.device.as_deref(), Some("br-lan"));
    assert_eq!((settings.egress.addrs.len(), settings.egress.mark), (2, Some(u32::MAX)));
    assert_eq!(settings.congestion.as_deref(), Some("reno"));
    assert_eq!(settings.max_segment, Some(536));
    assert!(settings.multipath && settings.reuse_port);
    assert_eq!(settings.ca_file, HAS_TLS.then(|| Path::new(here).join("Cargo.toml")));
    assert_eq!(settings.timeouts.http, Duration::from_secs(7));
    assert_eq!(settings.cache_dir, Some(Path::new(here).join("src")));
    let block = settings.blocklist.unwrap();
    assert_eq!((block.sources.len(), block.concurrency), (2, 1));
    assert_eq!(block.interval, Duration::from_secs(6 * 3600));
    let allow = settings.allowlist.unwrap();
    assert_eq!(allow.sources, [ListSource::File(Path::new(here).join("Cargo.toml"))]);
    assert_eq!((allow.concurrency, allow.interval), (3, Duration::from_secs(20)));
    let shape = settings.shape.unwrap();
    assert!(shape.always && shape.drs);
    assert_eq!(
        (settings.page_timing.repeats, settings.page_timing.interval),
        (4, Duration::from_secs(7200))
    );
}

#[test]
fn by_default_the_only_outgoing_connection_is_the_front_probe() {
    let settings = load_without_warnings(&minimal());
    assert!(settings.proxy_protocol.is_none() && settings.dc_list.is_none());
    assert!(settings.blocklist.is_none() && settings.allowlist.is_none());
    assert!(settings.upstreams.is_empty() && settings.page_timing.pages.is_empty());
    assert!(settings.front.probe && !settings.front.proxy_protocol);
    assert!(settings.egress.device.is_none() && settings.egress.addrs.is_empty());
    let shape = settings.shape.unwrap();
    assert!(!shape.always && !shape.drs);
    let off = "[defense.doppelganger]\nenabled = false\n";
    assert!(load_without_warnings(&format!("{}{off}", minimal())).shape.is_none());
}

#[test]
fn lists_and_page_visits_have_defaults_and_least_intervals() {
    let on = "[defense.blocklist]\nenabled = true\nurls = [\"http://a.example/x\"]\n";
    let settings = load_without_warnings(&format!("{}{on}", minimal()));
    let list = settings.blocklist.unwrap();
    assert_eq!((list.concurrency, list.interval), (1, Duration::from_secs(6 * 3600)));
    assert_eq!((settings.page_timing.repeats, settings.page_timing.interval), (10, list.interval));

    for (period, least, text) in [("1ms", 1, "too short; using 1s"), ("59s", 59, "may block you")] {
        let lines = format!(
            "{on}update-each = \"{period}\"\n[defense.doppelganger]\nraid-each = \"{period}\"\n"
        );
        let loaded = load(&format!("{}{lines}", minimal())).unwrap();
        let least = Duration::from_secs(least);
        assert_eq!(loaded.settings.blocklist.unwrap().interval, least);
        assert_eq!(loaded.settings.page_timing.interval, least);
        let warnings: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();
        assert_eq!(warnings.len(), 2, "{warnings:#?}");
        assert!(warnings[0].contains("6:15: warning: defense.blocklist.update-each: "));
        assert!(warnings[1].contains("8:13: warning: defense.doppelganger.raid-each: "));
        assert!(warnings.iter().all(|one| one.contains(text)), "{warnings:#?}");
    }
}

#[test]
fn keys_without_effect_are_warnings() {
    for (lines, wanted) in [
        (
            "proxy-protocol-trusted = [\"10.0.0.0/8\"]",
            "3:26: warning: proxy-protocol-trusted: has no effect without proxy-protocol-listener",
        ),
        (
            "domain-fronting = { scout = false, mimic-latency = true }",
            "3:52: warning: domain-fronting.mimic-latency: has no effect with scout = false",
        ),
        (
            "auto-update = true\ntelegram.dc-list-urls = []",
            "4:25: warning: telegram.dc-list-urls: the list is empty, so auto-update has no",
        ),
    ] {
        let found = diagnostics_below(lines);
        assert!(found.len() == 1 && found[0].contains(wanted), "{found:#?}");
    }
}

/// COMPATIBILITY E5: mtg-multi makes `[[::1]]:1080` of the first, and refuses the second, which it
/// documents.
#[test]
fn proxies_may_have_ipv6_hosts_without_a_port_and_may_be_direct() {
    let text = "[network]\nproxies = [\"socks5://[::1]\", \"\"]\n";
    let settings = load_without_warnings(&format!("{}{text}", minimal()));
    let [UpstreamSettings::Socks5(proxy), UpstreamSettings::Direct] = &settings.upstreams[..]
    else {
        panic!("two routes")
    };
    assert_eq!(proxy.server, HostPort::new("::1", 1080));
}

/// COMPATIBILITY E2 for `doh-ip`.
#[test]
fn old_names_have_their_old_meaning() {
    let text = format!(
        "domain-fronting-proxy-protocol = true\n{}[network]\ndoh-ip = \"2001:db8::53\"\n",
        minimal()
    );
    if !HAS_TLS {
        assert!(load(&text).unwrap_err().concat().contains("network.doh-ip: this build has no"));
        return;
    }
    let settings = load(&text).unwrap().settings;
    assert!(settings.front.proxy_protocol);
    // mtg-multi makes an invalid URL of it and uses the system's name servers, without a warning.
    let wanted = Url::parse("https://[2001:db8::53]/dns-query").unwrap();
    assert_eq!(settings.dns.server, NameServer::Https(wanted));
}

#[test]
fn a_list_that_is_on_needs_a_source() {
    assert_eq!(
        diagnostics_below("[defense.allowlist]\nenabled = true\n"),
        ["mtbox.toml:4:11: error: defense.allowlist.enabled: no client could connect; add a \
             list to defense.allowlist.urls"]
    );
    assert_eq!(
        diagnostics_below("[defense.blocklist]\nenabled = true\n"),
        ["mtbox.toml:4:11: warning: defense.blocklist.enabled: no address is blocked; add a list \
          to defense.blocklist.urls"]
    );
    assert!(diagnostics_below("[defense.allowlist]\nenabled = false\n").is_empty());
}

#[test]
fn what_needs_tls_is_refused_by_a_build_without() {
    for line in [
        "auto-update = true",
        "network.dns = \"tls://dns.example\"",
        "network.dns = \"https://dns.example\"",
        "auto-update = true\n[telegram]\ndc-list-urls = [\"https://a.example/x\"]",
        "defense.blocklist = { enabled = true, urls = [\"https://a.example/x\"] }",
        "defense.allowlist = { enabled = true, urls = [\"https://a.example/x\"] }",
        "defense.doppelganger.urls = [\"https://a.example/x\"]",
    ] {
        let found = diagnostics_below(line);
        let refused = found.len() == 1 && found[0].contains("this build has no TLS");
        assert_eq!(refused, !HAS_TLS, "{line}: {found:?}");
        assert!(found.iter().all(|one| !one.contains(":1:1: ")), "it has a position: {found:?}");
    }
    // What is off needs no TLS.
    for line in [
        "telegram.dc-list-urls = [\"https://a.example/x\"]",
        "auto-update = true\n[telegram]\ndc-list-urls = [\"http://a.example/x\"]",
        "defense.blocklist = { enabled = false, urls = [\"https://a.example/x\"] }",
        "defense.doppelganger = { enabled = false, urls = [\"https://a.example/x\"] }",
    ] {
        assert_eq!(diagnostics_below(line), [""; 0], "{line}");
    }
}

#[test]
fn no_proxy_and_direct_are_the_same() {
    assert!(
        load_without_warnings(&format!("{}[network]\nproxies = []\n", minimal()))
            .upstreams
            .is_empty()
    );
    let direct =
        load_without_warnings(&format!("{}[network]\nproxies = [\"\", \"direct\"]\n", minimal()));
    assert!(direct.upstreams.is_empty());
}

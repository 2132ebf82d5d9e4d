//! Keys for operation: metrics, logs, totals, disabled users.

use std::path::Path;
use std::time::Duration;

#[cfg(feature = "metrics")]
use mtbox::config::settings::{HttpBind, TagFormat};
use mtbox::config::settings::{LogFormat, LogLevel, LogSettings, LogTo};

use super::{SECRET, diagnostics_below, diagnostics_of, load_without_warnings, minimal};

#[cfg(feature = "metrics")]
#[test]
fn metrics_have_the_reference_s_defaults() {
    let settings = load_without_warnings(&format!(
        "{}[stats.statsd]\nenabled = true\naddress = \"127.0.0.1:8125\"\n\
         [stats.prometheus]\nenabled = true\nbind-to = \"127.0.0.1:3129\"\n",
        minimal()
    ));
    let statsd = settings.statsd.unwrap();
    assert_eq!(statsd.address, "127.0.0.1:8125".parse().unwrap());
    assert_eq!((statsd.prefix.as_str(), statsd.tags), ("mtg", TagFormat::Datadog));
    let prometheus = settings.prometheus.unwrap();
    assert_eq!(prometheus.bind, HttpBind::Tcp("127.0.0.1:3129".parse().unwrap()));
    assert_eq!((prometheus.path.as_str(), prometheus.prefix.as_str()), ("/", "mtg"));
    assert!(!prometheus.per_user);
    assert!(settings.state.is_none() && settings.pid_file.is_none());
}

#[cfg(feature = "metrics")]
#[test]
fn every_key_of_the_metrics_reaches_the_settings() {
    let settings = load_without_warnings(&format!(
        "{}[stats.statsd]\nenabled = true\naddress = \"[::1]:1\"\nmetric-prefix = \"a1\"\n\
         tag-format = \"Graphite\"\n\
         [stats.prometheus]\nenabled = true\nbind-to = \"unix:/run/m.sock\"\nper-user = true\n\
         http-path = \"metrics\"\nmetric-prefix = \"b2\"\n",
        minimal()
    ));
    let statsd = settings.statsd.unwrap();
    assert_eq!((statsd.prefix.as_str(), statsd.tags), ("a1", TagFormat::Graphite));
    let prometheus = settings.prometheus.unwrap();
    assert_eq!(prometheus.bind, HttpBind::Unix("/run/m.sock".into()));
    assert_eq!((prometheus.path.as_str(), prometheus.prefix.as_str()), ("/metrics", "b2"));
    assert!(prometheus.per_user);
}

#[cfg(feature = "metrics")]
#[test]
fn metrics_under_a_path_of_the_stats_are_warned_of() {
    let with = |api: &str, path: &str| {
        let text = minimal().replacen("bind-to", &format!("api-bind-to = \"{api}\"\nbind-to"), 1);
        diagnostics_of(&format!(
            "{text}[stats.prometheus]\nenabled = true\nbind-to = \"127.0.0.1:9\"\n\
             http-path = \"{path}\"\n"
        ))
    };
    for path in ["/stats", "/explain", "/explain/me"] {
        let found = with("127.0.0.1:9", path);
        assert!(found.len() == 1 && found[0].contains("stats.prometheus.http-path"), "{found:#?}");
        assert!(found[0].contains("warning") && found[0].contains("\"/metrics\""), "{found:#?}");
        assert_eq!(with("127.0.0.1:8", path), [""; 0], "elsewhere nothing is in the way");
    }
    for path in ["/", "/metrics", "/statsd"] {
        assert_eq!(with("127.0.0.1:9", path), [""; 0]);
    }
}

/// mtg-multi listens on a random port of every address (COMPATIBILITY D10).
#[cfg(feature = "metrics")]
#[test]
fn metrics_without_an_address_are_refused() {
    for (line, wanted) in [
        ("stats.prometheus.enabled = true", "add bind-to = "),
        ("stats.statsd.enabled = true", "add address = "),
        ("stats.prometheus.bind-to = \"unix:run\"", "not the path of a socket"),
        ("stats.prometheus.http-path = \"/a?b\"", "not a URL path"),
        ("stats.prometheus.metric-prefix = \"A\"", "lower-case letters and digits"),
        ("stats.statsd.tag-format = \"csv\"", "write one of datadog, influxdb, graphite"),
        ("api-bind-to = \"9090\"", "not IP:port"),
    ] {
        let found = diagnostics_below(line);
        assert!(found.len() == 1 && found[0].contains(": error: "), "{line}: {found:#?}");
        assert!(found[0].contains(wanted), "{line}: {found:#?}");
    }
}

#[test]
fn the_log_the_state_and_the_pid_are_read() {
    let folder = env!("CARGO_TARGET_TMPDIR");
    let settings = load_without_warnings(&format!(
        "log-level = \"Warn\"\nlog-format = \"json\"\nlog-to = \"syslog\"\n\
         pid-file = \"{folder}/pid\"\nstate-file = \"{folder}/state\"\nstate-interval = \"5s\"\n\
         network.public-ip-url = \"http://127.0.0.1:1/ip\"\n{}",
        minimal()
    ));
    let log = LogSettings { level: LogLevel::Warn, format: LogFormat::Json, to: LogTo::Syslog };
    assert_eq!(settings.log, log);
    assert_eq!(settings.pid_file.as_deref(), Some(Path::new(folder).join("pid").as_path()));
    let state = settings.state.unwrap();
    assert_eq!(
        (state.path, state.interval),
        (Path::new(folder).join("state"), Duration::from_secs(5))
    );
    assert_eq!(settings.public_ip_url.unwrap().host, "127.0.0.1");
    let none = load_without_warnings(&format!("network.public-ip-url = \"\"\n{}", minimal()));
    assert!(none.public_ip_url.is_none(), "no page is fetched");
    assert_eq!(load_without_warnings(&minimal()).public_ip_url.unwrap().host, "ifconfig.co");
}

#[test]
fn disabled_users_stay_users_and_unknown_names_are_warned_of() {
    let text = format!(
        "bind-to = \"[::]:443\"\ndisabled-users = [\"bob\"]\n[secrets]\nalice = \"{SECRET}\"\n\
         bob = \"ee11112233445566778899aabbccddeeff6578616d706c652e6f7267\"\n"
    );
    let settings = load_without_warnings(&text);
    let enabled: Vec<bool> = settings.users.iter().map(|user| user.enabled).collect();
    assert_eq!(enabled, [true, false]);
    let found = diagnostics_of(&text.replace("[\"bob\"]", "[\"bob\", \"bobby\"]"));
    assert_eq!(
        found,
        ["mtbox.toml:2:26: warning: disabled-users: no user is called \"bobby\"; remove the name"]
    );
}

/// A config of the full flavour runs in the mini one all the same.
#[cfg(not(feature = "metrics"))]
#[test]
fn a_build_without_metrics_warns_and_goes_on() {
    let found = diagnostics_below(
        "[stats.statsd]\nenabled = true\naddress = \"127.0.0.1:8125\"\n\
         [stats.prometheus]\nenabled = true\nbind-to = \"127.0.0.1:3129\"\n",
    );
    assert!(
        found.len() == 2 && found.iter().all(|one| one.contains("has no metrics")),
        "{found:#?}"
    );
}

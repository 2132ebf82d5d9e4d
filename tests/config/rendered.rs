//! The rendered table of keys: the example file and the lists in docs/CONFIGURATION.md.

use std::fs;
use std::path::Path;

use mtbox::config::keys;
use mtbox::config::render;

use super::{SECRET, load_without_warnings, minimal};

/// Without the comment marks, the example sets the defaults.
#[test]
fn the_example_means_the_defaults() {
    let bare: String = render::example()
        .lines()
        .filter_map(|line| match line.strip_prefix('#') {
            None => Some(line.to_string()),
            Some(text) if text.starts_with(|c: char| c.is_ascii_alphanumeric()) => {
                Some(text.replace("\"ee...\"", &format!("\"{SECRET}\"")))
            }
            Some(_) => None,
        })
        .filter(|line| !SAMPLES.iter().any(|sample| line.starts_with(sample)))
        .map(|line| line + "\n")
        .collect();
    let set = load_without_warnings(&bare);
    let default = load_without_warnings(&minimal());
    assert_eq!(set.users[0].name, "me");
    assert_eq!(set.concurrency, default.concurrency);
    assert_eq!(set.time_skew, default.time_skew);
    assert_eq!(set.prefer_ip, default.prefer_ip);
    assert_eq!(set.not_sent_lowat, default.not_sent_lowat);
    assert_eq!(set.front.port, default.front.port);
    assert_eq!(format!("{:?}", set.timeouts), format!("{:?}", default.timeouts));
    assert_eq!(format!("{:?}", set.keep_alive), format!("{:?}", default.keep_alive));
    assert_eq!(format!("{:?}", set.replay), format!("{:?}", default.replay));
    assert!(set.throttle.is_none() && set.coalesce_reads && !set.re_encrypt);
    assert_eq!(format!("{:?}", set.shape), format!("{:?}", default.shape));
    assert_eq!(format!("{:?}", set.page_timing), format!("{:?}", default.page_timing));
    assert!(set.front.probe == default.front.probe && !set.front.mimic_latency);
    assert!(set.proxy_protocol.is_none() && set.dc_list.is_none() && set.upstreams.is_empty());
    assert!(set.blocklist.is_none() && set.allowlist.is_none());
    assert!(!set.multipath && !set.reuse_port);
    for key in keys::KEYS.iter().filter(|key| key.instead.is_none()) {
        let (_, name) = key.split();
        let line = format!("#{name} =");
        let is_there = key.is_whole_table() || render::example().contains(&line);
        assert!(is_there, "{} is not in the example", key.path);
    }
}

/// Samples that do not load: a secret beside `[secrets]`, a missing file and a missing directory.
const SAMPLES: [&str; 3] = ["secret =", "ca-file =", "cache-dir ="];

#[test]
fn the_example_file_is_what_the_table_of_keys_says() {
    same_or_update("example.config.toml", |_| render::example());
}

#[test]
fn the_configuration_page_lists_every_key() {
    same_or_update("docs/CONFIGURATION.md", |page| {
        let (before, rest) = page.split_once(KEYS_START).expect("the lists have a start mark");
        let (_, after) = rest.split_once(KEYS_END).expect("the lists have an end mark");
        format!("{before}{KEYS_START}\n{}{KEYS_END}{after}", render::markdown())
    });
}

const KEYS_START: &str = "<!-- keys -->";
const KEYS_END: &str = "<!-- /keys -->";

/// Compares the file with the rendered text. With `UPDATE=1` in the environment, writes it instead.
fn same_or_update(name: &str, render: impl Fn(&str) -> String) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    let is = fs::read_to_string(&path).unwrap_or_default();
    let should_be = render(&is);
    if std::env::var_os("UPDATE").is_some() && is != should_be {
        fs::write(&path, should_be).unwrap();
    } else {
        assert!(is == should_be, "{name} is out of date; run UPDATE=1 cargo test --test config");
    }
}

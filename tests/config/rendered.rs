//! The rendered table of keys: the example file and the lists in docs/CONFIGURATION.md.

use std::fs;
use std::path::Path;
use std::time::Duration;

use mtbox::config::keys;
use mtbox::config::render;

use super::{SECRET, load_without_warnings, minimal};

/// Without the comment marks, the example loads, and its defaults are those of a file without keys.
#[test]
fn the_example_means_the_defaults() {
    let mut bare = String::new();
    for line in render::example().lines() {
        match line.strip_prefix('#') {
            None => bare.push_str(line),
            Some(text) if text.starts_with(|c: char| c.is_ascii_alphanumeric()) => {
                if !SAMPLES.iter().any(|sample| text.starts_with(sample)) {
                    bare.push_str(&text.replace("\"ee...\"", &format!("\"{SECRET}\"")));
                }
            }
            Some(_) => {}
        }
        bare.push('\n');
    }
    assert_eq!(load_without_warnings(&bare).users[0].name, "me");
    let mut explicit = minimal();
    let mut table = "";
    for key in keys::KEYS.iter().filter(|key| key.instead.is_none()) {
        let (parent, name) = key.split();
        let line = format!("#{name} = {}\n", key.value());
        let is_there = key.is_whole_table() || render::example().contains(&line);
        assert!(is_there, "{} is not in the example", key.path);
        if !key.is_unset() {
            if parent != table {
                explicit.push_str(&format!("[{parent}]\n"));
                table = parent;
            }
            explicit.push_str(&line[1..]);
        }
    }
    let (set, default) = (load_without_warnings(&explicit), load_without_warnings(&minimal()));
    assert_eq!(format!("{set:?}"), format!("{default:?}"));
    assert_eq!(set.timeouts.idle, Duration::from_secs(300), "not a blank");
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

//! Consistency of the table of keys.

use super::*;

#[test]
fn every_path_is_unique_and_in_lower_case() {
    for (index, key) in KEYS.iter().enumerate() {
        assert_eq!(key.path, key.path.to_ascii_lowercase());
        let first = KEYS.iter().position(|other| other.path == key.path);
        assert_eq!(first, Some(index), "{}", key.path);
        assert!(!is_table(key.path), "{} is a key and a table", key.path);
    }
}

#[test]
fn keys_of_a_table_are_together_so_that_no_header_comes_twice() {
    let plain = KEYS.iter().filter(|key| !key.is_whole_table());
    let mut headers: Vec<&str> = plain.map(|key| key.split().0).collect();
    headers.dedup();
    for (index, header) in headers.iter().enumerate() {
        assert_eq!(headers.iter().position(|other| other == header), Some(index), "{header}");
    }
}

#[test]
fn every_key_has_a_text_and_either_a_default_or_a_sample() {
    for key in KEYS {
        assert!(!key.doc.is_empty(), "{}: no text", key.path);
        assert_eq!(key.kind.default().is_none(), key.is_unset(), "{}", key.path);
        if let Choice(default, words) = key.kind {
            assert!(words.iter().any(|(word, _)| *word == default), "{}: {default}", key.path);
        }
    }
}

/// `Default` of a type of words needs a variant. It must be that of the row.
#[test]
fn the_words_of_a_blank_are_the_defaults() {
    let blank = SettingsDraft::default();
    let (settings, defaults) = (&blank.settings, defaults());
    assert_eq!(settings.log, defaults.settings.log);
    assert_eq!(settings.prefer_ip, defaults.settings.prefer_ip);
    assert_eq!(settings.dns.server, defaults.settings.dns.server);
    assert_eq!(blank.statsd.tags, defaults.statsd.tags);
}

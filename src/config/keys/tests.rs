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

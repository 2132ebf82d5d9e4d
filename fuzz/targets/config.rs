//! The configuration file and edits of its users: a valid file stays valid after an edit.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mtbox::config::edit::{Edit, apply};
use mtbox::config::load::load;

const SECRET: &str = "ee00112233445566778899aabbccddeeff6578616d706c652e6f7267";

fuzz_target!(|bytes: &[u8]| {
    let loads = load(bytes, "a.toml").is_ok();
    let Ok(text) = str::from_utf8(bytes) else { return };
    for edit in [Edit::Add("eve", SECRET), Edit::Disable("me"), Edit::Enable("me")] {
        if let Ok(after) = apply(text, edit) {
            assert!(!loads || load(after.as_bytes(), "a.toml").is_ok(), "{edit:?}\n{after}");
        }
    }
});

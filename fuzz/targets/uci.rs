//! `/etc/config/mtbox`: generated TOML must load, and no message may contain a secret.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mtbox::config::load;
use mtbox::config::uci::convert;

fuzz_target!(|bytes: &[u8]| {
    let made = convert(bytes, "/etc/config/mtbox", "mtbox");
    if let Some(toml) = &made.toml {
        assert!(load::load(toml.as_bytes(), "a.toml").is_ok());
    }
    assert_eq!(made.toml.is_none(), !made.errors.is_empty());
    for line in made.errors.iter().chain(&made.warnings) {
        assert!(!line.contains('\n') && !line.contains("00112233445566778899aabbccddeeff"));
    }
});

//! The PROXY protocol; more bytes never change a verdict once there is one.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mtbox::proto::proxy_header::{Preface, read};

fuzz_target!(|bytes: &[u8]| {
    let whole = read(bytes);
    if let Preface::Complete { len, .. } = whole {
        assert!(len <= bytes.len());
    }
    for cut in 0..bytes.len() {
        match read(&bytes[..cut]) {
            Preface::Ambiguous | Preface::Incomplete => {}
            early => return assert_eq!(early, whole),
        }
    }
});

//! The PROXY protocol: more bytes do not change a result.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mtbox::proto::proxy_header::{Preface, parse};

fuzz_target!(|bytes: &[u8]| {
    let whole = parse(bytes);
    if let Preface::Complete { len, .. } = whole {
        assert!(len <= bytes.len());
    }
    for cut in 0..bytes.len() {
        match parse(&bytes[..cut]) {
            Preface::Ambiguous | Preface::Incomplete => {}
            early => return assert_eq!(early, whole),
        }
    }
});

//! The request for statistics; more bytes never turn a page into another one.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mtbox::proto::http1::{RequestHead, ask};

fuzz_target!(|bytes: &[u8]| {
    let whole = parse_request(bytes);
    for cut in 0..bytes.len() {
        match parse_request(&bytes[..cut]) {
            RequestHead::Incomplete => {}
            early => return assert_eq!(early, whole),
        }
    }
});

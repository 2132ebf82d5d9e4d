//! The request for statistics; more bytes never turn a page into another one.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mtbox::proto::http1::{RequestHead, ask};

fuzz_target!(|bytes: &[u8]| {
    let whole = ask(bytes);
    for cut in 0..bytes.len() {
        match ask(&bytes[..cut]) {
            RequestHead::More => {}
            early => return assert_eq!(early, whole),
        }
    }
});

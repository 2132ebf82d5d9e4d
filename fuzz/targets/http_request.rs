//! A request to the admin interface: more bytes do not change a result.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mtbox::proto::http1::{HeadFault, parse_request};

fuzz_target!(|bytes: &[u8]| {
    let whole = parse_request(bytes);
    for cut in 0..bytes.len() {
        match parse_request(&bytes[..cut]) {
            Err(HeadFault::Incomplete) => {}
            early => return assert_eq!(early, whole),
        }
    }
});

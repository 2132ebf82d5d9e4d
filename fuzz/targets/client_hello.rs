//! The ClientHello: records are assembled to a message, the message is parsed and verified.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mtbox::proto::client_hello::{Assembly, HelloKey, assemble, parse};

fuzz_target!(|bytes: &[u8]| {
    let whole = match assemble(bytes) {
        Assembly::Complete { hello, .. } => hello.to_vec(),
        _ => bytes.to_vec(),
    };
    let key = HelloKey::new(&[7; 16]);
    if let Ok(hello) = parse(&whole) {
        let _ = (hello.server_names().count(), hello.suites().count(), hello.preferred_suite());
        let _ = (hello.offers_group(29), hello.offers_suite(0x1301));
        let _ = key.verify(&whole, hello.random());
    }
});

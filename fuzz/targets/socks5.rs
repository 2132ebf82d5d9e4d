//! A SOCKS5 proxy that sends any bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mtbox::proto::socks5::{Destination, Negotiation};

fuzz_target!(|bytes: &[u8]| {
    let Some((form, mut bytes)) = bytes.split_first() else { return };
    let user = (form & 1 == 1).then(|| (b"user".to_vec(), b"password".to_vec()));
    let (mut negotiation, _) =
        Negotiation::new(Destination::Name("example.org".to_owned(), 443), user);
    let mut sent = Vec::new();
    while negotiation.bytes_needed() > 0 && !bytes.is_empty() {
        let (now, later) = bytes.split_at(negotiation.bytes_needed().min(bytes.len()));
        if negotiation.push(now, &mut sent).is_err() {
            return;
        }
        bytes = later;
    }
    assert!(sent.len() < 600);
});

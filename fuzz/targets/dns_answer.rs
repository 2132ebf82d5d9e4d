//! The answer of a name server, which any host may have forged.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mtbox::proto::dns::{RecordType, parse_answer, pop_frame, write_query};

fuzz_target!(|bytes: &[u8]| {
    let id = bytes.first_chunk().map_or(0, |id| u16::from_be_bytes(*id));
    for kind in [RecordType::A, RecordType::Aaaa] {
        let _ = parse_answer(bytes, id, "example.org", kind);
    }
    if let Ok(name) = str::from_utf8(bytes) {
        let _ = write_query(&mut Vec::new(), id, name, RecordType::A);
    }
    let mut stream = bytes.to_vec();
    while pop_frame(&mut stream).is_some() {}
});

//! A list of networks: the result does not depend on the size of the pieces.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mtbox::limits::ip_list::{ParsedList, ListReader};

fuzz_target!(|bytes: &[u8]| {
    let Some((size, bytes)) = bytes.split_first() else { return };
    assert_eq!(read(bytes, bytes.len().max(1)), read(bytes, usize::from(*size).max(1)));
});

fn read(bytes: &[u8], size: usize) -> ParsedList {
    let mut reader = ListReader::default();
    bytes.chunks(size).for_each(|piece| reader.push_bytes(piece));
    let mut draft = reader.finish();
    while draft.step(size).is_pending() {}
    draft.into_parsed()
}

//! TLS records of both directions: the result does not depend on the size of the pieces.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mtbox::proto::server_flight::ServerFlight;
use mtbox::proto::tls::{Deframer, RecordFault};

fuzz_target!(|bytes: &[u8]| {
    let Some((size, bytes)) = bytes.split_first() else { return };
    let size = usize::from(*size).max(1);
    assert_eq!(payload(bytes, bytes.len().max(1)), payload(bytes, size));
    let mut flight = ServerFlight::new([7; 32]);
    for piece in bytes.chunks(size) {
        if flight.push(piece).is_err() {
            return;
        }
    }
    let _ = (flight.choice(), flight.may_be_complete(), flight.total_len());
});

fn payload(bytes: &[u8], size: usize) -> Result<Vec<u8>, RecordFault> {
    let (mut deframer, mut all) = (Deframer::new(), Vec::new());
    for piece in bytes.chunks(size) {
        let mut piece = piece.to_vec();
        let kept = deframer.deframe(&mut piece)?;
        all.extend_from_slice(&piece[..kept]);
    }
    Ok(all)
}

//! The response of a web server: the result does not depend on the size of the pieces.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mtbox::proto::http1_client::{BodyProgress, HttpFault, Response};

fuzz_target!(|bytes: &[u8]| {
    let Some((size, bytes)) = bytes.split_first() else { return };
    assert_eq!(read(bytes, bytes.len().max(1)), read(bytes, usize::from(*size).max(1)));
});

fn read(bytes: &[u8], size: usize) -> (Result<bool, HttpFault>, Vec<u8>) {
    let (mut response, mut body) = (Response::default(), Vec::new());
    for piece in bytes.chunks(size) {
        match response.push(piece, &mut |_, bytes| body.extend_from_slice(bytes)) {
            Ok((BodyProgress::Incomplete, _)) => {}
            Ok((BodyProgress::Complete, _)) => return (Ok(true), body),
            Err(fault) => return (Err(fault), Vec::new()),
        }
    }
    (response.finish().map(|()| false), body)
}

//! The unencrypted start of MTProto: sends `req_pq_multi`, expects `resPQ`. A server that answers
//! with the nonce of the request speaks MTProto, as Telegram's data centres do. The frames are
//! those of the padded intermediate transport (PROTOCOL 8).

use std::task::Poll;
use std::time::Duration;

use crate::proto::bytes::Reader;

/// Length of the nonce in bytes. The response has to repeat it.
pub const NONCE_LEN: usize = 16;

/// The frame with the request. `since_1970` is the wall clock and goes into the message id.
/// `padding` is random; at most 15 bytes of it are sent.
pub fn req_pq_multi(
    nonce: &[u8; NONCE_LEN],
    since_1970: Duration,
    padding: &[u8; PADDING_MAX],
) -> Vec<u8> {
    // The first byte of the padding, modulo 16, is the padding's length.
    let [count, ..] = *padding;
    let padding = padding.get(..usize::from(count) % PADDING_MAX).unwrap_or_default();
    // A message id is Unix time times 2^32; those of a client are multiples of 4.
    let fraction = (u64::from(since_1970.subsec_nanos()) << 32) / 1_000_000_000;
    let id = since_1970.as_secs() << 32 | fraction & !3;
    let length = ENVELOPE_LEN + REQUEST_LEN as usize + padding.len();
    let mut frame = Vec::with_capacity(4 + length);
    frame.extend((length as u32).to_le_bytes());
    frame.extend([0; 8]); // Key id 0: not encrypted.
    frame.extend(id.to_le_bytes());
    frame.extend(REQUEST_LEN.to_le_bytes());
    frame.extend(REQ_PQ_MULTI.to_le_bytes());
    frame.extend(nonce);
    frame.extend(padding);
    frame
}

/// Why bytes are no `resPQ` for the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProbeFault {
    /// The data centre refuses, with a transport error such as -404 or -429.
    Refused(i32),
    /// A frame length in bytes that no `resPQ` has.
    Length(u32),
    /// Another message than `resPQ`.
    NotResPq,
    /// A `resPQ` with another nonce.
    OtherNonce,
}

impl ProbeFault {
    /// Text for a report.
    pub fn describe(self) -> String {
        match self {
            Self::Refused(code) => format!("Telegram refuses with error {code}"),
            Self::Length(length) => format!("not MTProto: a frame of {length} bytes"),
            Self::NotResPq => "not MTProto: the response is not resPQ".to_owned(),
            Self::OtherNonce => "the response belongs to another request".to_owned(),
        }
    }
}

/// Parses the response from all decrypted bytes received so far. `Pending` = incomplete; at most
/// [`RESPONSE_MAX`] bytes are needed for a result.
///
/// # Errors
/// No further byte can make this a `resPQ` for the request.
pub fn read_res_pq(bytes: &[u8], nonce: &[u8; NONCE_LEN]) -> Poll<Result<(), ProbeFault>> {
    let mut reader = Reader::new(bytes);
    let Some(length) = reader.array().map(|word| u32::from_le_bytes(*word)) else {
        return Poll::Pending;
    };
    let is_error = (4..ERROR_END).contains(&length);
    if !is_error && !RESPONSE_LENGTHS.contains(&length) {
        return Poll::Ready(Err(ProbeFault::Length(length)));
    }
    let Some(frame) = reader.bytes(length as usize) else { return Poll::Pending };
    let mut frame = Reader::new(frame);
    if is_error {
        let code = frame.array().map_or(0, |word| i32::from_le_bytes(*word));
        return Poll::Ready(Err(ProbeFault::Refused(code)));
    }
    let key_id = frame.array::<8>();
    let (_id, _length) = (frame.array::<8>(), frame.array::<4>());
    let constructor = frame.array().map(|word| u32::from_le_bytes(*word));
    if key_id != Some(&[0; 8]) || constructor != Some(RES_PQ) {
        return Poll::Ready(Err(ProbeFault::NotResPq));
    }
    Poll::Ready(match frame.array() {
        Some(echo) if echo == nonce => Ok(()),
        _ => Err(ProbeFault::OtherNonce),
    })
}

/// Longest response frame in bytes, with its length word.
pub const RESPONSE_MAX: usize = 4 + *RESPONSE_LENGTHS.end() as usize;
/// Size of the random padding in bytes; less of it is sent.
pub const PADDING_MAX: usize = 16;

const RESPONSE_LENGTHS: std::ops::RangeInclusive<u32> = 40..=256;
/// A transport error is 4 bytes and up to 15 bytes of padding.
const ERROR_END: u32 = 4 + PADDING_MAX as u32;
/// Key id, message id and message length.
const ENVELOPE_LEN: usize = 20;
const REQUEST_LEN: u32 = 4 + NONCE_LEN as u32;
const REQ_PQ_MULTI: u32 = 0xbe7e_8ef1;
const RES_PQ: u32 = 0x0516_2463;

#[cfg(test)]
mod tests {
    use super::*;

    const NONCE: [u8; 16] = *b"0123456789abcdef";

    /// A frame as a data centre sends it.
    fn response(key_id: u64, constructor: u32, nonce: &[u8; 16], rest: usize) -> Vec<u8> {
        let mut body = constructor.to_le_bytes().to_vec();
        body.extend(nonce);
        body.extend(vec![0x55; rest]);
        let mut message = key_id.to_le_bytes().to_vec();
        message.extend(7u64.to_le_bytes());
        message.extend((body.len() as u32).to_le_bytes());
        message.extend(body);
        [(message.len() as u32).to_le_bytes().as_slice(), &message].concat()
    }

    #[test]
    fn the_request_has_the_bytes_of_the_protocol() {
        let mut padding = [0xee; 16];
        padding[0] = 16 + 3;
        let time = Duration::new(0x6500_0001, 500_000_000);
        let frame = req_pq_multi(&NONCE, time, &padding);
        let want = [
            &[43, 0, 0, 0][..],
            &[0; 8],
            &[0, 0, 0, 0x80, 1, 0, 0, 0x65],
            &[20, 0, 0, 0, 0xf1, 0x8e, 0x7e, 0xbe],
            &NONCE,
            &[19, 0xee, 0xee],
        ]
        .concat();
        assert_eq!(frame, want);
        let id = |nanos| {
            let frame = req_pq_multi(&NONCE, Duration::new(1, nanos), &[0; 16]);
            assert_eq!(frame.len(), 44);
            u64::from_le_bytes(frame[12..20].try_into().unwrap())
        };
        assert!((0..1000).all(|step| id(step * 999_983).is_multiple_of(4)));
        assert!(id(999_999_999) < 2 << 32 && id(1) < id(2_000_000));
    }

    #[test]
    fn a_response_is_incomplete_up_to_its_last_byte() {
        let whole = response(0, RES_PQ, &NONCE, 44);
        for cut in 0..whole.len() {
            assert_eq!(read_res_pq(&whole[..cut], &NONCE), Poll::Pending, "{cut}");
        }
        assert_eq!(read_res_pq(&whole, &NONCE), Poll::Ready(Ok(())));
        let more = [whole.as_slice(), &[9; 40]].concat();
        assert_eq!(read_res_pq(&more, &NONCE), Poll::Ready(Ok(())));
        assert_eq!(read_res_pq(&response(0, RES_PQ, &NONCE, 0), &NONCE), Poll::Ready(Ok(())));
        let longest = response(0, RES_PQ, &NONCE, 256 - 40);
        assert_eq!(
            (longest.len(), read_res_pq(&longest, &NONCE)),
            (RESPONSE_MAX, Poll::Ready(Ok(())))
        );
    }

    #[test]
    fn other_bytes_are_refused_with_a_reason() {
        let other = *b"0123456789abcdeF";
        for (bytes, fault) in [
            (response(0, RES_PQ, &other, 44), ProbeFault::OtherNonce),
            (response(0, REQ_PQ_MULTI, &NONCE, 44), ProbeFault::NotResPq),
            (response(1, RES_PQ, &NONCE, 44), ProbeFault::NotResPq),
            (response(0, RES_PQ, &NONCE, 217), ProbeFault::Length(257)),
            (vec![4, 0, 0, 0, 0x6c, 0xfe, 0xff, 0xff], ProbeFault::Refused(-404)),
            ([&[19, 0, 0, 0, 0x53, 0xfe, 0xff, 0xff][..], &[1; 15]].concat(), {
                ProbeFault::Refused(-429)
            }),
            (vec![0; 4], ProbeFault::Length(0)),
            (vec![3, 0, 0, 0], ProbeFault::Length(3)),
            (vec![20, 0, 0, 0], ProbeFault::Length(20)),
            (vec![39, 0, 0, 0], ProbeFault::Length(39)),
            // A quick acknowledgement, and the start of an HTTP response.
            (vec![1, 2, 3, 0x84], ProbeFault::Length(0x8403_0201)),
            (b"HTTP/1.1 400".to_vec(), ProbeFault::Length(0x5054_5448)),
            (vec![0xff; 300], ProbeFault::Length(u32::MAX)),
        ] {
            assert_eq!(read_res_pq(&bytes, &NONCE), Poll::Ready(Err(fault)), "{bytes:02x?}");
            assert!(!fault.describe().is_empty());
        }
    }

    #[test]
    fn no_bytes_at_all_make_it_panic() {
        let mut seed = 1u64;
        for length in (0..300).chain([300; 2000]) {
            let bytes: Vec<u8> = (0..length)
                .map(|at| {
                    seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(at + 1);
                    // Most rounds start with a plausible length.
                    if at == 0 {
                        40 + (seed >> 59) as u8
                    } else {
                        (seed >> 56) as u8 * (at > 3) as u8
                    }
                })
                .collect();
            let _ = read_res_pq(&bytes, &NONCE);
        }
    }
}

//! The first words of MTProto, which need no key: `req_pq_multi` out, `resPQ` in (spec: protocol
//! 8). Whoever answers them with the nonce of the question is a data centre of Telegram's, or
//! speaks like one. The frames are those of the padded intermediate transport.

use std::time::Duration;

use crate::proto::bytes::Reader;

/// Random bytes of the question, which the answer has to repeat.
pub const NONCE_LEN: usize = 16;

/// The frame that asks. `since_1970` goes into the message's id; `padding` is random, and only its
/// first 15 bytes are used.
pub fn req_pq_multi(
    nonce: &[u8; NONCE_LEN],
    since_1970: Duration,
    padding: &[u8; PADDING_MAX],
) -> Vec<u8> {
    // The first byte of the padding says how much of it there is.
    let [count, ..] = *padding;
    let padding = padding.get(..usize::from(count) % PADDING_MAX).unwrap_or_default();
    // Seconds in the upper half, fractions in the lower one, whose last two bits are zero for
    // what a client asks.
    let fraction = (u64::from(since_1970.subsec_nanos()) << 32) / 1_000_000_000;
    let id = since_1970.as_secs() << 32 | fraction & !3;
    let length = ENVELOPE_LEN + QUESTION_LEN as usize + padding.len();
    let mut frame = Vec::with_capacity(4 + length);
    frame.extend((length as u32).to_le_bytes());
    frame.extend([0; 8]); // No key yet.
    frame.extend(id.to_le_bytes());
    frame.extend(QUESTION_LEN.to_le_bytes());
    frame.extend(REQ_PQ_MULTI.to_le_bytes());
    frame.extend(nonce);
    frame.extend(padding);
    frame
}

/// Why an answer is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProbeFault {
    /// The data centre refuses, with the number of a transport error such as -404 or -429.
    Refused(i32),
    /// A frame of a length that no answer has.
    Length(u32),
    /// A message, but none of those that answer the question.
    NotResPq,
    /// An answer to another question.
    OtherNonce,
}

impl ProbeFault {
    /// In words.
    pub fn describe(self) -> String {
        match self {
            Self::Refused(code) => format!("Telegram refuses with error {code}"),
            Self::Length(length) => format!("no MTProto: a frame of {length} bytes"),
            Self::NotResPq => "no MTProto: the answer is no resPQ".to_owned(),
            Self::OtherNonce => "the answer is to another question".to_owned(),
        }
    }
}

/// Reads the answer from all plain bytes that have come so far. `false` = it is not whole yet;
/// never needs more than [`ANSWER_MAX`] bytes to decide.
///
/// # Errors
/// It is none, and no further byte can help.
pub fn read_res_pq(bytes: &[u8], nonce: &[u8; NONCE_LEN]) -> Result<bool, ProbeFault> {
    let mut reader = Reader::new(bytes);
    let Some(length) = reader.array().map(|word| u32::from_le_bytes(*word)) else {
        return Ok(false);
    };
    let is_error = (4..ERROR_END).contains(&length);
    if !is_error && !ANSWER_LENGTHS.contains(&length) {
        return Err(ProbeFault::Length(length));
    }
    let Some(frame) = reader.take(length as usize) else { return Ok(false) };
    let mut frame = Reader::new(frame);
    if is_error {
        let code = frame.array().map_or(0, |word| i32::from_le_bytes(*word));
        return Err(ProbeFault::Refused(code));
    }
    let key_id = frame.array::<8>();
    let (_id, _length) = (frame.array::<8>(), frame.array::<4>());
    let constructor = frame.array().map(|word| u32::from_le_bytes(*word));
    if key_id != Some(&[0; 8]) || constructor != Some(RES_PQ) {
        return Err(ProbeFault::NotResPq);
    }
    match frame.array() {
        Some(echo) if echo == nonce => Ok(true),
        _ => Err(ProbeFault::OtherNonce),
    }
}

/// A frame of an answer with its length word, at most.
pub const ANSWER_MAX: usize = 4 + *ANSWER_LENGTHS.end() as usize;
/// Padding is shorter than this.
pub const PADDING_MAX: usize = 16;

const ANSWER_LENGTHS: std::ops::RangeInclusive<u32> = 40..=256;
/// An error is four bytes, and padding.
const ERROR_END: u32 = 4 + PADDING_MAX as u32;
/// Key id, message id and length.
const ENVELOPE_LEN: usize = 20;
const QUESTION_LEN: u32 = 4 + NONCE_LEN as u32;
const REQ_PQ_MULTI: u32 = 0xbe7e_8ef1;
const RES_PQ: u32 = 0x0516_2463;

#[cfg(test)]
mod tests {
    use super::*;

    const NONCE: [u8; 16] = *b"0123456789abcdef";

    /// A frame as a data centre sends it.
    fn answer(key_id: u64, constructor: u32, nonce: &[u8; 16], rest: usize) -> Vec<u8> {
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
    fn the_question_stands_byte_for_byte_as_the_protocol_has_it() {
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
    fn an_answer_is_read_from_any_beginning_of_it() {
        let whole = answer(0, RES_PQ, &NONCE, 44);
        for cut in 0..whole.len() {
            assert_eq!(read_res_pq(&whole[..cut], &NONCE), Ok(false), "{cut}");
        }
        assert_eq!(read_res_pq(&whole, &NONCE), Ok(true));
        let more = [whole.as_slice(), &[9; 40]].concat();
        assert_eq!(read_res_pq(&more, &NONCE), Ok(true));
        assert_eq!(read_res_pq(&answer(0, RES_PQ, &NONCE, 0), &NONCE), Ok(true));
        let longest = answer(0, RES_PQ, &NONCE, 256 - 40);
        assert_eq!((longest.len(), read_res_pq(&longest, &NONCE)), (ANSWER_MAX, Ok(true)));
    }

    #[test]
    fn what_is_no_answer_says_what_it_is() {
        let other = *b"0123456789abcdeF";
        for (bytes, fault) in [
            (answer(0, RES_PQ, &other, 44), ProbeFault::OtherNonce),
            (answer(0, REQ_PQ_MULTI, &NONCE, 44), ProbeFault::NotResPq),
            (answer(1, RES_PQ, &NONCE, 44), ProbeFault::NotResPq),
            (answer(0, RES_PQ, &NONCE, 217), ProbeFault::Length(257)),
            (vec![4, 0, 0, 0, 0x6c, 0xfe, 0xff, 0xff], ProbeFault::Refused(-404)),
            ([&[19, 0, 0, 0, 0x53, 0xfe, 0xff, 0xff][..], &[1; 15]].concat(), {
                ProbeFault::Refused(-429)
            }),
            (vec![0; 4], ProbeFault::Length(0)),
            (vec![3, 0, 0, 0], ProbeFault::Length(3)),
            (vec![20, 0, 0, 0], ProbeFault::Length(20)),
            (vec![39, 0, 0, 0], ProbeFault::Length(39)),
            // A quick acknowledgement, and the beginning of an HTTP response.
            (vec![1, 2, 3, 0x84], ProbeFault::Length(0x8403_0201)),
            (b"HTTP/1.1 400".to_vec(), ProbeFault::Length(0x5054_5448)),
            (vec![0xff; 300], ProbeFault::Length(u32::MAX)),
        ] {
            assert_eq!(read_res_pq(&bytes, &NONCE), Err(fault), "{bytes:02x?}");
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
                    // The first word is a length that leads further in most rounds.
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

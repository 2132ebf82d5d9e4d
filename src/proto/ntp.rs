//! A simple NTP client: one request, one response (RFC 5905; RFC 4330 5). The request reveals
//! nothing about this machine: instead of the local time it has random bytes, which the response
//! must repeat.

use std::time::Duration;

use crate::proto::bytes::Reader;

/// Random bytes of a request.
pub type Cookie = [u8; 8];

/// Builds a request packet.
pub fn request(cookie: &Cookie) -> [u8; PACKET_LEN] {
    let mut packet = [0; PACKET_LEN];
    if let Some((first, rest)) = packet.split_first_mut() {
        *first = VERSION << 3 | CLIENT;
        if let Some(transmit) = rest.last_chunk_mut() {
            *transmit = *cookie;
        }
    }
    packet
}

/// Why a packet yields no time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NtpFault {
    /// Not a response to this request, for example a forged packet; keep waiting.
    Unrelated,
    /// The server refuses (kiss-o'-death, RFC 5905 7.4), or its own clock is not set.
    Unusable,
}

/// Offset of the server's clock in nanoseconds; positive = ahead of ours. `sent` and `received` are
/// the local Unix times of request and response.
///
/// # Errors
/// The packet yields no time.
pub fn offset_ns(
    packet: &[u8],
    cookie: &Cookie,
    sent: Duration,
    received: Duration,
) -> Result<i64, NtpFault> {
    let fields = NtpFields::read(packet).ok_or(NtpFault::Unrelated)?;
    let (version, mode) = (fields.first >> 3 & 7, fields.first & 7);
    if mode != SERVER || !(3..=VERSION).contains(&version) || &fields.origin != cookie {
        return Err(NtpFault::Unrelated);
    }
    let is_unset = fields.first >> 6 == ALARM || fields.transmit == [0; 8];
    if is_unset || !(1..=STRATUM_MAX).contains(&fields.stratum) {
        return Err(NtpFault::Unusable);
    }
    let local = |time: Duration| time.as_nanos() as i128;
    let outbound = nanos(&fields.receive) - local(sent);
    let inbound = nanos(&fields.transmit) - local(received);
    let offset = (outbound + inbound) / 2;
    Ok(offset.clamp(i64::MIN.into(), i64::MAX.into()) as i64)
}

/// The fields of a packet that are used (RFC 5905 7.3).
struct NtpFields {
    /// Leap indicator, version and mode.
    first: u8,
    stratum: u8,
    origin: [u8; 8],
    receive: [u8; 8],
    transmit: [u8; 8],
}

impl NtpFields {
    /// Reads the fields. Extensions may follow them.
    fn read(packet: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(packet);
        let (first, stratum) = (reader.u8()?, reader.u8()?);
        reader.bytes(BEFORE_TIMES)?;
        let (origin, receive) = (*reader.array()?, *reader.array()?);
        Some(Self { first, stratum, origin, receive, transmit: *reader.array()? })
    }
}

/// Converts a timestamp to Unix time in nanoseconds. Its 32 bits of seconds overflow in 2036; a top
/// bit of zero means a time after that (RFC 4330 3).
fn nanos(stamp: &[u8; 8]) -> i128 {
    let [seconds @ .., a, b, c, d] = *stamp;
    let (seconds, fraction) = (u32::from_be_bytes(seconds), u32::from_be_bytes([a, b, c, d]));
    let era = if seconds >> 31 == 0 { 1i128 << 32 } else { 0 };
    let seconds = i128::from(seconds) + era - FROM_1900_TO_1970;
    seconds * 1_000_000_000 + ((i128::from(fraction) * 1_000_000_000) >> 32)
}

/// Length of a packet without extensions, in bytes.
pub const PACKET_LEN: usize = 48;
const VERSION: u8 = 4;
const CLIENT: u8 = 3;
const SERVER: u8 = 4;
/// Leap indicator of a clock that is not set.
const ALARM: u8 = 3;
/// Largest valid stratum.
const STRATUM_MAX: u8 = 15;
/// Length of poll, precision, root delay, root dispersion, reference id and reference timestamp.
const BEFORE_TIMES: usize = 22;
const FROM_1900_TO_1970: i128 = 2_208_988_800;

#[cfg(test)]
mod tests {
    use super::*;

    const COOKIE: Cookie = *b"\x01cookie\xff";
    const NOON: Duration = Duration::from_secs(1_795_000_000);

    fn stamp(time: Duration) -> [u8; 8] {
        let seconds = (time.as_secs() + FROM_1900_TO_1970 as u64) as u32;
        let fraction = (u64::from(time.subsec_nanos()) << 32) / 1_000_000_000;
        let mut stamp = [0; 8];
        stamp[..4].copy_from_slice(&seconds.to_be_bytes());
        stamp[4..].copy_from_slice(&(fraction as u32).to_be_bytes());
        stamp
    }

    /// A response of a server whose clock shows these times.
    fn response(receive: Duration, transmit: Duration) -> Vec<u8> {
        let mut packet = vec![0; PACKET_LEN];
        (packet[0], packet[1]) = (4 << 3 | SERVER, 2);
        packet[24..32].copy_from_slice(&COOKIE);
        packet[32..40].copy_from_slice(&stamp(receive));
        packet[40..].copy_from_slice(&stamp(transmit));
        packet
    }

    #[test]
    fn a_request_has_only_version_mode_and_cookie() {
        let packet = request(&COOKIE);
        assert_eq!(packet[0], 0x23);
        assert_eq!(packet[1..40], [0; 39]);
        assert_eq!(packet[40..], COOKIE);
    }

    #[test]
    fn the_offset_is_the_mean_of_both_differences() {
        let ms = Duration::from_millis;
        for (ahead, there, back) in [(0, 10, 10), (1500, 10, 30), (30_000, 1, 1)] {
            let server = NOON + ms(ahead);
            let packet = response(server + ms(there), server + ms(there));
            let offset = offset_ns(&packet, &COOKIE, NOON, NOON + ms(there + back)).unwrap();
            let want = ahead as i64 * 1_000_000 + (there as i64 - back as i64) * 500_000;
            assert!((offset - want).abs() < 10, "{offset} {want}");
        }
        let behind = response(NOON - ms(2000), NOON - ms(2000));
        let offset = offset_ns(&behind, &COOKIE, NOON, NOON).unwrap();
        assert!((offset + 2_000_000_000).abs() < 10, "{offset}");
    }

    #[test]
    fn times_after_2036_and_an_unset_clock_are_handled() {
        let late = Duration::from_secs(2_100_000_000);
        let offset = offset_ns(&response(late, late), &COOKIE, late, late).unwrap();
        assert!(offset.abs() < 10, "{offset}");
        let unset = Duration::ZERO;
        let offset = offset_ns(&response(NOON, NOON), &COOKIE, unset, unset).unwrap();
        assert_eq!(offset / 1_000_000_000, 1_795_000_000);
    }

    #[test]
    fn other_packets_and_unset_clocks_are_refused() {
        let good = response(NOON, NOON);
        let edited = |at: usize, byte: u8| {
            let mut packet = good.clone();
            packet[at] = byte;
            offset_ns(&packet, &COOKIE, NOON, NOON)
        };
        assert!(edited(0, 3 << 3 | SERVER).is_ok(), "version 3");
        for (at, byte) in [(0, 0x23), (0, 0x25), (0, 0), (0, 5 << 3 | SERVER), (24, 0), (31, 0)] {
            assert_eq!(edited(at, byte), Err(NtpFault::Unrelated), "{at} {byte}");
        }
        for (at, byte) in [(0, 0xc0 | 4 << 3 | SERVER), (1, 0), (1, 16), (1, 255)] {
            assert_eq!(edited(at, byte), Err(NtpFault::Unusable), "{at} {byte}");
        }
        let mut unset = good.clone();
        unset[40..].fill(0);
        assert_eq!(offset_ns(&unset, &COOKIE, NOON, NOON), Err(NtpFault::Unusable));
        for length in 0..PACKET_LEN {
            let cut = offset_ns(&good[..length], &COOKIE, NOON, NOON);
            assert_eq!(cut, Err(NtpFault::Unrelated), "{length}");
        }
        let longer = [good.as_slice(), &[7; 20]].concat();
        assert!(offset_ns(&longer, &COOKIE, NOON, NOON).is_ok());
    }

    #[test]
    fn extreme_times_do_not_overflow() {
        let edges = [[0; 8], [0xff; 8], [0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]];
        for receive in edges {
            for transmit in edges {
                let mut packet = response(NOON, NOON);
                packet[32..40].copy_from_slice(&receive);
                packet[40..].copy_from_slice(&transmit);
                let _ = offset_ns(&packet, &COOKIE, Duration::MAX, Duration::ZERO);
                let _ = offset_ns(&packet, &COOKIE, Duration::ZERO, Duration::MAX);
            }
        }
    }
}

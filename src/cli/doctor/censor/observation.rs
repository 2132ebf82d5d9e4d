//! What a client observes of a server, and whether two observations may come from the same server.
//! Pure functions of the bytes and of the end of a connection.

use crate::proto::records::RecordWalker;
use crate::proto::tls;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Observation {
    received: Vec<Received>,
    pub(super) end: ConnectionEnd,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Received {
    /// A TLS record: type and length in bytes. Its body is random or encrypted.
    Record(u8, u16),
    /// A plaintext TLS alert: level and description.
    Alert(u8, u8),
    /// Other bytes: the beginning of the first line, and the total length.
    Plain(String, usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ConnectionEnd {
    Fin,
    Reset,
    /// The server sent nothing more. A later close is a time limit, not a reaction.
    Waits,
    NoConnection,
}

impl Observation {
    /// `bytes`: everything that the server sent.
    pub(super) fn new(bytes: &[u8], end: ConnectionEnd) -> Self {
        Self { received: split(bytes), end }
    }

    /// Equal, except for what varies between two answers of one server: the length of a signature
    /// and of a date.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        let mut pairs = self.received.iter().zip(&other.received);
        self.end == other.end
            && self.received.len() == other.received.len()
            && pairs.all(|(one, other)| is_alike(one, other))
    }

    /// Such as `handshake(90), data(2000), FIN`; lengths are in bytes.
    pub(super) fn describe(&self) -> String {
        let mut parts: Vec<String> = self.received.iter().map(describe_one).collect();
        let end = match self.end {
            ConnectionEnd::Fin => "FIN",
            ConnectionEnd::Reset => "RST",
            ConnectionEnd::Waits => "waits",
            ConnectionEnd::NoConnection => "no connection",
        };
        parts.push(end.to_owned());
        parts.join(", ")
    }
}

fn is_alike(one: &Received, other: &Received) -> bool {
    match (one, other) {
        (
            Received::Record(tls::APPLICATION_DATA, one),
            Received::Record(tls::APPLICATION_DATA, two),
        ) => one.abs_diff(*two) <= SIGNATURE_SLACK,
        (Received::Plain(line, one), Received::Plain(other_line, two)) => {
            line == other_line && one.abs_diff(*two) <= PAGE_SLACK
        }
        (one, other) => one == other,
    }
}

fn describe_one(received: &Received) -> String {
    match received {
        Received::Record(tls::HANDSHAKE, len) => format!("handshake({len})"),
        Received::Record(tls::CHANGE_CIPHER_SPEC, _) => "CCS".to_owned(),
        Received::Record(tls::APPLICATION_DATA, len) => format!("data({len})"),
        Received::Record(kind, len) => format!("record {kind:02x}({len})"),
        Received::Alert(level, description) => format!("alert {level}/{description}"),
        Received::Plain(line, len) => format!("{len} bytes {line:?}"),
    }
}

/// Splits the bytes into TLS records. The rest after the last complete record is plain.
fn split(bytes: &[u8]) -> Vec<Received> {
    let (mut received, mut records) = (Vec::new(), RecordWalker::default());
    let (mut rest, mut plain) = (bytes, bytes);
    // The body of an alert of two bytes, which is not encrypted.
    let mut alert = Vec::new();
    while let Ok(Some(piece)) = records.next_piece(&mut rest) {
        if piece.kind == tls::ALERT && piece.len == 2 {
            alert.extend_from_slice(piece.part);
        }
        if piece.is_last {
            received.push(match alert.as_slice() {
                [level, description] => Received::Alert(*level, *description),
                _ => Received::Record(piece.kind, piece.len),
            });
            alert.clear();
            plain = rest;
        }
    }
    if !plain.is_empty() {
        let line = plain.split(|byte| byte.is_ascii_control()).next().unwrap_or_default();
        let line = line.get(..LINE_MAX).unwrap_or(line);
        let text = line.iter().map(|byte| if byte.is_ascii() { char::from(*byte) } else { '.' });
        received.push(Received::Plain(text.collect(), plain.len()));
    }
    received
}

/// In bytes. The DER encoding of an ECDSA signature varies in length.
const SIGNATURE_SLACK: u16 = 8;
/// In bytes. Error pages contain dates and request numbers.
const PAGE_SLACK: usize = 16;
/// In bytes.
const LINE_MAX: usize = 40;

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: u8, payload: &[u8]) -> Vec<u8> {
        let mut wire = vec![kind, 3, 3];
        wire.extend((payload.len() as u16).to_be_bytes());
        wire.extend(payload);
        wire
    }

    #[test]
    fn bytes_are_split_into_records_alerts_and_the_rest() {
        let wire = [
            record(0x16, &[7; 90]),
            record(0x14, &[1]),
            record(0x17, &[9; 2000]),
            record(0x15, &[2, 40]),
            record(0x15, &[5; 19]),
            b"HTTP/1.1 400 Bad Request\r\nDate: now\r\n".to_vec(),
        ]
        .concat();
        let want = [
            Received::Record(0x16, 90),
            Received::Record(0x14, 1),
            Received::Record(0x17, 2000),
            Received::Alert(2, 40),
            Received::Record(0x15, 19),
            Received::Plain("HTTP/1.1 400 Bad Request".into(), 37),
        ];
        assert_eq!(split(&wire), want);
        assert_eq!(
            Observation::new(&wire, ConnectionEnd::Fin).describe(),
            "handshake(90), CCS, data(2000), alert 2/40, record 15(19), \
             37 bytes \"HTTP/1.1 400 Bad Request\", FIN"
        );
        // An incomplete record counts as plain bytes.
        assert_eq!(split(&record(0x17, &[9; 20])[..10]), [Received::Plain(String::new(), 10)]);
        assert_eq!(split(&[0xff; 99]), [Received::Plain(".".repeat(40), 99)]);
        assert_eq!(Observation::new(&[], ConnectionEnd::Waits).describe(), "waits");
    }

    #[test]
    fn observations_may_differ_in_signatures_and_dates_only() {
        let seen = |wire: &[u8], end| Observation::new(wire, end);
        let flight = |len| record(0x17, &vec![1; len]);
        let page = |date: &str| format!("HTTP/1.1 400 Bad\r\nDate: {date}\r\n").into_bytes();
        let is_like = |one: &[u8], two: &[u8]| {
            seen(one, ConnectionEnd::Fin).is_like(&seen(two, ConnectionEnd::Fin))
        };
        assert!(is_like(&flight(1000), &flight(1008)) && !is_like(&flight(1000), &flight(1009)));
        assert!(is_like(&page("8:00:00"), &page("10:00:01")));
        assert!(!is_like(b"HTTP/1.1 400 Bad\r\n", b"HTTP/1.1 404 Bad\r\n"));
        assert!(!is_like(&record(0x15, &[2, 40]), &record(0x15, &[2, 50])));
        assert!(!is_like(&record(0x16, &[1; 90]), &record(0x16, &[1; 91])));
        assert!(!is_like(&flight(1000), &[flight(1000), flight(30)].concat()));
        assert!(!seen(b"", ConnectionEnd::Fin).is_like(&seen(b"", ConnectionEnd::Reset)));
        assert!(!seen(b"", ConnectionEnd::Waits).is_like(&seen(b"", ConnectionEnd::Fin)));
    }
}

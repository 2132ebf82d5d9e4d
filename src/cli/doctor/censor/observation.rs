//! What can be seen of a server from outside, and whether two sights tell two servers apart.
//! Pure: bytes and ends in, words out.

use crate::proto::records::RecordWalker;
use crate::proto::tls;

/// What came at once, and what became of the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observation {
    /// Record by record, where it was TLS.
    pub heard: Vec<Received>,
    /// How it ended.
    pub end: ConnectionEnd,
}

/// One piece of what came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    /// A record whose body is random or encrypted: its type, and its length in bytes.
    Record(u8, u16),
    /// An alert in the clear: level and description.
    Alert(u8, u8),
    /// Bytes that are no record: the beginning of the first line, and how many in all.
    Plain(String, usize),
}

/// What becomes of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectionEnd {
    /// A FIN at once.
    Fin,
    /// An RST at once.
    Reset,
    /// Nothing for some seconds; whatever comes later is the server's own time limit.
    Waits,
    /// It never came to be.
    NoConnection,
}

impl Observation {
    /// From everything that came, in order.
    pub fn new(bytes: &[u8], end: ConnectionEnd) -> Self {
        Self { heard: cut(bytes), end }
    }

    /// Alike as far as a site is like itself: signatures differ in length by a few bytes, pages
    /// by a date.
    pub fn is_like(&self, other: &Self) -> bool {
        let pairs = self.heard.iter().zip(&other.heard);
        self.end == other.end
            && self.heard.len() == other.heard.len()
            && pairs.into_iter().all(|(one, other)| alike(one, other))
    }

    /// In words.
    pub fn describe(&self) -> String {
        let mut parts: Vec<String> = self.heard.iter().map(words).collect();
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

fn alike(one: &Received, other: &Received) -> bool {
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

fn words(heard: &Received) -> String {
    match heard {
        Received::Record(tls::HANDSHAKE, len) => format!("handshake({len})"),
        Received::Record(tls::CHANGE_CIPHER_SPEC, _) => "CCS".to_owned(),
        Received::Record(tls::APPLICATION_DATA, len) => format!("data({len})"),
        Received::Record(kind, len) => format!("record {kind:02x}({len})"),
        Received::Alert(level, description) => format!("alert {level}/{description}"),
        Received::Plain(line, len) => format!("{len} bytes {line:?}"),
    }
}

/// Cuts what came into TLS records as far as it is such.
fn cut(bytes: &[u8]) -> Vec<Received> {
    let (mut heard, mut records) = (Vec::new(), RecordWalker::default());
    let (mut rest, mut whole) = (bytes, bytes);
    let mut alert = Vec::new();
    while let Ok(Some(piece)) = records.next_piece(&mut rest) {
        if piece.kind == tls::ALERT && piece.len == 2 {
            alert.extend_from_slice(piece.part);
        }
        if piece.is_last {
            heard.push(match alert.as_slice() {
                [level, description] => Received::Alert(*level, *description),
                _ => Received::Record(piece.kind, piece.len),
            });
            alert.clear();
            whole = rest;
        }
    }
    if !whole.is_empty() {
        let line = whole.split(|byte| byte.is_ascii_control()).next().unwrap_or_default();
        let line = line.get(..LINE_MAX).unwrap_or(line);
        let text = line.iter().map(|byte| if byte.is_ascii() { char::from(*byte) } else { '.' });
        heard.push(Received::Plain(text.collect(), whole.len()));
    }
    heard
}

/// Signatures of ECDSA, and what is padded around them.
const SIGNATURE_SLACK: u16 = 8;
/// Dates and numbers of requests.
const PAGE_SLACK: usize = 16;
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
    fn what_came_is_cut_into_records_alerts_and_the_rest() {
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
        assert_eq!(cut(&wire), want);
        assert_eq!(
            Observation::new(&wire, ConnectionEnd::Fin).describe(),
            "handshake(90), CCS, data(2000), alert 2/40, record 15(19), \
             37 bytes \"HTTP/1.1 400 Bad Request\", FIN"
        );
        // A record that is cut short is no record.
        assert_eq!(cut(&record(0x17, &[9; 20])[..10]), [Received::Plain(String::new(), 10)]);
        assert_eq!(cut(&[0xff; 99]), [Received::Plain(".".repeat(40), 99)]);
        assert_eq!(Observation::new(&[], ConnectionEnd::Waits).describe(), "waits");
    }

    #[test]
    fn signatures_and_dates_tell_nothing_and_all_else_does() {
        let sight = |wire: &[u8], end| Observation::new(wire, end);
        let flight = |len| record(0x17, &vec![1; len]);
        let page = |date: &str| format!("HTTP/1.1 400 Bad\r\nDate: {date}\r\n").into_bytes();
        let is_like = |one: &[u8], two: &[u8]| {
            sight(one, ConnectionEnd::Fin).is_like(&sight(two, ConnectionEnd::Fin))
        };
        assert!(is_like(&flight(1000), &flight(1008)) && !is_like(&flight(1000), &flight(1009)));
        assert!(is_like(&page("8:00:00"), &page("10:00:01")));
        assert!(!is_like(b"HTTP/1.1 400 Bad\r\n", b"HTTP/1.1 404 Bad\r\n"));
        assert!(!is_like(&record(0x15, &[2, 40]), &record(0x15, &[2, 50])));
        assert!(!is_like(&record(0x16, &[1; 90]), &record(0x16, &[1; 91])));
        assert!(!is_like(&flight(1000), &[flight(1000), flight(30)].concat()));
        assert!(!sight(b"", ConnectionEnd::Fin).is_like(&sight(b"", ConnectionEnd::Reset)));
        assert!(!sight(b"", ConnectionEnd::Waits).is_like(&sight(b"", ConnectionEnd::Fin)));
    }
}

//! The answer of a TLS 1.3 server to a ClientHello, parsed without its keys: the ServerHello, and
//! number and lengths of the encrypted records after it (RFC 8446 4.1.3).

use crate::proto::bytes::Reader;
use crate::proto::client_hello::{KEY_SHARE, TLS13_SUITES, X25519, X25519MLKEM768};
use crate::proto::records::{Piece, RecordWalker};
use crate::proto::server_hello::{ExtensionOrder, SERVER_HELLO};
use crate::proto::tls;

/// Parser of a server flight. Keeps at most one handshake message.
#[derive(Debug)]
pub struct ServerFlight {
    /// The session id of our hello, which the server must repeat.
    session_id: [u8; 32],
    records: RecordWalker,
    /// Bytes of the ServerHello, or of an alert.
    message: Vec<u8>,
    choice: Option<Choice>,
    lens: Vec<u16>,
}

/// The choices in a ServerHello.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Choice {
    /// One of [`TLS13_SUITES`].
    pub cipher: u16,
    /// Whether the key share is X25519MLKEM768; otherwise it is x25519.
    pub hybrid: bool,
    /// Order of the extensions.
    pub order: ExtensionOrder,
}

/// Whether more bytes are needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlightProgress {
    /// More records may follow; the flight ends when the server sends nothing for a while.
    More,
    /// The limit is reached; later records are ignored.
    Enough,
}

/// Why an answer cannot be imitated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlightFault {
    /// The bytes are not TLS.
    NotTls,
    /// The server refuses with this alert description (RFC 8446 6.2).
    Alert(u8),
    /// The server chose TLS 1.2 or older.
    OldTls,
    /// The server requests a key share of another group (HelloRetryRequest).
    Retry,
    /// A TLS 1.3 server would not send this.
    Malformed,
}

impl ServerFlight {
    /// Parses the answer to a hello with this session id.
    pub fn new(session_id: [u8; 32]) -> Self {
        let (records, message, lens) = (RecordWalker::default(), Vec::new(), Vec::new());
        Self { session_id, records, message, choice: None, lens }
    }

    /// Parses more bytes. Do not call it again after [`FlightProgress::Enough`] or an error.
    ///
    /// # Errors
    /// The answer is not TLS 1.3 with a key share for our hello.
    pub fn push(&mut self, mut bytes: &[u8]) -> Result<FlightProgress, FlightFault> {
        while let Some(piece) =
            self.records.next_piece(&mut bytes).map_err(|_| FlightFault::NotTls)?
        {
            self.check(&piece)?;
            if self.lens.len() == RECORDS_MAX || self.total_len() >= FLIGHT_MAX {
                return Ok(FlightProgress::Enough);
            }
        }
        Ok(FlightProgress::More)
    }

    /// The choices of the server; `None` until its ServerHello is complete.
    pub fn choice(&self) -> Option<Choice> {
        self.choice
    }

    /// Number of encrypted records, at most 8.
    pub fn record_count(&self) -> usize {
        self.lens.len()
    }

    /// Payload lengths of the encrypted records in bytes, in order.
    pub fn record_lens(&self) -> &[u16] {
        &self.lens
    }

    /// Sum of the payload lengths in bytes, below 51,000.
    pub fn total_len(&self) -> u32 {
        self.lens.iter().map(|len| u32::from(*len)).sum()
    }

    /// Whether no encrypted record has been received.
    pub fn is_empty(&self) -> bool {
        self.lens.is_empty()
    }

    /// Whether the flight may be complete: it is if the server sends nothing more for a while.
    pub fn may_be_complete(&self) -> bool {
        self.choice.is_some() && !self.lens.is_empty() && self.records.is_at_boundary()
    }

    fn check(&mut self, piece: &Piece<'_>) -> Result<(), FlightFault> {
        match (piece.kind, self.choice) {
            (tls::HANDSHAKE, None) => self.read_server_hello(piece),
            (tls::ALERT, None) => {
                self.message.extend_from_slice(piece.part);
                match self.message.as_slice() {
                    [_level, description] if piece.is_last => Err(FlightFault::Alert(*description)),
                    [_] | [] if !piece.is_last => Ok(()),
                    _ => Err(FlightFault::Malformed),
                }
            }
            (tls::CHANGE_CIPHER_SPEC, Some(_)) if piece.len == 1 && self.lens.is_empty() => Ok(()),
            (tls::APPLICATION_DATA, Some(_)) if piece.len >= PROTECTED_MIN => {
                if piece.is_last {
                    self.lens.push(piece.len);
                }
                Ok(())
            }
            _ => Err(FlightFault::Malformed),
        }
    }

    /// Collects the ServerHello, which may be sent in several records.
    fn read_server_hello(&mut self, piece: &Piece<'_>) -> Result<(), FlightFault> {
        self.message.extend_from_slice(piece.part);
        if self.message.len() > tls::PLAIN_MAX {
            return Err(FlightFault::Malformed);
        }
        let mut message = Reader::new(&self.message);
        let Some([kind, high, middle, low]) = message.array() else { return Ok(()) };
        if *kind != SERVER_HELLO {
            return Err(FlightFault::Malformed);
        }
        let len = u32::from_be_bytes([0, *high, *middle, *low]) as usize;
        let Some(body) = message.bytes(len) else { return Ok(()) };
        let choice = read_choice(body, &self.session_id).unwrap_or(Err(FlightFault::Malformed))?;
        // The keys change after this message, so its record must end here (RFC 8446 5.1).
        if !message.is_empty() || !piece.is_last {
            return Err(FlightFault::Malformed);
        }
        self.choice = Some(choice);
        self.message = Vec::new();
        Ok(())
    }
}

/// Parses the body of a ServerHello; `None` = inconsistent lengths.
fn read_choice(body: &[u8], session_id: &[u8]) -> Option<Result<Choice, FlightFault>> {
    let mut body = Reader::new(body);
    let (_version, random) = (body.u16()?, body.array::<32>()?);
    let (echo, cipher, compression) = (body.block8()?, body.u16()?, body.u8()?);
    let mut extensions = Reader::new(if body.is_empty() { &[] } else { body.block16()? });
    let (mut version, mut group, mut order) = (None, None, ExtensionOrder::VersionsFirst);
    while !extensions.is_empty() {
        let (kind, content) = (extensions.u16()?, extensions.block16()?);
        match kind {
            SUPPORTED_VERSIONS => version = Reader::new(content).u16(),
            KEY_SHARE => {
                group = Reader::new(content).u16();
                if version.is_none() {
                    order = ExtensionOrder::ShareFirst;
                }
            }
            _ => {}
        }
    }
    if version != Some(TLS_1_3) {
        return Some(Err(FlightFault::OldTls));
    }
    if random == &RETRY_RANDOM {
        return Some(Err(FlightFault::Retry));
    }
    let hybrid = group? == X25519MLKEM768;
    let is_valid = (hybrid || group? == X25519)
        && TLS13_SUITES.contains(&cipher)
        && compression == 0
        && echo == session_id
        && body.is_empty();
    Some(if is_valid { Ok(Choice { cipher, hybrid, order }) } else { Err(FlightFault::Malformed) })
}

const SUPPORTED_VERSIONS: u16 = 0x002b;
const TLS_1_3: u16 = 0x0304;
/// SHA-256 of "HelloRetryRequest" (RFC 8446 4.1.3).
const RETRY_RANDOM: [u8; 32] = [
    0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8, 0x91,
    0xc2, 0xa2, 0x11, 0x16, 0x7a, 0xbb, 0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c,
];
/// Shortest payload of a protected record in bytes: a type byte and a tag (RFC 8446 5.2).
const PROTECTED_MIN: u16 = 17;
const RECORDS_MAX: usize = 8;
const FLIGHT_MAX: u32 = 32_768;

#[cfg(test)]
mod tests;

//! What a TLS 1.3 server answers to a first hello, read as far as somebody without its keys can:
//! the ServerHello, and how many encrypted records of which lengths follow (RFC 8446 4.1.3).

use crate::proto::bytes::Reader;
use crate::proto::client_hello::{KEY_SHARE, TLS13_SUITES, X25519, X25519MLKEM768};
use crate::proto::records::{Piece, RecordWalker};
use crate::proto::server_hello::{ExtensionOrder, SERVER_HELLO};
use crate::proto::tls;

/// An answer that is being read. Holds at most one handshake record.
#[derive(Debug)]
pub struct ServerFlight {
    /// The id in our hello, which the server has to repeat.
    session_id: [u8; 32],
    records: RecordWalker,
    /// Handshake bytes before the choice is known; an alert.
    message: Vec<u8>,
    choice: Option<Choice>,
    lens: Vec<u16>,
}

/// What the server chose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Choice {
    /// One of [`TLS13_SUITES`].
    pub cipher: u16,
    /// X25519MLKEM768, else x25519.
    pub hybrid: bool,
    /// Which extension of the ServerHello comes first.
    pub order: ExtensionOrder,
}

/// What more there is to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlightProgress {
    /// Perhaps more records: the flight ends when the server falls silent.
    More,
    /// No server's flight is longer than what was seen.
    Enough,
}

/// Why an answer cannot be a model for ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlightFault {
    /// No TLS at all.
    NotTls,
    /// The server refuses with this alert (RFC 8446 6.2).
    Alert(u8),
    /// The server speaks TLS 1.2 or older.
    OldTls,
    /// The server wants a share of another group (HelloRetryRequest).
    Retry,
    /// Something that a server of TLS 1.3 would not say.
    Malformed,
}

impl ServerFlight {
    /// Expects the answer to a hello with this session id.
    pub fn new(session_id: [u8; 32]) -> Self {
        let (records, message, lens) = (RecordWalker::default(), Vec::new(), Vec::new());
        Self { session_id, records, message, choice: None, lens }
    }

    /// Reads on. After [`FlightProgress::Enough`] or an error there is no use in more.
    ///
    /// # Errors
    /// The answer is none of TLS 1.3 with a share of ours.
    pub fn push(&mut self, mut bytes: &[u8]) -> Result<FlightProgress, FlightFault> {
        while let Some(piece) =
            self.records.next_piece(&mut bytes).map_err(|_| FlightFault::NotTls)?
        {
            self.judge(&piece)?;
            if self.lens.len() == RECORDS_MAX || self.total_len() >= FLIGHT_MAX {
                return Ok(FlightProgress::Enough);
            }
        }
        Ok(FlightProgress::More)
    }

    /// What the server chose, once its hello is whole.
    pub fn choice(&self) -> Option<Choice> {
        self.choice
    }

    /// How many encrypted records have come: 8 at most.
    pub fn record_count(&self) -> usize {
        self.lens.len()
    }

    /// The lengths of their payloads in bytes, in their order.
    pub fn record_lens(&self) -> &[u16] {
        &self.lens
    }

    /// The sum of their payloads in bytes: below 51,000.
    pub fn total_len(&self) -> u32 {
        self.lens.iter().map(|len| u32::from(*len)).sum()
    }

    /// No encrypted record has come.
    pub fn is_empty(&self) -> bool {
        self.lens.is_empty()
    }

    /// If the server says nothing more for a while, this was all of it.
    pub fn may_be_complete(&self) -> bool {
        self.choice.is_some() && !self.lens.is_empty() && self.records.is_at_boundary()
    }

    fn judge(&mut self, piece: &Piece<'_>) -> Result<(), FlightFault> {
        match (piece.kind, self.choice) {
            (tls::HANDSHAKE, None) => self.hear(piece),
            (tls::ALERT, None) => {
                self.message.extend_from_slice(piece.part);
                match self.message.as_slice() {
                    [_level, description] if piece.is_last => Err(FlightFault::Alert(*description)),
                    [_] | [] if !piece.is_last => Ok(()),
                    _ => Err(FlightFault::Malformed),
                }
            }
            (tls::CHANGE_CIPHER_SPEC, Some(_)) if piece.len == 1 && self.lens.is_empty() => Ok(()),
            (tls::APPLICATION_DATA, Some(_)) if piece.len >= PROTECTED_LEAST => {
                if piece.is_last {
                    self.lens.push(piece.len);
                }
                Ok(())
            }
            _ => Err(FlightFault::Malformed),
        }
    }

    /// Gathers the ServerHello, which may come in several records.
    fn hear(&mut self, piece: &Piece<'_>) -> Result<(), FlightFault> {
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
        // The keys change behind this message, so its record must end here (RFC 8446 5.1).
        if !message.is_empty() || !piece.is_last {
            return Err(FlightFault::Malformed);
        }
        self.choice = Some(choice);
        self.message = Vec::new();
        Ok(())
    }
}

/// Reads the body of a ServerHello; `None` = its lengths do not fit together.
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
    let is_good = (hybrid || group? == X25519)
        && TLS13_SUITES.contains(&cipher)
        && compression == 0
        && echo == session_id
        && body.is_empty();
    Some(if is_good { Ok(Choice { cipher, hybrid, order }) } else { Err(FlightFault::Malformed) })
}

const SUPPORTED_VERSIONS: u16 = 0x002b;
const TLS_1_3: u16 = 0x0304;
/// SHA-256 of "HelloRetryRequest" (RFC 8446 4.1.3).
const RETRY_RANDOM: [u8; 32] = [
    0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8, 0x91,
    0xc2, 0xa2, 0x11, 0x16, 0x7a, 0xbb, 0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c,
];
/// A protected record has a type byte and a tag at least (RFC 8446 5.2).
const PROTECTED_LEAST: u16 = 17;
const RECORDS_MAX: usize = 8;
const FLIGHT_MAX: u32 = 32_768;

#[cfg(test)]
mod tests;

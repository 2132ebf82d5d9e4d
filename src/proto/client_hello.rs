//! The ClientHello of a FakeTLS client (PROTOCOL 3; RFC 8446 4.1.2): gathers it from
//! records, reads the few fields that we act on, and checks the digest in its random. Whether
//! the host, the clock and the history of the client are good is judged upstairs.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;

use crate::proto::bytes::Reader;
use crate::proto::tls;

/// Looks for a whole hello at the front of all bytes that a client has sent so far. Judges at the
/// first wrong byte and allocates only for the answer `Whole`, so call it again for every read.
pub fn assemble(seen: &[u8]) -> Assembly {
    match gather(seen) {
        Ok(None) => Assembly::Incomplete,
        Ok(Some((hello, consumed))) => Assembly::Complete { hello, consumed },
        Err(suspicion) => Assembly::Rejected(suspicion),
    }
}

/// What [`assemble`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Assembly {
    /// Nothing wrong yet; more bytes are needed. Never with more than 16,438 of them seen.
    Incomplete,
    /// No further byte can make this a hello of ours.
    Rejected(Reject),
    /// The message is complete.
    Complete {
        /// As one record would have carried it: 5 bytes of record header, 4 of handshake header,
        /// the body. Clients compute their digest over this form, however it was cut.
        hello: Vec<u8>,
        /// How many of the seen bytes it took; the next stage starts there.
        consumed: usize,
    },
}

/// Walks the records. The pieces of the message are only noted until it is complete.
fn gather(seen: &[u8]) -> Result<Option<(Vec<u8>, usize)>, Reject> {
    let mut pieces: [&[u8]; RECORDS_MAX] = [&[]; RECORDS_MAX];
    let mut prefix = [0; PREFIX_LEN];
    let (mut rest, mut gathered) = (seen, 0);
    for piece in &mut pieces {
        let Some(len) = judge_header(rest)? else { return Ok(None) };
        rest = rest.get(tls::HEADER_LEN..).unwrap_or_default();
        let (payload, after) = rest.split_at_checked(len).unwrap_or((rest, &[]));
        for (slot, byte) in prefix.iter_mut().skip(gathered).zip(payload) {
            *slot = *byte;
        }
        let total = judge_prefix(&prefix, gathered + payload.len())?;
        gathered += len;
        // A record that goes on after its hello is no TLS: the keys change there (RFC 8446 5.1).
        if total.is_some_and(|total| gathered > total) {
            return Err(Reject::Malformed);
        }
        if payload.len() < len {
            return Ok(None);
        }
        (*piece, rest) = (payload, after);
        if total == Some(gathered) {
            return Ok(Some((normalised(&pieces, gathered), seen.len() - rest.len())));
        }
    }
    Err(Reject::TooManyRecords)
}

/// Judges as much of a record header as is there; the payload's length when it is complete.
fn judge_header(bytes: &[u8]) -> Result<Option<usize>, Reject> {
    let at = |index: usize| bytes.get(index).copied();
    if at(0).is_some_and(|kind| kind != tls::HANDSHAKE) {
        return Err(Reject::NotTls);
    }
    let [major, minor] = tls::VERSION_HELLO;
    if at(1).is_some_and(|byte| byte != major) || at(2).is_some_and(|byte| byte != minor) {
        return Err(Reject::Version);
    }
    // With the missing bytes taken as zero this is the least that the length can become.
    let least = u16::from_be_bytes([at(3).unwrap_or(0), at(4).unwrap_or(0)]);
    if usize::from(least) > tls::PLAIN_MAX {
        return Err(Reject::RecordTooLong);
    }
    Ok((bytes.len() >= tls::HEADER_LEN).then_some(least.into()))
}

/// Judges the first `have` bytes of the handshake header (the others are zero); the length of
/// the message with its header when it is complete.
fn judge_prefix(prefix: &[u8; PREFIX_LEN], have: usize) -> Result<Option<usize>, Reject> {
    let [kind, high, middle, low] = *prefix;
    if have > 0 && kind != CLIENT_HELLO {
        return Err(Reject::NotHello);
    }
    let least = u32::from_be_bytes([0, high, middle, low]) as usize + PREFIX_LEN;
    if least > tls::PLAIN_MAX {
        return Err(Reject::HelloTooLong);
    }
    Ok((have >= PREFIX_LEN).then_some(least))
}

fn normalised(pieces: &[&[u8]], len: usize) -> Vec<u8> {
    let mut hello = Vec::with_capacity(tls::HEADER_LEN + len);
    hello.push(tls::HANDSHAKE);
    hello.extend(tls::VERSION_HELLO);
    // At most PLAIN_MAX, so two bytes hold it.
    hello.extend((len as u16).to_be_bytes());
    pieces.iter().for_each(|piece| hello.extend_from_slice(piece));
    hello
}

/// Reads a normalised hello, as [`Assembly::Complete`] holds it.
pub fn parse(hello: &[u8]) -> Result<ClientHello<'_>, Reject> {
    let body = hello.get(tls::HEADER_LEN + PREFIX_LEN..).ok_or(Reject::Malformed)?;
    let mut body = Reader::new(body);
    if body.array().ok_or(Reject::Malformed)? != &tls::VERSION {
        return Err(Reject::Version);
    }
    read_body(body).ok_or(Reject::Malformed)
}

fn read_body(mut body: Reader<'_>) -> Option<ClientHello<'_>> {
    let random = body.array()?;
    let session_id = body.block8().filter(|id| id.len() <= SESSION_ID_MAX)?;
    let (ciphers, odd) = body.block16()?.as_chunks();
    let _compression = body.block8()?;
    if !odd.is_empty() {
        return None;
    }
    let mut hello = ClientHello { random, session_id, ciphers, names: &[], shares: &[] };
    if body.is_empty() {
        return Some(hello); // Extensions may be missing altogether (RFC 5246 7.4.1.2).
    }
    let mut extensions = Reader::new(body.block16()?);
    let (mut named, mut shared) = (false, false);
    while !extensions.is_empty() {
        let (kind, content) = (extensions.u16()?, extensions.block16()?);
        // No type may occur twice (RFC 8446 4.2); we mind it where we would have to choose.
        match kind {
            SERVER_NAME if named => return None,
            SERVER_NAME => (named, hello.names) = (true, read_names(content)?),
            KEY_SHARE if shared => return None,
            KEY_SHARE => (shared, hello.shares) = (true, content.get(2..).unwrap_or_default()),
            _ => {}
        }
    }
    body.is_empty().then_some(hello)
}

/// The entries of a server name list (RFC 6066 3), each checked to be whole.
fn read_names(content: &[u8]) -> Option<&[u8]> {
    let mut content = Reader::new(content);
    let names = content.block16().filter(|_| content.is_empty())?;
    let mut entries = Reader::new(names);
    while !entries.is_empty() {
        let (_kind, _name) = (entries.u8()?, entries.block16()?);
    }
    Some(names)
}

/// The fields of a ClientHello that decide something.
#[derive(Debug, Clone, Copy)]
pub struct ClientHello<'a> {
    random: &'a [u8; 32],
    session_id: &'a [u8],
    ciphers: &'a [[u8; 2]],
    /// Whole entries of the server name list.
    names: &'a [u8],
    /// Entries of the key share list, unchecked: a fault there only hides the later ones.
    shares: &'a [u8],
}

impl<'a> ClientHello<'a> {
    /// The random as received: a digest with the client's clock folded into its last four bytes.
    pub fn random(&self) -> &'a [u8; 32] {
        self.random
    }

    /// The session id, at most 32 bytes; the answer echoes it.
    pub fn session_id(&self) -> &'a [u8] {
        self.session_id
    }

    /// The host names of the SNI extension, byte for byte. Clients send exactly one.
    pub fn server_names(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let mut entries = Reader::new(self.names);
        std::iter::from_fn(move || Some((entries.u8()?, entries.block16()?)))
            .filter(|(kind, _)| *kind == HOST_NAME)
            .map(|(_, name)| name)
    }

    /// The suites of TLS 1.3 that the client offers, its favourite first; an answer that names any
    /// other would be impossible in nature (PROTOCOL 3.5). Each once.
    pub fn suites(&self) -> impl Iterator<Item = u16> + use<'a> {
        let mut left = TLS13_SUITES.map(Some);
        let ciphers = self.ciphers.iter().map(|suite| u16::from_be_bytes(*suite));
        ciphers.filter(move |suite| {
            let place = left.iter_mut().find(|place| **place == Some(*suite));
            place.and_then(Option::take).is_some()
        })
    }

    /// The client's favourite among the suites of TLS 1.3.
    pub fn preferred_suite(&self) -> Option<u16> {
        self.suites().next()
    }

    /// Is this suite in the client's list?
    pub fn offers_suite(&self, suite: u16) -> bool {
        self.ciphers.contains(&suite.to_be_bytes())
    }

    /// Did the client send a key share of this group, with the length that the group demands?
    /// Only [`X25519`] and [`X25519MLKEM768`] are known.
    pub fn offers_group(&self, group: u16) -> bool {
        let len = match group {
            X25519 => 32,
            X25519MLKEM768 => 1216,
            _ => return false,
        };
        let mut entries = Reader::new(self.shares);
        std::iter::from_fn(|| Some((entries.u16()?, entries.block16()?)))
            .any(|(found, share)| found == group && share.len() == len)
    }
}

/// The key of one secret, with both HMAC pad states computed in advance: cheap to use per trial.
#[derive(Clone)]
pub struct HelloKey(Hmac<Sha256>);

impl HelloKey {
    /// Runs the two pad blocks of `key` through SHA-256.
    pub fn new(key: &[u8; 16]) -> Self {
        // HMAC fills a short key up with zeros to one block of the hash (RFC 2104 2).
        let mut block = [0; 64];
        for (slot, byte) in block.iter_mut().zip(key) {
            *slot = *byte;
        }
        Self(Hmac::new(&block.into()))
    }

    /// Tells whether this key made the digest in `random`, and what else it says. `hello` is the
    /// normalised hello; its own random counts as zero, whatever is there. The time taken does
    /// not depend on where a digest differs.
    pub fn verify(&self, hello: &[u8], random: &[u8; 32]) -> Option<HelloStamp> {
        let (head, rest) = hello.split_at_checked(RANDOM_AT)?;
        let (_random, tail) = rest.split_at_checked(random.len())?;
        let digest = self.mac([head, &[0; 32], tail]);
        let (digest, mask) = digest.split_first_chunk::<STAMP_AT>()?;
        let (sent, folded) = random.split_first_chunk::<STAMP_AT>()?;
        let ours: bool = digest.ct_eq(sent).into();
        let mut clock = [0; 4];
        for ((slot, left), right) in clock.iter_mut().zip(mask).zip(folded) {
            *slot = left ^ right;
        }
        ours.then(|| HelloStamp { unix_s: u32::from_le_bytes(clock), digest: *digest })
    }

    /// HMAC-SHA256 over the concatenation of `parts`.
    pub(super) fn mac<const N: usize>(&self, parts: [&[u8]; N]) -> [u8; 32] {
        let mut mac = self.0.clone();
        parts.iter().for_each(|part| mac.update(part));
        mac.finalize().into_bytes().into()
    }
}

/// What an authentic hello says besides its fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HelloStamp {
    /// The client's clock: seconds since 1970, or since it booted for some.
    pub unix_s: u32,
    /// The authenticated bytes of the random: what makes this hello different from any other.
    pub digest: [u8; STAMP_AT],
}

/// Is the client's clock at most `tolerance_s` away from ours? The error is by how many seconds
/// it is ahead (negative: behind).
pub fn check_clock(stamp_unix: u32, now_unix: u64, tolerance_s: u64) -> Result<(), i64> {
    let off_s = i64::from(stamp_unix).saturating_sub_unsigned(now_unix);
    if off_s.unsigned_abs() <= tolerance_s { Ok(()) } else { Err(off_s) }
}

/// Why a connection is not provably a client of ours. Such connections go to the front host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reject {
    /// A record that is no handshake record, or no record at all.
    NotTls,
    /// A version that no client of ours sends.
    Version,
    /// A record length above 16384.
    RecordTooLong,
    /// A handshake message that is no ClientHello.
    NotHello,
    /// A handshake length above 16380.
    HelloTooLong,
    /// More than 11 records.
    TooManyRecords,
    /// The lengths inside do not fit together, or something stands twice.
    Malformed,
    /// The peer closed before its hello was complete.
    Truncated,
    /// The hello did not arrive in time.
    TooSlow,
    /// No host name in it.
    NoSni,
    /// A host name of none of the secrets.
    ForeignSni,
    /// No TLS 1.3 suite in it.
    NoCipher,
    /// The digest is of none of the secrets.
    WrongKey,
    /// The digest fits, but the clocks are too far apart.
    ClockOff {
        /// Seconds by which the client is ahead of us (negative: behind).
        off_s: i64,
    },
    /// The digest has been seen before.
    Replay,
    /// The user has as many connections as the throttle allows.
    Throttled,
    /// The key is right; the operator has switched the user off.
    Disabled,
}

impl Reject {
    /// A short name for logs and counters.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotTls => "not-tls",
            Self::Version => "version",
            Self::RecordTooLong => "record-too-long",
            Self::NotHello => "not-hello",
            Self::HelloTooLong => "hello-too-long",
            Self::TooManyRecords => "too-many-records",
            Self::Malformed => "malformed",
            Self::Truncated => "truncated",
            Self::TooSlow => "too-slow",
            Self::NoSni => "no-sni",
            Self::ForeignSni => "foreign-sni",
            Self::NoCipher => "no-cipher",
            Self::WrongKey => "wrong-key",
            Self::ClockOff { .. } => "clock-off",
            Self::Replay => "replay",
            Self::Throttled => "throttled",
            Self::Disabled => "disabled",
        }
    }
}

/// Key share group x25519.
pub const X25519: u16 = 0x001d;
/// Key share group X25519MLKEM768.
pub const X25519MLKEM768: u16 = 0x11ec;
/// The suites of TLS 1.3 that browsers offer: AES-128-GCM, AES-256-GCM, ChaCha20-Poly1305.
pub const TLS13_SUITES: [u16; 3] = [0x1301, 0x1302, 0x1303];

/// Most records that a hello may be cut into, empty ones counted: what the reference reads.
const RECORDS_MAX: usize = 11;
/// Length of a handshake header in bytes: type and 24-bit length.
const PREFIX_LEN: usize = 4;
/// Handshake type of a ClientHello.
const CLIENT_HELLO: u8 = 0x01;
/// Offset of the random in a hello that is one record; both hellos have it there.
pub(super) const RANDOM_AT: usize = 11;
/// Offset of the folded-in clock in the random.
const STAMP_AT: usize = 28;
/// Longest session id in bytes (RFC 8446 4.1.2).
pub(super) const SESSION_ID_MAX: usize = 32;
/// Extension types.
pub(super) const SERVER_NAME: u16 = 0x0000;
pub(super) const KEY_SHARE: u16 = 0x0033;
/// The one name type there is (RFC 6066 3).
const HOST_NAME: u8 = 0x00;

#[cfg(test)]
mod tests;

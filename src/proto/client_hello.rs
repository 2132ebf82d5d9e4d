//! The ClientHello of a FakeTLS client (PROTOCOL 3; RFC 8446 4.1.2): assembles it from
//! records, parses the fields that matter, and verifies the digest in its random. The caller checks
//! host, clock and replay.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;

use crate::proto::bytes::Reader;
use crate::proto::tls;

/// Assembles a hello from all bytes that a client has sent so far. Rejects at the first wrong byte,
/// and allocates only for [`Assembly::Complete`], so it can be called after every read.
pub fn assemble(seen: &[u8]) -> Assembly {
    match collect(seen) {
        Ok(None) => Assembly::Incomplete,
        Ok(Some((hello, consumed))) => Assembly::Complete { hello, consumed },
        Err(reject) => Assembly::Rejected(reject),
    }
}

/// Result of [`assemble`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Assembly {
    /// More bytes are needed. Never returned for more than 16,438 bytes.
    Incomplete,
    /// No further byte can make this a valid hello.
    Rejected(Reject),
    /// The message is complete.
    Complete {
        /// The hello as a single record: 5 bytes of record header, 4 bytes of handshake header, the
        /// body. Clients compute their digest over this form, also if they send several records.
        hello: Vec<u8>,
        /// Length of the hello in the bytes seen; the next stage starts there.
        consumed: usize,
    },
}

/// Walks the records. Keeps references to the fragments until the message is complete.
fn collect(seen: &[u8]) -> Result<Option<(Vec<u8>, usize)>, Reject> {
    let mut fragments: [&[u8]; RECORDS_MAX] = [&[]; RECORDS_MAX];
    let mut prefix = [0; PREFIX_LEN];
    let (mut rest, mut collected) = (seen, 0);
    for fragment in &mut fragments {
        let Some(len) = check_record_header(rest)? else { return Ok(None) };
        rest = rest.get(tls::HEADER_LEN..).unwrap_or_default();
        let (payload, after) = rest.split_at_checked(len).unwrap_or((rest, &[]));
        for (slot, byte) in prefix.iter_mut().skip(collected).zip(payload) {
            *slot = *byte;
        }
        let total = check_handshake_header(&prefix, collected + payload.len())?;
        collected += len;
        // A record must end with the hello, since the keys change there (RFC 8446 5.1).
        if total.is_some_and(|total| collected > total) {
            return Err(Reject::Malformed);
        }
        if payload.len() < len {
            return Ok(None);
        }
        (*fragment, rest) = (payload, after);
        if total == Some(collected) {
            return Ok(Some((join_fragments(&fragments, collected), seen.len() - rest.len())));
        }
    }
    Err(Reject::TooManyRecords)
}

/// Checks the bytes of a record header that have arrived; returns the payload's length once it is
/// complete.
fn check_record_header(bytes: &[u8]) -> Result<Option<usize>, Reject> {
    let at = |index: usize| bytes.get(index).copied();
    if at(0).is_some_and(|kind| kind != tls::HANDSHAKE) {
        return Err(Reject::NotTls);
    }
    let [major, minor] = tls::VERSION_HELLO;
    if at(1).is_some_and(|byte| byte != major) || at(2).is_some_and(|byte| byte != minor) {
        return Err(Reject::Version);
    }
    // Missing bytes count as zero, so this is a lower bound of the length.
    let least = u16::from_be_bytes([at(3).unwrap_or(0), at(4).unwrap_or(0)]);
    if usize::from(least) > tls::PLAIN_MAX {
        return Err(Reject::RecordTooLong);
    }
    Ok((bytes.len() >= tls::HEADER_LEN).then_some(least.into()))
}

/// Checks the first `have` bytes of the handshake header (the others are zero); returns the length
/// of the message with its header once it is complete.
fn check_handshake_header(prefix: &[u8; PREFIX_LEN], have: usize) -> Result<Option<usize>, Reject> {
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

fn join_fragments(fragments: &[&[u8]], len: usize) -> Vec<u8> {
    let mut hello = Vec::with_capacity(tls::HEADER_LEN + len);
    hello.push(tls::HANDSHAKE);
    hello.extend(tls::VERSION_HELLO);
    // At most PLAIN_MAX, so it fits in two bytes.
    hello.extend((len as u16).to_be_bytes());
    fragments.iter().for_each(|fragment| hello.extend_from_slice(fragment));
    hello
}

/// The first bytes of the random of a hello: no two hellos have the same. `None` = too short.
pub fn mark(hello: &[u8]) -> Option<u64> {
    hello.get(RANDOM_AT..)?.first_chunk().map(|bytes| u64::from_be_bytes(*bytes))
}

/// Parses a hello in the form of [`Assembly::Complete`].
///
/// # Errors
/// [`Reject::Version`] or [`Reject::Malformed`].
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
    let (mut has_names, mut has_shares) = (false, false);
    while !extensions.is_empty() {
        let (kind, content) = (extensions.u16()?, extensions.block16()?);
        // No type may occur twice (RFC 8446 4.2); checked for the types that are used.
        match kind {
            SERVER_NAME if has_names => return None,
            SERVER_NAME => (has_names, hello.names) = (true, read_names(content)?),
            KEY_SHARE if has_shares => return None,
            KEY_SHARE => (has_shares, hello.shares) = (true, content.get(2..).unwrap_or_default()),
            _ => {}
        }
    }
    body.is_empty().then_some(hello)
}

/// The entries of a server name list (RFC 6066 3), after a check of all lengths.
fn read_names(content: &[u8]) -> Option<&[u8]> {
    let mut content = Reader::new(content);
    let names = content.block16().filter(|_| content.is_empty())?;
    let mut entries = Reader::new(names);
    while !entries.is_empty() {
        let (_kind, _name) = (entries.u8()?, entries.block16()?);
    }
    Some(names)
}

/// The fields of a ClientHello that are used.
#[derive(Debug, Clone, Copy)]
pub struct ClientHello<'a> {
    random: &'a [u8; 32],
    session_id: &'a [u8],
    ciphers: &'a [[u8; 2]],
    /// Entries of the server name list, with valid lengths.
    names: &'a [u8],
    /// Entries of the key share list, unchecked: after an invalid entry the others are ignored.
    shares: &'a [u8],
}

impl<'a> ClientHello<'a> {
    /// The random as received: a digest whose last four bytes are XORed with the client's clock.
    pub fn random(&self) -> &'a [u8; 32] {
        self.random
    }

    /// The session id, at most 32 bytes; the ServerHello echoes it.
    pub fn session_id(&self) -> &'a [u8] {
        self.session_id
    }

    /// The host names of the SNI extension, unchanged. Clients send exactly one.
    pub fn server_names(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let mut entries = Reader::new(self.names);
        std::iter::from_fn(move || Some((entries.u8()?, entries.block16()?)))
            .filter(|(kind, _)| *kind == HOST_NAME)
            .map(|(_, name)| name)
    }

    /// The TLS 1.3 cipher suites that the client offers, in its order of preference, without
    /// duplicates. A ServerHello with another suite would reveal the proxy (PROTOCOL 3.5).
    pub fn suites(&self) -> impl Iterator<Item = u16> + use<'a> {
        let mut left = TLS13_SUITES.map(Some);
        let ciphers = self.ciphers.iter().map(|suite| u16::from_be_bytes(*suite));
        ciphers.filter(move |suite| {
            let place = left.iter_mut().find(|place| **place == Some(*suite));
            place.and_then(Option::take).is_some()
        })
    }

    /// The client's preferred TLS 1.3 cipher suite.
    pub fn preferred_suite(&self) -> Option<u16> {
        self.suites().next()
    }

    /// Whether the client offers this cipher suite.
    pub fn offers_suite(&self, suite: u16) -> bool {
        self.ciphers.contains(&suite.to_be_bytes())
    }

    /// Whether the client sent a key share of this group with the right length. Supports [`X25519`]
    /// and [`X25519MLKEM768`].
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

/// The HMAC key of one secret, with both pad states computed in advance, which makes each try
/// cheap.
#[derive(Clone)]
pub struct HelloKey(Hmac<Sha256>);

impl HelloKey {
    /// Computes the SHA-256 states of the two pad blocks.
    pub fn new(key: &[u8; 16]) -> Self {
        // HMAC pads a short key with zeros to one block of the hash (RFC 2104 2).
        let mut block = [0; 64];
        for (slot, byte) in block.iter_mut().zip(key) {
            *slot = *byte;
        }
        Self(Hmac::new(&block.into()))
    }

    /// Verifies the digest in `random` and decrypts the clock in it; `None` = another key made it.
    /// `hello` has the form of [`Assembly::Complete`]; its random is treated as zeros. The time
    /// does not depend on the position of the first different byte.
    pub fn verify(&self, hello: &[u8], random: &[u8; 32]) -> Option<HelloStamp> {
        let (head, rest) = hello.split_at_checked(RANDOM_AT)?;
        let (_random, tail) = rest.split_at_checked(random.len())?;
        let digest = self.mac([head, &[0; 32], tail]);
        let (digest, mask) = digest.split_first_chunk::<STAMP_AT>()?;
        let (sent, masked) = random.split_first_chunk::<STAMP_AT>()?;
        let is_equal: bool = digest.ct_eq(sent).into();
        let mut clock = [0; 4];
        for ((slot, left), right) in clock.iter_mut().zip(mask).zip(masked) {
            *slot = left ^ right;
        }
        is_equal.then(|| HelloStamp { unix_s: u32::from_le_bytes(clock), digest: *digest })
    }

    /// Makes the hello one of the user with this key: puts digest and clock into its random. One
    /// that is too short stays as it is.
    pub fn sign(&self, hello: &mut [u8], unix_s: u32) {
        let Some((head, rest)) = hello.split_at_mut_checked(RANDOM_AT) else { return };
        let Some((random, tail)) = rest.split_first_chunk_mut::<32>() else { return };
        *random = self.mac([head, &[0; 32], tail]);
        for (slot, byte) in random.iter_mut().skip(STAMP_AT).zip(unix_s.to_le_bytes()) {
            *slot ^= byte;
        }
    }

    /// HMAC-SHA256 over the concatenation of `parts`.
    pub(super) fn mac<const N: usize>(&self, parts: [&[u8]; N]) -> [u8; 32] {
        let mut mac = self.0.clone();
        parts.iter().for_each(|part| mac.update(part));
        mac.finalize().into_bytes().into()
    }
}

/// The content of an authentic random.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HelloStamp {
    /// The client's clock: Unix time in seconds; some clients send seconds since boot.
    pub unix_s: u32,
    /// The digest, which is unique per hello.
    pub digest: [u8; STAMP_AT],
}

/// Checks that the client's clock differs by at most `tolerance_s` seconds.
///
/// # Errors
/// The number of seconds by which the client's clock is ahead (negative: behind).
pub fn check_clock(stamp_unix: u32, now_unix: u64, tolerance_s: u64) -> Result<(), i64> {
    let off_s = i64::from(stamp_unix).saturating_sub_unsigned(now_unix);
    if off_s.unsigned_abs() <= tolerance_s { Ok(()) } else { Err(off_s) }
}

/// Why a client is not authenticated. Its connection is relayed to the front.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reject {
    /// Not a handshake record.
    NotTls,
    /// A version that Telegram clients do not send.
    Version,
    /// A record length above 16384 bytes.
    RecordTooLong,
    /// A handshake message other than ClientHello.
    NotHello,
    /// A handshake length above 16380 bytes.
    HelloTooLong,
    /// A hello in more than 11 records.
    TooManyRecords,
    /// Inconsistent lengths, or a duplicate extension.
    Malformed,
    /// The client closed before its hello was complete.
    Truncated,
    /// The client closed without a byte.
    Silent,
    /// The hello did not arrive in time.
    TooSlow,
    /// No host name (SNI).
    NoSni,
    /// A host name that no secret has.
    ForeignSni,
    /// No TLS 1.3 cipher suite.
    NoCipher,
    /// No secret made the digest.
    WrongKey,
    /// The digest is valid, but the clocks differ too much.
    ClockOff {
        /// Seconds by which the client's clock is ahead (negative: behind).
        off_s: i64,
    },
    /// The digest was seen before.
    Replay,
    /// The user has as many connections as the throttle allows.
    Throttled,
    /// The key matches a user that the operator has disabled.
    Disabled,
}

impl Reject {
    /// Whether the hello is complete, so that a TLS server answers at once.
    pub fn is_of_whole_hello(self) -> bool {
        matches!(
            self,
            Self::NoSni
                | Self::ForeignSni
                | Self::NoCipher
                | Self::WrongKey
                | Self::ClockOff { .. }
                | Self::Replay
                | Self::Throttled
                | Self::Disabled
        )
    }

    /// Name in logs and counters.
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
            Self::Silent => "silent",
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
/// The TLS 1.3 cipher suites of browsers: AES-128-GCM, AES-256-GCM, ChaCha20-Poly1305.
pub const TLS13_SUITES: [u16; 3] = [0x1301, 0x1302, 0x1303];

/// Largest number of records of a hello, including empty ones; the limit of mtg-multi.
const RECORDS_MAX: usize = 11;
/// Length of a handshake header in bytes: type and 24-bit length.
const PREFIX_LEN: usize = 4;
/// Handshake type of a ClientHello.
const CLIENT_HELLO: u8 = 0x01;
/// Offset of the random in a hello of one record; the same in ClientHello and ServerHello.
pub(super) const RANDOM_AT: usize = 11;
/// Offset of the masked clock in the random.
const STAMP_AT: usize = 28;
/// Longest session id in bytes (RFC 8446 4.1.2).
pub(super) const SESSION_ID_MAX: usize = 32;
/// Extension type server_name.
pub(super) const SERVER_NAME: u16 = 0x0000;
/// Extension type key_share.
pub(super) const KEY_SHARE: u16 = 0x0033;
/// Name type host_name, the only one (RFC 6066 3).
const HOST_NAME: u8 = 0x00;

#[cfg(test)]
mod tests;

//! DNS codec for address lookups (RFC 1035): a query with one question, and its answer, in
//! datagrams and in streams. Any host can send an answer to our port, so every loop here is
//! bounded, and an answer that does not repeat the question is ignored.

use std::fmt;
use std::net::IpAddr;

use crate::proto::bytes::Reader;

/// The record type to query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordType {
    /// IPv4 addresses.
    A,
    /// IPv6 addresses (RFC 3596).
    Aaaa,
}

impl RecordType {
    fn code(self) -> u16 {
        match self {
            Self::A => 1,
            Self::Aaaa => 28,
        }
    }
}

/// Appends a recursive query to `out`: at most 271 bytes, without the length prefix of TCP. Ignores
/// one dot at the end of `name`; keeps upper case.
///
/// # Errors
/// The name cannot be encoded.
pub fn write_query(
    out: &mut Vec<u8>,
    id: u16,
    name: &str,
    kind: RecordType,
) -> Result<(), NameFault> {
    let name = Name::from_text(name)?;
    for word in [id, RECURSION_DESIRED, 1, 0, 0, 0] {
        out.extend(word.to_be_bytes());
    }
    out.extend(name.wire());
    out.extend(kind.code().to_be_bytes());
    out.extend(INTERNET.to_be_bytes());
    Ok(())
}

/// Whether a name can be encoded in a query.
pub fn is_valid_name(name: &str) -> bool {
    Name::from_text(name).is_ok()
}

/// Why a name cannot be encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameFault {
    /// An empty name or two dots in a row.
    EmptyLabel,
    /// A label of more than 63 bytes.
    LabelTooLong,
    /// A name of more than 253 bytes.
    TooLong,
    /// A space, a control character or a byte above 0x7e. Such names need the `xn--` form.
    NotPrintable,
}

/// Sets the case of each letter by one bit of `random`: 1 = upper case. Servers repeat the question
/// unchanged, so the case adds up to 255 bits that an off-path forger has to guess
/// (draft-vixie-dnsext-dns0x20).
pub fn mix_case(name: &str, random: &[u8; 32]) -> String {
    let bits = random.iter().flat_map(|byte| (0..8).map(move |bit| (byte >> bit) & 1 == 1));
    let letters = name.chars().zip(bits.chain(std::iter::repeat(false)));
    let set_case = |(c, is_upper): (char, bool)| match is_upper {
        true => c.to_ascii_uppercase(),
        false => c.to_ascii_lowercase(),
    };
    letters.map(set_case).collect()
}

/// Appends a message with its length prefix, as in a TCP stream (RFC 1035 4.2.2). Cuts a message of
/// more than 65535 bytes, which cannot exist.
pub fn write_frame(out: &mut Vec<u8>, packet: &[u8]) {
    let len = packet.len().min(usize::from(u16::MAX));
    out.extend((len as u16).to_be_bytes());
    out.extend(packet.iter().take(len));
}

/// Removes the first message from the bytes of a stream; `None` = it is incomplete. If this is
/// called after each read until `None`, the buffer keeps at most 65536 bytes.
pub fn pop_frame(stream: &mut Vec<u8>) -> Option<Vec<u8>> {
    let len = Reader::new(stream).block16()?.len();
    Some(stream.drain(..2 + len).skip(2).collect())
}

/// Parses the answer to [`write_query`] with the same arguments. Follows at most 8 aliases, reads
/// at most 64 records and returns the first 16 addresses. If `name` has upper-case letters, the
/// answer must repeat its case exactly; otherwise any case is accepted.
///
/// # Errors
/// See [`DnsFault`].
pub fn parse_answer(
    packet: &[u8],
    id: u16,
    name: &str,
    kind: RecordType,
) -> Result<AddressAnswer, DnsFault> {
    let queried = Name::from_text(name).map_err(|_| DnsFault::Unrelated)?;
    let head = Header::read(packet).ok_or(DnsFault::Unrelated)?;
    if head.id != id || head.flags & RESPONSE == 0 {
        return Err(DnsFault::Unrelated);
    }
    let error = match head.flags & 0x000f {
        0 => None,
        3 => Some(DnsFault::NoSuchName),
        code => Some(DnsFault::Refused(code as u8)),
    };
    // A server that could not parse the query cannot repeat its question.
    if let (0, Some(DnsFault::Refused(code))) = (head.questions, error) {
        return Err(DnsFault::Refused(code));
    }
    let (echoed, at) = Name::read(packet, HEADER_LEN).ok_or(DnsFault::Unrelated)?;
    let mut after = Reader::new(packet.get(at..).unwrap_or_default());
    let queried_kind = (Some(kind.code()), Some(INTERNET));
    if head.questions != 1 || echoed != queried || (after.u16(), after.u16()) != queried_kind {
        return Err(DnsFault::Unrelated);
    }
    if queried.has_upper_case() && echoed.wire() != queried.wire() {
        return Err(DnsFault::WrongCase);
    }
    if head.flags & TRUNCATED != 0 {
        return Err(DnsFault::Truncated);
    }
    if let Some(error) = error {
        return Err(error);
    }
    follow(AnswerRecords { packet, at: at + 4, left: head.answers.min(RECORDS_MAX) }, queried, kind)
}

/// The addresses of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddressAnswer {
    /// 1 to 16 different addresses of the queried type, in the order of the answer.
    pub addrs: Vec<IpAddr>,
    /// Time to live in seconds: the lowest of the address records and the aliases that lead to
    /// them.
    pub ttl_s: u32,
}

/// Why a message yields no address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DnsFault {
    /// Not an answer to this query; the answer may still arrive.
    Unrelated,
    /// The question is repeated in another case: a forgery, or a server that normalises case.
    WrongCase,
    /// Incomplete or inconsistent.
    Malformed,
    /// Truncated (TC bit): repeat the query over TCP.
    Truncated,
    /// The name does not exist (NXDOMAIN).
    NoSuchName,
    /// The name exists, but has no record of this type.
    NoData,
    /// The server refuses or failed; the value is its response code (2 = SERVFAIL).
    Refused(u8),
    /// A chain of more than 8 aliases, or a loop.
    TooManyAliases,
    /// An HTTP response without a DNS message; the value is its status.
    NotDns(u16),
}

impl fmt::Display for DnsFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotDns(200) => "it answers a web page: check the path of the URL",
            Self::NotDns(status @ (426 | 505)) => {
                return write!(f, "HTTP status {status}: use its tls:// address");
            }
            Self::NotDns(status @ 500..) => return write!(f, "HTTP status {status}"),
            Self::NotDns(status) => {
                return write!(f, "HTTP status {status}: check the path of the URL");
            }
            Self::NoSuchName => "NXDOMAIN",
            Self::NoData => "no address",
            Self::Refused(1) => "it answers FORMERR",
            Self::Refused(2) => "it answers SERVFAIL",
            Self::Refused(4) => "it answers NOTIMP",
            Self::Refused(5) => "it answers REFUSED",
            Self::Refused(_) => "it answers with an error",
            Self::TooManyAliases => "a chain of too many aliases",
            Self::Unrelated | Self::WrongCase | Self::Malformed | Self::Truncated => {
                "its answer is not valid"
            }
        })
    }
}

/// Follows aliases until a name has addresses. Servers need not send the records in order, so each
/// step reads all of them.
fn follow(
    records: AnswerRecords<'_>,
    queried: Name,
    kind: RecordType,
) -> Result<AddressAnswer, DnsFault> {
    let (mut owner, mut ttl_s) = (queried, u32::MAX);
    for _ in 0..=ALIASES_MAX {
        let (mut addrs, mut alias) = (Vec::new(), None);
        for record in records {
            let record = record.ok_or(DnsFault::Malformed)?;
            if record.owner != owner || record.class != INTERNET {
                continue;
            }
            if record.kind == kind.code() {
                let addr = record.address(kind).ok_or(DnsFault::Malformed)?;
                if addrs.len() < ADDRS_MAX && !addrs.contains(&addr) {
                    addrs.push(addr);
                }
            } else if record.kind == CNAME {
                alias = Some(record.alias().ok_or(DnsFault::Malformed)?);
            } else {
                continue;
            }
            ttl_s = ttl_s.min(record.ttl_s);
        }
        if !addrs.is_empty() {
            return Ok(AddressAnswer { addrs, ttl_s });
        }
        owner = alias.ok_or(DnsFault::NoData)?;
    }
    Err(DnsFault::TooManyAliases)
}

/// The header fields that are used.
struct Header {
    id: u16,
    flags: u16,
    questions: u16,
    answers: u16,
}

impl Header {
    fn read(packet: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(packet.get(..HEADER_LEN)?);
        let mut word = || reader.u16();
        Some(Self { id: word()?, flags: word()?, questions: word()?, answers: word()? })
    }
}

/// Iterator over the answer section. Yields `None` for a malformed record, and ends there.
#[derive(Clone, Copy)]
struct AnswerRecords<'a> {
    packet: &'a [u8],
    at: usize,
    left: u16,
}

impl<'a> Iterator for AnswerRecords<'a> {
    type Item = Option<ResourceRecord<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let record = ResourceRecord::read(self.packet, self.at);
        match &record {
            Some(record) => self.at = record.data_at + record.data.len(),
            None => self.left = 0,
        }
        Some(record)
    }
}

struct ResourceRecord<'a> {
    owner: Name,
    kind: u16,
    class: u16,
    ttl_s: u32,
    /// The whole message, since names in `data` may point outside of it.
    packet: &'a [u8],
    data_at: usize,
    data: &'a [u8],
}

impl<'a> ResourceRecord<'a> {
    fn read(packet: &'a [u8], at: usize) -> Option<Self> {
        let (owner, at) = Name::read(packet, at)?;
        let mut reader = Reader::new(packet.get(at..)?);
        let (kind, class, ttl_s) = (reader.u16()?, reader.u16()?, reader.u32()?);
        // A value with the most significant bit set counts as zero (RFC 2181 8).
        let ttl_s = i32::try_from(ttl_s).map_or(0, i32::unsigned_abs);
        let data = reader.block16()?;
        Some(Self { owner, kind, class, ttl_s, packet, data_at: at + 10, data })
    }

    fn address(&self, kind: RecordType) -> Option<IpAddr> {
        match kind {
            RecordType::A => <[u8; 4]>::try_from(self.data).ok().map(IpAddr::from),
            RecordType::Aaaa => <[u8; 16]>::try_from(self.data).ok().map(IpAddr::from),
        }
    }

    fn alias(&self) -> Option<Name> {
        let (alias, end) = Name::read(self.packet, self.data_at)?;
        (end == self.data_at + self.data.len()).then_some(alias)
    }
}

/// A name in wire format, uncompressed: labels with their lengths. Comparison ignores case.
#[derive(Clone, Copy)]
struct Name {
    bytes: [u8; NAME_MAX],
    len: usize,
}

impl Name {
    const EMPTY: Self = Self { bytes: [0; NAME_MAX], len: 0 };

    fn from_text(text: &str) -> Result<Self, NameFault> {
        let mut name = Self::EMPTY;
        for label in text.strip_suffix('.').unwrap_or(text).split('.') {
            if label.is_empty() {
                return Err(NameFault::EmptyLabel);
            }
            if label.len() > LABEL_MAX {
                return Err(NameFault::LabelTooLong);
            }
            if !label.bytes().all(|byte| byte.is_ascii_graphic()) {
                return Err(NameFault::NotPrintable);
            }
            name.push(label.as_bytes()).ok_or(NameFault::TooLong)?;
        }
        name.push(b"").ok_or(NameFault::TooLong)?;
        Ok(name)
    }

    /// Reads the name at offset `at`; returns it with the offset after it. Only strictly backward
    /// pointers are accepted, and their number is limited, so a hostile message can neither cause a
    /// loop nor much work.
    fn read(packet: &[u8], mut at: usize) -> Option<(Self, usize)> {
        let (mut name, mut end, mut floor) = (Self::EMPTY, None, at);
        for _ in 0..STEPS_MAX {
            let mut reader = Reader::new(packet.get(at..)?);
            let mut ahead = reader;
            let first = ahead.u8()?;
            match first >> 6 {
                0b00 => {
                    let label = reader.block8()?;
                    name.push(label)?;
                    at += 1 + label.len();
                    if label.is_empty() {
                        return Some((name, end.unwrap_or(at)));
                    }
                }
                0b11 => {
                    let target = usize::from(reader.u16()? & 0x3fff);
                    if target >= floor {
                        return None;
                    }
                    end = end.or(Some(at + 2));
                    (at, floor) = (target, target);
                }
                _ => return None,
            }
        }
        None
    }

    fn push(&mut self, label: &[u8]) -> Option<()> {
        let end = self.len + 1 + label.len();
        let (first, rest) = self.bytes.get_mut(self.len..end)?.split_first_mut()?;
        *first = label.len() as u8;
        rest.copy_from_slice(label);
        self.len = end;
        Some(())
    }

    fn has_upper_case(&self) -> bool {
        // A label length is at most 63 and thus never a letter, so it can be tested like one.
        self.wire().iter().any(u8::is_ascii_uppercase)
    }

    fn wire(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        self.wire().eq_ignore_ascii_case(other.wire())
    }
}

const HEADER_LEN: usize = 12;
/// Header flags (RFC 1035 4.1.1).
const RESPONSE: u16 = 0x8000;
const TRUNCATED: u16 = 0x0200;
const RECURSION_DESIRED: u16 = 0x0100;
/// Class IN.
const INTERNET: u16 = 1;
/// Record type CNAME.
const CNAME: u16 = 5;
/// Longest name in wire format, in bytes (RFC 1035 3.1).
const NAME_MAX: usize = 255;
const LABEL_MAX: usize = 63;
/// Largest number of labels and pointers read for one name; a name has at most 128 labels.
const STEPS_MAX: usize = 160;
const ALIASES_MAX: usize = 8;
const RECORDS_MAX: u16 = 64;
const ADDRS_MAX: usize = 16;

#[cfg(test)]
mod tests;

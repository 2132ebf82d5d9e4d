//! DNS, as much of it as a dialler needs (RFC 1035): one question for addresses, and the answer
//! to it, in datagrams and in streams. Answers come from anybody who can reach our port: every
//! loop here has a bound, and nothing is believed that does not echo the question.

use std::net::IpAddr;

use crate::proto::bytes::Reader;

/// The kind of addresses to ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordType {
    /// IPv4.
    A,
    /// IPv6 (RFC 3596).
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

/// Appends a recursive question to `out`: at most 271 bytes, without the length that TCP wants
/// before it. One dot at the end of `name` is allowed and changes nothing; its capitals stay.
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

/// Whether a name can be asked for at all.
pub fn is_valid_name(name: &str) -> bool {
    Name::from_text(name).is_ok()
}

/// Why a name cannot be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameFault {
    /// Nothing, or two dots in a row.
    EmptyLabel,
    /// More than 63 bytes between two dots.
    LabelTooLong,
    /// More than 253 bytes.
    TooLong,
    /// A space, a control character or a byte above 7E; such names are written in xn-- form.
    NotPrintable,
}

/// The name in lower case, but a letter whose coin lies heads up is a capital. Servers echo the
/// question as it came, so the capitals are up to 255 more bits that a forger has to guess
/// (draft-vixie-dnsext-dns0x20).
pub fn mix_case(name: &str, coins: &[u8; 32]) -> String {
    let heads = coins.iter().flat_map(|byte| (0..8).map(move |bit| (byte >> bit) & 1 == 1));
    let tossed = name.chars().zip(heads.chain(std::iter::repeat(false)));
    let letter = |(c, heads): (char, bool)| match heads {
        true => c.to_ascii_uppercase(),
        false => c.to_ascii_lowercase(),
    };
    tossed.map(letter).collect()
}

/// Appends a packet with its length before it, as it travels in a stream (RFC 1035 4.2.2).
/// Packets of more than 65535 bytes do not exist; one is cut.
pub fn write_frame(out: &mut Vec<u8>, packet: &[u8]) {
    let len = packet.len().min(usize::from(u16::MAX));
    out.extend((len as u16).to_be_bytes());
    out.extend(packet.iter().take(len));
}

/// Takes the first packet out of what a stream has brought; `None` = it is not complete yet. A
/// buffer that is asked after each read holds at most 65536 bytes more than that read brought.
pub fn pop_frame(stream: &mut Vec<u8>) -> Option<Vec<u8>> {
    let len = Reader::new(stream).block16()?.len();
    Some(stream.drain(..2 + len).skip(2).collect())
}

/// Reads the answer to [`question`] with the same arguments. Follows at most 8 aliases, looks at
/// no more than 64 records, and keeps the first 16 addresses. A `name` that has capitals must
/// come back with exactly these; one without comes back in any case.
pub fn parse_answer(
    packet: &[u8],
    id: u16,
    name: &str,
    kind: RecordType,
) -> Result<AddressAnswer, DnsFault> {
    let asked = Name::from_text(name).map_err(|_| DnsFault::Unrelated)?;
    let head = Header::read(packet).ok_or(DnsFault::Unrelated)?;
    if head.id != id || head.flags & RESPONSE == 0 {
        return Err(DnsFault::Unrelated);
    }
    let refusal = match head.flags & 0x000f {
        0 => None,
        3 => Some(DnsFault::NoSuchName),
        code => Some(DnsFault::Refused(code as u8)),
    };
    // A server that did not even understand us cannot echo anything.
    if let (0, Some(DnsFault::Refused(code))) = (head.questions, refusal) {
        return Err(DnsFault::Refused(code));
    }
    let (echoed, at) = Name::read(packet, HEADER_LEN).ok_or(DnsFault::Unrelated)?;
    let mut after = Reader::new(packet.get(at..).unwrap_or_default());
    let asked_kind = (Some(kind.code()), Some(INTERNET));
    if head.questions != 1 || echoed != asked || (after.u16(), after.u16()) != asked_kind {
        return Err(DnsFault::Unrelated);
    }
    if asked.has_capitals() && echoed.wire() != asked.wire() {
        return Err(DnsFault::WrongCase);
    }
    if head.flags & TRUNCATED != 0 {
        return Err(DnsFault::Truncated);
    }
    if let Some(refusal) = refusal {
        return Err(refusal);
    }
    follow(AnswerRecords { packet, at: at + 4, left: head.answers.min(RECORDS_MAX) }, asked, kind)
}

/// The addresses of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddressAnswer {
    /// 1 to 16 addresses of the asked kind, all different, in the order of the answer.
    pub addrs: Vec<IpAddr>,
    /// For how many seconds they hold: the least of all records on the way to them.
    pub ttl_s: u32,
}

/// Why a packet has no address for us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DnsFault {
    /// Not the answer to this question; it may still come.
    Unrelated,
    /// The question came back with other capitals: a forgery, or a server that does not care.
    WrongCase,
    /// Cut off or contradictory.
    Malformed,
    /// It did not fit; ask again over TCP.
    Truncated,
    /// There is no such name (NXDOMAIN).
    NoSuchName,
    /// The name exists, but has no address of this kind.
    NoData,
    /// The server would or could not tell; the response code says why (2: it failed itself).
    Refused(u8),
    /// More than 8 aliases in a row, or in a circle.
    TooManyAliases,
}

/// Goes from alias to alias until one has addresses. Servers send the records in order, but need
/// not, so each step looks at all of them.
fn follow(
    records: AnswerRecords<'_>,
    asked: Name,
    kind: RecordType,
) -> Result<AddressAnswer, DnsFault> {
    let (mut owner, mut ttl_s) = (asked, u32::MAX);
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

/// The fields of a header that matter here.
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

/// Walks the answer section; `None` where it breaks off, and nothing after that.
#[derive(Clone, Copy)]
struct AnswerRecords<'a> {
    packet: &'a [u8],
    at: usize,
    left: u16,
}

impl<'a> Iterator for AnswerRecords<'a> {
    type Item = Option<Record<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let record = Record::read(self.packet, self.at);
        match &record {
            Some(record) => self.at = record.data_at + record.data.len(),
            None => self.left = 0,
        }
        Some(record)
    }
}

struct Record<'a> {
    owner: Name,
    kind: u16,
    class: u16,
    ttl_s: u32,
    /// The whole packet, since names inside `data` may point to elsewhere.
    packet: &'a [u8],
    data_at: usize,
    data: &'a [u8],
}

impl<'a> Record<'a> {
    fn read(packet: &'a [u8], at: usize) -> Option<Self> {
        let (owner, at) = Name::read(packet, at)?;
        let mut reader = Reader::new(packet.get(at..)?);
        let (kind, class, ttl_s) = (reader.u16()?, reader.u16()?, reader.u32()?);
        // A value with the highest bit set counts as zero (RFC 2181 8).
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

/// A name as it stands in a packet: labels with their lengths, uncompressed. Names that differ
/// in the case of letters only are equal.
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

    /// Reads the name that begins at `at`; also where it ends there. Pointers lead strictly
    /// backwards and are few, so a hostile packet can neither turn us in circles nor keep us busy.
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

    fn has_capitals(&self) -> bool {
        // No length of a label is a letter, so the labels need not be told apart.
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
/// Flags of a header (RFC 1035 4.1.1).
const RESPONSE: u16 = 0x8000;
const TRUNCATED: u16 = 0x0200;
const RECURSION_DESIRED: u16 = 0x0100;
/// Class IN.
const INTERNET: u16 = 1;
/// Record type of an alias.
const CNAME: u16 = 5;
/// Longest name in a packet, with the lengths of its labels (RFC 1035 3.1).
const NAME_MAX: usize = 255;
const LABEL_MAX: usize = 63;
/// Most labels and pointers in one name: a name has at most 128 labels.
const STEPS_MAX: usize = 160;
const ALIASES_MAX: usize = 8;
const RECORDS_MAX: u16 = 64;
const ADDRS_MAX: usize = 16;

#[cfg(test)]
mod tests;

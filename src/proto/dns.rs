//! DNS messages for address lookups (RFC 1035): a query with one question, and its answer, in
//! datagrams and in streams. Any host can send an answer to our port, so every loop here is
//! bounded, and an answer that does not repeat the question is ignored. The codec is that of the
//! `domain` crate.

use std::net::IpAddr;

use domain::base::iana::{Class, Rcode, Rtype};
use domain::base::message_builder::PushError;
use domain::base::name::Label;
use domain::base::wire::ParseError;
use domain::base::{Message, MessageBuilder, Name, ParsedName, ParsedRecord};
use domain::rdata::{A, Aaaa, Cname};

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
    fn code(self) -> Rtype {
        match self {
            Self::A => Rtype::A,
            Self::Aaaa => Rtype::AAAA,
        }
    }
}

/// Appends a recursive query to `out`: at most 271 bytes, without the length prefix of TCP. Ignores
/// one dot at the end of `name`; keeps upper case.
///
/// # Errors
/// See [`is_valid_name`].
pub fn write_query(
    out: &mut Vec<u8>,
    id: u16,
    name: &str,
    kind: RecordType,
) -> Result<(), InvalidName> {
    let name = encoded(name)?;
    let mut message = MessageBuilder::new_vec();
    message.header_mut().set_id(id);
    message.header_mut().set_rd(true);
    let mut question = message.question();
    question.push((name, kind.code())).map_err(|_: PushError| InvalidName)?;
    out.append(&mut question.finish());
    Ok(())
}

/// Whether a name can be encoded in a query: labels of 1 to 63 visible ASCII characters, 253 bytes
/// in all. Other names need the `xn--` form.
pub fn is_valid_name(name: &str) -> bool {
    encoded(name).is_ok()
}

/// The name cannot be encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidName;

fn encoded(name: &str) -> Result<Name<Vec<u8>>, InvalidName> {
    // The library would read a backslash as the start of an escape.
    let is_plain = name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    let is_root = matches!(name, "" | ".");
    name.parse().ok().filter(|_| is_plain && !is_root).ok_or(InvalidName)
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
    let queried = encoded(name).map_err(|_| DnsFault::Unrelated)?;
    let message = Message::from_octets(packet).map_err(|_| DnsFault::Unrelated)?;
    let head = message.header();
    if head.id() != id || !head.qr() {
        return Err(DnsFault::Unrelated);
    }
    let error = match head.rcode() {
        Rcode::NOERROR => None,
        Rcode::NXDOMAIN => Some(DnsFault::NoSuchName),
        code => Some(DnsFault::Refused(code.to_int())),
    };
    // A server that could not parse the query cannot repeat its question.
    if let (0, Some(DnsFault::Refused(code))) = (message.header_counts().qdcount(), error) {
        return Err(DnsFault::Refused(code));
    }
    let question = message.sole_question().map_err(|_| DnsFault::Unrelated)?;
    let echoed = *question.qname();
    if echoed != queried || (question.qtype(), question.qclass()) != (kind.code(), Class::IN) {
        return Err(DnsFault::Unrelated);
    }
    let has_upper_case = name.bytes().any(|byte| byte.is_ascii_uppercase());
    if has_upper_case && !echoed.iter().map(Label::as_slice).eq(queried.iter().map(Label::as_slice))
    {
        return Err(DnsFault::WrongCase);
    }
    if head.tc() {
        return Err(DnsFault::Truncated);
    }
    match error {
        Some(error) => Err(error),
        None => follow(&message, echoed, kind),
    }
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
}

impl From<ParseError> for DnsFault {
    fn from(_: ParseError) -> Self {
        Self::Malformed
    }
}

/// Follows aliases until a name has addresses. Servers need not send the records in order, so each
/// step reads all of them.
fn follow<'a>(
    message: &Message<&'a [u8]>,
    mut owner: ParsedName<&'a [u8]>,
    kind: RecordType,
) -> Result<AddressAnswer, DnsFault> {
    let mut ttl_s = u32::MAX;
    for _ in 0..=ALIASES_MAX {
        let (mut addrs, mut alias) = (Vec::new(), None);
        for record in message.answer()?.take(RECORDS_MAX) {
            let record = record?;
            if record.owner() != owner || record.class() != Class::IN {
                continue;
            }
            if record.rtype() == kind.code() {
                let addr = address(&record, kind)?.ok_or(DnsFault::Malformed)?;
                if addrs.len() < ADDRS_MAX && !addrs.contains(&addr) {
                    addrs.push(addr);
                }
            } else if let Some(record) = record.to_record::<Cname<ParsedName<&[u8]>>>()? {
                alias = Some(record.into_data().into_cname());
            } else {
                continue;
            }
            // A value with the most significant bit set counts as zero (RFC 2181 8).
            let own = i32::try_from(record.ttl().as_secs()).map_or(0, i32::unsigned_abs);
            ttl_s = ttl_s.min(own);
        }
        if !addrs.is_empty() {
            return Ok(AddressAnswer { addrs, ttl_s });
        }
        owner = alias.ok_or(DnsFault::NoData)?;
    }
    Err(DnsFault::TooManyAliases)
}

fn address(
    record: &ParsedRecord<'_, &[u8]>,
    kind: RecordType,
) -> Result<Option<IpAddr>, ParseError> {
    Ok(match kind {
        RecordType::A => record.to_record::<A>()?.map(|record| record.data().addr().into()),
        RecordType::Aaaa => record.to_record::<Aaaa>()?.map(|record| record.data().addr().into()),
    })
}

const ALIASES_MAX: usize = 8;
const RECORDS_MAX: usize = 64;
const ADDRS_MAX: usize = 16;

#[cfg(test)]
mod tests;

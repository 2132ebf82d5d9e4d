//! The FakeTLS secret: one byte 0xee, 16 key bytes, the host name (PROTOCOL 2). Its two text
//! forms and the links with it. There is no `Display`, and `Debug` omits the key, so that the key
//! is never printed by accident.

use std::fmt;

use base64ct::{Base64UrlUnpadded, Encoding};

use crate::proto::url::percent_encoded;

/// A FakeTLS secret: the key that authenticates clients, and the host whose front serves all
/// others.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    key: [u8; KEY_LEN],
    host: Vec<u8>,
}

impl Secret {
    /// Joins a key and a host, without validation.
    ///
    /// # Errors
    /// The host is empty.
    pub fn new(key: [u8; KEY_LEN], host: &[u8]) -> Result<Self, SecretFault> {
        if host.is_empty() {
            return Err(SecretFault::NoHost);
        }
        Ok(Self { key, host: host.to_vec() })
    }

    /// Parses hexadecimal in either case, else base64 with the URL-safe or standard alphabet, with
    /// or without padding. No text is valid as both, since base64 of a leading 0xee starts with
    /// `7g` to `7v`.
    ///
    /// # Errors
    /// See [`SecretFault`].
    pub fn parse(text: &str) -> Result<Self, SecretFault> {
        let raw = decode(text).ok_or_else(|| SecretFault::of_text(text))?;
        let (first, rest) = raw.split_first().ok_or(SecretFault::Encoding)?;
        if *first != FAKE_TLS {
            let is_key = plain_key(&raw).is_some();
            return Err(if is_key { SecretFault::PlainKey } else { SecretFault::NotFakeTls });
        }
        let (key, host) = rest.split_first_chunk::<KEY_LEN>().ok_or(SecretFault::ShortKey)?;
        Self::new(*key, host)
    }

    /// The key in a secret of any kind, written as for [`Secret::parse`]: 16 bytes alone, after
    /// 0xdd, or after 0xee and before a host.
    pub fn parse_key(text: &str) -> Option<[u8; KEY_LEN]> {
        let raw = decode(text)?;
        plain_key(&raw).or_else(|| Self::parse(text).ok().map(|secret| secret.key))
    }

    /// The 16 key bytes.
    pub fn key(&self) -> &[u8; KEY_LEN] {
        &self.key
    }

    /// The host, as in the SNI of clients; never empty.
    pub fn host(&self) -> &[u8] {
        &self.host
    }

    /// Whether the key is all zeros. Such a secret parses, but must not be used.
    pub fn is_weak(&self) -> bool {
        self.key == [0; KEY_LEN]
    }

    /// Why the host is unusable, see [`host_fault`].
    pub fn host_fault(&self) -> Option<HostFault> {
        host_fault(&self.host)
    }

    /// The secret in lower-case hexadecimal.
    pub fn to_hex(&self) -> String {
        let nibbles = self.to_bytes().into_iter().flat_map(|byte| [byte >> 4, byte & 0x0f]);
        nibbles.filter_map(|nibble| char::from_digit(nibble.into(), 16)).collect()
    }

    /// The secret in URL-safe base64 without padding, the canonical form.
    pub fn to_base64(&self) -> String {
        Base64UrlUnpadded::encode_string(&self.to_bytes())
    }

    fn to_bytes(&self) -> Vec<u8> {
        [&[FAKE_TLS], self.key.as_slice(), &self.host].concat()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = self.host.escape_ascii().to_string();
        f.debug_struct("Secret").field("host", &format_args!("{host}")).finish_non_exhaustive()
    }
}

/// Why a text is not a secret. `Display` describes the fault and a remedy, without the text itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecretFault {
    /// Neither hexadecimal nor base64, or empty.
    Encoding,
    /// A link with a secret in it.
    Link,
    /// A blank or an invisible character.
    Blank,
    /// A quotation mark inside the quotes.
    Quote,
    /// A key without a host: a plain or `dd` secret.
    PlainKey,
    /// The first byte is not 0xee.
    NotFakeTls,
    /// Fewer than 16 key bytes.
    ShortKey,
    /// No host after the key.
    NoHost,
}

impl SecretFault {
    /// Why a text cannot be decoded.
    fn of_text(text: &str) -> Self {
        let is_blank =
            |c: char| c.is_whitespace() || matches!(c, '\u{200b}'..='\u{200f}' | '\u{feff}');
        if text.contains("://") || text.contains("secret=") {
            Self::Link
        } else if text.contains(is_blank) {
            Self::Blank
        } else if text.contains(['"', '\'', '`', '«', '»', '\u{2018}', '\u{2019}', '\u{201c}'])
            || text.contains(['\u{201d}', '\u{201e}'])
        {
            Self::Quote
        } else {
            Self::Encoding
        }
    }
}

impl fmt::Display for SecretFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (wrong, remedy) = match self {
            Self::Encoding => ("this is neither hexadecimal nor base64", "copy the whole secret"),
            Self::Link => ("this is a link", "write only its secret: what follows `secret=`"),
            Self::Blank => ("this has a blank or an invisible character", "delete it"),
            Self::Quote => ("this has a second pair of quotation marks", "delete it"),
            Self::PlainKey => ("this is a key without a host, which FakeTLS needs", KEEP_KEY),
            Self::NotFakeTls => ("this is not a FakeTLS (ee) secret", MAKE_ONE),
            Self::ShortKey => ("this secret is cut short: its key has 16 bytes", MAKE_ONE),
            Self::NoHost => ("this secret has no host", KEEP_KEY),
        };
        write!(f, "{wrong}; {remedy}")
    }
}

impl std::error::Error for SecretFault {}

/// Why clients or name servers would refuse `host`; `None` if they accept it.
pub fn host_fault(host: &[u8]) -> Option<HostFault> {
    if host.is_empty() {
        Some(HostFault::Empty)
    } else if host.len() > HOST_MAX {
        Some(HostFault::TooLong)
    } else if !host.iter().all(u8::is_ascii_graphic) {
        Some(HostFault::NotPrintable)
    } else {
        None
    }
}

/// Why the host of a secret is unusable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostFault {
    /// The host is empty.
    Empty,
    /// Longer than 182 bytes.
    TooLong,
    /// A space, a control character or a byte above 0x7e.
    NotPrintable,
}

impl fmt::Display for HostFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the host is empty; name a web site"),
            Self::TooLong => write!(f, "the host is longer than {HOST_MAX} bytes; choose another"),
            Self::NotPrintable => {
                f.write_str("the host must be printable ASCII; write an IDN in its xn-- form")
            }
        }
    }
}

impl std::error::Error for HostFault {}

/// The link `tg://proxy?port=..&secret=..&server=..`, which Telegram apps open.
pub fn tg_link(server: &str, port: u16, secret_text: &str) -> String {
    format!("tg://proxy?{}", query(server, port, secret_text))
}

/// The link `https://t.me/proxy?port=..&secret=..&server=..`, which browsers pass to the app.
pub fn tme_link(server: &str, port: u16, secret_text: &str) -> String {
    format!("https://t.me/proxy?{}", query(server, port, secret_text))
}

/// The parameters, in alphabetical order (COMPATIBILITY 4.3).
fn query(server: &str, port: u16, secret_text: &str) -> String {
    let (secret, server) = (percent_encoded(secret_text), percent_encoded(server));
    format!("port={port}&secret={secret}&server={server}")
}

fn decode(text: &str) -> Option<Vec<u8>> {
    decode_hex(text).or_else(|| decode_base64(text))
}

/// The key of a plain secret, of one with random padding (0xdd), or of one for FakeTLS (0xee) that
/// lacks the host.
fn plain_key(raw: &[u8]) -> Option<[u8; KEY_LEN]> {
    let rest = || raw.strip_prefix(&[PADDED]).or_else(|| raw.strip_prefix(&[FAKE_TLS]));
    // A key may begin with these bytes too.
    raw.try_into().ok().or_else(|| rest()?.try_into().ok())
}

fn decode_hex(text: &str) -> Option<Vec<u8>> {
    let (pairs, odd) = text.as_bytes().as_chunks::<2>();
    if !odd.is_empty() {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|n| u8::try_from(n).ok());
    pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect()
}

/// A lenient decoder. Existing configurations may contain what a strict one refuses: line ends
/// inside a multi-line string, and non-zero unused bits in the last character (COMPATIBILITY 3.3).
fn decode_base64(text: &str) -> Option<Vec<u8>> {
    let lines = text.trim_end_matches(['\r', '\n']);
    let body = lines.strip_suffix("==").or(lines.strip_suffix('=')).unwrap_or(lines);
    let mut out = Vec::with_capacity(body.len());
    let (mut bits, mut count) = (0_u32, 0_u32);
    for byte in body.bytes().filter(|byte| !matches!(byte, b'\r' | b'\n')) {
        let sextet = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'-' | b'+' => 62,
            b'_' | b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(sextet);
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count & 0xff) as u8);
            bits &= (1 << count) - 1;
        }
    }
    // Six unused bits mean a surplus character, which no encoder produces.
    (count < 6).then_some(out)
}

/// Longest host in bytes that every client accepts; TDLib and mtcute refuse longer ones.
const HOST_MAX: usize = 182;

/// Key length in bytes.
const KEY_LEN: usize = 16;

/// First byte of a FakeTLS secret.
const FAKE_TLS: u8 = 0xee;

/// First byte of a secret for the obfuscated transport with random padding.
const PADDED: u8 = 0xdd;

const KEEP_KEY: &str = "`mtbox generate-secret --key KEY HOST` makes a secret of it";
const MAKE_ONE: &str = "make one with `mtbox generate-secret HOST`";

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str =
        "ee304315654fee0e3c49ae73785c8a734f73746f726167652e676f6f676c65617069732e636f6d";
    const BASE64: &str = "7jBDFWVP7g48Sa5zeFyKc09zdG9yYWdlLmdvb2dsZWFwaXMuY29t";

    #[test]
    fn both_text_forms_are_the_same_secret() {
        let secret = Secret::parse(HEX).unwrap();
        assert_eq!(secret, Secret::parse(BASE64).unwrap());
        assert_eq!(secret.host(), b"storage.googleapis.com");
        assert_eq!((secret.to_hex().as_str(), secret.to_base64().as_str()), (HEX, BASE64));
        assert_eq!(secret.host_fault(), None);
        assert!(!secret.is_weak());
    }

    #[test]
    fn base64_may_be_broken_into_lines_padded_and_end_in_stray_bits() {
        let secret = Secret::parse("7gABAgMEBQYHCAkKCwwNDg9hYQ").unwrap();
        assert_eq!(secret.host(), b"aa");
        for text in [
            "7gABAgMEBQYHCAkKCwwNDg9hYR",
            "7gABAgMEBQYHCAkKCwwNDg9hYQ==",
            "7gABAgMEBQ\r\nYHCAkKCwwNDg9hYQ\n",
            "7gABAgMEBQYHCAkKCwwNDg9hYQ==\n",
        ] {
            assert_eq!(Secret::parse(text).as_ref(), Ok(&secret), "{text}");
        }
    }

    #[test]
    fn spaces_and_too_much_padding_are_refused() {
        for text in
            [" 7gABAgMEBQYHCAkKCwwNDg9h", "7gABAgMEBQ YHCAkKCwwNDg9h", &format!("{BASE64}===")]
        {
            assert!(Secret::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_key_is_read_from_every_kind_of_secret() {
        let key = *Secret::parse(HEX).unwrap().key();
        for text in [HEX, BASE64, &HEX[2..34], &format!("DD{}", &HEX[2..34])] {
            assert_eq!(Secret::parse_key(text), Some(key), "{text}");
        }
        for text in ["", "ee", &HEX[..30], &HEX[2..32], "dd"] {
            assert_eq!(Secret::parse_key(text), None, "{text}");
        }
        for first in ["dd", "ee"] {
            let key = format!("{first}{}", "1".repeat(30));
            assert_eq!(Secret::parse_key(&key).unwrap()[1..], [0x11; 15], "{first}");
            assert_eq!(Secret::parse_key(&format!("{first}{key}")), Secret::parse_key(&key));
        }
    }

    #[test]
    fn each_fault_names_its_remedy() {
        for (text, fault) in [
            ("304315654fee0e3c49ae73785c8a734f", SecretFault::PlainKey),
            ("dd304315654fee0e3c49ae73785c8a734f", SecretFault::PlainKey),
            ("MEMVZU_uDjxJrnN4XIpzTw", SecretFault::PlainKey),
            ("0102", SecretFault::NotFakeTls),
            ("tg://proxy?server=a&port=1&secret=ee", SecretFault::Link),
            ("ee304315654fee0e3c49ae73785c8a734f\u{a0}", SecretFault::Blank),
            ("ee304315654fee0e3c49ae73785c8a734f", SecretFault::NoHost),
            ("ee3043", SecretFault::ShortKey),
            ("", SecretFault::Encoding),
            ("ö", SecretFault::Encoding),
        ] {
            assert_eq!(Secret::parse(text), Err(fault));
        }
        assert_eq!(
            SecretFault::NotFakeTls.to_string(),
            "this is not a FakeTLS (ee) secret; make one with `mtbox generate-secret HOST`",
        );
    }

    #[test]
    fn unusable_hosts_have_different_faults() {
        let fault = |host: &[u8]| Secret::new([1; 16], host).unwrap().host_fault();
        assert_eq!(fault(&[b'a'; 182]), None);
        assert_eq!(fault(&[b'a'; 183]), Some(HostFault::TooLong));
        assert_eq!(fault(b"two words"), Some(HostFault::NotPrintable));
        assert_eq!(fault("bücher.example".as_bytes()), Some(HostFault::NotPrintable));
        assert_eq!(host_fault(b""), Some(HostFault::Empty));
        assert_eq!(Secret::new([1; 16], b""), Err(SecretFault::NoHost));
        assert!(Secret::new([0; 16], b"a.io").unwrap().is_weak());
    }

    #[test]
    fn debug_omits_the_key() {
        let shown = format!("{:?}", Secret::new([0x41; 16], b"a.io").unwrap());
        assert_eq!(shown, "Secret { host: a.io, .. }");
    }

    #[test]
    fn links_sort_and_escape_their_query() {
        let want = "proxy?port=443&secret=7g_-&server=2001%3Adb8%3A%3A1";
        assert_eq!(tg_link("2001:db8::1", 443, "7g_-"), format!("tg://{want}"));
        assert_eq!(tme_link("2001:db8::1", 443, "7g_-"), format!("https://t.me/{want}"));
    }
}

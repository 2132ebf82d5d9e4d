//! HTTP/1.1 client (RFC 9112): a request, and a parser of the response that accepts pieces of any
//! size. Passes the body on as it arrives and does not store it.

use base64ct::{Base64, Encoding};

use crate::proto::http1::{HeadFault, NO_FIELDS, RESPONSE_HEAD_MAX, head_len};
use crate::proto::url::{Url, percent_decoded};
use crate::util::host_port::Bracketed;

/// A GET request for `url`. `validators` are header lines from an earlier response, see
/// [`Head::validators`].
pub fn get_request(url: &Url, validators: &str) -> Vec<u8> {
    // mtg-multi sends curl's User-Agent too. Any content encoding would need a decoder.
    format!(
        "{}User-Agent: curl/8.5.0\r\nAccept: */*\r\nAccept-Encoding: identity\r\n\
         {}{validators}Connection: close\r\n\r\n",
        request_start("GET", url),
        authorization(url)
    )
    .into_bytes()
}

/// The Authorization field for the user name and password of a URL (RFC 7617 2); empty without
/// them. Text with an invalid escape is used unchanged.
fn authorization(url: &Url) -> String {
    let Some((name, password)) = &url.user else { return String::new() };
    let decoded = |text: &str| percent_decoded(text).unwrap_or_else(|| text.as_bytes().to_vec());
    let credentials = [decoded(name), decoded(password)].join(&b':');
    format!("Authorization: Basic {}\r\n", Base64::encode_string(&credentials))
}

/// The request line and the `Host` field (RFC 9110 7.2).
pub(super) fn request_start(method: &str, url: &Url) -> String {
    // The request target must start with a slash (RFC 9112 3.2.1).
    let slash = if url.path.starts_with('/') { "" } else { "/" };
    let host = Bracketed(&url.host);
    let port = url.port.map_or(String::new(), |port| format!(":{port}"));
    format!("{method} {slash}{} HTTP/1.1\r\nHost: {host}{port}\r\n", url.path)
}

/// The parts of a response head that are used.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Head {
    /// The status code.
    pub status: u16,
    /// The `Location` field, unchanged.
    pub location: Option<String>,
    /// `Content-Type` without parameters, in lower case; empty if there is none.
    pub content_type: String,
    /// Whether another request may follow on the connection (RFC 9112 9.3).
    pub keep_alive: bool,
    /// Header lines for the next request, with which the server can answer 304 Not Modified (RFC
    /// 9110 13.1); at most two lines of 256 bytes.
    pub validators: String,
}

/// Parser of one response.
#[derive(Default)]
pub struct Response {
    head: Head,
    state: ResponseState,
    /// An incomplete head, chunk size line or trailer.
    line: Vec<u8>,
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum ResponseState {
    #[default]
    Head,
    UntilEnd,
    ChunkSize,
    /// Bytes that are left of a chunk, or of a body without chunks.
    Bytes {
        left: u64,
        is_chunk: bool,
    },
    ChunkEnd,
    Trailers,
    Done,
}

/// Whether a response is complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyProgress {
    /// More bytes are needed.
    Incomplete,
    /// The response is complete.
    Complete,
}

/// Why a response is invalid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HttpFault {
    /// The head is not one of HTTP/1, or too long.
    Head,
    /// Inconsistent length or chunks, or an unknown transfer coding.
    Body,
    /// The connection ended before the response was complete.
    CutOff,
}

impl HttpFault {
    /// Text for logs and reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Head => "not an HTTP response",
            Self::Body => "an invalid HTTP body",
            Self::CutOff => "cut off",
        }
    }
}

impl Response {
    /// The head; the default value until it is complete.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// Whether no byte has been parsed yet.
    pub fn is_empty(&self) -> bool {
        self.state == ResponseState::Head && self.line.is_empty()
    }

    /// Parses the next bytes and passes parts of the body to `body`. Returns the bytes after the
    /// response too.
    ///
    /// # Errors
    /// The response is invalid.
    pub fn push<'a>(
        &mut self,
        mut bytes: &'a [u8],
        body: &mut dyn FnMut(&Head, &[u8]),
    ) -> Result<(BodyProgress, &'a [u8]), HttpFault> {
        while !bytes.is_empty() && self.state != ResponseState::Done {
            bytes = match self.state {
                ResponseState::Head => self.push_head(bytes)?,
                ResponseState::Bytes { left, is_chunk } => {
                    let here = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                    let (own, rest) = bytes.split_at_checked(here).unwrap_or((bytes, &[]));
                    body(&self.head, own);
                    self.state = match (left - here as u64, is_chunk) {
                        (0, true) => ResponseState::ChunkEnd,
                        (0, false) => ResponseState::Done,
                        (left, _) => ResponseState::Bytes { left, is_chunk },
                    };
                    rest
                }
                ResponseState::UntilEnd => {
                    body(&self.head, bytes);
                    &[]
                }
                ResponseState::ChunkSize | ResponseState::ChunkEnd | ResponseState::Trailers => {
                    self.push_line(bytes)?
                }
                ResponseState::Done => &[],
            };
        }
        let is_complete = self.state == ResponseState::Done;
        Ok((if is_complete { BodyProgress::Complete } else { BodyProgress::Incomplete }, bytes))
    }

    /// Ends the response when the connection has ended.
    ///
    /// # Errors
    /// The response is incomplete.
    pub fn finish(&self) -> Result<(), HttpFault> {
        match self.state {
            ResponseState::UntilEnd | ResponseState::Done => Ok(()),
            _ => Err(HttpFault::CutOff),
        }
    }

    fn push_head<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], HttpFault> {
        let before = self.line.len();
        let room = RESPONSE_HEAD_MAX.saturating_sub(before).min(bytes.len());
        self.line.extend_from_slice(bytes.get(..room).unwrap_or_default());
        let mut fields = NO_FIELDS;
        let mut parsed = httparse::Response::new(&mut fields);
        let outcome = parsed.parse(&self.line);
        let used = match head_len(outcome, self.line.len(), RESPONSE_HEAD_MAX) {
            Ok(used) => used,
            Err(HeadFault::Incomplete) => return Ok(&[]),
            Err(_) => return Err(HttpFault::Head),
        };
        let status = parsed.code.unwrap_or_default();
        let (mut head, state) = read_fields(status, parsed.headers)?;
        let is_http10 = parsed.version == Some(0);
        head.keep_alive =
            state != ResponseState::UntilEnd && is_keep_alive(is_http10, parsed.headers);
        self.line = Vec::new();
        // An interim response (RFC 9110 15.2) has no body; the final response follows.
        if !(100..200).contains(&status) {
            (self.head, self.state) = (head, state);
        }
        Ok(bytes.get(used - before.min(used)..).unwrap_or_default())
    }

    /// Parses a line of the chunked coding (RFC 9112 7.1).
    fn push_line<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], HttpFault> {
        let end = bytes.iter().position(|byte| *byte == b'\n');
        let (own, rest) = match end {
            Some(at) => bytes.split_at_checked(at + 1).unwrap_or((bytes, &[])),
            None => (bytes, &[][..]),
        };
        if self.line.len() + own.len() > LINE_MAX {
            return Err(HttpFault::Body);
        }
        self.line.extend_from_slice(own);
        if end.is_none() {
            return Ok(rest);
        }
        let line = std::mem::take(&mut self.line);
        let line = line.trim_ascii_end();
        self.state = match self.state {
            ResponseState::ChunkSize => match chunk_size(line).ok_or(HttpFault::Body)? {
                0 => ResponseState::Trailers,
                left => ResponseState::Bytes { left, is_chunk: true },
            },
            ResponseState::ChunkEnd if line.is_empty() => ResponseState::ChunkSize,
            ResponseState::ChunkEnd => return Err(HttpFault::Body),
            ResponseState::Trailers if line.is_empty() => ResponseState::Done,
            other => other,
        };
        Ok(rest)
    }
}

/// Evaluates the fields of a head; the second value is the framing of the body (RFC 9112 6.3).
fn read_fields(
    status: u16,
    fields: &[httparse::Header<'_>],
) -> Result<(Head, ResponseState), HttpFault> {
    let mut head = Head { status, ..Head::default() };
    let (mut length, mut chunked) = (None, false);
    for field in fields {
        let value = str::from_utf8(field.value).unwrap_or_default().trim();
        let is = |name: &str| field.name.eq_ignore_ascii_case(name);
        if is("content-length") {
            let is_number = value.bytes().all(|byte| byte.is_ascii_digit());
            let stated = value.parse::<u64>().ok().filter(|_| is_number).ok_or(HttpFault::Body)?;
            if length.is_some_and(|other| other != stated) {
                return Err(HttpFault::Body);
            }
            length = Some(stated);
        } else if is("transfer-encoding") {
            if !value.eq_ignore_ascii_case("chunked") {
                return Err(HttpFault::Body);
            }
            chunked = true;
        } else if is("content-type") && value.len() <= CONTENT_TYPE_MAX {
            head.content_type =
                value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        } else if is("location") && value.len() <= LOCATION_MAX {
            head.location = Some(value.to_owned());
        } else if is("etag") && value.len() <= VALIDATOR_MAX {
            head.validators += &format!("If-None-Match: {value}\r\n");
        } else if is("last-modified") && value.len() <= VALIDATOR_MAX {
            head.validators += &format!("If-Modified-Since: {value}\r\n");
        }
    }
    let state = match (status, chunked, length) {
        (204 | 304, ..) => ResponseState::Done,
        (_, true, _) => ResponseState::ChunkSize,
        (_, false, Some(0)) => ResponseState::Done,
        (_, false, Some(left)) => ResponseState::Bytes { left, is_chunk: false },
        (_, false, None) => ResponseState::UntilEnd,
    };
    Ok((head, state))
}

/// Whether the connection persists after this response; HTTP/1.0 closes it by default.
fn is_keep_alive(is_http10: bool, fields: &[httparse::Header<'_>]) -> bool {
    let named = fields.iter().filter(|field| field.name.eq_ignore_ascii_case("connection"));
    let words = named.flat_map(|field| field.value.split(|byte| *byte == b','));
    let mut keep_alive = !is_http10;
    for word in words.map(<[u8]>::trim_ascii) {
        if word.eq_ignore_ascii_case(b"close") {
            return false;
        }
        keep_alive |= word.eq_ignore_ascii_case(b"keep-alive");
    }
    keep_alive
}

/// The chunk size: hexadecimal digits before any extension.
fn chunk_size(line: &[u8]) -> Option<u64> {
    let digits = line.split(|byte| *byte == b';').next()?.trim_ascii();
    let plain = digits.iter().all(u8::is_ascii_hexdigit) && (1..=16).contains(&digits.len());
    u64::from_str_radix(str::from_utf8(digits).ok().filter(|_| plain)?, 16).ok()
}

const LINE_MAX: usize = 1024;
const CONTENT_TYPE_MAX: usize = 256;
const LOCATION_MAX: usize = 2048;
const VALIDATOR_MAX: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    /// Parses `wire` in pieces of `size` bytes; returns head, body and outcome.
    fn read(wire: &[u8], size: usize) -> (Head, Vec<u8>, Result<BodyProgress, HttpFault>) {
        let (mut response, mut body) = (Response::default(), Vec::new());
        let mut progress = Ok(BodyProgress::Incomplete);
        for piece in wire.chunks(size) {
            let pushed = response.push(piece, &mut |_, bytes| body.extend_from_slice(bytes));
            progress = pushed.map(|(progress, _)| progress);
            if progress != Ok(BodyProgress::Incomplete) {
                break;
            }
        }
        if progress == Ok(BodyProgress::Incomplete) {
            progress = response.finish().map(|()| BodyProgress::Complete);
        }
        (response.head().clone(), body, progress)
    }

    #[test]
    fn every_framing_yields_the_body_in_pieces_of_any_size() {
        for wire in [
            "HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nhello world<ignored>",
            "HTTP/1.0 200 OK\r\n\r\nhello world",
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 11\r\n\r\nhello world",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n5;x=y\r\nhello\r\n6\r\n world\
             \r\n0\r\nA: b\r\n\r\n",
        ] {
            for size in [1, 2, 3, 7, 1000] {
                let (head, body, progress) = read(wire.as_bytes(), size);
                assert_eq!((head.status, progress), (200, Ok(BodyProgress::Complete)), "{wire}");
                assert_eq!(body, b"hello world", "{wire} in pieces of {size}");
            }
        }
    }

    #[test]
    fn a_redirect_and_validators_are_kept() {
        let wire = b"HTTP/1.1 301 Moved\r\nLocation: /x\r\nETag: \"a\"\r\nLast-Modified: now\r\n\
                     Content-Length: 0\r\n\r\n";
        let (head, _, progress) = read(wire, 9);
        assert_eq!(head.location.as_deref(), Some("/x"));
        assert_eq!(head.validators, "If-None-Match: \"a\"\r\nIf-Modified-Since: now\r\n");
        assert_eq!(progress, Ok(BodyProgress::Complete));
        let (head, body, progress) = read(b"HTTP/1.1 304 Same\r\nContent-Length: 9\r\n\r\n", 99);
        assert_eq!((head.status, body.len(), progress), (304, 0, Ok(BodyProgress::Complete)));
    }

    #[test]
    fn an_inconsistent_or_incomplete_response_is_a_fault() {
        for (wire, fault) in [
            ("", HttpFault::CutOff),
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell", HttpFault::CutOff),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
                HttpFault::CutOff,
            ),
            ("SSH-2.0-x\r\n", HttpFault::Head),
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", HttpFault::Body),
            ("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", HttpFault::Body),
            ("HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\nx", HttpFault::Body),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", HttpFault::Body),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n", HttpFault::Body),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n", HttpFault::Body),
        ] {
            for size in [1, 1000] {
                assert_eq!(read(wire.as_bytes(), size).2, Err(fault), "{wire}");
            }
        }
        let endless = ["HTTP/1.1 200 OK\r\n", &"A: b\r\n".repeat(10_000)].concat();
        assert_eq!(read(endless.as_bytes(), 100).2, Err(HttpFault::Head));
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        let endless = [chunked, &"0".repeat(10_000)].concat();
        assert_eq!(read(endless.as_bytes(), 100).2, Err(HttpFault::Body));
    }

    #[test]
    fn a_request_has_host_and_path_and_no_encoding() {
        let url = Url::parse("https://[::1]:8443?q").unwrap();
        let text = String::from_utf8(get_request(&url, "If-None-Match: x\r\n")).unwrap();
        assert!(text.starts_with("GET /?q HTTP/1.1\r\nHost: [::1]:8443\r\n"), "{text}");
        assert!(
            text.contains("identity\r\nIf-None-Match: x\r\nConnection: close\r\n\r\n"),
            "{text}"
        );
    }

    /// The example of RFC 7617 2. A redirect to another host does not forward the credentials.
    #[test]
    fn credentials_are_sent_to_their_own_host_only() {
        let request = |url: &Url| String::from_utf8(get_request(url, "")).unwrap();
        let url = Url::parse("https://Aladdin:open%20sesame@h/x").unwrap();
        let line = "\r\nAuthorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n";
        assert!(
            request(&url).contains(line) && !request(&url).contains("sesame"),
            "{}",
            request(&url)
        );
        assert!(request(&url.join("/y").unwrap()).contains(line));
        for elsewhere in ["https://other/y", "//other/y"] {
            let text = request(&url.join(elsewhere).unwrap());
            assert!(!text.contains("Authorization"), "{text}");
        }
    }
}

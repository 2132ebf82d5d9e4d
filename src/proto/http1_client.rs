//! HTTP/1.1 as a client of ours speaks it (RFC 9112): one request, and its response read from
//! pieces of any size. The body is handed on as it comes; nothing of it is kept here.

use base64ct::{Base64, Encoding};

use crate::proto::url::{Url, percent_decoded};

/// A GET request for `url`. `validators` are header lines of an earlier answer, see
/// [`Head::validators`].
pub fn get_request(url: &Url, validators: &str) -> Vec<u8> {
    let target =
        if url.path.starts_with('/') { url.path.clone() } else { format!("/{}", url.path) };
    let host = authority(url);
    // The reference's clients look like this one too; an encoding would need a decoder.
    format!(
        "GET {target} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: curl/8.5.0\r\nAccept: */*\r\n\
         Accept-Encoding: identity\r\n{}{validators}Connection: close\r\n\r\n",
        authorization(url)
    )
    .into_bytes()
}

/// The field for a name and a password before the host (RFC 7617 2); empty without them. What is
/// no valid escape is taken as it stands.
fn authorization(url: &Url) -> String {
    let Some((name, password)) = &url.user else { return String::new() };
    let decoded = |text: &str| percent_decoded(text).unwrap_or_else(|| text.as_bytes().to_vec());
    let both = [decoded(name), decoded(password)].join(&b':');
    format!("Authorization: Basic {}\r\n", Base64::encode_string(&both))
}

/// `host` or `host:port`, as the `Host` field has it (RFC 9110 7.2).
pub fn authority(url: &Url) -> String {
    let host = if url.host.contains(':') { format!("[{}]", url.host) } else { url.host.clone() };
    match url.port {
        Some(port) => format!("{host}:{port}"),
        None => host,
    }
}

/// What matters of a response head.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Head {
    /// The status code.
    pub status: u16,
    /// Where a redirect leads, as it stands there.
    pub location: Option<String>,
    /// `Content-Type` without its parameters, in lower case; empty if there is none.
    pub content_type: String,
    /// Another request may follow on the same connection (RFC 9112 9.3).
    pub keep_alive: bool,
    /// Header lines for the next request, so that the server can say that nothing has changed
    /// (RFC 9110 13.1); at most two lines of 256 bytes.
    pub validators: String,
}

/// Reads one response.
#[derive(Default)]
pub struct Response {
    head: Head,
    state: ResponseState,
    /// A head, a chunk's size or a trailer that is not whole yet.
    line: Vec<u8>,
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum ResponseState {
    #[default]
    Head,
    Length(u64),
    UntilEnd,
    ChunkSize,
    Chunk(u64),
    ChunkEnd,
    Trailers,
    Over,
}

/// Whether the response is whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyProgress {
    /// Something is missing.
    Incomplete,
    /// All has come.
    Complete,
}

/// Why a response cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HttpFault {
    /// It is no HTTP/1 response, or its head is larger than [`HEAD_MAX`].
    Head,
    /// Its length or its chunks contradict themselves.
    Body,
    /// It ended before it was whole.
    CutOff,
}

impl HttpFault {
    /// For a log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Head => "no HTTP response",
            Self::Body => "a broken HTTP body",
            Self::CutOff => "cut off",
        }
    }
}

impl Response {
    /// The head; all zero until it has come.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// Whether nothing of it has come yet.
    pub fn is_empty(&self) -> bool {
        self.state == ResponseState::Head && self.line.is_empty()
    }

    /// Takes the next bytes. Pieces of the body go to `body` at once. What follows a whole
    /// response is ignored.
    ///
    /// # Errors
    /// When no further byte can help.
    pub fn push(
        &mut self,
        bytes: &[u8],
        body: &mut dyn FnMut(&Head, &[u8]),
    ) -> Result<BodyProgress, HttpFault> {
        self.push_with_rest(bytes, body).map(|(progress, _)| progress)
    }

    /// The same, and what follows a whole response.
    ///
    /// # Errors
    /// When no further byte can help.
    pub fn push_with_rest<'a>(
        &mut self,
        mut bytes: &'a [u8],
        body: &mut dyn FnMut(&Head, &[u8]),
    ) -> Result<(BodyProgress, &'a [u8]), HttpFault> {
        while !bytes.is_empty() && self.state != ResponseState::Over {
            bytes = match self.state {
                ResponseState::Head => self.take_head(bytes)?,
                ResponseState::Length(left) => {
                    let left = self.pass(bytes, left, body);
                    self.state = if left.0 == 0 {
                        ResponseState::Over
                    } else {
                        ResponseState::Length(left.0)
                    };
                    left.1
                }
                ResponseState::Chunk(left) => {
                    let left = self.pass(bytes, left, body);
                    self.state = if left.0 == 0 {
                        ResponseState::ChunkEnd
                    } else {
                        ResponseState::Chunk(left.0)
                    };
                    left.1
                }
                ResponseState::UntilEnd => {
                    body(&self.head, bytes);
                    &[]
                }
                ResponseState::ChunkSize | ResponseState::ChunkEnd | ResponseState::Trailers => {
                    self.take_line(bytes)?
                }
                ResponseState::Over => &[],
            };
        }
        let whole = self.state == ResponseState::Over;
        Ok((if whole { BodyProgress::Complete } else { BodyProgress::Incomplete }, bytes))
    }

    /// The connection has ended.
    ///
    /// # Errors
    /// When something was still to come.
    pub fn finish(&self) -> Result<(), HttpFault> {
        match self.state {
            ResponseState::UntilEnd | ResponseState::Over => Ok(()),
            _ => Err(HttpFault::CutOff),
        }
    }

    /// Hands on what belongs to a piece of `left` bytes; the rest of both.
    fn pass<'a>(
        &self,
        bytes: &'a [u8],
        left: u64,
        body: &mut dyn FnMut(&Head, &[u8]),
    ) -> (u64, &'a [u8]) {
        let here = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
        let (own, rest) = bytes.split_at_checked(here).unwrap_or((bytes, &[]));
        body(&self.head, own);
        (left - here as u64, rest)
    }

    fn take_head<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], HttpFault> {
        let before = self.line.len();
        let room = (HEAD_MAX - before.min(HEAD_MAX)).min(bytes.len());
        self.line.extend_from_slice(bytes.get(..room).unwrap_or_default());
        let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
        let mut parsed = httparse::Response::new(&mut fields);
        let used = match parsed.parse(&self.line) {
            Ok(httparse::Status::Complete(used)) => used,
            Ok(httparse::Status::Partial) if self.line.len() < HEAD_MAX => return Ok(&[]),
            _ => return Err(HttpFault::Head),
        };
        let status = parsed.code.unwrap_or_default();
        let (mut head, state) = understood(status, parsed.headers)?;
        let old = parsed.version == Some(0);
        head.keep_alive = state != ResponseState::UntilEnd && keeps(old, parsed.headers);
        self.line = Vec::new();
        // An interim response (RFC 9110 15.2) has no body; the real one follows.
        if !(100..200).contains(&status) {
            (self.head, self.state) = (head, state);
        }
        Ok(bytes.get(used - before.min(used)..).unwrap_or_default())
    }

    /// A line of the chunked coding (RFC 9112 7.1).
    fn take_line<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], HttpFault> {
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
                size => ResponseState::Chunk(size),
            },
            ResponseState::ChunkEnd if line.is_empty() => ResponseState::ChunkSize,
            ResponseState::ChunkEnd => return Err(HttpFault::Body),
            ResponseState::Trailers if line.is_empty() => ResponseState::Over,
            other => other,
        };
        Ok(rest)
    }
}

/// Head and framing (RFC 9112 6.3).
fn understood(
    status: u16,
    fields: &[httparse::Header<'_>],
) -> Result<(Head, ResponseState), HttpFault> {
    let mut head = Head { status, ..Head::default() };
    let (mut length, mut chunked) = (None, false);
    for field in fields {
        let value = str::from_utf8(field.value).unwrap_or_default().trim();
        let is = |name: &str| field.name.eq_ignore_ascii_case(name);
        if is("content-length") {
            let plain = value.bytes().all(|byte| byte.is_ascii_digit());
            let said = value.parse::<u64>().ok().filter(|_| plain).ok_or(HttpFault::Body)?;
            if length.is_some_and(|other| other != said) {
                return Err(HttpFault::Body);
            }
            length = Some(said);
        } else if is("transfer-encoding") {
            if !value.eq_ignore_ascii_case("chunked") {
                return Err(HttpFault::Body);
            }
            chunked = true;
        } else if is("content-type") && value.len() <= KIND_MAX {
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
        (204 | 304, ..) => ResponseState::Over,
        (_, true, _) => ResponseState::ChunkSize,
        (_, false, Some(0)) => ResponseState::Over,
        (_, false, Some(length)) => ResponseState::Length(length),
        (_, false, None) => ResponseState::UntilEnd,
    };
    Ok((head, state))
}

/// Whether the connection goes on after this response: the rule until 1.0 was that it does not.
fn keeps(old: bool, fields: &[httparse::Header<'_>]) -> bool {
    let named = fields.iter().filter(|field| field.name.eq_ignore_ascii_case("connection"));
    let words = named.flat_map(|field| field.value.split(|byte| *byte == b','));
    let mut keeps = !old;
    for word in words.map(<[u8]>::trim_ascii) {
        if word.eq_ignore_ascii_case(b"close") {
            return false;
        }
        keeps |= word.eq_ignore_ascii_case(b"keep-alive");
    }
    keeps
}

/// Hexadecimal digits before any extension.
fn chunk_size(line: &[u8]) -> Option<u64> {
    let digits = line.split(|byte| *byte == b';').next()?.trim_ascii();
    let plain = digits.iter().all(u8::is_ascii_hexdigit) && (1..=16).contains(&digits.len());
    u64::from_str_radix(str::from_utf8(digits).ok().filter(|_| plain)?, 16).ok()
}

/// Largest response head in bytes.
pub const HEAD_MAX: usize = 8192;
const FIELDS_MAX: usize = 64;
const LINE_MAX: usize = 1024;
const KIND_MAX: usize = 256;
const LOCATION_MAX: usize = 2048;
const VALIDATOR_MAX: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads `wire` in pieces of `size` bytes; the body, and how it ended.
    fn read(wire: &[u8], size: usize) -> (Head, Vec<u8>, Result<BodyProgress, HttpFault>) {
        let (mut response, mut body) = (Response::default(), Vec::new());
        let mut progress = Ok(BodyProgress::Incomplete);
        for piece in wire.chunks(size) {
            progress = response.push(piece, &mut |_, bytes| body.extend_from_slice(bytes));
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
    fn every_framing_gives_the_body_however_it_is_cut() {
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
    fn what_contradicts_itself_or_is_cut_off_is_a_fault() {
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
    fn a_request_names_host_path_and_no_encoding() {
        let url = Url::parse("https://[::1]:8443?q").unwrap();
        let text = String::from_utf8(get_request(&url, "If-None-Match: x\r\n")).unwrap();
        assert!(text.starts_with("GET /?q HTTP/1.1\r\nHost: [::1]:8443\r\n"), "{text}");
        assert!(
            text.contains("identity\r\nIf-None-Match: x\r\nConnection: close\r\n\r\n"),
            "{text}"
        );
    }

    /// The example of RFC 7617 2; a redirect to another host takes nothing along.
    #[test]
    fn a_name_and_a_password_are_told_to_their_own_host_only() {
        let said = |url: &Url| String::from_utf8(get_request(url, "")).unwrap();
        let url = Url::parse("https://Aladdin:open%20sesame@h/x").unwrap();
        let line = "\r\nAuthorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n";
        assert!(said(&url).contains(line) && !said(&url).contains("sesame"), "{}", said(&url));
        assert!(said(&url.join("/y").unwrap()).contains(line));
        for elsewhere in ["https://other/y", "//other/y"] {
            let text = said(&url.join(elsewhere).unwrap());
            assert!(!text.contains("Authorization"), "{text}");
        }
    }
}

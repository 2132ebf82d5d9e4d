//! DNS queries over one kept HTTP/1.1 connection (RFC 8484, RFC 9112): the request around a
//! packet, and the packet out of the response. Pure and bounded: whatever a server sends, at most
//! [`HEAD_MAX`] bytes of head and [`BODY_MAX`] bytes of body are kept.

use super::url::Url;

/// Writes the requests for one server.
#[derive(Debug, Clone)]
pub struct Requests {
    /// Everything but the length and the body.
    head: String,
}

impl Requests {
    /// For the resource that a URL names.
    pub fn new(url: &Url) -> Self {
        let host =
            if url.host.contains(':') { format!("[{}]", url.host) } else { url.host.clone() };
        let port = url.port.filter(|port| *port != 443).map(|port| format!(":{port}"));
        // A query alone is a path too (RFC 9112 3.2.1).
        let slash = if url.path.starts_with('/') { "" } else { "/" };
        let head = format!(
            "POST {slash}{} HTTP/1.1\r\nHost: {host}{}\r\nAccept: {MEDIA_TYPE}\r\n\
             Content-Type: {MEDIA_TYPE}\r\nContent-Length: ",
            url.path,
            port.unwrap_or_default(),
        );
        Self { head }
    }

    /// Appends the request that carries a packet.
    pub fn write(&self, out: &mut Vec<u8>, packet: &[u8]) {
        out.extend(self.head.as_bytes());
        out.extend(format!("{}\r\n\r\n", packet.len()).as_bytes());
        out.extend(packet);
    }
}

/// Reads the responses on one connection, one after the other.
#[derive(Debug, Default)]
pub struct Responses {
    stage: Stage,
    /// The status was 200 and the body is a DNS message.
    is_good: bool,
    body: Vec<u8>,
    /// The server said that it closes after this response.
    closes: bool,
}

/// What of a response is awaited.
#[derive(Debug, Default, Clone, Copy)]
enum Stage {
    #[default]
    Head,
    /// This many bytes of body.
    Length(usize),
    /// Body until the connection ends.
    ToTheEnd,
    /// The line before a chunk.
    ChunkSize,
    /// This many bytes of a chunk.
    Chunk(usize),
    /// The line break behind a chunk.
    ChunkEnd,
    /// Lines behind the last chunk, up to an empty one.
    Trailer,
    /// The last response of this connection has been read.
    Over,
}

/// One response.
#[derive(Debug, PartialEq, Eq)]
pub enum Response {
    /// The packet in its body.
    Packet(Vec<u8>),
    /// Another status than 200, or something else than a DNS message.
    Refusal,
}

/// Why a connection is of no use any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DohFault {
    /// Not HTTP/1, or broken chunks.
    NotHttp,
    /// A head or a body beyond the bounds.
    TooLong,
    /// It ended, inside a response or as announced.
    Closed,
}

impl DohFault {
    /// For a log line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotHttp => "not HTTP",
            Self::TooLong => "a response that is too long",
            Self::Closed => "closed by the server",
        }
    }
}

impl Responses {
    /// Takes bytes off the front of `inbox` until a response is complete; `None` = more is
    /// needed. `ended` = nothing will follow what is there.
    ///
    /// # Errors
    /// The connection cannot be used any more; every later call says so again.
    pub fn take(&mut self, inbox: &mut Vec<u8>, ended: bool) -> Result<Option<Response>, DohFault> {
        loop {
            let before = (inbox.len(), self.stage);
            if self.advance(inbox, ended)? {
                let body = std::mem::take(&mut self.body);
                self.stage = if self.closes { Stage::Over } else { Stage::Head };
                let response =
                    if self.is_good { Response::Packet(body) } else { Response::Refusal };
                return Ok(Some(response));
            }
            if inbox.len() == before.0 && same_stage(before.1, self.stage) {
                return if ended { Err(DohFault::Closed) } else { Ok(None) };
            }
        }
    }

    /// One step. `true` = the response is complete.
    fn advance(&mut self, inbox: &mut Vec<u8>, ended: bool) -> Result<bool, DohFault> {
        match self.stage {
            Stage::Over => Err(DohFault::Closed),
            Stage::Head => self.head(inbox),
            Stage::Length(left) => {
                let left = self.gather(inbox, left)?;
                self.stage = Stage::Length(left);
                Ok(left == 0)
            }
            Stage::ToTheEnd => {
                self.gather(inbox, usize::MAX)?;
                Ok(ended)
            }
            Stage::ChunkSize => {
                let (end, size) = match httparse::parse_chunk_size(inbox) {
                    Ok(httparse::Status::Complete(found)) => found,
                    Ok(httparse::Status::Partial) if inbox.len() <= LINE_MAX => return Ok(false),
                    Ok(httparse::Status::Partial) => return Err(DohFault::TooLong),
                    Err(_) => return Err(DohFault::NotHttp),
                };
                inbox.drain(..end.min(inbox.len()));
                let size = usize::try_from(size).map_err(|_| DohFault::TooLong)?;
                self.stage = if size == 0 { Stage::Trailer } else { Stage::Chunk(size) };
                Ok(false)
            }
            Stage::Chunk(left) => {
                let left = self.gather(inbox, left)?;
                self.stage = if left == 0 { Stage::ChunkEnd } else { Stage::Chunk(left) };
                Ok(false)
            }
            Stage::ChunkEnd => match inbox.get(..2) {
                None => Ok(false),
                Some(b"\r\n") => {
                    inbox.drain(..2);
                    self.stage = Stage::ChunkSize;
                    Ok(false)
                }
                Some(_) => Err(DohFault::NotHttp),
            },
            Stage::Trailer => match inbox.windows(2).position(|pair| pair == b"\r\n") {
                None if inbox.len() <= HEAD_MAX => Ok(false),
                None => Err(DohFault::TooLong),
                Some(at) => {
                    inbox.drain(..at + 2);
                    Ok(at == 0)
                }
            },
        }
    }

    fn head(&mut self, inbox: &mut Vec<u8>) -> Result<bool, DohFault> {
        let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
        let mut response = httparse::Response::new(&mut fields);
        let len = match response.parse(inbox) {
            Ok(httparse::Status::Complete(len)) if len <= HEAD_MAX => len,
            Ok(httparse::Status::Partial) if inbox.len() <= HEAD_MAX => return Ok(false),
            Ok(_) | Err(httparse::Error::TooManyHeaders) => return Err(DohFault::TooLong),
            Err(_) => return Err(DohFault::NotHttp),
        };
        let status = response.code.unwrap_or_default();
        let field = |name: &str| {
            let mut named = response.headers.iter().filter(|f| f.name.eq_ignore_ascii_case(name));
            named.next_back().map(|field| field.value.trim_ascii())
        };
        let lists = |name: &str, word: &[u8]| {
            let words = field(name).unwrap_or_default().split(|byte| *byte == b',');
            words.map(<[u8]>::trim_ascii).any(|other| other.eq_ignore_ascii_case(word))
        };
        let kind = field("content-type").unwrap_or_default().split(|byte| *byte == b';').next();
        let is_message =
            kind.is_some_and(|kind| kind.trim_ascii().eq_ignore_ascii_case(MEDIA_TYPE.as_bytes()));
        let old = response.version == Some(0);
        self.closes = lists("connection", b"close") || (old && !lists("connection", b"keep-alive"));
        self.is_good = status == 200 && is_message;
        let (length, chunked) = (field("content-length"), field("transfer-encoding"));
        self.stage = match (status, chunked, length) {
            // Hints before the response itself (RFC 9110 15.2); switching protocols is none.
            (100 | 102..=199, ..) => Stage::Head,
            (101, ..) => return Err(DohFault::NotHttp),
            (204 | 304, ..) => Stage::Length(0),
            (_, Some(coding), _) if coding.eq_ignore_ascii_case(b"chunked") => Stage::ChunkSize,
            (_, Some(_), _) => return Err(DohFault::NotHttp),
            (_, None, Some(digits)) => Stage::Length(length_of(digits)?),
            (_, None, None) => {
                self.closes = true;
                Stage::ToTheEnd
            }
        };
        inbox.drain(..len.min(inbox.len()));
        Ok(false)
    }

    /// Moves at most `left` bytes into the body; how many are still to come.
    fn gather(&mut self, inbox: &mut Vec<u8>, left: usize) -> Result<usize, DohFault> {
        let len = left.min(inbox.len());
        if self.body.len() + len > BODY_MAX {
            return Err(DohFault::TooLong);
        }
        self.body.extend(inbox.drain(..len));
        Ok(left - len)
    }
}

/// Digits only: a sign or a list would be read differently elsewhere.
fn length_of(digits: &[u8]) -> Result<usize, DohFault> {
    let text = str::from_utf8(digits).ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
    let length = text.and_then(|text| text.parse::<usize>().ok()).ok_or(DohFault::NotHttp)?;
    if length <= BODY_MAX { Ok(length) } else { Err(DohFault::TooLong) }
}

fn same_stage(a: Stage, b: Stage) -> bool {
    std::mem::discriminant(&a) == std::mem::discriminant(&b)
}

/// What requests and responses carry (RFC 8484 6).
const MEDIA_TYPE: &str = "application/dns-message";
/// Longest head of a response.
pub const HEAD_MAX: usize = 16_384;
/// Longest packet (RFC 8484 6).
pub const BODY_MAX: usize = 65_535;
/// Longest line before a chunk, extensions included.
const LINE_MAX: usize = 1_024;
const FIELDS_MAX: usize = 64;

#[cfg(test)]
mod tests;

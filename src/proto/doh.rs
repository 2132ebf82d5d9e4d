//! DNS over HTTPS (RFC 8484) on a persistent HTTP/1.1 connection: wraps a message into a request
//! and extracts the message from the response. Stores at most a head and 65,535 bytes of
//! body.

use crate::proto::http1_client::{BodyProgress, HttpFault, Response, request_start};
use crate::proto::url::Url;

/// Writer of the requests to one server.
#[derive(Debug, Clone)]
pub struct Requests {
    /// The head up to the value of Content-Length.
    head: String,
}

impl Requests {
    /// Requests for the resource of a URL.
    pub fn new(url: &Url) -> Self {
        let start = request_start("POST", url);
        let types = format!("Accept: {MEDIA_TYPE}\r\nContent-Type: {MEDIA_TYPE}\r\n");
        Self { head: format!("{start}{types}Content-Length: ") }
    }

    /// Appends a request with a DNS message.
    pub fn write(&self, out: &mut Vec<u8>, packet: &[u8]) {
        out.extend(self.head.as_bytes());
        out.extend(format!("{}\r\n\r\n", packet.len()).as_bytes());
        out.extend(packet);
    }
}

/// Parser of the responses on one connection.
#[derive(Default)]
pub struct Responses {
    response: Response,
    body: Vec<u8>,
    /// The server closes the connection after the last parsed response.
    is_over: bool,
}

/// Content of a response.
#[derive(Debug, PartialEq, Eq)]
pub enum Reply {
    /// The DNS message in the body.
    Packet(Vec<u8>),
    /// A status other than 200, or a body that is not a DNS message; the value is the status.
    Refusal(u16),
}

/// Why a connection cannot be used any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DohFault {
    /// The response is invalid or incomplete.
    Http(HttpFault),
    /// A frame of HTTP/2 (RFC 9113 4.1) instead of a response.
    Http2,
    /// A body longer than 65,535 bytes.
    TooLong,
    /// The server closed the connection between responses.
    Closed,
}

impl DohFault {
    /// Text for logs and reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http(fault) => fault.as_str(),
            Self::Http2 => "the server speaks HTTP/2 only; use its tls:// address",
            Self::TooLong => "a DNS message that is too long",
            Self::Closed => "closed by the server",
        }
    }
}

impl Responses {
    /// Removes bytes from the start of `inbox` up to the end of a response; `None` = more bytes are
    /// needed. `ended` = the connection has ended, so no more bytes will follow.
    ///
    /// # Errors
    /// The connection cannot be used any more.
    pub fn pop_reply(
        &mut self,
        inbox: &mut Vec<u8>,
        ended: bool,
    ) -> Result<Option<Reply>, DohFault> {
        if self.is_over || (ended && inbox.is_empty() && self.response.is_empty()) {
            return Err(DohFault::Closed);
        }
        if self.response.is_empty() && is_http2(inbox) {
            return Err(DohFault::Http2);
        }
        let (body, mut fits) = (&mut self.body, true);
        let outcome = self.response.push(inbox, &mut |_, bytes| {
            fits &= body.len() + bytes.len() <= BODY_MAX;
            if fits {
                body.extend_from_slice(bytes);
            }
        });
        let (progress, rest) = outcome.map_err(DohFault::Http)?;
        if !fits {
            return Err(DohFault::TooLong);
        }
        let used = inbox.len() - rest.len();
        inbox.drain(..used);
        if progress == BodyProgress::Incomplete {
            if !ended {
                return Ok(None);
            }
            self.response.finish().map_err(DohFault::Http)?;
        }
        let (response, body) = (std::mem::take(&mut self.response), std::mem::take(&mut self.body));
        let head = response.head();
        self.is_over = !head.keep_alive;
        Ok(Some(match (head.status, head.content_type == MEDIA_TYPE) {
            (200, true) => Reply::Packet(body),
            (status, _) => Reply::Refusal(status),
        }))
    }
}

/// Whether the bytes begin with the frame SETTINGS or GOAWAY, with which a server answers to a
/// client that speaks HTTP/1.1.
fn is_http2(inbox: &[u8]) -> bool {
    const SETTINGS: u8 = 4;
    const GOAWAY: u8 = 7;
    matches!(inbox, [0, _, _, SETTINGS | GOAWAY, ..])
}

/// Media type of requests and responses (RFC 8484 6).
const MEDIA_TYPE: &str = "application/dns-message";
/// Longest DNS message in bytes (RFC 8484 6).
const BODY_MAX: usize = 65_535;

#[cfg(test)]
mod tests;

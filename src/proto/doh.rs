//! DNS queries over one kept HTTP/1.1 connection (RFC 8484, RFC 9112): the request around a
//! packet, and the packet out of the response. Pure and bounded: whatever a server sends, at most
//! a head and [`BODY_MAX`] bytes of body are kept.

use super::http1_client::{self, BodyProgress, HttpFault, Response};
use crate::proto::url::Url;

/// Writes the requests for one server.
#[derive(Debug, Clone)]
pub struct Requests {
    /// Everything but the length and the body.
    head: String,
}

impl Requests {
    /// For the resource that a URL names.
    pub fn new(url: &Url) -> Self {
        // A query alone is a path too (RFC 9112 3.2.1).
        let slash = if url.path.starts_with('/') { "" } else { "/" };
        let head = format!(
            "POST {slash}{} HTTP/1.1\r\nHost: {}\r\nAccept: {MEDIA_TYPE}\r\n\
             Content-Type: {MEDIA_TYPE}\r\nContent-Length: ",
            url.path,
            http1_client::authority(url),
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
#[derive(Default)]
pub struct Responses {
    response: Response,
    body: Vec<u8>,
    /// The server closes after the response that was read last.
    is_over: bool,
}

/// What a response says.
#[derive(Debug, PartialEq, Eq)]
pub enum Reply {
    /// The packet in its body.
    Packet(Vec<u8>),
    /// Another status than 200, or something else than a DNS message.
    Refusal,
}

/// Why a connection is of no use any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DohFault {
    /// It speaks something else, or was cut off.
    Http(HttpFault),
    /// A body that is longer than any packet.
    TooLong,
    /// It ended between responses.
    Closed,
}

impl DohFault {
    /// For a log line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http(fault) => fault.as_str(),
            Self::TooLong => "a packet that is too long",
            Self::Closed => "closed by the server",
        }
    }
}

impl Responses {
    /// Takes bytes off the front of `inbox` until a response is complete; `None` = more is
    /// needed. `ended` = nothing will follow what is there.
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
        let (body, mut fits) = (&mut self.body, true);
        let taken = self.response.push_with_rest(inbox, &mut |_, bytes| {
            fits &= body.len() + bytes.len() <= BODY_MAX;
            if fits {
                body.extend_from_slice(bytes);
            }
        });
        let (progress, rest) = taken.map_err(DohFault::Http)?;
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
        let is_good = head.status == 200 && head.content_type == MEDIA_TYPE;
        Ok(Some(if is_good { Reply::Packet(body) } else { Reply::Refusal }))
    }
}

/// What requests and responses carry (RFC 8484 6).
const MEDIA_TYPE: &str = "application/dns-message";
/// Longest packet (RFC 8484 6).
pub const BODY_MAX: usize = 65_535;

#[cfg(test)]
mod tests;

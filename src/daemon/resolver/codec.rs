//! The encoding of packets on the connection to an encrypted name server: with a length prefix
//! (RFC 7858 3.3), or as bodies of HTTP requests and responses (RFC 8484).

use std::fmt;

use crate::daemon::fetch::task::FetchError;
use crate::daemon::resolver::lookup::LookupFault;
use crate::proto::dns;
use crate::proto::doh::{DohFault, Reply, Requests, Responses};
use crate::proto::url::Url;

/// One of the two encodings, with the state of an unfinished response.
pub enum Codec {
    /// DNS over TLS.
    Stream,
    /// DNS over HTTPS.
    Http(Requests, Responses),
}

/// The next reply in the received bytes.
#[derive(Debug, PartialEq, Eq)]
pub enum DecodedReply {
    /// It is not complete yet.
    Incomplete,
    /// A DNS packet.
    Packet(Vec<u8>),
    /// An HTTP response without a packet; the value is its status.
    Refusal(u16),
}

/// Why the connection to an encrypted server cannot be used any more.
#[derive(Debug, PartialEq, Eq)]
pub enum ServerFault {
    /// The server has closed it.
    Closed,
    /// A response is not valid.
    Response(DohFault),
    /// An answer belongs to no query.
    Unrelated,
    /// An answer is overdue.
    Timeout,
    /// The server's host name could not be looked up.
    NoAddress(LookupFault),
    /// The connection could not be established, or it failed.
    Connection(FetchError),
}

impl fmt::Display for ServerFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("closed by the server"),
            Self::Response(fault) => f.write_str(fault.as_str()),
            Self::Unrelated => f.write_str("an answer to another query"),
            Self::Timeout => f.write_str("no answer in time"),
            Self::NoAddress(fault) => write!(f, "no address for its host name: {fault}"),
            Self::Connection(error) => error.fmt(f),
        }
    }
}

impl Codec {
    /// DNS over HTTPS at this URL.
    pub fn http(url: &Url) -> Self {
        Self::Http(Requests::new(url), Responses::default())
    }

    /// Queries that may be unanswered at once. HTTP/1.1 answers in order, and few servers support
    /// pipelining.
    pub fn max_pending(&self) -> usize {
        match self {
            Self::Stream => STREAM_MAX_PENDING,
            Self::Http(..) => 1,
        }
    }

    /// Whether answers arrive in any order and are matched by their ids. With HTTP the id is zero
    /// (RFC 8484 4.1).
    pub fn has_ids(&self) -> bool {
        matches!(self, Self::Stream)
    }

    /// Appends an encoded packet.
    pub fn encode(&self, out: &mut Vec<u8>, packet: &[u8]) {
        match self {
            Self::Stream => dns::write_frame(out, packet),
            Self::Http(requests, _) => requests.write(out, packet),
        }
    }

    /// Removes the next reply from `inbox`. `is_closed` = the peer has sent its FIN.
    ///
    /// # Errors
    /// The connection cannot be used any more.
    pub fn decode(
        &mut self,
        inbox: &mut Vec<u8>,
        is_closed: bool,
    ) -> Result<DecodedReply, ServerFault> {
        match self {
            Self::Stream => match dns::pop_frame(inbox) {
                Some(packet) => Ok(DecodedReply::Packet(packet)),
                None if is_closed => Err(ServerFault::Closed),
                None => Ok(DecodedReply::Incomplete),
            },
            Self::Http(_, responses) => match responses.pop_reply(inbox, is_closed) {
                Ok(Some(Reply::Packet(packet))) => Ok(DecodedReply::Packet(packet)),
                Ok(Some(Reply::Refusal(status))) => Ok(DecodedReply::Refusal(status)),
                Ok(None) => Ok(DecodedReply::Incomplete),
                Err(fault) => Err(ServerFault::Response(fault)),
            },
        }
    }

    /// Resets the state for a new connection.
    pub fn reset(&mut self) {
        if let Self::Http(_, responses) = self {
            *responses = Responses::default();
        }
    }
}

const STREAM_MAX_PENDING: usize = 16;

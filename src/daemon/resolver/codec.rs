//! How packets travel on the connection to an encrypted name server: with their length before
//! them (RFC 7858 3.3), or as bodies of HTTP requests and responses (RFC 8484).

use crate::proto::dns;
use crate::proto::doh::{Reply, Requests, Responses};
use crate::proto::url::Url;

/// One of the two ways, and what was read of an unfinished response.
pub enum Codec {
    /// DNS over TLS.
    Stream,
    /// DNS over HTTPS.
    Http(Requests, Responses),
}

impl Codec {
    /// DNS over HTTPS at this address.
    pub fn http(url: &Url) -> Self {
        Self::Http(Requests::new(url), Responses::default())
    }

    /// Questions that may be on their way at once. HTTP/1.1 answers in order, and few servers
    /// like it when requests overtake responses.
    pub fn most_at_once(&self) -> usize {
        match self {
            Self::Stream => STREAM_MOST,
            Self::Http(..) => 1,
        }
    }

    /// Whether answers come in any order and are told apart by their ids. RFC 8484 4.1 asks for
    /// an id of zero.
    pub fn has_ids(&self) -> bool {
        matches!(self, Self::Stream)
    }

    /// Appends a packet as it travels.
    pub fn write(&self, out: &mut Vec<u8>, packet: &[u8]) {
        match self {
            Self::Stream => dns::write_frame(out, packet),
            Self::Http(requests, _) => requests.write(out, packet),
        }
    }

    /// Takes the next packet out of what came; `Some(None)` = an answer that has none.
    ///
    /// # Errors
    /// Why nothing more will come.
    pub fn take(
        &mut self,
        inbox: &mut Vec<u8>,
        ended: bool,
    ) -> Result<Option<Option<Vec<u8>>>, &'static str> {
        match self {
            Self::Stream => match dns::pop_frame(inbox) {
                Some(packet) => Ok(Some(Some(packet))),
                None if ended => Err("closed by the server"),
                None => Ok(None),
            },
            Self::Http(_, responses) => match responses.pop_reply(inbox, ended) {
                Ok(Some(Reply::Packet(packet))) => Ok(Some(Some(packet))),
                Ok(Some(Reply::Refusal)) => Ok(Some(None)),
                Ok(None) => Ok(None),
                Err(fault) => Err(fault.as_str()),
            },
        }
    }

    /// A new connection begins.
    pub fn reset(&mut self) {
        if let Self::Http(_, responses) = self {
            *responses = Responses::default();
        }
    }
}

const STREAM_MOST: usize = 16;

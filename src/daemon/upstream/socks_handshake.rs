//! The talk with a SOCKS5 proxy over a connected socket, for the dialler and for errands.

use std::fmt;
use std::io::{self, IoSlice, IoSliceMut};

use crate::daemon::upstream::proxies::Upstreams;
use crate::io::wire::Wire;
use crate::proto::socks5::{Destination, Negotiation, SocksFault};

/// What a connection by a way has to do before it leads anywhere.
pub struct SocksHandshake {
    /// Which way.
    pub way: usize,
    /// `None` = the way is straight.
    negotiation: Option<Negotiation>,
    outbox: Vec<u8>,
}

/// Why a connection by a way came to nothing.
#[derive(Debug, PartialEq, Eq)]
pub enum ProxyFailure {
    /// The way is to blame.
    Way(String),
    /// The goal is: the way works, and the goal cannot be reached by it.
    Destination(Unreachable),
}

/// Who says that a goal cannot be reached, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unreachable {
    /// The proxy.
    Proxy(SocksFault),
    /// Our own system: errno(3), or 0.
    System(i32),
}

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Proxy(fault) => f.write_str(fault.as_str()),
            Self::System(0) => f.write_str("no connection"),
            Self::System(code) => io::Error::from_raw_os_error(*code).fmt(f),
        }
    }
}

impl SocksHandshake {
    /// A hop that has not begun.
    pub fn new(way: usize, goal: Destination, routes: &Upstreams) -> Self {
        match routes.negotiate(way, goal) {
            Some((negotiation, outbox)) => Self { way, negotiation: Some(negotiation), outbox },
            None => Self { way, negotiation: None, outbox: Vec::new() },
        }
    }

    /// Whether a failed connect is the fault of the goal, as there is no proxy between.
    pub fn is_straight(&self) -> bool {
        self.negotiation.is_none()
    }

    /// Goes on until it would have to wait (`false`) or the far end stands (`true`). Reads not a
    /// byte of what the far end says.
    pub fn go_on<W: Wire>(&mut self, wire: &mut W) -> Result<bool, ProxyFailure> {
        let Some(negotiation) = &mut self.negotiation else { return Ok(true) };
        let broken = |e: io::Error| ProxyFailure::Way(e.to_string());
        loop {
            while !self.outbox.is_empty() {
                match wire.write(&[IoSlice::new(&self.outbox)]) {
                    Ok(count) => drop(self.outbox.drain(..count.min(self.outbox.len()))),
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                    Err(e) => return Err(broken(e)),
                }
            }
            let mut piece = [0; PIECE];
            let want = negotiation.bytes_needed().min(PIECE);
            if want == 0 {
                return Ok(true);
            }
            match wire.read(&mut [IoSliceMut::new(&mut piece[..want])]) {
                Ok(0) => return Err(ProxyFailure::Way("the proxy hung up".to_owned())),
                Ok(count) => {
                    negotiation.push(&piece[..count], &mut self.outbox).map_err(blame)?;
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(e) => return Err(broken(e)),
            }
        }
    }
}

fn blame(fault: SocksFault) -> ProxyFailure {
    match fault.is_about_destination() {
        true => ProxyFailure::Destination(Unreachable::Proxy(fault)),
        false => ProxyFailure::Way(fault.as_str().to_owned()),
    }
}

/// The longest message of a negotiation.
const PIECE: usize = 262;

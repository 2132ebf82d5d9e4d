//! The client's side of a session, the same in every stage.

use std::io::IoSliceMut;
use std::net::{IpAddr, SocketAddr};

use crate::accounts::users::UserId;
use crate::daemon::admin::counters::DcConnectionId;
use crate::daemon::session::accounting::Accounting;
use crate::daemon::session::buffers::{Buffers, READ_MAX};
use crate::daemon::session::endpoint::{Endpoint, ReadOutcome};
use crate::daemon::session::outcome::Outcome;
use crate::io::clock::Tick;
use crate::io::wire::Wire;

/// The client of a session, and the counters that include the session.
pub struct Client<W> {
    /// The number of the connection in log lines.
    pub id: u64,
    /// The client's socket.
    pub endpoint: Endpoint<W>,
    /// The address of the client: its socket's, or the one in a PROXY protocol header.
    pub addr: IpAddr,
    /// The port that belongs to `addr`.
    pub port: u16,
    /// The user that the session is counted for.
    pub user: Option<UserId>,
    /// The session counts as a fronted session.
    pub fronted: bool,
    /// The connection to Telegram that the session is counted for.
    pub dc_connection: Option<DcConnectionId>,
    /// Payload bytes sent to the server; set when its connection is closed.
    pub sent_up: u64,
    /// When the connection was accepted.
    pub accepted: Tick,
    /// When bytes were last received or sent.
    pub active: Tick,
}

impl<W: Wire> Client<W> {
    /// A connection that was accepted now.
    pub fn new(id: u64, wire: W, peer: SocketAddr, now: Tick) -> Self {
        Self {
            id,
            endpoint: Endpoint::new(wire),
            addr: peer.ip().to_canonical(),
            port: peer.port(),
            user: None,
            fronted: false,
            dc_connection: None,
            sent_up: 0,
            accepted: now,
            active: now,
        }
    }

    /// One read of at most `room` bytes (at least one) of a hello that is not complete, if the
    /// socket is readable. Appends them to `seen` and returns their number.
    ///
    /// # Errors
    /// Why the session has to be closed.
    pub fn read_hello(
        &mut self,
        seen: &mut Vec<u8>,
        room: usize,
        buffers: &mut Buffers,
        accounting: &mut Accounting<'_>,
    ) -> Result<usize, Outcome> {
        if !self.endpoint.ready.readable {
            return Ok(0);
        }
        let into = &mut buffers.scratch[..room.clamp(1, READ_MAX)];
        match self.endpoint.read(&mut [IoSliceMut::new(into)]) {
            ReadOutcome::Bytes(n) => {
                accounting.telemetry.counters.read(n);
                buffers.keep_hello(seen, n).map_err(|_| Outcome::Pressure)?;
                self.active = accounting.now;
                Ok(n)
            }
            ReadOutcome::WouldBlock | ReadOutcome::Fin => Ok(0),
            ReadOutcome::Reset => Err(Outcome::Reset),
        }
    }
}

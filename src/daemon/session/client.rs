//! The client's side of a session, the same in every stage.

use std::io::IoSliceMut;
use std::net::{IpAddr, SocketAddr};

use crate::accounts::users::UserId;
use crate::daemon::admin::counters::DcConnectionId;
use crate::daemon::session::accounting::Accounting;
use crate::daemon::session::buffers::{Buffers, READ_LEAST};
use crate::daemon::session::endpoint::{Endpoint, ReadOutcome};
use crate::daemon::session::memory::SessionAccount;
use crate::daemon::session::outcome::Outcome;
use crate::daemon::session::step::Turn;
use crate::io::clock::Tick;
use crate::io::wire::Wire;
use crate::limits::dial_rate::DialToken;
use crate::util::memory::{ChargedBytes, Class};

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
    /// The session counts as a fronted session, with this token.
    pub fronted: Option<DialToken>,
    /// The connection to Telegram that the session is counted for.
    pub dc_connection: Option<DcConnectionId>,
    /// Payload bytes sent to the server; set when its connection is closed.
    pub sent_up: u64,
    /// What the session keeps of its peers' bytes.
    pub account: SessionAccount,
    /// When the connection was accepted.
    pub accepted: Tick,
    /// When bytes were last received or sent.
    pub active: Tick,
}

impl<W: Wire> Client<W> {
    /// A connection that was accepted now.
    pub fn new(id: u64, wire: W, peer: SocketAddr, account: SessionAccount, now: Tick) -> Self {
        Self {
            id,
            endpoint: Endpoint::new(wire),
            addr: peer.ip().to_canonical(),
            port: peer.port(),
            user: None,
            fronted: None,
            dc_connection: None,
            sent_up: 0,
            account,
            accepted: now,
            active: now,
        }
    }

    /// The class of the session: before the verdict on its hello, that of unauthenticated clients.
    pub fn class(&self) -> Class {
        if self.user.is_some() { Class::Users } else { Class::Unauthenticated }
    }

    /// One read of at most `room` bytes (at least one) of a hello that is not complete, if the
    /// socket is readable. Appends them to `seen` and returns their number.
    ///
    /// # Errors
    /// The session has to be closed, or to wait for memory.
    pub fn read_hello(
        &mut self,
        seen: &mut ChargedBytes,
        room: usize,
        buffers: &mut Buffers,
        accounting: &mut Accounting<'_>,
    ) -> Result<usize, Turn> {
        if !self.endpoint.ready.readable {
            return Ok(0);
        }
        let wait = Turn::NeedMemory(READ_LEAST as u32);
        let room = Buffers::bytes_to_read(&self.account, room).map_err(|_| wait)?;
        let into = &mut buffers.scratch[..room];
        match self.endpoint.read(&mut [IoSliceMut::new(into)]) {
            ReadOutcome::Bytes(n) => {
                accounting.telemetry.counters.read(n);
                // The class has room for them.
                seen.extend_held(self.account.get(), &buffers.scratch[..n]);
                self.active = accounting.now;
                Ok(n)
            }
            ReadOutcome::WouldBlock | ReadOutcome::Fin => Ok(0),
            ReadOutcome::Reset => Err(Turn::Close(Outcome::Reset)),
        }
    }
}

//! The client's side of a session, the same in every stage.

use std::net::{IpAddr, SocketAddr};

use crate::accounts::users::UserId;
use crate::daemon::admin::counters::DcConnectionId;
use crate::daemon::session::endpoint::Endpoint;
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
}

//! The transformation of the bytes that a relay forwards.

use crate::flow::transform::{Downlink, Uplink};

/// The transformation of a session's bytes.
pub enum Transform {
    /// A user's session with Telegram: records and ciphers.
    Mtproto(Box<MtprotoTransform>),
    /// A fronted session: bytes are unchanged.
    Plain,
}

/// The transformation of a user's session with Telegram.
pub struct MtprotoTransform {
    /// Client to data centre.
    pub up: Uplink,
    /// Data centre to client.
    pub down: Downlink,
    /// The data centre that the client asked for.
    pub dc: u16,
}

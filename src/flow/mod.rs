//! State machines of one connection, without sockets: authentication, half-close, and the
//! transformation of bytes.
#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::panic))]

pub mod authenticate;
pub mod direction;
pub mod fin_hold;
pub mod half_close;
pub mod recrypt;
pub mod shape;
pub mod transform;

//! One connection as state machines, without sockets.
#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::panic)]

pub mod gate;
pub mod halves;
pub mod lane;
pub mod recrypt;
pub mod shape;

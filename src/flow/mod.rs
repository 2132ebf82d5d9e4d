//! One connection as state machines, without sockets.
#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::panic))]

pub mod gate;
pub mod halves;
pub mod lane;
pub mod recrypt;
pub mod shape;

//! Bytes to values and back: pure, total, no clock, no socket, no log.
pub mod secret;

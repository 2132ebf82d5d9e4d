//! mtbox: a Telegram MTProto proxy (FakeTLS) for routers and other small machines.
//!
//! The floors, from the bottom up; a file may use only floors below its own (`tests/tidy.rs`
//! enforces it):
//!
//! * [`proto`]: bytes to values and back. No socket, no clock, no randomness, no log.
//! * [`util`]: random bytes, sorted maps, sorting in steps.
//! * [`accounts`]: the users, their counters and totals, and why they were refused.
//! * [`limits`]: fair share, rate limits, replay store, IP lists, circuit breakers.
//! * [`mimicry`]: what the answer and the download imitate.
//! * [`flow`]: one connection as state machines, without sockets.
//! * [`io`]: the operating system. Knows nothing of Telegram.
//! * [`config`]: the file that the operator writes.
//! * [`daemon`]: joins them into one event loop.
//! * [`cli`]: the commands.
//!
//! Read `daemon/mod.rs` first: it is the whole scheduler.
#![forbid(unsafe_code)]

pub mod accounts;
pub mod cli;
pub mod config;
pub mod daemon;
pub mod flow;
pub mod io;
pub mod limits;
pub mod mimicry;
pub mod proto;
pub mod util;

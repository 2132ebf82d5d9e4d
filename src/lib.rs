//! mtbox: a Telegram MTProto proxy (FakeTLS) for routers and other small machines.
//!
//! The layers, from the lowest to the highest. A module uses only its own layer and lower ones, and
//! imports form no cycle; `tests/tidy.rs` checks both.
//!
//! * [`util`]: value types, random numbers, sorted maps, incremental sorting.
//! * [`proto`]: encodes and parses wire formats. No sockets, clock, randomness or log.
//! * [`io`]: sockets, clocks, signals and log targets of the operating system. Nothing of Telegram.
//! * [`accounts`]: the users, their counters and totals, and why they were refused.
//! * [`limits`]: throttle, rate limits, replay store, IP lists, circuit breakers, write budget.
//! * [`mimicry`]: profiles of the fronts, and the size and timing of records.
//! * [`flow`]: state machines of one connection, without sockets.
//! * [`config`]: keys, parsing and checks of the config file.
//! * [`daemon`]: the event loop: server, sessions, upstreams, resolver, fetches, admin pages.
//! * [`cli`]: the commands.
//!
//! `daemon/mod.rs` is the scheduler, and a good place to start reading.
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

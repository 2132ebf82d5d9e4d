//! Bytes to values and back: pure and total. No socket, no clock, no randomness of its own, no
//! log, and no panic on any input.
//!
//! A parser gives one of three answers: the value, "short" (more bytes could make it whole), or
//! a fault that says why no further byte can help.
#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used))]
#![cfg_attr(not(test), deny(clippy::expect_used))]

pub mod bytes;
pub mod chrome_hello;
pub mod client_hello;
pub mod dc;
pub mod dns;
pub mod doh;
pub mod http1;
pub mod http1_client;
pub mod metrics;
pub mod mtproto;
pub mod ntp;
pub mod obfuscated2;
pub mod proxy_header;
pub mod records;
pub mod secret;
pub mod server_flight;
pub mod server_hello;
pub mod socks5;
pub mod tls;
pub mod url;

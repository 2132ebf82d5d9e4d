//! Wire formats: parsers and writers without side effects. They use no socket, clock, random source
//! or log, and do not panic on any input.
//!
//! A parser returns the value, "incomplete" (more bytes are needed), or a fault, when no further
//! byte can make the input valid.
#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used))]
#![cfg_attr(not(test), deny(clippy::expect_used))]

mod bytes;
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

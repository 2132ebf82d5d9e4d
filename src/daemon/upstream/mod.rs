//! Ways out to Telegram: SOCKS5 upstreams, and the memory of addresses that failed.

pub mod addresses;
pub mod proxies;
pub mod socks_handshake;

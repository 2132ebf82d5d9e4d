//! Outgoing connections: SOCKS5 upstreams, addresses of data centres, failed addresses, TLS roots.

pub mod addresses;
pub mod connect;
pub mod dc_list;
pub mod front;
pub mod outbound;
pub mod proxies;
pub mod sockets;
#[cfg(feature = "tls")]
pub mod tls_roots;

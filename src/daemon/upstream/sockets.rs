//! Settings of outgoing sockets: options, the configured egress, and the check that an address is
//! not one of our own listeners.

use std::net::SocketAddr;

use crate::config::settings::{EgressSettings, Settings};
use crate::io::egress::Egress;
use crate::io::sockopt::SocketOptions;
use crate::io::wire::Net;

/// The options of the sockets of unauthenticated clients, and of those to the front: none that an
/// observer could tell from the sockets of a web server.
pub fn plain_socket_options(settings: &Settings) -> SocketOptions {
    SocketOptions { not_sent_lowat: settings.not_sent_lowat, ..SocketOptions::default() }
}

/// The options of the sockets of users, and of other connections of ours (COMPATIBILITY 5.3).
pub fn socket_options(settings: &Settings) -> SocketOptions {
    let keep = &settings.keep_alive;
    let user_timeout = keep.idle + keep.interval * keep.count;
    SocketOptions {
        keep_alive: keep.enabled.then_some((keep.idle, keep.interval, keep.count)),
        user_timeout_ms: user_timeout.as_millis() as u32,
        not_sent_lowat: settings.not_sent_lowat,
        congestion: settings.congestion.clone(),
        first_buffers: None,
    }
}

/// The interface, source addresses and mark of outgoing sockets.
pub fn egress(settings: &Settings) -> Egress {
    let EgressSettings { device, addrs, mark } = settings.egress.clone();
    Egress { device, addrs, mark, multipath: settings.multipath }
}

/// Whether a connection to `addr` would reach one of `listeners`, which are ours.
pub fn is_own_listener<N: Net>(addr: SocketAddr, listeners: &[SocketAddr], net: &mut N) -> bool {
    let ip = addr.ip().to_canonical();
    listeners.iter().filter(|listener| listener.port() == addr.port()).any(|listener| {
        let own = listener.ip().to_canonical();
        own == ip || (own.is_unspecified() && net.is_own_address(ip)) || ip.is_unspecified()
    })
}

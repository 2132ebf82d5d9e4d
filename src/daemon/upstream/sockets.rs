//! Settings of outgoing sockets: options, the configured egress, and the check that an address is
//! not one of our own listeners.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

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

/// The options of outgoing sockets, except for those to the front. A server that acknowledges
/// nothing is given up after [`UNACKNOWLEDGED`], so that an app dials again (DECISIONS D208).
pub fn outgoing_socket_options(settings: &Settings) -> SocketOptions {
    let mut options = socket_options(settings);
    let mut limit = UNACKNOWLEDGED;
    if let Some((idle, interval, _)) = &mut options.keep_alive {
        // The limit counts for probes as well, whatever their number: one may be lost.
        *interval = (*interval).min(PROBE_INTERVAL);
        limit = limit.max(*idle + *interval * PROBES_LEAST);
    }
    options.user_timeout_ms = options.user_timeout_ms.min(limit.as_millis() as u32);
    options
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

/// Whether an address is one of this machine: of an interface, or its public one of the config.
pub fn is_own_address<N: Net>(ip: IpAddr, settings: &Settings, net: &mut N) -> bool {
    let ip = ip.to_canonical();
    let public = [settings.public_ipv4, settings.public_ipv6];
    net.is_own_address(ip) || public.into_iter().flatten().any(|own| own.to_canonical() == ip)
}

/// How long a server may leave bytes unacknowledged.
const UNACKNOWLEDGED: Duration = Duration::from_secs(30);
/// At most, between two probes that a server has not answered.
const PROBE_INTERVAL: Duration = Duration::from_secs(3);
/// Probes before a server without traffic is given up.
const PROBES_LEAST: u32 = 5;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load;

    fn outgoing(keep_alive: &str) -> (Option<(u64, u64)>, u32) {
        let secret = "ee00112233445566778899aabbccddeeff6578616d706c652e6f7267";
        let text = format!(
            "secret = \"{secret}\"\nbind-to = \"[::]:443\"\n[network.keep-alive]\n{keep_alive}"
        );
        let settings = load::load(text.as_bytes(), "a.toml").unwrap().settings;
        let options = outgoing_socket_options(&settings);
        let keep_alive = options.keep_alive;
        let seconds = keep_alive.map(|(idle, each, _)| (idle.as_secs(), each.as_secs()));
        (seconds, options.user_timeout_ms)
    }

    #[test]
    fn a_server_that_acknowledges_nothing_is_given_up_after_several_lost_probes() {
        assert_eq!(outgoing(""), (Some((15, 3)), 30_000));
        assert_eq!(outgoing("idle = \"1m\""), (Some((60, 3)), 75_000));
        assert_eq!(outgoing("disabled = true"), (None, 30_000));
        let short = "idle = \"5s\"\ninterval = \"2s\"\ncount = 3";
        assert_eq!(outgoing(short), (Some((5, 2)), 11_000));
    }

    #[test]
    fn sockets_of_the_front_have_no_options_that_show() {
        let options = plain_socket_options(&Settings::default());
        assert_eq!((options.keep_alive, options.user_timeout_ms), (None, 0));
    }
}

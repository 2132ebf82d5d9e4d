//! The state of a dial: its purpose, the addresses to try, and the running attempts.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use crate::accounts::recorder::{Cause, Detail};
use crate::daemon::session::transform::Transform;
use crate::daemon::upstream::proxies::UpstreamId;
use crate::daemon::upstream::sockets::LOOKUP;
use crate::daemon::upstream::socks_handshake::SocksHandshake;
use crate::io::clock::Tick;
use crate::util::host_port::HostPort;

/// The fourth stage: the server is being connected.
pub struct Dial<W> {
    /// The transformation of the relay that follows.
    pub(super) transform: Transform,
    /// The first bytes for the server, sent in one write.
    pub(super) opening: Vec<u8>,
    pub(super) route: DialRoute,
    /// The next entry of the route.
    pub(super) next: usize,
    pub(super) attempts: [Option<DialAttempt<W>>; 2],
    /// When the next attempt may start beside the running one.
    pub(super) stagger: Tick,
    /// The deadline of the lookup.
    pub(super) lookup_until: Option<Tick>,
    /// The data centre whose other ports are tried when all addresses have failed.
    pub(super) other_ports_of: Option<u16>,
    /// The last failure, for `mtbox explain`.
    pub(super) failure: Option<(Cause, Detail)>,
}

/// What to try, in order.
pub enum DialRoute {
    /// These addresses.
    Addresses(Vec<SocketAddr>),
    /// A host name that has to be looked up.
    Name(HostPort),
    /// Addresses through upstreams of `network.proxies`.
    Upstreams(Vec<Candidate>),
}

/// An address of the data centre through one upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// The upstream.
    pub upstream: UpstreamId,
    /// The address of the data centre.
    pub destination: SocketAddr,
}

/// One socket that is being connected.
pub struct DialAttempt<W> {
    pub(super) wire: W,
    pub(super) addr: SocketAddr,
    pub(super) until: Tick,
    /// The poller has reported an event since the last step.
    pub(super) woken: bool,
    /// The attempt goes through an upstream.
    pub(super) proxy: Option<ProxyAttempt>,
}

/// The part of an attempt that goes through an upstream.
pub struct ProxyAttempt {
    pub(super) handshake: SocksHandshake,
    /// TCP is connected to the proxy, or to the destination if there is none.
    pub(super) is_connected: bool,
}

impl DialRoute {
    /// Each upstream with the first few addresses of the data centre.
    pub fn via_upstreams(order: &[UpstreamId], destinations: &[SocketAddr]) -> Self {
        let destinations = destinations.get(..DESTINATIONS_MAX).unwrap_or(destinations);
        let of = |upstream: &UpstreamId| {
            let upstream = *upstream;
            destinations.iter().map(move |addr| Candidate { upstream, destination: *addr })
        };
        Self::Upstreams(order.iter().flat_map(of).collect())
    }
}

impl<W> Dial<W> {
    /// A stage that has not begun.
    pub fn new(transform: Transform, opening: Vec<u8>, route: DialRoute) -> Self {
        Self {
            transform,
            opening,
            route,
            next: 0,
            attempts: [None, None],
            stagger: Tick(0),
            lookup_until: None,
            other_ports_of: None,
            failure: None,
        }
    }

    /// Tries this data centre's other ports when all addresses have failed.
    pub fn with_other_ports_of(mut self, dc: u16) -> Self {
        self.other_ports_of = Some(dc);
        self
    }

    /// Whether the session belongs to a user.
    pub fn is_relay(&self) -> bool {
        matches!(self.transform, Transform::Mtproto(_))
    }

    /// Records an event for the socket in this slot of the session.
    pub fn wake(&mut self, slot: usize) {
        if let Some(Some(attempt)) = self.attempts.get_mut(slot.wrapping_sub(1)) {
            attempt.woken = true;
        }
    }

    /// The next deadline of the stage.
    pub fn due(&self) -> Tick {
        let attempts = self.attempts.iter().flatten().map(|attempt| attempt.until);
        let has_more = matches!(&self.route, DialRoute::Addresses(list) if self.next < list.len());
        let has_slot = self.attempts.iter().any(Option::is_none);
        let stagger = (has_more && has_slot).then_some(self.stagger);
        let is_lookup = match self.route {
            DialRoute::Addresses(_) => false,
            DialRoute::Name(_) => true,
            DialRoute::Upstreams(_) => !self.is_connecting(),
        };
        let lookup = self.lookup_until.filter(|_| is_lookup);
        attempts.chain(stagger).chain(lookup).min().unwrap_or(Tick(0))
    }

    /// Whether an attempt is running.
    pub(super) fn is_connecting(&self) -> bool {
        self.attempts.iter().any(Option::is_some)
    }

    /// The address of the data centre or front that the attempt connects to in the end.
    pub(super) fn destination(&self, attempt: &DialAttempt<W>) -> SocketAddr {
        let candidate = match &self.route {
            DialRoute::Upstreams(list) => self.next.checked_sub(1).and_then(|at| list.get(at)),
            _ => None,
        };
        candidate.map_or(attempt.addr, |candidate| candidate.destination)
    }

    /// The failure to report if the client closes now; `None` = the client did not wait long enough
    /// to blame the server.
    pub(super) fn failure_at_client_close(&self, now: Tick) -> Option<(Cause, Detail)> {
        let begun_ms = self.lookup_until?.0.saturating_sub(LOOKUP.as_millis() as u64);
        if now < Tick(begun_ms) + CLIENT_WAIT {
            return None;
        }
        let is_lookup = matches!(self.route, DialRoute::Name(_));
        let lookup = is_lookup.then_some((Cause::FrontUnknown, Detail::None));
        let silence = self.attempts.iter().flatten().next().map(DialAttempt::no_answer);
        lookup.or(silence).or(self.failure)
    }
}

impl<W> DialAttempt<W> {
    /// The failure of an attempt that gets no answer.
    pub(super) fn no_answer(&self) -> (Cause, Detail) {
        match &self.proxy {
            Some(proxy) if !proxy.handshake.is_direct() => {
                upstream_failure(proxy.handshake.upstream)
            }
            _ => (Cause::DcUnreachable, Detail::DialFailed(self.addr, 0)),
        }
    }
}

/// An address that did not answer, or the error that it gave.
pub(super) fn address_failure(addr: SocketAddr, error: Option<&io::Error>) -> (Cause, Detail) {
    let code = error.and_then(io::Error::raw_os_error).unwrap_or(0);
    (Cause::DcUnreachable, Detail::DialFailed(addr, code))
}

/// An upstream that does not work.
pub(super) fn upstream_failure(upstream: UpstreamId) -> (Cause, Detail) {
    (Cause::ProxyDown, Detail::Upstream(upstream.0))
}

/// Apps start a new connection after some seconds, long before the last address of a silent data
/// centre has been tried. If the client closes after this time, the server was too slow.
const CLIENT_WAIT: Duration = Duration::from_secs(2);

/// Addresses of a data centre tried through each upstream.
pub(super) const DESTINATIONS_MAX: usize = 3;

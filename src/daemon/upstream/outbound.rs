//! What outgoing connections share: names, addresses, upstreams, TLS roots.

use std::net::SocketAddr;

use crate::config::settings::Settings;
use crate::daemon::resolver::dns_cache::DnsCache;
use crate::daemon::upstream::addresses::BadAddresses;
use crate::daemon::upstream::dc_list::DcList;
use crate::daemon::upstream::proxies::Upstreams;
#[cfg(feature = "tls")]
use crate::daemon::upstream::tls_roots::TlsRoots;
use crate::io::clock::Tick;
use crate::io::logger::RateLimitedLog;
use crate::util::drbg::Drbg;

/// The state that outgoing connections share.
pub struct Outbound {
    /// Host names and their addresses.
    pub dns: DnsCache,
    /// Addresses that failed lately.
    pub bad_addresses: BadAddresses,
    /// The entries of `network.proxies` and their circuits.
    pub upstreams: Upstreams,
    /// Addresses of data centres that Telegram lists.
    pub dc_list: DcList,
    /// Our own listeners: a front must never lead back to them.
    pub own_listeners: Vec<SocketAddr>,
    /// Certificate authorities that our TLS connections trust.
    #[cfg(feature = "tls")]
    pub tls_roots: TlsRoots,
}

impl Outbound {
    /// Nothing is known yet.
    pub fn new(settings: &Settings) -> Self {
        Self {
            dns: DnsCache::default(),
            bad_addresses: BadAddresses::default(),
            upstreams: Upstreams::new(settings),
            dc_list: DcList::default(),
            own_listeners: Vec::new(),
            #[cfg(feature = "tls")]
            tls_roots: TlsRoots::default(),
        }
    }
}

/// What one step of an outgoing connection or of a lookup may use.
pub struct ConnectContext<'a> {
    /// The time of this round.
    pub now: Tick,
    /// Timeouts and socket options.
    pub settings: &'a Settings,
    /// Names, addresses, upstreams and TLS roots.
    pub outbound: &'a mut Outbound,
    /// Random ids and orders.
    pub drbg: &'a mut Drbg,
    /// For rate-limited diagnostics.
    pub log: &'a mut RateLimitedLog,
}

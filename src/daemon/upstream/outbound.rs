//! The state that outgoing connections share: host names, addresses, upstreams, TLS roots.

use std::net::SocketAddr;
use std::rc::Rc;

use crate::config::settings::Settings;
use crate::daemon::resolver::dns_cache::DnsCache;
use crate::daemon::resolver::lookup::LookupFault;
use crate::daemon::upstream::addresses::BadAddresses;
use crate::daemon::upstream::dc_list::DcList;
use crate::daemon::upstream::proxies::Upstreams;
#[cfg(feature = "tls")]
use crate::daemon::upstream::tls_roots::TlsRoots;
use crate::io::clock::Tick;
use crate::io::logger::RateLimitedLog;
use crate::limits::front_loops::FrontLoops;
use crate::util::drbg::Drbg;
use crate::util::memory::Account;

/// The state that outgoing connections share.
pub struct Outbound {
    /// Host names and their addresses.
    pub dns: DnsCache,
    /// The front whose name could not be looked up the last time, and why.
    pub unresolved_front: Option<(String, LookupFault)>,
    /// Addresses that failed lately.
    pub bad_addresses: BadAddresses,
    /// The entries of `network.proxies` and their circuits.
    pub upstreams: Upstreams,
    /// The addresses of data centres that Telegram publishes.
    pub dc_list: DcList,
    /// Until when no connection to the front is begun, after a shortage of this machine.
    pub front_paused_until: Tick,
    /// Attempts that failed for a shortage of this machine.
    pub shortages: u64,
    /// The addresses of our own listeners; a front must not be one of them.
    pub own_listeners: Vec<SocketAddr>,
    /// Openings on their way, and fronts that lead back to us over another way.
    pub front_loops: FrontLoops,
    /// Certificate authorities that our TLS connections trust.
    #[cfg(feature = "tls")]
    pub tls_roots: TlsRoots,
}

impl Outbound {
    /// Empty caches, and the upstreams of the settings.
    pub fn new(settings: &Settings) -> Self {
        Self {
            dns: DnsCache::default(),
            unresolved_front: None,
            bad_addresses: BadAddresses::default(),
            upstreams: Upstreams::new(settings),
            dc_list: DcList::default(),
            front_paused_until: Tick(0),
            shortages: 0,
            own_listeners: Vec::new(),
            front_loops: FrontLoops::default(),
            #[cfg(feature = "tls")]
            tls_roots: TlsRoots::default(),
        }
    }
}

/// The parts of the daemon that a step of an outgoing connection or of a lookup uses.
pub struct ConnectContext<'a> {
    /// The time of this round.
    pub now: Tick,
    /// Timeouts and socket options.
    pub settings: &'a Settings,
    /// Host names, addresses, upstreams and TLS roots.
    pub outbound: &'a mut Outbound,
    /// Generates query ids and random orders.
    pub drbg: &'a mut Drbg,
    /// Logs with a rate limit.
    pub log: &'a mut RateLimitedLog,
    /// What the connection holds is charged to it.
    pub account: &'a Rc<Account>,
    /// Bytes of its buffers in the kernel while it connects; `None` = the kernel chooses.
    pub first_buffers: Option<u32>,
}

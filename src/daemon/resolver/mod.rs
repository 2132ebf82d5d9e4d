//! Looks up host names without blocking: `/etc/hosts`, then the configured server or those of
//! `/etc/resolv.conf` (COMPATIBILITY 5.7; RFC 1035). The cache is in `dns_cache.rs`.
//!
//! Names are looked up as they are; search domains are not applied, since the host of a front is a
//! full name.

#[cfg(feature = "tls")]
mod codec;
pub mod dns_cache;
#[cfg(feature = "tls")]
mod encrypted;
pub mod lookup;
mod plain;
#[cfg(feature = "tls")]
mod secure;
mod system;
mod tcp;
mod udp;

use std::net::SocketAddr;
use std::task::Poll;
use std::time::Duration;

use crate::config::settings::{DnsSettings, NameServer};
use crate::daemon::upstream::connect::SOCKETS;
use crate::daemon::upstream::outbound::ConnectContext;
use crate::daemon::upstream::sockets;
use crate::io::clock::Tick;
#[cfg(feature = "tls")]
use crate::io::clock::earliest;
use crate::io::readiness::Readiness;
use crate::io::wire::Net;
use crate::proto::dns;
#[cfg(feature = "tls")]
use encrypted::{EncryptedContext, EncryptedResolver, EncryptedSocket};
use lookup::{GRACE, Lookup, LookupFault, LookupResult, LookupSlot, LookupStep};
use plain::{PlainQuery, QueryContext, ServerStats};
use system::{Servers, SystemFiles};

/// The running lookups and the name servers.
pub struct Resolver<N: Net> {
    /// The server that replaces those of the system.
    fixed: Option<Servers>,
    /// The server that replaces all others.
    #[cfg(feature = "tls")]
    encrypted: Option<EncryptedResolver<N>>,
    system: SystemFiles,
    stats: ServerStats,
    skips_hosts: bool,
    lookups: [Option<ActiveLookup<N>>; LOOKUPS_AT_ONCE],
}

struct ActiveLookup<N: Net> {
    lookup: Lookup,
    /// `None` = the lookup uses the encrypted server.
    plain: Option<PlainQuery<N>>,
    /// An event or an answer has arrived for it.
    awake: bool,
}

impl<N: Net> ActiveLookup<N> {
    /// A lookup over plain DNS; its first step sends the queries.
    fn plain(name: String, now: Tick) -> Self {
        let lookup = Lookup::new(name, Duration::ZERO, GRACE, now);
        Self { lookup, plain: Some(PlainQuery::default()), awake: true }
    }

    /// A lookup whose queries are queued for the encrypted server.
    #[cfg(feature = "tls")]
    fn encrypted(name: String, now: Tick) -> Self {
        let lookup = Lookup::new(name, Duration::MAX, ENCRYPTED_GRACE, now);
        Self { lookup, plain: None, awake: false }
    }
}

impl<N: Net> Resolver<N> {
    /// A resolver without lookups.
    pub fn new(settings: &DnsSettings) -> Self {
        let fixed = match &settings.server {
            NameServer::Udp(addr) => Some(Servers::one(*addr)),
            _ => None,
        };
        Self {
            fixed,
            #[cfg(feature = "tls")]
            encrypted: EncryptedResolver::new(settings),
            system: SystemFiles::new(),
            stats: ServerStats::default(),
            skips_hosts: false,
            lookups: std::array::from_fn(|_| None),
        }
    }

    /// Asks the server for every name, also for those of the hosts file.
    pub fn skip_hosts(&mut self) {
        self.skips_hosts = true;
    }

    /// Whether another lookup may start.
    pub fn has_room(&self) -> bool {
        self.lookups.iter().any(Option::is_none)
    }

    /// Records an event of the poller; `offset` counts from the resolver's first token.
    pub fn on_ready(&mut self, offset: usize, ready: Readiness) {
        match self.lookups.get_mut(offset) {
            Some(Some(lookup)) => lookup.awake = true,
            Some(None) => {}
            None => self.on_encrypted_ready(offset, ready),
        }
    }

    /// Handles received answers, retries queries without an answer, and starts the wanted lookups.
    /// Returns the results. `first_token` is the resolver's first token.
    pub fn poll(
        &mut self,
        context: &mut ConnectContext<'_>,
        net: &mut N,
        first_token: usize,
    ) -> Vec<LookupResult> {
        let mut results = Vec::new();
        while let Some(slot) = self.lookups.iter().position(Option::is_none)
            && let Some(name) = context.outbound.dns.next_wanted()
        {
            let addrs = self.system.known(&name);
            if !addrs.is_empty() && !self.skips_hosts {
                results.push(LookupResult { name, found: Ok(addrs), ttl_s: HOSTS_TTL_S });
            } else if !dns::is_valid_name(&name) {
                let found = Err(LookupFault::NotAName);
                results.push(LookupResult { name, found, ttl_s: HOSTS_TTL_S });
            } else {
                self.lookups[slot] = Some(self.start(slot, name, context.now));
            }
        }
        #[cfg(feature = "tls")]
        self.poll_encrypted(context, net, first_token + LOOKUPS_AT_ONCE);
        for slot in 0..self.lookups.len() {
            if self.poll_slot(slot, context, net, first_token + slot).is_ready()
                && let Some(over) = self.lookups[slot].take()
            {
                #[cfg(feature = "tls")]
                self.encrypted.iter_mut().for_each(|encrypted| encrypted.cancel(slot));
                results.push(over.lookup.into_result());
            }
        }
        results
    }

    /// The earliest deadline.
    pub fn due(&self) -> Option<Tick> {
        let due = self.lookups.iter().flatten().map(|active| active.lookup.due()).min();
        #[cfg(feature = "tls")]
        let due = earliest(&[due, self.encrypted.as_ref().and_then(EncryptedResolver::due)]);
        due
    }

    #[cfg(not(feature = "tls"))]
    fn start(&mut self, _slot: LookupSlot, name: String, now: Tick) -> ActiveLookup<N> {
        ActiveLookup::plain(name, now)
    }

    #[cfg(feature = "tls")]
    fn start(&mut self, slot: LookupSlot, name: String, now: Tick) -> ActiveLookup<N> {
        match &mut self.encrypted {
            Some(encrypted) => {
                encrypted.queue(slot, &name);
                ActiveLookup::encrypted(name, now)
            }
            None => ActiveLookup::plain(name, now),
        }
    }

    #[cfg(not(feature = "tls"))]
    fn on_encrypted_ready(&mut self, _offset: usize, _ready: Readiness) {}

    #[cfg(feature = "tls")]
    fn on_encrypted_ready(&mut self, offset: usize, ready: Readiness) {
        let socket = match offset {
            TOKENS_BEFORE_BOOTSTRAP.. => EncryptedSocket::Bootstrap,
            _ => EncryptedSocket::Connection(offset - LOOKUPS_AT_ONCE),
        };
        if let Some(encrypted) = &mut self.encrypted {
            encrypted.on_ready(socket, ready);
        }
    }

    /// Passes the answers of the encrypted server to their lookups.
    #[cfg(feature = "tls")]
    fn poll_encrypted(
        &mut self,
        context: &mut ConnectContext<'_>,
        net: &mut N,
        first_token: usize,
    ) {
        let Some(encrypted) = &mut self.encrypted else { return };
        let now = context.now;
        let (system, stats) = (&mut self.system, &mut self.stats);
        let mut context = EncryptedContext { connect: context, net, system, stats, first_token };
        for (slot, kind, outcome) in encrypted.poll(&mut context) {
            if let Some(Some(active)) = self.lookups.get_mut(slot) {
                if let Err(fault) = outcome {
                    encrypted.blame(fault, &mut active.lookup);
                }
                active.lookup.record(kind, outcome, now);
                active.awake = true;
            }
        }
    }

    /// Does a step of one lookup after an event or its deadline. Ready = the lookup is over.
    fn poll_slot(
        &mut self,
        slot: LookupSlot,
        context: &mut ConnectContext<'_>,
        net: &mut N,
        token: usize,
    ) -> Poll<()> {
        let Some(Some(active)) = self.lookups.get_mut(slot) else { return Poll::Pending };
        let now = context.now;
        if !std::mem::take(&mut active.awake) && active.lookup.due() > now {
            return Poll::Pending;
        }
        let Some(plain) = &mut active.plain else {
            return match active.lookup.next_step(now) {
                LookupStep::Wait => Poll::Pending,
                LookupStep::Retry | LookupStep::Done => Poll::Ready(()),
            };
        };
        let servers = match &self.fixed {
            Some(fixed) => fixed,
            None => self.system.servers(),
        };
        let mut query = QueryContext {
            servers,
            stats: &mut self.stats,
            options: &sockets::socket_options(context.settings),
            net,
            drbg: context.drbg,
            token,
            now,
        };
        plain.poll(&mut active.lookup, &mut query)
    }
}

/// The name servers of the system, in the order to ask.
pub fn system_servers() -> Vec<SocketAddr> {
    SystemFiles::new().servers().list.clone()
}

/// Whether the system knows the addresses of a name without a name server.
pub fn is_known_locally(name: &str) -> bool {
    !SystemFiles::new().known(name).is_empty()
}

/// Most lookups at once.
const LOOKUPS_AT_ONCE: usize = 8;
/// Tokens that the resolver uses: those of the lookups, of the encrypted connection, and of the
/// lookup of its server.
pub const TOKENS: usize = TOKENS_BEFORE_BOOTSTRAP + 1;
const TOKENS_BEFORE_BOOTSTRAP: usize = LOOKUPS_AT_ONCE + SOCKETS;
/// How long to wait for the other address family if its query is sent only after the first answer.
#[cfg(feature = "tls")]
const ENCRYPTED_GRACE: Duration = Duration::from_millis(400);
/// How long an answer that needed no query is cached.
const HOSTS_TTL_S: u32 = 30;

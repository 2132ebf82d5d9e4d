//! Finds the addresses of names without blocking: `/etc/hosts`, then the configured server or
//! those in `/etc/resolv.conf` (spec: network 7; RFC 1035). The cache is in `names.rs`.
//!
//! Names are asked as they stand; search domains are not applied, since a front is a full name.

#[cfg(feature = "tls")]
mod codec;
pub mod dns_cache;
#[cfg(feature = "tls")]
mod encrypted;
mod lookup;
mod plain;
#[cfg(feature = "tls")]
mod secure;
mod system;
mod tcp;
mod udp;

pub use lookup::LookupResult;

use crate::config::settings::{DnsSettings, NameServer};
use crate::daemon::shared::World;
use crate::daemon::upstream::sockets;
use crate::io::clock::Tick;
use crate::io::readiness::Readiness;
use crate::io::wire::MioNet;
use crate::proto::dns;
#[cfg(feature = "tls")]
use encrypted::{EncryptedContext, EncryptedResolver};
use lookup::{Lookup, LookupStep};
use plain::{PlainQuery, QueryContext, ServerStats};
use system::{Servers, SystemFiles};

/// The names that are looked for.
pub struct Resolver {
    /// Who is asked instead of the system's servers.
    fixed: Option<Servers>,
    /// Who is asked instead of all others.
    #[cfg(feature = "tls")]
    encrypted: Option<EncryptedResolver>,
    system: SystemFiles,
    memory: ServerStats,
    searches: [Option<ActiveLookup>; MOST_QUESTS],
}

/// Which of the searches.
type LookupSlot = usize;

struct ActiveLookup {
    quest: Lookup,
    /// `None` = the encrypted server is asked.
    plain: Option<PlainQuery>,
    /// Something came for it.
    woken: bool,
}

impl ActiveLookup {
    /// The first step asks.
    fn plain(name: String, now: Tick) -> Self {
        let quest = Lookup::new(name, 0, GRACE_MS, now);
        Self { quest, plain: Some(PlainQuery::default()), woken: true }
    }

    /// It was handed on.
    #[cfg(feature = "tls")]
    fn encrypted(name: String, now: Tick) -> Self {
        let quest = Lookup::new(name, u64::MAX, ENCRYPTED_GRACE_MS, now);
        Self { quest, plain: None, woken: false }
    }
}

impl Resolver {
    /// Nothing is asked yet.
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
            memory: ServerStats::default(),
            searches: Default::default(),
        }
    }

    /// Whether another name may be asked for.
    pub fn has_room(&self) -> bool {
        self.searches.iter().any(Option::is_none)
    }

    /// The poller speaks of the token that is `offset` behind the first one.
    pub fn on_ready(&mut self, offset: usize, fresh: Readiness) {
        match self.searches.get_mut(offset) {
            Some(Some(search)) => search.woken = true,
            Some(None) => {}
            None => self.on_encrypted(offset > MOST_QUESTS, fresh),
        }
    }

    /// Takes what came, moves on where nothing did, and begins with the names that are wanted.
    /// `base` is the first token.
    pub fn turn(&mut self, world: &mut World, net: &mut MioNet, base: usize) -> Vec<LookupResult> {
        let mut findings = Vec::new();
        while let Some(place) = self.searches.iter().position(Option::is_none)
            && let Some(name) = world.outbound.dns.next_wanted()
        {
            let addrs = self.system.known(&name);
            if !addrs.is_empty() || !dns::is_valid_name(&name) {
                findings.push(LookupResult { name, addrs, ttl_s: HOSTS_TTL_S });
                continue;
            }
            let search = ActiveLookup::plain(name, world.time.now);
            #[cfg(feature = "tls")]
            let search = match &mut self.encrypted {
                Some(encrypted) => {
                    encrypted.ask(place, &search.quest.name);
                    ActiveLookup::encrypted(search.quest.name, world.time.now)
                }
                None => search,
            };
            self.searches[place] = Some(search);
        }
        #[cfg(feature = "tls")]
        self.hear_encrypted(world, net, base + MOST_QUESTS);
        for place in 0..self.searches.len() {
            if self.step(place, world, net, base + place)
                && let Some(search) = self.searches[place].take()
            {
                #[cfg(feature = "tls")]
                self.encrypted.iter_mut().for_each(|encrypted| encrypted.forget(place));
                findings.push(search.quest.finding());
            }
        }
        findings
    }

    /// The earliest deadline.
    pub fn due(&self) -> Option<Tick> {
        let due = self.searches.iter().flatten().map(|search| search.quest.due()).min();
        #[cfg(feature = "tls")]
        let due = [due, self.encrypted.as_ref().and_then(EncryptedResolver::due)]
            .into_iter()
            .flatten()
            .min();
        due
    }

    #[cfg(not(feature = "tls"))]
    fn on_encrypted(&mut self, _is_search: bool, _fresh: Readiness) {}

    #[cfg(feature = "tls")]
    fn on_encrypted(&mut self, is_search: bool, fresh: Readiness) {
        if let Some(encrypted) = &mut self.encrypted {
            encrypted.on_ready(is_search, fresh);
        }
    }

    /// Lets the encrypted server's answers reach their searches.
    #[cfg(feature = "tls")]
    fn hear_encrypted(&mut self, world: &mut World, net: &mut MioNet, token: usize) {
        let Some(encrypted) = &mut self.encrypted else { return };
        let (system, memory) = (&mut self.system, &mut self.memory);
        let mut around = EncryptedContext { world, net, system, memory, token };
        let told = encrypted.turn(&mut around);
        for (place, kind, outcome) in told {
            if let Some(Some(search)) = self.searches.get_mut(place) {
                search.quest.hear(kind, outcome, world.time.now);
                search.woken = true;
            }
        }
    }

    /// Looks at one search, if there is a reason. `true` = it is over.
    fn step(
        &mut self,
        place: LookupSlot,
        world: &mut World,
        net: &mut MioNet,
        token: usize,
    ) -> bool {
        let Some(Some(search)) = self.searches.get_mut(place) else { return false };
        if !std::mem::take(&mut search.woken) && search.quest.due() > world.time.now {
            return false;
        }
        let Some(plain) = &mut search.plain else {
            return search.quest.next(world.time.now) != LookupStep::Wait;
        };
        let options = sockets::relay_socket_options(&world.settings);
        let servers = match &self.fixed {
            Some(fixed) => fixed,
            None => self.system.servers(),
        };
        let mut desk = QueryContext {
            servers,
            memory: &mut self.memory,
            options: &options,
            net,
            drbg: &mut world.drbg,
            token,
            now: world.time.now,
        };
        plain.step(&mut search.quest, &mut desk)
    }
}

/// Names looked for at the same time.
const MOST_QUESTS: usize = 8;
/// Tokens that the resolver uses: the searches', the encrypted connection's, and that of the
/// search for its server.
pub const TOKENS: usize = MOST_QUESTS + 2;
/// How long the other kind of address is waited for (RFC 8305 3 says 50 ms for a system that has
/// many names to ask for; ours are few, and kept).
const GRACE_MS: u64 = 100;
/// The same where the other question may leave only after the first answer has come.
#[cfg(feature = "tls")]
const ENCRYPTED_GRACE_MS: u64 = 400;
/// How long is kept what needed no question.
const HOSTS_TTL_S: u32 = 30;

//! Finds the addresses of names without blocking: `/etc/hosts`, then the configured server or
//! those in `/etc/resolv.conf` (spec: network 7; RFC 1035). The cache is in `names.rs`.
//!
//! Names are asked as they stand; search domains are not applied, since a front is a full name.

mod plain;
mod quest;
mod system;
mod tcp;
mod udp;

use std::net::IpAddr;

pub use quest::Finding;

use crate::config::settings::{DnsSettings, NameServer};
use crate::daemon::dialer;
use crate::daemon::world::World;
use crate::io::clock::Tick;
use crate::io::wire::MioNet;
use plain::{Desk, Memory, Plain};
use quest::Quest;
use system::{Servers, System};

/// The names that are looked for.
pub struct Resolver {
    /// Who is asked instead of the system's servers.
    fixed: Option<Servers>,
    system: System,
    memory: Memory,
    searches: [Option<Search>; MOST_QUESTS],
}

struct Search {
    quest: Quest,
    plain: Plain,
    /// Something came for it.
    woken: bool,
}

impl Resolver {
    /// Nothing is asked yet.
    pub fn new(settings: &DnsSettings) -> Self {
        let fixed = match &settings.server {
            NameServer::Udp(addr) => Some(Servers::one(*addr)),
            _ => None,
        };
        let (system, memory) = (System::new(), Memory::default());
        Self { fixed, system, memory, searches: Default::default() }
    }

    /// Whether another name may be asked for.
    pub fn has_room(&self) -> bool {
        self.searches.iter().any(Option::is_none)
    }

    /// Something came for the token that is `place` behind the first one.
    pub fn wake(&mut self, place: usize) {
        if let Some(Some(search)) = self.searches.get_mut(place) {
            search.woken = true;
        }
    }

    /// Takes what came, moves on where nothing did, and begins with the names that are wanted.
    /// `base` is the first token.
    pub fn turn(&mut self, world: &mut World, net: &mut MioNet, base: usize) -> Vec<Finding> {
        let mut findings = Vec::new();
        for place in 0..self.searches.len() {
            let due = self.searches[place]
                .as_ref()
                .is_some_and(|search| search.woken || search.quest.due() <= world.now);
            if due {
                findings.extend(self.step(place, world, net, base + place));
            }
        }
        while let Some(place) = self.searches.iter().position(Option::is_none)
            && let Some(name) = world.names.next_wanted()
        {
            if let Some(addrs) = self.without_asking(&name) {
                findings.push(Finding { name, addrs, ttl_s: HOSTS_TTL_S });
                continue;
            }
            let quest = Quest::new(name, 0, GRACE_MS, world.now);
            self.searches[place] = Some(Search { quest, plain: Plain::default(), woken: false });
            findings.extend(self.step(place, world, net, base + place));
        }
        findings
    }

    /// The earliest deadline.
    pub fn due(&self) -> Option<Tick> {
        self.searches.iter().flatten().map(|search| search.quest.due()).min()
    }

    /// Literal addresses, and what the hosts file has.
    fn without_asking(&mut self, name: &str) -> Option<Vec<IpAddr>> {
        let known = match name.parse() {
            Ok(ip) => vec![ip],
            Err(_) => self.system.hosts(name),
        };
        (!known.is_empty()).then_some(known)
    }

    fn step(
        &mut self,
        place: usize,
        world: &mut World,
        net: &mut MioNet,
        token: usize,
    ) -> Option<Finding> {
        let options = dialer::options(world);
        let slot = self.searches.get_mut(place)?;
        let search = slot.as_mut()?;
        search.woken = false;
        let servers = match &self.fixed {
            Some(fixed) => fixed,
            None => self.system.servers(),
        };
        let mut desk = Desk {
            servers,
            memory: &mut self.memory,
            options: &options,
            net,
            drbg: &mut world.drbg,
            token,
            now: world.now,
        };
        let over = search.plain.step(&mut search.quest, &mut desk);
        over.then(|| slot.take()).flatten().map(|search| search.quest.finding())
    }
}

/// Names looked for at the same time.
const MOST_QUESTS: usize = 8;
/// Tokens that the resolver uses.
pub const TOKENS: usize = MOST_QUESTS;
/// How long the other kind of address is waited for (RFC 8305 3 says 50 ms for a system that has
/// many names to ask for; ours are few, and kept).
const GRACE_MS: u64 = 100;
const HOSTS_TTL_S: u32 = 30;

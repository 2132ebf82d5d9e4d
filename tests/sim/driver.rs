//! Runs one seed: the daemon, its peers and the network take turns. When none of them can act, the
//! invariants are checked and the virtual time advances to the next event.

use std::cell::RefCell;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;

use mtbox::config::settings::UserSettings;
use mtbox::daemon::Daemon;
use mtbox::daemon::server::sizing::Sizes;
use mtbox::daemon::shared::Shared;
use mtbox::daemon::time::BUILT_UNIX_S;
use mtbox::flow::authenticate::KEYS_PER_CHECK;
use mtbox::io::clock::{Tick, Wall};
use mtbox::proto::secret::Secret;

use crate::client::Client;
use crate::link::{ConnectState, Link};
use crate::net::{SimNet, SimWire};
use crate::network::{Network, SharedNetwork};
use crate::oracle;
use crate::script::Script;
use crate::server::{FRONTS, Server};
use crate::trace::Failure;

/// The daemon with its network and peers.
pub struct Driver {
    /// The network.
    pub network: SharedNetwork,
    /// The code under test.
    pub daemon: Daemon<SimNet>,
    /// The clients.
    pub clients: Vec<Client>,
    /// The servers that the daemon has connected to.
    pub servers: Vec<Server>,
    /// What was drawn from the seed.
    pub script: Script,
    /// Links before this one have a server, or never will.
    attached: usize,
    backlog: Vec<usize>,
    lookups: Vec<(String, u64)>,
    drained: bool,
    is_active: bool,
    idle_polls: u32,
    actions: u64,
    reloads: u32,
}

impl Driver {
    /// Prepares a run.
    pub fn new(seed: u64, script: Script) -> Self {
        let network = Rc::new(RefCell::new(Network::new(seed, script.faults.clone())));
        let mut bytes = [0; 48];
        fastrand::Rng::with_seed(seed).fill(&mut bytes);
        let settings = Rc::new(script.settings.clone());
        let mut shared = Shared::new(settings, bytes, script.blocks, script.slots);
        shared.outbound.own_listeners = script.own_binds.clone();
        let mut daemon = Daemon::new(shared, SimNet(Rc::clone(&network)), script.most_sessions);
        daemon.shared.capacity.fronted_max =
            script.front_cap.unwrap_or(daemon.shared.capacity.fronted_max);
        let clients =
            script.plans.iter().cloned().enumerate().map(|(i, p)| Client::new(i, p)).collect();
        Self {
            network,
            daemon,
            clients,
            servers: Vec::new(),
            script,
            attached: 0,
            backlog: Vec::new(),
            lookups: Vec::new(),
            drained: false,
            is_active: true,
            idle_polls: 0,
            actions: 0,
            reloads: 0,
        }
    }

    /// Runs until every session and timer has ended.
    ///
    /// # Errors
    /// The first invariant that does not hold.
    pub fn run(&mut self) -> Result<(), Failure> {
        let mut rounds = 0;
        loop {
            rounds += 1;
            if rounds > MOST_ROUNDS {
                return Err(format!("{MOST_ROUNDS} rounds in one millisecond").into());
            }
            let (busy, changed) = self.round()?;
            self.is_active = busy || changed;
            if self.is_active || self.network.borrow().has_edge() {
                let mut network = self.network.borrow_mut();
                if network.happens(25) {
                    network.now += network.rng.u64(1..4);
                    rounds = 0;
                }
                continue;
            }
            oracle::check_idle(self)?;
            oracle::check_limits(self)?;
            let now = self.network.borrow().now;
            oracle::check_deadlines(self, now)?;
            let all_closed =
                self.daemon.sessions() == 0 && self.clients.iter().all(|c| c.peer.is_some());
            match self.next_event(now) {
                Some(at) if at <= now => {}
                Some(at) if at < MOST_MS => {
                    oracle::check_deadlines(self, at)?;
                    self.network.borrow_mut().now = at;
                    rounds = 0;
                }
                Some(at) => return Err(format!("still waiting for {at} ms").into()),
                None if all_closed => return oracle::check_final(self),
                None => {
                    let why = "sessions live, and nothing will ever wake them";
                    return Err(why.to_owned().into());
                }
            }
        }
    }

    /// Sometimes reloads the config with other additional users. No existing session may notice it.
    /// Not during a drain, and only a few times per run.
    fn reload(&mut self) -> bool {
        if self.drained || !self.is_active || self.reloads >= MOST_RELOADS {
            return false;
        }
        let mut network = self.network.borrow_mut();
        if !network.happens(1) {
            return false;
        }
        self.reloads += 1;
        let mut settings = self.script.settings.clone();
        for extra in 0..network.rng.usize(0..3) {
            let host = format!("extra{}.example", network.rng.u8(0..2));
            let key = [network.rng.u8(200..); 16];
            let secret = Secret::new(key, host.as_bytes()).expect("a host");
            settings.users.push(UserSettings { name: format!("z{extra}"), secret, enabled: true });
        }
        drop(network);
        let front_cap = self.daemon.shared.capacity.fronted_max;
        let sizes = Sizes {
            sessions: self.script.most_sessions,
            blocks: self.script.blocks,
            slots: self.script.slots,
        };
        let reloaded = self.daemon.reload(settings, &sizes);
        assert_eq!(reloaded.ended, 0, "no user was removed");
        self.daemon.shared.capacity.fronted_max = front_cap;
        true
    }

    /// One round of the loop, as in `daemon/server/mod.rs`, and one turn of every peer.
    fn round(&mut self) -> Result<(bool, bool), Failure> {
        let (now, events) = {
            let mut network = self.network.borrow_mut();
            (network.now, network.events(self.is_active))
        };
        self.daemon.begin_round(Tick(now), wall(now));
        let mut changed = !events.is_empty();
        for (token, ready) in events {
            self.daemon.on_ready(token, ready);
        }
        if !self.drained && self.script.drain_at.is_some_and(|at| now >= at) {
            self.drained = true;
            changed = true;
            for link in &mut self.network.borrow_mut().links {
                link.read_at_drain = Some(link.to_daemon.read);
                link.closed_at_drain = link.closed;
            }
            self.daemon.drain();
        }
        changed |= self.reload();
        self.answer_lookups(now);
        let busy = self.daemon.run_ready() | self.daemon.shared.outbound.dns.is_wanted();
        changed |= self.accept();
        self.check_progress(busy)?;
        changed |= self.network.borrow_mut().advance_all();
        self.attach_servers();
        let mut order: Vec<usize> = (0..self.clients.len() + self.servers.len()).collect();
        self.network.borrow_mut().rng.shuffle(&mut order);
        for at in order {
            let mut network = self.network.borrow_mut();
            changed |= match at.checked_sub(self.clients.len()) {
                None => {
                    let is_new = self.clients[at].peer.is_none();
                    let acted =
                        self.clients[at].act(&mut network).map_err(|e| Failure::of(at, e))?;
                    if let (true, Some(peer)) = (is_new, &self.clients[at].peer) {
                        self.backlog.push(peer.link);
                    }
                    acted
                }
                Some(at) => {
                    let server = &mut self.servers[at];
                    let client = server.client;
                    let acted = server.act(&mut network, &self.clients[client]);
                    acted.map_err(|e| Failure::of(client, e))?
                }
            };
        }
        Ok((busy, changed))
    }

    /// Accepts waiting clients, after the turn as `daemon/server/mod.rs` does.
    fn accept(&mut self) -> bool {
        let backlog = std::mem::take(&mut self.backlog);
        for id in &backlog {
            let mut wire = SimWire::new(&self.network, *id);
            if self.drained {
                mtbox::io::wire::Wire::reset_on_close(&mut wire);
                continue;
            }
            // The cache of recent addresses uses a secret hash. With many keys it decides in how
            // many slices they are tried, so all clients have one address then; otherwise a run
            // would not be reproducible.
            let is_sliced = self.script.settings.users.len() > KEYS_PER_CHECK;
            let octet =
                if is_sliced { 0 } else { self.network.borrow().links[*id].client as u8 / 2 };
            let from = IpAddr::V4(Ipv4Addr::new(198, 51, 100, octet));
            self.daemon.accept(wire, SocketAddr::new(from, 4_000));
        }
        !backlog.is_empty()
    }

    /// Answers lookups after a delay, some of them without an address.
    fn answer_lookups(&mut self, now: u64) {
        while let Some(name) = self.daemon.shared.outbound.dns.next_wanted() {
            let delay = self.network.borrow_mut().rng.u64(0..=self.script.names_ms);
            self.lookups.push((name, now + delay));
        }
        let (ready, later) = self.lookups.drain(..).partition(|(_, at)| *at <= now);
        self.lookups = later;
        let ready: Vec<(String, u64)> = ready;
        for (name, _) in ready {
            let bad = self.script.bad_names;
            let addrs = match self.network.borrow_mut().happens(bad) {
                true => Vec::new(),
                false => [2, 1].map(|last| IpAddr::V4(Ipv4Addr::new(10, FRONTS, 0, last))).to_vec(),
            };
            for token in self.daemon.shared.outbound.dns.answer(&name, addrs, 60, Tick(now)) {
                self.daemon.wake(token);
            }
        }
    }

    /// A daemon that wants another turn must have acted in this one.
    fn check_progress(&mut self, busy: bool) -> Result<(), String> {
        let actions = self.network.borrow().actions;
        let idle = busy && actions == std::mem::replace(&mut self.actions, actions);
        self.idle_polls = if idle { self.idle_polls + 1 } else { 0 };
        if self.idle_polls > MOST_IDLE_POLLS {
            return Err("live-lock: turns follow each other without an action".to_owned());
        }
        Ok(())
    }

    /// Makes a server for every dial that succeeded.
    fn attach_servers(&mut self) {
        let mut network = self.network.borrow_mut();
        let mut known: Vec<usize> = self.servers.iter().map(|s| s.peer.link).collect();
        for id in self.attached..network.links.len() {
            let link = &network.links[id];
            if link.dialled.is_some()
                && link.state == ConnectState::Connected
                && !known.contains(&id)
            {
                let client = &self.clients[link.client];
                self.servers.push(Server::new(&mut network, id, client));
                known.push(id);
            }
        }
        let is_final =
            |c: &Link| c.dialled.is_none() || !matches!(c.state, ConnectState::Connecting(..));
        while network.links.get(self.attached).is_some_and(is_final) {
            self.attached += 1;
        }
    }

    fn next_event(&self, now: u64) -> Option<u64> {
        let clients = self.clients.iter().filter_map(|client| client.due(now));
        let servers = self.servers.iter().filter_map(|server| server.peer.due(now));
        let names = self.lookups.iter().map(|(_, at)| *at);
        let drain = self.script.drain_at.filter(|_| !self.drained);
        let daemon = self.daemon.next_due().map(|at| at.0);
        let network = self.network.borrow().due();
        let others = [drain, daemon, network].into_iter().flatten();
        clients.chain(servers).chain(names).chain(others).min()
    }

    /// A lookup is open.
    pub fn is_resolving(&self) -> bool {
        !self.lookups.is_empty()
    }

    /// The drain has begun.
    pub fn is_drained(&self) -> bool {
        self.drained
    }
}

/// A day after the build, so that the clock counts as set.
pub fn wall(now: u64) -> Wall {
    Wall { unix_s: BUILT_UNIX_S + 86_400 + now / 1000, nanos: (now % 1000) as u32 * 1_000_000 }
}

const MOST_RELOADS: u32 = 8;
/// Rounds within one virtual millisecond.
const MOST_ROUNDS: u32 = 5_000;
/// Turns in a row without an action: many keys are tried in slices.
const MOST_IDLE_POLLS: u32 = 32;
/// A run ends within a virtual day.
const MOST_MS: u64 = 86_400_000;

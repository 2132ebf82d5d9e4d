//! Runs one seed: the daemon, its peers and the network take turns. When none of them can act, the
//! invariants are checked and the virtual time advances to the next event.

use std::cell::RefCell;
use std::rc::Rc;

use mtbox::config::settings::UserSettings;
use mtbox::daemon::Daemon;
use mtbox::daemon::listeners::Listeners;
use mtbox::daemon::server::sizing::Sizes;
use mtbox::daemon::shared::Shared;
use mtbox::daemon::time::BUILT_UNIX_S;
use mtbox::io::clock::{Tick, Wall};
use mtbox::proto::secret::Secret;

use crate::client::Client;
use crate::everything;
use crate::link::{ConnectState, Link, NO_CLIENT};
use crate::net::SimNet;
use crate::network::{Network, SharedNetwork};
use crate::oracle;
use crate::part::{PARTS, Part, Tunnel};
use crate::script::{Mix, Script};
use crate::server::Server;
use crate::sockets::DatagramPort;
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
    /// Links that have a server.
    known: Vec<usize>,
    parts: Vec<Box<dyn Part>>,
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
        let mut net = SimNet(Rc::clone(&network));
        let listeners = Listeners::open(&settings, &mut net).expect("free addresses");
        let mut shared = Shared::new(settings, bytes, script.blocks, script.slots);
        shared.set_time(Tick(0), wall(0));
        let mut daemon = Daemon::new(shared, net, listeners, script.most_sessions);
        daemon.shared.capacity.fronted_max =
            script.front_cap.unwrap_or(daemon.shared.capacity.fronted_max);
        let clients =
            script.plans.iter().cloned().enumerate().map(|(i, p)| Client::new(i, p)).collect();
        let parts = PARTS.iter().filter_map(|make| make(&script)).collect();
        Self {
            network,
            daemon,
            clients,
            servers: Vec::new(),
            script,
            attached: 0,
            known: Vec::new(),
            parts,
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
            let is_over = all_closed
                && now >= self.script.lasts_ms
                && self.parts.iter().all(|part| part.is_done())
                && self.peers_due(now).is_none()
                && !self.network.borrow().has_waiting_client();
            // Fetches go on for ever.
            if self.script.mix == Mix::Everything && is_over {
                self.daemon.finish();
                return oracle::check_final(self);
            }
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
        let is_everything = self.script.mix == Mix::Everything;
        // The connections that wait at a listener must survive its move.
        let is_waited = network.listeners.iter().any(|one| !one.backlog.is_empty());
        if !network.happens(if is_everything && is_waited { 20 } else { 1 }) {
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
        if is_everything {
            // Connections that cannot be accepted are lost with their listener.
            let may_move = network.faults.accept_errors == 0;
            everything::vary(&mut network.rng, &mut settings, may_move);
        }
        drop(network);
        self.daemon.move_listeners(&settings).expect("free addresses");
        let front_cap = self.daemon.shared.capacity.fronted_max;
        let sizes = Sizes {
            sessions: self.script.most_sessions,
            blocks: self.script.blocks,
            slots: self.script.slots,
            limit: u64::MAX,
            kernel: u64::MAX,
        };
        let reloaded = self.daemon.reload(settings, &sizes);
        assert_eq!(reloaded.ended, 0, "no user was removed");
        self.daemon.shared.capacity.fronted_max = front_cap;
        true
    }

    /// One round of the daemon, and one turn of every peer and part.
    fn round(&mut self) -> Result<(bool, bool), Failure> {
        let (now, events) = {
            let mut network = self.network.borrow_mut();
            (network.now, network.events(self.is_active))
        };
        let has_events = !events.is_empty();
        let mut changed = has_events;
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
        let pause = self.daemon.round(events, Tick(now), wall(now));
        let busy = self.daemon.due().is_some_and(|due| due <= Tick(now));
        self.check_progress(busy, has_events)?;
        let mut network = self.network.borrow_mut();
        network.now += pause.map_or(0, |pause| pause.as_millis() as u64);
        if has_events {
            network.last_event_at = Some(now);
        }
        if let Some(why) = network.violation.take() {
            return Err(why.into());
        }
        changed |= network.advance_all();
        drop(network);
        self.attach_servers();
        self.act(&mut changed)?;
        Ok((busy, changed))
    }

    /// Lets every peer and part act once, in random order.
    fn act(&mut self, changed: &mut bool) -> Result<(), Failure> {
        let mut network = self.network.borrow_mut();
        let (clients, servers) = (self.clients.len(), self.servers.len());
        let mut order: Vec<usize> = (0..clients + servers + self.parts.len()).collect();
        network.rng.shuffle(&mut order);
        for at in order {
            *changed |= if at < clients {
                self.clients[at].act(&mut network).map_err(|e| Failure::of(at, e))?
            } else if let Some(server) = self.servers.get_mut(at - clients) {
                let acted = server.act(&mut network, &self.clients[server.client]);
                acted.map_err(|e| Failure::of(server.client, e))?
            } else {
                self.parts[at - clients - servers].act(&mut network)?
            };
        }
        Ok(())
    }

    /// A daemon that wants another turn must act in the end. A turn with events shows nothing:
    /// spurious ones require no action.
    fn check_progress(&mut self, busy: bool, has_events: bool) -> Result<(), String> {
        let actions = self.network.borrow().actions;
        let has_acted = actions != std::mem::replace(&mut self.actions, actions);
        if has_acted || !busy {
            self.idle_polls = 0;
        } else {
            self.idle_polls += u32::from(!has_events);
        }
        if self.idle_polls > MOST_IDLE_POLLS {
            return Err("live-lock: turns follow each other without an action".to_owned());
        }
        Ok(())
    }

    /// Makes a server for every dial that succeeded, directly or through a proxy.
    fn attach_servers(&mut self) {
        let mut network = self.network.borrow_mut();
        let known = &mut self.known;
        let take = |part: &mut Box<dyn Part>| part.take_tunnels();
        let mut tunnels: Vec<Tunnel> = self.parts.iter_mut().flat_map(take).collect();
        for id in self.attached..network.links.len() {
            let link = &network.links[id];
            if let Some(addr) = link.dialled
                && link.state == ConnectState::Connected
                && !known.contains(&id)
            {
                known.push(id);
                tunnels.push(Tunnel { link: id, destination: addr });
            }
        }
        let is_final =
            |c: &Link| c.dialled.is_none() || !matches!(c.state, ConnectState::Connecting(..));
        while network.links.get(self.attached).is_some_and(is_final) {
            self.attached += 1;
        }
        for Tunnel { link, destination } in tunnels {
            let client = network.links[link].client;
            let is_session = client != NO_CLIENT;
            match self.parts.iter_mut().find(|part| part.serves(destination, is_session)) {
                Some(part) => part.attach(&mut network, link),
                None if is_session => {
                    let client = &self.clients[client];
                    self.servers.push(Server::new(&mut network, link, destination, client));
                }
                None => {}
            }
        }
    }

    /// When a client or its server acts next, or gets bytes.
    fn peers_due(&self, now: u64) -> Option<u64> {
        let clients = self.clients.iter().filter_map(|client| client.due(now));
        let servers = self.servers.iter().filter_map(|server| server.peer.due(now));
        let network = self.network.borrow();
        let links = network.links.iter().filter(|link| link.client != NO_CLIENT);
        clients.chain(servers).chain(links.filter_map(Link::due)).min()
    }

    fn next_event(&self, now: u64) -> Option<u64> {
        let parts = self.parts.iter().filter_map(|part| part.due(now));
        let drain = self.script.drain_at.filter(|_| !self.drained);
        let end = Some(self.script.lasts_ms).filter(|at| *at > now);
        let daemon = self.daemon.due().map(|at| at.0);
        let network = self.network.borrow().due();
        let others = [drain, end, daemon, network].into_iter().flatten();
        self.peers_due(now).into_iter().chain(parts).chain(others).min()
    }

    /// A lookup is open.
    pub fn is_resolving(&self) -> bool {
        let is_open = |port: &DatagramPort| !port.closed && port.token.is_some();
        self.network.borrow().datagrams.iter().any(is_open)
    }

    /// The parts of the world.
    pub fn parts(&self) -> &[Box<dyn Part>] {
        &self.parts
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
/// Turns in a row without an action: many keys are tried in slices, and idle turns make key shares.
const MOST_IDLE_POLLS: u32 = 64;
/// A run ends within a virtual day.
const MOST_MS: u64 = 86_400_000;

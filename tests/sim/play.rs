//! Runs one seed: the daemon, its peers and the network take turns; when nobody has anything to
//! do, the invariants are checked and time jumps to the next moment at which something is due.

use std::cell::RefCell;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;

use mtbox::config::settings::UserSettings;
use mtbox::daemon::Daemon;
use mtbox::daemon::server::sizing::Sizes;
use mtbox::daemon::shared::World;
use mtbox::daemon::time::BUILT_UNIX_S;
use mtbox::flow::authenticate::KEYS_PER_CHECK;
use mtbox::io::clock::{Tick, Wall};
use mtbox::proto::secret::Secret;

use crate::cable::{Cable, Link};
use crate::client::Client;
use crate::hub::{Hub, Shared};
use crate::net::{FakeNet, FakeWire};
use crate::scene::Scene;
use crate::server::{FRONTS, Server};
use crate::trace::Failure;
use crate::verdict;

/// Everybody on stage.
pub struct Play {
    /// The network.
    pub hub: Shared,
    /// The code under test.
    pub daemon: Daemon<FakeNet>,
    /// The clients.
    pub clients: Vec<Client>,
    /// What the daemon has reached for them.
    pub servers: Vec<Server>,
    /// What was drawn.
    pub scene: Scene,
    /// Cables up to here have been looked at.
    greeted: usize,
    backlog: Vec<usize>,
    asked: Vec<(String, u64)>,
    drained: bool,
    lively: bool,
    idle_turns: u32,
    deeds: u64,
    reloads: u32,
}

impl Play {
    /// Sets the stage.
    pub fn new(seed: u64, scene: Scene) -> Self {
        let hub = Rc::new(RefCell::new(Hub::new(seed, scene.faults.clone())));
        let mut bytes = [0; 48];
        fastrand::Rng::with_seed(seed).fill(&mut bytes);
        let settings = Rc::new(scene.settings.clone());
        let mut world = World::new(settings, bytes, scene.blocks, scene.slots);
        world.outbound.own_listeners = scene.own_binds.clone();
        let mut daemon = Daemon::new(world, FakeNet(Rc::clone(&hub)), scene.most_sessions);
        daemon.world.capacity.fronted_max =
            scene.front_cap.unwrap_or(daemon.world.capacity.fronted_max);
        let clients =
            scene.plans.iter().cloned().enumerate().map(|(i, p)| Client::new(i, p)).collect();
        Self {
            hub,
            daemon,
            clients,
            servers: Vec::new(),
            scene,
            greeted: 0,
            backlog: Vec::new(),
            asked: Vec::new(),
            drained: false,
            lively: true,
            idle_turns: 0,
            deeds: 0,
            reloads: 0,
        }
    }

    /// Runs to the end.
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
            let (busy, stirred) = self.round()?;
            self.lively = busy || stirred;
            if self.lively || self.hub.borrow().has_edge() {
                let mut hub = self.hub.borrow_mut();
                if hub.odds(25) {
                    hub.now += hub.rng.u64(1..4);
                    rounds = 0;
                }
                continue;
            }
            verdict::at_rest(self)?;
            verdict::limits(self)?;
            let now = self.hub.borrow().now;
            verdict::until(self, now)?;
            let gone = self.daemon.sessions() == 0 && self.clients.iter().all(|c| c.peer.is_some());
            match self.next_moment(now) {
                Some(at) if at <= now => {}
                Some(at) if at < MOST_MS => {
                    verdict::until(self, at)?;
                    self.hub.borrow_mut().now = at;
                    rounds = 0;
                }
                Some(at) => return Err(format!("still waiting for {at} ms").into()),
                None if gone => return verdict::at_the_end(self),
                None => {
                    let why = "sessions live, and nothing will ever wake them";
                    return Err(why.to_owned().into());
                }
            }
        }
    }

    /// Now and then the config is read anew, with a guest more or less, and another host: nobody
    /// else may notice. Not while the daemon leaves, and never more often than a person could.
    fn reload(&mut self) -> bool {
        if self.drained || !self.lively || self.reloads >= MOST_RELOADS {
            return false;
        }
        let mut hub = self.hub.borrow_mut();
        if !hub.odds(1) {
            return false;
        }
        self.reloads += 1;
        let mut settings = self.scene.settings.clone();
        for guest in 0..hub.rng.usize(0..3) {
            let host = format!("guest{}.example", hub.rng.u8(0..2));
            let key = [hub.rng.u8(200..); 16];
            let secret = Secret::new(key, host.as_bytes()).expect("a host");
            settings.users.push(UserSettings { name: format!("z{guest}"), secret, enabled: true });
        }
        drop(hub);
        let front_cap = self.daemon.world.capacity.fronted_max;
        let sizes = Sizes {
            sessions: self.scene.most_sessions,
            blocks: self.scene.blocks,
            slots: self.scene.slots,
        };
        let reloaded = self.daemon.reload(settings, &sizes);
        assert_eq!(reloaded.ended, 0, "nobody was revoked");
        self.daemon.world.capacity.fronted_max = front_cap;
        true
    }

    /// One round of the loop, as `daemon/server.rs` makes it, then one of everybody else.
    fn round(&mut self) -> Result<(bool, bool), Failure> {
        let (now, events) = {
            let mut hub = self.hub.borrow_mut();
            (hub.now, hub.events(self.lively))
        };
        self.daemon.begin(Tick(now), wall(now));
        let mut stirred = !events.is_empty();
        for (token, ready) in events {
            self.daemon.on_ready(token, ready);
        }
        if !self.drained && self.scene.drain_at.is_some_and(|at| now >= at) {
            self.drained = true;
            stirred = true;
            for cable in &mut self.hub.borrow_mut().cables {
                cable.taken_at_drain = Some(cable.inward.taken);
                cable.gone_at_drain = cable.closed;
            }
            self.daemon.drain();
        }
        stirred |= self.reload();
        self.resolve(now);
        let busy = self.daemon.turn() | self.daemon.world.outbound.dns.is_wanted();
        stirred |= self.accept();
        self.watch(busy)?;
        stirred |= self.hub.borrow_mut().stir();
        self.greet();
        let mut order: Vec<usize> = (0..self.clients.len() + self.servers.len()).collect();
        self.hub.borrow_mut().rng.shuffle(&mut order);
        for at in order {
            let mut hub = self.hub.borrow_mut();
            stirred |= match at.checked_sub(self.clients.len()) {
                None => {
                    let was_away = self.clients[at].peer.is_none();
                    let acted = self.clients[at].act(&mut hub).map_err(|e| Failure::of(at, e))?;
                    if let (true, Some(peer)) = (was_away, &self.clients[at].peer) {
                        self.backlog.push(peer.cable);
                    }
                    acted
                }
                Some(at) => {
                    let server = &mut self.servers[at];
                    let client = server.client;
                    let acted = server.act(&mut hub, &self.clients[client]);
                    acted.map_err(|e| Failure::of(client, e))?
                }
            };
        }
        Ok((busy, stirred))
    }

    /// Takes waiting clients in, after the turn as `daemon/server.rs` does.
    fn accept(&mut self) -> bool {
        let backlog = std::mem::take(&mut self.backlog);
        for id in &backlog {
            let mut wire = FakeWire::new(&self.hub, *id);
            if self.drained {
                mtbox::io::wire::Wire::reset_on_close(&mut wire);
                continue;
            }
            // The daemon's memory of addresses is hashed with a secret. It decides in how many
            // slices many keys are tried, so many people share one address, or no seed would
            // tell the same story twice.
            let is_sliced = self.scene.settings.users.len() > KEYS_PER_CHECK;
            let home = if is_sliced { 0 } else { self.hub.borrow().cables[*id].client as u8 / 2 };
            let from = IpAddr::V4(Ipv4Addr::new(198, 51, 100, home));
            self.daemon.accept(wire, SocketAddr::new(from, 4_000));
        }
        !backlog.is_empty()
    }

    /// Answers for names come late, or say that there is none.
    fn resolve(&mut self, now: u64) {
        while let Some(name) = self.daemon.world.outbound.dns.next_wanted() {
            let delay = self.hub.borrow_mut().rng.u64(0..=self.scene.names_ms);
            self.asked.push((name, now + delay));
        }
        let (ready, later) = self.asked.drain(..).partition(|(_, at)| *at <= now);
        self.asked = later;
        let ready: Vec<(String, u64)> = ready;
        for (name, _) in ready {
            let bad = self.scene.bad_names;
            let addrs = match self.hub.borrow_mut().odds(bad) {
                true => Vec::new(),
                false => [2, 1].map(|last| IpAddr::V4(Ipv4Addr::new(10, FRONTS, 0, last))).to_vec(),
            };
            for token in self.daemon.world.outbound.dns.answer(&name, addrs, 60, Tick(now)) {
                self.daemon.wake(token);
            }
        }
    }

    /// Every turn that wants another one must have done something.
    fn watch(&mut self, busy: bool) -> Result<(), String> {
        let deeds = self.hub.borrow().deeds;
        let idle = busy && deeds == std::mem::replace(&mut self.deeds, deeds);
        self.idle_turns = if idle { self.idle_turns + 1 } else { 0 };
        if self.idle_turns > MOST_IDLE_TURNS {
            return Err("live-lock: turns follow each other and nothing is done".to_owned());
        }
        Ok(())
    }

    /// Connected dials get a server.
    fn greet(&mut self) {
        let mut hub = self.hub.borrow_mut();
        let mut known: Vec<usize> = self.servers.iter().map(|s| s.peer.cable).collect();
        for id in self.greeted..hub.cables.len() {
            let cable = &hub.cables[id];
            if cable.dialled.is_some() && cable.link == Link::Up && !known.contains(&id) {
                let client = &self.clients[cable.client];
                self.servers.push(Server::new(&mut hub, id, client));
                known.push(id);
            }
        }
        let settled = |c: &Cable| c.dialled.is_none() || !matches!(c.link, Link::Dialing(..));
        while hub.cables.get(self.greeted).is_some_and(settled) {
            self.greeted += 1;
        }
    }

    fn next_moment(&self, now: u64) -> Option<u64> {
        let clients = self.clients.iter().filter_map(|client| client.due(now));
        let servers = self.servers.iter().filter_map(|server| server.peer.due(now));
        let names = self.asked.iter().map(|(_, at)| *at);
        let drain = self.scene.drain_at.filter(|_| !self.drained);
        let daemon = self.daemon.next_due().map(|at| at.0);
        let network = self.hub.borrow().due();
        let others = [drain, daemon, network].into_iter().flatten();
        clients.chain(servers).chain(names).chain(others).min()
    }

    /// Somebody waits for the addresses of a name.
    pub fn is_resolving(&self) -> bool {
        !self.asked.is_empty()
    }

    /// The run is past its drain.
    pub fn is_drained(&self) -> bool {
        self.drained
    }
}

/// A day after the build, so that the clock counts as set.
pub fn wall(now: u64) -> Wall {
    Wall { unix_s: BUILT_UNIX_S + 86_400 + now / 1000, nanos: (now % 1000) as u32 * 1_000_000 }
}

/// Rounds in one virtual millisecond.
const MOST_RELOADS: u32 = 8;
const MOST_ROUNDS: u32 = 5_000;
/// Turns that ask for another one and do nothing: keys may be tried in slices.
const MOST_IDLE_TURNS: u32 = 32;
/// No run needs a whole virtual day.
const MOST_MS: u64 = 86_400_000;

//! Makes room at a limit: closes the connection of the one who holds most, so that a newcomer need
//! not be refused. `limits/eviction.rs` has the order.

use std::time::Duration;

use crate::accounts::users::UserId;
use crate::daemon::Daemon;
use crate::daemon::session::Session;
use crate::daemon::session::key::SessionKey;
use crate::daemon::session::outcome::Outcome;
use crate::daemon::session::standing::{Room, Standing, Victim};
use crate::io::logger::{Maybe, fields};
use crate::io::wire::{Net, Wire};
use crate::limits::eviction::{EvictionCandidate, rank};
use crate::util::client_prefix::ClientPrefix;
use crate::util::memory::Class;

impl<N: Net> Daemon<N> {
    /// Closes a session, other than `newcomer`, to make this kind of room. Returns whether there
    /// was one.
    pub(super) fn make_room(&mut self, room: Room, newcomer: Option<SessionKey>) -> bool {
        let found = self.find_victim(room, newcomer);
        let is_found = found.is_some();
        found.into_iter().for_each(|victim| self.evict(&victim, room));
        is_found
    }

    /// Closes a session since no descriptor is left. Returns whether there was one. A newcomer has
    /// some time to show whose it is: others wait in the queue of the kernel.
    pub(super) fn free_descriptor(&mut self) -> bool {
        let Some(victim) = self.find_victim(Room::Place, None) else { return false };
        let session = self.sessions.get(victim.key.index());
        let now = self.shared.time.now;
        let is_new = session.is_some_and(|one| now < one.client.accepted + NEWCOMER_TIME);
        match is_new {
            true => self.victims[Room::Place as usize].push(victim),
            false => self.evict(&victim, Room::Place),
        }
        !is_new
    }

    fn find_victim(&mut self, room: Room, newcomer: Option<SessionKey>) -> Option<Victim> {
        self.next_victim(room, newcomer).or_else(|| {
            self.victims[room as usize] = self.rank_victims(room);
            self.next_victim(room, newcomer)
        })
    }

    /// Closes sessions that hold memory and do not drain, while others wait for it: those of a
    /// class over its guarantee for one under its own, and within a class those of the one who
    /// holds most.
    pub(super) fn relieve_memory(&mut self) {
        let now = self.shared.time.now;
        if self.memory_waiters.count() == 0 {
            self.next_relief = None;
            return;
        }
        if self.next_relief.is_some_and(|at| now < at) {
            return;
        }
        for class in [Class::Users, Class::Unauthenticated] {
            let other = match class {
                Class::Users => Class::Unauthenticated,
                _ => Class::Users,
            };
            let budget = &self.shared.buffers.memory.budget;
            let may_take = !budget.is_over_guarantee(class) && budget.is_over_guarantee(other);
            let Some(poorest) = self.memory_waiters.poorest_used(class) else { continue };
            let mut ranked = self.rank_stuck(class, PATIENCE);
            let least = (poorest as u64).saturating_mul(2);
            ranked
                .retain(|one| one.weight > least || !matches!(one.key.standing, Standing::User(_)));
            if may_take {
                ranked.splice(0..0, self.rank_stuck(other, PATIENCE));
            }
            for one in ranked.into_iter().filter(|one| one.weight > MODEST) {
                self.evict(&one.key, Room::Memory);
                self.wake_for_memory();
                if !self.waits_for_memory(class) {
                    break;
                }
            }
        }
        self.next_relief = (self.memory_waiters.count() > 0).then(|| now + RELIEF_PAUSE);
    }

    /// Closes sessions that hold most and do not drain, while the memory of the whole program is
    /// short: those of unauthenticated clients first.
    pub(super) fn relieve_system(&mut self) {
        for class in [Class::Unauthenticated, Class::Users] {
            let mut excess = self.shared.memory.excess();
            if excess == 0 {
                return;
            }
            let (now_ms, much) = (self.shared.time.now.0, self.shared.memory.fair_part());
            let patience_ms = self.shared.memory.patience_ms();
            // Evicting a newcomer's hello would free next to nothing. Who holds much gets no time.
            let is_due = |one: &EvictionCandidate<Victim>| {
                one.weight > much || one.weight > MODEST && now_ms >= one.key.since_ms + patience_ms
            };
            let ranked = self.rank_stuck(class, SHORT_PATIENCE).into_iter().filter(is_due);
            for EvictionCandidate { key: victim, .. } in ranked {
                if excess == 0 {
                    return;
                }
                let session = self.sessions.get(victim.key.index());
                excess = excess.saturating_sub(session.map_or(0, held));
                self.evict(&victim, Room::Memory);
            }
        }
    }

    /// The sessions of a class that hold memory and do not drain, the worst first.
    fn rank_stuck(&self, class: Class, patience: Duration) -> Vec<EvictionCandidate<Victim>> {
        let now = self.shared.time.now;
        let is_stuck = |one: &Session<N::Wire>| match one.standing() {
            Standing::Unknown => true,
            Standing::Fronted if one.is_dialling() => true,
            _ => one.stuck_since().is_some_and(|since| now >= since + patience),
        };
        // A user's session that waits for its dial holds next to nothing.
        let least = if class == Class::Users { LEAST } else { 0 };
        let mut ranked = Vec::new();
        for (index, one) in self.sessions.iter() {
            if one.client.class() == class && held(one) > least && is_stuck(one) {
                let candidate = self.candidate(SessionKey::of_index(index), one);
                // A newcomer holds less than those who wait for a server: only its age counts.
                let is_spared = one.stalled_since().is_none();
                ranked.push(EvictionCandidate { weight: held(one), is_spared, ..candidate });
            }
        }
        rank(&mut ranked, LISTED);
        ranked
    }

    fn evict(&mut self, victim: &Victim, room: Room) {
        let (key, standing) = (victim.key, victim.standing);
        if let Some(session) = self.sessions.get_mut(key.index()) {
            session.reset_on_close();
        }
        let user = match standing {
            Standing::User(user) => Some(user),
            Standing::Unknown | Standing::Fronted => None,
        };
        // Without the address, so that the lines of a flood are one line with a count.
        let user = self.shared.accounts.users.name_of(user);
        self.shared.telemetry.info(fields!(
            "evicted", who = %standing.as_str(), user = ?Maybe(user), room = %room.as_str()
        ));
        self.close(key, Outcome::Evicted(standing, room));
    }

    /// Ends the excess over the limits that a step of `newcomer` has caused.
    pub(super) fn enforce_limits(&mut self, newcomer: SessionKey) {
        if self.shared.capacity.is_fronted_exceeded()
            && !self.make_room(Room::Front, Some(newcomer))
        {
            self.close(newcomer, Outcome::NoRoom);
        }
        if self.shared.accounts.users.total_connections() > self.shared.capacity.users_max {
            self.make_room(Room::User, Some(newcomer));
        }
    }

    /// The next session of the list that may still be closed.
    fn next_victim(&mut self, room: Room, newcomer: Option<SessionKey>) -> Option<Victim> {
        while let Some(victim) = self.victims[room as usize].pop() {
            let session = self.sessions.get(victim.key.index());
            // One that has moved bytes meanwhile is no longer the worst.
            let is_same = session.is_some_and(|session| {
                (session.client.id, session.standing()) == (victim.id, victim.standing)
                    && since_ms(session) == victim.since_ms
            });
            let holds_most = match victim.standing {
                Standing::User(user) => self.holds_most(user),
                Standing::Unknown | Standing::Fronted => true,
            };
            if is_same && holds_most && newcomer != Some(victim.key) {
                return Some(victim);
            }
        }
        None
    }

    /// Whether no user has more sessions than this one.
    fn holds_most(&self, user: UserId) -> bool {
        let users = &self.shared.accounts.users;
        let own = users.connections().get(users.position(user));
        own == users.connections().iter().max()
    }

    /// Whether less than half of the places for newcomers, an eighth, are taken by hellos. Without
    /// descriptors there are no more places than sessions.
    fn has_few_newcomers(&self) -> bool {
        let is_unknown =
            |(_, one): &(usize, &Session<N::Wire>)| one.standing() == Standing::Unknown;
        let most = self.sessions.len() / 16;
        self.sessions.iter().filter(is_unknown).take(most).count() < most
    }

    fn rank_victims(&self, room: Room) -> Vec<Victim> {
        let kinds: &[fn(Standing) -> bool] = match room {
            // Newcomers would evict each other if fronted sessions had all the other places.
            Room::Place if self.has_few_newcomers() => {
                &[|s| s == Standing::Fronted, |s| s == Standing::Unknown]
            }
            Room::Place => &[|s| s == Standing::Unknown, |s| s == Standing::Fronted],
            Room::Front => &[|s| s == Standing::Fronted],
            Room::User => &[|s| matches!(s, Standing::User(_))],
            Room::Memory => &[],
        };
        for is_of_kind in kinds {
            let mut all = Vec::new();
            for (index, one) in self.sessions.iter() {
                let standing = one.standing();
                // A network's other connections count too when one of them has to go.
                let counts = room != Room::User && !matches!(standing, Standing::User(_));
                let stays = !is_of_kind(standing);
                if !stays || counts {
                    let key = SessionKey::of_index(index);
                    all.push(EvictionCandidate { stays, ..self.candidate(key, one) });
                }
            }
            rank(&mut all, LISTED);
            if !all.is_empty() {
                return all.into_iter().rev().map(|one| one.key).collect();
            }
        }
        Vec::new()
    }

    fn candidate(&self, key: SessionKey, session: &Session<N::Wire>) -> EvictionCandidate<Victim> {
        let (client, standing) = (&session.client, session.standing());
        let since_ms = since_ms(session);
        let users = &self.shared.accounts.users;
        let is_user = matches!(standing, Standing::User(_));
        EvictionCandidate {
            key: Victim { key, id: client.id, standing, since_ms },
            owner: match standing {
                Standing::User(user) => users.position(user) as u64,
                Standing::Unknown | Standing::Fronted => ClientPrefix::of(client.addr).to_bits(),
            },
            // An address that a user came from may hold four times as much as another one.
            weight: if is_user || users.is_known(client.addr) { 1 } else { 4 },
            stays: false,
            is_spared: match standing {
                Standing::Unknown => users.is_known(client.addr),
                Standing::Fronted | Standing::User(_) => session.stalled_since().is_none(),
            },
            since_ms,
            id: client.id,
        }
    }
}

/// Since when the session has been of no use.
fn since_ms<W: Wire>(session: &Session<W>) -> u64 {
    let client = &session.client;
    match session.standing() {
        // Bytes do not count before the hello is complete.
        Standing::Unknown => client.accepted.0,
        Standing::Fronted | Standing::User(_) => session.stalled_since().unwrap_or(client.active).0,
    }
}

/// Bytes that a session holds, in the pool and in the kernel.
fn held<W: Wire>(session: &Session<W>) -> u64 {
    session.client.account.used() as u64 + u64::from(session.client.account.kernel())
}

/// Without descriptors, a connection has at least this long.
const NEWCOMER_TIME: Duration = Duration::from_millis(100);
/// Bytes that no owner has to give back early: some hellos, or four blocks of the pool.
const MODEST: u64 = 64 << 10;
/// Bytes. A session of a user that holds fewer is not worth an eviction.
const LEAST: u64 = 4 << 10;
/// While another session waits for memory, one may hold some this long without taking it.
const PATIENCE: Duration = Duration::from_secs(1);
/// The same for those who hold much while the memory of the whole program is short.
const SHORT_PATIENCE: Duration = Duration::from_millis(100);
/// Between two searches for sessions that hold memory.
const RELIEF_PAUSE: Duration = Duration::from_millis(100);
/// Sessions in a list. Those that come later wait for the next list.
const LISTED: usize = 32;

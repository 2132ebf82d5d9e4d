//! Makes room at a limit: closes the connection of the one who holds most, so that a newcomer need
//! not be refused. `limits/eviction.rs` has the order.

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

impl<N: Net> Daemon<N> {
    /// Closes a session, other than `newcomer`, to make this kind of room. Returns whether there
    /// was one.
    pub(super) fn make_room(&mut self, room: Room, newcomer: Option<SessionKey>) -> bool {
        let found = self.next_victim(room, newcomer).or_else(|| {
            self.victims[room as usize] = self.rank_victims(room);
            self.next_victim(room, newcomer)
        });
        let Some(Victim { key, standing, .. }) = found else { return false };
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
        true
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

    fn rank_victims(&self, room: Room) -> Vec<Victim> {
        // Fronted sessions go only if all others are of users.
        let kinds: &[fn(Standing) -> bool] = match room {
            Room::Place => &[|s| s == Standing::Unknown, |s| s == Standing::Fronted],
            Room::Front => &[|s| s == Standing::Fronted],
            Room::User => &[|s| matches!(s, Standing::User(_))],
        };
        for is_of_kind in kinds {
            let sessions = self.sessions.iter().filter(|(_, one)| is_of_kind(one.standing()));
            let mut ranked: Vec<_> = sessions
                .map(|(index, one)| self.candidate(SessionKey::of_index(index), one))
                .collect();
            rank(&mut ranked, LISTED);
            if !ranked.is_empty() {
                return ranked.into_iter().rev().map(|one| one.key).collect();
            }
        }
        Vec::new()
    }

    fn candidate(&self, key: SessionKey, session: &Session<N::Wire>) -> EvictionCandidate<Victim> {
        let (client, standing) = (&session.client, session.standing());
        let since_ms = since_ms(session);
        let users = &self.shared.accounts.users;
        EvictionCandidate {
            key: Victim { key, id: client.id, standing, since_ms },
            owner: match standing {
                Standing::User(user) => users.position(user) as u64,
                Standing::Unknown | Standing::Fronted => ClientPrefix::of(client.addr).to_bits(),
            },
            weight: 1,
            is_spared: standing == Standing::Unknown && users.is_known(client.addr),
            drains: session.stalled_since().is_none(),
            since_ms,
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

/// Sessions in a list. Those that come later wait for the next list.
const LISTED: usize = 32;

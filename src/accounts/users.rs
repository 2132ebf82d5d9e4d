//! The people: names, keys, plain counters, and the order in which their keys are tried.
//!
//! One thread owns this table, so a counter is a plain `u64` and a user is an index, which stays
//! the same for as long as the user is there, whoever comes and goes. Secrets are bound to their
//! host: only users whose host equals the SNI are candidates for a hello.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::net::IpAddr;

use crate::proto::client_hello::HelloKey;
use crate::proto::secret::Secret;

/// A user, as an index into [`Users`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct UserId(u16);

/// A distinct host among the secrets, as an index into [`Users`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostId(u16);

impl HostId {
    /// Its place among all hosts: 0 for the first one.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// One person: identity and counters.
pub struct User {
    name: String,
    key: [u8; 16],
    hello_key: HelloKey,
    host: HostId,
    enabled: bool,
    /// Payload bytes from the client that have left towards Telegram.
    pub bytes_in: u64,
    /// Payload bytes from Telegram that have left towards the client.
    pub bytes_out: u64,
    /// How often this user was kept out, or got nowhere.
    pub refused: u64,
    /// When this user was last admitted or moved bytes, in milliseconds since start.
    pub last_seen_ms: Option<u64>,
}

impl User {
    /// The name in `[secrets]`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The 16 key bytes of the secret.
    pub fn key(&self) -> &[u8; 16] {
        &self.key
    }

    /// The HMAC state that proves this user's hellos and seals our answers.
    pub fn hello_key(&self) -> &HelloKey {
        &self.hello_key
    }

    /// The host that this user's secret names.
    pub fn host(&self) -> HostId {
        self.host
    }

    /// Whether this user may connect.
    pub fn is_enabled(&self) -> bool {
        self.enabled
    }
}

/// One person as the config has it.
#[derive(Debug, Clone, Copy)]
pub struct ConfiguredUser<'a> {
    /// The name in `[secrets]`.
    pub name: &'a str,
    /// The key and the host.
    pub secret: &'a Secret,
    /// May connect.
    pub enabled: bool,
}

/// What [`Users::reload`] did.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ReloadChange {
    /// Who was not there before.
    pub added: usize,
    /// Who is not there any more.
    pub removed: usize,
    /// Whose secret, or leave to connect, is another one now.
    pub changed: usize,
    /// Whose sessions have to end: removed, disabled, or with another secret.
    pub revoked: Vec<UserId>,
    /// Hosts that nobody named before. Their places may have been those of others.
    pub new_hosts: Vec<HostId>,
    /// Hosts that nobody names any more.
    pub removed_hosts: Vec<HostId>,
}

/// Everybody.
#[derive(Default)]
pub struct Users {
    /// By id. Who has gone keeps the place, disabled, until a later reload gives it away.
    list: Vec<User>,
    /// Who is there, in ascending byte order of the names.
    sorted: Vec<UserId>,
    connections: Vec<u32>,
    total_connections: u32,
    hosts: Vec<Host>,
    hints: Hints,
}

struct Host {
    name: Vec<u8>,
    /// Everybody of this host, most recently admitted first; empty = nobody names it any more.
    order: Vec<UserId>,
}

impl Users {
    /// ` user="NAME"` for a line of the log, or nothing.
    pub fn log_field(&self, user: Option<UserId>) -> String {
        user.map_or_else(String::new, |id| format!(" user={:?}", self.get(id).name()))
    }

    /// Builds the table from users in ascending byte order of their names.
    ///
    /// # Panics
    /// When there are more than 65,535 users, which a config file of the permitted size cannot
    /// hold.
    pub fn new<'a>(people: impl Iterator<Item = ConfiguredUser<'a>>) -> Self {
        let mut users = Self::default();
        users.reload(people);
        users
    }

    /// Takes the people of a new config, in ascending byte order of their names. Who was there
    /// before keeps id and counters.
    ///
    /// # Panics
    /// As [`Users::new`]; places are given away again, so that reloads do not add up.
    pub fn reload<'a>(&mut self, people: impl Iterator<Item = ConfiguredUser<'a>>) -> ReloadChange {
        let mut change = ReloadChange::default();
        let before = std::mem::take(&mut self.sorted);
        // A place or a host that this very reload sets free may still be in somebody's hands.
        let mut is_here = vec![false; self.list.len()];
        before.iter().for_each(|id| is_here[usize::from(id.0)] = true);
        let mut free: Vec<usize> =
            (0..self.list.len()).filter(|at| !is_here[*at] && self.connections[*at] == 0).collect();
        let mut free_hosts: Vec<usize> =
            (0..self.hosts.len()).filter(|at| self.hosts[*at].order.is_empty()).collect();
        is_here.fill(false);
        for person in people {
            let known = before.binary_search_by(|id| self.get(*id).name.as_str().cmp(person.name));
            let host = self.host_for(person.secret.host(), &mut free_hosts, &mut change);
            let id = match known {
                Ok(at) => self.keep(before[at], person, host, &mut change),
                Err(_) => self.add(person, host, free.pop()),
            };
            change.added += usize::from(known.is_err());
            is_here.resize(self.list.len(), false);
            is_here[usize::from(id.0)] = true;
            self.sorted.push(id);
        }
        for id in before.into_iter().filter(|id| !is_here[usize::from(id.0)]) {
            self.get_mut(id).enabled = false;
            change.removed += 1;
            change.revoked.push(id);
        }
        self.sort_hosts(&is_here, &mut change);
        self.hints.keep(self.sorted.len(), |id| is_here[usize::from(id.0)]);
        change
    }

    fn keep(
        &mut self,
        id: UserId,
        person: ConfiguredUser<'_>,
        host: HostId,
        change: &mut ReloadChange,
    ) -> UserId {
        let user = self.get_mut(id);
        let is_rotated = user.key != *person.secret.key() || user.host != host;
        if is_rotated {
            user.key = *person.secret.key();
            user.hello_key = HelloKey::new(person.secret.key());
            user.host = host;
        }
        let was_enabled = std::mem::replace(&mut user.enabled, person.enabled);
        if is_rotated || was_enabled && !person.enabled {
            change.revoked.push(id);
        }
        change.changed += usize::from(is_rotated || was_enabled != person.enabled);
        id
    }

    fn add(&mut self, person: ConfiguredUser<'_>, host: HostId, free: Option<usize>) -> UserId {
        let user = User {
            name: person.name.to_owned(),
            key: *person.secret.key(),
            hello_key: HelloKey::new(person.secret.key()),
            host,
            enabled: person.enabled,
            bytes_in: 0,
            bytes_out: 0,
            refused: 0,
            last_seen_ms: None,
        };
        match free {
            Some(at) => {
                self.list[at] = user;
                UserId(index(at))
            }
            None => {
                self.list.push(user);
                self.connections.push(0);
                UserId(index(self.list.len() - 1))
            }
        }
    }

    /// The host of this name; a new one takes a free place.
    fn host_for(
        &mut self,
        name: &[u8],
        free: &mut Vec<usize>,
        change: &mut ReloadChange,
    ) -> HostId {
        let known = self.hosts.iter().position(|host| host.name == name);
        if let Some(at) = known.filter(|at| !free.contains(at)) {
            return HostId(index(at));
        }
        let host = Host { name: name.to_vec(), order: Vec::new() };
        let at = match known.or(free.last().copied()) {
            Some(at) => {
                free.retain(|other| *other != at);
                self.hosts[at] = host;
                at
            }
            None => {
                self.hosts.push(host);
                self.hosts.len() - 1
            }
        };
        change.new_hosts.push(HostId(index(at)));
        HostId(index(at))
    }

    /// Puts everybody where they belong now; who was there keeps the order.
    fn sort_hosts(&mut self, is_here: &[bool], change: &mut ReloadChange) {
        let Self { list, hosts, sorted, .. } = self;
        let mut is_placed = vec![false; list.len()];
        for (at, host) in hosts.iter_mut().enumerate() {
            let was_named = !host.order.is_empty();
            host.order.retain(|id| {
                let at_id = usize::from(id.0);
                let stays = is_here[at_id] && list[at_id].host.index() == at && !is_placed[at_id];
                is_placed[at_id] |= stays;
                stays
            });
            if was_named && host.order.is_empty() {
                change.removed_hosts.push(HostId(index(at)));
            }
        }
        for id in sorted.iter().filter(|id| !is_placed[usize::from(id.0)]) {
            hosts[list[usize::from(id.0)].host.index()].order.push(*id);
        }
        change.removed_hosts.retain(|id| hosts[id.index()].order.is_empty());
    }

    /// Everybody in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&User, u32)> {
        self.ids().map(|id| (self.get(id), self.connections[usize::from(id.0)]))
    }

    /// The same as ids.
    pub fn ids(&self) -> impl Iterator<Item = UserId> + '_ {
        self.sorted.iter().copied()
    }

    /// Who is called so.
    pub fn find(&self, name: &str) -> Option<UserId> {
        let at = self.sorted.binary_search_by(|id| self.get(*id).name.as_str().cmp(name));
        at.ok().map(|at| self.sorted[at])
    }

    /// The record of one user.
    pub fn get(&self, id: UserId) -> &User {
        &self.list[usize::from(id.0)]
    }

    /// The record of one user, to count on.
    pub fn get_mut(&mut self, id: UserId) -> &mut User {
        &mut self.list[usize::from(id.0)]
    }

    /// Whether this user is in the present config.
    pub fn is_configured(&self, id: UserId) -> bool {
        self.find(self.get(id).name()) == Some(id)
    }

    /// Live connections by [`Users::position`]; 0 where nobody is.
    pub fn connections(&self) -> &[u32] {
        &self.connections
    }

    /// The sum of [`Users::connections`].
    pub fn total_connections(&self) -> u32 {
        self.total_connections
    }

    /// The position of a user in [`Users::connections`].
    pub fn position(&self, id: UserId) -> usize {
        usize::from(id.0)
    }

    /// The host that equals this SNI, byte for byte.
    pub fn find_host(&self, sni: &[u8]) -> Option<HostId> {
        let is_it = |host: &Host| host.name == sni && !host.order.is_empty();
        self.hosts.iter().position(is_it).map(|at| HostId(index(at)))
    }

    /// The host of the first user by name: where strangers without a known SNI go.
    pub fn first_host(&self) -> HostId {
        self.sorted.first().map_or(HostId(0), |id| self.get(*id).host)
    }

    /// Every distinct host.
    pub fn hosts(&self) -> impl Iterator<Item = HostId> + '_ {
        let named = self.hosts.iter().enumerate().filter(|(_, host)| !host.order.is_empty());
        named.map(|(at, _)| HostId(index(at)))
    }

    /// A host's name as it stands in the secrets.
    pub fn host_name(&self, id: HostId) -> &[u8] {
        &self.hosts[usize::from(id.0)].name
    }

    /// Whose key to try on a hello for `host` from `addr`: first the users last seen from that
    /// address, then the rest of the host, most recently admitted first. Each user once.
    pub fn candidates(&self, host: HostId, addr: IpAddr) -> impl Iterator<Item = UserId> + '_ {
        let hinted = self.hints.of(addr);
        let known = hinted.into_iter().flatten().filter(move |id| self.get(*id).host == host);
        let others = self.hosts[usize::from(host.0)].order.iter().copied();
        known.chain(others.filter(move |id| !hinted.contains(&Some(*id))))
    }

    /// Counts a session in and remembers from where it came.
    pub fn add_session(&mut self, id: UserId, addr: IpAddr, now_ms: u64) {
        self.connections[usize::from(id.0)] += 1;
        self.total_connections += 1;
        self.get_mut(id).last_seen_ms = Some(now_ms);
        self.hints.remember(addr, id);
        let host = self.get(id).host;
        let order = &mut self.hosts[usize::from(host.0)].order;
        if let Some(at) = order.iter().position(|other| *other == id) {
            order[..=at].rotate_right(1);
        }
    }

    /// Counts a session out.
    pub fn remove_session(&mut self, id: UserId) {
        let connections = &mut self.connections[usize::from(id.0)];
        debug_assert!(*connections > 0 && self.total_connections > 0);
        *connections = connections.saturating_sub(1);
        self.total_connections = self.total_connections.saturating_sub(1);
    }
}

/// Which users were last admitted from an address: a direct-mapped table of a few users per
/// address, since a family sits behind one. A collision only costs a few HMACs.
#[derive(Default)]
struct Hints {
    slots: Vec<AddressHint>,
    hash: RandomState,
}

#[derive(Clone, Copy, Default)]
struct AddressHint {
    tag: u32,
    users: [Option<UserId>; HINTED],
}

impl Hints {
    /// Makes room for `users` people and forgets who is not there.
    fn keep(&mut self, users: usize, is_here: impl Fn(UserId) -> bool) {
        // A lone user needs no hint; the table grows with the number of people, within bounds.
        let slots = if users < 2 { 0 } else { (users * 4).next_power_of_two().clamp(16, 1024) };
        if slots != self.slots.len() {
            self.slots = vec![AddressHint::default(); slots];
        }
        for user in self.slots.iter_mut().flat_map(|hint| &mut hint.users) {
            *user = user.filter(|id| is_here(*id));
        }
    }

    fn place(&self, addr: IpAddr) -> Option<(usize, u32)> {
        let hash = self.hash.hash_one(addr);
        let slot = (hash as usize).checked_rem(self.slots.len())?;
        Some((slot, (hash >> 32) as u32))
    }

    fn of(&self, addr: IpAddr) -> [Option<UserId>; HINTED] {
        match self.place(addr) {
            Some((slot, tag)) if self.slots[slot].tag == tag => self.slots[slot].users,
            _ => [None; HINTED],
        }
    }

    fn remember(&mut self, addr: IpAddr, id: UserId) {
        let Some((slot, tag)) = self.place(addr) else { return };
        let hint = &mut self.slots[slot];
        if hint.tag != tag {
            *hint = AddressHint { tag, users: [None; HINTED] };
        }
        let at = hint.users.iter().position(|u| *u == Some(id)).unwrap_or(HINTED - 1);
        hint.users[..=at].rotate_right(1);
        hint.users[0] = Some(id);
    }
}

/// Users remembered per address.
const HINTED: usize = 4;

fn index(len: usize) -> u16 {
    assert!(len <= usize::from(u16::MAX), "the size cap of the config file bounds the users");
    len as u16
}

#[cfg(test)]
mod tests;

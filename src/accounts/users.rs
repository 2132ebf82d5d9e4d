//! The users: names, keys, counters, and the order in which keys are tried on a hello.
//!
//! One thread owns this table, so a counter is a plain `u64`. A user is an index that stays the
//! same over reloads as long as the user is in the config. A secret is bound to its host: only
//! users whose host equals the SNI are candidates for a hello.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::net::IpAddr;

use crate::proto::client_hello::HelloKey;
use crate::proto::secret::Secret;

/// A user, as an index into [`Users`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct UserId(u16);

impl UserId {
    fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// A distinct host of the secrets, as an index into [`Users`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostId(u16);

impl HostId {
    /// The index among all hosts, from 0.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// One user: identity and counters.
pub struct User {
    name: String,
    key: [u8; 16],
    hello_key: HelloKey,
    host: HostId,
    enabled: bool,
    /// Payload bytes from the client that were sent to Telegram.
    pub bytes_in: u64,
    /// Payload bytes from Telegram that were sent to the client.
    pub bytes_out: u64,
    /// Number of connections that were refused or did not reach Telegram.
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

    /// The HMAC state that verifies this user's hellos and signs our answers.
    pub fn hello_key(&self) -> &HelloKey {
        &self.hello_key
    }

    /// The host in this user's secret.
    pub fn host(&self) -> HostId {
        self.host
    }

    /// Whether this user may connect.
    pub fn is_enabled(&self) -> bool {
        self.enabled
    }
}

/// One user in the config.
#[derive(Debug, Clone, Copy)]
pub struct ConfiguredUser<'a> {
    /// The name in `[secrets]`.
    pub name: &'a str,
    /// The key and the host.
    pub secret: &'a Secret,
    /// Whether the user may connect.
    pub enabled: bool,
}

/// The result of [`Users::reload`].
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ReloadChange {
    /// Number of new users.
    pub added: usize,
    /// Number of users that are no longer in the config.
    pub removed: usize,
    /// Number of users who got another secret, or were enabled or disabled.
    pub changed: usize,
    /// Users whose sessions have to end: removed, disabled, or with another secret.
    pub revoked: Vec<UserId>,
    /// Hosts that no secret named before. An id may have belonged to another host.
    pub new_hosts: Vec<HostId>,
    /// Hosts that no secret names any more.
    pub removed_hosts: Vec<HostId>,
}

/// All users.
#[derive(Default)]
pub struct Users {
    /// Indexed by id. A removed user keeps the entry, disabled, until a reload reuses it.
    list: Vec<User>,
    /// The users in the config, in ascending byte order of their names.
    sorted: Vec<UserId>,
    /// Live connections, indexed like `list`.
    connections: Vec<u32>,
    total_connections: u32,
    hosts: Vec<Host>,
    hints: Hints,
}

struct Host {
    name: Vec<u8>,
    /// The users of this host, most recently admitted first; empty = no secret names the host.
    order: Vec<UserId>,
}

impl Users {
    /// The name of a user, if there is one.
    pub fn name_of(&self, user: Option<UserId>) -> Option<&str> {
        user.map(|id| self.get(id).name())
    }

    /// Builds the table from users in ascending byte order of their names.
    ///
    /// # Panics
    /// If there are more than 65,535 users, which a config file of the permitted size cannot hold.
    pub fn new<'a>(configured: impl Iterator<Item = ConfiguredUser<'a>>) -> Self {
        let mut users = Self::default();
        users.reload(configured);
        users
    }

    /// Applies the users of a new config, in ascending byte order of their names. A user who was in
    /// the config before keeps id and counters.
    ///
    /// # Panics
    /// As [`Users::new`]. Ids are reused, so repeated reloads do not exhaust them.
    pub fn reload<'a>(
        &mut self,
        configured: impl Iterator<Item = ConfiguredUser<'a>>,
    ) -> ReloadChange {
        let mut change = ReloadChange::default();
        let before = std::mem::take(&mut self.sorted);
        // Ids of users and hosts that this reload frees are not reused before the next one: the
        // sessions that use them are still open.
        let mut is_configured = vec![false; self.list.len()];
        before.iter().for_each(|id| is_configured[id.index()] = true);
        let is_free = |at: &usize| !is_configured[*at] && self.connections[*at] == 0;
        let mut free: Vec<usize> = (0..self.list.len()).filter(is_free).collect();
        let mut free_hosts: Vec<usize> =
            (0..self.hosts.len()).filter(|at| self.hosts[*at].order.is_empty()).collect();
        is_configured.fill(false);
        for user in configured {
            let known = before.binary_search_by(|id| self.get(*id).name.as_str().cmp(user.name));
            let host = self.host_for(user.secret.host(), &mut free_hosts, &mut change);
            let id = match known {
                Ok(at) => self.update(before[at], user, host, &mut change),
                Err(_) => self.add(user, host, free.pop()),
            };
            change.added += usize::from(known.is_err());
            is_configured.resize(self.list.len(), false);
            is_configured[id.index()] = true;
            self.sorted.push(id);
        }
        for id in before.into_iter().filter(|id| !is_configured[id.index()]) {
            self.get_mut(id).enabled = false;
            change.removed += 1;
            change.revoked.push(id);
        }
        self.sort_hosts(&is_configured, &mut change);
        self.hints.retain(self.sorted.len(), |id| is_configured[id.index()]);
        change
    }

    fn update(
        &mut self,
        id: UserId,
        configured: ConfiguredUser<'_>,
        host: HostId,
        change: &mut ReloadChange,
    ) -> UserId {
        let user = self.get_mut(id);
        let is_rotated = user.key != *configured.secret.key() || user.host != host;
        if is_rotated {
            user.key = *configured.secret.key();
            user.hello_key = HelloKey::new(configured.secret.key());
            user.host = host;
        }
        let was_enabled = std::mem::replace(&mut user.enabled, configured.enabled);
        if is_rotated || was_enabled && !configured.enabled {
            change.revoked.push(id);
        }
        change.changed += usize::from(is_rotated || was_enabled != configured.enabled);
        id
    }

    fn add(&mut self, configured: ConfiguredUser<'_>, host: HostId, free: Option<usize>) -> UserId {
        let user = User {
            name: configured.name.to_owned(),
            key: *configured.secret.key(),
            hello_key: HelloKey::new(configured.secret.key()),
            host,
            enabled: configured.enabled,
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

    /// The id of the host with this name; a new host reuses a free id.
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

    /// Assigns the users to their hosts. Users who stay at a host keep their order; new ones
    /// follow.
    fn sort_hosts(&mut self, is_configured: &[bool], change: &mut ReloadChange) {
        let Self { list, hosts, sorted, .. } = self;
        let mut is_placed = vec![false; list.len()];
        for (at, host) in hosts.iter_mut().enumerate() {
            let was_named = !host.order.is_empty();
            host.order.retain(|id| {
                let index = id.index();
                let stays =
                    is_configured[index] && list[index].host.index() == at && !is_placed[index];
                is_placed[index] |= stays;
                stays
            });
            if was_named && host.order.is_empty() {
                change.removed_hosts.push(HostId(index(at)));
            }
        }
        for id in sorted.iter().filter(|id| !is_placed[id.index()]) {
            hosts[list[id.index()].host.index()].order.push(*id);
        }
        change.removed_hosts.retain(|id| hosts[id.index()].order.is_empty());
    }

    /// The users in the config with their live connections, in ascending byte order of the names.
    pub fn iter(&self) -> impl Iterator<Item = (&User, u32)> {
        self.ids().map(|id| (self.get(id), self.connections[id.index()]))
    }

    /// The ids of the users in the config, in ascending byte order of the names.
    pub fn ids(&self) -> impl Iterator<Item = UserId> + '_ {
        self.sorted.iter().copied()
    }

    /// The user at this place of [`Users::ids`], for work in steps. Places change only on a reload.
    pub fn nth(&self, at: usize) -> Option<UserId> {
        self.sorted.get(at).copied()
    }

    /// Looks a user up by name.
    pub fn find(&self, name: &str) -> Option<UserId> {
        let at = self.sorted.binary_search_by(|id| self.get(*id).name.as_str().cmp(name));
        at.ok().map(|at| self.sorted[at])
    }

    /// The user with this id.
    pub fn get(&self, id: UserId) -> &User {
        &self.list[id.index()]
    }

    /// The user with this id, to change the counters.
    pub fn get_mut(&mut self, id: UserId) -> &mut User {
        &mut self.list[id.index()]
    }

    /// Whether this user is in the current config.
    pub fn is_configured(&self, id: UserId) -> bool {
        self.find(self.get(id).name()) == Some(id)
    }

    /// Live connections, indexed by [`Users::position`].
    pub fn connections(&self) -> &[u32] {
        &self.connections
    }

    /// Live connections of one user.
    pub fn connections_of(&self, id: UserId) -> u32 {
        self.connections[id.index()]
    }

    /// The sum of [`Users::connections`].
    pub fn total_connections(&self) -> u32 {
        self.total_connections
    }

    /// The index of a user in [`Users::connections`].
    pub fn position(&self, id: UserId) -> usize {
        id.index()
    }

    /// The host that equals this SNI byte for byte.
    pub fn find_host(&self, sni: &[u8]) -> Option<HostId> {
        let is_it = |host: &Host| host.name == sni && !host.order.is_empty();
        self.hosts.iter().position(is_it).map(|at| HostId(index(at)))
    }

    /// The host of the first user by name: the front of clients without a known SNI.
    pub fn first_host(&self) -> HostId {
        self.sorted.first().map_or(HostId(0), |id| self.get(*id).host)
    }

    /// Every distinct host of the secrets.
    pub fn hosts(&self) -> impl Iterator<Item = HostId> + '_ {
        let named = self.hosts.iter().enumerate().filter(|(_, host)| !host.order.is_empty());
        named.map(|(at, _)| HostId(index(at)))
    }

    /// The name of a host, as in the secrets.
    pub fn host_name(&self, id: HostId) -> &[u8] {
        &self.hosts[id.index()].name
    }

    /// The users whose keys to try on a hello for `host` from `addr`: first those last admitted
    /// from that address, then the others of the host, most recently admitted first. Each user
    /// once.
    pub fn candidates(&self, host: HostId, addr: IpAddr) -> impl Iterator<Item = UserId> + '_ {
        let hinted = self.hints.get(addr);
        let known = hinted.into_iter().flatten().filter(move |id| self.get(*id).host == host);
        let others = self.hosts[host.index()].order.iter().copied();
        known.chain(others.filter(move |id| !hinted.contains(&Some(*id))))
    }

    /// The users whose keys to try on a hello from `addr` that names no host, the most likely ones
    /// first: those last admitted from that address, then the first ones of each host in turn. Each
    /// user once.
    pub fn candidates_of_all(&self, addr: IpAddr) -> impl Iterator<Item = UserId> + '_ {
        let hinted = self.hints.get(addr);
        let longest = self.hosts.iter().map(|host| host.order.len()).max().unwrap_or(0);
        let others = (0..longest)
            .flat_map(|at| self.hosts.iter().filter_map(move |host| host.order.get(at).copied()));
        hinted.into_iter().flatten().chain(others.filter(move |id| !hinted.contains(&Some(*id))))
    }

    /// Whether a user was admitted from this address lately.
    pub fn is_known(&self, addr: IpAddr) -> bool {
        self.hints.get(addr).iter().any(Option::is_some)
    }

    /// Counts a new session, and moves the user to the front of the orders in which keys are tried.
    pub fn add_session(&mut self, id: UserId, addr: IpAddr, now_ms: u64) {
        self.connections[id.index()] += 1;
        self.total_connections += 1;
        self.get_mut(id).last_seen_ms = Some(now_ms);
        self.hints.remember(addr, id);
        let host = self.get(id).host;
        let order = &mut self.hosts[host.index()].order;
        if let Some(at) = order.iter().position(|other| *other == id) {
            order[..=at].rotate_right(1);
        }
    }

    /// Counts the end of a session.
    pub fn remove_session(&mut self, id: UserId) {
        let connections = &mut self.connections[id.index()];
        debug_assert!(*connections > 0 && self.total_connections > 0);
        *connections = connections.saturating_sub(1);
        self.total_connections = self.total_connections.saturating_sub(1);
    }
}

/// The users last admitted from an address: a direct-mapped table with a few users per address,
/// since a family shares one. A collision only costs a few HMACs.
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
    /// Sizes the table for `users` users and drops those who are not in the config.
    fn retain(&mut self, users: usize, is_configured: impl Fn(UserId) -> bool) {
        // The table grows with the number of users, within bounds.
        let slots = if users == 0 { 0 } else { (users * 4).next_power_of_two().clamp(16, 1024) };
        if slots != self.slots.len() {
            self.slots = vec![AddressHint::default(); slots];
        }
        for user in self.slots.iter_mut().flat_map(|hint| &mut hint.users) {
            *user = user.filter(|id| is_configured(*id));
        }
    }

    fn slot(&self, addr: IpAddr) -> Option<(usize, u32)> {
        let hash = self.hash.hash_one(addr);
        let slot = (hash as usize).checked_rem(self.slots.len())?;
        Some((slot, (hash >> 32) as u32))
    }

    fn get(&self, addr: IpAddr) -> [Option<UserId>; HINTED] {
        match self.slot(addr) {
            Some((slot, tag)) if self.slots[slot].tag == tag => self.slots[slot].users,
            _ => [None; HINTED],
        }
    }

    fn remember(&mut self, addr: IpAddr, id: UserId) {
        let Some((slot, tag)) = self.slot(addr) else { return };
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
    assert!(len <= usize::from(u16::MAX), "the size limit of the config file bounds the users");
    len as u16
}

#[cfg(test)]
mod tests;

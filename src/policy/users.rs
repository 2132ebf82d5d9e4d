//! The people: names, keys, plain counters, and the order in which their keys are tried.
//!
//! One thread owns this table, so a counter is a plain `u64` and a user is an index. Secrets are
//! bound to their host: only users whose host equals the SNI are candidates for a hello.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::net::IpAddr;

use crate::proto::client_hello::HelloKey;
use crate::proto::secret::Secret;

/// A user, as an index into [`Users`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
    /// Payload bytes from the client that have left towards Telegram.
    pub bytes_in: u64,
    /// Payload bytes from Telegram that have left towards the client.
    pub bytes_out: u64,
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
}

/// Everybody, in ascending byte order of the names.
pub struct Users {
    list: Vec<User>,
    connections: Vec<u32>,
    live: u32,
    hosts: Vec<Host>,
    hints: Hints,
}

struct Host {
    name: Vec<u8>,
    /// Everybody of this host, most recently admitted first.
    order: Vec<UserId>,
}

impl Users {
    /// Builds the table from users in ascending byte order of their names.
    ///
    /// # Panics
    /// When there are more than 65,535 users, which a config file of the permitted size cannot
    /// hold, or none at all, which the config refuses.
    pub fn new<'a>(people: impl Iterator<Item = (&'a str, &'a Secret)>) -> Self {
        let mut hosts: Vec<Host> = Vec::new();
        let mut list: Vec<User> = Vec::new();
        for (name, secret) in people {
            let id = UserId(index(list.len()));
            let host = hosts.iter().position(|h| h.name == secret.host()).unwrap_or_else(|| {
                hosts.push(Host { name: secret.host().to_vec(), order: Vec::new() });
                hosts.len() - 1
            });
            hosts[host].order.push(id);
            list.push(User {
                name: name.to_owned(),
                key: *secret.key(),
                hello_key: HelloKey::new(secret.key()),
                host: HostId(index(host)),
                bytes_in: 0,
                bytes_out: 0,
                last_seen_ms: None,
            });
        }
        assert!(!list.is_empty(), "the config guarantees at least one user");
        let hints = Hints::new(list.len());
        Self { connections: vec![0; list.len()], live: 0, list, hosts, hints }
    }

    /// Everybody in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&User, u32)> {
        self.list.iter().zip(self.connections.iter().copied())
    }

    /// The record of one user.
    pub fn get(&self, id: UserId) -> &User {
        &self.list[usize::from(id.0)]
    }

    /// The record of one user, to count on.
    pub fn get_mut(&mut self, id: UserId) -> &mut User {
        &mut self.list[usize::from(id.0)]
    }

    /// Live connections per user, in the order of the names.
    pub fn connections(&self) -> &[u32] {
        &self.connections
    }

    /// The sum of [`Users::connections`].
    pub fn live(&self) -> u32 {
        self.live
    }

    /// The position of a user in [`Users::connections`].
    pub fn position(&self, id: UserId) -> usize {
        usize::from(id.0)
    }

    /// The host that equals this SNI, byte for byte.
    pub fn host_named(&self, sni: &[u8]) -> Option<HostId> {
        self.hosts.iter().position(|h| h.name == sni).map(|i| HostId(index(i)))
    }

    /// The host of the first user by name: where strangers without a known SNI go.
    pub fn first_host(&self) -> HostId {
        self.list[0].host
    }

    /// Every distinct host.
    pub fn hosts(&self) -> impl ExactSizeIterator<Item = HostId> + use<> {
        (0..index(self.hosts.len())).map(HostId)
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
    pub fn admitted(&mut self, id: UserId, addr: IpAddr, now_ms: u64) {
        self.connections[usize::from(id.0)] += 1;
        self.live += 1;
        self.get_mut(id).last_seen_ms = Some(now_ms);
        self.hints.remember(addr, id);
        let host = self.get(id).host;
        let order = &mut self.hosts[usize::from(host.0)].order;
        if let Some(at) = order.iter().position(|other| *other == id) {
            order[..=at].rotate_right(1);
        }
    }

    /// Counts a session out.
    pub fn left(&mut self, id: UserId) {
        let connections = &mut self.connections[usize::from(id.0)];
        debug_assert!(*connections > 0 && self.live > 0);
        *connections = connections.saturating_sub(1);
        self.live = self.live.saturating_sub(1);
    }
}

/// Which users were last admitted from an address: a direct-mapped table of a few users per
/// address, since a family sits behind one. A collision only costs a few HMACs.
struct Hints {
    slots: Vec<Hint>,
    hash: RandomState,
}

#[derive(Clone, Copy, Default)]
struct Hint {
    tag: u32,
    users: [Option<UserId>; HINTED],
}

impl Hints {
    fn new(users: usize) -> Self {
        // A lone user needs no hint; the table grows with the number of people, within bounds.
        let slots = if users < 2 { 0 } else { (users * 4).next_power_of_two().clamp(16, 1024) };
        Self { slots: vec![Hint::default(); slots], hash: RandomState::new() }
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
            *hint = Hint { tag, users: [None; HINTED] };
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
mod tests {
    use super::*;

    fn people(hosts: &[(&str, &str)]) -> Users {
        let secrets: Vec<(String, Secret)> = hosts
            .iter()
            .enumerate()
            .map(|(i, (name, host))| {
                (name.to_string(), Secret::new([i as u8 + 1; 16], host.as_bytes()).unwrap())
            })
            .collect();
        Users::new(secrets.iter().map(|(n, s)| (n.as_str(), s)))
    }

    fn names(users: &Users, host: HostId, addr: IpAddr) -> Vec<String> {
        users.candidates(host, addr).map(|id| users.get(id).name().to_owned()).collect()
    }

    const HOME: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    #[test]
    fn only_users_of_the_host_are_candidates() {
        let users = people(&[("a", "one"), ("b", "two"), ("c", "one")]);
        let one = users.host_named(b"one").unwrap();
        assert_eq!(names(&users, one, HOME), ["a", "c"]);
        assert!(users.host_named(b"three").is_none());
        assert_eq!(users.host_name(users.first_host()), b"one");
    }

    #[test]
    fn the_last_user_of_the_address_comes_first_then_the_most_recent() {
        let mut users = people(&[("a", "h"), ("b", "h"), ("c", "h"), ("d", "h")]);
        let host = users.first_host();
        let ids: Vec<UserId> = users.candidates(host, HOME).collect();
        // An address that does not share HOME's place in the table, whatever the hash's key.
        let place = |addr| users.hints.place(addr).map(|(slot, _)| slot);
        let away = (1..=255).map(|last| IpAddr::from([198, 51, 100, last]));
        let away = away.into_iter().find(|addr| place(*addr) != place(HOME)).unwrap();
        users.admitted(ids[1], HOME, 1);
        users.admitted(ids[3], away, 2);
        assert_eq!(names(&users, host, HOME), ["b", "d", "a", "c"]);
        assert_eq!(names(&users, host, away), ["d", "b", "a", "c"]);
        users.admitted(ids[2], HOME, 3);
        assert_eq!(names(&users, host, HOME), ["c", "b", "d", "a"]);
    }

    #[test]
    fn counts_return_to_zero() {
        let mut users = people(&[("a", "h"), ("b", "h")]);
        let ids: Vec<UserId> = users.candidates(users.first_host(), HOME).collect();
        users.admitted(ids[0], HOME, 1);
        users.admitted(ids[0], HOME, 1);
        users.admitted(ids[1], HOME, 1);
        assert_eq!((users.connections(), users.live()), (&[2, 1][..], 3));
        users.left(ids[0]);
        users.left(ids[0]);
        users.left(ids[1]);
        assert_eq!((users.connections(), users.live()), (&[0, 0][..], 0));
    }
}

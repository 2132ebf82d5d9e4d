//! A flight recorder: a bounded list of refused connections and broken sessions. A repeated
//! incident is counted, not added. When the list is full, the user with most incidents loses the
//! oldest one, so that a noisy user cannot displace the others. The texts for the operator are in
//! `cause.rs`.

use std::net::{IpAddr, SocketAddr};

use crate::accounts::users::UserId;
use crate::proto::socks5::SocksFault;
use crate::util::client_prefix::ClientPrefix;
use crate::util::order::sorted;

pub use cause::Cause;

mod cause;

/// The latest refusals and broken sessions.
#[derive(Default)]
pub struct Recorder {
    entries: Vec<Incident>,
}

/// Something that happened once or several times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incident {
    /// The user; `None` = an unauthenticated client.
    pub user: Option<UserId>,
    /// What happened.
    pub cause: Cause,
    /// What distinguishes it from other incidents of the same cause, from the last occurrence.
    pub detail: Detail,
    /// Number of occurrences.
    pub count: u32,
    /// Time of the first occurrence, in milliseconds since start.
    pub first_ms: u64,
    /// Time of the last occurrence, in milliseconds since start.
    pub last_ms: u64,
}

/// What distinguishes incidents of one cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// Nothing.
    None,
    /// How far the client's clock is ahead, in seconds (negative: behind).
    ClockOffset(i32),
    /// The data centre that the client asked for.
    Dc(u16),
    /// The address that could not be dialled, and errno(3); 0 = it did not answer.
    DialFailed(SocketAddr, i32),
    /// The address that a proxy could not reach, the proxy's reply, and the proxy's number as in
    /// [`Detail::Upstream`].
    ViaProxy(SocketAddr, SocksFault, u32),
    /// The address that took the connection, and sent no byte.
    NoByte(SocketAddr),
    /// The index of the upstream in `network.proxies`.
    Upstream(u32),
    /// The network of an unauthenticated client.
    Network(ClientPrefix),
    /// The address of a relay, or of a client that acts as one.
    Sender(IpAddr),
}

impl Detail {
    /// The network of an unauthenticated client's address.
    pub fn network(addr: IpAddr) -> Self {
        Self::Network(ClientPrefix::of(addr))
    }
}

impl Recorder {
    /// Records an incident at `now_ms`. Returns whether it is a new one.
    pub fn note(
        &mut self,
        user: Option<UserId>,
        cause: Cause,
        detail: Detail,
        now_ms: u64,
    ) -> bool {
        let is_same =
            |e: &Incident| e.user == user && e.cause == cause && e.detail.merges_with(&detail);
        if let Some(entry) = self.entries.iter_mut().find(|entry| is_same(entry)) {
            entry.count = entry.count.saturating_add(1);
            (entry.last_ms, entry.detail) = (now_ms, detail);
            return false;
        }
        if self.entries.len() >= INCIDENTS_MAX {
            self.make_room();
        }
        if self.entries.capacity() == self.entries.len() {
            // A vector would grow beyond the bound by doubling.
            self.entries.reserve_exact((INCIDENTS_MAX - self.entries.len()).min(GROWTH));
        }
        let (first_ms, last_ms) = (now_ms, now_ms);
        self.entries.push(Incident { user, cause, detail, count: 1, first_ms, last_ms });
        true
    }

    /// All incidents, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Incident> {
        self.entries.iter()
    }

    /// The incidents of a user, or of unauthenticated clients (`None`), the latest first.
    pub fn incidents_of(&self, user: Option<UserId>) -> Vec<&Incident> {
        let found: Vec<&Incident> = self.entries.iter().filter(|e| e.user == user).collect();
        sorted(&found, &|a, b| b.last_ms.cmp(&a.last_ms))
    }

    /// Drops the incidents of users for whom `is_configured` is false.
    pub fn retain_users(&mut self, is_configured: impl Fn(UserId) -> bool) {
        self.entries.retain(|entry| entry.user.is_none_or(&is_configured));
    }

    /// Drops the oldest incident of the user with most of them. Unauthenticated clients, who can
    /// cause incidents on purpose, lose theirs first once they have [`UNAUTHENTICATED_MAX`].
    fn make_room(&mut self) {
        let mut holders: Vec<Option<UserId>> = self.entries.iter().map(|e| e.user).collect();
        holders.sort_unstable();
        let unauthenticated = holders.partition_point(Option::is_none);
        let runs = || holders.chunk_by(|one, next| one == next);
        let most = runs().map(<[_]>::len).max().unwrap_or(0);
        // Sorted, since the runs are.
        let noisy: Vec<Option<UserId>> = match unauthenticated >= UNAUTHENTICATED_MAX {
            true => vec![None],
            false => {
                runs().filter(|run| run.len() == most).flat_map(<[_]>::first).copied().collect()
            }
        };
        let entries = self.entries.iter().enumerate();
        let candidates = entries.filter(|(_, entry)| noisy.binary_search(&entry.user).is_ok());
        if let Some((at, _)) = candidates.min_by_key(|(_, entry)| entry.last_ms) {
            self.entries.swap_remove(at);
        }
    }
}

impl Detail {
    /// Whether two details belong to one incident. Clock offsets do, although they differ by a
    /// second or two from one hello to the next.
    fn merges_with(&self, other: &Self) -> bool {
        matches!((self, other), (Self::ClockOffset(_), Self::ClockOffset(_))) || self == other
    }
}

/// Most incidents: 14 KB on 64-bit machines.
const INCIDENTS_MAX: usize = 224;
/// Incidents that unauthenticated clients can keep when the recorder is full.
const UNAUTHENTICATED_MAX: usize = 64;
const GROWTH: usize = 32;
const _: () = assert!(INCIDENTS_MAX * size_of::<Incident>() <= 16 << 10);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accounts::users::{ConfiguredUser, Users};
    use crate::proto::secret::Secret;

    fn ids(count: u8) -> Vec<UserId> {
        let secret = Secret::new([1; 16], b"h").unwrap();
        let names: Vec<String> = (0..count).map(|at| format!("u{at:03}")).collect();
        let configured =
            names.iter().map(|name| ConfiguredUser { name, secret: &secret, enabled: true });
        let users = Users::new(configured);
        users.ids().collect()
    }

    fn from(at: u32) -> Detail {
        Detail::network(IpAddr::V4((at << 8 | 77).into()))
    }

    #[test]
    fn repeated_incidents_are_counted_and_the_latest_comes_first() {
        let mut recorder = Recorder::default();
        let user = Some(ids(1)[0]);
        recorder.note(user, Cause::ClockOff, Detail::ClockOffset(300), 10);
        recorder.note(user, Cause::Idle, Detail::None, 20);
        recorder.note(user, Cause::ClockOff, Detail::ClockOffset(301), 30);
        recorder.note(None, Cause::WrongKey, from(1), 40);
        let of = recorder.incidents_of(user);
        assert_eq!(of.len(), 2);
        assert_eq!(
            (of[0].cause, of[0].count, of[0].detail),
            (Cause::ClockOff, 2, Detail::ClockOffset(301))
        );
        assert_eq!((of[0].first_ms, of[0].last_ms), (10, 30));
        assert_eq!(of[1].cause, Cause::Idle);
        assert_eq!(recorder.incidents_of(None)[0].detail, from(1));
    }

    #[test]
    fn many_unauthenticated_clients_displace_no_user_and_memory_is_bounded() {
        let mut recorder = Recorder::default();
        let users = ids(100);
        for (at, user) in users.iter().enumerate() {
            recorder.note(Some(*user), Cause::Throttled, Detail::None, at as u64);
        }
        for at in 0..10_000 {
            recorder.note(None, Cause::WrongKey, from(at), 1_000 + u64::from(at));
        }
        assert!(users.iter().all(|user| recorder.incidents_of(Some(*user)).len() == 1));
        let unauthenticated = recorder.incidents_of(None);
        assert_eq!(unauthenticated.len(), INCIDENTS_MAX - 100);
        assert_eq!(unauthenticated[0].last_ms, 10_999);
        // Nor can one user displace the others.
        for port in 1..=1_000 {
            let addr = SocketAddr::from(([192, 0, 2, 1], port));
            recorder.note(
                Some(users[7]),
                Cause::DcUnreachable,
                Detail::DialFailed(addr, 111),
                20_000,
            );
        }
        assert!(users.iter().all(|user| !recorder.incidents_of(Some(*user)).is_empty()));
        assert!(recorder.entries.capacity() <= INCIDENTS_MAX);
        assert!(recorder.entries.len() <= INCIDENTS_MAX);
        recorder.retain_users(|id| id != users[7]);
        assert!(
            recorder.incidents_of(Some(users[7])).is_empty()
                && recorder.incidents_of(Some(users[8])).len() == 1
        );
    }

    #[test]
    fn a_single_user_can_fill_the_recorder() {
        let mut recorder = Recorder::default();
        let user = Some(ids(1)[0]);
        for dc in 0..u16::MAX {
            recorder.note(user, Cause::UnknownDc, Detail::Dc(dc), u64::from(dc));
        }
        assert_eq!(
            (recorder.entries.len(), recorder.entries.capacity()),
            (INCIDENTS_MAX, INCIDENTS_MAX)
        );
        assert_eq!(recorder.incidents_of(user)[0].detail, Detail::Dc(u16::MAX - 1));
    }
}

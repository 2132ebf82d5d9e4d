//! A flight recorder: why people were refused lately, and why their sessions broke. A fixed number
//! of entries; what happens again is counted, and whoever holds most makes room for the next, so
//! that one noisy party cannot push out the others. What is told about it is in `cause.rs`.

use std::net::{IpAddr, SocketAddr};

use crate::accounts::users::UserId;
use crate::proto::socks5::SocksFault;
use crate::util::client_prefix::ClientPrefix;

pub use cause::Cause;

mod cause;

/// The latest refusals and broken sessions.
#[derive(Default)]
pub struct Recorder {
    entries: Vec<Incident>,
}

/// Something that happened once or more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incident {
    /// To whom; `None` = a stranger.
    pub user: Option<UserId>,
    /// What.
    pub cause: Cause,
    /// Of which kind.
    pub detail: Detail,
    /// How often.
    pub count: u32,
    /// When first, in milliseconds since start.
    pub first_ms: u64,
    /// When last.
    pub last_ms: u64,
}

/// By what two happenings of one cause differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// By nothing.
    None,
    /// The client's clock is ahead by so many seconds (negative: behind).
    ClockOffset(i32),
    /// The data centre that was asked for.
    Dc(u16),
    /// The address that failed, and errno(3); 0 = it did not answer.
    DialFailed(SocketAddr, i32),
    /// The address that could not be reached through a proxy, and what the proxy said.
    ViaProxy(SocketAddr, SocksFault),
    /// The number of the way to Telegram.
    Upstream(u32),
    /// The network of a stranger: an address cut to /24 or /48.
    Network(ClientPrefix),
}

impl Detail {
    /// The network of an address, cut as in the log.
    pub fn network(addr: IpAddr) -> Self {
        Self::Network(ClientPrefix::of(addr))
    }
}

impl Recorder {
    /// Notes that something happened now.
    pub fn note(&mut self, user: Option<UserId>, cause: Cause, detail: Detail, now_ms: u64) {
        let is_it = |e: &Incident| e.user == user && e.cause == cause && e.detail.folds(&detail);
        if let Some(entry) = self.entries.iter_mut().find(|entry| is_it(entry)) {
            entry.count = entry.count.saturating_add(1);
            (entry.last_ms, entry.detail) = (now_ms, detail);
            return;
        }
        if self.entries.len() >= MOST {
            self.make_room();
        }
        if self.entries.capacity() == self.entries.len() {
            // Never more than the bound, whatever a vector likes to grow to.
            self.entries.reserve_exact((MOST - self.entries.len()).min(GROWTH));
        }
        let (first_ms, last_ms) = (now_ms, now_ms);
        self.entries.push(Incident { user, cause, detail, count: 1, first_ms, last_ms });
    }

    /// Everything, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Incident> {
        self.entries.iter()
    }

    /// What is known of a user, or of strangers; the latest first.
    pub fn incidents_of(&self, user: Option<UserId>) -> Vec<&Incident> {
        let mut found: Vec<&Incident> = self.entries.iter().filter(|e| e.user == user).collect();
        found.sort_by_key(|entry| std::cmp::Reverse(entry.last_ms));
        found
    }

    /// Forgets users who are not there any more.
    pub fn retain_users(&mut self, is_here: impl Fn(UserId) -> bool) {
        self.entries.retain(|entry| entry.user.is_none_or(&is_here));
    }

    /// Drops the oldest entry of whoever holds most. Strangers, who can do this on purpose, are
    /// asked first.
    fn make_room(&mut self) {
        let mut holders: Vec<Option<UserId>> = self.entries.iter().map(|e| e.user).collect();
        holders.sort_unstable();
        let strangers = holders.partition_point(Option::is_none);
        let runs = || holders.chunk_by(|one, next| one == next);
        let most = runs().map(<[_]>::len).max().unwrap_or(0);
        // Sorted, as the runs are.
        let noisy: Vec<Option<UserId>> = match strangers >= MOST_STRANGERS {
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
    /// Whether it is told in one entry with another one: clocks that are off by some other second
    /// are.
    fn folds(&self, other: &Self) -> bool {
        matches!((self, other), (Self::ClockOffset(_), Self::ClockOffset(_))) || self == other
    }
}

/// Entries at most: 14 KB on 64-bit machines.
const MOST: usize = 224;
/// Of them, those of strangers once there is no more room.
const MOST_STRANGERS: usize = 64;
const GROWTH: usize = 32;
const _: () = assert!(MOST * size_of::<Incident>() <= 16 << 10);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accounts::users::{ConfiguredUser, Users};
    use crate::proto::secret::Secret;

    fn ids(count: u8) -> Vec<UserId> {
        let secret = Secret::new([1; 16], b"h").unwrap();
        let names: Vec<String> = (0..count).map(|at| format!("u{at:03}")).collect();
        let people =
            names.iter().map(|name| ConfiguredUser { name, secret: &secret, enabled: true });
        let users = Users::new(people);
        users.ids().collect()
    }

    fn from(at: u32) -> Detail {
        Detail::network(IpAddr::V4((at << 8 | 77).into()))
    }

    #[test]
    fn what_happens_again_is_counted_and_the_latest_comes_first() {
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
    fn a_crowd_of_strangers_pushes_out_no_user_and_no_memory_is_lost() {
        let mut recorder = Recorder::default();
        let users = ids(100);
        for (at, user) in users.iter().enumerate() {
            recorder.note(Some(*user), Cause::Throttled, Detail::None, at as u64);
        }
        for at in 0..10_000 {
            recorder.note(None, Cause::WrongKey, from(at), 1_000 + u64::from(at));
        }
        assert!(users.iter().all(|user| recorder.incidents_of(Some(*user)).len() == 1));
        let strangers = recorder.incidents_of(None);
        assert_eq!(strangers.len(), MOST - 100);
        assert_eq!(strangers[0].last_ms, 10_999);
        // Nor may one user push out the others.
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
        assert!(recorder.entries.capacity() <= MOST);
        assert!(recorder.entries.len() <= MOST);
        recorder.retain_users(|id| id != users[7]);
        assert!(
            recorder.incidents_of(Some(users[7])).is_empty()
                && recorder.incidents_of(Some(users[8])).len() == 1
        );
    }
    #[test]
    fn a_lone_user_fills_the_ring_and_no_more() {
        let mut recorder = Recorder::default();
        let user = Some(ids(1)[0]);
        for dc in 0..u16::MAX {
            recorder.note(user, Cause::UnknownDc, Detail::Dc(dc), u64::from(dc));
        }
        assert_eq!((recorder.entries.len(), recorder.entries.capacity()), (MOST, MOST));
        assert_eq!(recorder.incidents_of(user)[0].detail, Detail::Dc(u16::MAX - 1));
    }
}

//! A bounded cache of host names and their addresses, with one lookup per name. Has no sockets: the
//! resolver takes the wanted names and stores the answers.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Duration;

use crate::io::clock::Tick;

/// The cache and the pending lookups.
#[derive(Default)]
pub struct DnsCache {
    /// The least recently used first.
    known: Vec<CachedName>,
    wanted: VecDeque<String>,
    waiting: Vec<PendingName>,
}

struct CachedName {
    name: String,
    /// Empty = the name has none.
    addrs: Vec<IpAddr>,
    until: Tick,
}

/// A name that is being looked up, and the tokens of the waiting callers.
struct PendingName {
    name: String,
    tokens: Vec<usize>,
}

/// The result of [`DnsCache::lookup`].
#[derive(Debug, PartialEq, Eq)]
pub enum CachedAddrs<'a> {
    /// At least one address.
    Found(&'a [IpAddr]),
    /// The caller will be woken by its token.
    Pending,
    /// The name has no address.
    Failed,
}

impl DnsCache {
    /// The addresses of a name. If they are not cached, the name is queued for the resolver, and
    /// `token` is woken when the lookup ends.
    pub fn lookup(&mut self, name: &str, token: usize, now: Tick) -> CachedAddrs<'_> {
        self.known.retain(|known| known.until > now);
        if let Some(at) = self.known.iter().position(|known| known.name == name) {
            self.known[at..].rotate_left(1);
            return match self.known.last().map(|known| known.addrs.as_slice()) {
                None | Some([]) => CachedAddrs::Failed,
                Some(addrs) => CachedAddrs::Found(addrs),
            };
        }
        match self.waiting.iter_mut().find(|wait| wait.name == name) {
            Some(wait) if wait.tokens.contains(&token) => {}
            Some(wait) => wait.tokens.push(token),
            None => {
                self.wanted.push_back(name.to_owned());
                self.waiting.push(PendingName { name: name.to_owned(), tokens: vec![token] });
            }
        }
        CachedAddrs::Pending
    }

    /// Clears the cache and queues all pending lookups again, after a change of the servers.
    pub fn restart_lookups(&mut self) {
        self.known.clear();
        self.wanted = self.waiting.iter().map(|wait| wait.name.clone()).collect();
    }

    /// The next name to look up.
    pub fn next_wanted(&mut self) -> Option<String> {
        self.wanted.pop_front()
    }

    /// Whether a name has to be looked up.
    pub fn is_wanted(&self) -> bool {
        !self.wanted.is_empty()
    }

    /// Names in the cache, expired ones included.
    pub fn count(&self) -> usize {
        self.known.len()
    }

    /// Names that are being looked up.
    pub fn pending(&self) -> usize {
        self.waiting.len()
    }

    /// Stores an answer and returns the tokens that waited for it. Addresses are cached for
    /// `ttl_s`, but at least 5 s and at most an hour. Their absence is cached for 5 s to 30 s, so
    /// that connections to a wrong name do not cost a query each.
    pub fn answer(&mut self, name: &str, addrs: Vec<IpAddr>, ttl_s: u32, now: Tick) -> Vec<usize> {
        let max = if addrs.is_empty() { NEGATIVE_TTL_MAX } else { TTL_MAX };
        let until = now + Duration::from_secs(ttl_s.into()).clamp(TTL_MIN, max);
        self.known.retain(|known| known.name != name && known.until > now);
        if self.known.len() >= NAMES_MAX {
            self.known.remove(0);
        }
        self.known.push(CachedName { name: name.to_owned(), addrs, until });
        match self.waiting.iter().position(|wait| wait.name == name) {
            Some(at) => self.waiting.swap_remove(at).tokens,
            None => Vec::new(),
        }
    }
}

/// Names in the cache.
const NAMES_MAX: usize = 256;
const TTL_MIN: Duration = Duration::from_secs(5);
const TTL_MAX: Duration = Duration::from_secs(3_600);
const NEGATIVE_TTL_MAX: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    const LOCALHOST: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[test]
    fn a_name_is_looked_up_once_and_wakes_all_that_wait() {
        let mut names = DnsCache::default();
        assert_eq!(names.lookup("a", 1, Tick(0)), CachedAddrs::Pending);
        assert_eq!(names.lookup("a", 2, Tick(0)), CachedAddrs::Pending);
        assert_eq!(names.lookup("b", 2, Tick(0)), CachedAddrs::Pending);
        assert_eq!(names.lookup("a", 2, Tick(0)), CachedAddrs::Pending);
        assert_eq!(names.next_wanted().as_deref(), Some("a"));
        assert_eq!(names.next_wanted().as_deref(), Some("b"));
        assert_eq!(names.next_wanted(), None);
        assert_eq!(names.answer("a", vec![LOCALHOST], 60, Tick(1)), [1, 2]);
        assert_eq!(names.lookup("a", 3, Tick(2)), CachedAddrs::Found(&[LOCALHOST]));
        assert_eq!(names.lookup("a", 3, Tick(60_001)), CachedAddrs::Pending);
    }

    #[test]
    fn a_failure_is_cached_for_five_seconds_and_an_absence_for_thirty() {
        let mut names = DnsCache::default();
        for (ttl_s, kept_ms) in [(0, 5_000), (30, 30_000), (86_400, 30_000)] {
            names.lookup("a", 1, Tick(0));
            names.answer("a", vec![], ttl_s, Tick(0));
            assert_eq!(names.lookup("a", 1, Tick(kept_ms - 1)), CachedAddrs::Failed);
            assert_eq!(names.lookup("a", 1, Tick(kept_ms)), CachedAddrs::Pending);
        }
    }

    #[test]
    fn a_ttl_is_at_least_five_seconds_and_at_most_an_hour() {
        let mut names = DnsCache::default();
        for (ttl_s, kept_ms) in [(0, 5_000), (60, 60_000), (u32::MAX, 3_600_000)] {
            names.answer("a", vec![LOCALHOST], ttl_s, Tick(0));
            assert_eq!(names.lookup("a", 1, Tick(kept_ms - 1)), CachedAddrs::Found(&[LOCALHOST]));
            assert_eq!(names.lookup("a", 1, Tick(kept_ms)), CachedAddrs::Pending);
        }
    }

    #[test]
    fn the_cache_is_bounded_and_drops_the_least_recently_used_name() {
        let mut names = DnsCache::default();
        for i in 0..NAMES_MAX {
            names.answer(&i.to_string(), vec![LOCALHOST], 60, Tick(0));
        }
        assert_eq!(names.lookup("0", 1, Tick(1)), CachedAddrs::Found(&[LOCALHOST]));
        names.answer("new", vec![LOCALHOST], 60, Tick(1));
        assert_eq!(names.known.len(), NAMES_MAX);
        assert_eq!(names.lookup("0", 1, Tick(1)), CachedAddrs::Found(&[LOCALHOST]));
        assert_eq!(names.lookup("1", 1, Tick(1)), CachedAddrs::Pending);
    }
}

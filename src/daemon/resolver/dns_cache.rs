//! Host names and their addresses: a bounded cache with single flight. Knows no socket; the
//! resolver takes the wanted names and brings the answers.

use std::collections::VecDeque;
use std::net::IpAddr;

use crate::io::clock::Tick;

/// The cache and who waits for it.
#[derive(Default)]
pub struct DnsCache {
    /// The least recently used first.
    known: Vec<CachedName>,
    wanted: VecDeque<String>,
    waiting: Vec<PendingName>,
}

struct CachedName {
    name: String,
    /// Empty = the name is known to have none.
    addrs: Vec<IpAddr>,
    until: Tick,
}

/// A name that is being looked for, and the tokens of those who want to know.
struct PendingName {
    name: String,
    tokens: Vec<usize>,
}

/// The answer of [`DnsCache::lookup`].
#[derive(Debug, PartialEq, Eq)]
pub enum CachedAddrs<'a> {
    /// At least one address.
    Found(&'a [IpAddr]),
    /// The caller will be woken by its token.
    Pending,
    /// No address to be had.
    Failed,
}

impl DnsCache {
    /// What is known of a name. When nothing is, it is asked for, and the token is remembered.
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

    /// Forgets what is known, and asks anew for what is being waited for: somebody else answers
    /// from now on.
    pub fn start_over(&mut self) {
        self.known.clear();
        self.wanted = self.waiting.iter().map(|wait| wait.name.clone()).collect();
    }

    /// The next name that the resolver has to find.
    pub fn next_wanted(&mut self) -> Option<String> {
        self.wanted.pop_front()
    }

    /// Whether a name has to be found.
    pub fn is_wanted(&self) -> bool {
        !self.wanted.is_empty()
    }

    /// Names in the cache, those that are about to be forgotten included.
    pub fn count(&self) -> usize {
        self.known.len()
    }

    /// Names that somebody waits for.
    pub fn wanted(&self) -> usize {
        self.waiting.len()
    }

    /// Stores an answer (no addresses = none to be had) and returns who waited for it. Addresses
    /// are kept for `ttl_s`, but at least 5 s and at most an hour; their absence at least 5 s
    /// and at most 30 s, so that a visit to a bad name does not cost a question each time.
    pub fn answer(&mut self, name: &str, addrs: Vec<IpAddr>, ttl_s: u32, now: Tick) -> Vec<usize> {
        let most_ms = if addrs.is_empty() { NEGATIVE_MOST_MS } else { MOST_MS };
        let until = Tick(now.0 + (u64::from(ttl_s) * 1000).clamp(LEAST_MS, most_ms));
        self.known.retain(|known| known.name != name && known.until > now);
        if self.known.len() >= MOST {
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
const MOST: usize = 256;
const LEAST_MS: u64 = 5_000;
const MOST_MS: u64 = 3_600_000;
const NEGATIVE_MOST_MS: u64 = 30_000;

#[cfg(test)]
mod tests {
    use super::*;

    const HOME: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[test]
    fn a_name_is_asked_for_once_and_wakes_all_who_wait() {
        let mut names = DnsCache::default();
        assert_eq!(names.lookup("a", 1, Tick(0)), CachedAddrs::Pending);
        assert_eq!(names.lookup("a", 2, Tick(0)), CachedAddrs::Pending);
        assert_eq!(names.lookup("b", 2, Tick(0)), CachedAddrs::Pending);
        assert_eq!(names.lookup("a", 2, Tick(0)), CachedAddrs::Pending);
        assert_eq!(names.next_wanted().as_deref(), Some("a"));
        assert_eq!(names.next_wanted().as_deref(), Some("b"));
        assert_eq!(names.next_wanted(), None);
        assert_eq!(names.answer("a", vec![HOME], 60, Tick(1)), [1, 2]);
        assert_eq!(names.lookup("a", 3, Tick(2)), CachedAddrs::Found(&[HOME]));
        assert_eq!(names.lookup("a", 3, Tick(60_001)), CachedAddrs::Pending);
    }

    #[test]
    fn a_failure_is_remembered_for_five_seconds_and_an_absence_for_thirty() {
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
            names.answer("a", vec![HOME], ttl_s, Tick(0));
            assert_eq!(names.lookup("a", 1, Tick(kept_ms - 1)), CachedAddrs::Found(&[HOME]));
            assert_eq!(names.lookup("a", 1, Tick(kept_ms)), CachedAddrs::Pending);
        }
    }

    #[test]
    fn the_cache_is_bounded_and_the_least_recently_used_name_leaves() {
        let mut names = DnsCache::default();
        for i in 0..MOST {
            names.answer(&i.to_string(), vec![HOME], 60, Tick(0));
        }
        assert_eq!(names.lookup("0", 1, Tick(1)), CachedAddrs::Found(&[HOME]));
        names.answer("new", vec![HOME], 60, Tick(1));
        assert_eq!(names.known.len(), MOST);
        assert_eq!(names.lookup("0", 1, Tick(1)), CachedAddrs::Found(&[HOME]));
        assert_eq!(names.lookup("1", 1, Tick(1)), CachedAddrs::Pending);
    }
}

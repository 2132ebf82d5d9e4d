//! A bounded cache of host names and their addresses, with one lookup per name. Has no sockets: the
//! resolver takes the wanted names and stores the answers.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Duration;

use crate::daemon::resolver::lookup::LookupFault;
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
    found: Result<Vec<IpAddr>, LookupFault>,
    until: Tick,
    /// The addresses have expired and could not be confirmed; they serve on (RFC 8767).
    is_stale: bool,
}

impl CachedName {
    /// Whether it is of use: it has not expired, or its addresses can serve on.
    fn is_kept(&self, now: Tick) -> bool {
        self.until > now || self.found.is_ok()
    }
}

/// A name that is being looked up, and the tokens of the waiting callers.
struct PendingName {
    name: String,
    since: Tick,
    tokens: Vec<usize>,
}

impl PendingName {
    fn is_late(&self, now: Tick) -> bool {
        now >= self.since + CLIENT_RESPONSE
    }
}

/// The result of [`DnsCache::lookup`].
#[derive(Debug, PartialEq, Eq)]
pub enum CachedAddrs<'a> {
    /// At least one address.
    Found(&'a [IpAddr]),
    /// The caller will be woken by its token.
    Pending,
    /// No address was found.
    Failed(&'a LookupFault),
}

impl DnsCache {
    /// The addresses of a name. If they are not cached, the name is queued for the resolver, and
    /// `token` is woken when the lookup ends. While no server answers in time, the last addresses
    /// are returned.
    pub fn lookup(&mut self, name: &str, token: usize, now: Tick) -> CachedAddrs<'_> {
        self.known.retain(|known| known.is_kept(now));
        if let Some(at) = self.known.iter().position(|known| known.name == name) {
            self.known[at..].rotate_left(1);
        }
        let known = self.known.last().filter(|known| known.name == name);
        let late = self.waiting.iter().any(|wait| wait.name == name && wait.is_late(now));
        let is_stale = |known: &CachedName| known.is_stale || late && known.found.is_ok();
        let state = known.map(|known| (known.until > now, is_stale(known)));
        if matches!(state, None | Some((false, _))) {
            let token = (state != Some((false, true))).then_some(token);
            self.request(name, token, now);
        }
        match (state, self.known.last().map(|known| &known.found)) {
            (None | Some((false, false)), _) | (_, None) => CachedAddrs::Pending,
            (_, Some(Err(fault))) => CachedAddrs::Failed(fault),
            (_, Some(Ok(addrs))) => CachedAddrs::Found(addrs),
        }
    }

    /// When the expired addresses of a name that is being looked up serve at the earliest.
    pub fn stale_at(&self, now: Tick) -> Option<Tick> {
        let is_old = |wait: &&PendingName| matches!(self.peek(&wait.name), Some(Ok(_)));
        let at = self.waiting.iter().filter(is_old).map(|wait| wait.since + CLIENT_RESPONSE);
        at.filter(|at| *at > now).min()
    }

    /// Queues a name that is not known; no caller waits for it.
    pub fn prefetch(&mut self, name: &str) {
        if name.parse::<IpAddr>().is_err() && self.peek(name).is_none() {
            self.request(name, None, Tick(0));
        }
    }

    /// The latest result for a name, also an expired one.
    pub fn peek(&self, name: &str) -> Option<&Result<Vec<IpAddr>, LookupFault>> {
        self.known.iter().find(|known| known.name == name).map(|known| &known.found)
    }

    /// Whether the last lookup of a name failed and its old addresses serve.
    pub fn is_stale(&self, name: &str) -> bool {
        self.known.iter().any(|known| known.is_stale && known.name == name)
    }

    /// Queues a name, unless it is being looked up, and notes who waits for it.
    fn request(&mut self, name: &str, token: Option<usize>, since: Tick) {
        match self.waiting.iter_mut().find(|wait| wait.name == name) {
            Some(wait) => {
                let is_new = |token: &usize| !wait.tokens.contains(token);
                wait.tokens.extend(token.filter(is_new));
            }
            None => {
                self.wanted.push_back(name.to_owned());
                let tokens = token.into_iter().collect();
                self.waiting.push(PendingName { name: name.to_owned(), since, tokens });
            }
        }
    }

    /// Lets the cache expire and queues all pending lookups again, after a change of the servers.
    pub fn restart_lookups(&mut self) {
        for known in &mut self.known {
            (known.until, known.is_stale) = (Tick(0), false);
        }
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
    /// that connections to a wrong name do not cost a query each. If no server has answered
    /// (`ttl_s` is 0) or the name exists without an address, as broken servers say, the addresses
    /// that are known serve on, and the name is asked for again after 30 s.
    pub fn answer(
        &mut self,
        name: &str,
        mut found: Result<Vec<IpAddr>, LookupFault>,
        ttl_s: u32,
        now: Tick,
    ) -> Vec<usize> {
        let max = if found.is_err() { NEGATIVE_TTL_MAX } else { TTL_MAX };
        let mut until = now + Duration::from_secs(ttl_s.into()).clamp(TTL_MIN, max);
        let mut is_stale = false;
        if let Some(at) = self.known.iter().position(|known| known.name == name) {
            let old = self.known.remove(at);
            let is_gone = ttl_s > 0 && found == Err(LookupFault::NoSuchName);
            if found.is_err() && !is_gone && old.found.is_ok() {
                (found, until, is_stale) = (old.found, now + STALE_TTL, true);
            }
        }
        self.known.retain(|known| known.is_kept(now));
        if self.known.len() >= NAMES_MAX {
            self.known.remove(0);
        }
        self.known.push(CachedName { name: name.to_owned(), found, until, is_stale });
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
/// How long a caller waits before old addresses serve (RFC 8767 5, client response timer).
const CLIENT_RESPONSE: Duration = Duration::from_millis(1_800);
/// Between two lookups of a name whose servers do not answer (RFC 8767, section 5).
const STALE_TTL: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    const GONE: LookupFault = LookupFault::NoSuchName;
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
        assert_eq!(names.answer("a", Ok(vec![LOCALHOST]), 60, Tick(1)), [1, 2]);
        assert_eq!(names.lookup("a", 3, Tick(2)), CachedAddrs::Found(&[LOCALHOST]));
        assert_eq!(names.lookup("a", 3, Tick(60_001)), CachedAddrs::Pending);
    }

    #[test]
    fn a_failure_is_cached_for_five_seconds_and_an_absence_for_thirty() {
        let mut names = DnsCache::default();
        for (ttl_s, kept_ms) in [(0, 5_000), (30, 30_000), (86_400, 30_000)] {
            names.lookup("a", 1, Tick(0));
            names.answer("a", Err(GONE), ttl_s, Tick(0));
            assert_eq!(names.lookup("a", 1, Tick(kept_ms - 1)), CachedAddrs::Failed(&GONE));
            assert_eq!(names.lookup("a", 1, Tick(kept_ms)), CachedAddrs::Pending);
        }
    }

    #[test]
    fn addresses_serve_on_while_no_server_answers_until_the_name_is_gone() {
        let mut names = DnsCache::default();
        names.answer("a", Ok(vec![LOCALHOST]), 60, Tick(0));
        assert_eq!(names.lookup("a", 1, Tick(60_000)), CachedAddrs::Pending);
        assert_eq!(names.next_wanted().as_deref(), Some("a"));
        assert_eq!(names.answer("a", Err(GONE), 0, Tick(68_000)), [1]);
        let stale = CachedAddrs::Found(&[LOCALHOST]);
        assert_eq!(names.lookup("a", 1, Tick(68_000)), stale);
        assert_eq!(names.lookup("a", 1, Tick(97_999)), stale);
        assert!(!names.is_wanted());
        assert_eq!(names.lookup("a", 1, Tick(98_000)), stale, "and it is asked for meanwhile");
        assert_eq!(names.lookup("a", 2, Tick(98_001)), stale);
        assert_eq!(names.next_wanted().as_deref(), Some("a"));
        assert!(names.answer("a", Err(GONE), 30, Tick(98_002)).is_empty());
        assert_eq!(
            names.lookup("a", 1, Tick(98_003)),
            CachedAddrs::Failed(&GONE),
            "the name is gone"
        );
    }

    #[test]
    fn old_addresses_serve_while_a_server_is_slow_and_after_it_says_that_there_is_none() {
        let mut names = DnsCache::default();
        names.answer("a", Ok(vec![LOCALHOST]), 60, Tick(0));
        assert_eq!(names.lookup("a", 1, Tick(60_000)), CachedAddrs::Pending);
        assert_eq!(names.stale_at(Tick(60_000)), Some(Tick(61_800)));
        assert_eq!(names.lookup("a", 2, Tick(61_799)), CachedAddrs::Pending);
        let stale = CachedAddrs::Found(&[LOCALHOST]);
        assert_eq!(names.lookup("a", 3, Tick(61_800)), stale);
        assert_eq!(names.stale_at(Tick(61_800)), None);
        assert_eq!(names.lookup("b", 4, Tick(61_800)), CachedAddrs::Pending);
        assert_eq!(names.lookup("b", 4, Tick(65_000)), CachedAddrs::Pending, "never known");
        let empty = Err(LookupFault::NoAddress);
        assert!(!names.is_stale("a"));
        assert_eq!(names.answer("a", empty.clone(), 30, Tick(66_000)), [1, 2]);
        assert!(names.is_stale("a"));
        assert_eq!(names.lookup("a", 1, Tick(66_000)), stale);
        names.answer("b", empty, 30, Tick(66_000));
        let none = CachedAddrs::Failed(&LookupFault::NoAddress);
        assert_eq!(names.lookup("b", 1, Tick(66_000)), none);
    }

    #[test]
    fn after_a_change_of_the_servers_a_name_is_looked_up_again() {
        let mut names = DnsCache::default();
        names.answer("a", Ok(vec![LOCALHOST]), 60, Tick(0));
        names.restart_lookups();
        assert_eq!(names.lookup("a", 1, Tick(1)), CachedAddrs::Pending);
        names.answer("a", Err(GONE), 0, Tick(2));
        assert_eq!(names.lookup("a", 1, Tick(3)), CachedAddrs::Found(&[LOCALHOST]));
    }

    #[test]
    fn a_ttl_is_at_least_five_seconds_and_at_most_an_hour() {
        let mut names = DnsCache::default();
        for (ttl_s, kept_ms) in [(0, 5_000), (60, 60_000), (u32::MAX, 3_600_000)] {
            names.answer("a", Ok(vec![LOCALHOST]), ttl_s, Tick(0));
            assert_eq!(names.lookup("a", 1, Tick(kept_ms - 1)), CachedAddrs::Found(&[LOCALHOST]));
            assert_eq!(names.lookup("a", 1, Tick(kept_ms)), CachedAddrs::Pending);
        }
    }

    #[test]
    fn the_cache_is_bounded_and_drops_the_least_recently_used_name() {
        let mut names = DnsCache::default();
        for i in 0..NAMES_MAX {
            names.answer(&i.to_string(), Ok(vec![LOCALHOST]), 60, Tick(0));
        }
        assert_eq!(names.lookup("0", 1, Tick(1)), CachedAddrs::Found(&[LOCALHOST]));
        names.answer("new", Ok(vec![LOCALHOST]), 60, Tick(1));
        assert_eq!(names.known.len(), NAMES_MAX);
        assert_eq!(names.lookup("0", 1, Tick(1)), CachedAddrs::Found(&[LOCALHOST]));
        assert_eq!(names.lookup("1", 1, Tick(1)), CachedAddrs::Pending);
    }
}

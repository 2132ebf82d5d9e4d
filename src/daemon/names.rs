//! Host names and their addresses: a bounded cache with single flight. Knows no socket; the
//! resolver takes the wanted names and brings the answers.

use std::collections::VecDeque;
use std::net::IpAddr;

use crate::io::clock::Tick;

/// The cache and who waits for it.
#[derive(Default)]
pub struct Names {
    known: Vec<Known>,
    wanted: VecDeque<String>,
    waiting: Vec<(String, usize)>,
}

struct Known {
    name: String,
    /// Empty = the name is known to have none.
    addrs: Vec<IpAddr>,
    until: Tick,
}

/// The answer of [`Names::lookup`].
#[derive(Debug, PartialEq, Eq)]
pub enum Lookup<'a> {
    /// At least one address.
    Found(&'a [IpAddr]),
    /// The caller will be woken by its token.
    Pending,
    /// No address to be had.
    Failed,
}

impl Names {
    /// What is known of a name. When nothing is, it is asked for, and the token is remembered.
    pub fn lookup(&mut self, name: &str, token: usize, now: Tick) -> Lookup<'_> {
        self.known.retain(|known| known.until > now);
        if let Some(at) = self.known.iter().position(|known| known.name == name) {
            return match self.known[at].addrs.as_slice() {
                [] => Lookup::Failed,
                addrs => Lookup::Found(addrs),
            };
        }
        if !self.waiting.iter().any(|(other, _)| other == name) {
            self.wanted.push_back(name.to_owned());
        }
        if !self.waiting.iter().any(|(other, who)| other == name && *who == token) {
            self.waiting.push((name.to_owned(), token));
        }
        Lookup::Pending
    }

    /// The next name that the resolver has to find.
    pub fn next_wanted(&mut self) -> Option<String> {
        self.wanted.pop_front()
    }

    /// Whether a name has to be found.
    pub fn is_wanted(&self) -> bool {
        !self.wanted.is_empty()
    }

    /// Stores an answer (no addresses = failed) and returns who waited for it.
    pub fn answer(&mut self, name: &str, addrs: Vec<IpAddr>, ttl_s: u32, now: Tick) -> Vec<usize> {
        let keep_ms = match addrs.is_empty() {
            true => NEGATIVE_MS,
            false => (u64::from(ttl_s) * 1000).clamp(LEAST_MS, MOST_MS),
        };
        self.known.retain(|known| known.name != name);
        if self.known.len() >= MOST {
            self.known.remove(0);
        }
        self.known.push(Known { name: name.to_owned(), addrs, until: Tick(now.0 + keep_ms) });
        let (woken, waiting) =
            std::mem::take(&mut self.waiting).into_iter().partition(|(other, _)| other == name);
        self.waiting = waiting;
        let woken: Vec<(String, usize)> = woken;
        woken.into_iter().map(|(_, token)| token).collect()
    }
}

const MOST: usize = 256;
const LEAST_MS: u64 = 5_000;
const MOST_MS: u64 = 3_600_000;
const NEGATIVE_MS: u64 = 5_000;

#[cfg(test)]
mod tests {
    use super::*;

    const HOME: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[test]
    fn a_name_is_asked_for_once_and_wakes_all_who_wait() {
        let mut names = Names::default();
        assert_eq!(names.lookup("a", 1, Tick(0)), Lookup::Pending);
        assert_eq!(names.lookup("a", 2, Tick(0)), Lookup::Pending);
        assert_eq!(names.lookup("a", 2, Tick(0)), Lookup::Pending);
        assert_eq!(names.next_wanted().as_deref(), Some("a"));
        assert_eq!(names.next_wanted(), None);
        assert_eq!(names.answer("a", vec![HOME], 60, Tick(1)), [1, 2]);
        assert_eq!(names.lookup("a", 3, Tick(2)), Lookup::Found(&[HOME]));
        assert_eq!(names.lookup("a", 3, Tick(60_001)), Lookup::Pending);
    }

    #[test]
    fn a_failure_is_remembered_briefly() {
        let mut names = Names::default();
        names.lookup("a", 1, Tick(0));
        names.answer("a", vec![], 0, Tick(0));
        assert_eq!(names.lookup("a", 1, Tick(4_999)), Lookup::Failed);
        assert_eq!(names.lookup("a", 1, Tick(5_000)), Lookup::Pending);
    }

    #[test]
    fn the_cache_is_bounded_and_its_ttl_too() {
        let mut names = Names::default();
        for i in 0..1000 {
            names.answer(&i.to_string(), vec![HOME], u32::MAX, Tick(0));
        }
        assert_eq!(names.known.len(), MOST);
        assert_eq!(names.lookup("999", 1, Tick(3_600_000)), Lookup::Pending);
    }
}

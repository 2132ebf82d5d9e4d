//! The state machine of one lookup, without sockets and servers. The queries for IPv4 and IPv6
//! addresses can fail independently.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use crate::io::clock::Tick;
use crate::proto::dns::{AddressAnswer, DnsFault, RecordType};

/// The lookup of one name.
pub struct Lookup {
    /// The name.
    pub name: String,
    v4: QueryState,
    v6: QueryState,
    /// The end of the current attempt.
    attempt_until: Tick,
    /// The end of the lookup, once addresses of one family are known.
    grace: Option<Tick>,
    /// The latest end of the lookup.
    until: Tick,
    grace_time: Duration,
    /// A server has answered NXDOMAIN.
    no_such_name: bool,
    /// The last failure of a server, which the text names; empty = none has failed yet.
    failure: String,
}

/// What is known about one record type.
enum QueryState {
    /// No answer yet.
    Open,
    Found(AddressAnswer),
    /// A server answered that there is none.
    Absent,
    /// A server refused or failed.
    Failed,
}

/// The next step of a lookup.
#[derive(Debug, PartialEq, Eq)]
pub enum LookupStep {
    /// Wait for answers.
    Wait,
    /// Ask again, another server if possible.
    Retry,
    /// End the lookup.
    Done,
}

/// The result of a lookup.
#[derive(Debug, PartialEq, Eq)]
pub struct LookupResult {
    /// The name that was looked up.
    pub name: String,
    /// Its addresses, IPv4 before IPv6, at least one.
    pub found: Result<Vec<IpAddr>, LookupFault>,
    /// How long the addresses, or their absence, may be cached; 0 = no server has answered.
    pub ttl_s: u32,
}

/// Why a lookup found no address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LookupFault {
    /// A name server says that the name does not exist.
    NoSuchName,
    /// A name server says that the name has no address.
    NoAddress,
    /// The name cannot be encoded in a query.
    NotAName,
    /// No name server has answered. Names the last one, and says why.
    Server(String),
}

impl LookupFault {
    /// A lookup that has not ended yet, or that took too long.
    pub fn unanswered() -> Self {
        Self::Server("no name server has answered".to_owned())
    }
}

impl fmt::Display for LookupFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoSuchName => "the name does not exist (NXDOMAIN)",
            Self::NoAddress => "the name exists, but has no address",
            Self::NotAName => "not a valid host name",
            Self::Server(why) => why,
        })
    }
}

impl Lookup {
    /// A lookup whose first attempt lasts for `attempt`. When IPv4 addresses are known, the lookup
    /// waits for IPv6 addresses for `grace` longer.
    pub fn new(name: String, attempt: Duration, grace: Duration, now: Tick) -> Self {
        Self {
            name,
            v4: QueryState::Open,
            v6: QueryState::Open,
            attempt_until: now + attempt,
            grace: None,
            until: now + LOOKUP_MAX,
            grace_time: grace,
            no_such_name: false,
            failure: String::new(),
        }
    }

    /// The record types without an answer.
    pub fn unanswered(&self) -> Vec<RecordType> {
        let mut kinds = vec![RecordType::A, RecordType::Aaaa];
        kinds.retain(|kind| matches!(self.state(*kind), QueryState::Open));
        kinds
    }

    /// Records the answer of a server.
    pub fn record(
        &mut self,
        kind: RecordType,
        outcome: Result<AddressAnswer, DnsFault>,
        now: Tick,
    ) {
        self.no_such_name |= outcome == Err(DnsFault::NoSuchName);
        let new = match outcome {
            Ok(answer) => QueryState::Found(answer),
            Err(DnsFault::NoData | DnsFault::NoSuchName) => QueryState::Absent,
            Err(DnsFault::Unrelated) => return,
            Err(_) => QueryState::Failed,
        };
        // RFC 8305 3: a resolution delay. Only for IPv6, as networks without IPv4 are rare and
        // networks without IPv6 are not.
        if matches!((&new, kind), (QueryState::Found(_), RecordType::A)) {
            self.grace = Some(now + self.grace_time);
        }
        let state = match kind {
            RecordType::A => &mut self.v4,
            RecordType::Aaaa => &mut self.v6,
        };
        if matches!(state, QueryState::Open) {
            *state = new;
        }
    }

    /// Takes note of why a server failed, for [`LookupFault::Server`].
    pub fn blame(&mut self, server: impl fmt::Display, why: impl fmt::Display) {
        self.failure = format!("name server {server}: {why}");
    }

    /// Records that the current attempt has failed for these record types.
    pub fn fail(&mut self, kinds: impl IntoIterator<Item = RecordType>, now: Tick) {
        for kind in kinds {
            self.record(kind, Err(DnsFault::Malformed), now);
        }
    }

    /// The next step.
    pub fn next_step(&self, now: Tick) -> LookupStep {
        let states = [&self.v4, &self.v6];
        let is_open = states.iter().any(|state| matches!(state, QueryState::Open));
        let is_found = states.iter().any(|state| matches!(state, QueryState::Found(_)));
        let is_late = now >= self.attempt_until;
        if now >= self.until || self.grace.is_some_and(|grace| now >= grace) {
            return LookupStep::Done;
        }
        match (is_open, is_found) {
            (true, _) if !is_late => LookupStep::Wait,
            (_, true) => LookupStep::Done,
            (true, false) => LookupStep::Retry,
            (false, false) if self.has_failed_query() => LookupStep::Retry,
            (false, false) => LookupStep::Done,
        }
    }

    /// Whether a server has refused or failed since the attempt began.
    pub fn has_failed_query(&self) -> bool {
        [&self.v4, &self.v6].iter().any(|state| matches!(state, QueryState::Failed))
    }

    /// Begins another attempt for the queries that failed or have no answer.
    pub fn begin_attempt(&mut self, attempt: Duration, now: Tick) {
        for state in [&mut self.v4, &mut self.v6] {
            if matches!(state, QueryState::Failed) {
                *state = QueryState::Open;
            }
        }
        self.attempt_until = now + attempt;
    }

    /// Extends the current attempt to at least `attempt` from now.
    pub fn extend_attempt(&mut self, attempt: Duration, now: Tick) {
        self.attempt_until = self.attempt_until.max(now + attempt);
    }

    /// When [`Lookup::next_step`] changes without an answer.
    pub fn due(&self) -> Tick {
        let due = self.attempt_until.min(self.until);
        self.grace.map_or(due, |grace| grace.min(due))
    }

    /// Ends the lookup.
    pub fn into_result(self) -> LookupResult {
        let is_answered =
            |state: &QueryState| matches!(state, QueryState::Found(_) | QueryState::Absent);
        let is_complete = is_answered(&self.v4) && is_answered(&self.v6);
        let (mut addrs, mut ttl_s) = (Vec::new(), u32::MAX);
        for state in [self.v4, self.v6] {
            if let QueryState::Found(answer) = state {
                ttl_s = ttl_s.min(answer.ttl_s);
                addrs.extend(answer.addrs);
            }
        }
        let ttl_s = match (addrs.is_empty(), is_complete) {
            (false, true) => ttl_s,
            (false, false) => ttl_s.min(PARTIAL_TTL_S),
            (true, true) => ABSENT_TTL_S,
            (true, false) => 0,
        };
        let found = match (addrs.is_empty(), is_complete) {
            (false, _) => Ok(addrs),
            (true, true) if self.no_such_name => Err(LookupFault::NoSuchName),
            (true, true) => Err(LookupFault::NoAddress),
            (true, false) if self.failure.is_empty() => Err(LookupFault::unanswered()),
            (true, false) => Err(LookupFault::Server(self.failure)),
        };
        LookupResult { name: self.name, found, ttl_s }
    }

    fn state(&self, kind: RecordType) -> &QueryState {
        match kind {
            RecordType::A => &self.v4,
            RecordType::Aaaa => &self.v6,
        }
    }
}

/// The slot of a running lookup in the resolver.
pub type LookupSlot = usize;

/// The limit for one lookup; connections wait a little longer.
const LOOKUP_MAX: Duration = Duration::from_secs(8);
/// How long to wait for IPv6 addresses. RFC 8305 3 recommends 50 ms; our lookups are few and
/// cached, so a longer wait costs little.
pub const GRACE: Duration = Duration::from_millis(100);
/// How long addresses of one family are cached when there is no answer for the other one.
const PARTIAL_TTL_S: u32 = 30;
const ABSENT_TTL_S: u32 = 30;

#[cfg(test)]
mod tests {
    use super::*;

    const V4: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
    const ATTEMPT: Duration = Duration::from_secs(2);
    const V6: IpAddr = IpAddr::V6(std::net::Ipv6Addr::LOCALHOST);

    fn lookup() -> Lookup {
        Lookup::new("a".to_owned(), ATTEMPT, GRACE, Tick(0))
    }

    fn found(addr: IpAddr, ttl_s: u32) -> Result<AddressAnswer, DnsFault> {
        Ok(AddressAnswer { addrs: vec![addr], ttl_s })
    }

    #[test]
    fn both_families_are_one_result_with_the_smaller_ttl() {
        let mut lookup = lookup();
        lookup.record(RecordType::Aaaa, found(V6, 60), Tick(1));
        assert_eq!(lookup.next_step(Tick(1)), LookupStep::Wait);
        lookup.record(RecordType::A, found(V4, 90), Tick(2));
        assert_eq!(lookup.next_step(Tick(2)), LookupStep::Done);
        let result = lookup.into_result();
        assert_eq!((result.found, result.ttl_s), (Ok(vec![V4, V6]), 60));
    }

    #[test]
    fn a_missing_aaaa_delays_the_result_only_briefly() {
        let mut lookup = lookup();
        lookup.record(RecordType::A, found(V4, 90), Tick(10));
        assert_eq!((lookup.next_step(Tick(109)), lookup.due()), (LookupStep::Wait, Tick(110)));
        assert_eq!(lookup.next_step(Tick(110)), LookupStep::Done);
        let result = lookup.into_result();
        assert_eq!((result.found, result.ttl_s), (Ok(vec![V4]), PARTIAL_TTL_S));
    }

    #[test]
    fn a_missing_a_delays_the_result_to_the_end_of_the_attempt() {
        let mut lookup = lookup();
        lookup.record(RecordType::Aaaa, found(V6, 90), Tick(10));
        assert_eq!((lookup.next_step(Tick(1_999)), lookup.due()), (LookupStep::Wait, Tick(2_000)));
        assert_eq!(lookup.next_step(Tick(2_000)), LookupStep::Done);
        assert_eq!(lookup.into_result().found, Ok(vec![V6]));
    }

    #[test]
    fn a_failure_of_one_family_keeps_the_other() {
        for (kind, addr) in [(RecordType::A, V4), (RecordType::Aaaa, V6)] {
            let mut lookup = lookup();
            let other = if kind == RecordType::A { RecordType::Aaaa } else { RecordType::A };
            lookup.record(other, Err(DnsFault::Refused(2)), Tick(1));
            lookup.record(kind, found(addr, 90), Tick(2));
            assert_eq!(lookup.next_step(Tick(2)), LookupStep::Done);
            assert_eq!(lookup.into_result().found, Ok(vec![addr]));
        }
    }

    #[test]
    fn a_refusal_or_silence_is_retried_for_what_is_open() {
        let mut lookup = lookup();
        lookup.record(RecordType::A, Err(DnsFault::Refused(5)), Tick(1));
        lookup.record(RecordType::Aaaa, Err(DnsFault::NoData), Tick(1));
        assert_eq!(
            (lookup.next_step(Tick(1)), lookup.has_failed_query()),
            (LookupStep::Retry, true)
        );
        lookup.begin_attempt(ATTEMPT, Tick(1));
        assert_eq!(lookup.unanswered(), [RecordType::A]);
        assert_eq!((lookup.next_step(Tick(2_000)), lookup.due()), (LookupStep::Wait, Tick(2_001)));
        assert_eq!(
            (lookup.next_step(Tick(2_001)), lookup.has_failed_query()),
            (LookupStep::Retry, false)
        );
    }

    #[test]
    fn an_absence_is_cached_longer_than_a_failure() {
        let mut absent = lookup();
        absent.record(RecordType::A, Err(DnsFault::NoSuchName), Tick(1));
        absent.record(RecordType::Aaaa, Err(DnsFault::NoData), Tick(1));
        assert_eq!(absent.next_step(Tick(1)), LookupStep::Done);
        let absent = absent.into_result();
        assert_eq!((absent.found, absent.ttl_s), (Err(LookupFault::NoSuchName), ABSENT_TTL_S));
        let mut empty = lookup();
        empty.record(RecordType::A, Err(DnsFault::NoData), Tick(1));
        empty.record(RecordType::Aaaa, Err(DnsFault::NoData), Tick(1));
        assert_eq!(empty.into_result().found, Err(LookupFault::NoAddress));
        let mut silent = lookup();
        assert_eq!(silent.next_step(Tick(0) + LOOKUP_MAX), LookupStep::Done);
        silent.blame("192.0.2.1:53", "no answer");
        let silent = silent.into_result();
        let why = LookupFault::Server("name server 192.0.2.1:53: no answer".to_owned());
        assert_eq!((silent.found, silent.ttl_s), (Err(why), 0));
    }

    #[test]
    fn unrelated_and_second_answers_change_nothing() {
        let mut lookup = lookup();
        lookup.record(RecordType::A, Err(DnsFault::Unrelated), Tick(1));
        assert_eq!(lookup.unanswered(), [RecordType::A, RecordType::Aaaa]);
        lookup.record(RecordType::A, found(V4, 90), Tick(2));
        lookup.record(RecordType::A, Err(DnsFault::NoSuchName), Tick(3));
        lookup.record(RecordType::Aaaa, Err(DnsFault::NoData), Tick(3));
        assert_eq!(lookup.into_result().found, Ok(vec![V4]));
    }
}

//! One name that is looked for: what was heard of it so far, and what follows. Knows no socket
//! and no server; IPv4 and IPv6 addresses are two questions that fail alone.

use std::net::IpAddr;

use crate::io::clock::Tick;
use crate::proto::dns::{AddressAnswer, DnsFault, RecordType};

/// The search for one name.
pub struct Lookup {
    /// The name as somebody wants it.
    pub name: String,
    v4: QueryState,
    v6: QueryState,
    /// The present try ends then.
    try_until: Tick,
    /// Addresses are there, and the other kind is not waited for any longer.
    grace: Option<Tick>,
    /// The search ends then.
    until: Tick,
    grace_ms: u64,
}

/// What is known about one kind of address.
enum QueryState {
    /// Asked; nothing came yet.
    Open,
    Found(AddressAnswer),
    /// A server said that there is none.
    Nothing,
    /// A server would or could not tell.
    Failed,
}

/// What follows.
#[derive(Debug, PartialEq, Eq)]
pub enum LookupStep {
    /// Something may still come.
    Wait,
    /// Ask again, somebody else if possible.
    Ask,
    /// Nothing more is to be had.
    Done,
}

/// A name and what was found; empty = nothing.
#[derive(Debug, PartialEq, Eq)]
pub struct LookupResult {
    /// The name as it was asked for.
    pub name: String,
    /// Its addresses, IPv4 before IPv6.
    pub addrs: Vec<IpAddr>,
    /// For how long they, or their absence, may be kept; 0 = nobody would tell.
    pub ttl_s: u32,
}

impl Lookup {
    /// A search that has `try_ms` for its first try. Where one kind of address is there, the
    /// other one is waited for `grace_ms` longer.
    pub fn new(name: String, try_ms: u64, grace_ms: u64, now: Tick) -> Self {
        let until = Tick(now.0 + PATIENCE_MS);
        let (v4, v6) = (QueryState::Open, QueryState::Open);
        Self {
            name,
            v4,
            v6,
            try_until: Tick(now.0.saturating_add(try_ms)),
            grace: None,
            until,
            grace_ms,
        }
    }

    /// The kinds that are not answered yet.
    pub fn open(&self) -> Vec<RecordType> {
        let mut kinds = vec![RecordType::A, RecordType::Aaaa];
        kinds.retain(|kind| matches!(self.half(*kind), QueryState::Open));
        kinds
    }

    /// Takes what a server said.
    pub fn hear(&mut self, kind: RecordType, outcome: Result<AddressAnswer, DnsFault>, now: Tick) {
        let heard = match outcome {
            Ok(answer) => QueryState::Found(answer),
            Err(DnsFault::NoData | DnsFault::NoSuchName) => QueryState::Nothing,
            Err(DnsFault::Unrelated) => return,
            Err(_) => QueryState::Failed,
        };
        // RFC 8305 3: a resolution delay. Only for IPv6, as a network without IPv4 is rare and
        // one without IPv6 is not.
        if matches!((&heard, kind), (QueryState::Found(_), RecordType::A)) {
            self.grace = Some(Tick(now.0 + self.grace_ms));
        }
        let half = match kind {
            RecordType::A => &mut self.v4,
            RecordType::Aaaa => &mut self.v6,
        };
        if matches!(half, QueryState::Open) {
            *half = heard;
        }
    }

    /// The present try has failed for these kinds.
    pub fn fail(&mut self, kinds: impl IntoIterator<Item = RecordType>, now: Tick) {
        for kind in kinds {
            self.hear(kind, Err(DnsFault::Malformed), now);
        }
    }

    /// What follows from all that was heard.
    pub fn next(&self, now: Tick) -> LookupStep {
        let halves = [&self.v4, &self.v6];
        let open = halves.iter().any(|half| matches!(half, QueryState::Open));
        let found = halves.iter().any(|half| matches!(half, QueryState::Found(_)));
        let late = now >= self.try_until;
        if now >= self.until || self.grace.is_some_and(|grace| now >= grace) {
            return LookupStep::Done;
        }
        match (open, found) {
            (true, _) if !late => LookupStep::Wait,
            (_, true) => LookupStep::Done,
            (true, false) => LookupStep::Ask,
            (false, false) if self.was_refused() => LookupStep::Ask,
            (false, false) => LookupStep::Done,
        }
    }

    /// Whether a server has refused since the try began.
    pub fn was_refused(&self) -> bool {
        [&self.v4, &self.v6].iter().any(|half| matches!(half, QueryState::Failed))
    }

    /// Begins another try for what is not known.
    pub fn again(&mut self, try_ms: u64, now: Tick) {
        for half in [&mut self.v4, &mut self.v6] {
            if matches!(half, QueryState::Failed) {
                *half = QueryState::Open;
            }
        }
        self.try_until = Tick(now.0 + try_ms);
    }

    /// Gives the present try time until `try_ms` from now.
    pub fn extend(&mut self, try_ms: u64, now: Tick) {
        self.try_until = self.try_until.max(Tick(now.0 + try_ms));
    }

    /// When [`Lookup::next`] changes even if nothing is heard.
    pub fn due(&self) -> Tick {
        let due = self.try_until.min(self.until);
        self.grace.map_or(due, |grace| grace.min(due))
    }

    /// Ends the search.
    pub fn finding(self) -> LookupResult {
        let whole = matches!(
            (&self.v4, &self.v6),
            (
                QueryState::Found(_) | QueryState::Nothing,
                QueryState::Found(_) | QueryState::Nothing
            )
        );
        let (mut addrs, mut ttl_s) = (Vec::new(), u32::MAX);
        for half in [self.v4, self.v6] {
            if let QueryState::Found(answer) = half {
                ttl_s = ttl_s.min(answer.ttl_s);
                addrs.extend(answer.addrs);
            }
        }
        let ttl_s = match (addrs.is_empty(), whole) {
            (false, true) => ttl_s,
            (false, false) => ttl_s.min(PARTIAL_TTL_S),
            (true, true) => ABSENT_TTL_S,
            (true, false) => 0,
        };
        LookupResult { name: self.name, addrs, ttl_s }
    }

    fn half(&self, kind: RecordType) -> &QueryState {
        match kind {
            RecordType::A => &self.v4,
            RecordType::Aaaa => &self.v6,
        }
    }
}

/// For one name, less than whoever waits for it has.
const PATIENCE_MS: u64 = 8_000;
/// How long addresses of one kind are kept when the other kind got no answer.
const PARTIAL_TTL_S: u32 = 30;
const ABSENT_TTL_S: u32 = 30;

#[cfg(test)]
mod tests {
    use super::*;

    const V4: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
    const V6: IpAddr = IpAddr::V6(std::net::Ipv6Addr::LOCALHOST);

    fn quest() -> Lookup {
        Lookup::new("a".to_owned(), 2_000, 100, Tick(0))
    }

    fn found(addr: IpAddr, ttl_s: u32) -> Result<AddressAnswer, DnsFault> {
        Ok(AddressAnswer { addrs: vec![addr], ttl_s })
    }

    #[test]
    fn both_kinds_are_one_finding_with_the_lesser_ttl() {
        let mut quest = quest();
        quest.hear(RecordType::Aaaa, found(V6, 60), Tick(1));
        assert_eq!(quest.next(Tick(1)), LookupStep::Wait);
        quest.hear(RecordType::A, found(V4, 90), Tick(2));
        assert_eq!(quest.next(Tick(2)), LookupStep::Done);
        let finding = quest.finding();
        assert_eq!((finding.addrs, finding.ttl_s), (vec![V4, V6], 60));
    }

    #[test]
    fn a_missing_aaaa_is_waited_for_only_briefly() {
        let mut quest = quest();
        quest.hear(RecordType::A, found(V4, 90), Tick(10));
        assert_eq!((quest.next(Tick(109)), quest.due()), (LookupStep::Wait, Tick(110)));
        assert_eq!(quest.next(Tick(110)), LookupStep::Done);
        let finding = quest.finding();
        assert_eq!((finding.addrs, finding.ttl_s), (vec![V4], PARTIAL_TTL_S));
    }

    #[test]
    fn a_missing_a_is_waited_for_to_the_end_of_the_try() {
        let mut quest = quest();
        quest.hear(RecordType::Aaaa, found(V6, 90), Tick(10));
        assert_eq!((quest.next(Tick(1_999)), quest.due()), (LookupStep::Wait, Tick(2_000)));
        assert_eq!(quest.next(Tick(2_000)), LookupStep::Done);
        assert_eq!(quest.finding().addrs, [V6]);
    }

    #[test]
    fn a_failure_of_one_kind_does_not_lose_the_other() {
        for (kind, addr) in [(RecordType::A, V4), (RecordType::Aaaa, V6)] {
            let mut quest = quest();
            let other = if kind == RecordType::A { RecordType::Aaaa } else { RecordType::A };
            quest.hear(other, Err(DnsFault::Refused(2)), Tick(1));
            quest.hear(kind, found(addr, 90), Tick(2));
            assert_eq!(quest.next(Tick(2)), LookupStep::Done);
            assert_eq!(quest.finding().addrs, [addr]);
        }
    }

    #[test]
    fn a_refusal_or_silence_asks_again_for_what_is_open() {
        let mut quest = quest();
        quest.hear(RecordType::A, Err(DnsFault::Refused(5)), Tick(1));
        quest.hear(RecordType::Aaaa, Err(DnsFault::NoData), Tick(1));
        assert_eq!((quest.next(Tick(1)), quest.was_refused()), (LookupStep::Ask, true));
        quest.again(2_000, Tick(1));
        assert_eq!(quest.open(), [RecordType::A]);
        assert_eq!((quest.next(Tick(2_000)), quest.due()), (LookupStep::Wait, Tick(2_001)));
        assert_eq!((quest.next(Tick(2_001)), quest.was_refused()), (LookupStep::Ask, false));
    }

    #[test]
    fn an_absence_is_kept_longer_than_a_failure() {
        let mut absent = quest();
        absent.hear(RecordType::A, Err(DnsFault::NoSuchName), Tick(1));
        absent.hear(RecordType::Aaaa, Err(DnsFault::NoData), Tick(1));
        assert_eq!(absent.next(Tick(1)), LookupStep::Done);
        assert_eq!(absent.finding().ttl_s, ABSENT_TTL_S);
        let silent = quest();
        assert_eq!(silent.next(Tick(PATIENCE_MS)), LookupStep::Done);
        assert_eq!(silent.finding().ttl_s, 0);
    }

    #[test]
    fn what_is_not_ours_changes_nothing_and_a_second_answer_neither() {
        let mut quest = quest();
        quest.hear(RecordType::A, Err(DnsFault::Unrelated), Tick(1));
        assert_eq!(quest.open(), [RecordType::A, RecordType::Aaaa]);
        quest.hear(RecordType::A, found(V4, 90), Tick(2));
        quest.hear(RecordType::A, Err(DnsFault::NoSuchName), Tick(3));
        quest.hear(RecordType::Aaaa, Err(DnsFault::NoData), Tick(3));
        assert_eq!(quest.finding().addrs, [V4]);
    }
}

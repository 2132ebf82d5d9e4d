//! The ready queue: which session runs next, so that flows (users, and the classes of
//! unauthenticated clients) get equal bytes.
//!
//! Start-time fair queueing (Goyal, Vin, Cheng, SIGCOMM 1996) on two levels, with two lists in
//! place of a sorted one, so that every operation takes constant time. Each member of a level has a
//! tag: how far it is in virtual time, which is what it was charged for. The time of the level is
//! the highest tag that was served in turn. A member whose tag is at most a quantum above it has
//! had little lately: it is sparse and runs before the others, which run in turn. A member that
//! comes back later starts at the time of the level, so it saves up nothing; one that comes back
//! sooner keeps its tag, so that a short gap gives it nothing either.
//!
//! Two members that always have work differ by less than a quantum and two of the largest steps,
//! and a sparse one waits for one step of each other sparse one (DECISIONS D169).

/// What shares the loop: a user, or a class of unauthenticated clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flow(u32);

impl Flow {
    /// Sessions before the verdict on their hello. They run in the order of their events: if new
    /// ones went first, many of them could keep an older one waiting for ever.
    pub const OPENING: Self = Self(0);
    /// Fronted sessions.
    pub const FRONTED: Self = Self(1);

    /// The sessions of the user with this index.
    pub fn of_user(index: usize) -> Self {
        Self((index as u32).saturating_add(2))
    }
}

/// The queue. Sessions are small numbers. Takes 28 bytes per flow and 16 per session, up to the
/// largest one.
#[derive(Default)]
pub struct FairQueue {
    level: Level,
    flows: Vec<Member>,
    /// The queues of the flows, indexed like `flows`.
    sublevels: Vec<Level>,
    sessions: Vec<Member>,
    len: usize,
}

impl FairQueue {
    /// The number of queued sessions.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no session is queued.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether a session of a sparse flow is queued.
    pub fn has_sparse(&self) -> bool {
        self.level.sparse != NONE
    }

    /// Queues a session of a flow, unless it is queued.
    pub fn push(&mut self, flow: Flow, session: u32) {
        if self.append(flow, session, LATER) && !self.flows[flow.0 as usize].is_linked() {
            self.level.link(&mut self.flows, flow.0, LATER);
        }
    }

    /// Takes the next session; one of a sparse flow or none if `only_sparse`. Its step has to be
    /// reported with [`FairQueue::stepped`] before the next call.
    pub fn pop(&mut self, only_sparse: bool) -> Option<u32> {
        let flow = self.level.pop(&mut self.flows, only_sparse)?;
        let session = self.sublevels[flow as usize].pop(&mut self.sessions, false)?;
        self.len -= 1;
        Some(session)
    }

    /// Charges the step of the session that was taken last to the flow from which it was taken, and
    /// queues the session in `again`, its flow after the step, if there is one.
    pub fn stepped(&mut self, session: u32, cost: u32, again: Option<Flow>) {
        let Some(member) = self.sessions.get_mut(session as usize) else { return };
        let (owner, cost) = (Flow(member.owner), cost.min(COST_MAX));
        if owner != Flow::OPENING {
            member.tag = member.tag.wrapping_add(cost);
        }
        let flow = &mut self.flows[owner.0 as usize];
        flow.tag = flow.tag.wrapping_add(cost);
        match again {
            Some(flow) if flow == owner => {
                self.append(flow, session, AT_ONCE);
            }
            Some(flow) => self.push(flow, session),
            None => {}
        }
        let is_linked = self.flows[owner.0 as usize].is_linked();
        if !is_linked && self.sublevels[owner.0 as usize].head().is_some() {
            self.level.link(&mut self.flows, owner.0, AT_ONCE);
        }
    }

    /// Removes a session that has ended.
    pub fn remove(&mut self, session: u32) {
        let Some(member) = self.sessions.get(session as usize).filter(|m| m.is_linked()) else {
            return;
        };
        let flow = member.owner;
        let sublevel = &mut self.sublevels[flow as usize];
        sublevel.unlink(&mut self.sessions, session);
        self.len -= 1;
        if sublevel.head().is_none() {
            self.level.unlink(&mut self.flows, flow);
        }
    }

    /// Returns whether the session was not queued before.
    fn append(&mut self, flow: Flow, session: u32, lag_max: i32) -> bool {
        if self.sessions.len() <= session as usize {
            self.sessions.resize(session as usize + 1, Member::default());
        }
        if self.flows.len() <= flow.0 as usize {
            self.flows.resize(flow.0 as usize + 1, Member::default());
            self.sublevels.resize(flow.0 as usize + 1, Level::default());
        }
        let member = &mut self.sessions[session as usize];
        let is_new = !member.is_linked();
        if is_new {
            member.owner = flow.0;
            self.sublevels[flow.0 as usize].link(&mut self.sessions, session, lag_max);
            self.len += 1;
        }
        is_new
    }
}

/// A flow or a session: a node of a ring.
#[derive(Clone, Copy)]
struct Member {
    next: u32,
    prev: u32,
    /// Wraps. Compared with the time of the level.
    tag: u32,
    /// The flow of a session.
    owner: u32,
}

impl Default for Member {
    fn default() -> Self {
        Self { next: NONE, prev: NONE, tag: 0, owner: 0 }
    }
}

impl Member {
    fn is_linked(&self) -> bool {
        self.next != NONE
    }
}

/// The first members of two rings, and the virtual time.
#[derive(Clone, Copy)]
struct Level {
    sparse: u32,
    in_turn: u32,
    time: u32,
}

impl Default for Level {
    fn default() -> Self {
        Self { sparse: NONE, in_turn: NONE, time: 0 }
    }
}

impl Level {
    fn head(&self) -> Option<u32> {
        [self.sparse, self.in_turn].into_iter().find(|head| *head != NONE)
    }

    /// Appends a member that is not linked. If its tag lags by more than `lag_max`, or is ahead by
    /// more than a step because it is old, it begins at the present time.
    fn link(&mut self, members: &mut [Member], id: u32, lag_max: i32) {
        let at = id as usize;
        let ahead = members[at].tag.wrapping_sub(self.time) as i32;
        if !(-lag_max..=COST_MAX as i32).contains(&ahead) {
            members[at].tag = self.time;
        }
        let is_sparse = members[at].tag.wrapping_sub(self.time) as i32 <= SPARSE_MAX;
        let head = if is_sparse { &mut self.sparse } else { &mut self.in_turn };
        let (next, prev) = match *head {
            NONE => (id, id),
            first => (first, members[first as usize].prev),
        };
        if *head == NONE {
            *head = id;
        }
        (members[at].next, members[at].prev) = (next, prev);
        members[prev as usize].next = id;
        members[next as usize].prev = id;
    }

    fn pop(&mut self, members: &mut [Member], only_sparse: bool) -> Option<u32> {
        let is_sparse = self.sparse != NONE;
        let id = self.head().filter(|_| is_sparse || !only_sparse)?;
        let tag = members[id as usize].tag;
        if !is_sparse && tag.wrapping_sub(self.time) as i32 > 0 {
            self.time = tag;
        }
        self.unlink(members, id);
        Some(id)
    }

    fn unlink(&mut self, members: &mut [Member], id: u32) {
        let Member { next, prev, .. } = members[id as usize];
        members[prev as usize].next = next;
        members[next as usize].prev = prev;
        (members[id as usize].next, members[id as usize].prev) = (NONE, NONE);
        for head in [&mut self.sparse, &mut self.in_turn] {
            if *head == id {
                *head = if next == id { NONE } else { next };
            }
        }
    }
}

/// The end of a ring.
const NONE: u32 = u32::MAX;
/// The most that one step is charged for.
pub const COST_MAX: u32 = 1 << 20;
/// The quantum: a sparse member may be this far ahead of the time of its level.
const SPARSE_MAX: i32 = 32 << 10;
/// How far a tag may lag: nothing after an idle time, and as far as it gets after a step.
const LATER: i32 = 0;
const AT_ONCE: i32 = 2 * COST_MAX as i32;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Sessions that always have work, each with its flow and the cost of its steps.
    fn run(sessions: &[(usize, u32)], steps: usize) -> Vec<u64> {
        let mut queue = FairQueue::default();
        let mut served = vec![0; sessions.iter().map(|(flow, _)| flow + 1).max().unwrap_or(0)];
        for (key, (flow, _)) in sessions.iter().enumerate() {
            queue.push(Flow::of_user(*flow), key as u32);
        }
        for _ in 0..steps {
            let key = queue.pop(false).unwrap();
            let (flow, cost) = sessions[key as usize];
            served[flow] += u64::from(cost);
            queue.stepped(key, cost, Some(Flow::of_user(flow)));
        }
        served
    }

    fn jain(shares: &[u64]) -> f64 {
        let sum: f64 = shares.iter().map(|share| *share as f64).sum();
        let squares: f64 = shares.iter().map(|share| (*share as f64).powi(2)).sum();
        sum * sum / (shares.len() as f64 * squares)
    }

    #[test]
    fn fifty_streams_of_one_user_get_as_much_as_one_of_another() {
        let mut sessions = vec![(0, 262_144); 50];
        sessions.push((1, 16_384));
        let served = run(&sessions, 20_000);
        assert!(jain(&served) > 0.999, "{served:?}");
    }

    #[test]
    fn a_sparse_session_of_the_same_user_goes_first() {
        let (mut queue, user) = (FairQueue::default(), Flow::of_user(3));
        (0..8).for_each(|key| queue.push(user, key));
        for _ in 0..20 {
            let key = queue.pop(false).unwrap();
            queue.stepped(key, 262_144, Some(user));
        }
        for _ in 0..5 {
            queue.push(user, 9);
            assert_eq!(queue.pop(false), Some(9));
            queue.stepped(9, 300, None);
            let bulk = queue.pop(false).unwrap();
            queue.stepped(bulk, 262_144, Some(user));
        }
    }

    #[test]
    fn openings_run_in_order_and_do_not_starve_beside_fronted_bulk() {
        let mut queue = FairQueue::default();
        queue.push(Flow::OPENING, 0);
        (1..9).for_each(|key| queue.push(Flow::FRONTED, key));
        let mut turns = Vec::new();
        for new in 100..140 {
            queue.push(Flow::OPENING, new);
            let key = queue.pop(false).unwrap();
            let is_bulk = (1..9).contains(&key);
            turns.push(key);
            let again = if is_bulk { Flow::FRONTED } else { Flow::OPENING };
            queue.stepped(key, if is_bulk { 262_144 } else { 8_192 }, Some(again));
        }
        let openings: Vec<u32> =
            turns.iter().copied().filter(|key| !(1..9).contains(key)).collect();
        assert!(openings.len() > 30, "{turns:?}");
        assert_eq!(&openings[..4], [0, 100, 0, 101], "an older one waits for newer ones");
    }

    #[test]
    fn only_sparse_flows_run_if_only_they_may() {
        let (mut queue, user) = (FairQueue::default(), Flow::of_user);
        queue.push(user(0), 0);
        assert_eq!(queue.pop(true), Some(0), "a new flow is sparse");
        queue.stepped(0, 50_000, Some(user(0)));
        queue.push(user(1), 1);
        assert!(queue.has_sparse());
        assert_eq!(queue.pop(true), Some(1));
        queue.stepped(1, 40_000, Some(user(1)));
        assert_eq!((queue.has_sparse(), queue.pop(true)), (false, None));
        assert_eq!((queue.len(), queue.pop(false)), (2, Some(0)));
    }

    #[test]
    fn a_session_whose_flow_changes_is_queued_in_the_new_one() {
        let mut queue = FairQueue::default();
        queue.push(Flow::OPENING, 0);
        queue.push(Flow::OPENING, 1);
        assert_eq!(queue.pop(false), Some(0));
        queue.stepped(0, 100, Some(Flow::of_user(0)));
        queue.remove(1);
        queue.remove(7);
        assert_eq!((queue.pop(false), queue.len()), (Some(0), 0));
        queue.stepped(0, 100, None);
        assert!(queue.is_empty() && !queue.has_sparse() && queue.pop(false).is_none());
    }

    #[derive(Debug, Clone)]
    enum Act {
        Push(u32),
        Step(u32, bool),
        Remove(u32),
    }

    fn acts() -> impl Strategy<Value = Vec<Act>> {
        let act = prop_oneof![
            3 => (0..24u32).prop_map(Act::Push),
            4 => (1..300_000u32, any::<bool>()).prop_map(|(cost, again)| Act::Step(cost, again)),
            1 => (0..24u32).prop_map(Act::Remove),
        ];
        proptest::collection::vec(act, 1..400)
    }

    proptest! {
        #[test]
        fn users_with_work_get_equal_bytes_within_a_quantum_and_two_steps(
            sessions in proptest::collection::vec((0..6usize, 1..300_000u32), 1..40),
            steps in 1..3_000usize,
        ) {
            let served = run(&sessions, steps);
            let most = u64::from(sessions.iter().map(|(_, cost)| *cost).max().unwrap_or(0));
            let has_work = |flow: &usize| sessions.iter().any(|(of, _)| of == flow);
            let shares: Vec<u64> =
                (0..served.len()).filter(has_work).map(|flow| served[flow]).collect();
            let (low, high) = (shares.iter().min(), shares.iter().max());
            prop_assert!(high.unwrap() - low.unwrap() < 2 * most + 32_768, "{:?}", shares);
        }

        #[test]
        fn a_user_who_always_has_work_loses_nothing_to_any_arrivals(acts in acts()) {
            // Flow 9 has two sessions with work. All others come and go.
            let (mut queue, mut served) = (FairQueue::default(), [0u64; 10]);
            let (steady, of) = (Flow::of_user(9), |key: u32| Flow::of_user((key % 5) as usize));
            (90..92).for_each(|key| queue.push(steady, key));
            for act in acts {
                match act {
                    Act::Push(key) => queue.push(of(key), key),
                    Act::Remove(key) => queue.remove(key),
                    Act::Step(cost, again) => {
                        let key = queue.pop(false).unwrap();
                        let flow = if key < 90 { of(key) } else { steady };
                        served[if key < 90 { (key % 5) as usize } else { 9 }] += u64::from(cost);
                        queue.stepped(key, cost, (key >= 90 || again).then_some(flow));
                    }
                }
            }
            for share in &served[..9] {
                prop_assert!(*share < served[9] + 600_000, "{:?}", served);
            }
        }

        #[test]
        fn every_queued_session_runs_exactly_once(acts in acts()) {
            let mut queue = FairQueue::default();
            let mut queued = std::collections::BTreeSet::new();
            for act in acts {
                match act {
                    Act::Push(key) => {
                        queue.push(Flow::of_user((key % 5) as usize), key);
                        queued.insert(key);
                    }
                    Act::Remove(key) => {
                        queue.remove(key);
                        queued.remove(&key);
                    }
                    Act::Step(cost, again) => {
                        let Some(key) = queue.pop(false) else {
                            prop_assert!(queued.is_empty());
                            continue;
                        };
                        prop_assert!(queued.remove(&key));
                        let again = again.then(|| Flow::of_user((key % 7) as usize));
                        queue.stepped(key, cost, again);
                        if again.is_some() {
                            queued.insert(key);
                        }
                    }
                }
                prop_assert_eq!(queue.len(), queued.len());
            }
        }

        #[test]
        fn a_sparse_user_waits_for_at_most_one_step_of_each_other(
            sessions in proptest::collection::vec((0..6usize, 1..300_000u32), 1..40),
            before in 1..500usize,
        ) {
            let mut queue = FairQueue::default();
            for (key, (flow, _)) in sessions.iter().enumerate() {
                queue.push(Flow::of_user(*flow), key as u32);
            }
            let step = |queue: &mut FairQueue| {
                let key = queue.pop(false).unwrap();
                let (flow, cost) = sessions.get(key as usize)?;
                queue.stepped(key, *cost, Some(Flow::of_user(*flow)));
                Some(*flow)
            };
            (0..before).for_each(|_| assert!(step(&mut queue).is_some()));
            queue.push(Flow::of_user(20), 99);
            let mut seen = Vec::new();
            while let Some(flow) = step(&mut queue) {
                prop_assert!(!seen.contains(&flow), "{} twice: {:?}", flow, seen);
                seen.push(flow);
            }
        }
    }
}

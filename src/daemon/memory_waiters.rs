//! Sessions that wait for memory, and which of them goes on first.

use std::collections::VecDeque;
use std::rc::Rc;

use crate::daemon::session::key::SessionKey;
use crate::io::pool::BLOCK_LEN;
use crate::util::memory::{Account, Budget, Class};

/// The sessions that wait for memory, by class and by user or client network.
#[derive(Default)]
pub struct MemoryWaiters {
    classes: [Vec<WaitingOwner>; Class::ALL.len()],
    count: usize,
}

/// The waiting sessions of one user or client network.
struct WaitingOwner {
    account: Rc<Account>,
    /// Each with the number of bytes that it needs, the oldest first: those with less than
    /// [`SMALL`], and the others.
    sessions: [VecDeque<(SessionKey, u32)>; 2],
    /// Bytes for sessions that [`MemoryWaiters::wake`] has returned in this round.
    promised: usize,
}

impl MemoryWaiters {
    /// Number of sessions.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Whether sessions of a class wait.
    pub fn has_class(&self, class: Class) -> bool {
        !self.classes[class as usize].is_empty()
    }

    /// Bytes of the user or network with the fewest among those that wait.
    pub fn poorest_used(&self, class: Class) -> Option<usize> {
        self.classes[class as usize].iter().map(|owner| owner.account.used()).min()
    }

    /// Adds a session that waits for `bytes`. `account` is that of its user or client network.
    pub fn add(&mut self, key: SessionKey, bytes: u32, account: &Rc<Account>) {
        let owners = &mut self.classes[account.class() as usize];
        let at = owners.iter().position(|owner| Rc::ptr_eq(&owner.account, account));
        let owner = match at {
            Some(at) => &mut owners[at],
            None => {
                let account = Rc::clone(account);
                owners.push(WaitingOwner { account, sessions: Default::default(), promised: 0 });
                let last = owners.len() - 1;
                &mut owners[last]
            }
        };
        owner.sessions[usize::from(bytes >= SMALL)].push_back((key, bytes));
        self.count += 1;
    }

    /// Removes a session.
    pub fn remove(&mut self, key: SessionKey) {
        for owners in &mut self.classes {
            for owner in owners.iter_mut() {
                for sessions in &mut owner.sessions {
                    let before = sessions.len();
                    sessions.retain(|(waiting, _)| *waiting != key);
                    self.count -= before - sessions.len();
                }
            }
            owners.retain(|owner| !owner.is_empty());
        }
    }

    /// Removes and returns the sessions that can go on with the memory that is free: those of a
    /// class under its guarantee first, then those that need little, such as a hello, then those of
    /// the user or network with the fewest bytes, then the oldest.
    pub fn wake(&mut self, budget: &Budget) -> Vec<SessionKey> {
        let mut woken = Vec::new();
        let mut promised = 0;
        let mut classes = [Class::Users, Class::Unauthenticated];
        let [users, others] = classes.map(|class| budget.is_over_guarantee(class));
        if users && !others {
            classes.reverse();
        }
        for class in classes {
            let owners = &mut self.classes[class as usize];
            for size in 0..2 {
                while let Some(at) = poorest(owners, size) {
                    let owner = &mut owners[at];
                    let Some((key, bytes)) = owner.sessions[size].front().copied() else { break };
                    let bytes = bytes as usize;
                    let has_room = size == 0 || owner.promised + bytes <= owner.account.room();
                    let is_too_much = !has_room || promised + bytes > budget.room(class);
                    if is_too_much {
                        break;
                    }
                    promised += bytes;
                    owner.promised += bytes;
                    owner.sessions[size].pop_front();
                    woken.push(key);
                }
            }
            owners.retain(|owner| !owner.is_empty());
            owners.iter_mut().for_each(|owner| owner.promised = 0);
        }
        self.count -= woken.len();
        woken
    }
}

impl WaitingOwner {
    fn is_empty(&self) -> bool {
        self.sessions.iter().all(VecDeque::is_empty)
    }
}

/// The owner with the fewest bytes among those with a session that needs this size.
fn poorest(owners: &[WaitingOwner], size: usize) -> Option<usize> {
    let bytes = |owner: &WaitingOwner| owner.account.used() + owner.promised;
    let waiting = (0..owners.len()).filter(|at| !owners[*at].sessions[size].is_empty());
    waiting.min_by_key(|at| bytes(&owners[*at]))
}

/// Bytes. What a newcomer needs is less than a block, and waits for no block of others.
const SMALL: u32 = BLOCK_LEN as u32;

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: u32 = BLOCK_LEN as u32;

    fn key(index: usize) -> SessionKey {
        SessionKey::of_index(index)
    }

    #[test]
    fn a_class_under_its_guarantee_goes_first_then_the_owner_with_fewest_bytes() {
        let budget = Budget::new(1 << 20);
        let [probes, heavy, light] = [Class::Unauthenticated, Class::Users, Class::Users]
            .map(|class| Account::of_class(&budget, class));
        let _charges = [(&probes, 200_000), (&heavy, 100_000)]
            .map(|(account, bytes)| account.charge(bytes).unwrap());
        let mut waiters = MemoryWaiters::default();
        waiters.add(key(1), BLOCK, &probes);
        waiters.add(key(2), BLOCK, &heavy);
        waiters.add(key(3), BLOCK, &heavy);
        (4..12).for_each(|index| waiters.add(key(index), BLOCK, &light));
        // The bytes that the first ones will take count.
        let mut order: Vec<usize> = (4..11).collect();
        order.extend([2, 11, 3, 1]);
        assert_eq!(waiters.wake(&budget), order.iter().map(|at| key(*at)).collect::<Vec<_>>());
        assert_eq!(waiters.count(), 0);
    }

    #[test]
    fn as_many_wake_as_have_room_and_a_closed_one_is_forgotten() {
        let budget = Budget::new(1 << 20);
        let user = Account::of_class(&budget, Class::Users);
        let other = Account::of_class(&budget, Class::Users);
        let charge = other.charge(budget.room(Class::Users) - 2 * BLOCK as usize).unwrap();
        let mut waiters = MemoryWaiters::default();
        (0..4).for_each(|index| waiters.add(key(index), BLOCK, &user));
        waiters.remove(key(1));
        assert_eq!(waiters.wake(&budget), [key(0), key(2)]);
        let _rest = user.charge(2 * BLOCK as usize).unwrap();
        assert!(waiters.wake(&budget).is_empty() && waiters.has_class(Class::Users));
        drop(charge);
        assert_eq!(waiters.wake(&budget), [key(3)]);
        assert!(!waiters.has_class(Class::Users));
    }
}

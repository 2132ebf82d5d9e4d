//! The accounts of sessions, and of the users and client networks above them.

use std::cell::OnceCell;
use std::rc::Rc;

use crate::util::client_prefix::ClientPrefix;
use crate::util::memory::{Account, Budget, Class};

/// The memory of the process that depends on peers, by owner.
pub struct Ledger {
    /// The limit, and the division among classes.
    pub budget: Rc<Budget>,
    /// The account of fetches and lookups.
    pub fetches: Rc<Account>,
    /// The accounts of users and client networks, in ascending order of their keys.
    owners: Vec<(u64, Rc<Account>)>,
    /// Unused accounts are dropped when there are this many.
    sweep_at: usize,
}

impl Ledger {
    /// A ledger for `limit` bytes.
    pub fn new(limit: usize) -> Self {
        let budget = Budget::new(limit);
        let fetches = Account::of_class(&budget, Class::Fetches);
        Self { budget, fetches, owners: Vec::new(), sweep_at: SWEEP_LEAST }
    }

    /// The account of the unauthenticated clients of a network.
    pub fn of_network(&mut self, network: ClientPrefix) -> Rc<Account> {
        self.of_owner(network.to_bits(), Class::Unauthenticated)
    }

    /// The account of the user at this position in the table of users.
    pub fn of_user(&mut self, position: usize) -> Rc<Account> {
        self.of_owner(USER_KEYS | position as u64, Class::Users)
    }

    fn of_owner(&mut self, key: u64, class: Class) -> Rc<Account> {
        let at = match self.owners.binary_search_by_key(&key, |(key, _)| *key) {
            Ok(at) => return Rc::clone(&self.owners[at].1),
            Err(_) if self.owners.len() >= self.sweep_at => {
                self.owners.retain(|(_, account)| Rc::strong_count(account) > 1);
                self.owners.shrink_to(self.owners.len() * 2);
                self.sweep_at = (self.owners.len() * 2).max(SWEEP_LEAST);
                self.owners.partition_point(|(known, _)| *known < key)
            }
            Err(at) => at,
        };
        let account = Account::of_class(&self.budget, class);
        self.owners.insert(at, (key, Rc::clone(&account)));
        account
    }
}

/// The account of one session. It exists only while something is charged to it, so that an idle
/// session needs no memory for it.
pub struct SessionAccount {
    owner: Rc<Account>,
    own: OnceCell<Rc<Account>>,
    kernel: u32,
}

impl SessionAccount {
    /// An account below that of a user or of a client network.
    pub fn new(owner: Rc<Account>) -> Self {
        Self { owner, own: OnceCell::new(), kernel: 0 }
    }

    /// The account, to charge something to it.
    pub fn get(&self) -> &Rc<Account> {
        self.own.get_or_init(|| self.owner.child())
    }

    /// The account of the user or of the client network.
    pub fn owner(&self) -> &Rc<Account> {
        &self.owner
    }

    /// Bytes that are charged to the session.
    pub fn used(&self) -> usize {
        self.own.get().map_or(0, |own| own.used())
    }

    /// Bytes that the session's sockets occupied in the kernel when they were last looked at.
    pub fn kernel(&self) -> u32 {
        self.kernel
    }

    /// Records what the session's sockets occupy in the kernel.
    pub fn set_kernel(&mut self, bytes: u32) {
        self.owner.change_kernel(self.kernel, bytes);
        self.kernel = bytes;
    }

    /// Bytes of all sessions of the user or of the client network, also in the kernel.
    pub fn held_by_owner(&self) -> u64 {
        self.owner.used() as u64 + self.owner.kernel()
    }

    /// Bytes that can be charged now.
    pub fn room(&self) -> usize {
        self.owner.room()
    }

    /// Bytes that the whole class has left: enough for what a newcomer needs.
    pub fn class_room(&self) -> usize {
        self.owner.class_room()
    }

    /// Moves the session with its charges to another owner.
    pub fn move_to(&mut self, owner: Rc<Account>) {
        if let Some(own) = self.own.get() {
            own.move_to(&owner);
        }
        let kernel = self.kernel;
        self.set_kernel(0);
        self.owner = owner;
        self.set_kernel(kernel);
    }

    /// Drops the account if nothing is charged to it.
    pub fn trim(&mut self) {
        if self.own.get().is_some_and(|own| Rc::strong_count(own) == 1) {
            self.own.take();
        }
    }
}

impl Drop for SessionAccount {
    fn drop(&mut self) {
        self.set_kernel(0);
    }
}

/// Above all keys of IPv6 networks and below those of IPv4 networks, see [`ClientPrefix::to_bits`].
const USER_KEYS: u64 = 1 << 62;
/// Fewer accounts are never looked through for unused ones.
const SWEEP_LEAST: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn network(third: u8) -> ClientPrefix {
        ClientPrefix::of([192, 0, third, 1].into())
    }

    #[test]
    fn owners_share_an_account_and_unused_ones_are_dropped() {
        let mut ledger = Ledger::new(1 << 20);
        let kept = ledger.of_network(network(0));
        assert!(Rc::ptr_eq(&kept, &ledger.of_network(network(0))));
        assert!(!Rc::ptr_eq(&kept, &ledger.of_user(0)));
        (1..=255).for_each(|third| drop(ledger.of_network(network(third))));
        assert!(ledger.owners.len() <= SWEEP_LEAST);
        assert!(ledger.owners.is_sorted_by_key(|(key, _)| *key));
        assert!(Rc::ptr_eq(&kept, &ledger.of_network(network(0))));
    }

    #[test]
    fn a_session_moves_with_its_charges_and_is_trimmed_without_any() {
        let mut ledger = Ledger::new(1 << 20);
        let (network, user) = (ledger.of_network(network(0)), ledger.of_user(3));
        let mut session = SessionAccount::new(Rc::clone(&network));
        let charge = session.get().charge(1_000).unwrap();
        assert_eq!((session.used(), network.used()), (1_000, 1_000));
        session.set_kernel(5_000);
        session.set_kernel(500);
        assert_eq!((network.kernel(), session.held_by_owner()), (500, 1_500));
        session.move_to(Rc::clone(&user));
        assert_eq!((network.used(), user.used(), user.class()), (0, 1_000, Class::Users));
        assert_eq!((network.kernel(), session.held_by_owner()), (0, 1_500));
        session.trim();
        assert_eq!(session.used(), 1_000);
        drop(charge);
        session.trim();
        assert!(session.own.get().is_none());
        assert_eq!(ledger.budget.used(), 0);
        drop(session);
        assert_eq!(user.kernel(), 0);
        assert_eq!(
            [5, 104, 105, 106].map(|now| user.take_turn(now, 100)),
            [true, false, true, false]
        );
    }
}

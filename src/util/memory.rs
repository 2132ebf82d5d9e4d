//! Accounts for memory whose size depends on what peers send or do not take.
//!
//! [`Budget`] is the limit of the process and its division among classes. An [`Account`] belongs to
//! a class (as that of a user or of a client network) or to another account (as that of a session).
//! A [`Charge`] or [`ChargedBytes`] counts in its account and in all above it, and gives back when
//! it is dropped. An account can move to another owner; its charges move with it.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::ops::Deref;
use std::rc::Rc;

/// For whom memory is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Clients before the verdict on their hello, and fronted connections.
    Unauthenticated,
    /// Sessions of users.
    Users,
    /// The pages of the operator.
    Operator,
    /// Background fetches and lookups.
    Fetches,
}

impl Class {
    /// All classes.
    pub const ALL: [Self; 4] = [Self::Unauthenticated, Self::Users, Self::Operator, Self::Fetches];

    /// The name in metrics and in the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unauthenticated => "unauthenticated",
            Self::Users => "users",
            Self::Operator => "operator",
            Self::Fetches => "fetches",
        }
    }

    /// What the class may always use and the most that it may use, in sixteenths of the limit.
    ///
    /// Users have half: the program exists for them. Unauthenticated clients may use the other
    /// half while it is idle, so that a front is served well without users. The guarantees leave a
    /// quarter for the class that needs it most.
    fn shares(self) -> (usize, usize) {
        match self {
            Self::Unauthenticated => (2, 8),
            Self::Users => (8, 14),
            Self::Operator => (1, 2),
            Self::Fetches => (1, 4),
        }
    }
}

/// The limit of the process, and what each class uses.
#[derive(Debug)]
pub struct Budget {
    limit: Cell<usize>,
    used: [Cell<usize>; Class::ALL.len()],
}

/// The memory that was asked for is not free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryFull;

impl Budget {
    /// A budget of `limit` bytes, of which nothing is used.
    pub fn new(limit: usize) -> Rc<Self> {
        Rc::new(Self { limit: Cell::new(limit), used: Default::default() })
    }

    /// The limit in bytes.
    pub fn limit(&self) -> usize {
        self.limit.get()
    }

    /// Sets the limit. What is used above it stays until it is given back.
    pub fn set_limit(&self, limit: usize) {
        self.limit.set(limit);
    }

    /// Bytes in use by all classes.
    pub fn used(&self) -> usize {
        self.used.iter().map(Cell::get).sum()
    }

    /// Bytes in use by a class.
    pub fn used_by(&self, class: Class) -> usize {
        self.used[class as usize].get()
    }

    /// Bytes that a class may always use, unless others have borrowed them.
    pub fn guarantee(&self, class: Class) -> usize {
        self.share(class.shares().0)
    }

    /// Most bytes of a class.
    pub fn cap(&self, class: Class) -> usize {
        self.share(class.shares().1).max(LEAST_CAP)
    }

    /// Whether a class uses more than its guarantee: then it gives back first.
    pub fn is_over_guarantee(&self, class: Class) -> bool {
        self.used_by(class) > self.guarantee(class)
    }

    /// Bytes that a class may take now. Beyond its guarantee it leaves an eighth of the limit to
    /// the classes that use less than theirs.
    pub fn room(&self, class: Class) -> usize {
        let free = self.limit().saturating_sub(self.used());
        let own = self.owed_to(class);
        let others = Class::ALL.into_iter().filter(|other| *other != class);
        let reserve = others.map(|other| self.owed_to(other)).sum::<usize>().min(self.limit() / 8);
        let allowed = own.max(free.saturating_sub(reserve)).min(free);
        allowed.min(self.cap(class).saturating_sub(self.used_by(class)))
    }

    /// What a class has left of its guarantee.
    fn owed_to(&self, class: Class) -> usize {
        self.guarantee(class).saturating_sub(self.used_by(class))
    }

    /// Multiplies last: the limit of a 32-bit machine can be 512 MiB.
    fn share(&self, sixteenths: usize) -> usize {
        self.limit() / 16 * sixteenths
    }
}

/// Where an account counts besides itself.
enum Owner {
    Class(Rc<Budget>, Class),
    Account(Rc<Account>),
}

/// The memory of one owner.
pub struct Account {
    used: Cell<usize>,
    kernel: Cell<u64>,
    next_turn_ms: Cell<u64>,
    owner: RefCell<Owner>,
}

impl Account {
    /// An account of a class.
    pub fn of_class(budget: &Rc<Budget>, class: Class) -> Rc<Self> {
        Self::new(Owner::Class(Rc::clone(budget), class))
    }

    /// An account below this one.
    pub fn child(self: &Rc<Self>) -> Rc<Self> {
        Self::new(Owner::Account(Rc::clone(self)))
    }

    fn new(owner: Owner) -> Rc<Self> {
        Rc::new(Self {
            used: Cell::new(0),
            kernel: Cell::new(0),
            next_turn_ms: Cell::new(0),
            owner: RefCell::new(owner),
        })
    }

    /// Bytes that are charged, also those of accounts below this one.
    pub fn used(&self) -> usize {
        self.used.get()
    }

    /// Bytes in the kernel, which no budget limits; those of accounts below this one do not count.
    pub fn kernel(&self) -> u64 {
        self.kernel.get()
    }

    /// Changes the bytes in the kernel, of which `from` become `to`.
    pub fn change_kernel(&self, from: u32, to: u32) {
        self.kernel.set(self.kernel.get() - u64::from(from) + u64::from(to));
    }

    /// Takes the turn of the owner, which comes once per `period_ms`. Returns whether it was free.
    pub fn take_turn(&self, now_ms: u64, period_ms: u64) -> bool {
        let is_free = now_ms >= self.next_turn_ms.get();
        if is_free {
            self.next_turn_ms.set(now_ms + period_ms);
        }
        is_free
    }

    /// The class that the account counts in.
    pub fn class(&self) -> Class {
        match &*self.owner.borrow() {
            Owner::Class(_, class) => *class,
            Owner::Account(account) => account.class(),
        }
    }

    /// Bytes that can be charged now.
    ///
    /// One user or client network has at most twice of what its class has left, so that the next
    /// one finds a third of the memory (Choudhury and Hahne, dynamic queue length thresholds).
    pub fn room(&self) -> usize {
        match &*self.owner.borrow() {
            Owner::Class(budget, class) => {
                let room = budget.room(*class);
                match (class, self.used()) {
                    (_, 0) | (Class::Operator | Class::Fetches, _) => room,
                    (_, used) => room.min((room * 2).saturating_sub(used)),
                }
            }
            Owner::Account(account) => account.room(),
        }
    }

    /// Moves the account, with all that is charged to it, below another one.
    pub fn move_to(&self, account: &Rc<Self>) {
        let used = self.used();
        self.change_owner(used, 0);
        *self.owner.borrow_mut() = Owner::Account(Rc::clone(account));
        self.change_owner(0, used);
    }

    /// Charges bytes that are about to be allocated.
    ///
    /// # Errors
    /// The class has no room for them.
    pub fn charge(self: &Rc<Self>, bytes: usize) -> Result<Charge, MemoryFull> {
        self.require(bytes)?;
        Ok(self.charge_held(bytes))
    }

    /// Charges bytes whatever the limit: they are there already, and something else bounds them.
    pub fn charge_held(self: &Rc<Self>, bytes: usize) -> Charge {
        self.change(0, bytes);
        Charge { account: Rc::clone(self), bytes }
    }

    /// Asks the class, not the owner's share: each block of what a session has read shrinks the
    /// share by three, and what was read has to be kept.
    fn require(&self, bytes: usize) -> Result<(), MemoryFull> {
        if bytes <= self.class_room() { Ok(()) } else { Err(MemoryFull) }
    }

    /// Bytes that the class has left for all its owners.
    pub fn class_room(&self) -> usize {
        match &*self.owner.borrow() {
            Owner::Class(budget, class) => budget.room(*class),
            Owner::Account(account) => account.class_room(),
        }
    }

    /// Counts `after` bytes instead of `before`.
    fn change(&self, before: usize, after: usize) {
        self.used.set(self.used() - before + after);
        self.change_owner(before, after);
    }

    fn change_owner(&self, before: usize, after: usize) {
        match &*self.owner.borrow() {
            Owner::Class(budget, class) => {
                let used = &budget.used[*class as usize];
                used.set(used.get() - before + after);
            }
            Owner::Account(account) => account.change(before, after),
        }
    }
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Account({})", self.used())
    }
}

/// Bytes that count in an account until this value is dropped.
#[derive(Debug)]
pub struct Charge {
    account: Rc<Account>,
    bytes: usize,
}

impl Charge {
    /// The number of bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Changes the number of bytes.
    ///
    /// # Errors
    /// There are more, and the class has no room for them. Then nothing changes.
    pub fn resize(&mut self, bytes: usize) -> Result<(), MemoryFull> {
        self.account.require(bytes.saturating_sub(self.bytes))?;
        self.set_held(bytes);
        Ok(())
    }

    /// Changes the number of bytes whatever the limit, as [`Account::charge_held`].
    pub fn set_held(&mut self, bytes: usize) {
        let before = std::mem::replace(&mut self.bytes, bytes);
        self.account.change(before, bytes);
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.set_held(0);
    }
}

/// Bytes on the heap that count in an account, with the capacity of their allocation.
#[derive(Debug, Default)]
pub struct ChargedBytes {
    bytes: Vec<u8>,
    /// `None` only without an allocation.
    charge: Option<Charge>,
}

impl ChargedBytes {
    /// Empty bytes in an allocation of at least `capacity` bytes: `recycled`, if it is one.
    ///
    /// # Errors
    /// The class has no room for the capacity.
    pub fn with_capacity(
        account: &Rc<Account>,
        capacity: usize,
        recycled: impl FnOnce() -> Option<Vec<u8>>,
    ) -> Result<Self, MemoryFull> {
        account.require(capacity)?;
        let mut bytes = recycled().unwrap_or_default();
        bytes.clear();
        bytes.reserve_exact(capacity);
        Ok(Self::held(account, bytes))
    }

    /// Charges bytes that are there already, as [`Account::charge_held`].
    pub fn held(account: &Rc<Account>, bytes: Vec<u8>) -> Self {
        Self { charge: Some(account.charge_held(bytes.capacity())), bytes }
    }

    /// Appends bytes. `account` is the one that the bytes are charged to if there are none yet.
    ///
    /// # Errors
    /// The class has no room for a larger allocation. Then nothing is appended.
    pub fn extend(&mut self, account: &Rc<Account>, more: &[u8]) -> Result<(), MemoryFull> {
        if more.len() > self.spare() {
            account.require(more.len() - self.spare())?;
        }
        self.extend_held(account, more);
        Ok(())
    }

    /// Appends bytes whatever the limit, as [`Account::charge_held`].
    pub fn extend_held(&mut self, account: &Rc<Account>, more: &[u8]) {
        self.bytes.reserve_exact(more.len());
        self.bytes.extend_from_slice(more);
        let charge = self.charge.get_or_insert_with(|| account.charge_held(0));
        charge.set_held(self.bytes.capacity());
    }

    /// Appends as many bytes as fit in the allocation; returns their number.
    pub fn fill(&mut self, more: &[u8]) -> usize {
        let len = self.spare().min(more.len());
        self.bytes.extend_from_slice(&more[..len]);
        len
    }

    /// Bytes that can be appended without a larger allocation.
    pub fn spare(&self) -> usize {
        self.bytes.capacity() - self.bytes.len()
    }

    /// Drops the first `n` bytes, or all of them if there are fewer. The allocation stays.
    pub fn discard_front(&mut self, n: usize) {
        self.bytes.drain(..n.min(self.bytes.len()));
    }

    /// Bytes that are charged.
    pub fn charged(&self) -> usize {
        self.bytes.capacity()
    }

    /// Drops the bytes and the allocation.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// The allocation, which is not charged any more.
    pub fn into_vec(self) -> Vec<u8> {
        self.bytes
    }
}

impl Deref for ChargedBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Bytes. A class may use this much if the process may: the longest hello and a block for each
/// direction of one session.
const LEAST_CAP: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMIT: usize = 16 << 20;

    #[test]
    fn each_class_has_its_guarantee_and_its_cap() {
        let guarantees = Class::ALL.map(|class| Budget::new(LIMIT).guarantee(class));
        assert!(guarantees.iter().sum::<usize>() <= LIMIT);
        for class in Class::ALL {
            let budget = Budget::new(LIMIT);
            let account = Account::of_class(&budget, class);
            let most = budget.cap(class);
            assert!(account.charge(most + 1).is_err());
            let charge = account.charge(most).unwrap();
            assert_eq!(budget.used_by(class), most);
            assert_eq!(account.room(), 0);
            for other in Class::ALL.into_iter().filter(|other| *other != class) {
                assert!(budget.room(other) >= (LIMIT / 8).min(budget.guarantee(other)));
            }
            drop(charge);
            assert_eq!(budget.used(), 0);
        }
    }

    #[test]
    fn a_class_over_its_guarantee_leaves_a_reserve_for_the_others() {
        let budget = Budget::new(LIMIT);
        let users = Account::of_class(&budget, Class::Users);
        let probes = Account::of_class(&budget, Class::Unauthenticated);
        let _half = probes.charge(LIMIT / 2).unwrap();
        let _rest = users.charge(budget.room(Class::Users)).unwrap();
        // The guarantee of users is not reached, so they leave nothing.
        assert_eq!(budget.used(), LIMIT);
        let budget = Budget::new(LIMIT);
        let users = Account::of_class(&budget, Class::Users);
        let _most = users.charge(budget.room(Class::Users)).unwrap();
        assert_eq!(budget.limit() - budget.used(), LIMIT / 8);
    }

    /// Otherwise a relay would lose what it has read.
    #[test]
    fn what_there_is_room_for_can_be_charged_in_pieces() {
        const PIECE: usize = 16_448;
        let budget = Budget::new(LIMIT);
        let session = Account::of_class(&budget, Class::Users).child();
        let mut held = Vec::new();
        while session.room() >= PIECE {
            let pieces = (session.room() / PIECE / 2).max(1);
            held.extend((0..pieces).map(|_| session.charge(PIECE).unwrap()));
        }
        assert!(budget.room(Class::Users) > LIMIT / 8);
    }

    #[test]
    fn a_small_limit_still_serves_one_session_of_each_class() {
        let budget = Budget::new(2 * 16_448);
        assert!(budget.room(Class::Users) >= 16_448);
        assert!(budget.room(Class::Unauthenticated) >= 16_448);
        budget.set_limit(0);
        assert_eq!(budget.room(Class::Users), 0);
    }

    #[test]
    fn charged_bytes_charge_their_capacity() {
        let budget = Budget::new(1 << 20);
        let account = Account::of_class(&budget, Class::Users).child();
        let mut bytes = ChargedBytes::default();
        bytes.extend(&account, b"abc").unwrap();
        bytes.extend(&account, b"def").unwrap();
        bytes.discard_front(2);
        assert_eq!(&*bytes, b"cdef");
        assert_eq!(account.used(), bytes.charged());
        assert!(bytes.extend(&account, &vec![0; 1 << 20]).is_err());
        assert_eq!(&*bytes, b"cdef");
        let taken = std::mem::take(&mut bytes).into_vec();
        assert_eq!((taken.len(), account.used(), budget.used()), (4, 0, 0));
        let again = ChargedBytes::with_capacity(&account, 4_096, || Some(taken)).unwrap();
        assert!(again.is_empty() && again.spare() >= 4_096);
        assert_eq!(account.used(), again.charged());
    }

    proptest! {
        #[test]
        fn every_sum_equals_the_bytes_held(
            acts in proptest::collection::vec((0..6_u8, 0..8_usize, 0..200_000_usize), 1..200)
        ) {
            let budget = Budget::new(1 << 20);
            let class = |class| Account::of_class(&budget, class);
            let owners = [class(Class::Unauthenticated), class(Class::Unauthenticated),
                class(Class::Users), class(Class::Users)];
            let sessions: Vec<_> = (0..8).map(|at| owners[at % 4].child()).collect();
            let mut owner_of: Vec<usize> = (0..8).map(|at| at % 4).collect();
            let mut charges: Vec<(usize, Charge)> = Vec::new();
            let mut buffers: Vec<(usize, ChargedBytes)> = Vec::new();
            for (act, at, n) in acts {
                match act {
                    0 => charges.extend(sessions[at].charge(n).ok().map(|charge| (at, charge))),
                    1 => {
                        let mut bytes = ChargedBytes::default();
                        if bytes.extend(&sessions[at], &vec![1; n / 8]).is_ok() {
                            buffers.push((at, bytes));
                        }
                    }
                    2 if !charges.is_empty() => {
                        let at = at % charges.len();
                        let before = charges[at].1.bytes();
                        let kept = charges[at].1.resize(n).is_ok();
                        prop_assert_eq!(charges[at].1.bytes(), if kept { n } else { before });
                    }
                    3 if !charges.is_empty() => drop(charges.swap_remove(at % charges.len())),
                    4 if !buffers.is_empty() => drop(buffers.swap_remove(at % buffers.len())),
                    _ => {
                        owner_of[at] = n % 4;
                        sessions[at].move_to(&owners[n % 4]);
                    }
                }
                let mut held = [0; 8];
                charges.iter().for_each(|(at, charge)| held[*at] += charge.bytes());
                buffers.iter().for_each(|(at, bytes)| held[*at] += bytes.charged());
                for (session, held) in sessions.iter().zip(held) {
                    prop_assert_eq!(session.used(), held);
                }
                for (at, owner) in owners.iter().enumerate() {
                    let mine = (0..8).filter(|session| owner_of[*session] == at);
                    prop_assert_eq!(owner.used(), mine.map(|session| held[session]).sum::<usize>());
                }
                prop_assert_eq!(budget.used(), held.iter().sum::<usize>());
                for class in Class::ALL {
                    let free = budget.limit().saturating_sub(budget.used());
                    prop_assert!(budget.room(class) <= free);
                }
            }
            drop((charges, buffers));
            prop_assert_eq!(budget.used(), 0);
        }
    }
}

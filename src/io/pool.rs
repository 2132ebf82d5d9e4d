//! Buffers for bytes that a socket did not accept yet. Each is charged to an account, which bounds
//! the memory that the daemon needs for relayed data.
//!
//! A `PooledBlock` returns its buffer when it is dropped, so no error path can leak one.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io::IoSlice;
use std::rc::Rc;

use crate::util::memory::{Account, ChargedBytes, MemoryFull};

/// Size of a block in bytes: one record with 16,401 bytes of payload and its header, rounded up.
pub const BLOCK_LEN: usize = 16 * 1024 + 64;

/// Blocks of [`BLOCK_LEN`] bytes. A block is allocated when it is first needed. Returned blocks are
/// kept for reuse, up to a limit.
#[derive(Default)]
pub struct Pool {
    shared: Rc<FreeList>,
}

#[derive(Default)]
struct FreeList {
    free: RefCell<Vec<Vec<u8>>>,
    in_use: Cell<usize>,
    /// Most free blocks that are kept.
    keep: Cell<usize>,
}

impl Pool {
    /// A pool that keeps at most `keep` free blocks, or `FREE_MAX` if that is less.
    pub fn new(keep: usize) -> Self {
        let pool = Self::default();
        pool.set_keep(keep);
        pool
    }

    /// Sets the number of free blocks that are kept at most.
    pub fn set_keep(&self, keep: usize) {
        let keep = keep.min(FREE_MAX);
        self.shared.keep.set(keep);
        self.shared.free.borrow_mut().truncate(keep);
    }

    /// Takes one block, charged to `account`.
    fn acquire(&self, account: &Rc<Account>) -> Result<PooledBlock, MemoryFull> {
        let recycled = || self.shared.free.borrow_mut().pop();
        let bytes = ChargedBytes::with_capacity(account, BLOCK_LEN, recycled)?;
        self.shared.in_use.set(self.in_use() + 1);
        Ok(PooledBlock { bytes, start: 0, home: Some(Rc::clone(&self.shared)) })
    }

    /// Number of blocks in use.
    pub fn in_use(&self) -> usize {
        self.shared.in_use.get()
    }
}

/// A buffer in an outbox. The bytes from `start` are still to be sent.
struct PooledBlock {
    bytes: ChargedBytes,
    start: usize,
    /// Where the buffer returns to; `None` = it is not a block of the pool.
    home: Option<Rc<FreeList>>,
}

impl PooledBlock {
    /// The bytes still to be sent.
    fn unsent(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    /// Drops the first `n` unsent bytes, or all of them if there are fewer.
    fn advance(&mut self, n: usize) {
        self.start = (self.start + n).min(self.bytes.len());
    }
}

impl Drop for PooledBlock {
    fn drop(&mut self) {
        let Some(home) = &self.home else { return };
        let bytes = std::mem::take(&mut self.bytes).into_vec();
        home.in_use.set(home.in_use.get() - 1);
        let mut free = home.free.borrow_mut();
        if free.len() < home.keep.get() {
            free.push(bytes);
        }
    }
}

/// The unsent bytes of one socket, in order. Owns no heap memory while it is empty.
#[derive(Default)]
pub struct Outbox {
    blocks: VecDeque<PooledBlock>,
}

impl Outbox {
    /// Whether no byte is unsent.
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// Number of unsent bytes.
    pub fn len(&self) -> usize {
        self.blocks.iter().map(|block| block.unsent().len()).sum()
    }

    /// Number of buffers. It falls when the peer has taken a whole one.
    pub fn buffers(&self) -> usize {
        self.blocks.len()
    }

    /// Appends bytes in blocks that are charged to `account`; fills the last block first.
    ///
    /// # Errors
    /// The account has no room for a block. The bytes that fitted are kept.
    pub fn push(
        &mut self,
        pool: &Pool,
        account: &Rc<Account>,
        mut bytes: &[u8],
    ) -> Result<(), MemoryFull> {
        if let Some(last) = self.blocks.back_mut() {
            bytes = &bytes[last.bytes.fill(bytes)..];
        }
        while !bytes.is_empty() {
            let mut block = pool.acquire(account)?;
            bytes = &bytes[block.bytes.fill(bytes)..];
            self.blocks.push_back(block);
        }
        Ok(())
    }

    /// Appends bytes with their allocation and its charge, except for the first `sent` ones.
    pub fn push_charged(&mut self, bytes: ChargedBytes, sent: usize) {
        if sent < bytes.len() {
            self.blocks.push_back(PooledBlock { bytes, start: sent, home: None });
        }
    }

    /// Fills `into` with the first blocks, for one vectored write; returns the number of slices
    /// set.
    pub fn slices<'a>(&'a self, into: &mut [IoSlice<'a>]) -> usize {
        let mut count = 0;
        for (slot, block) in into.iter_mut().zip(&self.blocks) {
            *slot = IoSlice::new(block.unsent());
            count += 1;
        }
        count
    }

    /// Drops the first `n` bytes, which have been sent.
    pub fn advance(&mut self, mut n: usize) {
        while let Some(first) = self.blocks.front_mut() {
            let len = first.unsent().len();
            if n < len {
                first.advance(n);
                return;
            }
            n -= len;
            self.blocks.pop_front();
        }
        self.blocks = VecDeque::new();
    }

    /// Drops all bytes.
    pub fn clear(&mut self) {
        self.blocks = VecDeque::new();
    }
}

/// Number of returned blocks that are kept for reuse; more go back to the allocator.
const FREE_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::util::memory::{Budget, Class};

    /// An account that has room for this many blocks, and no more.
    fn account(blocks: usize) -> (Rc<Budget>, Rc<Account>) {
        let budget = Budget::new(100 * BLOCK_LEN);
        let account = Account::of_class(&budget, Class::Users);
        budget.set_limit(blocks * BLOCK_LEN * 16 / 14 + 16);
        (budget, account)
    }

    #[test]
    fn blocks_never_exceed_the_room_of_the_account() {
        let (pool, (budget, account)) = (Pool::new(8), account(6));
        let mut blocks: Vec<PooledBlock> =
            (0..6).map(|_| pool.acquire(&account).unwrap()).collect();
        assert!(pool.acquire(&account).is_err());
        assert_eq!((pool.in_use(), account.used()), (6, 6 * BLOCK_LEN));
        blocks.pop();
        blocks.push(pool.acquire(&account).unwrap());
        drop(blocks);
        assert_eq!((pool.in_use(), account.used(), budget.used()), (0, 0, 0));
    }

    #[test]
    fn an_outbox_takes_over_an_allocation_with_its_charge() {
        let (pool, (_budget, account)) = (Pool::new(8), account(6));
        let mut outbox = Outbox::default();
        let opening = ChargedBytes::held(&account, b"opening".to_vec());
        let charged = opening.charged();
        outbox.push_charged(opening, 4);
        assert_eq!((outbox.len(), account.used(), pool.in_use()), (3, charged, 0));
        outbox.push(&pool, &account, b"more").unwrap();
        let mut slices = [IoSlice::new(&[]); 4];
        assert_eq!(outbox.slices(&mut slices), 2);
        assert_eq!((&*slices[0], &*slices[1]), (&b"ing"[..], &b"more"[..]));
        outbox.advance(7);
        assert_eq!((account.used(), pool.in_use()), (0, 0));
        outbox.push_charged(ChargedBytes::held(&account, b"sent".to_vec()), 4);
        assert!(outbox.is_empty());
    }

    #[test]
    fn an_outbox_keeps_the_order_over_blocks_and_partial_writes() {
        let (pool, (_budget, account)) = (Pool::new(4), account(4));
        let bytes: Vec<u8> = (0..BLOCK_LEN * 3).map(|i| (i % 251) as u8).collect();
        let mut outbox = Outbox::default();
        for chunk in bytes.chunks(7_001) {
            outbox.push(&pool, &account, chunk).unwrap();
        }
        let mut seen = Vec::new();
        while !outbox.is_empty() {
            let mut slices = [IoSlice::new(&[]); 2];
            let count = outbox.slices(&mut slices);
            let all: Vec<u8> = slices[..count].iter().flat_map(|s| s.to_vec()).collect();
            let sent = all.len().min(5_003);
            seen.extend_from_slice(&all[..sent]);
            outbox.advance(sent);
        }
        assert_eq!(seen, bytes);
        assert_eq!(pool.in_use(), 0);
    }

    #[test]
    fn a_lack_of_memory_is_reported_and_what_fitted_is_kept() {
        let (pool, (_budget, account)) = (Pool::new(1), account(4));
        let mut outbox = Outbox::default();
        assert_eq!(outbox.push(&pool, &account, &vec![7; 4 * BLOCK_LEN + 1]), Err(MemoryFull));
        assert_eq!(outbox.len(), 4 * BLOCK_LEN);
        outbox.clear();
        assert_eq!(pool.in_use(), 0);
    }

    #[test]
    fn returned_blocks_are_kept_up_to_a_limit_and_reused() {
        let (pool, (_budget, account)) = (Pool::new(100), account(100));
        let free = || pool.shared.free.borrow().len();
        let blocks: Vec<_> = (0..100).filter_map(|_| pool.acquire(&account).ok()).collect();
        assert_eq!((blocks.len(), free()), (100, 0));
        drop(blocks);
        assert_eq!(free(), FREE_MAX);
        let _again = pool.acquire(&account);
        assert_eq!(free(), FREE_MAX - 1);
        pool.set_keep(3);
        assert_eq!(free(), 3);
    }

    #[test]
    fn an_empty_outbox_owns_no_heap() {
        let (pool, (_budget, account)) = (Pool::new(8), account(8));
        let mut outbox = Outbox::default();
        outbox.push(&pool, &account, &vec![1; 5 * BLOCK_LEN]).unwrap();
        outbox.advance(5 * BLOCK_LEN);
        assert_eq!((outbox.blocks.capacity(), pool.in_use()), (0, 0));
    }

    proptest! {
        #[test]
        fn an_outbox_is_a_byte_queue_and_holds_no_surplus_block(
            acts in proptest::collection::vec((any::<bool>(), 0..3 * BLOCK_LEN), 1..40)
        ) {
            let (pool, (_budget, account)) = (Pool::new(6), account(6));
            let (mut outbox, mut model) = (Outbox::default(), VecDeque::<u8>::new());
            let mut next = 0_u32;
            for (pushes, n) in acts {
                if pushes {
                    let bytes: Vec<u8> = (next..).take(n).map(|i| (i % 253) as u8).collect();
                    next += n as u32;
                    let before = outbox.len();
                    let whole = outbox.push(&pool, &account, &bytes).is_ok();
                    let kept = outbox.len() - before;
                    prop_assert_eq!(whole, kept == n);
                    prop_assert!(whole || account.room() < BLOCK_LEN);
                    model.extend(&bytes[..kept]);
                } else {
                    outbox.advance(n.min(model.len()));
                    model.drain(..n.min(model.len()));
                }
                prop_assert_eq!(outbox.len(), model.len());
                prop_assert_eq!(outbox.is_empty(), model.is_empty());
                // Only the first block can be sent in part, only the last filled in part.
                prop_assert!(pool.in_use() <= model.len().div_ceil(BLOCK_LEN) + 1);
                let mut slices = [IoSlice::new(&[]); 8];
                let count = outbox.slices(&mut slices);
                let all = slices[..count].iter().flat_map(|slice| slice.iter());
                prop_assert!(all.eq(model.iter()));
            }
            outbox.clear();
            prop_assert_eq!(pool.in_use(), 0);
        }
    }
}

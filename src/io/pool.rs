//! Blocks for bytes that a socket did not take yet: the bound of the daemon's memory.
//!
//! A [`Loan`] gives its block back when dropped, so no error path can leak one; that free list is
//! the one shared cell of the program.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::IoSlice;
use std::rc::Rc;

/// Size of a block in bytes: one record of 16,401 bytes with its header, and a little.
pub const BLOCK: usize = 16 * 1024 + 64;

/// A bounded stock of blocks. Blocks are allocated when first needed.
pub struct Pool {
    shelf: Rc<RefCell<FreeBlocks>>,
}

struct FreeBlocks {
    free: Vec<Box<[u8]>>,
    lent: usize,
    most: usize,
}

impl Pool {
    /// A stock of at most `most` blocks.
    pub fn new(most: usize) -> Self {
        Self { shelf: Rc::new(RefCell::new(FreeBlocks { free: Vec::new(), lent: 0, most })) }
    }

    /// One block, or `None` when all are out.
    pub fn lend(&self) -> Option<Loan> {
        let mut shelf = self.shelf.borrow_mut();
        if shelf.lent >= shelf.most {
            return None;
        }
        shelf.lent += 1;
        let block = shelf.free.pop().unwrap_or_else(|| vec![0; BLOCK].into_boxed_slice());
        Some(Loan { block, start: 0, end: 0, shelf: Rc::clone(&self.shelf) })
    }

    /// How many blocks could be lent now.
    pub fn lendable(&self) -> usize {
        let shelf = self.shelf.borrow();
        shelf.most.saturating_sub(shelf.lent)
    }

    /// How many blocks are out.
    pub fn in_use(&self) -> usize {
        self.shelf.borrow().lent
    }

    /// Another bound, which holds at once for what is lent from now on.
    pub fn set_most(&self, most: usize) {
        self.shelf.borrow_mut().most = most;
    }

    /// How many there may be.
    pub fn most(&self) -> usize {
        self.shelf.borrow().most
    }
}

/// A block on loan: bytes from `start` to `end` are still to be sent.
pub struct Loan {
    block: Box<[u8]>,
    start: usize,
    end: usize,
    shelf: Rc<RefCell<FreeBlocks>>,
}

impl Loan {
    /// Appends as much of `bytes` as fits; returns how much that was.
    pub fn fill(&mut self, bytes: &[u8]) -> usize {
        let room = &mut self.block[self.end..];
        let len = room.len().min(bytes.len());
        room[..len].copy_from_slice(&bytes[..len]);
        self.end += len;
        len
    }

    /// The bytes that are still to be sent.
    pub fn rest(&self) -> &[u8] {
        &self.block[self.start..self.end]
    }

    /// Drops the first `n` of them, or all.
    pub fn advance(&mut self, n: usize) {
        self.start = (self.start + n).min(self.end);
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        let mut shelf = self.shelf.borrow_mut();
        shelf.lent -= 1;
        if shelf.free.len() < KEPT {
            shelf.free.push(std::mem::take(&mut self.block));
        }
    }
}

/// The unsent bytes of one socket, in order. Owns no heap while empty.
#[derive(Default)]
pub struct Outbox {
    loans: VecDeque<Loan>,
}

impl Outbox {
    /// Nothing is unsent.
    pub fn is_empty(&self) -> bool {
        self.loans.is_empty()
    }

    /// Unsent bytes.
    pub fn len(&self) -> usize {
        self.loans.iter().map(|loan| loan.rest().len()).sum()
    }

    /// Appends bytes, the last block first. `false` = the pool ran out; what fitted is kept.
    #[must_use]
    pub fn push(&mut self, pool: &Pool, mut bytes: &[u8]) -> bool {
        if let Some(last) = self.loans.back_mut() {
            bytes = &bytes[last.fill(bytes)..];
        }
        while !bytes.is_empty() {
            let Some(mut loan) = pool.lend() else { return false };
            bytes = &bytes[loan.fill(bytes)..];
            self.loans.push_back(loan);
        }
        true
    }

    /// The first blocks' bytes for one vectored write; returns how many slices are set.
    pub fn slices<'a>(&'a self, into: &mut [IoSlice<'a>]) -> usize {
        let mut count = 0;
        for (slot, loan) in into.iter_mut().zip(&self.loans) {
            *slot = IoSlice::new(loan.rest());
            count += 1;
        }
        count
    }

    /// Drops the first `n` bytes, which have been sent.
    pub fn advance(&mut self, mut n: usize) {
        while let Some(first) = self.loans.front_mut() {
            let len = first.rest().len();
            if n < len {
                first.advance(n);
                return;
            }
            n -= len;
            self.loans.pop_front();
        }
        self.loans = VecDeque::new();
    }

    /// Drops everything.
    pub fn clear(&mut self) {
        self.loans = VecDeque::new();
    }
}

/// Returned blocks kept for the next loan; more go back to the allocator.
const KEPT: usize = 32;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_pool_never_lends_more_than_it_has() {
        let pool = Pool::new(2);
        let first = pool.lend().unwrap();
        let second = pool.lend().unwrap();
        assert!(pool.lend().is_none());
        drop(first);
        assert_eq!((pool.lendable(), pool.in_use()), (1, 1));
        drop(second);
        assert_eq!((pool.lendable(), pool.in_use()), (2, 0));
    }

    #[test]
    fn an_outbox_keeps_the_order_over_blocks_and_partial_writes() {
        let pool = Pool::new(4);
        let bytes: Vec<u8> = (0..BLOCK * 3).map(|i| (i % 251) as u8).collect();
        let mut outbox = Outbox::default();
        for chunk in bytes.chunks(7_001) {
            assert!(outbox.push(&pool, chunk));
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
    fn a_full_pool_says_so_and_keeps_what_fitted() {
        let pool = Pool::new(1);
        let mut outbox = Outbox::default();
        assert!(!outbox.push(&pool, &vec![7; BLOCK + 1]));
        assert_eq!(outbox.len(), BLOCK);
        outbox.clear();
        assert_eq!(pool.in_use(), 0);
    }

    #[test]
    fn returned_blocks_are_kept_up_to_a_floor_and_used_again() {
        let pool = Pool::new(100);
        let loans: Vec<Loan> = (0..100).filter_map(|_| pool.lend()).collect();
        assert_eq!(pool.shelf.borrow().free.len(), 0);
        drop(loans);
        assert_eq!(pool.shelf.borrow().free.len(), KEPT);
        let _again = pool.lend();
        assert_eq!(pool.shelf.borrow().free.len(), KEPT - 1);
    }

    #[test]
    fn an_empty_outbox_owns_no_heap() {
        let pool = Pool::new(8);
        let mut outbox = Outbox::default();
        assert!(outbox.push(&pool, &vec![1; 5 * BLOCK]));
        outbox.advance(5 * BLOCK);
        assert_eq!((outbox.loans.capacity(), pool.in_use()), (0, 0));
    }

    proptest! {
        #[test]
        fn an_outbox_is_a_queue_of_bytes_and_holds_no_block_too_many(
            acts in proptest::collection::vec((any::<bool>(), 0..3 * BLOCK), 1..40)
        ) {
            let pool = Pool::new(6);
            let (mut outbox, mut model) = (Outbox::default(), VecDeque::<u8>::new());
            let mut next = 0_u32;
            for (pushes, n) in acts {
                if pushes {
                    let bytes: Vec<u8> = (next..).take(n).map(|i| (i % 253) as u8).collect();
                    next += n as u32;
                    let before = outbox.len();
                    let whole = outbox.push(&pool, &bytes);
                    let kept = outbox.len() - before;
                    prop_assert_eq!(whole, kept == n);
                    prop_assert!(whole || pool.lendable() == 0);
                    model.extend(&bytes[..kept]);
                } else {
                    outbox.advance(n.min(model.len()));
                    model.drain(..n.min(model.len()));
                }
                prop_assert_eq!(outbox.len(), model.len());
                prop_assert_eq!(outbox.is_empty(), model.is_empty());
                // Only the first block can be sent in part, only the last filled in part.
                prop_assert!(pool.in_use() <= model.len().div_ceil(BLOCK) + 1);
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

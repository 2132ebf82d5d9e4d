//! A bounded pool of buffers for bytes that a socket did not accept yet. It bounds the memory that
//! the daemon needs for relayed data.
//!
//! A `PooledBlock` returns its buffer when it is dropped, so no error path can leak one. The free
//! list is the only shared cell of the program.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::IoSlice;
use std::rc::Rc;

/// Size of a block in bytes: one record with 16,401 bytes of payload and its header, rounded up.
pub const BLOCK_LEN: usize = 16 * 1024 + 64;

/// A bounded pool of blocks of [`BLOCK_LEN`] bytes. A block is allocated when it is first needed.
pub struct Pool {
    blocks: Rc<RefCell<FreeList>>,
}

struct FreeList {
    free: Vec<Box<[u8]>>,
    in_use: usize,
    capacity: usize,
}

impl Pool {
    /// A pool of at most `capacity` blocks.
    pub fn new(capacity: usize) -> Self {
        Self { blocks: Rc::new(RefCell::new(FreeList { free: Vec::new(), in_use: 0, capacity })) }
    }

    /// Takes one block out of the pool; `None` if all are in use.
    fn acquire(&self) -> Option<PooledBlock> {
        let mut blocks = self.blocks.borrow_mut();
        if blocks.in_use >= blocks.capacity {
            return None;
        }
        blocks.in_use += 1;
        let bytes = blocks.free.pop().unwrap_or_else(|| vec![0; BLOCK_LEN].into_boxed_slice());
        Some(PooledBlock { bytes, start: 0, end: 0, blocks: Rc::clone(&self.blocks) })
    }

    /// Number of blocks that can be acquired now.
    pub fn available(&self) -> usize {
        let blocks = self.blocks.borrow();
        blocks.capacity.saturating_sub(blocks.in_use)
    }

    /// Number of blocks in use.
    pub fn in_use(&self) -> usize {
        self.blocks.borrow().in_use
    }

    /// Sets the capacity. Blocks in use above it stay valid; new ones are refused until enough have
    /// been returned.
    pub fn set_capacity(&self, capacity: usize) {
        self.blocks.borrow_mut().capacity = capacity;
    }

    /// Largest number of blocks that may be in use.
    pub fn capacity(&self) -> usize {
        self.blocks.borrow().capacity
    }
}

/// A block in use. The bytes from `start` to `end` are still to be sent.
struct PooledBlock {
    bytes: Box<[u8]>,
    start: usize,
    end: usize,
    blocks: Rc<RefCell<FreeList>>,
}

impl PooledBlock {
    /// Appends as much of `bytes` as fits; returns the number of bytes appended.
    fn append(&mut self, bytes: &[u8]) -> usize {
        let room = &mut self.bytes[self.end..];
        let len = room.len().min(bytes.len());
        room[..len].copy_from_slice(&bytes[..len]);
        self.end += len;
        len
    }

    /// The bytes still to be sent.
    fn unsent(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// Drops the first `n` unsent bytes, or all of them if there are fewer.
    fn advance(&mut self, n: usize) {
        self.start = (self.start + n).min(self.end);
    }
}

impl Drop for PooledBlock {
    fn drop(&mut self) {
        let mut blocks = self.blocks.borrow_mut();
        blocks.in_use -= 1;
        if blocks.free.len() < FREE_MAX {
            blocks.free.push(std::mem::take(&mut self.bytes));
        }
    }
}

/// All blocks of the [`Pool`] are in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolExhausted;

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

    /// Appends bytes; fills the last block first.
    ///
    /// # Errors
    /// No block is available. The bytes that fitted are kept.
    pub fn push(&mut self, pool: &Pool, mut bytes: &[u8]) -> Result<(), PoolExhausted> {
        if let Some(last) = self.blocks.back_mut() {
            bytes = &bytes[last.append(bytes)..];
        }
        while !bytes.is_empty() {
            let Some(mut block) = pool.acquire() else { return Err(PoolExhausted) };
            bytes = &bytes[block.append(bytes)..];
            self.blocks.push_back(block);
        }
        Ok(())
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

    #[test]
    fn the_pool_never_exceeds_its_capacity() {
        let pool = Pool::new(2);
        let first = pool.acquire().unwrap();
        let second = pool.acquire().unwrap();
        assert!(pool.acquire().is_none());
        drop(first);
        assert_eq!((pool.available(), pool.in_use()), (1, 1));
        drop(second);
        assert_eq!((pool.available(), pool.in_use()), (2, 0));
    }

    #[test]
    fn an_outbox_keeps_the_order_over_blocks_and_partial_writes() {
        let pool = Pool::new(4);
        let bytes: Vec<u8> = (0..BLOCK_LEN * 3).map(|i| (i % 251) as u8).collect();
        let mut outbox = Outbox::default();
        for chunk in bytes.chunks(7_001) {
            outbox.push(&pool, chunk).unwrap();
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
    fn an_exhausted_pool_is_reported_and_what_fitted_is_kept() {
        let pool = Pool::new(1);
        let mut outbox = Outbox::default();
        assert_eq!(outbox.push(&pool, &vec![7; BLOCK_LEN + 1]), Err(PoolExhausted));
        assert_eq!(outbox.len(), BLOCK_LEN);
        outbox.clear();
        assert_eq!(pool.in_use(), 0);
    }

    #[test]
    fn returned_blocks_are_kept_up_to_a_limit_and_reused() {
        let pool = Pool::new(100);
        let blocks: Vec<PooledBlock> = (0..100).filter_map(|_| pool.acquire()).collect();
        assert_eq!(pool.blocks.borrow().free.len(), 0);
        drop(blocks);
        assert_eq!(pool.blocks.borrow().free.len(), FREE_MAX);
        let _again = pool.acquire();
        assert_eq!(pool.blocks.borrow().free.len(), FREE_MAX - 1);
    }

    #[test]
    fn an_empty_outbox_owns_no_heap() {
        let pool = Pool::new(8);
        let mut outbox = Outbox::default();
        outbox.push(&pool, &vec![1; 5 * BLOCK_LEN]).unwrap();
        outbox.advance(5 * BLOCK_LEN);
        assert_eq!((outbox.blocks.capacity(), pool.in_use()), (0, 0));
    }

    proptest! {
        #[test]
        fn an_outbox_is_a_byte_queue_and_holds_no_surplus_block(
            acts in proptest::collection::vec((any::<bool>(), 0..3 * BLOCK_LEN), 1..40)
        ) {
            let pool = Pool::new(6);
            let (mut outbox, mut model) = (Outbox::default(), VecDeque::<u8>::new());
            let mut next = 0_u32;
            for (pushes, n) in acts {
                if pushes {
                    let bytes: Vec<u8> = (next..).take(n).map(|i| (i % 253) as u8).collect();
                    next += n as u32;
                    let before = outbox.len();
                    let whole = outbox.push(&pool, &bytes).is_ok();
                    let kept = outbox.len() - before;
                    prop_assert_eq!(whole, kept == n);
                    prop_assert!(whole || pool.available() == 0);
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

//! Memory for bytes of clients: the pool of blocks, the scratch block, and incomplete hellos.

use crate::flow::transform::{SLOT_COUNT, SLOT_LEN};
use crate::io::pool::{BLOCK_LEN, Pool};

/// The buffers that all sessions share.
pub struct Buffers {
    /// Blocks for bytes that a socket has not accepted yet.
    pub pool: Pool,
    /// The buffer that all reads use.
    pub scratch: Vec<u8>,
    /// Records per read, 1..=[`SLOT_COUNT`]; fewer on machines with little memory.
    pub slots: usize,
    /// Most bytes that the reads of one step of a relay may bring; the scheduler sets it.
    pub read_max: usize,
    /// Bytes of incomplete hellos, bounded by [`Buffers::hello_bytes_max`].
    pub hello_bytes: usize,
}

impl Buffers {
    /// `blocks_max` bounds the pool; `slots` is clamped to 1..=[`SLOT_COUNT`].
    pub fn new(blocks_max: usize, slots: usize) -> Self {
        let slots = slots.clamp(1, SLOT_COUNT);
        Self {
            pool: Pool::new(blocks_max),
            scratch: vec![0; SLOT_LEN * slots],
            slots,
            read_max: usize::MAX,
            hello_bytes: 0,
        }
    }

    /// Blocks that are left for relays. An eighth of the pool is reserved for answers and openings
    /// of new sessions, which are written without a read before.
    pub fn spare_blocks(&self) -> usize {
        self.pool.available().saturating_sub(self.pool.capacity() / 8)
    }

    /// The number of records that a read may request, so that the pool has room if the write
    /// accepts nothing; 0 = the session has to wait for a block. At most half of the spare blocks,
    /// so that one session cannot use up the pool.
    pub fn records_to_read(&self) -> usize {
        match self.spare_blocks() {
            0 => 0,
            free => (free / 2).clamp(1, self.slots),
        }
    }

    /// Most bytes of incomplete hellos at once.
    pub fn hello_bytes_max(&self) -> usize {
        (self.pool.capacity() * BLOCK_LEN / 2).max(64 * 1024)
    }

    /// Appends `n` bytes of the scratch block to `seen`, the start of a connection, and counts the
    /// memory.
    ///
    /// # Errors
    /// All incomplete hellos together are larger than [`Buffers::hello_bytes_max`].
    pub fn keep_hello(&mut self, seen: &mut Vec<u8>, n: usize) -> Result<(), HelloBytesExceeded> {
        let before = seen.capacity();
        seen.reserve_exact(n);
        seen.extend_from_slice(&self.scratch[..n]);
        self.hello_bytes += seen.capacity() - before;
        if self.hello_bytes <= self.hello_bytes_max() { Ok(()) } else { Err(HelloBytesExceeded) }
    }

    /// Stops counting `capacity` bytes of a hello.
    pub fn release_hello(&mut self, capacity: usize) {
        self.hello_bytes = self.hello_bytes.saturating_sub(capacity);
    }

    /// Whether three quarters of the pool are in use; then stalled peers get less time.
    pub fn is_tight(&self) -> bool {
        self.pool.in_use() * 4 >= self.pool.capacity() * 3
    }
}

/// Incomplete hellos use too much memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HelloBytesExceeded;

/// Most bytes of one read before the relay.
pub const READ_MAX: usize = 16_384;

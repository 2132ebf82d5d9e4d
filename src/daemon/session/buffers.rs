//! Memory for bytes of clients: the pool of blocks, the scratch block, and unfinished hellos.

use crate::flow::transform::{SLOT_COUNT, SLOT_LEN};
use crate::io::pool::{BLOCK_LEN, Pool};

/// The buffers that all sessions share.
pub struct Buffers {
    /// Blocks for bytes that a socket has not taken yet: the bound of our memory.
    pub pool: Pool,
    /// Every read lands here first.
    pub scratch: Vec<u8>,
    /// Records per read that this machine can afford, 1..=[`SLOT_COUNT`].
    pub slots: usize,
    /// Bytes of half-received hellos, bounded by [`Buffers::hello_bytes_max`].
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
            hello_bytes: 0,
        }
    }

    /// Blocks that a running session may still take. An eighth of the pool is kept back for what
    /// must be written without a read before it: answers and openings of new sessions.
    pub fn spare_blocks(&self) -> usize {
        self.pool.available().saturating_sub(self.pool.capacity() / 8)
    }

    /// How many records a read may ask for so that the pool can keep whatever a write leaves over;
    /// 0 = none, the session has to wait for a block. At most half of what is free, so that one
    /// session cannot take the last blocks of all.
    pub fn records_to_read(&self) -> usize {
        match self.spare_blocks() {
            0 => 0,
            free => (free / 2).clamp(1, self.slots),
        }
    }

    /// Most bytes of half-received hellos at once.
    pub fn hello_bytes_max(&self) -> usize {
        (self.pool.capacity() * BLOCK_LEN / 2).max(64 * 1024)
    }

    /// Appends `n` bytes of the scratch block to `seen`, the start of a connection, and counts what
    /// that costs.
    ///
    /// # Errors
    /// All half-received hellos together are larger than [`Buffers::hello_bytes_max`].
    pub fn keep_hello(&mut self, seen: &mut Vec<u8>, n: usize) -> Result<(), HelloBytesExceeded> {
        let before = seen.capacity();
        seen.reserve_exact(n);
        seen.extend_from_slice(&self.scratch[..n]);
        self.hello_bytes += seen.capacity() - before;
        if self.hello_bytes <= self.hello_bytes_max() { Ok(()) } else { Err(HelloBytesExceeded) }
    }

    /// Stops counting `capacity` bytes of a hello that was dropped or handed over.
    pub fn release_hello(&mut self, capacity: usize) {
        self.hello_bytes = self.hello_bytes.saturating_sub(capacity);
    }

    /// Unsent bytes hold three quarters of the pool: stalled readers get less time.
    pub fn is_tight(&self) -> bool {
        self.pool.in_use() * 4 >= self.pool.capacity() * 3
    }
}

/// Half-received hellos hold too much memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HelloBytesExceeded;

/// Most bytes asked for by one read before the relay.
pub const READ_MAX: usize = 16_384;

//! Memory for bytes of peers: the accounts, the pool of blocks, and the scratch block.

use crate::daemon::session::memory::{Ledger, SessionAccount};
use crate::flow::transform::{SLOT_COUNT, SLOT_LEN};
use crate::io::pool::{BLOCK_LEN, Pool};
use crate::util::memory::MemoryFull;

/// The buffers that all sessions share, and the accounts of those that each has.
pub struct Buffers {
    /// Who uses how much memory.
    pub memory: Ledger,
    /// Blocks for bytes that a socket has not accepted yet.
    pub pool: Pool,
    /// The buffer that all reads use.
    pub scratch: Vec<u8>,
    /// Records per read, 1..=[`SLOT_COUNT`]; fewer on machines with little memory.
    pub slots: usize,
    /// Most bytes that the reads of one step of a relay may bring; the scheduler sets it.
    pub read_max: usize,
}

impl Buffers {
    /// `blocks_max` blocks of [`BLOCK_LEN`] bytes, and [`SMALL_BUFFERS`], bound all memory that
    /// depends on peers.
    /// `slots` is clamped to 1..=[`SLOT_COUNT`].
    pub fn new(blocks_max: usize, slots: usize) -> Self {
        let slots = slots.clamp(1, SLOT_COUNT);
        Self {
            memory: Ledger::new(blocks_max * BLOCK_LEN + SMALL_BUFFERS),
            pool: Pool::new(blocks_max / 8),
            scratch: vec![0; SLOT_LEN * slots],
            slots,
            read_max: usize::MAX,
        }
    }

    /// Sets the limit of [`Buffers::new`].
    pub fn set_blocks_max(&mut self, blocks_max: usize) {
        self.memory.budget.set_limit(blocks_max * BLOCK_LEN + SMALL_BUFFERS);
        self.pool.set_keep(blocks_max / 8);
    }

    /// The limit, in whole blocks.
    pub fn blocks_max(&self) -> usize {
        (self.memory.budget.limit() - SMALL_BUFFERS) / BLOCK_LEN
    }

    /// Bytes of all buffers that are not blocks of the pool.
    pub fn bytes_beside_blocks(&self) -> usize {
        self.memory.budget.used().saturating_sub(self.pool.in_use() * BLOCK_LEN)
    }

    /// The number of records that a read may request, so that the outbox has room if the write
    /// accepts nothing; 0 = the session has to wait for memory. At most half of the spare blocks,
    /// so that one session cannot use up the memory.
    pub fn records_to_read(&self, account: &SessionAccount) -> usize {
        match account.room() / BLOCK_LEN {
            0 => 0,
            free => (free / 2).clamp(1, self.slots),
        }
    }

    /// The number of bytes that a read before the relay may request, at most `room` and
    /// [`READ_MAX`], so that they can be kept.
    ///
    /// # Errors
    /// There is no room for [`READ_LEAST`] bytes.
    pub fn bytes_to_read(account: &SessionAccount, room: usize) -> Result<usize, MemoryFull> {
        let free = account.class_room();
        let wanted = room.clamp(1, READ_MAX);
        if free < READ_LEAST { Err(MemoryFull) } else { Ok(wanted.min(free)) }
    }

    /// Whether stalled peers of this owner get less time: the owner may take no more, or three
    /// quarters of all memory are in use.
    pub fn is_tight_for(&self, account: &SessionAccount) -> bool {
        self.is_tight() || account.room() < BLOCK_LEN
    }

    /// Whether three quarters of the memory are in use.
    pub fn is_tight(&self) -> bool {
        let budget = &self.memory.budget;
        budget.used() >= budget.limit() / 4 * 3
    }
}

/// Bytes for hellos and answers beside the blocks, so that a pool of few blocks serves as well.
const SMALL_BUFFERS: usize = 64 << 10;
/// Most bytes of one read before the relay.
pub const READ_MAX: usize = 16_384;
/// Fewer bytes are not worth a read: the session waits for memory.
pub const READ_LEAST: usize = 1_024;

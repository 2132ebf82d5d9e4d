//! The number of sessions and the buffer memory that this machine can afford.

use crate::config::settings::Settings;
use crate::daemon::session::capacity::Capacity;
use crate::flow::transform::SLOT_COUNT;
use crate::io::logger::event;
use crate::io::pool::BLOCK_LEN;
use crate::io::rlimit;

/// The limits of this machine.
#[derive(Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Most sessions at once.
    pub sessions: usize,
    /// Blocks of the buffer pool, of [`BLOCK_LEN`] bytes each.
    pub blocks: usize,
    /// Records per read.
    pub slots: usize,
    /// Bytes for everything.
    pub limit: u64,
    /// Bytes of the limit that are left for the sockets in the kernel.
    pub kernel: u64,
}

/// What the config asks for.
#[derive(Debug, Clone, Copy, Default)]
pub struct WantedSizes {
    /// Most sessions at once.
    pub concurrency: u32,
    /// Bytes for everything; `None` = depends on the machine.
    pub limit: Option<u64>,
    /// Bytes for unsent data; `None` = depends on the machine.
    pub buffers: Option<u64>,
    /// Bytes of the replay store.
    pub replay: u64,
}

impl WantedSizes {
    /// The wishes of a config.
    pub fn of(settings: &Settings) -> Self {
        Self {
            concurrency: settings.concurrency,
            limit: settings.memory_limit,
            buffers: settings.buffer_bytes,
            replay: settings.replay.map_or(0, |replay| replay.max_bytes),
        }
    }
}

/// Raises the limit of open files, computes the sizes, and logs them.
pub fn measure(settings: &Settings) -> Sizes {
    let nofile = rlimit::raise_nofile();
    let wanted = WantedSizes::of(settings);
    let sizes = compute(wanted, nofile, rlimit::memory_total());
    let mut capacity = Capacity::default();
    capacity.set_sessions_max(sizes.sessions);
    event! {
        Info, "limits", sessions = sizes.sessions, concurrency = settings.concurrency,
        nofile = nofile, buffers_kib = sizes.blocks * BLOCK_LEN / 1024,
        users = settings.users.len(), fronted = capacity.fronted_max
    };
    // The last part is the rest, so the parts make up the limit.
    event! {
        Info, "memory", limit_kib = sizes.limit / 1024, program_kib = PROGRAM / 1024,
        sessions_kib = sizes.sessions as u64 * SESSION / 1024,
        buffers_kib = sizes.blocks * BLOCK_LEN / 1024, lists_kib = wanted.replay / 1024,
        kernel_kib = sizes.kernel / 1024
    };
    let by_files = sessions_by_files(nofile);
    if by_files < u64::from(settings.concurrency) && sizes.sessions as u64 == by_files {
        event!(
            Warn, "limits",
            hint = ?format_args!("{nofile} open files are enough for {} sessions; raise the limit \
                of open files (ulimit -n) or lower concurrency", sizes.sessions)
        );
    } else if sizes.sessions < settings.concurrency as usize {
        event!(
            Warn, "limits",
            hint = ?format_args!("{} KiB of memory are enough for {} sessions; raise [memory] \
                limit or lower concurrency", sizes.limit / 1024, sizes.sessions)
        );
    }
    sizes
}

/// The limit is a quarter of the memory. It holds the program, the buffers, the replay store, the
/// sessions, and what the sockets need in the kernel; the last two share evenly what the others
/// leave. `nofile` is the limit of open files, with two descriptors per session and `OWN_FILES` for
/// the rest; `memory` is bytes.
pub fn compute(wanted: WantedSizes, nofile: u64, memory: Option<u64>) -> Sizes {
    let memory = memory.unwrap_or(UNKNOWN_MEMORY);
    let limit = wanted.limit.unwrap_or((memory / 4).clamp(LEAST_LIMIT, MOST_LIMIT));
    let automatic = (memory / 16).min(limit / 4).clamp(LEAST_BUFFERS, MOST_BUFFERS);
    let bytes = wanted.buffers.unwrap_or(automatic);
    let blocks = (bytes / BLOCK_LEN as u64).max(2) as usize;
    let fixed = PROGRAM + blocks as u64 * BLOCK_LEN as u64 + wanted.replay;
    let left = limit.saturating_sub(fixed);
    let by_memory = (left / 2 / SESSION).max(LEAST_SESSIONS);
    let sessions = u64::from(wanted.concurrency).min(sessions_by_files(nofile)).min(by_memory);
    let sessions = sessions.max(1);
    let kernel = left.saturating_sub(sessions * SESSION);
    let slots = if memory <= SMALL_MACHINE {
        SLOT_COUNT / 4
    } else if memory <= MIDDLE_MACHINE {
        SLOT_COUNT / 2
    } else {
        SLOT_COUNT
    };
    Sizes { sessions: sessions as usize, blocks, slots, limit, kernel }
}

fn sessions_by_files(nofile: u64) -> u64 {
    (nofile.saturating_sub(OWN_FILES.min(nofile / 4)) / 2).max(1)
}

/// Descriptors for listeners, the poller, signals, admin connections, lookups and second dial
/// attempts; at most a quarter of the limit.
const OWN_FILES: u64 = 64;
const LEAST_LIMIT: u64 = 8 << 20;
const MOST_LIMIT: u64 = 512 << 20;
/// Bytes of the process without sessions.
const PROGRAM: u64 = 3 << 20;
/// Bytes of a session in our tables.
const SESSION: u64 = 1 << 10;
/// Sessions for which there is always memory.
const LEAST_SESSIONS: u64 = 64;
const LEAST_BUFFERS: u64 = 1 << 20;
const MOST_BUFFERS: u64 = 64 << 20;
const UNKNOWN_MEMORY: u64 = 64 << 20;
/// Bytes. Up to this much memory, a read has a quarter of the records: small CPU caches.
const SMALL_MACHINE: u64 = 128 << 20;
/// Bytes. Up to this much memory, a read has half of the records.
const MIDDLE_MACHINE: u64 = 512 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn wanted(concurrency: u32) -> WantedSizes {
        WantedSizes { concurrency, replay: MIB, ..WantedSizes::default() }
    }

    fn sizes(concurrency: u32, nofile: u64, memory: Option<u64>) -> Sizes {
        compute(wanted(concurrency), nofile, memory)
    }

    #[test]
    fn open_files_bound_the_sessions() {
        assert_eq!(sizes(4096, 1024, None).sessions, 480);
        assert_eq!(sizes(4096, 20_000, None).sessions, 4096);
        assert_eq!(sizes(4096, 64, None).sessions, 24);
        assert_eq!(sizes(4096, 2, None).sessions, 1);
    }

    #[test]
    fn memory_bounds_the_buffers() {
        assert_eq!(sizes(1, 99, Some(64 * MIB)).blocks, 4 * MIB as usize / BLOCK_LEN);
        assert_eq!(sizes(1, 99, Some(128 * MIB)).slots, SLOT_COUNT / 4);
        assert_eq!(sizes(1, 99, Some(129 * MIB)).slots, SLOT_COUNT / 2);
        assert_eq!(sizes(1, 99, Some(1 << 40)).blocks, MOST_BUFFERS as usize / BLOCK_LEN);
        assert_eq!(sizes(1, 99, Some(1 << 40)).slots, SLOT_COUNT);
        let one = WantedSizes { buffers: Some(1), ..wanted(1) };
        assert_eq!(compute(one, 99, None).blocks, 2);
    }

    #[test]
    fn memory_bounds_the_sessions_and_the_parts_make_up_the_limit() {
        for (memory, limit) in [(16, 8), (64, 16), (512, 128), (24 << 10, 512)] {
            let sizes = sizes(1_000_000, 10_000_000, Some(memory * MIB));
            assert_eq!(sizes.limit, limit * MIB);
            let blocks = sizes.blocks as u64 * BLOCK_LEN as u64;
            let sum = PROGRAM + sizes.sessions as u64 * SESSION + blocks + MIB + sizes.kernel;
            assert_eq!(sum, sizes.limit);
            assert!(sizes.kernel >= sizes.sessions as u64 * SESSION);
        }
        let small = WantedSizes { limit: Some(MIB), ..wanted(4096) };
        let sizes = compute(small, 20_000, None);
        assert_eq!((sizes.sessions as u64, sizes.kernel), (LEAST_SESSIONS, 0));
    }
}

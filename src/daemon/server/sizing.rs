//! The number of sessions and the buffer memory that this machine can afford.

use crate::config::settings::Settings;
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
}

/// Raises the limit of open files, computes the sizes, and logs them.
pub fn measure(settings: &Settings) -> Sizes {
    let nofile = rlimit::raise_nofile();
    let memory = rlimit::memory_total();
    let sizes = compute(settings.concurrency, settings.buffer_bytes, nofile, memory);
    event! {
        Info, "limits", sessions = sizes.sessions, concurrency = settings.concurrency,
        nofile = nofile, buffers_kib = sizes.blocks * BLOCK_LEN / 1024, users = settings.users.len()
    };
    if sizes.sessions < settings.concurrency as usize {
        event!(
            Warn, "limits",
            hint = ?format_args!("{nofile} open files are enough for {} sessions; raise the limit \
                of open files (ulimit -n) or lower concurrency", sizes.sessions)
        );
    }
    sizes
}

/// Two descriptors per session and `OWN_FILES` for the rest; a sixteenth of the memory for unsent
/// bytes. `buffers` and `memory` are bytes; `nofile` is the limit of open files.
pub fn compute(concurrency: u32, buffers: Option<u64>, nofile: u64, memory: Option<u64>) -> Sizes {
    let by_files = nofile.saturating_sub(OWN_FILES.min(nofile / 4)) / 2;
    let sessions = u64::from(concurrency).min(by_files).max(1) as usize;
    let memory = memory.unwrap_or(UNKNOWN_MEMORY);
    let bytes = buffers.unwrap_or((memory / 16).clamp(LEAST_BUFFERS, MOST_BUFFERS));
    let blocks = (bytes / BLOCK_LEN as u64).max(2) as usize;
    let slots = if memory <= SMALL_MACHINE {
        SLOT_COUNT / 4
    } else if memory <= MIDDLE_MACHINE {
        SLOT_COUNT / 2
    } else {
        SLOT_COUNT
    };
    Sizes { sessions, blocks, slots }
}

/// Descriptors for listeners, the poller, signals, admin connections, lookups and second dial
/// attempts; at most a quarter of the limit.
const OWN_FILES: u64 = 64;
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

    #[test]
    fn open_files_bound_the_sessions() {
        assert_eq!(compute(4096, None, 1024, None).sessions, 480);
        assert_eq!(compute(4096, None, 20_000, None).sessions, 4096);
        assert_eq!(compute(4096, None, 64, None).sessions, 24);
        assert_eq!(compute(4096, None, 2, None).sessions, 1);
    }

    #[test]
    fn memory_bounds_the_buffers() {
        let mib = 1 << 20;
        assert_eq!(compute(1, None, 99, Some(64 * mib)).blocks, 4 * mib as usize / BLOCK_LEN);
        assert_eq!(compute(1, None, 99, Some(128 * mib)).slots, SLOT_COUNT / 4);
        assert_eq!(compute(1, None, 99, Some(129 * mib)).slots, SLOT_COUNT / 2);
        assert_eq!(compute(1, None, 99, Some(1 << 40)).blocks, MOST_BUFFERS as usize / BLOCK_LEN);
        assert_eq!(compute(1, None, 99, Some(1 << 40)).slots, SLOT_COUNT);
        assert_eq!(compute(1, Some(1), 99, None).blocks, 2);
    }
}

//! Looks at the memory that the process and its sockets occupy, and limits the buffers of the
//! sockets by the level. Does so in rounds that run anyway: an idle daemon sleeps.

use crate::daemon::Daemon;
use crate::daemon::session::Session;
use crate::io::logger::fields;
use crate::io::wire::{Net, Wire};
use crate::limits::memory_level::{MemoryLevel, MemoryUse, SocketsSlice};

impl<N: Net> Daemon<N> {
    /// One bounded step. Returns whether the next round has to go on.
    pub(super) fn watch_memory(&mut self) -> bool {
        let now = self.shared.time.now;
        self.memory_watch.read += self.shared.telemetry.counters.read_bytes;
        let pause_ms = match self.memory_watch.read >= self.shared.memory.limit() / 32 {
            // Asking all sockets takes a few milliseconds per thousand sessions.
            true => BUSY_PERIOD_MS + self.sessions.len() as u64 / SESSIONS_PER_MS,
            false => PERIOD_MS,
        };
        if let Some(slice) = self.memory_watch.sockets.take() {
            self.look_at_sockets(slice);
        } else if now.0 >= self.memory_watch.looked_ms + pause_ms {
            (self.memory_watch.looked_ms, self.memory_watch.read) = (now.0, 0);
            let (resident, most_kernel) = self.net.memory_in_use();
            self.memory_watch.resident = resident;
            match self.shared.memory.may_be_short(resident.saturating_add(most_kernel)) {
                // The number of the kernel is that of the whole system.
                true => self.look_at_sockets(SocketsSlice { next: 0, sum: 0 }),
                false => self.record_memory(most_kernel),
            }
        }
        self.resize_sockets();
        let watch = &self.memory_watch;
        watch.sockets.is_some() || watch.resize_next.is_some()
    }

    fn look_at_sockets(&mut self, mut slice: SocketsSlice) {
        let end = (slice.next + SLICE).min(self.sessions.capacity());
        for index in slice.next..end {
            if let Some(session) = self.sessions.get_mut(index) {
                let bytes = u32::try_from(session.memory()).unwrap_or(u32::MAX);
                // Soon after it was little it may be as much again.
                let before = session.client.account.kernel();
                session.client.account.set_kernel(bytes.max(before - before.div_ceil(64)));
                slice.sum += u64::from(bytes);
            }
        }
        if end < self.sessions.capacity() {
            slice.next = end;
            self.memory_watch.sockets = Some(slice);
        } else {
            self.record_memory(slice.sum);
        }
    }

    fn record_memory(&mut self, kernel: u64) {
        let memory = &mut self.shared.memory;
        let has_changed = memory.record(self.memory_watch.resident, kernel);
        if memory.level() != MemoryLevel::Normal {
            self.relieve_system();
        }
        if !has_changed {
            return;
        }
        let memory = &self.shared.memory;
        self.memory_watch.resize_next = Some(0);
        let telemetry = &mut self.shared.telemetry;
        telemetry.counters.state_changed = true;
        // Without what is used, so that the lines of a level that comes and goes are folded.
        telemetry.info(fields!(
            "memory-level", level = %memory.level().as_str(), limit_kib = memory.limit() / 1024
        ));
    }

    /// Limits the buffers of some sockets again after the level has changed.
    fn resize_sockets(&mut self) {
        let Some(next) = self.memory_watch.resize_next.take() else { return };
        let end = (next + SLICE).min(self.sessions.capacity());
        for index in next..end {
            if let Some(session) = self.sessions.get_mut(index) {
                session.limit_buffers(&self.shared.memory, true);
            }
        }
        self.memory_watch.resize_next = (end < self.sessions.capacity()).then_some(end);
    }
}

impl<W: Wire> Session<W> {
    /// Limits the buffers of the session's sockets in the kernel. Those of a user that need no
    /// limit are left alone, unless `was_limited`: a limit cannot be lifted on every kernel.
    pub fn limit_buffers(&mut self, memory: &MemoryUse, was_limited: bool) {
        let bytes = memory.socket_buffer(self.client.class(), self.client.account.held_by_owner());
        if bytes.is_some() || was_limited {
            self.sockets().for_each(|wire| wire.limit_buffers(bytes));
        }
    }

    /// Bytes that the session's sockets occupy in the kernel.
    fn memory(&mut self) -> u64 {
        self.sockets().map(|wire| wire.memory()).sum()
    }
}

/// Milliseconds between two looks.
const PERIOD_MS: u64 = 100;
/// The same after enough bytes to fill the buffers of many sockets.
const BUSY_PERIOD_MS: u64 = 5;
/// Sessions for which the period is a millisecond longer.
const SESSIONS_PER_MS: u64 = 64;
/// Sessions per round.
const SLICE: usize = 256;

//! How short memory is, from what the process and its sockets in the kernel occupy.

use crate::util::memory::Class;

/// How short memory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum MemoryLevel {
    /// There is enough.
    Normal,
    /// The buffers of sockets are limited.
    Tight,
    /// The buffers of sockets are small, and sessions that do not drain are closed.
    Critical,
}

impl MemoryLevel {
    /// The word in `/stats` and in the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Tight => "tight",
            Self::Critical => "critical",
        }
    }
}

/// The limit of all memory, what was occupied when it was last looked at, and the level.
#[derive(Debug)]
pub struct MemoryUse {
    limit: u64,
    /// Bytes of the limit for sockets in the kernel.
    kernel_room: u64,
    /// Bytes that the process occupies.
    pub resident: u64,
    /// Bytes that sockets occupy in the kernel.
    pub kernel: u64,
    level: MemoryLevel,
}

impl MemoryUse {
    /// Limits in bytes: of all memory, and of the part for sockets in the kernel.
    pub fn new(limit: u64, kernel_room: u64) -> Self {
        let level = MemoryLevel::Normal;
        Self { limit, kernel_room, resident: 0, kernel: 0, level }
    }

    /// Replaces the limits.
    pub fn set_limits(&mut self, limit: u64, kernel_room: u64) {
        (self.limit, self.kernel_room) = (limit, kernel_room);
    }

    /// The limit of all memory, in bytes.
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// The present level.
    pub fn level(&self) -> MemoryLevel {
        self.level
    }

    /// Whether so many bytes may be too many, so that it is worth to look closer.
    pub fn may_be_short(&self, bytes: u64) -> bool {
        self.level != MemoryLevel::Normal || bytes >= self.sixteenths(TIGHT_FROM)
    }

    /// Records what is occupied, in bytes. Returns whether the level has changed.
    pub fn record(&mut self, resident: u64, kernel: u64) -> bool {
        (self.resident, self.kernel) = (resident, kernel);
        let sum = resident.saturating_add(kernel);
        // A level ends later than it begins, so that it does not change all the time.
        let is_at_least = |level, from: u64| {
            sum >= self.sixteenths(from - if self.level >= level { HYSTERESIS } else { 0 })
        };
        let level = if is_at_least(MemoryLevel::Critical, CRITICAL_FROM) {
            MemoryLevel::Critical
        } else if is_at_least(MemoryLevel::Tight, TIGHT_FROM) {
            MemoryLevel::Tight
        } else {
            MemoryLevel::Normal
        };
        std::mem::replace(&mut self.level, level) != level
    }

    /// Bytes to give back until memory is no longer tight.
    pub fn excess(&self) -> u64 {
        let sum = self.resident.saturating_add(self.kernel);
        match self.level {
            MemoryLevel::Normal => 0,
            _ => sum.saturating_sub(self.sixteenths(TIGHT_FROM - HYSTERESIS)),
        }
    }

    /// Bytes in the process and in the kernel that one owner may hold while memory is short. For
    /// more, it loses sessions that do not drain, and new ones wait.
    pub fn fair_part(&self) -> u64 {
        self.limit / 8
    }

    /// Whether a user whose sessions hold so many bytes has to wait with new ones.
    pub fn has_to_wait(&self, held: u64) -> bool {
        self.level != MemoryLevel::Normal && held > self.fair_part()
    }

    /// How long a session may hold memory without taking it, in milliseconds.
    pub fn patience_ms(&self) -> u64 {
        match self.level {
            MemoryLevel::Normal => 1_000,
            MemoryLevel::Tight => 3_000,
            MemoryLevel::Critical => 100,
        }
    }

    /// The size in bytes to which the buffers of a session's sockets are limited; `None` = the
    /// kernel adapts it, up to several MiB.
    ///
    /// Two sockets have two buffers each, and the kernel doubles the size. So an unauthenticated
    /// client can fill a 64th of what is set aside for the kernel, and a user a 16th.
    /// `held` is what all sessions of that user hold already.
    pub fn socket_buffer(&self, class: Class, held: u64) -> Option<u32> {
        let is_user = class == Class::Users;
        // A user who holds little pays less for others.
        let pays_less = is_user && held <= self.sixteenths(1);
        let level = match self.level {
            MemoryLevel::Critical if pays_less => MemoryLevel::Tight,
            MemoryLevel::Tight if pays_less => MemoryLevel::Normal,
            level => level,
        };
        let share = match (level, is_user) {
            (MemoryLevel::Normal, true) if self.kernel_room >= ADAPTS_FROM => return None,
            (MemoryLevel::Normal, true) => 64,
            (MemoryLevel::Normal, false) => 256,
            (MemoryLevel::Tight, true) => 1_024,
            (MemoryLevel::Tight, false) => 4_096,
            (MemoryLevel::Critical, _) => 16_384,
        };
        let least = match (level, is_user) {
            (MemoryLevel::Normal, true) => 64 << 10,
            (MemoryLevel::Tight, true) => 32 << 10,
            (MemoryLevel::Normal, false) => 16 << 10,
            (MemoryLevel::Critical, true) => 8 << 10,
            (MemoryLevel::Tight | MemoryLevel::Critical, false) => 4 << 10,
        };
        Some((self.kernel_room / share).clamp(least, MOST_FIXED) as u32)
    }

    fn sixteenths(&self, share: u64) -> u64 {
        self.limit / 16 * share
    }
}

/// How far the daemon is in looking at memory and in limiting buffers.
#[derive(Debug, Default)]
pub struct MemoryWatch {
    /// When memory was last looked at, in milliseconds since start.
    pub looked_ms: u64,
    /// Bytes that were read since then.
    pub read: u64,
    /// Bytes that the process occupied, while its sockets are looked at in slices.
    pub resident: u64,
    /// The sockets that are looked at next.
    pub sockets: Option<SocketsSlice>,
    /// The session whose buffers are limited next, after a change of the level.
    pub resize_next: Option<usize>,
}

/// The next session, and the bytes of those before it.
#[derive(Debug, Clone, Copy)]
pub struct SocketsSlice {
    /// The index of the session.
    pub next: usize,
    /// Bytes in the kernel.
    pub sum: u64,
}

/// Sixteenths of the limit from which memory is tight.
const TIGHT_FROM: u64 = 7;
/// Sixteenths of the limit from which memory is critical.
const CRITICAL_FROM: u64 = 10;
/// Sixteenths by which the end of a level is lower than its start.
const HYSTERESIS: u64 = 1;
/// Bytes for sockets from which those of users adapt to the path while memory is not short.
const ADAPTS_FROM: u64 = 32 << 20;
/// Bytes. No fixed buffer is larger.
const MOST_FIXED: u64 = 512 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn a_level_ends_later_than_it_begins() {
        let mut memory = MemoryUse::new(16 * MIB, 3 * MIB);
        let mut levels = Vec::new();
        for sum in [3, 8, 7, 6, 7, 12, 11, 10, 11, 7, 6, 15, 6] {
            memory.record(sum * MIB / 2, sum * MIB / 2);
            levels.push(memory.level().as_str().chars().next().unwrap());
        }
        assert_eq!(levels.iter().collect::<String>(), "nttttccccttct");
    }

    #[test]
    fn the_closer_look_is_taken_in_time() {
        let mut memory = MemoryUse::new(16 * MIB, 3 * MIB);
        assert!(!memory.may_be_short(7 * MIB - 1) && memory.may_be_short(7 * MIB));
        assert!(memory.record(4 * MIB, 4 * MIB) && !memory.record(4 * MIB, 4 * MIB - 1));
        assert!(memory.may_be_short(0));
        assert_eq!(memory.excess(), 2 * MIB - 1);
        memory.record(4 * MIB, 9 * MIB);
        assert_eq!(memory.excess(), 7 * MIB);
        memory.record(MIB, MIB);
        assert_eq!(memory.excess(), 0);
    }

    #[test]
    fn a_user_with_much_waits_and_one_with_little_keeps_its_buffers() {
        let mut memory = MemoryUse::new(16 * MIB, 3 * MIB);
        let normal = memory.socket_buffer(Class::Users, u64::MAX);
        assert!(!memory.has_to_wait(u64::MAX));
        memory.record(8 * MIB, 0);
        assert_eq!(memory.socket_buffer(Class::Users, MIB), normal);
        assert!(memory.socket_buffer(Class::Users, MIB + 1) < normal);
        assert!(memory.has_to_wait(2 * MIB + 1) && !memory.has_to_wait(2 * MIB));
    }

    #[test]
    fn buffers_shrink_with_the_level_and_adapt_on_a_large_machine() {
        let mut large = MemoryUse::new(512 * MIB, 400 * MIB);
        let mut small = MemoryUse::new(16 * MIB, 3 * MIB);
        assert_eq!(large.socket_buffer(Class::Users, u64::MAX), None);
        let mut before = [u32::MAX; 4];
        for sum in [0, 11, 15] {
            large.record(sum * large.limit() / 16, 0);
            small.record(sum * small.limit() / 16, 0);
            let now = [
                (&large, Class::Users),
                (&large, Class::Unauthenticated),
                (&small, Class::Users),
                (&small, Class::Unauthenticated),
            ]
            .map(|(memory, class)| memory.socket_buffer(class, u64::MAX).unwrap_or(u32::MAX));
            assert!(now.iter().zip(before).all(|(now, before)| *now <= before), "{now:?}");
            before = now;
        }
        assert!(before[3] <= 4_096);
    }
}

//! Resting between rounds of many small reads (D19): each wake-up costs far more than a small
//! message, so bytes may gather for a millisecond or two when there are thousands a second.

use std::time::Duration;

/// What one round of the loop did.
#[derive(Debug, Clone, Copy)]
pub struct Round {
    /// Milliseconds since start.
    pub now_ms: u64,
    /// Reads that brought bytes.
    pub reads: u32,
    /// Their bytes.
    pub bytes: u64,
    /// Somebody is on the way from accept to the relay: never rest.
    pub is_handshaking: bool,
}

/// Decides after each round whether to rest.
pub struct ReadCoalescing {
    on: bool,
    /// The window began here.
    since_ms: u64,
    /// The last round that read something.
    read_ms: u64,
    reads: u64,
    bytes: u64,
    /// Windows in a row that were busy with small reads.
    busy: u32,
}

impl ReadCoalescing {
    /// `on` = the setting is `auto`.
    pub fn new(on: bool) -> Self {
        Self { on, since_ms: 0, read_ms: 0, reads: 0, bytes: 0, busy: 0 }
    }

    /// How long to rest now. Judged by windows of 50 ms: more than 2,000 reads a second
    /// of less than 4 KiB on average make it rest during the next window, 1 ms at first, 2 ms
    /// when it lasts; a quiet window ends it, and so do 20 ms without a read.
    pub fn pause(&mut self, round: Round) -> Option<Duration> {
        if !self.on || round.reads == 0 {
            return None;
        }
        if round.now_ms.saturating_sub(self.read_ms) >= IDLE_MS {
            // Nothing came for a while: whoever comes now is not kept waiting.
            (self.since_ms, self.reads, self.bytes, self.busy) = (round.now_ms, 0, 0, 0);
        }
        self.read_ms = round.now_ms;
        let passed = round.now_ms.saturating_sub(self.since_ms);
        if passed >= WINDOW_MS {
            let many = self.reads * 1_000 > READS_PER_S * passed;
            let small = self.bytes < SMALL * self.reads;
            self.busy = if many && small { self.busy.saturating_add(1) } else { 0 };
            (self.since_ms, self.reads, self.bytes) = (round.now_ms, 0, 0);
        }
        self.reads += u64::from(round.reads);
        self.bytes += round.bytes;
        if self.busy == 0 || round.is_handshaking {
            return None;
        }
        Some(Duration::from_millis(if self.busy > LASTING { 2 } else { 1 }))
    }
}

const WINDOW_MS: u64 = 50;
const IDLE_MS: u64 = 20;
const READS_PER_S: u64 = 2_000;
const SMALL: u64 = 4_096;
/// Windows after which a rest is twice as long.
const LASTING: u32 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs `ms` milliseconds with so many reads of so many bytes in each; the last decision.
    fn run(
        moderation: &mut ReadCoalescing,
        from: u64,
        ms: u64,
        reads: u32,
        size: u64,
    ) -> Option<u64> {
        let mut last = None;
        for now_ms in from..from + ms {
            let bytes = u64::from(reads) * size;
            last = moderation.pause(Round { now_ms, reads, bytes, is_handshaking: false });
        }
        last.map(|time| time.as_millis() as u64)
    }

    #[test]
    fn only_many_small_reads_make_it_rest() {
        for (reads, size, rests) in
            [(16, 1_400, true), (1, 1_400, false), (16, 16_384, false), (0, 0, false)]
        {
            let mut moderation = ReadCoalescing::new(true);
            let rest = run(&mut moderation, 0, 120, reads, size);
            assert_eq!(rest.is_some(), rests, "{reads} reads of {size}");
        }
        assert_eq!(run(&mut ReadCoalescing::new(false), 0, 120, 16, 1_400), None);
    }

    #[test]
    fn a_lasting_flow_rests_longer_and_quiet_ends_it() {
        let mut moderation = ReadCoalescing::new(true);
        assert_eq!(run(&mut moderation, 0, 120, 16, 1_400), Some(1));
        assert_eq!(run(&mut moderation, 120, 400, 16, 1_400), Some(2));
        assert_eq!(run(&mut moderation, 5_000, 1, 16, 1_400), None);
    }

    #[test]
    fn the_first_round_after_a_pause_never_rests() {
        for pause in [IDLE_MS, 35, 60, 1_000] {
            let mut moderation = ReadCoalescing::new(true);
            assert_eq!(run(&mut moderation, 0, 120, 60, 100), Some(1));
            let round = Round { now_ms: 119 + pause, reads: 1, bytes: 100, is_handshaking: false };
            assert_eq!(moderation.pause(round), None, "after {pause} ms");
        }
    }

    #[test]
    fn a_handshake_is_never_kept_waiting() {
        let mut moderation = ReadCoalescing::new(true);
        run(&mut moderation, 0, 120, 16, 1_400);
        let round = Round { now_ms: 120, reads: 16, bytes: 22_400, is_handshaking: true };
        assert_eq!(moderation.pause(round), None);
    }
}

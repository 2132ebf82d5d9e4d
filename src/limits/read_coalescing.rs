//! Read coalescing (DECISIONS D19): a short pause between event loop rounds with many small reads.
//! A wake-up costs far more CPU than a small message, so at thousands of reads per second, bytes
//! may collect in the socket buffers for a millisecond or two.

use std::time::Duration;

/// What one round of the event loop did.
#[derive(Debug, Clone, Copy)]
pub struct Round {
    /// Milliseconds since start.
    pub now_ms: u64,
    /// Reads that brought bytes.
    pub reads: u32,
    /// Their bytes.
    pub bytes: u64,
    /// A connection is between accept and relay: no pause, since a handshake has many round trips.
    pub is_handshaking: bool,
}

/// Decides after each round whether to pause.
pub struct ReadCoalescing {
    is_on: bool,
    /// Start of the current window.
    window_ms: u64,
    /// Time of the last round with a read.
    last_read_ms: u64,
    reads: u64,
    bytes: u64,
    /// Consecutive windows with many small reads.
    busy_windows: u32,
}

impl ReadCoalescing {
    /// `is_on`: the setting is `auto`.
    pub fn new(is_on: bool) -> Self {
        Self { is_on, window_ms: 0, last_read_ms: 0, reads: 0, bytes: 0, busy_windows: 0 }
    }

    /// How long to pause now; `None` = not at all. A window of 50 ms with more than 2,000 reads per
    /// second of less than 4 KiB on average makes the rounds of the next window pause: 1 ms at
    /// first, 2 ms from the fifth such window in a row on. A window with fewer or larger reads ends
    /// the pauses, and so do 20 ms without a read.
    pub fn pause(&mut self, round: Round) -> Option<Duration> {
        if !self.is_on || round.reads == 0 {
            return None;
        }
        if round.now_ms.saturating_sub(self.last_read_ms) >= IDLE_MS {
            // The first message after a pause in the traffic is not delayed.
            self.start_window(round.now_ms, 0);
        }
        self.last_read_ms = round.now_ms;
        let elapsed_ms = round.now_ms.saturating_sub(self.window_ms);
        if elapsed_ms >= WINDOW_MS {
            let is_many = self.reads * 1_000 > READS_PER_S * elapsed_ms;
            let is_small = self.bytes < SMALL_BYTES * self.reads;
            let is_busy = is_many && is_small;
            self.start_window(
                round.now_ms,
                if is_busy { self.busy_windows.saturating_add(1) } else { 0 },
            );
        }
        self.reads += u64::from(round.reads);
        self.bytes += round.bytes;
        if self.busy_windows == 0 || round.is_handshaking {
            return None;
        }
        Some(Duration::from_millis(if self.busy_windows > LONG_AFTER { 2 } else { 1 }))
    }

    fn start_window(&mut self, now_ms: u64, busy_windows: u32) {
        (self.window_ms, self.reads, self.bytes) = (now_ms, 0, 0);
        self.busy_windows = busy_windows;
    }
}

const WINDOW_MS: u64 = 50;
const IDLE_MS: u64 = 20;
const READS_PER_S: u64 = 2_000;
const SMALL_BYTES: u64 = 4_096;
/// With more busy windows in a row than this, a pause lasts 2 ms.
const LONG_AFTER: u32 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs `ms` milliseconds with `reads` reads of `size` bytes in each; the last pause in ms.
    fn run(
        coalescing: &mut ReadCoalescing,
        from: u64,
        ms: u64,
        reads: u32,
        size: u64,
    ) -> Option<u64> {
        let mut last = None;
        for now_ms in from..from + ms {
            let bytes = u64::from(reads) * size;
            last = coalescing.pause(Round { now_ms, reads, bytes, is_handshaking: false });
        }
        last.map(|time| time.as_millis() as u64)
    }

    #[test]
    fn only_many_small_reads_cause_pauses() {
        for (reads, size, is_paused) in
            [(16, 1_400, true), (1, 1_400, false), (16, 16_384, false), (0, 0, false)]
        {
            let mut coalescing = ReadCoalescing::new(true);
            let pause = run(&mut coalescing, 0, 120, reads, size);
            assert_eq!(pause.is_some(), is_paused, "{reads} reads of {size}");
        }
        assert_eq!(run(&mut ReadCoalescing::new(false), 0, 120, 16, 1_400), None);
    }

    #[test]
    fn a_long_flow_pauses_longer_and_silence_ends_it() {
        let mut coalescing = ReadCoalescing::new(true);
        assert_eq!(run(&mut coalescing, 0, 120, 16, 1_400), Some(1));
        assert_eq!(run(&mut coalescing, 120, 400, 16, 1_400), Some(2));
        assert_eq!(run(&mut coalescing, 5_000, 1, 16, 1_400), None);
    }

    #[test]
    fn the_first_round_after_a_silence_never_pauses() {
        for silence in [IDLE_MS, 35, 60, 1_000] {
            let mut coalescing = ReadCoalescing::new(true);
            assert_eq!(run(&mut coalescing, 0, 120, 60, 100), Some(1));
            let round =
                Round { now_ms: 119 + silence, reads: 1, bytes: 100, is_handshaking: false };
            assert_eq!(coalescing.pause(round), None, "after {silence} ms");
        }
    }

    #[test]
    fn a_handshake_is_never_delayed() {
        let mut coalescing = ReadCoalescing::new(true);
        run(&mut coalescing, 0, 120, 16, 1_400);
        let round = Round { now_ms: 120, reads: 16, bytes: 22_400, is_handshaking: true };
        assert_eq!(coalescing.pause(round), None);
    }
}

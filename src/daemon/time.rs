//! The time of the current round of the event loop.

use std::time::Duration;

use crate::io::clock::{Tick, Wall};

/// Both clocks, read once per round.
#[derive(Debug, Clone, Copy, Default)]
pub struct Time {
    /// The monotonic time.
    pub now: Tick,
    /// The wall clock.
    pub wall: Wall,
    /// The wall-clock time of tick 0, since 1970.
    pub started: Duration,
}

impl Time {
    /// Sets the time of a new round. The wall-clock time of tick 0 changes only if the clock was
    /// set meanwhile, so that drift does not move past events.
    pub fn set(&mut self, now: Tick, wall: Wall) {
        (self.now, self.wall) = (now, wall);
        let since_1970 = Duration::new(wall.unix_s, wall.nanos);
        let started = since_1970.saturating_sub(Duration::from_millis(now.0));
        if started.abs_diff(self.started) > CLOCK_SET {
            self.started = started;
        }
    }

    /// The wall-clock time of a tick in milliseconds, since 1970.
    pub fn wall_of(&self, at_ms: u64) -> Duration {
        self.started + Duration::from_millis(at_ms)
    }

    /// Whether the wall clock is earlier than the build of this program, so it is not set yet.
    pub fn is_unset(&self) -> bool {
        self.wall.unix_s < BUILT_UNIX_S
    }
}

/// A larger change of the difference between the clocks means that the wall clock was set.
const CLOCK_SET: Duration = Duration::from_secs(2);

/// When this program was built, in seconds since 1970: `SOURCE_DATE_EPOCH` at build time, or the
/// date of the release. An earlier clock cannot be right; the time test is skipped until it is set.
pub const BUILT_UNIX_S: u64 = match option_env!("SOURCE_DATE_EPOCH") {
    Some(text) => parse_u64(text.as_bytes()),
    None => RELEASED_UNIX_S,
};

/// 2026-11-23, moved forward with each release.
const RELEASED_UNIX_S: u64 = 1_795_392_000;

const fn parse_u64(text: &[u8]) -> u64 {
    let (mut at, mut value) = (0, 0);
    while at < text.len() {
        assert!(text[at].is_ascii_digit(), "SOURCE_DATE_EPOCH is a decimal number of seconds");
        value = value * 10 + (text[at] - b'0') as u64;
        at += 1;
    }
    value
}

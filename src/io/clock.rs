//! The monotonic clock and the wall clock. The daemon reads both once per iteration of its loop.

use std::ops::Add;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A point in time: milliseconds since the start of the program, monotonic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Tick(pub u64);

impl Tick {
    /// The time from `earlier` to `self`; zero if `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// Whole milliseconds are added; the sum saturates, so that a timer never lies in the past.
impl Add<Duration> for Tick {
    type Output = Self;

    // Thirty copies would be inlined, of code that needs no speed.
    #[inline(never)]
    fn add(self, time: Duration) -> Self {
        let ms = time.as_secs().saturating_mul(1_000).saturating_add(time.subsec_millis().into());
        Self(self.0.saturating_add(ms))
    }
}

/// The earliest of the deadlines that there are.
pub fn earliest(deadlines: &[Option<Tick>]) -> Option<Tick> {
    deadlines.iter().flatten().min().copied()
}

/// Unix time; zero if the clock is before 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wall {
    /// Whole seconds.
    pub unix_s: u64,
    /// Nanoseconds within the second, below 10^9.
    pub nanos: u32,
}

/// The system's clocks.
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// Starts the monotonic clock at tick 0.
    pub fn start() -> Self {
        Self { start: Instant::now() }
    }

    /// Reads both clocks.
    pub fn read(&self) -> (Tick, Wall) {
        let tick = Tick(self.start.elapsed().as_millis() as u64);
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        (tick, Wall { unix_s: wall.as_secs().min(YEAR_9999), nanos: wall.subsec_nanos() })
    }
}

/// RFC 3339 has four digits for the year, so later times are capped.
const YEAR_9999: u64 = 253_370_764_800;

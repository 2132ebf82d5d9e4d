//! Rate limit for repeated log lines, so that neither a permanent failure nor many probes fill the
//! log. Has no clock of its own: the caller passes the time and calls again at `next_due`.

use std::collections::VecDeque;
use std::fmt::{self, Write};

use log::Level;

use crate::io::clock::Tick;

/// Logs lines and suppresses repetitions.
///
/// A line that was logged within the last 10 seconds is only counted. Its next appearance carries
/// the count as `folded=N`; if it does not appear again, it is logged once more after the 10
/// seconds. The lines and their counts add up to the number of calls.
///
/// Probes can cause many different lines. At most 32 lines are remembered; beyond that, lines of
/// level info are dropped and `event=log-dropped` reports how many.
#[derive(Default)]
pub struct RateLimitedLog {
    recent: VecDeque<RecentLine>,
    /// Info lines dropped since the last `event=log-dropped`.
    dropped: u32,
    /// Lines not written since the start.
    suppressed: u64,
    /// Holds the formatted line, so that a suppressed line allocates nothing.
    buffer: String,
}

struct RecentLine {
    level: Level,
    line: String,
    logged: Tick,
    /// Repetitions since `logged`.
    repeated: u32,
}

impl RecentLine {
    fn expires(&self) -> Tick {
        Tick(self.logged.0 + WINDOW_MS)
    }

    fn is_expired(&self, now: Tick) -> bool {
        now >= self.expires()
    }
}

impl RateLimitedLog {
    /// Logs at level error. `line` is formatted only if the level is on; pass `format_args!`.
    pub fn error(&mut self, now: Tick, line: impl fmt::Display) {
        self.log(Level::Error, now, &line);
    }

    /// Logs at level warn, as [`RateLimitedLog::error`] does.
    pub fn warn(&mut self, now: Tick, line: impl fmt::Display) {
        self.log(Level::Warn, now, &line);
    }

    /// Logs at level info, as [`RateLimitedLog::error`] does.
    pub fn info(&mut self, now: Tick, line: impl fmt::Display) {
        self.log(Level::Info, now, &line);
    }

    /// Number of lines not written since the start.
    pub fn suppressed(&self) -> u64 {
        self.suppressed
    }

    /// When [`RateLimitedLog::flush_due`] has something to log; `None` = nothing is pending.
    pub fn next_due(&self) -> Option<Tick> {
        let pending = self.recent.iter().filter(|line| line.repeated > 0 || self.dropped > 0);
        pending.map(RecentLine::expires).min()
    }

    /// Logs the repetitions whose 10 seconds are over.
    pub fn flush_due(&mut self, now: Tick) {
        if self.next_due().is_some_and(|due| now >= due) {
            self.flush(|line| line.is_expired(now), now);
        }
    }

    /// Logs all pending repetitions at once, for the end of the program.
    pub fn flush_all(&mut self, now: Tick) {
        self.flush(|_| true, now);
    }

    fn flush(&mut self, is_due: impl Fn(&RecentLine) -> bool, now: Tick) {
        self.pending(is_due, now).iter().for_each(|(level, line)| log::log!(*level, "{line}"));
        self.report_dropped();
    }

    fn report_dropped(&mut self) {
        let dropped = std::mem::take(&mut self.dropped);
        if dropped > 0 {
            log::info!("event=log-dropped lines={dropped}");
        }
    }

    /// The lines to log for pending repetitions. Such a line is one of the repetitions, hence the
    /// count is one less. A line that goes on repeating stays suppressed for another 10 seconds.
    fn pending(&mut self, is_due: impl Fn(&RecentLine) -> bool, now: Tick) -> Vec<(Level, String)> {
        let due = self.recent.iter_mut().filter(|line| line.repeated > 0 && is_due(line));
        due.map(|line| {
            line.logged = now;
            (line.level, with_count(&line.line, std::mem::take(&mut line.repeated) - 1))
        })
        .collect()
    }

    fn log(&mut self, level: Level, now: Tick, line: &dyn fmt::Display) {
        // A disabled level must cost nothing and must not wake the loop at `next_due`.
        if !log::log_enabled!(level) {
            return;
        }
        let mut text = std::mem::take(&mut self.buffer);
        text.clear();
        // Writing to a String fails only if `Display` itself reports an error.
        let _ = write!(text, "{line}");
        match self.admit(level, now, &text) {
            Some(0) => {
                self.report_dropped();
                log::log!(level, "{text}");
            }
            Some(repeated) => {
                self.report_dropped();
                log::log!(level, "{}", with_count(&text, repeated));
            }
            None => self.suppressed += 1,
        }
        self.buffer = text;
    }

    /// How often the line was suppressed since it was last logged; `None` = suppress it now.
    fn admit(&mut self, level: Level, now: Tick, line: &str) -> Option<u32> {
        if let Some(known) = self.recent.iter_mut().find(|known| known.line == line) {
            if !known.is_expired(now) {
                known.repeated = known.repeated.saturating_add(1);
                return None;
            }
            (known.logged, known.level) = (now, level);
            return Some(std::mem::take(&mut known.repeated));
        }
        if self.recent.len() >= LINES_MAX {
            match self.recent.iter().position(|old| old.is_expired(now) && old.repeated == 0) {
                None if level == Level::Info => {
                    self.dropped = self.dropped.saturating_add(1);
                    return None;
                }
                // A warning displaces the oldest line; its repetitions count as dropped.
                expired => {
                    let removed = self.recent.remove(expired.unwrap_or(0));
                    let repeated = removed.map_or(0, |old| old.repeated);
                    self.dropped = self.dropped.saturating_add(repeated);
                }
            }
        }
        self.recent.push_back(RecentLine {
            level,
            line: line.to_owned(),
            logged: now,
            repeated: 0,
        });
        Some(0)
    }
}

fn with_count(line: &str, repeated: u32) -> String {
    match repeated {
        0 => line.to_owned(),
        _ => format!("{line} folded={repeated}"),
    }
}

const WINDOW_MS: u64 = 10_000;
/// Largest number of remembered lines.
const LINES_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    fn pending(log: &mut RateLimitedLog, ms: u64) -> Vec<String> {
        let now = Tick(ms);
        log.pending(|line| line.is_expired(now), now).into_iter().map(|(_, line)| line).collect()
    }

    #[test]
    fn a_repeated_line_is_suppressed_and_counted() {
        let mut log = RateLimitedLog::default();
        let mut admit = |ms, line| log.admit(Level::Info, Tick(ms), line);
        assert_eq!(admit(0, "a"), Some(0));
        assert_eq!(admit(1, "a"), None);
        assert_eq!(admit(2, "b"), Some(0));
        assert_eq!(admit(9_999, "a"), None);
        assert_eq!(admit(10_000, "a"), Some(2));
        assert_eq!(admit(30_000, "a"), Some(0));
    }

    #[test]
    fn repetitions_are_reported_if_the_line_does_not_come_again() {
        let mut log = RateLimitedLog::default();
        assert_eq!(log.admit(Level::Warn, Tick(0), "a"), Some(0));
        assert_eq!(log.next_due(), None, "nothing is pending");
        for ms in 1..=3 {
            assert_eq!(log.admit(Level::Warn, Tick(ms), "a"), None);
        }
        assert_eq!(log.next_due(), Some(Tick(WINDOW_MS)));
        assert_eq!(pending(&mut log, WINDOW_MS - 1), [""; 0]);
        assert_eq!(pending(&mut log, WINDOW_MS), ["a folded=2"], "one line and two more are three");
        assert_eq!(log.next_due(), None);
        assert_eq!(log.admit(Level::Warn, Tick(WINDOW_MS + 1), "a"), None, "still repeating");
        assert_eq!(log.next_due(), Some(Tick(2 * WINDOW_MS)));
        assert_eq!(pending(&mut log, 2 * WINDOW_MS), ["a"]);
        assert_eq!(log.admit(Level::Warn, Tick(3 * WINDOW_MS), "a"), Some(0));
    }

    #[test]
    fn pending_repetitions_are_reported_at_the_end_of_the_program() {
        let mut log = RateLimitedLog::default();
        log.admit(Level::Info, Tick(0), "a");
        log.admit(Level::Info, Tick(1), "a");
        assert_eq!(log.pending(|_| true, Tick(2)), [(Level::Info, "a".to_owned())]);
    }

    #[test]
    fn a_flood_of_different_lines_is_counted_and_hides_no_warning() {
        let mut log = RateLimitedLog::default();
        let mut shown = 0;
        for i in 0..100 {
            shown += usize::from(log.admit(Level::Info, Tick(0), &i.to_string()).is_some());
        }
        assert_eq!((shown, log.dropped), (LINES_MAX, 100 - LINES_MAX as u32));
        assert_eq!(log.next_due(), Some(Tick(WINDOW_MS)), "dropped lines are reported");
        assert_eq!(log.admit(Level::Warn, Tick(1), "trouble"), Some(0));
        assert_eq!(log.admit(Level::Info, Tick(1), "late"), None);
        assert_eq!(log.admit(Level::Info, Tick(WINDOW_MS), "later"), Some(0));
        assert_eq!(log.recent.len(), LINES_MAX);
    }
}

//! Rate limit for repeated log lines, so that neither a permanent failure nor many probes fill the
//! log. Has no clock of its own: the caller passes the time and calls again at `next_due`.

use std::collections::VecDeque;

use crate::io::clock::Tick;
use crate::io::logger::record::{LogFields, Record};
use crate::io::logger::sink::{event, is_enabled, write_record};
use crate::util::log_settings::LogLevel;

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
    /// Holds the formatted record, so that a suppressed line allocates nothing.
    buffer: Record,
}

struct RecentLine {
    level: LogLevel,
    record: Record,
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
    /// Logs at level error. The values are formatted only if the level is on.
    pub fn error(&mut self, now: Tick, fields: LogFields<'_>) {
        self.log(LogLevel::Error, now, fields);
    }

    /// Logs at level warn, as [`RateLimitedLog::error`] does.
    pub fn warn(&mut self, now: Tick, fields: LogFields<'_>) {
        self.log(LogLevel::Warn, now, fields);
    }

    /// Logs at level info, as [`RateLimitedLog::error`] does.
    pub fn info(&mut self, now: Tick, fields: LogFields<'_>) {
        self.log(LogLevel::Info, now, fields);
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
            self.flush(&|line| line.is_expired(now), now);
        }
    }

    /// Logs all pending repetitions at once, for the end of the program.
    pub fn flush_all(&mut self, now: Tick) {
        self.flush(&|_| true, now);
    }

    fn flush(&mut self, is_due: &dyn Fn(&RecentLine) -> bool, now: Tick) {
        self.pending(is_due, now).iter().for_each(|(level, record)| write_record(*level, record));
        self.report_dropped();
    }

    fn report_dropped(&mut self) {
        let dropped = std::mem::take(&mut self.dropped);
        if dropped > 0 {
            event!(Info, "log-dropped", lines = dropped);
        }
    }

    /// The lines to log for pending repetitions. Such a line is one of the repetitions, hence the
    /// count is one less. A line that goes on repeating stays suppressed for another 10 seconds.
    fn pending(
        &mut self,
        is_due: &dyn Fn(&RecentLine) -> bool,
        now: Tick,
    ) -> Vec<(LogLevel, Record)> {
        let due = self.recent.iter_mut().filter(|line| line.repeated > 0 && is_due(line));
        due.map(|line| {
            line.logged = now;
            let mut record = line.record.clone();
            record.push_count("folded", std::mem::take(&mut line.repeated) - 1);
            (line.level, record)
        })
        .collect()
    }

    fn log(&mut self, level: LogLevel, now: Tick, fields: LogFields<'_>) {
        // A disabled level must cost nothing and must not wake the loop at `next_due`.
        if !is_enabled(level) {
            return;
        }
        let mut record = std::mem::take(&mut self.buffer);
        record.set(fields);
        match self.admit(level, now, &record) {
            Some(repeated) => {
                self.report_dropped();
                record.push_count("folded", repeated);
                write_record(level, &record);
            }
            None => self.suppressed += 1,
        }
        self.buffer = record;
    }

    /// How often the line was suppressed since it was last logged; `None` = suppress it now.
    fn admit(&mut self, level: LogLevel, now: Tick, record: &Record) -> Option<u32> {
        if let Some(known) = self.recent.iter_mut().find(|known| known.record == *record) {
            if !known.is_expired(now) {
                known.repeated = known.repeated.saturating_add(1);
                return None;
            }
            (known.logged, known.level) = (now, level);
            return Some(std::mem::take(&mut known.repeated));
        }
        if self.recent.len() >= LINES_MAX {
            match self.recent.iter().position(|old| old.is_expired(now) && old.repeated == 0) {
                None if level == LogLevel::Info => {
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
            record: record.clone(),
            logged: now,
            repeated: 0,
        });
        Some(0)
    }
}

const WINDOW_MS: u64 = 10_000;
/// Largest number of remembered lines.
const LINES_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::logger::record::fields;

    fn pending(log: &mut RateLimitedLog, ms: u64) -> Vec<String> {
        let now = Tick(ms);
        let pending = log.pending(&|line| line.is_expired(now), now).into_iter();
        pending.map(|(_, record)| record.to_string()).collect()
    }

    fn admit(log: &mut RateLimitedLog, level: LogLevel, ms: u64, name: &str) -> Option<u32> {
        log.admit(level, Tick(ms), &Record::new(fields!("a"; name)))
    }

    #[test]
    fn a_repeated_line_is_suppressed_and_counted() {
        let mut log = RateLimitedLog::default();
        let mut admit = |ms, event| admit(&mut log, LogLevel::Info, ms, event);
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
        assert_eq!(admit(&mut log, LogLevel::Warn, 0, "a"), Some(0));
        assert_eq!(log.next_due(), None, "nothing is pending");
        for ms in 1..=3 {
            assert_eq!(admit(&mut log, LogLevel::Warn, ms, "a"), None);
        }
        assert_eq!(log.next_due(), Some(Tick(WINDOW_MS)));
        assert_eq!(pending(&mut log, WINDOW_MS - 1), [""; 0]);
        assert_eq!(
            pending(&mut log, WINDOW_MS),
            ["event=a a folded=2"],
            "one line and two more are three"
        );
        assert_eq!(log.next_due(), None);
        assert_eq!(admit(&mut log, LogLevel::Warn, WINDOW_MS + 1, "a"), None, "still repeating");
        assert_eq!(log.next_due(), Some(Tick(2 * WINDOW_MS)));
        assert_eq!(pending(&mut log, 2 * WINDOW_MS), ["event=a a"]);
        assert_eq!(admit(&mut log, LogLevel::Warn, 3 * WINDOW_MS, "a"), Some(0));
    }

    #[test]
    fn pending_repetitions_are_reported_at_the_end_of_the_program() {
        let mut log = RateLimitedLog::default();
        admit(&mut log, LogLevel::Info, 0, "a");
        admit(&mut log, LogLevel::Info, 1, "a");
        let record = Record::new(fields!("a"; "a"));
        assert_eq!(log.pending(&|_| true, Tick(2)), [(LogLevel::Info, record)]);
    }

    #[test]
    fn a_flood_of_different_lines_is_counted_and_hides_no_warning() {
        let mut log = RateLimitedLog::default();
        let mut shown = 0;
        for i in 0..100 {
            shown += usize::from(admit(&mut log, LogLevel::Info, 0, &i.to_string()).is_some());
        }
        assert_eq!((shown, log.dropped), (LINES_MAX, 100 - LINES_MAX as u32));
        assert_eq!(log.next_due(), Some(Tick(WINDOW_MS)), "dropped lines are reported");
        assert_eq!(admit(&mut log, LogLevel::Warn, 1, "trouble"), Some(0));
        assert_eq!(admit(&mut log, LogLevel::Info, 1, "late"), None);
        assert_eq!(admit(&mut log, LogLevel::Info, WINDOW_MS, "later"), Some(0));
        assert_eq!(log.recent.len(), LINES_MAX);
    }
}

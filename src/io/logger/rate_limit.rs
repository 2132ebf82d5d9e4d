//! Folds repeated lines, so that neither a storm of trouble nor a crowd of strangers fills a log.
//! Has no clock of its own; whoever drives it asks when it wants to be called again.

use std::collections::VecDeque;

use log::Level;

use crate::io::clock::Tick;

/// A line that was logged within the last ten seconds is only counted; the count stands on its
/// next appearance, or on one more line when the ten seconds are over. Lines and `folded=` counts
/// add up to what has happened. Strangers can cause many different lines as well: beyond 32 of
/// them in ten seconds those of level info are only counted.
#[derive(Default)]
pub struct RateLimitedLog {
    recent: VecDeque<RepeatedLine>,
    /// Info lines that found no place.
    crowded_out: u32,
    /// Lines that were only counted, since the start.
    held_back: u64,
}

struct RepeatedLine {
    level: Level,
    line: String,
    since: Tick,
    times: u32,
}

impl RepeatedLine {
    fn end(&self) -> Tick {
        Tick(self.since.0 + FOLD_MS)
    }

    fn is_over(&self, now: Tick) -> bool {
        now >= self.end()
    }
}

impl RateLimitedLog {
    /// Logs at level error.
    pub fn error(&mut self, now: Tick, line: &str) {
        self.log(Level::Error, now, line);
    }

    /// Logs at level warn.
    pub fn warn(&mut self, now: Tick, line: &str) {
        self.log(Level::Warn, now, line);
    }

    /// Logs at level info.
    pub fn info(&mut self, now: Tick, line: &str) {
        self.log(Level::Info, now, line);
    }

    /// Lines that were only counted, since the start.
    pub fn suppressed(&self) -> u64 {
        self.held_back
    }

    /// When something that was folded has to be told, should its line not come again.
    pub fn next_due(&self) -> Option<Tick> {
        let folded = self.recent.iter().filter(|fold| fold.times > 0 || self.crowded_out > 0);
        folded.map(RepeatedLine::end).min()
    }

    /// Tells what was folded and whose time is over.
    pub fn flush_due(&mut self, now: Tick) {
        if self.next_due().is_some_and(|due| now >= due) {
            self.tell(|fold| fold.is_over(now), now);
        }
    }

    /// Tells whatever was folded; for the end of the program.
    pub fn flush_all(&mut self, now: Tick) {
        self.tell(|_| true, now);
    }

    fn tell(&mut self, is_due: impl Fn(&RepeatedLine) -> bool, now: Tick) {
        self.reports(is_due, now).iter().for_each(|(level, line)| log::log!(*level, "{line}"));
        self.tell_crowd();
    }

    fn tell_crowd(&mut self) {
        let crowded_out = std::mem::take(&mut self.crowded_out);
        if crowded_out > 0 {
            log::info!("event=log-dropped lines={crowded_out}");
        }
    }

    /// The lines that are due; each stands for one of those that were folded. A storm goes on
    /// being folded.
    fn reports(
        &mut self,
        is_due: impl Fn(&RepeatedLine) -> bool,
        now: Tick,
    ) -> Vec<(Level, String)> {
        let due = self.recent.iter_mut().filter(|fold| fold.times > 0 && is_due(fold));
        due.map(|fold| {
            fold.since = now;
            (fold.level, worded(&fold.line, std::mem::take(&mut fold.times) - 1))
        })
        .collect()
    }

    fn log(&mut self, level: Level, now: Tick, line: &str) {
        // What nobody reads is not kept, and wakes nobody.
        if !log::log_enabled!(level) {
            return;
        }
        match self.admit(level, now, line) {
            Some(folded) => {
                self.tell_crowd();
                log::log!(level, "{}", worded(line, folded));
            }
            None => self.held_back += 1,
        }
    }

    /// How many were folded since the line's last appearance; `None` = this one is not to appear.
    fn admit(&mut self, level: Level, now: Tick, line: &str) -> Option<u32> {
        if let Some(fold) = self.recent.iter_mut().find(|fold| fold.line == line) {
            if !fold.is_over(now) {
                fold.times = fold.times.saturating_add(1);
                return None;
            }
            (fold.since, fold.level) = (now, level);
            return Some(std::mem::take(&mut fold.times));
        }
        if self.recent.len() >= MOST {
            match self.recent.iter().position(|fold| fold.is_over(now) && fold.times == 0) {
                None if level == Level::Info => {
                    self.crowded_out = self.crowded_out.saturating_add(1);
                    return None;
                }
                leaves => {
                    let gone = self.recent.remove(leaves.unwrap_or(0));
                    let untold = gone.map_or(0, |fold| fold.times);
                    self.crowded_out = self.crowded_out.saturating_add(untold);
                }
            }
        }
        self.recent.push_back(RepeatedLine { level, line: line.to_owned(), since: now, times: 0 });
        Some(0)
    }
}

fn worded(line: &str, folded: u32) -> String {
    match folded {
        0 => line.to_owned(),
        _ => format!("{line} folded={folded}"),
    }
}

const FOLD_MS: u64 = 10_000;
const MOST: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    fn reports(folded: &mut RateLimitedLog, ms: u64) -> Vec<String> {
        let now = Tick(ms);
        folded.reports(|fold| fold.is_over(now), now).into_iter().map(|(_, line)| line).collect()
    }

    #[test]
    fn a_repeated_line_is_folded_and_counted() {
        let mut folded = RateLimitedLog::default();
        let mut admit = |ms, line| folded.admit(Level::Info, Tick(ms), line);
        assert_eq!(admit(0, "a"), Some(0));
        assert_eq!(admit(1, "a"), None);
        assert_eq!(admit(2, "b"), Some(0));
        assert_eq!(admit(9_999, "a"), None);
        assert_eq!(admit(10_000, "a"), Some(2));
        assert_eq!(admit(30_000, "a"), Some(0));
    }

    #[test]
    fn what_was_folded_is_told_when_its_line_never_comes_again() {
        let mut folded = RateLimitedLog::default();
        assert_eq!(folded.admit(Level::Warn, Tick(0), "a"), Some(0));
        assert_eq!(folded.next_due(), None, "nothing is folded, so nobody has to wake");
        for ms in 1..=3 {
            assert_eq!(folded.admit(Level::Warn, Tick(ms), "a"), None);
        }
        assert_eq!(folded.next_due(), Some(Tick(FOLD_MS)));
        assert_eq!(reports(&mut folded, FOLD_MS - 1), [""; 0]);
        assert_eq!(
            reports(&mut folded, FOLD_MS),
            ["a folded=2"],
            "one line and two more are three"
        );
        assert_eq!(folded.next_due(), None);
        assert_eq!(folded.admit(Level::Warn, Tick(FOLD_MS + 1), "a"), None, "the storm goes on");
        assert_eq!(folded.next_due(), Some(Tick(2 * FOLD_MS)));
        assert_eq!(reports(&mut folded, 2 * FOLD_MS), ["a"]);
        assert_eq!(folded.admit(Level::Warn, Tick(3 * FOLD_MS), "a"), Some(0));
    }

    #[test]
    fn the_end_of_the_program_tells_at_once_what_was_folded() {
        let mut folded = RateLimitedLog::default();
        folded.admit(Level::Info, Tick(0), "a");
        folded.admit(Level::Info, Tick(1), "a");
        assert_eq!(folded.reports(|_| true, Tick(2)), [(Level::Info, "a".to_owned())]);
    }

    #[test]
    fn a_flood_of_different_lines_is_counted_and_does_not_hide_warnings() {
        let mut folded = RateLimitedLog::default();
        let mut shown = 0;
        for i in 0..100 {
            shown += usize::from(folded.admit(Level::Info, Tick(0), &i.to_string()).is_some());
        }
        assert_eq!((shown, folded.crowded_out), (MOST, 100 - MOST as u32));
        assert_eq!(folded.next_due(), Some(Tick(FOLD_MS)), "the crowd is told of");
        assert_eq!(folded.admit(Level::Warn, Tick(1), "trouble"), Some(0));
        assert_eq!(folded.admit(Level::Info, Tick(1), "late"), None);
        assert_eq!(folded.admit(Level::Info, Tick(FOLD_MS), "later"), Some(0));
        assert_eq!(folded.recent.len(), MOST);
    }
}

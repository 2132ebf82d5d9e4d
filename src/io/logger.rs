//! The sink of the `log` facade: one event, one line on stderr, `key=value`.
//!
//! Writing a line never waits: a reader that has stopped, or a full pipe, costs lines and not the
//! loop. Nothing here decides what is worth a line.

use std::collections::VecDeque;
use std::io::Write;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::SystemTime;

use log::{Level, LevelFilter, Log, Metadata, Record};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::clock::Tick;

/// Installs the sink: info and above, or everything with `debug`. Later calls only set the level.
pub fn init(debug: bool) {
    // The journal notes the time itself.
    let stamped = std::env::var_os("JOURNAL_STREAM").is_none();
    let _ = log::set_boxed_logger(Box::new(Sink { stamped, lost: AtomicU32::new(0) }));
    log::set_max_level(if debug { LevelFilter::Debug } else { LevelFilter::Info });
}

struct Sink {
    stamped: bool,
    /// Lines that nobody took since the last one that somebody did.
    lost: AtomicU32,
}

impl Log for Sink {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let time = self.stamped.then(SystemTime::now);
        let lost = self.lost.load(Ordering::Relaxed);
        let line = line(time, record.level(), &record.args().to_string(), lost);
        let taken = offer(&mut std::io::stderr(), &line);
        self.lost.store(if taken { 0 } else { lost.saturating_add(1) }, Ordering::Relaxed);
    }

    fn flush(&self) {}
}

/// One line with its line feed, at most [`LINE_MAX`] bytes.
fn line(time: Option<SystemTime>, level: Level, text: &str, lost: u32) -> String {
    let mut line = String::with_capacity(160);
    if let Some(time) = time {
        line.push_str(&format!("ts={} ", humantime::format_rfc3339_millis(time)));
    }
    line.push_str(&format!("level={} ", level.as_str().to_ascii_lowercase()));
    for c in text.chars() {
        // A name from a config or a reason from the system must not start a line of its own.
        if c.is_control() {
            line.extend(c.escape_default());
        } else {
            line.push(c);
        }
    }
    if lost > 0 {
        line.push_str(&format!(" lost_lines={lost}"));
    }
    let end = (0..LINE_MAX).rev().find(|end| line.is_char_boundary(*end));
    line.truncate(end.unwrap_or(0));
    line.push('\n');
    line
}

/// Writes a line if it can be written at once. What is ready takes [`LINE_MAX`] bytes whole.
fn offer(to: &mut (impl Write + AsFd), line: &str) -> bool {
    let mut ready = [PollFd::new(to.as_fd(), PollFlags::POLLOUT)];
    let ready = poll(&mut ready, PollTimeout::ZERO).is_ok_and(|count| count > 0);
    ready && to.write(line.as_bytes()).is_ok_and(|count| count == line.len())
}

/// Folds repeated lines: one that was logged within the last ten seconds is only counted, and the
/// count stands on its next appearance. Strangers can cause many different lines as well: beyond
/// 32 of them in ten seconds those of level info are only counted.
#[derive(Default)]
pub struct Folded {
    recent: VecDeque<Fold>,
    /// Info lines that found no place.
    crowded_out: u32,
}

struct Fold {
    line: String,
    since: Tick,
    times: u32,
}

impl Fold {
    fn is_over(&self, now: Tick) -> bool {
        now.0.saturating_sub(self.since.0) >= FOLD_MS
    }
}

impl Folded {
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

    fn log(&mut self, level: Level, now: Tick, line: &str) {
        let Some(folded) = self.admit(level, now, line) else { return };
        let crowded_out = std::mem::take(&mut self.crowded_out);
        if crowded_out > 0 {
            log::info!("event=log-crowded lines={crowded_out}");
        }
        match folded {
            0 => log::log!(level, "{line}"),
            _ => log::log!(level, "{line} folded={folded}"),
        }
    }

    /// How many were folded since the line's last appearance; `None` = this one is not to appear.
    fn admit(&mut self, level: Level, now: Tick, line: &str) -> Option<u32> {
        if let Some(fold) = self.recent.iter_mut().find(|fold| fold.line == line) {
            if !fold.is_over(now) {
                fold.times = fold.times.saturating_add(1);
                return None;
            }
            fold.since = now;
            return Some(std::mem::take(&mut fold.times));
        }
        if self.recent.len() >= MOST {
            match self.recent.iter().position(|fold| fold.is_over(now)) {
                None if level == Level::Info => {
                    self.crowded_out = self.crowded_out.saturating_add(1);
                    return None;
                }
                leaves => drop(self.recent.remove(leaves.unwrap_or(0))),
            }
        }
        self.recent.push_back(Fold { line: line.to_owned(), since: now, times: 0 });
        Some(0)
    }
}

/// What a pipe that is ready takes in one piece: `PIPE_BUF` of pipe(7).
const LINE_MAX: usize = 4096;
const FOLD_MS: u64 = 10_000;
const MOST: usize = 32;

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_line_carries_its_time_and_level_and_stays_one_line() {
        let time = SystemTime::UNIX_EPOCH + Duration::from_millis(1_800_000_000_123);
        assert_eq!(
            line(Some(time), Level::Info, "event=a name=\"x\ny\x1b[31m\"", 0),
            "ts=2027-01-15T08:00:00.123Z level=info event=a name=\"x\\ny\\u{1b}[31m\"\n"
        );
        assert_eq!(line(None, Level::Warn, "event=b", 3), "level=warn event=b lost_lines=3\n");
    }

    #[test]
    fn a_long_line_is_cut_between_characters() {
        let cut = line(None, Level::Error, &"ü".repeat(9_000), 0);
        assert!(cut.len() <= LINE_MAX && cut.len() > LINE_MAX - 3);
        assert!(cut.ends_with("ü\n"));
    }

    #[test]
    fn a_reader_that_stopped_costs_lines_and_not_the_writer() {
        let (mut reader, mut writer) = std::io::pipe().unwrap();
        let text = line(None, Level::Info, &"x".repeat(9_000), 0);
        let mut taken = 0;
        while offer(&mut writer, &text) {
            taken += 1;
        }
        let mut all = vec![0; taken * text.len()];
        reader.read_exact(&mut all).unwrap();
        assert!(offer(&mut writer, &text));
        drop(reader);
        assert!(!offer(&mut writer, &text));
    }

    #[test]
    fn a_repeated_line_is_folded_and_counted() {
        let mut folded = Folded::default();
        let mut admit = |ms, line| folded.admit(Level::Info, Tick(ms), line);
        assert_eq!(admit(0, "a"), Some(0));
        assert_eq!(admit(1, "a"), None);
        assert_eq!(admit(2, "b"), Some(0));
        assert_eq!(admit(9_999, "a"), None);
        assert_eq!(admit(10_000, "a"), Some(2));
        assert_eq!(admit(30_000, "a"), Some(0));
    }

    #[test]
    fn a_flood_of_different_lines_is_counted_and_does_not_hide_warnings() {
        let mut folded = Folded::default();
        let mut shown = 0;
        for i in 0..100 {
            shown += usize::from(folded.admit(Level::Info, Tick(0), &i.to_string()).is_some());
        }
        assert_eq!((shown, folded.crowded_out), (MOST, 100 - MOST as u32));
        assert_eq!(folded.admit(Level::Warn, Tick(1), "trouble"), Some(0));
        assert_eq!(folded.admit(Level::Info, Tick(1), "late"), None);
        assert_eq!(folded.admit(Level::Info, Tick(FOLD_MS), "later"), Some(0));
        assert_eq!(folded.recent.len(), MOST);
    }
}

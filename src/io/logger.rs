//! The sink of the `log` facade: one event, one line on stderr, `key=value`.

use std::collections::VecDeque;
use std::io::Write;
use std::time::SystemTime;

use log::{Level, LevelFilter, Log, Metadata, Record};

use super::clock::Tick;

/// Installs the sink: info and above, or everything with `debug`. Later calls only set the level.
pub fn init(debug: bool) {
    // Under systemd and procd every line gets its time from the journal or syslog.
    let stamped = std::env::var_os("JOURNAL_STREAM").is_none();
    let _ = log::set_boxed_logger(Box::new(Sink { stamped }));
    log::set_max_level(if debug { LevelFilter::Debug } else { LevelFilter::Info });
}

struct Sink {
    stamped: bool,
}

impl Log for Sink {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let mut line = String::with_capacity(160);
        if self.stamped {
            let now = humantime::format_rfc3339_millis(SystemTime::now());
            line.push_str(&format!("ts={now} "));
        }
        let level = record.level().as_str().to_ascii_lowercase();
        let text = record.args().to_string();
        line.push_str(&format!("level={level} "));
        // A name from a config or a reason from the system must not start a line of its own.
        line.extend(text.chars().map(|c| if c.is_control() { ' ' } else { c }));
        line.push('\n');
        // A log that cannot be written must not stop the proxy.
        let _ = std::io::stderr().write_all(line.as_bytes());
    }

    fn flush(&self) {}
}

/// Folds repeated lines: one that was logged within the last ten seconds is only counted, and the
/// count stands on its next appearance.
#[derive(Default)]
pub struct Folded {
    recent: VecDeque<Fold>,
}

struct Fold {
    line: String,
    since: Tick,
    times: u32,
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
        match self.admit(now, line) {
            Some(0) => log::log!(level, "{line}"),
            Some(folded) => log::log!(level, "{line} folded={folded}"),
            None => {}
        }
    }

    /// How many were folded since the line's last appearance; `None` = this one is folded too.
    fn admit(&mut self, now: Tick, line: &str) -> Option<u32> {
        if let Some(fold) = self.recent.iter_mut().find(|fold| fold.line == line) {
            if now.0 < fold.since.0 + FOLD_MS {
                fold.times += 1;
                return None;
            }
            fold.since = now;
            return Some(std::mem::take(&mut fold.times));
        }
        if self.recent.len() >= MOST {
            self.recent.pop_front();
        }
        self.recent.push_back(Fold { line: line.to_owned(), since: now, times: 0 });
        Some(0)
    }
}

const FOLD_MS: u64 = 10_000;
const MOST: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeated_line_is_folded_and_counted() {
        let mut folded = Folded::default();
        assert_eq!(folded.admit(Tick(0), "a"), Some(0));
        assert_eq!(folded.admit(Tick(1), "a"), None);
        assert_eq!(folded.admit(Tick(2), "b"), Some(0));
        assert_eq!(folded.admit(Tick(9_999), "a"), None);
        assert_eq!(folded.admit(Tick(10_000), "a"), Some(2));
        assert_eq!(folded.admit(Tick(30_000), "a"), Some(0));
    }

    #[test]
    fn the_memory_of_lines_is_bounded() {
        let mut folded = Folded::default();
        for i in 0..100 {
            folded.admit(Tick(0), &i.to_string());
        }
        assert_eq!(folded.recent.len(), MOST);
    }
}

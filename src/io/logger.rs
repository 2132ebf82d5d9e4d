//! The sink of the `log` facade. One event is one line, `event=NAME key=value`, written as text or
//! as JSON to standard error, to syslog or to the systemd journal.
//!
//! Writing a line never blocks. If the reader has stopped, the pipe is full or the log daemon is
//! away, the line is lost; the next written line carries the number of lost lines. This module does
//! not decide which events are worth a line.

mod datagram;
mod fields;
mod journal;
mod json;
mod rate_limit;
mod syslog;

use std::borrow::Cow;
use std::io::Write;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use log::{Level, LevelFilter, Log, Metadata, Record};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use datagram::Datagram;
pub use rate_limit::RateLimitedLog;

/// Level, format and target of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogConfig {
    /// The least severe level that is written.
    pub level: LevelFilter,
    /// Format of a line.
    pub format: LogLineFormat,
    /// Where lines are written.
    pub to: LogTarget,
}

/// Format of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLineFormat {
    /// `key=value` pairs.
    Text,
    /// One JSON object.
    Json,
}

/// Where lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogTarget {
    /// Standard error.
    Stderr,
    /// The local socket of syslog.
    Syslog,
    /// The local socket of the systemd journal.
    Journal,
}

/// Installs the sink; a later call replaces the configuration. If the log daemon cannot be reached,
/// a warning goes to standard error, and lines are lost until the daemon listens.
pub fn init(config: &LogConfig) {
    let path = match config.to {
        LogTarget::Stderr => PathBuf::new(),
        LogTarget::Syslog => std::env::var_os(SOCKET_VARIABLE).map_or(SYSLOG.into(), PathBuf::from),
        LogTarget::Journal => {
            std::env::var_os(SOCKET_VARIABLE).map_or(JOURNAL.into(), PathBuf::from)
        }
    };
    let mut writer = LogWriter::new(config, path);
    let warning = writer.transport.connect();
    if let Ok(mut current) = SINK.0.lock() {
        *current = Some(writer);
    }
    // Fails on the second and later calls, when the sink is installed already.
    let _ = log::set_logger(&SINK);
    log::set_max_level(config.level);
    if let Some(line) = warning {
        let mut stderr =
            LogWriter::new(&LogConfig { to: LogTarget::Stderr, ..*config }, PathBuf::new());
        stderr.write(Level::Warn, &line);
    }
}

/// Writes a line at level info even if that level is off: a report that the operator requested.
pub fn log_always(line: &str) {
    SINK.write(Level::Info, line);
}

/// Number of lost lines since the start.
pub fn lost_lines() -> u64 {
    LOST.load(Ordering::Relaxed).into()
}

struct Sink(Mutex<Option<LogWriter>>);

static SINK: Sink = Sink(Mutex::new(None));

/// Not part of the sink, which `init` replaces. MIPS has no 64-bit atomics.
static LOST: AtomicU32 = AtomicU32::new(0);

impl Sink {
    fn write(&self, level: Level, line: &str) {
        if let Ok(mut writer) = self.0.try_lock()
            && let Some(writer) = writer.as_mut()
        {
            writer.write(level, line);
        }
    }
}

impl Log for Sink {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            let args = record.args();
            let line = args.as_str().map_or_else(|| Cow::Owned(args.to_string()), Cow::Borrowed);
            self.write(record.level(), &line);
        }
    }

    fn flush(&self) {}
}

struct LogWriter {
    format: LogLineFormat,
    transport: LogTransport,
    /// Lines lost since the last line that was written.
    lost: u32,
}

enum LogTransport {
    Stderr {
        /// Whether a line carries its time and level.
        has_time: bool,
    },
    Syslog(Datagram),
    Journal(Datagram),
}

impl LogTransport {
    /// Connects to the log daemon; returns a warning if that fails.
    fn connect(&mut self) -> Option<String> {
        let (Self::Syslog(socket) | Self::Journal(socket)) = self else { return None };
        let error = socket.connect().err()?.to_string();
        let path = socket.path();
        let hint = "lines are lost until a log daemon listens there";
        Some(format!("event=log-unreachable path={path:?} error={error:?} hint={hint:?}"))
    }
}

impl LogWriter {
    fn new(config: &LogConfig, path: PathBuf) -> Self {
        let transport = match config.to {
            // The journal adds the time itself.
            LogTarget::Stderr => {
                LogTransport::Stderr { has_time: std::env::var_os("JOURNAL_STREAM").is_none() }
            }
            LogTarget::Syslog => LogTransport::Syslog(Datagram::new(path)),
            LogTarget::Journal => LogTransport::Journal(Datagram::new(path)),
        };
        Self { format: config.format, transport, lost: 0 }
    }

    fn write(&mut self, level: Level, line: &str) {
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let line = match self.lost {
            0 => Cow::Borrowed(line),
            lost => Cow::Owned(format!("{line} lost_lines={lost}")),
        };
        let is_written = match (&mut self.transport, self.format) {
            (LogTransport::Stderr { has_time }, LogLineFormat::Text) => {
                let line = text(has_time.then_some(time), Some(level), &line);
                try_write(&mut std::io::stderr(), &line)
            }
            (LogTransport::Stderr { .. }, LogLineFormat::Json) => {
                try_write(&mut std::io::stderr(), &(bounded_json(level, &line, time) + "\n"))
            }
            (LogTransport::Syslog(socket), format) => {
                let line = message(format, level, &line, time);
                let pid = std::process::id();
                socket.send(syslog::message(level, time.as_secs(), pid, &line).as_bytes()).is_ok()
            }
            (LogTransport::Journal(socket), format) => {
                let shown = message(format, level, &line, time);
                socket.send(&journal::entry(level, &shown, cut(&line, LINE_MAX))).is_ok()
            }
        };
        LOST.fetch_add(u32::from(!is_written), Ordering::Relaxed);
        self.lost = if is_written { 0 } else { self.lost.saturating_add(1) };
    }
}

/// A line for a log daemon, which adds time and level itself.
fn message(format: LogLineFormat, level: Level, line: &str, time: Duration) -> String {
    match format {
        LogLineFormat::Text => text(None, None, line).trim_end_matches('\n').to_owned(),
        LogLineFormat::Json => bounded_json(level, line, time),
    }
}

/// A text line with its line feed, at most [`LINE_MAX`] bytes.
fn text(time: Option<Duration>, level: Option<Level>, line: &str) -> String {
    let mut out = String::with_capacity(160);
    if let Some(time) = time {
        let time = UNIX_EPOCH + time.min(YEAR_9999);
        out.push_str(&format!("ts={} ", humantime::format_rfc3339_millis(time)));
    }
    if let Some(level) = level {
        out.push_str(&format!("level={} ", level.as_str().to_ascii_lowercase()));
    }
    for c in line.chars() {
        // A name from the configuration or an error text must not start another line.
        if c.is_control() {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    let end = cut(&out, LINE_MAX - 1).len();
    out.truncate(end);
    out.push('\n');
    out
}

/// A JSON object of fewer than [`LINE_MAX`] bytes. A line that is too long for that is cut.
fn bounded_json(level: Level, line: &str, time: Duration) -> String {
    let unix_ms = time.as_millis() as u64;
    let mut max = LINE_MAX;
    loop {
        let object = json::object(level, cut(line, max), unix_ms);
        if object.len() < LINE_MAX || max == 0 {
            return object;
        }
        max /= 2;
    }
}

/// The longest prefix of at most `max` bytes that ends at a character boundary.
fn cut(line: &str, max: usize) -> &str {
    let end = (0..=max.min(line.len())).rev().find(|end| line.is_char_boundary(*end));
    line.get(..end.unwrap_or(0)).unwrap_or_default()
}

/// Writes a line if the descriptor is ready; returns whether the whole line was written. A ready
/// descriptor accepts [`LINE_MAX`] bytes in one write.
fn try_write(to: &mut (impl Write + AsFd), line: &str) -> bool {
    let mut ready = [PollFd::new(to.as_fd(), PollFlags::POLLOUT)];
    let ready = poll(&mut ready, PollTimeout::ZERO).is_ok_and(|count| count > 0);
    ready && to.write(line.as_bytes()).is_ok_and(|count| count == line.len())
}

/// Longest line in bytes: `PIPE_BUF`, which a ready pipe accepts in one write (pipe(7)).
const LINE_MAX: usize = 4096;
/// RFC 3339 has four digits for the year.
const YEAR_9999: Duration = Duration::from_secs(253_370_764_800);
const SYSLOG: &str = "/dev/log";
const JOURNAL: &str = "/run/systemd/journal/socket";
/// Environment variable with the path of another socket.
const SOCKET_VARIABLE: &str = "MTBOX_LOG_SOCKET";

#[cfg(test)]
mod tests;

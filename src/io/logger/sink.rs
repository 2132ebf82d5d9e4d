//! Formats records as lines and writes them. Writing never blocks: if the reader has stopped, the
//! pipe is full or the log daemon is away, the line is lost; the next written line carries the
//! number of lost lines.

use std::borrow::Cow;
use std::io::Write;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::io::logger::datagram::Datagram;
use crate::io::logger::record::{LogFields, Record, cut, fields};
use crate::io::logger::{journal, json, syslog};
use crate::util::log_settings::{LogFormat, LogLevel, LogSettings, LogTo};

/// Installs the sink; a later call replaces the configuration. If the log daemon cannot be reached,
/// a warning goes to standard error, and lines are lost until the daemon listens.
pub fn init(config: &LogSettings) {
    let path = match config.to {
        LogTo::Stderr => PathBuf::new(),
        LogTo::Syslog => std::env::var_os(SOCKET_VARIABLE).map_or(SYSLOG.into(), PathBuf::from),
        LogTo::Journal => std::env::var_os(SOCKET_VARIABLE).map_or(JOURNAL.into(), PathBuf::from),
    };
    let mut writer = LogWriter::new(config, path);
    let warning = writer.transport.connect();
    if let Ok(mut current) = SINK.lock() {
        *current = Some(writer);
    }
    LEVEL.store(config.level as u8, Ordering::Relaxed);
    if let Some(warning) = warning {
        let mut stderr =
            LogWriter::new(&LogSettings { to: LogTo::Stderr, ..*config }, PathBuf::new());
        stderr.write(LogLevel::Warn, &warning);
    }
}

/// Whether records of a level are written.
pub fn is_enabled(level: LogLevel) -> bool {
    level as u8 <= LEVEL.load(Ordering::Relaxed)
}

/// Writes a record even if its level is off.
pub fn write(level: LogLevel, fields: LogFields<'_>) {
    write_record(level, &Record::new(fields));
}

/// Writes a formatted record even if its level is off.
pub fn write_record(level: LogLevel, record: &Record) {
    if let Ok(mut writer) = SINK.try_lock()
        && let Some(writer) = writer.as_mut()
    {
        writer.write(level, record);
    }
}

/// Logs a record: `event!(Info, ..)` with what `fields!` takes; the level may be any expression in
/// parentheses. Evaluates the values only if the level is on.
macro_rules! event {
    (($level:expr), $($fields:tt)*) => {
        if $crate::io::logger::sink::is_enabled($level) {
            $crate::io::logger::sink::write(
                $level,
                $crate::io::logger::record::fields!($($fields)*),
            );
        }
    };
    ($level:ident, $($fields:tt)*) => {
        $crate::io::logger::sink::event!(
            ($crate::util::log_settings::LogLevel::$level),
            $($fields)*
        )
    };
}

pub(crate) use event;

/// Number of lost lines since the start.
pub fn lost_lines() -> u64 {
    LOST.load(Ordering::Relaxed).into()
}

static SINK: Mutex<Option<LogWriter>> = Mutex::new(None);

/// The least severe [`LogLevel`] that is written; 0 before `init`.
static LEVEL: AtomicU8 = AtomicU8::new(0);

/// Not part of the sink, which `init` replaces. MIPS has no 64-bit atomics.
static LOST: AtomicU32 = AtomicU32::new(0);

struct LogWriter {
    format: LogFormat,
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
    fn connect(&mut self) -> Option<Record> {
        let (Self::Syslog(socket) | Self::Journal(socket)) = self else { return None };
        let (error, path) = (socket.connect().err()?, socket.path().display());
        let hint = "lines are lost until a log daemon listens there";
        Some(Record::new(fields!("log-unreachable", path = ?path, error = ?error, hint = ?hint)))
    }
}

impl LogWriter {
    fn new(config: &LogSettings, path: PathBuf) -> Self {
        let transport = match config.to {
            // The journal adds the time itself.
            LogTo::Stderr => {
                LogTransport::Stderr { has_time: std::env::var_os("JOURNAL_STREAM").is_none() }
            }
            LogTo::Syslog => LogTransport::Syslog(Datagram::new(path)),
            LogTo::Journal => LogTransport::Journal(Datagram::new(path)),
        };
        Self { format: config.format, transport, lost: 0 }
    }

    fn write(&mut self, level: LogLevel, record: &Record) {
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        // Lines are rarely lost, so a record is rarely copied.
        let mut record = Cow::Borrowed(record);
        if self.lost > 0 {
            record.to_mut().push_count("lost_lines", self.lost);
        }
        let is_written = match (&mut self.transport, self.format) {
            (LogTransport::Stderr { has_time }, LogFormat::Text) => {
                let line = text(has_time.then_some(time), Some(level), &record);
                try_write(&mut std::io::stderr(), &line)
            }
            (LogTransport::Stderr { .. }, LogFormat::Json) => {
                try_write(&mut std::io::stderr(), &(bounded_json(level, &record, time) + "\n"))
            }
            (LogTransport::Syslog(socket), format) => {
                let line = message(format, level, &record, time);
                let (unix_s, pid) = (time.min(YEAR_9999).as_secs(), std::process::id());
                socket.send(syslog::message(level, unix_s, pid, &line).as_bytes()).is_ok()
            }
            (LogTransport::Journal(socket), format) => {
                let shown = message(format, level, &record, time);
                socket.send(&journal::entry(level, &shown, record.fields(LINE_MAX))).is_ok()
            }
        };
        LOST.fetch_add(u32::from(!is_written), Ordering::Relaxed);
        self.lost = if is_written { 0 } else { self.lost.saturating_add(1) };
    }
}

/// A line for a log daemon, which adds time and level itself.
fn message(format: LogFormat, level: LogLevel, record: &Record, time: Duration) -> String {
    match format {
        LogFormat::Text => text(None, None, record).trim_end_matches('\n').to_owned(),
        LogFormat::Json => bounded_json(level, record, time),
    }
}

/// A text line with its line feed, at most [`LINE_MAX`] bytes.
fn text(time: Option<Duration>, level: Option<LogLevel>, record: &Record) -> String {
    let mut out = String::with_capacity(160);
    if let Some(time) = time {
        let time = UNIX_EPOCH + time.min(YEAR_9999);
        out.push_str(&format!("ts={} ", humantime::format_rfc3339_millis(time)));
    }
    if let Some(level) = level {
        out.push_str(&format!("level={} ", level.as_str()));
    }
    for c in record.to_string().chars() {
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

/// A JSON object of fewer than [`LINE_MAX`] bytes. A record that is too long for that is cut.
fn bounded_json(level: LogLevel, record: &Record, time: Duration) -> String {
    let unix_ms = time.as_millis() as u64;
    let mut max = LINE_MAX;
    loop {
        let object = json::object(level, record.fields(max), unix_ms);
        if object.len() < LINE_MAX || max == 0 {
            return object;
        }
        max /= 2;
    }
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

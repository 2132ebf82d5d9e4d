//! The sink of the `log` facade: one event, one line, `event=... key=value`, as text or as JSON,
//! to standard error, a log daemon or the journal.
//!
//! Writing a line never waits: a reader that has stopped, a full pipe or a daemon that is away
//! cost lines and not the loop; how many, the next line says. Nothing here decides what is worth
//! a line.

mod datagram;
mod fields;
mod journal;
mod json;
mod rate_limit;
mod syslog;

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

/// What is logged, how and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogConfig {
    /// The least urgent lines that are wanted.
    pub level: LevelFilter,
    /// How a line looks.
    pub format: LogLineFormat,
    /// Where it goes.
    pub to: LogTarget,
}

/// How a line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLineFormat {
    /// `key=value`.
    Text,
    /// One object.
    Json,
}

/// Where lines go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogTarget {
    /// Standard error.
    Stderr,
    /// The socket of syslog.
    Syslog,
    /// The socket of systemd's journal.
    Journal,
}

/// Installs the sink; later calls change it. A log daemon that is not there is named on standard
/// error, and is given its lines once it is.
pub fn init(manner: &LogConfig) {
    let path = match manner.to {
        LogTarget::Stderr => PathBuf::new(),
        LogTarget::Syslog => std::env::var_os(SOCKET_VARIABLE).map_or(SYSLOG.into(), PathBuf::from),
        LogTarget::Journal => {
            std::env::var_os(SOCKET_VARIABLE).map_or(JOURNAL.into(), PathBuf::from)
        }
    };
    let mut desk = LogWriter::new(manner, path);
    let missing = desk.way.reach();
    if let Ok(mut place) = SINK.0.lock() {
        *place = Some(desk);
    }
    // Fails from the second time on, when it is there.
    let _ = log::set_logger(&SINK);
    log::set_max_level(manner.level);
    if let Some(line) = missing {
        let mut stderr =
            LogWriter::new(&LogConfig { to: LogTarget::Stderr, ..*manner }, PathBuf::new());
        stderr.take(Level::Warn, &line);
    }
}

/// Logs a line that somebody has asked for, whatever the level.
pub fn log_always(line: &str) {
    SINK.take(Level::Info, line);
}

/// Lines that nobody took, since the start.
pub fn lost_lines() -> u64 {
    LOST.load(Ordering::Relaxed).into()
}

struct Sink(Mutex<Option<LogWriter>>);

static SINK: Sink = Sink(Mutex::new(None));

/// Beside the sink, which changes when the log moves. MIPS knows no atomic numbers of 64 bits.
static LOST: AtomicU32 = AtomicU32::new(0);

impl Sink {
    fn take(&self, level: Level, line: &str) {
        if let Ok(mut desk) = self.0.try_lock()
            && let Some(desk) = desk.as_mut()
        {
            desk.take(level, line);
        }
    }
}

impl Log for Sink {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            self.take(record.level(), &record.args().to_string());
        }
    }

    fn flush(&self) {}
}

/// Where lines are written.
struct LogWriter {
    format: LogLineFormat,
    way: LogTransport,
    /// Lines that nobody took since the last one that somebody did.
    lost: u32,
}

enum LogTransport {
    Stderr {
        /// Lines say when they were written.
        stamped: bool,
    },
    Syslog(Datagram),
    Journal(Datagram),
}

impl LogTransport {
    /// What is to be said when nobody is there.
    fn reach(&mut self) -> Option<String> {
        let (Self::Syslog(to) | Self::Journal(to)) = self else { return None };
        let error = to.reach().err()?.to_string();
        let path = to.path();
        let hint = "lines are lost until somebody listens there";
        Some(format!("event=log-unreachable path={path:?} error={error:?} hint={hint:?}"))
    }
}

impl LogWriter {
    fn new(manner: &LogConfig, path: PathBuf) -> Self {
        let way = match manner.to {
            // The journal notes the time itself.
            LogTarget::Stderr => {
                LogTransport::Stderr { stamped: std::env::var_os("JOURNAL_STREAM").is_none() }
            }
            LogTarget::Syslog => LogTransport::Syslog(Datagram::new(path)),
            LogTarget::Journal => LogTransport::Journal(Datagram::new(path)),
        };
        Self { format: manner.format, way, lost: 0 }
    }

    fn take(&mut self, level: Level, line: &str) {
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let line = match self.lost {
            0 => line.to_owned(),
            lost => format!("{line} lost_lines={lost}"),
        };
        let is_taken = match (&mut self.way, self.format) {
            (LogTransport::Stderr { stamped }, LogLineFormat::Text) => {
                offer(&mut std::io::stderr(), &text(stamped.then_some(time), Some(level), &line))
            }
            (LogTransport::Stderr { .. }, LogLineFormat::Json) => {
                offer(&mut std::io::stderr(), &(bounded_json(level, &line, time) + "\n"))
            }
            (LogTransport::Syslog(to), format) => {
                let line = bare(format, level, &line, time);
                let pid = std::process::id();
                to.send(syslog::message(level, time.as_secs(), pid, &line).as_bytes()).is_ok()
            }
            (LogTransport::Journal(to), format) => {
                let shown = bare(format, level, &line, time);
                let line = cut(&line, LINE_MAX);
                to.send(&journal::entry(level, &shown, line)).is_ok()
            }
        };
        LOST.fetch_add(u32::from(!is_taken), Ordering::Relaxed);
        self.lost = if is_taken { 0 } else { self.lost.saturating_add(1) };
    }
}

/// A line for those who note time and level themselves.
fn bare(format: LogLineFormat, level: Level, line: &str, time: Duration) -> String {
    match format {
        LogLineFormat::Text => text(None, None, line).trim_end_matches('\n').to_owned(),
        LogLineFormat::Json => bounded_json(level, line, time),
    }
}

/// One line with its line feed, at most [`LINE_MAX`] bytes.
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
        // A name from a config or a reason from the system must not start a line of its own.
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

/// One object of fewer than [`LINE_MAX`] bytes; a line that is too long for one is cut.
fn bounded_json(level: Level, line: &str, time: Duration) -> String {
    let unix_ms = time.as_millis() as u64;
    let mut most = LINE_MAX;
    loop {
        let object = json::object(level, cut(line, most), unix_ms);
        if object.len() < LINE_MAX || most == 0 {
            return object;
        }
        most /= 2;
    }
}

/// The first `most` bytes, or fewer so as not to cut a character.
fn cut(line: &str, most: usize) -> &str {
    let end = (0..=most.min(line.len())).rev().find(|end| line.is_char_boundary(*end));
    line.get(..end.unwrap_or(0)).unwrap_or_default()
}

/// Writes a line if it can be written at once. What is ready takes [`LINE_MAX`] bytes whole.
fn offer(to: &mut (impl Write + AsFd), line: &str) -> bool {
    let mut ready = [PollFd::new(to.as_fd(), PollFlags::POLLOUT)];
    let ready = poll(&mut ready, PollTimeout::ZERO).is_ok_and(|count| count > 0);
    ready && to.write(line.as_bytes()).is_ok_and(|count| count == line.len())
}

/// What a pipe that is ready takes in one piece: `PIPE_BUF` of pipe(7).
const LINE_MAX: usize = 4096;
/// RFC 3339 has four digits for the year.
const YEAR_9999: Duration = Duration::from_secs(253_370_764_800);
const SYSLOG: &str = "/dev/log";
const JOURNAL: &str = "/run/systemd/journal/socket";
/// Names another socket, for machines that keep theirs elsewhere.
const SOCKET_VARIABLE: &str = "MTBOX_LOG_SOCKET";

#[cfg(test)]
mod tests;

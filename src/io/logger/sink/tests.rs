//! The sink with real pipes and sockets. What a peer can put into a line stays a value in it.

use std::fs;
use std::io::Read;
use std::os::unix::net::UnixDatagram;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;

use super::*;

/// A log daemon.
struct LogServer {
    path: PathBuf,
    socket: UnixDatagram,
}

impl LogServer {
    fn start() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("mtbox-log-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let _ = fs::remove_file(&path);
        let socket = UnixDatagram::bind(&path).unwrap();
        Self { path, socket }
    }

    fn writer(&self, to: LogTo, format: LogFormat) -> LogWriter {
        LogWriter::new(&LogSettings { level: LogLevel::Info, format, to }, self.path.clone())
    }

    fn receive(&self) -> String {
        let mut seen = [0; 65_536];
        let count = self.socket.recv(&mut seen).unwrap();
        String::from_utf8(seen[..count].to_vec()).unwrap()
    }
}

impl Drop for LogServer {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

fn record(fields: LogFields<'_>) -> Record {
    Record::new(fields)
}

#[test]
fn a_line_carries_its_time_and_level_and_stays_one_line() {
    let time = Duration::from_millis(1_800_000_000_123);
    assert_eq!(
        text(Some(time), Some(LogLevel::Info), &record(fields!("a", name = %"x\ny\x1b[31m"))),
        "ts=2027-01-15T08:00:00.123Z level=info event=a name=x\\ny\\u{1b}[31m\n"
    );
    assert_eq!(text(None, Some(LogLevel::Warn), &record(fields!("b"))), "level=warn event=b\n");
    // Any time is accepted.
    text(Some(Duration::MAX), None, &record(fields!("a")));
}

#[test]
fn a_long_line_is_cut_between_characters() {
    let cut = text(None, Some(LogLevel::Error), &record(fields!("a"; "ü".repeat(9_000))));
    assert!(cut.len() <= LINE_MAX && cut.len() > LINE_MAX - 3);
    assert!(cut.ends_with("ü\n"));
}

#[test]
fn a_long_line_is_still_an_object() {
    for filling in ["x", "ü", "\u{1}", "\\", "\""] {
        let long = record(fields!("long", name = ?filling.repeat(5_000), more = 1));
        let object = bounded_json(LogLevel::Error, &long, Duration::ZERO);
        assert!(object.len() < LINE_MAX && object.len() > LINE_MAX / 8, "{}", object.len());
        let value: Value = serde_json::from_str(&object).unwrap();
        assert_eq!(value["message"], "long");
    }
}

#[test]
fn a_reader_that_stopped_loses_lines_and_does_not_block_the_writer() {
    let (mut reader, mut writer) = std::io::pipe().unwrap();
    let line = text(None, Some(LogLevel::Info), &record(fields!("a"; "x".repeat(9_000))));
    let mut written = 0;
    while try_write(&mut writer, &line) {
        written += 1;
    }
    let mut all = vec![0; written * line.len()];
    reader.read_exact(&mut all).unwrap();
    assert!(try_write(&mut writer, &line));
    drop(reader);
    assert!(!try_write(&mut writer, &line));
}

#[test]
fn syslog_gets_one_datagram_for_each_line() {
    let daemon = LogServer::start();
    daemon
        .writer(LogTo::Syslog, LogFormat::Text)
        .write(LogLevel::Warn, &record(fields!("a", user = ?"x\ny")));
    let seen = daemon.receive();
    let tag = format!(" mtbox[{}]: event=a user=\"x\\ny\"", std::process::id());
    assert!(seen.starts_with("<28>") && seen.ends_with(&tag), "{seen}");
    assert_eq!(seen.len(), 4 + 15 + tag.len(), "{seen}");
    daemon
        .writer(LogTo::Syslog, LogFormat::Json)
        .write(LogLevel::Info, &record(fields!("a", dc = 2)));
    let seen = daemon.receive();
    let (head, json) = seen.split_once("]: ").unwrap();
    assert!(head.starts_with("<30>"), "{seen}");
    assert_eq!(serde_json::from_str::<Value>(json).unwrap()["dc"], 2);
}

#[test]
fn the_journal_gets_the_fields_too() {
    let daemon = LogServer::start();
    daemon
        .writer(LogTo::Journal, LogFormat::Text)
        .write(LogLevel::Error, &record(fields!("a", dc = 2)));
    assert_eq!(
        daemon.receive(),
        "PRIORITY=3\nSYSLOG_IDENTIFIER=mtbox\nMESSAGE=event=a dc=2\nEVENT=a\nDC=2\n"
    );
}

#[test]
fn lost_lines_are_counted_in_the_next_line() {
    let mut daemon = LogServer::start();
    let mut writer = daemon.writer(LogTo::Syslog, LogFormat::Text);
    writer.write(LogLevel::Info, &record(fields!("a")));
    assert!(daemon.receive().ends_with(": event=a"));
    let path = daemon.path.clone();
    fs::remove_file(&path).unwrap();
    daemon.socket = UnixDatagram::unbound().unwrap();
    for _ in 0..3 {
        writer.write(LogLevel::Info, &record(fields!("lost")));
    }
    daemon.socket = UnixDatagram::bind(&path).unwrap();
    writer.write(LogLevel::Info, &record(fields!("b")));
    assert!(daemon.receive().ends_with(": event=b lost_lines=3"));
    writer.write(LogLevel::Info, &record(fields!("c")));
    assert!(daemon.receive().ends_with(": event=c"));
}

#[test]
fn an_unreachable_daemon_is_reported() {
    let daemon = LogServer::start();
    let mut transport = daemon.writer(LogTo::Journal, LogFormat::Text).transport;
    assert_eq!(transport.connect(), None);
    let path = daemon.path.clone();
    drop(daemon);
    let mut transport = LogTransport::Syslog(Datagram::new(path.clone()));
    let line = transport.connect().unwrap().to_string();
    assert!(line.starts_with(&format!("event=log-unreachable path={path:?} error=")), "{line}");
}

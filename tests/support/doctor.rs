//! Runs `mtbox doctor`, and servers that it checks: a front without problems, and a time server.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::Value;

use super::TIMEOUT;
use super::peer::Peer;
use super::program;
use super::proxy::Config;
use super::scripted_front::{AnswerShape, ReceivedHello};

/// The JSON output of the doctor.
pub struct Report {
    /// The exit code.
    pub code: i32,
    /// The whole object.
    pub json: Value,
}

/// Runs the doctor with a config that no proxy runs with.
pub fn examine(config: &Config, flags: &[&str]) -> Report {
    let file = config.write();
    let report = examine_file(&file, flags);
    let _ = fs::remove_file(file);
    report
}

/// Runs the doctor with a config file.
pub fn examine_file(file: &Path, flags: &[&str]) -> Report {
    let (code, json) = run(file, &[flags, &["--json"]].concat());
    let json = serde_json::from_str(&json).expect("one JSON object");
    Report { code, json }
}

/// The exit code and the output.
pub fn run(file: &Path, flags: &[&str]) -> (i32, String) {
    let mut command = program::command();
    command.arg("doctor").arg(file).args(flags).stdin(Stdio::null());
    let Output { status, stdout, stderr } = command.output().expect("the built binary");
    assert!(stderr.is_empty(), "{}", String::from_utf8_lossy(&stderr));
    (status.code().expect("no signal"), String::from_utf8(stdout).expect("UTF-8"))
}

impl Report {
    /// The findings of a check as `verdict: text`, from all its sections.
    pub fn lines(&self, check: &str) -> Vec<String> {
        let results = self.results(check);
        let word = |value: &Value| value.as_str().expect("a text").to_owned();
        let line = |r: &Value| format!("{}: {}", word(&r["verdict"]), word(&r["text"]));
        results.iter().map(line).collect()
    }

    /// The findings of a check.
    pub fn results(&self, check: &str) -> Vec<Value> {
        let sections = self.json["checks"].as_array().expect("sections");
        let own = sections.iter().filter(|section| section["check"] == check);
        own.flat_map(|section| section["results"].as_array().expect("results").clone()).collect()
    }

    /// Asserts that a check has a finding with this verdict that contains `words`.
    #[track_caller]
    pub fn has(&self, check: &str, verdict: &str, words: &str) {
        let lines = self.lines(check);
        let is_it = |line: &String| line.starts_with(verdict) && line.contains(words);
        assert!(lines.iter().any(is_it), "{verdict} {words:?} in {lines:#?}");
    }

    /// The findings with other verdicts than these.
    pub fn others(&self, verdicts: &[&str]) -> Vec<Value> {
        let sections = self.json["checks"].as_array().expect("sections").iter();
        let results = sections.flat_map(|s| s["results"].as_array().expect("results").clone());
        let is_other = |r: &Value| !verdicts.iter().any(|verdict| r["verdict"] == *verdict);
        results.filter(is_other).collect()
    }
}

/// A front that answers a hello with X25519MLKEM768 by a flight in one record. rustls has no such
/// group, so other hellos get a real TLS handshake with a certificate.
pub fn hybrid_server(tls: Arc<ServerConfig>) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let addr = listener.local_addr().expect("an address");
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let tls = Arc::clone(&tls);
            thread::spawn(move || receive(stream, tls));
        }
    });
    addr
}

fn receive(mut stream: TcpStream, tls: Arc<ServerConfig>) {
    stream.set_read_timeout(Some(TIMEOUT)).expect("a read timeout");
    let Some(hello) = peek_record(&stream) else { return };
    if hello.windows(4).any(|four| four == [0x11, 0xec, 0x04, 0xc0]) {
        let mut peer = Peer::new("front", stream);
        peer.recv(hello.len());
        let answer = AnswerShape::boringssl().answer(&ReceivedHello::read(Vec::new(), &hello));
        let _ = peer.try_send(&answer);
        peer.recv_rest();
    } else {
        let mut tls = ServerConnection::new(tls).expect("a TLS server");
        let _ = tls.complete_io(&mut stream);
        let mut stream = StreamOwned::new(tls, stream);
        let _ = std::io::copy(&mut stream, &mut std::io::sink());
    }
}

/// The first TLS record, without consuming it. `None` = the connection ended.
fn peek_record(stream: &TcpStream) -> Option<Vec<u8>> {
    let mut bytes = vec![0; 4096];
    loop {
        let count = stream.peek(&mut bytes).ok().filter(|count| *count > 0)?;
        let length = 5 + (usize::from(bytes[3]) << 8 | usize::from(bytes[4]));
        if count >= 5 && count >= length {
            bytes.truncate(length);
            return Some(bytes);
        }
        thread::yield_now();
    }
}

/// A time server whose clock is `ahead_ms` milliseconds ahead of ours. Before each answer it sends
/// one with another cookie, which clients must ignore.
pub fn time_server(ahead_ms: i64) -> SocketAddr {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let addr = socket.local_addr().expect("an address");
    thread::spawn(move || {
        let mut packet = [0; 512];
        while let Ok((count, from)) = socket.recv_from(&mut packet) {
            assert_eq!((count, packet[0]), (48, 0x23), "a request of version 4");
            assert_eq!(packet[1..40], [0; 39], "it reveals nothing");
            let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
            let ms = i64::try_from(now.as_millis()).expect("within the range") + ahead_ms;
            let time = Duration::from_millis(u64::try_from(ms).expect("after 1970"));
            let seconds = u32::try_from(time.as_secs() + 2_208_988_800).expect("before 2036");
            let fraction = (u64::from(time.subsec_nanos()) << 32) / 1_000_000_000;
            let fraction = u32::try_from(fraction).expect("less than one");
            let stamp = [seconds.to_be_bytes(), fraction.to_be_bytes()].concat();
            let answer = |cookie: &[u8], stamp: &[u8]| {
                [&[0x24, 2, 6, 0xe9][..], &[0; 20], cookie, stamp, stamp].concat()
            };
            let forged = answer(b"no match", &[0xee; 8]);
            socket.send_to(&forged, from).expect("an answer");
            socket.send_to(&answer(&packet[40..48], &stamp), from).expect("an answer");
        }
    });
    addr
}

/// An empty directory.
pub fn folder(name: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
        .join(format!("doctor-{}-{name}", std::process::id()));
    let _ = fs::remove_dir_all(&path);
    fs::create_dir_all(&path).expect("a folder");
    path
}

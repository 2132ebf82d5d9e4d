//! The log as operators and their programs read it: formats, outputs, levels, summaries.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::support::fixture::{Fixture, HOST};
use crate::support::hello::{App, Hello, HelloOptions, Secret, unix_now};
use crate::support::lists::{Folder, with_list};
use crate::support::peer::Peer;
use crate::support::proxy::{Config, Proxy};
use crate::support::{QUIET, eventually, holds_within};

/// A user name that looks like a line, a field and an object.
const HOSTILE: &str = "x\" event=y\nlevel=error {\"level\":\"error\"}, user=bob\u{2028}\\";

fn wait_for_line(proxy: &Proxy, words: &str) {
    eventually(words, || proxy.log().contains(words));
}

/// The complete lines; the program may be writing another.
fn lines(proxy: &Proxy) -> Vec<String> {
    let log = proxy.log();
    log.split_inclusive('\n')
        .filter_map(|line| line.strip_suffix('\n'))
        .map(str::to_owned)
        .collect()
}

/// A fronted connection without a valid secret.
fn probe(fixture: &Fixture, bytes: &[u8]) {
    let mut prober = Peer::connect("prober", fixture.proxy.addr);
    prober.send(bytes);
    drop(fixture.front.accept());
    prober.recv_rest();
}

/// A session in which alice sends five bytes and receives three.
fn run_session(fixture: &Fixture) {
    let (mut client, mut session) = fixture.session();
    client.up.send(b"hello");
    assert_eq!(session.from.recv(5), b"hello");
    session.to.send(b"ok!");
    assert_eq!(client.down.recv(3), b"ok!");
    client.up.send_fin();
    assert!(session.from.recv_rest().0.is_empty());
    session.to.send_fin();
    assert!(client.down.recv_rest().0.is_empty());
    fixture.proxy.wait_for_connections("alice", 0);
}

/// The value of `key=` in a line.
fn field<'a>(line: &'a str, key: &str) -> &'a str {
    let start = format!(" {key}=");
    let rest = line.split_once(&start).unwrap_or_else(|| panic!("{key} in {line}")).1;
    rest.split(' ').next().unwrap_or_default()
}

/// The keys of an object, in the order of the text. A strict parser must accept it.
fn names(line: &str) -> (Vec<String>, Value) {
    let value: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
    let (mut names, mut depth, mut chars) = (Vec::new(), 0, line.chars().peekable());
    while let Some(c) = chars.next() {
        match c {
            '{' | '[' => depth += 1,
            '}' | ']' => depth -= 1,
            '"' => {
                let mut text = String::from('"');
                while let Some(c) = chars.next() {
                    text.push(c);
                    match c {
                        '\\' => text.extend(chars.next()),
                        '"' => break,
                        _ => {}
                    }
                }
                if depth == 1 && chars.peek() == Some(&':') {
                    names.push(serde_json::from_str(&text).expect("a string"));
                }
            }
            _ => {}
        }
    }
    assert_eq!(names.len(), value.as_object().expect("an object").len(), "each once: {line}");
    (names, value)
}

/// COMPATIBILITY E9: the reference splits a record over two lines. COMPATIBILITY E11: its records
/// lack their subject.
#[test]
fn json_lines_are_whole_objects_with_the_references_names_in_its_order() {
    let hostile = Secret::new(HOST);
    let mut fixture =
        Fixture::with(|config| config.set("", "log-format", "\"json\"").user(HOSTILE, &hostile));
    run_session(&fixture);
    probe(&fixture, b"GET / HTTP/1.1\r\n\r\n");
    let late =
        HelloOptions { clock: unix_now() - 86_400, ..HelloOptions::new(&hostile, App::Classic) };
    probe(&fixture, &Hello::build(&hostile, &late).wire);
    fixture.proxy.signal(Signal::SIGUSR1);
    fixture.proxy.signal(Signal::SIGTERM);
    fixture.proxy.wait_for_exit();
    wait_for_line(&fixture.proxy, "\"message\":\"stopped\"");
    let log = lines(&fixture.proxy);
    for line in &log {
        let (names, value) = names(line);
        assert_eq!(names[0], "level", "{line}");
        assert_eq!(names[names.len() - 2..], ["timestamp", "message"], "{line}");
        let at = |name: &str| names.iter().position(|other| other == name);
        let behind = names.len() - 3 - usize::from(value["error"].is_string());
        assert_eq!(at("logger"), Some(behind), "{line}");
        assert!(["debug", "info", "warn", "error"].contains(&value["level"].as_str().unwrap()));
        let now_ms = u64::from(unix_now()) * 1000;
        assert!(value["timestamp"].as_u64().unwrap().abs_diff(now_ms) < 120_000, "{line}");
        if let Some(id) = at("stream-id") {
            assert_eq!(id + 1, behind, "bound first: {line}");
            assert!(value["stream-id"].is_string());
        }
    }
    let find = |message: &str, key: &str| {
        let values = log.iter().map(|line| names(line).1);
        let mut found = values.filter(|value| value["message"] == message && !value[key].is_null());
        found.next().unwrap_or_else(|| panic!("{message} with {key} in {log:#?}"))
    };
    let connected = find("connected", "dc");
    assert_eq!((&connected["dc"], &connected["secret_name"]), (&2.into(), &"alice".into()));
    assert_eq!(connected["client-ip"], "127.0.0.0/24");
    let refused = find("refused", "secret_name");
    assert_eq!((&refused["error"], &refused["level"]), (&"clock-off".into(), &"info".into()));
    assert_eq!(refused["secret_name"], HOSTILE);
    assert!(refused["off_s"].as_i64().unwrap() < -86_000);
    assert_eq!(find("listening", "bind")["bind"], fixture.proxy.addr.to_string());
}

#[test]
fn a_hostile_name_adds_no_line_and_no_field() {
    let hostile = Secret::new(HOST);
    let fixture = Fixture::with(|config| config.user(HOSTILE, &hostile));
    let late =
        HelloOptions { clock: unix_now() - 86_400, ..HelloOptions::new(&hostile, App::Classic) };
    probe(&fixture, &Hello::build(&hostile, &late).wire);
    wait_for_line(&fixture.proxy, "event=refused user=");
    for line in lines(&fixture.proxy) {
        assert!(line.starts_with("ts=") && line.contains(" level="), "{line}");
        assert!(!line.contains("event=y\n") && !line.starts_with("level=error"), "{line}");
    }
}

#[test]
fn a_connection_can_be_followed_by_its_id() {
    let fixture = Fixture::new();
    run_session(&fixture);
    probe(&fixture, b"GET / HTTP/1.1\r\n\r\n");
    eventually("both have ended", || fixture.proxy.log().matches("event=closed").count() == 2);
    let log = lines(&fixture.proxy);
    let story = |id: &str| -> Vec<&String> {
        let is_of_it = |line: &&String| line.split(' ').any(|word| word == format!("id={id}"));
        log.iter().filter(is_of_it).collect()
    };
    let events =
        |id: &str| -> Vec<&str> { story(id).iter().map(|line| field(line, "event")).collect() };
    assert_eq!(events("1"), ["accepted", "admitted", "dial-attempt", "connected", "closed"]);
    let end = story("1")[4];
    assert_eq!((field(end, "why"), field(end, "user")), ("finished", "\"alice\""), "{end}");
    assert_eq!((field(end, "up"), field(end, "down")), ("5", "3"), "{end}");
    assert!(field(end, "ms").parse::<u64>().is_ok() && field(end, "client").ends_with(".0/24"));
    assert_eq!(events("2"), ["accepted", "fronted", "dial-attempt", "front-connected", "closed"]);
    let end = story("2")[4];
    assert_eq!((field(end, "up"), field(end, "down")), ("18", "0"), "{end}");
}

/// COMPATIBILITY E11: the reference logs nothing about probes, or everything about each.
#[test]
fn probes_are_summed_up_at_info_and_logged_one_by_one_only_at_debug() {
    let mut fixture =
        Fixture::with(|config| config.without("", "debug").set("", "log-level", "\"info\""));
    let foreign = Secret { host: "elsewhere.example".to_owned(), ..fixture.secret.clone() };
    probe(&fixture, b"GET / HTTP/1.1\r\n\r\n");
    probe(&fixture, &Hello::new(&Secret::new(HOST), App::PostQuantum).wire);
    probe(&fixture, &Hello::new(&Secret::new(HOST), App::Classic).wire);
    probe(&fixture, &Hello::new(&foreign, App::PostQuantum).wire);
    let wrong = Secret::new(HOST);
    let nameless = HelloOptions { sni: None, ..HelloOptions::new(&wrong, App::Classic) };
    probe(&fixture, &Hello::build(&wrong, &nameless).wire);
    let seen = Hello::new(&fixture.secret, App::PostQuantum);
    let mut first = Peer::connect("first", fixture.proxy.addr);
    first.send(&seen.wire);
    assert_eq!(first.recv(1), [0x16]);
    probe(&fixture, &seen.wire);
    let mut silent = Peer::connect("silent", fixture.proxy.addr);
    silent.send_fin();
    drop(fixture.front.accept());
    assert!(silent.recv_rest().0.is_empty());
    drop(first);
    run_session(&fixture);
    fixture.proxy.signal(Signal::SIGTERM);
    fixture.proxy.wait_for_exit();
    wait_for_line(&fixture.proxy, "event=stopped");
    let log = fixture.proxy.log();
    let sum = "level=info event=probe-summary fronted=7 wrong_key=2 no_sni=1 foreign_sni=1 \
               not_tls=1 unfinished=0 replay=1 silent=1 bad_header=0 listed=0 no_room=0 \
               from_networks=1\n";
    assert!(log.contains(sum), "{log}");
    assert!(log.contains("event=refused user=\"alice\" why=replay"), "{log}");
    for event in ["accepted", "fronted", "admitted", "connected", "closed"] {
        assert!(!log.contains(&format!("event={event}")), "{event} in {log}");
    }
}

#[test]
fn the_level_filters_lines_but_not_requested_ones() {
    let config = |level: &str, form: &str| {
        let level = format!("\"{level}\"");
        let form = format!("\"{form}\"");
        move |config: Config| {
            config.without("", "debug").set("", "log-level", &level).set("", "log-format", &form)
        }
    };
    let mut fixture = Fixture::with(config("error", "text"));
    run_session(&fixture);
    probe(&fixture, b"GET / HTTP/1.1\r\n\r\n");
    assert_eq!(fixture.proxy.log(), "");
    fixture.proxy.signal(Signal::SIGUSR1);
    wait_for_line(&fixture.proxy, "level=info event=state ");
    let config_of_alice =
        Config::new(fixture.dc.addr, fixture.front.addr).user("alice", &fixture.secret);
    let answer = fixture.proxy.reload(&config("debug", "json")(config_of_alice.clone()));
    assert_eq!(names(&answer).1["message"], "reloaded", "the format changes on reload");
    run_session(&fixture);
    wait_for_line(&fixture.proxy, "\"message\":\"closed\"");
    fixture.proxy.reload(&config("info", "text")(config_of_alice));
    let before = fixture.proxy.log().len();
    run_session(&fixture);
    assert_eq!(&fixture.proxy.log()[before..], "", "nothing is logged");
}

#[test]
fn flags_win_over_the_file_also_after_a_reload() {
    let change = |config: Config| {
        let config = config.without("", "debug").set("", "log-level", "\"error\"");
        config.flags(&["--log-level", "debug", "--log-format=json"])
    };
    let mut fixture = Fixture::with(change);
    wait_for_line(&fixture.proxy, "\"message\":\"listening\"");
    let config = Config::new(fixture.dc.addr, fixture.front.addr).user("alice", &fixture.secret);
    fixture.proxy.reload(&change(config));
    run_session(&fixture);
    wait_for_line(&fixture.proxy, "\"message\":\"closed\"");
    lines(&fixture.proxy).iter().for_each(|line| drop(names(line)));
}

#[test]
fn usr1_writes_the_whole_state_and_no_secret() {
    let folder = Folder::new();
    let file = folder.write("block", "192.0.2.0/24\n");
    let fixture = Fixture::with(|config| {
        let config = with_list(config, "blocklist", &file);
        let config = config.set("throttle", "max-connections", "9");
        let config =
            config.set("network", "proxies", "[\"socks5://me:password@127.0.0.1:1\", \"\"]");
        config.user("bob", &Secret::new(HOST))
    });
    let (_client, _session) = fixture.session();
    let mut prober = Peer::connect("prober", fixture.proxy.addr);
    prober.send(b"GET / HTTP/1.1\r\n\r\n");
    let _visit = fixture.front.accept();
    let words = [
        "event=state uptime_s=",
        " sessions=2 of=256 accepted=2 opening=0 dialling=0 relayed=1 fronted=1 closing=0 ",
        "event=state-users users=2 disabled=0 seen=1 connected=1 connections=1 ",
        "event=state-probes fronted=1 of=128 fronted_ever=1 replays=0 bad_headers=0 ",
        "event=state-memory buffers=0 of=",
        " replay_bytes=",
        "event=state-fetches names=0 names_wanted=0 tasks_running=0 tasks_waiting=0 jobs=",
        "event=state-throttle active=false limit=9 capped=0 throttled=0",
        "event=state-list name=blocklist entries=1 bad_lines=0 refused=0 updated=20",
        "event=state-proxy proxy=127.0.0.1:1 state=",
        "event=state-user user=\"alice\" connections=1 ",
    ];
    fixture.proxy.signal(Signal::SIGUSR1);
    wait_for_line(&fixture.proxy, "event=state-user user=");
    let log = fixture.proxy.log();
    words.iter().for_each(|word| assert!(log.contains(word), "{word} in {log}"));
    assert!(!log.contains("user=\"bob\""), "users without connections are not listed");
}

/// A syslog or journal daemon.
struct LogDaemon {
    path: PathBuf,
    socket: UnixDatagram,
}

impl LogDaemon {
    fn start(path: &Path) -> Self {
        let _ = fs::remove_file(path);
        let socket = UnixDatagram::bind(path).expect("a socket");
        socket.set_read_timeout(Some(crate::support::TIMEOUT)).expect("a limit");
        Self { path: path.to_owned(), socket }
    }

    fn next(&self) -> String {
        let mut message = vec![0; 65_536];
        let count = self.socket.recv(&mut message).expect("a message");
        String::from_utf8(message[..count].to_vec()).expect("UTF-8")
    }

    /// The messages up to the first that contains `words`.
    fn until(&self, words: &str) -> Vec<String> {
        let mut all = vec![self.next()];
        while !all.last().expect("one").contains(words) {
            all.push(self.next());
        }
        all
    }

    fn stop(self) {
        fs::remove_file(&self.path).expect("the socket's file");
    }
}

fn with_log_daemon(to: &str, path: &Path) -> Fixture {
    let path = path.to_str().expect("UTF-8").to_owned();
    Fixture::with(|config| config.set("", "log-to", to).env("MTBOX_LOG_SOCKET", &path))
}

#[test]
fn syslog_takes_the_lines_and_may_be_restarted() {
    let folder = Folder::new();
    let path = folder.path().join("log");
    let daemon = LogDaemon::start(&path);
    let fixture = with_log_daemon("\"syslog\"", &path);
    let tag = format!(" mtbox[{}]: event=listening addr=", fixture.proxy.pid());
    let listening = daemon.until("event=listening").pop().expect("one");
    assert!(listening.starts_with("<30>") && listening[19..].starts_with(&tag), "{listening}");
    run_session(&fixture);
    let mut all = daemon.until("event=closed");
    assert!(all.iter().all(|line| !line.contains('\n')));
    assert!(all.iter().any(|line| line.starts_with("<31>") && line.contains("event=connected")));
    daemon.stop();
    run_session(&fixture);
    let daemon = LogDaemon::start(&path);
    run_session(&fixture);
    let first = daemon.until("event=accepted").pop().expect("one");
    assert!(first.contains(" lost_lines="), "{first}");
    all.extend(daemon.until("event=closed"));
    assert_eq!(fixture.proxy.log(), "", "nothing on standard error");
    assert_eq!(fixture.proxy.leaks(&all.join("\n")), [""; 0]);
}

#[test]
fn the_journal_takes_lines_and_fields() {
    let folder = Folder::new();
    let path = folder.path().join("log");
    let daemon = LogDaemon::start(&path);
    let fixture = with_log_daemon("\"journal\"", &path);
    run_session(&fixture);
    let all = daemon.until("EVENT=closed");
    let connected = all.iter().find(|entry| entry.contains("EVENT=connected")).expect("an entry");
    let fields: Vec<&str> = connected.lines().collect();
    assert_eq!(fields[..2], ["PRIORITY=7", "SYSLOG_IDENTIFIER=mtbox"], "{connected}");
    assert!(fields[2].starts_with("MESSAGE=event=connected id=1 user=\"alice\" dc=2 "));
    for field in ["USER=alice", "DC=2", "ID=1", "CLIENT=127.0.0.0/24"] {
        assert!(fields.contains(&field), "{field} in {connected}");
    }
    assert_eq!(fixture.proxy.leaks(&all.join("\n")), [""; 0]);
}

#[test]
fn a_log_daemon_that_is_away_or_stopped_blocks_no_client() {
    let folder = Folder::new();
    let path = folder.path().join("log");
    let fixture = with_log_daemon("\"syslog\"", &path);
    wait_for_line(&fixture.proxy, "event=log-unreachable");
    run_session(&fixture);
    let _sleeper = LogDaemon::start(&path);
    for _ in 0..20 {
        run_session(&fixture);
    }
}

#[test]
fn an_unread_log_blocks_no_client_and_the_next_line_reports_lost_lines() {
    let fixture = Fixture::new();
    fixture.proxy.pause_log(true);
    // A pipe holds 64 KB, and a handshake writes about half a KB.
    for _ in 0..300 {
        probe(&fixture, b"GET / HTTP/1.1\r\n\r\n");
    }
    let before = fixture.proxy.log().len();
    run_session(&fixture);
    assert_eq!(fixture.proxy.log().len(), before, "the log is not read");
    fixture.proxy.pause_log(false);
    eventually("lost lines are reported", || {
        let mut reader = Peer::connect("client", fixture.proxy.addr);
        reader.send_fin();
        drop(fixture.front.accept());
        reader.recv_rest();
        fixture.proxy.log().contains(" lost_lines=")
    });
}

#[test]
fn rate_limited_lines_are_reported_even_if_no_other_follows() {
    let fixture = Fixture::new();
    let seen = Hello::new(&fixture.secret, App::PostQuantum);
    let mut first = Peer::connect("first", fixture.proxy.addr);
    first.send(&seen.wire);
    assert_eq!(first.recv(1), [0x16]);
    for _ in 0..4 {
        probe(&fixture, &seen.wire);
    }
    let line = "event=refused user=\"alice\" why=replay client=127.0.0.0/24";
    wait_for_line(&fixture.proxy, &format!("{line}\n"));
    wait_for_line(&fixture.proxy, &format!("{line} folded=2\n"));
    assert!(!holds_within(QUIET, || fixture.proxy.log().matches(line).count() > 2));
    eventually("it sleeps again", || {
        let wakes = fixture.proxy.wake_ups();
        !holds_within(Duration::from_secs(1), || fixture.proxy.wake_ups() > wakes)
    });
}

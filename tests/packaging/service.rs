//! The unit: systemd reads it without a complaint, it shuts in what it should, and leaves the
//! daemon every call that it makes.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::{env, fs, process, thread, time};

use super::{read, run};

const UNIT: &str = "mtbox.service";
const DAEMON: &str = env!("CARGO_BIN_EXE_mtbox");

#[test]
fn systemd_reads_the_unit_without_a_complaint() {
    let folder = Scratch::new("verify");
    let here = read(UNIT).replace("/usr/bin/mtbox", DAEMON);
    let path = folder.0.join(UNIT);
    fs::write(&path, here).unwrap();
    let path = path.to_str().unwrap();
    let Some(output) = run("systemd-analyze", &["verify", "--man=no", path]) else { return };
    let said = String::from_utf8_lossy(&output.stderr);
    let ours: Vec<&str> = said.lines().filter(|line| line.contains("mtbox")).collect();
    assert_eq!(ours, [""; 0], "{said}");
}

#[test]
fn systemd_counts_the_unit_among_the_sheltered_ones() {
    let arguments = ["security", "--offline=true", "--no-pager", "--threshold=20", UNIT];
    let Some(output) = run("systemd-analyze", &arguments) else { return };
    // Older ones know neither option.
    if output.status.code() == Some(1) && output.stdout.is_empty() {
        eprintln!("passed over: {}", String::from_utf8_lossy(&output.stderr));
        return;
    }
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

/// Holds where there is no systemd as well.
#[test]
fn the_unit_says_what_the_service_may_and_what_is_expected_of_it() {
    let unit = read(UNIT);
    for line in [
        "Type=notify",
        "NotifyAccess=main",
        "ExecStart=/usr/bin/mtbox run /etc/mtbox/mtbox.toml",
        "Restart=always",
        "StartLimitIntervalSec=0",
        "User=mtbox",
        "ConfigurationDirectory=mtbox",
        "StateDirectory=mtbox",
        "CacheDirectory=mtbox",
        "RuntimeDirectory=mtbox",
        "AmbientCapabilities=CAP_NET_BIND_SERVICE",
        "CapabilityBoundingSet=CAP_NET_BIND_SERVICE",
        "NoNewPrivileges=yes",
        "LimitCORE=0",
        "ProtectSystem=strict",
        "MemoryDenyWriteExecute=yes",
        "RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK",
    ] {
        assert!(unit.lines().any(|found| found == line), "{line}");
    }
    assert!(value("ExecReload").contains("kill -HUP $MAINPID"));
    let seconds = |key| value(key).parse::<u32>().unwrap();
    assert!(seconds("WatchdogSec") >= 10);
    assert!(seconds("TimeoutStopSec") >= 6, "deliveries may take 4.5 s");
    assert!(seconds("LimitNOFILE") > 2 * 65535, "two for each connection");
}

#[test]
fn the_unit_leaves_the_daemon_the_calls_that_it_makes() {
    let Some(allowed) = allowed() else { return };
    let folder = Scratch::new("calls");
    let Some(trace) = trace(&folder) else { return };
    let (mut calls, mut families) = (BTreeSet::new(), BTreeSet::new());
    for line in trace.lines() {
        let call = line.trim_start_matches(|c: char| c.is_ascii_digit() || c == ' ');
        let Some((name, arguments)) = call.split_once('(') else { continue };
        calls.insert(name);
        if name == "socket" {
            families.extend(arguments.split(',').next());
        }
    }
    for call in ["epoll_wait", "socket", "accept4", "listen", "execve"] {
        assert!(calls.contains(call), "{call} is not among {calls:?}");
    }
    let refused: Vec<_> = calls.iter().filter(|call| !allowed.contains(**call)).collect();
    assert!(refused.is_empty(), "{refused:?}");
    let permitted = value("RestrictAddressFamilies");
    let permitted: Vec<&str> = permitted.split(' ').collect();
    assert!(families.iter().all(|family| permitted.contains(family)), "{families:?}");
}

/// What the unit's filter lets through: the sets it names, without those behind a tilde.
fn allowed() -> Option<BTreeSet<String>> {
    let unit = read(UNIT);
    let mut allowed = BTreeSet::new();
    for line in unit.lines().filter_map(|line| line.strip_prefix("SystemCallFilter=")) {
        let (is_refusal, sets) = match line.strip_prefix('~') {
            Some(sets) => (true, sets),
            None => (false, line),
        };
        for set in sets.split(' ') {
            let mut calls = BTreeSet::new();
            members(set, &mut calls)?;
            match is_refusal {
                true => allowed.retain(|call| !calls.contains(call)),
                false => allowed.extend(calls),
            }
        }
    }
    Some(allowed)
}

/// The calls of a set of systemd's, and of the sets in it.
fn members(set: &str, calls: &mut BTreeSet<String>) -> Option<()> {
    let output = run("systemd-analyze", &["--no-pager", "syscall-filter", set])?;
    assert!(output.status.success(), "{set} is not known: {output:?}");
    for line in String::from_utf8(output.stdout).unwrap().lines().skip(1).map(str::trim) {
        match line.chars().next() {
            Some('@') => members(line, calls)?,
            Some('#') | None => {}
            Some(_) => {
                calls.insert(line.to_string());
            }
        }
    }
    Some(())
}

/// The calls of a daemon that starts, answers, reloads its config and ends. `None` where they
/// cannot be traced.
fn trace(folder: &Scratch) -> Option<String> {
    let held = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let [bind, api] = held.map(|listener| listener.local_addr().unwrap());
    let config = folder.0.join("mtbox.toml");
    let secret = "ee00112233445566778899aabbccddeeff6c6f63616c686f7374";
    let text = format!(
        "bind-to = \"{bind}\"\napi-bind-to = \"{api}\"\npid-file = {pid:?}\n\
         state-file = {state:?}\nprefer-ip = \"only-ipv4\"\n[domain-fronting]\nscout = false\n\
         host = \"127.0.0.1\"\nport = 1\n[secrets]\nme = \"{secret}\"\n",
        pid = folder.0.join("pid"),
        state = folder.0.join("state"),
    );
    fs::write(&config, text).unwrap();
    let log = folder.0.join("calls");
    let strace = Command::new("strace")
        .args(["-f", "-qq", "-o"])
        .args([&log, &PathBuf::from(DAEMON), &PathBuf::from("run"), &config])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let mut strace = match strace {
        Ok(child) => child,
        Err(fault) => {
            eprintln!("passed over: strace: {fault}");
            return None;
        }
    };
    let deadline = time::Instant::now() + time::Duration::from_secs(30);
    let mut stream = loop {
        match TcpStream::connect(api) {
            Ok(stream) => break stream,
            Err(_) if strace.try_wait().unwrap().is_none() && time::Instant::now() < deadline => {
                thread::sleep(time::Duration::from_millis(10));
            }
            Err(fault) => {
                eprintln!("passed over: nothing can be traced here: {fault}");
                let _ = strace.kill();
                let _ = strace.wait();
                return None;
            }
        }
    };
    let mut answer = String::new();
    stream.write_all(b"GET /stats HTTP/1.0\r\n\r\n").unwrap();
    stream.read_to_string(&mut answer).unwrap();
    // An unauthenticated client: its connection goes to a front that does not exist.
    let mut probe = TcpStream::connect(bind).unwrap();
    probe.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    let _ = probe.read(&mut [0]);
    let pid = fs::read_to_string(folder.0.join("pid")).unwrap_or_default();
    let daemon = pid.trim().parse().expect("the daemon wrote its number");
    for signal in [nix::sys::signal::Signal::SIGHUP, nix::sys::signal::Signal::SIGTERM] {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(daemon), signal).unwrap();
    }
    assert!(strace.wait().unwrap().success(), "{answer}");
    Some(fs::read_to_string(log).unwrap())
}

fn value(key: &str) -> String {
    let unit = read(UNIT);
    let line = unit.lines().find_map(|line| line.strip_prefix(&format!("{key}=")));
    line.unwrap_or_else(|| panic!("{key}")).to_string()
}

/// A folder that goes when the test ends.
pub struct Scratch(pub PathBuf);

impl Scratch {
    /// A fresh one.
    pub fn new(name: &str) -> Self {
        let path = env::temp_dir().join(format!("mtbox-packaging-{}-{name}", process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

//! The program under test: starts the built binary with a generated config on free loopback ports
//! and keeps its log. Drop kills it and checks its end and its log.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::hello::Secret;
use super::{eventually, holds_within, leaks, program, stats};

/// A config file and the environment of the program.
#[derive(Clone)]
pub struct Config {
    tables: BTreeMap<String, Vec<(String, String)>>,
    secrets: Vec<Secret>,
    binds: Vec<IpAddr>,
    port: Option<u16>,
    /// Commands of a shell that then executes the program.
    shell_prefix: Option<String>,
    is_unprivileged: bool,
    environment: Vec<(String, String)>,
    flags: Vec<String>,
}

/// The running program.
pub struct Proxy {
    /// The first listener for clients.
    pub addr: SocketAddr,
    /// All listeners for clients.
    pub binds: Vec<SocketAddr>,
    /// The stats listener.
    pub api: SocketAddr,
    child: Child,
    log: Arc<Log>,
    secrets: Vec<Secret>,
    /// Every config that it was given, in order.
    configs: Mutex<Vec<String>>,
    file: PathBuf,
    is_end_expected: bool,
}

/// Standard error of the program.
#[derive(Default)]
struct Log {
    text: Mutex<String>,
    /// The test has closed the pipe.
    is_closed: AtomicBool,
    /// The test does not read for now.
    is_paused: AtomicBool,
    /// The program has closed the pipe.
    is_complete: AtomicBool,
}

impl Config {
    /// One listener, every DC at `dc`, the front at `front`, high limits, no users.
    pub fn new(dc: SocketAddr, front: SocketAddr) -> Self {
        let config = Self {
            tables: BTreeMap::new(),
            secrets: Vec::new(),
            binds: vec![IpAddr::from(Ipv4Addr::LOCALHOST)],
            port: None,
            shell_prefix: None,
            is_unprivileged: false,
            environment: Vec::new(),
            flags: Vec::new(),
        };
        let overrides = [1, 2, 3, 4, 5, 203].map(|id| (id.to_string(), format!("[\"{dc}\"]")));
        let config = overrides
            .iter()
            .fold(config, |config, (id, list)| config.set("telegram.dc-overrides", id, list));
        config
            .set("", "debug", "true")
            .set("", "bind-to", "[{binds}]")
            .set("", "api-bind-to", "\"{api}\"")
            .set("", "concurrency", "256")
            .set("domain-fronting", "host", &format!("\"{}\"", front.ip()))
            .set("domain-fronting", "port", &front.port().to_string())
            .set("domain-fronting", "scout", "false")
            .set("network.timeout", "idle", "\"5m\"")
            .set("network.timeout", "handshake", "\"10s\"")
            .set("defense.doppelganger", "enabled", "false")
    }

    /// Sets a key to TOML text; `table` is empty for the top level. `{port}` in the text is
    /// replaced by the port of the first listener.
    pub fn set(mut self, table: &str, key: &str, value: &str) -> Self {
        let entries = self.tables.entry(table.to_owned()).or_default();
        entries.retain(|(name, _)| name != key);
        entries.push((key.to_owned(), value.to_owned()));
        self
    }

    /// Removes a key.
    pub fn without(mut self, table: &str, key: &str) -> Self {
        self.tables.entry(table.to_owned()).or_default().retain(|(name, _)| name != key);
        self
    }

    /// Adds a user.
    pub fn user(mut self, name: &str, secret: &Secret) -> Self {
        self.secrets.push(secret.clone());
        let name = Value::from(name).to_string();
        self.set("secrets", &name, &format!("{:?}", secret.text()))
    }

    /// Listens on these addresses, each with its own port.
    pub fn binds(mut self, addresses: &[IpAddr]) -> Self {
        self.binds = addresses.to_vec();
        self
    }

    /// Listens on this port instead of a free one.
    pub fn port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    /// Starts the program with this limit of descriptors.
    pub fn max_files(mut self, most: u32) -> Self {
        self.shell_prefix = Some(format!("ulimit -n {most}"));
        self
    }

    /// Starts the program with a limit of the file size, in blocks of 512 bytes: a full disk.
    pub fn full_disk(mut self, blocks: u32) -> Self {
        self.shell_prefix = Some(format!("trap '' XFSZ; ulimit -S -f {blocks}"));
        self
    }

    /// Starts the program without `CAP_NET_ADMIN`, `CAP_NET_RAW` and `CAP_DAC_*`.
    pub fn unprivileged(mut self) -> Self {
        self.is_unprivileged = true;
        self
    }

    /// Sets an environment variable of the program.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Adds arguments after the file.
    pub fn flags(mut self, flags: &[&str]) -> Self {
        self.flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
        self
    }

    /// The file as text, with the address of no listener.
    pub fn text(&self) -> String {
        let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        self.render(&[nowhere], nowhere)
    }

    /// Starts the program, waits until it fails, and returns its log.
    pub fn run_until_exit(self) -> String {
        let mut proxy = self.spawn();
        eventually("the program fails", || proxy.has_ended());
        assert!(!proxy.wait_for_exit().success());
        let log = Arc::clone(&proxy.log);
        eventually("the log is complete", || log.is_complete.load(Ordering::SeqCst));
        proxy.log()
    }

    /// Starts the program and waits until it listens.
    pub fn start(self) -> Proxy {
        for _ in 0..5 {
            if let Some(proxy) = self.try_start() {
                return proxy;
            }
        }
        panic!("the program failed to start five times");
    }

    fn try_start(&self) -> Option<Proxy> {
        let mut proxy = self.spawn();
        let ports: Vec<u16> =
            proxy.binds.iter().chain([&proxy.api]).map(SocketAddr::port).collect();
        eventually("the program listens or fails", || {
            proxy.has_ended() || ports.iter().all(|port| is_listening(*port))
        });
        if proxy.has_ended() {
            // Another process may have taken a port. The log shows other reasons.
            eprintln!("start failed:\n{}", proxy.log());
            proxy.is_end_expected = true;
            return None;
        }
        // A program that answers has opened everything that it opens at start.
        proxy.stats();
        Some(proxy)
    }

    /// Writes the file with free ports for the listeners, for a command that only reads it.
    pub fn write(&self) -> PathBuf {
        let port = || self.port.unwrap_or_else(free_port);
        let binds: Vec<_> = self.binds.iter().map(|ip| SocketAddr::new(*ip, port())).collect();
        write_file(&self.render(&binds, SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()))))
    }

    fn spawn(&self) -> Proxy {
        let port = || self.port.unwrap_or_else(free_port);
        let binds: Vec<_> = self.binds.iter().map(|ip| SocketAddr::new(*ip, port())).collect();
        let api = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let text = self.render(&binds, api);
        let file = write_file(&text);
        let mut child = self.command(&file).spawn().expect("the built binary");
        let log = Arc::new(Log::default());
        keep_log(&mut child, Arc::clone(&log));
        Proxy {
            addr: binds[0],
            binds,
            api,
            child,
            log,
            secrets: self.secrets.clone(),
            configs: Mutex::new(vec![text]),
            file,
            is_end_expected: false,
        }
    }

    fn command(&self, file: &PathBuf) -> Command {
        let mut command = match &self.shell_prefix {
            Some(shell_prefix) => {
                let mut shell = Command::new("sh");
                shell.arg("-c").arg(format!("{shell_prefix}; exec \"$@\"")).arg("sh");
                shell.args(program::words()).arg("run").arg(file);
                shell
            }
            None if self.is_unprivileged => {
                let mut plain = Command::new("setpriv");
                let without = "-net_admin,-net_raw,-dac_override,-dac_read_search";
                plain.args(["--bounding-set", without, "--inh-caps", without]);
                plain.args(program::words()).arg("run").arg(file);
                plain
            }
            None => {
                let mut direct = program::command();
                direct.arg("run").arg(file).args(&self.flags);
                direct
            }
        };
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        command
    }

    fn render(&self, binds: &[SocketAddr], api: SocketAddr) -> String {
        let list: Vec<String> = binds.iter().map(|bind| format!("\"{bind}\"")).collect();
        let mut text = String::new();
        for (table, entries) in &self.tables {
            if !table.is_empty() {
                text.push_str(&format!("[{table}]\n"));
            }
            for (key, value) in entries {
                text.push_str(&format!("{key} = {value}\n"));
            }
        }
        text.replace("{binds}", &list.join(", "))
            .replace("{api}", &api.to_string())
            .replace("{port}", &binds[0].port().to_string())
    }
}

impl Proxy {
    /// `/stats`, parsed.
    pub fn stats(&self) -> Value {
        stats::read_stats(self.api)
    }

    /// A number of a user in `/stats`.
    pub fn number(&self, user: &str, field: &str) -> u64 {
        let stats = self.stats();
        let value = &stats["users"][user][field];
        value.as_u64().unwrap_or_else(|| panic!("{user}.{field} in {stats}"))
    }

    /// Live sessions of `user`.
    pub fn connections(&self, user: &str) -> u64 {
        self.number(user, "connections")
    }

    /// Waits until `user` has exactly `count` live sessions.
    pub fn wait_for_connections(&self, user: &str, count: u64) {
        eventually(&format!("{user} has {count} connections"), || self.connections(user) == count);
    }

    /// Writes another config with the same addresses and sends SIGHUP. Returns the log line with
    /// the result.
    pub fn reload(&mut self, config: &Config) -> String {
        self.secrets.extend_from_slice(&config.secrets);
        let text = config.render(&self.binds, self.api);
        self.reload_text(&text)
    }

    /// The same with any text.
    pub fn reload_text(&self, text: &str) -> String {
        fs::write(&self.file, text).expect("a config file");
        self.configs.lock().expect("the configs").push(text.to_owned());
        let before = self.log().len();
        self.signal(Signal::SIGHUP);
        let mut answer = None;
        eventually("a log line after SIGHUP", || {
            let log = self.log();
            let mut lines = log[before..].split_inclusive('\n').filter(|line| line.ends_with('\n'));
            let is_answer = |line: &&str| {
                ["event=", "\"message\":\""].iter().any(|start| {
                    let has = |word| line.contains(&format!("{start}{word}"));
                    has("reloaded") || has("reload-refused")
                })
            };
            answer = lines.find(is_answer).map(str::to_owned);
            answer.is_some()
        });
        answer.expect("an answer")
    }

    /// Changes the listeners of the next reload.
    pub fn set_binds(&mut self, binds: &[SocketAddr]) {
        self.addr = binds[0];
        self.binds = binds.to_vec();
    }

    /// The config file.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Number of open descriptors of the process.
    pub fn files(&self) -> usize {
        let folder = format!("/proc/{}/fd", self.child.id());
        fs::read_dir(folder).expect("a living process").count()
    }

    /// Waits until no connection is open and at most `files` descriptors are.
    pub fn wait_until_idle(&self, files: usize) {
        eventually("all connections are gone", || self.stats()["total_connections"] == 0);
        eventually(&format!("only {files} descriptors are open"), || self.files() <= files);
    }

    /// Limits the descriptors of the process to `more` than it has now; `false` = this machine has
    /// no `prlimit`.
    pub fn limit_files(&self, more: usize) -> bool {
        let most = self.files() + more;
        let mut command = Command::new("prlimit");
        command
            .arg("--pid")
            .arg(self.child.id().to_string())
            .arg(format!("--nofile={most}:{most}"));
        command.status().is_ok_and(|status| status.success())
    }

    /// Ends the limit of [`Config::full_disk`].
    pub fn clear_disk(&self) {
        let mut command = Command::new("prlimit");
        command.arg("--pid").arg(self.child.id().to_string()).arg("--fsize=unlimited");
        assert!(command.status().is_ok_and(|status| status.success()), "prlimit");
    }

    /// Processor time used so far, in clock ticks of 10 ms.
    pub fn ticks(&self) -> u64 {
        let line = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).expect("stat");
        // proc(5): utime and stime are fields 14 and 15; the name in parentheses is field 2.
        let fields: Vec<&str> =
            line.rsplit_once(')').expect("a name").1.split_whitespace().collect();
        fields[11..13].iter().map(|field| field.parse::<u64>().expect("a number")).sum()
    }

    /// Private memory in KiB.
    pub fn private_kib(&self) -> u64 {
        self.status("RssAnon:")
    }

    /// Resident memory in KiB.
    pub fn resident_kib(&self) -> u64 {
        self.status("VmRSS:")
    }

    /// Number of voluntary context switches.
    pub fn wake_ups(&self) -> u64 {
        self.status("voluntary_ctxt_switches:")
    }

    /// A number of /proc/PID/status.
    fn status(&self, name: &str) -> u64 {
        let path = format!("/proc/{}/status", self.child.id());
        let text = fs::read_to_string(path).expect("a living process");
        let line = text.lines().find(|line| line.starts_with(name)).expect("a known field");
        line.split_whitespace().nth(1).and_then(|word| word.parse().ok()).expect("a number")
    }

    /// The log so far.
    pub fn log(&self) -> String {
        self.log.text.lock().expect("the log").clone()
    }

    /// Stops or continues reading the program's standard error.
    pub fn pause_log(&self, paused: bool) {
        self.log.is_paused.store(paused, Ordering::SeqCst);
    }

    /// Closes the program's standard error.
    pub fn close_log(&self) {
        self.log.is_closed.store(true, Ordering::SeqCst);
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id()).expect("a process id");
        kill(Pid::from_raw(id), signal).expect("a living process");
    }

    /// The process has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("our own child").is_some()
    }

    /// Waits for an end that the test has caused.
    pub fn wait_for_exit(&mut self) -> ExitStatus {
        eventually("the program ends", || self.has_ended());
        self.is_end_expected = true;
        self.child.wait().expect("our own child")
    }

    /// Checks how the program ended, and its log.
    fn check_end(&mut self, ended: Option<ExitStatus>) {
        assert!(self.is_end_expected || ended.is_none(), "the program died: {ended:?}");
        self.pause_log(false);
        let is_complete = || self.log.is_complete.load(Ordering::SeqCst);
        let is_closed = self.log.is_closed.load(Ordering::SeqCst);
        assert!(is_closed || holds_within(super::TIMEOUT, is_complete), "the log ends");
        let log = self.log();
        assert!(!log.contains("panicked"), "the program panicked");
        assert_eq!(self.leaks(&log), [""; 0], "in the log");
    }

    /// Data in `log` that no log may contain.
    pub fn leaks(&self, log: &str) -> Vec<String> {
        leaks::search(log, &self.configs.lock().expect("the configs"), &self.secrets)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let ended = self.child.try_wait().ok().flatten();
        // Both fail only for a process that has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_file(&self.file);
        if thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!("--- end of the log\n{}", lines[lines.len().saturating_sub(60)..].join("\n"));
        } else {
            self.check_end(ended);
        }
    }
}

/// Writes a new config file.
fn write_file(text: &str) -> PathBuf {
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let name = format!("mtbox-{}-{number}.toml", std::process::id());
    let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::write(&file, text).expect("a config file");
    file
}

/// Collects standard error until either side closes it.
fn keep_log(child: &mut Child, log: Arc<Log>) {
    let mut pipe = child.stderr.take().expect("a pipe");
    thread::spawn(move || {
        let mut chunk = [0; 4096];
        while let Ok(count @ 1..) = pipe.read(&mut chunk) {
            while log.is_paused.load(Ordering::SeqCst) {
                thread::sleep(Duration::from_millis(1));
            }
            let text = String::from_utf8_lossy(&chunk[..count]);
            log.text.lock().expect("the log").push_str(&text);
            if log.is_closed.load(Ordering::SeqCst) {
                return;
            }
        }
        log.is_complete.store(true, Ordering::SeqCst);
    });
}

/// A free port below the ephemeral range, so that no outgoing connection can take it.
pub fn free_port() -> u16 {
    let mut port = 0;
    let found = holds_within(super::TIMEOUT, || {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let start = std::process::id().wrapping_mul(97);
        port = 10_000 + (start.wrapping_add(step) % 22_000) as u16;
        TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
    });
    assert!(found, "a free port");
    port
}

/// Whether a socket of this machine listens on the port. Reads the kernel's tables, because a
/// connect would be counted as a client.
pub fn is_listening(port: u16) -> bool {
    ["/proc/net/tcp", "/proc/net/tcp6"].iter().any(|table| {
        let text = fs::read_to_string(table).unwrap_or_default();
        text.lines().any(|line| {
            let mut words = line.split_whitespace().skip(1);
            let local = words.next().unwrap_or_default();
            local.ends_with(&format!(":{port:04X}")) && words.nth(1) == Some("0A")
        })
    })
}

static NEXT: AtomicU32 = AtomicU32::new(0);

//! The program under test: starts the built binary with a generated config on free loopback ports,
//! keeps its log, and on drop kills it and judges what it left behind.

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

/// A config file in the making.
#[derive(Clone)]
pub struct Config {
    tables: BTreeMap<String, Vec<(String, String)>>,
    secrets: Vec<Secret>,
    binds: Vec<IpAddr>,
    port: Option<u16>,
    /// What a shell does before it becomes the program.
    prelude: Option<String>,
    is_humble: bool,
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
    /// Every file it was given, the first one first.
    configs: Mutex<Vec<String>>,
    file: PathBuf,
    is_over: bool,
}

/// What the program has written to standard error.
#[derive(Default)]
struct Log {
    text: Mutex<String>,
    /// We have hung up.
    is_closed: AtomicBool,
    /// Nobody reads for now.
    is_left: AtomicBool,
    /// The program has said its last word.
    is_whole: AtomicBool,
}

impl Config {
    /// One listener, every ordinary DC at `dc`, strangers to `origin`, ample limits, no users yet.
    pub fn new(dc: SocketAddr, origin: SocketAddr) -> Self {
        let config = Self {
            tables: BTreeMap::new(),
            secrets: Vec::new(),
            binds: vec![IpAddr::from(Ipv4Addr::LOCALHOST)],
            port: None,
            prelude: None,
            is_humble: false,
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
            .set("domain-fronting", "host", &format!("\"{}\"", origin.ip()))
            .set("domain-fronting", "port", &origin.port().to_string())
            .set("domain-fronting", "scout", "false")
            .set("network.timeout", "idle", "\"5m\"")
            .set("network.timeout", "handshake", "\"10s\"")
            .set("defense.doppelganger", "enabled", "false")
    }

    /// Sets one key to TOML text; `table` is empty for the top level. `{port}` in the text becomes
    /// the port of the first listener.
    pub fn set(mut self, table: &str, key: &str, value: &str) -> Self {
        let entries = self.tables.entry(table.to_owned()).or_default();
        entries.retain(|(name, _)| name != key);
        entries.push((key.to_owned(), value.to_owned()));
        self
    }

    /// Leaves one key out.
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

    /// Listens on these addresses, each on a port of its own.
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
    pub fn most_files(mut self, most: u32) -> Self {
        self.prelude = Some(format!("ulimit -n {most}"));
        self
    }

    /// Starts the program on a full disk: no file grows beyond so many blocks of 512 bytes.
    pub fn full_disk(mut self, blocks: u32) -> Self {
        self.prelude = Some(format!("trap '' XFSZ; ulimit -S -f {blocks}"));
        self
    }

    /// Starts the program without the privileges of a network administrator, and of one who may
    /// write to any file.
    pub fn humble(mut self) -> Self {
        self.is_humble = true;
        self
    }

    /// Starts the program with this in its environment.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Starts the program with these arguments behind the file.
    pub fn flags(mut self, flags: &[&str]) -> Self {
        self.flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
        self
    }

    /// The file as text, with addresses where nobody listens.
    pub fn text(&self) -> String {
        let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        self.render(&[nowhere], nowhere)
    }

    /// Starts the program and waits until it gives up; gives back its log.
    pub fn give_up(self) -> String {
        let mut proxy = self.spawn();
        eventually("the program gives up", || proxy.has_ended());
        assert!(!proxy.wait_for_exit().success());
        let log = Arc::clone(&proxy.log);
        eventually("its last word is here", || log.is_whole.load(Ordering::SeqCst));
        proxy.log()
    }

    /// Starts the program and waits until it listens.
    pub fn start(self) -> Proxy {
        for _ in 0..5 {
            if let Some(proxy) = self.try_start() {
                return proxy;
            }
        }
        panic!("the program would not start five times over");
    }

    fn try_start(&self) -> Option<Proxy> {
        let mut proxy = self.spawn();
        let ports: Vec<u16> =
            proxy.binds.iter().chain([&proxy.api]).map(SocketAddr::port).collect();
        eventually("the program listens or gives up", || {
            proxy.has_ended() || ports.iter().all(|port| is_listening(*port))
        });
        if proxy.has_ended() {
            // Another process may have taken a port in between; the log tells if it was not that.
            eprintln!("start failed:\n{}", proxy.log());
            proxy.is_over = true;
            return None;
        }
        // Listening comes first; who answers has opened everything that is opened at start.
        proxy.stats();
        Some(proxy)
    }

    /// Writes the file for a program that only reads it, with free ports for the listeners.
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
            is_over: false,
        }
    }

    fn command(&self, file: &PathBuf) -> Command {
        let mut command = match &self.prelude {
            Some(prelude) => {
                let mut shell = Command::new("sh");
                shell.arg("-c").arg(format!("{prelude}; exec \"$@\"")).arg("sh");
                shell.args(program::words()).arg("run").arg(file);
                shell
            }
            None if self.is_humble => {
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
    /// `/stats` as a value.
    pub fn stats(&self) -> Value {
        stats::snapshot(self.api)
    }

    /// One number of one user.
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

    /// Writes another config with the same addresses and tells the program. Gives back the line
    /// of its log by which it answers.
    pub fn reload(&mut self, config: &Config) -> String {
        self.secrets.extend_from_slice(&config.secrets);
        let text = config.render(&self.binds, self.api);
        self.reload_text(&text)
    }

    /// The same with a file of any text.
    pub fn reload_text(&self, text: &str) -> String {
        fs::write(&self.file, text).expect("a config file");
        self.configs.lock().expect("the configs").push(text.to_owned());
        let before = self.log().len();
        self.signal(Signal::SIGHUP);
        let mut answer = None;
        eventually("an answer to HUP", || {
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

    /// Listens elsewhere from the next reload on.
    pub fn move_to(&mut self, binds: &[SocketAddr]) {
        self.addr = binds[0];
        self.binds = binds.to_vec();
    }

    /// The config file.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The process number.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Open descriptors of the process.
    pub fn files(&self) -> usize {
        let folder = format!("/proc/{}/fd", self.child.id());
        fs::read_dir(folder).expect("a living process").count()
    }

    /// Waits until nobody is connected and no descriptor is left over.
    pub fn wait_for_rest(&self, files: usize) {
        eventually("all connections are gone", || self.stats()["total_connections"] == 0);
        eventually("descriptors return to the baseline", || self.files() <= files);
    }

    /// Lets the process open `more` descriptors than it has now, and no others; `false` = this
    /// machine has no means to.
    pub fn bound_files(&self, more: usize) -> bool {
        let most = self.files() + more;
        let mut command = Command::new("prlimit");
        command
            .arg("--pid")
            .arg(self.child.id().to_string())
            .arg(format!("--nofile={most}:{most}"));
        command.status().is_ok_and(|status| status.success())
    }

    /// Gives the disk of [`Config::full_disk`] all the room there is.
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

    /// Resident memory in KiB.
    pub fn resident_kib(&self) -> u64 {
        self.status("VmRSS:")
    }

    /// How often it has gone to sleep of its own will, and so woken again.
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

    /// What it has logged so far.
    pub fn log(&self) -> String {
        self.log.text.lock().expect("the log").clone()
    }

    /// Leaves the program's standard error unread, or goes back to it.
    pub fn leave_log(&self, leave: bool) {
        self.log.is_left.store(leave, Ordering::SeqCst);
    }

    /// Hangs up on the program's standard error.
    pub fn close_log(&self) {
        self.log.is_closed.store(true, Ordering::SeqCst);
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id()).expect("a process id");
        kill(Pid::from_raw(id), signal).expect("a living process");
    }

    /// Whether the process has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("our own child").is_some()
    }

    /// Waits for the end that the scenario has asked for.
    pub fn wait_for_exit(&mut self) -> ExitStatus {
        eventually("the program ends", || self.has_ended());
        self.is_over = true;
        self.child.wait().expect("our own child")
    }

    /// Once it is over: how it ended, and all that it has said.
    fn judge(&mut self, ended: Option<ExitStatus>) {
        assert!(self.is_over || ended.is_none(), "the program died: {ended:?}");
        self.leave_log(false);
        let is_whole = || self.log.is_whole.load(Ordering::SeqCst);
        let is_closed = self.log.is_closed.load(Ordering::SeqCst);
        assert!(is_closed || holds_within(super::PATIENCE, is_whole), "the log ends");
        let log = self.log();
        assert!(!log.contains("panicked"), "the program panicked");
        assert_eq!(self.leaks(&log), [""; 0], "in the log");
    }

    /// What a log of this program holds that no log may hold.
    pub fn leaks(&self, log: &str) -> Vec<String> {
        leaks::search(log, &self.configs.lock().expect("the configs"), &self.secrets)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let ended = self.child.try_wait().ok().flatten();
        // Both fail only for a process that is gone already, which is what we want.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_file(&self.file);
        if thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!("--- end of the log\n{}", lines[lines.len().saturating_sub(60)..].join("\n"));
        } else {
            self.judge(ended);
        }
    }
}

/// A fresh config file.
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
            while log.is_left.load(Ordering::SeqCst) {
                thread::sleep(Duration::from_millis(1));
            }
            let text = String::from_utf8_lossy(&chunk[..count]);
            log.text.lock().expect("the log").push_str(&text);
            if log.is_closed.load(Ordering::SeqCst) {
                return;
            }
        }
        log.is_whole.store(true, Ordering::SeqCst);
    });
}

/// A port below the ephemeral range, so that no outgoing connection takes it meanwhile.
pub fn free_port() -> u16 {
    let mut port = 0;
    let found = holds_within(super::PATIENCE, || {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let start = std::process::id().wrapping_mul(97);
        port = 10_000 + (start.wrapping_add(step) % 22_000) as u16;
        TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
    });
    assert!(found, "a free port");
    port
}

/// Looks into the kernel's tables instead of connecting, which would be a visit.
fn is_listening(port: u16) -> bool {
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

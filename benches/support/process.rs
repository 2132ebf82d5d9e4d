//! A relay under test as a separate process: the daemon or the copy loop.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::faketls::User;
use super::helper::Helper;
use super::options::Outcome;
use super::proc;
use super::sockets::free_port;

/// A relay that accepts clients. Dropping it ends the process.
pub enum Relay {
    /// The product.
    Daemon(Daemon),
    /// The program that it is compared with.
    Copy(Helper),
    /// HAProxy, which copies as well.
    Haproxy(Haproxy),
}

impl Relay {
    /// The plain copy loop in front of the DC on `dc_port`.
    pub fn copy(dc_port: u16) -> Outcome<Self> {
        Ok(Self::Copy(Helper::spawn(&["copy", &dc_port.to_string()])?))
    }

    /// HAProxy in front of the DC on `dc_port`.
    pub fn haproxy(dc_port: u16) -> Outcome<Self> {
        Ok(Self::Haproxy(Haproxy::start(dc_port)?))
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        match self {
            Self::Daemon(daemon) => daemon.child.id(),
            Self::Copy(helper) => helper.pid(),
            Self::Haproxy(haproxy) => haproxy.child.id(),
        }
    }

    /// Fails when the daemon has ended, because the numbers of this run are then meaningless.
    pub fn ensure_alive(&mut self) -> Outcome<()> {
        match self {
            Self::Daemon(daemon) => daemon.ensure_alive(),
            Self::Copy(_) | Self::Haproxy(_) => Ok(()),
        }
    }

    /// The loopback port for clients.
    pub fn port(&self) -> u16 {
        match self {
            Self::Daemon(daemon) => daemon.port,
            Self::Copy(helper) => helper.port(),
            Self::Haproxy(haproxy) => haproxy.port,
        }
    }
}

/// HAProxy with one thread, in TCP mode.
pub struct Haproxy {
    child: Child,
    port: u16,
    config: PathBuf,
}

impl Haproxy {
    /// Whether the program is installed.
    pub fn is_installed() -> bool {
        let mut command = Command::new("haproxy");
        let command = command.arg("-v").stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    }

    fn start(dc_port: u16) -> Outcome<Self> {
        let port = free_port()?;
        let config = std::env::temp_dir().join(format!("mtbox-bench-haproxy-{port}.cfg"));
        let text = format!(
            "global\n nbthread 1\n\
             defaults\n mode tcp\n \
             timeout connect 5s\n timeout client 60s\n timeout server 60s\n\
             listen relay\n bind 127.0.0.1:{port}\n server dc 127.0.0.1:{dc_port}\n"
        );
        fs::write(&config, text)?;
        let mut command = Command::new("haproxy");
        let child = command.arg("-db").arg("-f").arg(&config).stdout(Stdio::null()).spawn()?;
        let haproxy = Self { child, port, config };
        proc::await_true("haproxy does not listen", || proc::is_listening(port))?;
        Ok(haproxy)
    }
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_file(&self.config);
    }
}

/// The release binary, running with its own configuration.
pub struct Daemon {
    child: Child,
    port: u16,
    config: PathBuf,
    log: PathBuf,
}

/// A configuration whose program is not started yet.
pub struct Prepared {
    port: u16,
    config: PathBuf,
    log: PathBuf,
    prefix: Vec<String>,
}

/// The environment variable with the program to measure; the default is the one that Cargo built.
const VARIABLE: &str = "MTBOX_BENCH_PROGRAM";

/// The path of the program to measure.
pub fn program() -> String {
    std::env::var(VARIABLE).unwrap_or_else(|_| env!("CARGO_BIN_EXE_mtbox").to_owned())
}

/// The program is not the one that Cargo built.
pub fn is_other() -> bool {
    std::env::var_os(VARIABLE).is_some()
}

/// The variable parts of a configuration.
pub struct Plan<'a> {
    /// All users.
    pub users: &'a [User],
    /// The loopback port of DC 2, and of the front if `front_port` is `None`.
    pub dc_port: u16,
    /// The loopback port of the front.
    pub front_port: Option<u16>,
    /// Limit of simultaneous sessions.
    pub concurrency: u64,
    /// Downloads with two ciphers instead of matched keys.
    pub re_encrypt: bool,
    /// Additional keys before all tables.
    pub head: String,
    /// Additional tables.
    pub more: String,
    /// Words before the command of the daemon, such as `unshare -m`.
    pub prefix: Vec<String>,
}

impl<'a> Plan<'a> {
    /// A plan with matched keys and the front on the port of the DC.
    pub fn new(users: &'a [User], dc_port: u16, concurrency: u64) -> Self {
        Self {
            users,
            dc_port,
            front_port: None,
            concurrency,
            re_encrypt: false,
            head: String::new(),
            more: String::new(),
            prefix: Vec::new(),
        }
    }
}

impl Daemon {
    /// Starts `mtbox run` and waits until it listens.
    pub fn start(plan: &Plan) -> Outcome<Self> {
        let mut daemon = Self::launch(Self::prepare(plan)?, |_| {})?;
        let port = daemon.port;
        proc::await_true("mtbox does not listen", || {
            daemon.ensure_alive()?;
            proc::is_listening(port)
        })?;
        Ok(daemon)
    }

    /// Writes a configuration for a free port.
    pub fn prepare(plan: &Plan) -> Outcome<Prepared> {
        let port = free_port()?;
        let stem = std::env::temp_dir().join(format!("mtbox-bench-{}-{port}", std::process::id()));
        let (config, log) = (stem.with_extension("toml"), stem.with_extension("log"));
        fs::write(&config, configuration(port, plan))?;
        Ok(Prepared { port, config, log, prefix: plan.prefix.clone() })
    }

    /// Starts `mtbox run` without waiting.
    pub fn launch(prepared: Prepared, configure: impl FnOnce(&mut Command)) -> Outcome<Self> {
        let Prepared { port, config, log, mut prefix } = prepared;
        prefix.push(program());
        let (program, rest) = prefix.split_first().ok_or("nothing to run")?;
        let mut command = Command::new(program);
        command.args(rest).arg("run").arg(&config).stdin(Stdio::null()).stdout(Stdio::null());
        configure(command.stderr(fs::File::create(&log)?));
        let child = command.spawn().map_err(|error| format!("{program}: {error}"))?;
        Ok(Self { child, port, config, log })
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Writes another configuration for the same port. The daemon does not reload it yet.
    pub fn rewrite(&self, plan: &Plan) -> Outcome<()> {
        Ok(fs::write(&self.config, configuration(self.port, plan))?)
    }

    /// Sends HUP.
    pub fn reload(&self) -> Outcome<()> {
        self.signal(Signal::SIGHUP)
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> Outcome<()> {
        Ok(kill(Pid::from_raw(i32::try_from(self.child.id())?), signal)?)
    }

    /// The log so far.
    pub fn log(&self) -> Outcome<String> {
        Ok(fs::read_to_string(&self.log)?)
    }

    /// The loopback port for clients.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Fails when the daemon has ended.
    pub fn ensure_alive(&mut self) -> Outcome<()> {
        let Some(status) = self.child.try_wait()? else { return Ok(()) };
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        Err(format!("mtbox has ended: {status}; its log:\n{log}").into())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // These fail only for a process or a file that is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_file(&self.config);
        let _ = fs::remove_file(&self.log);
    }
}

fn configuration(port: u16, plan: &Plan) -> String {
    let Plan { dc_port, concurrency, re_encrypt, head, more, .. } = plan;
    let front_port = plan.front_port.unwrap_or(plan.dc_port);
    let mut text = format!(
        "bind-to = \"127.0.0.1:{port}\"\n\
         concurrency = {concurrency}\n\
         {head}\
         [domain-fronting]\n\
         scout = false\n\
         host = \"127.0.0.1\"\n\
         port = {front_port}\n\
         [network]\n\
         re-encrypt = {re_encrypt}\n\
         [telegram.dc-overrides]\n\
         2 = [\"127.0.0.1:{dc_port}\"]\n\
         [defense.doppelganger]\n\
         enabled = false\n\
         {more}\
         [secrets]\n"
    );
    for (index, user) in plan.users.iter().enumerate() {
        text += &format!("user{index:04} = \"{}\"\n", user.secret_hex());
    }
    text
}

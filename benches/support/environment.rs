//! The environment of a run: its own network namespace, so that every socket of every process has
//! the same congestion control, and one CPU for all processes. The fallback is the host's network;
//! it is reported, because the relays under test then use the system's congestion control.

use std::fmt;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use super::options::Outcome;
use super::sockets;

/// The environment variable with the CPU of all processes; empty = not pinned.
const CPU: &str = "MTBOX_BENCH_CPU";

/// Every new namespace has it, and it needs no pacing on loopback.
const CONGESTION: &str = "reno";

/// Brings loopback up with the available tool, then executes the command after it.
const PREPARE: &str = "
    { ip link set lo up || ifconfig lo up || busybox ifconfig lo up; } 2>/dev/null || exit 1
    echo reno 2>/dev/null > /proc/sys/net/ipv4/tcp_congestion_control || exit 1
    exec \"$@\"";

/// The environment, for the head of each table.
pub struct Environment {
    in_namespace: bool,
    cpu: String,
    system: String,
    ours: String,
}

/// Executes this program again inside the namespace and on the CPU. Returns the environment once
/// inside.
pub fn enter(arguments: &[String]) -> Outcome<Environment> {
    let Ok(network) = std::env::var(sockets::NETWORK) else {
        return Err(execute_inside(arguments)?.into());
    };
    Ok(Environment {
        in_namespace: network == "namespace",
        cpu: std::env::var(CPU).unwrap_or_default(),
        system: sockets::system_congestion(),
        ours: sockets::our_congestion()?,
    })
}

/// The role `probe`: fails unless loopback works and has the wanted congestion control.
pub fn probe() -> Outcome<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    TcpStream::connect(listener.local_addr()?)?;
    match sockets::system_congestion() {
        found if found == CONGESTION => Ok(()),
        found => Err(format!("congestion control is {found}").into()),
    }
}

/// Replaces this process. Returns only if that fails.
fn execute_inside(arguments: &[String]) -> Outcome<std::io::Error> {
    let program = std::env::current_exe()?.into_os_string().into_string();
    let program = program.map_err(|_| "the path of this program is not UTF-8")?;
    let namespace = ["-n", "-rn"].into_iter().find(|flag| probe_passes(flag, &program));
    let cpu = last_cpu().filter(|cpu| succeeds(Command::new("taskset").args(["-c", cpu, "true"])));

    let mut line: Vec<&str> = Vec::new();
    if let Some(flag) = namespace {
        line.extend(["unshare", flag, "sh", "-c", PREPARE, "sh"]);
    }
    if let Some(cpu) = &cpu {
        line.extend(["taskset", "-c", cpu]);
    }
    line.push(&program);
    let (first, rest) = line.split_first().ok_or("nothing to run")?;
    let mut command = Command::new(first);
    command.args(rest).args(arguments);
    command.env(sockets::NETWORK, if namespace.is_some() { "namespace" } else { "host" });
    command.env(CPU, cpu.unwrap_or_default());
    Ok(command.exec())
}

/// Pins a process to a CPU; `false` = this is not possible.
pub fn pin(cpu: usize, pid: u32) -> bool {
    let mut command = Command::new("taskset");
    succeeds(command.args(["-cp", &cpu.to_string(), &pid.to_string()]))
}

fn probe_passes(flag: &str, program: &str) -> bool {
    let mut command = Command::new("unshare");
    succeeds(command.args([flag, "sh", "-c", PREPARE, "sh", program, "role", "probe"]))
}

/// The command runs and ends with exit code 0.
pub fn succeeds(command: &mut Command) -> bool {
    let command = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// The last CPU that this process may use: the first ones serve most interrupts.
fn last_cpu() -> Option<String> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
    let last = list.trim().rsplit([',', '-']).next()?;
    Some(last.to_owned())
}

impl Environment {
    /// The network belongs to this run alone.
    pub fn is_own(&self) -> bool {
        self.in_namespace
    }
}

impl fmt::Display for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.in_namespace {
            true => write!(f, "own network namespace, ")?,
            false => write!(f, "NO namespace of its own (unshare failed), ")?,
        }
        match self.cpu.as_str() {
            "" => write!(f, "not pinned; ")?,
            cpu => write!(f, "all processes on CPU {cpu}; ")?,
        }
        let Self { system, ours, .. } = self;
        write!(f, "congestion control {system} in mtbox and copy loop, {ours} in their peers")
    }
}

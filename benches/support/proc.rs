//! CPU time, memory and listeners of a process, read from `/proc`.

use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::options::Outcome;
use super::sockets::TIMEOUT;

/// One tick of `/proc/PID/stat`; USER_HZ is 100 on all supported systems.
const TICK_NS: u64 = 10_000_000;

/// Nanoseconds that all threads of `pid` have spent on a CPU: field 1 of each thread's `schedstat`,
/// or, where the kernel has none, user and system ticks of `stat`.
pub fn cpu_ns(pid: u32) -> Outcome<u64> {
    if !has_schedstat() {
        return cpu_ns_by_ticks(pid);
    }
    let mut sum = 0;
    for thread in fs::read_dir(format!("/proc/{pid}/task")).map_err(|_| "a relay has vanished")? {
        let text = read(thread?.path().join("schedstat"))?;
        sum += text.split_whitespace().next().unwrap_or_default().parse::<u64>()?;
    }
    Ok(sum)
}

/// The source that `cpu_ns` reads, for the head of a table.
pub fn cpu_source() -> &'static str {
    match has_schedstat() {
        true => "/proc/PID/task/*/schedstat, field 1",
        false => "/proc/PID/stat, utime + stime (10 ms ticks)",
    }
}

/// `key` of `/proc/PID/status`, in KiB.
pub fn status_kib(pid: u32, key: &str) -> Outcome<u64> {
    let text = read(format!("/proc/{pid}/status"))?;
    let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    let value = value.ok_or_else(|| format!("/proc/{pid}/status has no {key}"))?;
    Ok(value.trim().trim_end_matches("kB").trim().parse()?)
}

/// Waits until `pid` has used no CPU for a quarter of a second. Returns its CPU time so far.
pub fn await_rest(pid: u32) -> Outcome<u64> {
    let begin = Instant::now();
    let mut before = cpu_ns(pid)?;
    while begin.elapsed() < TIMEOUT {
        sleep(Duration::from_millis(250));
        let now = cpu_ns(pid)?;
        if now == before {
            return Ok(now);
        }
        before = now;
    }
    Err("the daemon does not become idle".into())
}

/// Polls until `condition` returns `true`; fails with `message` after [`TIMEOUT`].
pub fn await_true(message: &str, mut condition: impl FnMut() -> Outcome<bool>) -> Outcome<()> {
    let begin = Instant::now();
    while begin.elapsed() < TIMEOUT {
        if condition()? {
            return Ok(());
        }
        sleep(Duration::from_millis(5));
    }
    Err(message.into())
}

/// A process listens on `port` of 127.0.0.1. Reads the kernel's table and does not connect.
pub fn is_listening(port: u16) -> Outcome<bool> {
    // Local address in the byte order of the table, and the state LISTEN.
    let wanted = format!("0100007F:{port:04X}");
    let table = read("/proc/net/tcp")?;
    Ok(table.lines().any(|line| {
        let mut fields = line.split_whitespace().skip(1);
        fields.next() == Some(&wanted) && fields.nth(1) == Some("0A")
    }))
}

fn has_schedstat() -> bool {
    let text = fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    text.split_whitespace().next().is_some_and(|ns| ns != "0")
}

fn cpu_ns_by_ticks(pid: u32) -> Outcome<u64> {
    let text = read(format!("/proc/{pid}/stat"))?;
    // The name in parentheses may contain spaces; utime and stime are fields 12 and 13 after it.
    let (_, fields) = text.rsplit_once(')').ok_or("/proc/PID/stat has no name")?;
    let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<u64>);
    Ok(ticks.sum::<Result<u64, _>>()? * TICK_NS)
}

fn read(path: impl AsRef<Path>) -> Outcome<String> {
    let path = path.as_ref();
    fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()).into())
}

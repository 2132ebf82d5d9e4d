//! What the system allows this process: open files and memory.

use std::fs;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Raises the soft limit of open files to the hard one; returns what holds now.
pub fn raise_nofile() -> u64 {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return NOFILE_USUAL };
    match setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
        Ok(()) => hard,
        Err(_) => soft,
    }
}

/// The machine's memory in bytes, or the control group's bound where that is less.
pub fn memory_total() -> Option<u64> {
    let machine = fs::read_to_string("/proc/meminfo").ok().as_deref().and_then(mem_total);
    let group = fs::read_to_string("/proc/self/cgroup").ok().and_then(|text| {
        let path = text.lines().find_map(|line| line.strip_prefix("0::"))?;
        let limit = fs::read_to_string(format!("/sys/fs/cgroup{path}/memory.max")).ok()?;
        limit.trim().parse().ok()
    });
    machine.into_iter().chain(group).min()
}

/// The `MemTotal` line of proc_meminfo(5).
fn mem_total(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// The kernel's default.
const NOFILE_USUAL: u64 = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_line_is_found() {
        assert_eq!(mem_total("MemTotal:       61440 kB\nMemFree: 1 kB\n"), Some(61_440 * 1024));
        assert_eq!(mem_total("MemFree: 1 kB\n"), None);
    }

    #[test]
    fn the_soft_limit_becomes_the_hard_one() {
        let now = raise_nofile();
        assert_eq!(getrlimit(Resource::RLIMIT_NOFILE).unwrap().0, now);
    }
}

//! Limits of this process: open files and memory.

use std::fs;
use std::path::Path;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Raises the soft limit of open files to the hard limit; returns the effective limit.
pub fn raise_nofile() -> u64 {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return NOFILE_DEFAULT };
    match setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
        Ok(()) => widen(hard),
        Err(_) => widen(soft),
    }
}

/// `rlim_t` has 32 bits on some 32-bit systems.
fn widen(limit: impl TryInto<u64>) -> u64 {
    limit.try_into().unwrap_or(u64::MAX)
}

/// The machine's memory in bytes, or the limit of the control group if that is lower.
pub fn memory_total() -> Option<u64> {
    let machine = fs::read_to_string("/proc/meminfo").ok().as_deref().and_then(mem_total);
    let group = fs::read_to_string("/proc/self/cgroup").ok();
    let group = group.and_then(|text| group_limit(&text, Path::new("/sys/fs/cgroup")));
    machine.into_iter().chain(group).min()
}

/// The lowest `memory.max` of the process's control group and its ancestors (cgroups(7), version
/// 2). In a container the path from /proc may not exist under `root`; then the limit is in `root`
/// itself.
fn group_limit(cgroup: &str, root: &Path) -> Option<u64> {
    let own = Path::new(cgroup.lines().find_map(|line| line.strip_prefix("0::"))?);
    let limit = |group: &Path| {
        let file = root.join(group.strip_prefix("/").ok()?).join("memory.max");
        // Without a limit the file contains "max", which does not parse.
        fs::read_to_string(file).ok()?.trim().parse().ok()
    };
    own.ancestors().filter_map(limit).min()
}

/// The `MemTotal` line of proc_meminfo(5).
fn mem_total(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// The kernel's default limit.
const NOFILE_DEFAULT: u64 = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_line_is_found() {
        assert_eq!(mem_total("MemTotal:       61440 kB\nMemFree: 1 kB\n"), Some(61_440 * 1024));
        assert_eq!(mem_total("MemFree: 1 kB\n"), None);
    }

    #[test]
    fn the_lowest_limit_of_all_parent_groups_holds() {
        let root = std::env::temp_dir().join(format!("mtbox-groups-{}", std::process::id()));
        fs::create_dir_all(root.join("system.slice/mtbox.service")).unwrap();
        let set = |group: &str, max: &str| {
            fs::write(root.join(group).join("memory.max"), max).unwrap();
        };
        set("system.slice/mtbox.service", "max\n");
        set("system.slice", "33554432\n");
        set("", "67108864\n");
        let limit = |own: &str| group_limit(&format!("1:cpu:/x\n0::{own}\n"), &root);
        assert_eq!(limit("/system.slice/mtbox.service"), Some(33_554_432));
        assert_eq!(limit("/docker/gone"), Some(67_108_864));
        assert_eq!(group_limit("1:cpu:/x\n", &root), None);
        fs::remove_dir_all(&root).unwrap();
    }

    #[test]
    fn the_soft_limit_becomes_the_hard_one() {
        let now = raise_nofile();
        assert_eq!(getrlimit(Resource::RLIMIT_NOFILE).unwrap().0, now);
    }
}

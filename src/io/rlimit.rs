//! Limits of this process: open files, memory and core dumps.

use std::fs;
use std::path::Path;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::{SysconfVar, sysconf};

/// Raises the soft limit of open files to the hard limit; returns the effective limit.
pub fn raise_nofile() -> u64 {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return NOFILE_DEFAULT };
    match setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
        Ok(()) => widen(hard),
        Err(_) => widen(soft),
    }
}

/// Forbids core dumps, which would contain the secrets. Best effort.
pub fn forbid_core_dumps() {
    let _ = setrlimit(Resource::RLIMIT_CORE, 0, 0);
}

/// `rlim_t` has 32 bits on some 32-bit systems.
fn widen(limit: impl TryInto<u64>) -> u64 {
    limit.try_into().unwrap_or(u64::MAX)
}

/// The number of local ports for outgoing connections (ip(7)); `None` = the system does not tell.
pub fn local_ports() -> Option<u32> {
    port_count(&fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok()?)
}

fn port_count(range: &str) -> Option<u32> {
    let mut bounds = range.split_whitespace().map(|bound| bound.parse::<u16>().ok());
    let (first, last) = (bounds.next()??, bounds.next()??);
    last.checked_sub(first).map(|more| u32::from(more) + 1)
}

/// The machine's memory in bytes, or the limit of the control group if that is lower.
pub fn memory_total() -> Option<u64> {
    let machine = fs::read_to_string("/proc/meminfo").ok().as_deref().and_then(mem_total);
    let group = fs::read_to_string("/proc/self/cgroup").ok();
    let group = group.and_then(|text| group_limit(&text, Path::new("/sys/fs/cgroup")));
    machine.into_iter().chain(group).min()
}

/// The lowest memory limit of the process's control group and its ancestors (cgroups(7)):
/// `memory.max` of version 2, `memory.limit_in_bytes` of version 1. In a container the path from
/// /proc may not exist under `root`; then the limit is in `root` itself.
fn group_limit(cgroup: &str, root: &Path) -> Option<u64> {
    let limits = cgroup.lines().filter_map(|line| {
        let (_, line) = line.split_once(':')?;
        let (controllers, own) = line.split_once(':')?;
        let (root, file) = match controllers {
            "" => (root.to_owned(), "memory.max"),
            list if list.split(',').any(|name| name == "memory") => {
                (root.join("memory"), "memory.limit_in_bytes")
            }
            _ => return None,
        };
        let limit = |group: &Path| {
            let file = root.join(group.strip_prefix("/").ok()?).join(file);
            // Without a limit, version 2 has "max", which does not parse, and version 1 a number
            // that is larger than any memory.
            fs::read_to_string(file).ok()?.trim().parse::<u64>().ok()
        };
        Path::new(own).ancestors().filter_map(limit).min()
    });
    limits.min()
}

/// Bytes of memory that the process occupies, and that all TCP sockets of the system occupy in the
/// kernel (proc_pid_statm(5), /proc/net/sockstat). What cannot be read, such as for lack of a
/// descriptor, is as in `last`.
pub fn memory_in_use(last: (u64, u64)) -> (u64, u64) {
    let page = sysconf(SysconfVar::PAGE_SIZE).ok().flatten().unwrap_or(4_096) as u64;
    let bytes =
        |path, pages: fn(&str) -> Option<u64>| Some(pages(&fs::read_to_string(path).ok()?)? * page);
    (
        bytes("/proc/self/statm", resident_pages).unwrap_or(last.0),
        bytes("/proc/net/sockstat", tcp_pages).unwrap_or(last.1),
    )
}

fn resident_pages(statm: &str) -> Option<u64> {
    statm.split_ascii_whitespace().nth(1)?.parse().ok()
}

fn tcp_pages(sockstat: &str) -> Option<u64> {
    let line = sockstat.lines().find_map(|line| line.strip_prefix("TCP:"))?;
    line.split_once(" mem ")?.1.split_ascii_whitespace().next()?.parse().ok()
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
    fn local_ports_are_counted() {
        assert_eq!(port_count("32768\t60999\n"), Some(28_232));
        assert_eq!(port_count("9 9"), Some(1));
        assert_eq!(port_count("9 8"), None);
        assert_eq!(port_count("32768"), None);
    }

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
        fs::create_dir_all(root.join("memory/docker/abc")).unwrap();
        let set = |group: &str, max: &str| {
            fs::write(root.join("memory").join(group).join("memory.limit_in_bytes"), max).unwrap();
        };
        set("docker/abc", "16777216\n");
        set("docker", "9223372036854771712\n");
        let first = |own: &str| group_limit(&format!("9:cpu:/x\n4:hugetlb,memory:{own}\n"), &root);
        assert_eq!(first("/docker/abc"), Some(16_777_216));
        assert_eq!(first("/docker"), Some(9_223_372_036_854_771_712));
        assert_eq!(first("/gone"), None);
        fs::remove_dir_all(&root).unwrap();
    }

    #[test]
    fn the_pages_of_process_and_sockets_are_found() {
        assert_eq!(resident_pages("765 424 396 5 0 123 0\n"), Some(424));
        let text =
            "sockets: used 370\nTCP: inuse 290 orphan 0 tw 5289 alloc 346 mem 64708\nUDP: mem 1\n";
        assert_eq!(tcp_pages(text), Some(64_708));
        assert_eq!((resident_pages(""), tcp_pages("UDP: inuse 0 mem 0\n")), (None, None));
        assert!(memory_in_use((0, 0)).0 > 1 << 20);
    }

    #[test]
    fn the_soft_limit_becomes_the_hard_one() {
        let now = raise_nofile();
        assert_eq!(getrlimit(Resource::RLIMIT_NOFILE).unwrap().0, now);
    }
}

//! Does the machine carry what `concurrency` promises? Open files and memory, by the arithmetic
//! of the daemon's start.

use crate::cli::doctor::context::CheckContext;
use crate::cli::doctor::findings::Section;
use crate::cli::json::Json;
use crate::daemon::server::sizing;
use crate::io::pool::BLOCK_LEN;
use crate::io::rlimit;

/// Compares `concurrency` with the limit of open files and with the memory.
pub fn check(patient: &mut CheckContext) -> Vec<Section> {
    let mut section = Section::new("limits", "Validate limits");
    let settings = &patient.settings;
    let concurrency = settings.concurrency;
    let (nofile, memory) = (rlimit::raise_nofile(), rlimit::memory_total());
    let sizes = sizing::compute(concurrency, settings.buffer_bytes, nofile, memory);
    let text = format!("{nofile} open files carry {} of {concurrency} sessions", sizes.sessions);
    let finding = match sizes.sessions < concurrency as usize {
        false => section.ok(text),
        true => section.warn(text).remedy(
            "raise the limit (ulimit -n, LimitNOFILE of systemd, limits nofile of procd), or \
             lower concurrency; the service may have another limit than this shell",
        ),
    };
    finding.fact("open_files", Json::Number(nofile));
    finding.fact("sessions", Json::Number(sizes.sessions as u64));
    finding.fact("concurrency", Json::Number(concurrency.into()));

    let buffers = (sizes.blocks * BLOCK_LEN) as u64;
    let replay = settings.replay.map_or(0, |replay| replay.max_bytes);
    let need = AT_START + buffers + replay + sizes.sessions as u64 * PER_SESSION;
    let Some(memory) = memory else {
        section.unknown("memory", "the system does not tell how much there is");
        return vec![section];
    };
    let text = format!(
        "{} sessions need at most about {} of {} MiB of memory",
        sizes.sessions,
        mib(need),
        mib(memory)
    );
    let finding = match need > memory / 2 {
        false => section.ok(text),
        true => section.warn(text).remedy(
            "lower concurrency, [memory] buffers or defense.anti-replay.max-size; few people need \
             few sessions, some 8 for each phone",
        ),
    };
    finding.fact("need_bytes", Json::Number(need)).fact("memory_bytes", Json::Number(memory));
    vec![section]
}

fn mib(bytes: u64) -> u64 {
    bytes.div_ceil(1 << 20)
}

/// Before anybody connects.
const AT_START: u64 = 3 << 20;
/// A session of ours, and the two sockets in the kernel.
const PER_SESSION: u64 = 9 << 10;

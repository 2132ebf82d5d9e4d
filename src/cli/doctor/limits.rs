//! Do the limit of open files and the memory allow as many sessions as `concurrency`? Uses the
//! same calculation as the start of the daemon.

use crate::cli::doctor::context::CheckContext;
use crate::cli::doctor::findings::Section;
use crate::daemon::server::sizing::{self, WantedSizes};
use crate::io::pool::BLOCK_LEN;
use crate::io::rlimit;
use crate::util::json::Json;

pub(super) fn check(context: &mut CheckContext) -> Vec<Section> {
    let mut section = Section::new("limits", "Validate limits");
    let settings = &context.settings;
    let concurrency = settings.concurrency;
    let wanted = WantedSizes::of(settings);
    let (nofile, memory) = (rlimit::raise_nofile(), rlimit::memory_total());
    let sizes = sizing::compute(wanted, nofile, memory);
    let text = format!("{nofile} open files allow {} of {concurrency} sessions", sizes.sessions);
    let finding = match sizes.sessions < concurrency as usize {
        false => section.ok(text),
        true => section.warn(text).remedy(
            "raise the limit (ulimit -n, LimitNOFILE of systemd, limits nofile of procd), or \
             lower concurrency; the limit of the service may differ from that of this shell",
        ),
    };
    finding.fact("open_files", Json::Number(nofile));
    finding.fact("sessions", Json::Number(sizes.sessions as u64));
    finding.fact("concurrency", Json::Number(concurrency.into()));

    let buffers = (sizes.blocks * BLOCK_LEN) as u64;
    let replay = settings.replay.map_or(0, |replay| replay.max_bytes);
    let need = IDLE_BYTES + buffers + replay + sizes.sessions as u64 * SESSION_BYTES;
    let Some(memory) = memory else {
        section.unknown("memory", "the system does not report its size");
        return vec![section];
    };
    let text = format!(
        "{} sessions need at most about {} of {} MiB of memory",
        sizes.sessions,
        mib(need),
        mib(memory)
    );
    // The other half is for the rest of the system and for socket buffers.
    let finding = match need > memory / 2 {
        false => section.ok(text),
        true => section.warn(text).remedy(
            "lower concurrency, [memory] buffers or defense.anti-replay.max-size; a phone needs \
             about 8 sessions",
        ),
    };
    finding.fact("need_bytes", Json::Number(need)).fact("memory_bytes", Json::Number(memory));
    vec![section]
}

fn mib(bytes: u64) -> u64 {
    bytes.div_ceil(1 << 20)
}

/// Memory of the process without sessions.
const IDLE_BYTES: u64 = 3 << 20;
/// A session, and its two sockets in the kernel.
const SESSION_BYTES: u64 = 9 << 10;

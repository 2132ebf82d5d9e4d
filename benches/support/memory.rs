//! Resident memory of the daemon: after its start, and its growth with idle sessions. The growth is
//! the slope between two numbers of sessions, so the memory of the process itself cancels out.

use std::io::Write;
use std::net::{Ipv4Addr, TcpStream};

use super::faketls::{self, User};
use super::helper::Helper;
use super::options::{Options, Outcome};
use super::process::{Daemon, Plan, Relay};
use super::report::{Report, verdict};
use super::{proc, sockets};

/// Bytes that each session transfers in each direction before it is idle.
const MOVED: usize = 1024;

/// The smaller number of sessions, past the first growth of every table.
const FIRST: u64 = 1000;

/// The larger number, if the limit of open files allows it: the daemon needs two per session.
const LAST: u64 = 9900;

/// The larger number of a short run. Neither is close to a power of two.
const LAST_SHORT: u64 = 5000;

/// Files that the daemon and this program need besides the sockets of sessions.
const SPARE_FILES: u64 = 160;

/// Measures both and checks the growth against its gate.
pub fn measure(options: &Options, report: &mut Report) -> Outcome<()> {
    let wanted = if options.short { LAST_SHORT } else { LAST };
    let last = wanted.min(sockets::descriptor_limit()?.saturating_sub(SPARE_FILES) / 2);
    let first = FIRST.min(last / 3);
    let mut random = fastrand::Rng::with_seed(getrandom::u64()?);
    let users = User::random(1, &mut random);
    let after = (64 + MOVED).to_string();
    let dc = Helper::spawn(&["answerer", &after, &MOVED.to_string()])?;
    let plan = Plan::new(&users, dc.port(), 20_000);
    let relay = Relay::Daemon(Daemon::start(&plan)?);

    let empty = Memory::of(&relay)?;
    let target = report.target("idle_rss_kib")?;
    let total = empty.total_kib as f64;
    println!("just started: VmRSS {total} KiB, RssAnon {} KiB", empty.anon_kib);
    println!("idle_rss_kib: {total}, target {target}: {}", verdict(total, target));
    report.note("idle_rss_kib", total);
    report.note("idle_anon_kib", empty.anon_kib as f64);

    let mut sessions = Vec::new();
    let some = fill(&mut sessions, first, &relay, &users[0], &mut random)?;
    let many = fill(&mut sessions, last, &relay, &users[0], &mut random)?;
    let grown = many.anon_kib.saturating_sub(some.anon_kib) * 1024;
    let each = grown as f64 / (last - first) as f64;
    report.note("sessions", last as f64);
    report.note("bytes_per_idle_session", each);
    report.hold("bytes_per_idle_session", each)
}

/// Memory in `/proc/PID/status`, when the process is idle.
struct Memory {
    total_kib: u64,
    anon_kib: u64,
}

impl Memory {
    fn of(relay: &Relay) -> Outcome<Self> {
        proc::await_rest(relay.pid())?;
        let total_kib = proc::status_kib(relay.pid(), "VmRSS")?;
        Ok(Self { total_kib, anon_kib: proc::status_kib(relay.pid(), "RssAnon")? })
    }
}

/// Opens sessions until there are `count`. Each transfers some bytes in both directions.
fn fill(
    sessions: &mut Vec<TcpStream>,
    count: u64,
    relay: &Relay,
    user: &User,
    random: &mut fastrand::Rng,
) -> Outcome<Memory> {
    while (sessions.len() as u64) < count {
        let source = Ipv4Addr::new(127, 0, 1, (sessions.len() % 200) as u8 + 1);
        let mut stream = sockets::dial(source, relay.port())?;
        user.handshake(&mut stream, random)?;
        stream.write_all(&faketls::record(&[0x5a; MOVED]))?;
        faketls::read_payload(&mut stream, MOVED)
            .map_err(|error| format!("session {}: {error}", sessions.len() + 1))?;
        sessions.push(stream);
    }
    let memory = Memory::of(relay)?;
    println!(
        "{count} idle sessions: VmRSS {} KiB, RssAnon {} KiB",
        memory.total_kib, memory.anon_kib
    );
    Ok(memory)
}

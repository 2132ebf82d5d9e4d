//! Resident memory of the daemon: when it has just started, and how it grows with idle sessions.
//! The growth is a slope between two crowds, so what the process costs by itself cancels out.

use std::io::Write;
use std::net::{Ipv4Addr, TcpStream};

use super::faketls::{self, User};
use super::process::{Daemon, Plan, Relay};
use super::report::{Report, verdict};
use super::role::Helper;
use super::{Options, Outcome, proc, sockets};

/// What each session has moved in each direction before it falls silent, in bytes.
const MOVED: usize = 1024;

/// The smaller crowd: past the first growth of every table.
const FIRST: u64 = 1000;

/// The larger crowd, if the limit of open files allows it: two per session in the daemon.
const LAST: u64 = 9900;

/// The larger crowd of a short run; it stays away from a power of two as the long one does.
const LAST_SHORT: u64 = 5000;

/// Files that the daemon and this program need besides the sockets of sessions.
const SPARE_FILES: u64 = 160;

/// Measures both and holds the growth against its gate.
pub fn measure(options: &Options, report: &mut Report) -> Outcome<()> {
    let wanted = if options.short { LAST_SHORT } else { LAST };
    let last = wanted.min(sockets::descriptor_limit()?.saturating_sub(SPARE_FILES) / 2);
    let first = FIRST.min(last / 3);
    let mut random = fastrand::Rng::with_seed(getrandom::u64()?);
    let users = User::some(1, &mut random);
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

    let mut crowd = Vec::new();
    let some = fill(&mut crowd, first, &relay, &users[0], &mut random)?;
    let many = fill(&mut crowd, last, &relay, &users[0], &mut random)?;
    let grown = many.anon_kib.saturating_sub(some.anon_kib) * 1024;
    let each = grown as f64 / (last - first) as f64;
    report.note("sessions", last as f64);
    report.note("bytes_per_idle_session", each);
    report.hold("bytes_per_idle_session", each)
}

/// What `/proc/PID/status` says, once the process is at rest.
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

/// Opens sessions until there are `count`, each of which moves a little both ways.
fn fill(
    crowd: &mut Vec<TcpStream>,
    count: u64,
    relay: &Relay,
    user: &User,
    random: &mut fastrand::Rng,
) -> Outcome<Memory> {
    while (crowd.len() as u64) < count {
        let source = Ipv4Addr::new(127, 0, 1, (crowd.len() % 200) as u8 + 1);
        let mut stream = sockets::dial(source, relay.port())?;
        user.enter(&mut stream, random)?;
        stream.write_all(&faketls::record(&[0x5a; MOVED]))?;
        faketls::read_payload(&mut stream, MOVED)
            .map_err(|error| format!("session {}: {error}", crowd.len() + 1))?;
        crowd.push(stream);
    }
    let memory = Memory::of(relay)?;
    println!(
        "{count} idle sessions: VmRSS {} KiB, RssAnon {} KiB",
        memory.total_kib, memory.anon_kib
    );
    Ok(memory)
}

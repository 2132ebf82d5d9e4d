//! A blocklist of 100,000 networks: how much the daemon grows, from a file and from the web, and
//! the longest pause of a running session while the list is reloaded. Growth is measured against
//! the same daemon with a list of one network, so the memory of the program itself cancels out.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use super::faketls::{self, User};
use super::helper::{self, Helper};
use super::options::{Options, Outcome};
use super::process::{Daemon, Plan, Relay};
use super::report::{Report, median, verdict};
use super::{proc, sockets};

/// Networks in the list; one in a hundred is IPv6.
const NETWORKS: usize = 100_000;

/// Bytes of one ping, and of its echo.
const PING: usize = 64;

/// Measures both and checks them against their gates.
pub fn measure(options: &Options, report: &mut Report) -> Outcome<()> {
    let mut random = fastrand::Rng::with_seed(getrandom::u64()?);
    let users = User::random(1, &mut random);
    let dc = Helper::spawn(&["echo"])?;
    let list = List::new()?;
    let page = Helper::spawn(&["page", &list.path.to_string_lossy()])?;

    let file = format!("{:?}", list.path);
    let web = format!("\"http://127.0.0.1:{}/list\"", page.port());
    let mut growth = 0.0_f64;
    let mut least = None;
    for (key, source) in [("file", &file), ("web", &web)] {
        list.write(&lines(1, &mut random))?;
        let plan = Plan { more: tables(source), ..Plan::new(&users, dc.port(), 16) };
        let small = Memory::of(&plan, 1)?;
        list.write(&lines(NETWORKS, &mut random))?;
        let large = Memory::of(&plan, NETWORKS)?;
        growth = growth.max(large.report_growth(&small, key, report));
        least.get_or_insert(small);
    }
    let small = least.ok_or("no list was measured")?;

    let rounds = if options.short { 5 } else { 15 };
    let plan = Plan { more: tables(&file), ..Plan::new(&users, dc.port(), 16) };
    let relay = Relay::Daemon(Daemon::start(&plan)?);
    await_list(&relay, 1)?;
    let mut session = sockets::dial(Ipv4Addr::LOCALHOST, relay.port())?;
    users[0].handshake(&mut session, &mut random)?;
    let mut quiet = Vec::new();
    let mut pauses = Vec::new();
    for round in 0..rounds {
        quiet.push(ping(&mut session, |waited| Ok(waited > Duration::from_millis(500)))?);
        list.write(&lines(NETWORKS, &mut random))?;
        let begin = Instant::now();
        pauses.push(ping(&mut session, |_| {
            if begin.elapsed() > sockets::TIMEOUT {
                return Err("the list is not reloaded".into());
            }
            Ok(loads(&relay)? >= round + 2)
        })?);
    }
    growth = growth.max(Memory::now(&relay)?.report_growth(&small, "reload", report));
    report.hold("list_growth_kib", growth)?;
    // A pause caused by the daemon is in every round, one caused by the machine is not.
    let least = pauses.iter().copied().fold(f64::INFINITY, f64::min);
    let target = report.target("list_pause_ms")?;
    println!(
        "longest round trip of {rounds} rounds: {:.2} ms at rest, {:.2} ms while reading (median)",
        median(&quiet),
        median(&pauses)
    );
    println!("list_pause_ms: {least:.2}, target {target}: {}", verdict(least, target));
    report.note("list_pause_ms", least);
    Ok(())
}

/// Memory of a daemon that has read its list and is idle.
struct Memory {
    anon_kib: u64,
    most_kib: u64,
}

impl Memory {
    fn of(plan: &Plan, wanted: usize) -> Outcome<Self> {
        let relay = Relay::Daemon(Daemon::start(plan)?);
        await_list(&relay, 1)?;
        let Relay::Daemon(daemon) = &relay else { return Err("no daemon".into()) };
        let log = daemon.log()?;
        let entries = log.split("entries=").nth(1).and_then(|rest| rest.split(' ').next());
        let entries: usize = entries.ok_or("no entries in the log")?.trim().parse()?;
        // Networks of a random list may touch or overlap.
        if entries > wanted || entries * 10 < wanted * 9 {
            return Err(format!("{entries} entries of {wanted}").into());
        }
        Self::now(&relay)
    }

    fn now(relay: &Relay) -> Outcome<Self> {
        proc::await_rest(relay.pid())?;
        let anon_kib = proc::status_kib(relay.pid(), "RssAnon")?;
        Ok(Self { anon_kib, most_kib: proc::status_kib(relay.pid(), "VmHWM")? })
    }

    /// Prints and returns the growth over a small list.
    fn report_growth(&self, small: &Self, key: &str, report: &mut Report) -> f64 {
        let grown = self.anon_kib.saturating_sub(small.anon_kib) as f64;
        let peak = self.most_kib.saturating_sub(small.most_kib) as f64;
        println!("{NETWORKS} networks, {key}: grown by {grown} KiB, at the peak by {peak} KiB");
        report.note(&format!("list_{key}_growth_kib"), grown);
        report.note(&format!("list_{key}_peak_kib"), peak);
        grown
    }
}

/// The list on disk; dropping it removes the file.
struct List {
    path: PathBuf,
}

impl List {
    fn new() -> Outcome<Self> {
        let name = format!("mtbox-bench-{}.netset", std::process::id());
        let list = Self { path: std::env::temp_dir().join(name) };
        fs::write(&list.path, "# nothing yet\n")?;
        Ok(list)
    }

    /// Replaces the list atomically.
    fn write(&self, text: &str) -> Outcome<()> {
        let draft = self.path.with_extension("new");
        fs::write(&draft, text)?;
        Ok(fs::rename(&draft, &self.path)?)
    }
}

impl Drop for List {
    fn drop(&mut self) {
        // The file may have been removed already.
        let _ = fs::remove_file(&self.path);
    }
}

/// `count` random networks, unsorted, none of which contains loopback.
fn lines(count: usize, random: &mut fastrand::Rng) -> String {
    let mut text = String::from("# random\n");
    for number in 0..count {
        if number % 100 == 99 {
            text += &format!("2001:db8:{:x}:{:x}::/64\n", random.u16(..), random.u16(..));
            continue;
        }
        let addr =
            Ipv4Addr::new(128 + random.u8(..96), random.u8(..), random.u8(..), random.u8(..));
        match random.u8(28..=32) {
            32 => text += &format!("{addr}\n"),
            bits => text += &format!("{addr}/{bits}\n"),
        }
    }
    text
}

fn tables(source: &str) -> String {
    format!("[defense.blocklist]\nenabled = true\nurls = [{source}]\nupdate-each = \"1s\"\n")
}

/// How often the log reports that the list was read.
fn loads(relay: &Relay) -> Outcome<usize> {
    match relay {
        Relay::Daemon(daemon) => Ok(daemon.log()?.matches("event=list name=blocklist").count()),
        Relay::Copy(_) | Relay::Haproxy(_) => Err("no daemon".into()),
    }
}

fn await_list(relay: &Relay, times: usize) -> Outcome<()> {
    proc::await_true("the list is not read", || Ok(loads(relay)? >= times))
}

/// Makes round trips until `is_done` returns `true`, which is called every few milliseconds.
/// Returns the longest one in milliseconds.
fn ping(
    session: &mut TcpStream,
    mut is_done: impl FnMut(Duration) -> Outcome<bool>,
) -> Outcome<f64> {
    let begin = Instant::now();
    let mut checked = begin;
    let mut longest = Duration::ZERO;
    let sent = faketls::record(&[0x5a; PING]);
    loop {
        let start = Instant::now();
        session.write_all(&sent)?;
        faketls::read_payload(session, PING)?;
        longest = longest.max(start.elapsed());
        if checked.elapsed() > Duration::from_millis(5) {
            checked = Instant::now();
            if is_done(begin.elapsed())? {
                return Ok(longest.as_secs_f64() * 1e3);
            }
        }
    }
}

/// The role `echo`: a DC that echoes everything after the frame.
pub fn run_echo() -> Outcome<()> {
    let (listener, port) = sockets::listen()?;
    helper::report("port", port.into())?;
    for stream in listener.incoming() {
        let mut stream = stream?;
        sockets::tune(&stream)?;
        thread::spawn(move || {
            let (mut scratch, mut frame) = ([0; 4096], 64);
            while let Ok(count @ 1..) = stream.read(&mut scratch) {
                let payload = count - frame.min(count);
                frame -= count - payload;
                if stream.write_all(&scratch[..payload]).is_err() {
                    break;
                }
            }
        });
    }
    Ok(())
}

/// The role `page`: answers every request with the file.
pub fn run_page(path: &Path) -> Outcome<()> {
    let (listener, port) = sockets::listen()?;
    helper::report("port", port.into())?;
    for stream in listener.incoming() {
        let mut stream = stream?;
        let (mut head, mut chunk) = (Vec::new(), [0; 1024]);
        while !head.ends_with(b"\r\n\r\n") {
            match stream.read(&mut chunk)? {
                0 => break,
                count => head.extend_from_slice(&chunk[..count]),
            }
        }
        let body = fs::read(path)?;
        write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len())?;
        // The daemon may have closed.
        let _ = stream.write_all(&body);
    }
    Ok(())
}

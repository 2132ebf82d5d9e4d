//! A daemon under attack. For each row of `attacks.rs`: a new daemon, a user who downloads, users
//! who open sessions and visitors of the site; first undisturbed, then during the attack. The
//! daemon has a CPU of its own if there are two. Bytes and counts are gated, rates are not.

pub mod attacker;
mod attacks;
#[path = "../../../tests/support/kernel.rs"]
mod kernel;
pub mod origin;
mod victims;

use std::fs;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::Command;
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use attacker::DeadSite;
use attacks::{ATTACKS, Attack, Site};
use victims::{Attempts, Victims};

use nix::sys::signal::Signal;

use super::environment::{self, Environment};
use super::faketls::User;
use super::helper::Helper;
use super::options::{Options, Outcome};
use super::process::{Daemon, Plan};
use super::report::Report;
use super::{operator, proc, sockets};

/// The memory of the small machine in KiB, as in /proc/meminfo.
const SMALL_KIB: u64 = 61_440;

/// Only the row with this key, or those whose key contains it.
const ONLY: &str = "MTBOX_BENCH_ATTACK";

/// Between two samples of the daemon's memory.
const SAMPLE_EACH: Duration = Duration::from_millis(100);

/// The local ports that the kernel gives to connections.
const PORT_RANGE: &str = "/proc/sys/net/ipv4/ip_local_port_range";

/// In the namespace: whether ports in TIME_WAIT are given again; on loopback they are.
const PORT_REUSE: &str = "/proc/sys/net/ipv4/tcp_tw_reuse";

/// Runs all attacks and prints the table.
pub fn measure(options: &Options, environment: &Environment, report: &mut Report) -> Outcome<()> {
    let machine = Machine::new()?;
    let apart = environment::pin(0, std::process::id());
    println!(
        "the machine of 64 MB: {machine}; the daemon {}",
        match apart {
            true => "has CPU 1, all other processes CPU 0",
            false => "shares its CPU",
        }
    );
    let only = std::env::var(ONLY).unwrap_or_default();
    let mut worst = Worst::default();
    print_heads();
    for attack in ATTACKS.iter().filter(|attack| attack.key.contains(&only)) {
        if attack.ports.is_some() && !environment.is_own() {
            println!("{:<18} skipped: it needs a network namespace", attack.key);
            continue;
        }
        let siege = Siege { attack, machine: &machine, apart, window: window(options) };
        let result = siege.run().map_err(|error| format!("{}: {error}", attack.key))?;
        result.print(attack);
        result.note(attack, report);
        worst.add(&result, attack);
    }
    worst.hold(report)
}

fn window(options: &Options) -> Duration {
    Duration::from_secs(if options.short { 4 } else { 15 })
}

/// How the daemon is made to believe in a small machine.
struct Machine {
    /// The file in place of /proc/meminfo; `None` = `[memory] limit` says it.
    file: Option<PathBuf>,
}

impl Machine {
    fn new() -> Outcome<Self> {
        let name = format!("mtbox-bench-{}.meminfo", std::process::id());
        let file = std::env::temp_dir().join(name);
        fs::write(&file, format!("MemTotal: {SMALL_KIB} kB\nMemFree: {SMALL_KIB} kB\n"))?;
        let prefix = Self::prefix(&file);
        let mut command = Command::new(&prefix[0]);
        let is_permitted = environment::succeeds(command.args(&prefix[1..]).arg("true"));
        Ok(Self { file: is_permitted.then_some(file) })
    }

    fn prefix(file: &std::path::Path) -> Vec<String> {
        let script = format!("mount --bind {} /proc/meminfo && exec \"$@\"", file.display());
        ["unshare", "-m", "sh", "-c", &script, "sh"].map(str::to_owned).to_vec()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if let Some(file) = &self.file {
            // The file may have been removed already.
            let _ = fs::remove_file(file);
        }
    }
}

impl std::fmt::Display for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.file {
            Some(_) => write!(f, "a file mounted over /proc/meminfo"),
            None => write!(f, "[memory] limit = 16mib, because mounts are not permitted"),
        }
    }
}

/// One row in progress.
struct Siege<'a> {
    attack: &'static Attack,
    machine: &'a Machine,
    apart: bool,
    window: Duration,
}

/// The numbers of a row.
#[derive(Default)]
struct Numbers {
    /// The attacker's bytes and connections per second.
    cost: (f64, f64),
    /// The download's rate during the attack, as a part of the undisturbed one.
    share: f64,
    breaks: u64,
    sessions: Attempts,
    visits: Attempts,
    peak: Peak,
    /// `[memory] limit` in KiB, if the daemon says so.
    limit_kib: Option<u64>,
    evicted: u64,
    is_dead: bool,
}

/// The most memory that a sample has found, in KiB.
#[derive(Default)]
struct Peak {
    private_kib: u64,
    kernel_kib: u64,
    /// VmRSS and kernel memory together.
    total_kib: u64,
    waiting: u64,
}

impl Siege<'_> {
    fn run(&self) -> Outcome<Numbers> {
        let mut random = fastrand::Rng::with_seed(getrandom::u64()?);
        let users = User::random(self.attack.users, &mut random);
        let dc = Helper::spawn(&["origin", "dc"])?;
        let site = Helper::spawn(&["origin", "site"])?;
        let dead = (self.attack.site == Site::IsDead).then(DeadSite::open).transpose()?;
        let front_port = dead.as_ref().map_or(site.port(), |dead| dead.port);
        let api = sockets::free_port()?;
        let (mut more, mut prefix) = (String::new(), Vec::new());
        if self.attack.is_small {
            match &self.machine.file {
                Some(file) => prefix = Machine::prefix(file),
                None => more = "[memory]\nlimit = \"16mib\"\n".to_owned(),
            }
        }
        let head = format!("api-bind-to = \"127.0.0.1:{api}\"\n");
        let plan = Plan {
            front_port: Some(front_port),
            head,
            more,
            prefix,
            ..Plan::new(&users, dc.port(), self.attack.places)
        };
        let mut daemon = Daemon::start(&plan)?;
        if self.apart {
            environment::pin(1, daemon.pid());
        }
        let _ports = self.attack.ports.map(FewPorts::set).transpose()?;

        let victims = Victims::start(daemon.port(), &users[1..], dead.is_none())?;
        sleep(Duration::from_millis(500));
        let undisturbed = self.rate(&victims, self.window / 2, || {});
        let limit_kib = limit_kib(api);

        let target = if self.attack.is_at_pages { api } else { daemon.port() };
        let ramp = Duration::from_secs(6);
        let begin = Instant::now();
        if self.attack.is_burst {
            daemon.signal(Signal::SIGSTOP)?;
        }
        let mut force = Helper::spawn(&[
            "attack",
            self.attack.key,
            &target.to_string(),
            &users[0].secret_hex(),
            &ramp.as_millis().to_string(),
        ])?;
        let mut peak = Peak::default();
        let peers = [dc.port(), front_port];
        thread::scope(|scope| {
            let ramp = scope.spawn(|| force.expect("ready").map_err(|error| error.to_string()));
            while !ramp.is_finished() {
                peak.sample(&daemon, peers);
                sleep(SAMPLE_EACH);
            }
            ramp.join().map_err(|_| "the ramp has panicked")?
        })?;
        let start = Instant::now();
        daemon.signal(Signal::SIGCONT)?;
        let before = victims.breaks();
        let disturbed = self.rate(&victims, self.window, || peak.sample(&daemon, peers));
        force.go()?;
        let lasted = begin.elapsed().as_secs_f64();
        let cost = (force.expect("sent")? as f64 / lasted, force.expect("opened")? as f64 / lasted);
        let (sessions, visits) = victims.since(start);
        let breaks = victims.breaks() - before;
        drop(force);
        victims.stop();
        let evicted = evicted(api);
        let is_dead = daemon.ensure_alive().is_err();
        Ok(Numbers {
            cost,
            share: disturbed / undisturbed,
            breaks,
            sessions,
            visits,
            peak,
            limit_kib,
            evicted,
            is_dead,
        })
    }

    /// Bytes per second of the download during `window`.
    fn rate(&self, victims: &Victims, window: Duration, mut sample: impl FnMut()) -> f64 {
        let (start, before) = (Instant::now(), victims.bytes());
        while start.elapsed() < window {
            sample();
            sleep(SAMPLE_EACH);
        }
        (victims.bytes() - before) as f64 / start.elapsed().as_secs_f64()
    }
}

impl Peak {
    /// Samples the daemon. One that has ended has no memory; the row says so later.
    fn sample(&mut self, daemon: &Daemon, peers: [u16; 2]) {
        let status = |key| proc::status_kib(daemon.pid(), key).unwrap_or(0);
        let kernel = kernel::of(daemon.pid(), daemon.port(), peers).unwrap_or_default();
        let kernel_kib = kernel.bytes / 1024;
        self.private_kib = self.private_kib.max(status("RssAnon"));
        self.kernel_kib = self.kernel_kib.max(kernel_kib);
        self.total_kib = self.total_kib.max(status("VmRSS") + kernel_kib);
        self.waiting = self.waiting.max(kernel.waiting);
    }
}

/// Few local ports for the network namespace, none of them given again within a minute.
struct FewPorts {
    before: [String; 2],
}

impl FewPorts {
    fn set(count: u16) -> Outcome<Self> {
        let before = [fs::read_to_string(PORT_RANGE)?, fs::read_to_string(PORT_REUSE)?];
        fs::write(PORT_RANGE, format!("30000 {}", 30_000 + count))?;
        fs::write(PORT_REUSE, "0")?;
        Ok(Self { before })
    }
}

impl Drop for FewPorts {
    fn drop(&mut self) {
        // The namespace ends with the run, so a failure has no effect.
        let _ = fs::write(PORT_RANGE, &self.before[0]);
        let _ = fs::write(PORT_REUSE, &self.before[1]);
    }
}

/// `/stats`, parsed.
fn stats(api: u16) -> Outcome<serde_json::Value> {
    let page = operator::page(Ipv4Addr::LOCALHOST, api, "/stats")?;
    Ok(serde_json::from_str(&page)?)
}

fn limit_kib(api: u16) -> Option<u64> {
    Some(stats(api).ok()?.get("memory")?.get("limit")?.as_u64()? / 1024)
}

/// The sum of all counters of evictions.
fn evicted(api: u16) -> u64 {
    fn sum(value: &serde_json::Value, is_inside: bool) -> u64 {
        match value {
            serde_json::Value::Object(fields) => fields
                .iter()
                .filter(|(name, _)| name.as_str() != "users")
                .map(|(name, field)| sum(field, is_inside || name.starts_with("evicted")))
                .sum(),
            serde_json::Value::Array(rows) => rows.iter().map(|row| sum(row, is_inside)).sum(),
            number => number.as_u64().filter(|_| is_inside).unwrap_or(0),
        }
    }
    stats(api).map_or(0, |stats| sum(&stats, false))
}

fn print_heads() {
    println!(
        "{:<18}{:>9}{:>8}{:>9}{:>7}{:>8}{:>8}{:>8}{:>10}{:>9}{:>9}{:>9}{:>10}",
        "attack",
        "kB/s",
        "conn/s",
        "download",
        "breaks",
        "users",
        "p95 ms",
        "visits",
        "private K",
        "kernel K",
        "of limit",
        "evicted",
        "TIME_WAIT"
    );
}

impl Numbers {
    fn print(&self, attack: &Attack) {
        let visits = match attack.site {
            Site::Answers => format!("{:.0}%", 100.0 - self.visits.failed_percent()),
            Site::IsDead => "-".to_owned(),
        };
        let of_limit = match self.limit_kib {
            Some(limit) => format!("{:.0}%", self.peak.total_kib as f64 * 100.0 / limit as f64),
            None => "-".to_owned(),
        };
        println!(
            "{:<18}{:>9.1}{:>8.0}{:>8.0}%{:>7}{:>7.0}%{:>8.0}{visits:>8}{:>10}{:>9}{of_limit:>9}\
             {:>9}{:>10}{}",
            attack.key,
            self.cost.0 / 1e3,
            self.cost.1,
            self.share * 100.0,
            self.breaks,
            100.0 - self.sessions.failed_percent(),
            self.sessions.p95(),
            self.peak.private_kib,
            self.peak.kernel_kib,
            self.evicted,
            self.peak.waiting,
            if self.is_dead { " THE DAEMON HAS ENDED" } else { "" }
        );
    }

    fn note(&self, attack: &Attack, report: &mut Report) {
        for (name, value) in [
            ("attacker_bytes_per_s", self.cost.0),
            ("attacker_connections_per_s", self.cost.1),
            ("download_share", self.share),
            ("download_breaks", self.breaks as f64),
            ("sessions_failed_percent", self.sessions.failed_percent()),
            ("session_p95_ms", self.sessions.p95()),
            ("visits_failed_percent", self.visits.failed_percent()),
            ("private_kib", self.peak.private_kib as f64),
            ("kernel_kib", self.peak.kernel_kib as f64),
            ("rss_and_kernel_kib", self.peak.total_kib as f64),
            ("limit_kib", self.limit_kib.unwrap_or(0) as f64),
            ("evicted", self.evicted as f64),
        ] {
            report.note(&format!("{}_{name}", attack.key), value);
        }
    }
}

/// The worst number of each kind, and the row that it comes from.
#[derive(Default)]
struct Worst {
    found: Vec<(&'static str, f64, &'static str)>,
    least_share: Option<(f64, &'static str)>,
}

impl Worst {
    fn add(&mut self, numbers: &Numbers, attack: &Attack) {
        let over = numbers.limit_kib.map(|limit| numbers.peak.total_kib.saturating_sub(limit));
        let private = attack.is_small.then_some(numbers.peak.private_kib as f64);
        for (name, value) in [
            ("siege_ended_daemons", Some(f64::from(u8::from(numbers.is_dead)))),
            ("siege_private_kib", private),
            ("siege_over_limit_kib", over.map(|over| over as f64)),
            ("siege_sessions_failed_percent", Some(numbers.sessions.failed_percent())),
            ("siege_visits_failed_percent", Some(numbers.visits.failed_percent())),
        ] {
            let Some(value) = value else { continue };
            match self.found.iter_mut().find(|(other, ..)| *other == name) {
                Some(worst) if worst.1 < value => *worst = (name, value, attack.key),
                Some(_) => {}
                None => self.found.push((name, value, attack.key)),
            }
        }
        if self.least_share.is_none_or(|(least, _)| numbers.share < least) {
            self.least_share = Some((numbers.share, attack.key));
        }
    }

    fn hold(&self, report: &mut Report) -> Outcome<()> {
        for (name, value, key) in &self.found {
            print!("{key}: ");
            report.hold(name, *value)?;
            report.note(name, *value);
        }
        if let Some((least, key)) = self.least_share {
            let target = report.target("siege_download_share")?;
            let verdict = if least >= target { "met" } else { "MISSED" };
            println!("{key}: siege_download_share: {least:.2}, target {target}: {verdict}");
            report.note("siege_download_share", least);
        }
        Ok(())
    }
}

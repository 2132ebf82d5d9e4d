//! The time from the start of the program until it listens, which it reports to a service manager
//! (sd_notify(3)), with its file in memory and without; and its memory when it is idle. For
//! comparison, the time of a program that does nothing.

use std::fs::File;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
use std::time::Instant;

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};

use super::faketls::User;
use super::options::{Options, Outcome};
use super::proc;
use super::process::{self, Daemon, Plan};
use super::report::{Report, median, range, verdict};
use super::sockets::TIMEOUT;

/// Measures both. Times have no gate, memory has one.
pub fn measure(options: &Options, report: &mut Report) -> Outcome<()> {
    let mut random = fastrand::Rng::with_seed(getrandom::u64()?);
    let users = User::random(1, &mut random);
    let plan = Plan::new(&users, 1, 4096);
    let rounds = if options.short { 11 } else { 101 };

    let path = std::env::temp_dir().join(format!("mtbox-bench-{}.sock", std::process::id()));
    let manager = UnixDatagram::bind(&path)?;
    manager.set_read_timeout(Some(TIMEOUT))?;
    let program = process::program();
    let (mut nothing, mut warm, mut cold) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        let begin = Instant::now();
        Command::new("true").stdin(Stdio::null()).status()?;
        nothing.push(ms(begin));
        warm.push(start(&plan, &manager, &path)?);
        evict(&program)?;
        cold.push(start(&plan, &manager, &path)?);
    }
    std::fs::remove_file(&path)?;
    println!("{program}, {rounds} starts each; ms from fork to listening, or to the end of `true`");
    for (name, samples) in [("true", &nothing), ("start_ms", &warm), ("start_from_disk_ms", &cold)]
    {
        println!("{name}: {:.2} ({})", median(samples), range(samples));
    }
    let (value, target) = (median(&warm), report.target("start_ms")?);
    println!("start_ms: {value:.2}, target {target}: {}", verdict(value, target));
    report.note("true_ms", median(&nothing));
    report.note("start_ms", value);
    report.note("start_from_disk_ms", median(&cold));

    let daemon = Daemon::start(&plan)?;
    proc::await_rest(daemon.pid())?;
    let total = proc::status_kib(daemon.pid(), "VmRSS")? as f64;
    println!("RssAnon {} KiB", proc::status_kib(daemon.pid(), "RssAnon")?);
    report.note("static_rss_kib", total);
    // The gate is for the small static build only.
    match process::is_other() {
        true => report.hold("static_rss_kib", total),
        false => {
            println!("VmRSS {total} KiB");
            Ok(())
        }
    }
}

/// Milliseconds from the fork until it reports that it listens.
fn start(plan: &Plan, manager: &UnixDatagram, path: &std::path::Path) -> Outcome<f64> {
    let config = Daemon::prepare(plan)?;
    let begin = Instant::now();
    let daemon = Daemon::launch(config, |command| {
        command.env("NOTIFY_SOCKET", path);
    })?;
    let mut message = [0; 256];
    let length = manager.recv(&mut message)?;
    let taken = ms(begin);
    if !message[..length].starts_with(b"READY=1") {
        return Err("the daemon sent something other than READY=1".into());
    }
    drop(daemon);
    Ok(taken)
}

/// Removes the pages of a file from memory.
fn evict(program: &str) -> Outcome<()> {
    let file = File::open(program)?;
    file.sync_all()?;
    Ok(posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED)?)
}

fn ms(begin: Instant) -> f64 {
    begin.elapsed().as_secs_f64() * 1e3
}

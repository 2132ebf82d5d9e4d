//! What sessions lose to each other: the round trips of 64 bytes beside downloads, and the bytes of
//! two users with 50 and with one download. The round trips without downloads and those through the
//! copy loop, in the same run, show what the machine adds.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::socket::{MsgFlags, recv};

use super::faketls::{self, User};
use super::helper::{self, Helper};
use super::options::{Options, Outcome};
use super::process::{Daemon, Plan, Relay};
use super::report::{Report, median, verdict};
use super::{proc, sockets};

/// Downloads beside the echo.
const DOWNLOADS: usize = 8;

/// Downloads of the user who has many; the other has one.
const STREAMS: usize = 50;

/// Bytes of one ping, and of its echo.
const PING: usize = 64;

/// The first payload byte of a connection that downloads; others are echoed.
const DOWNLOAD: u8 = 0xd0;

/// Bytes that a reader takes at once.
const CHUNK: usize = 256 * 1024;

/// One window: round trips in milliseconds, and bytes per second of each group of downloads.
struct Sample {
    pings: Vec<f64>,
    rates: Vec<f64>,
    cpu_ns_per_byte: f64,
}

/// Measures both and prints the tables.
pub fn measure(options: &Options, report: &mut Report) -> Outcome<()> {
    let (rounds, window) = if options.short { (3, 1_500) } else { (7, 5_000) };
    let window = Duration::from_millis(window);
    let mut random = fastrand::Rng::with_seed(getrandom::u64()?);
    let users = User::random(2, &mut random);
    let dc = Helper::spawn(&["source"])?;
    println!(
        "{:<24}{:>10}{:>10}{:>10}{:>12}",
        "echo beside downloads", "median ms", "p99 ms", "GB/s", "CPU s/GB"
    );
    let mut medians = Vec::new();
    for (name, is_copy, downloads) in [
        ("copy_alone", true, 0),
        ("copy_8", true, DOWNLOADS),
        ("mtbox_alone", false, 0),
        ("mtbox_8", false, DOWNLOADS),
    ] {
        let mut samples = Vec::new();
        for _ in 0..rounds {
            let mut relay = start(is_copy, &users, dc.port())?;
            let groups = [(&users[0], downloads)];
            samples.push(run(&mut relay, Some(&users[1]), &groups, window, &mut random)?);
        }
        let mut pings: Vec<f64> = samples.iter().flat_map(|s| s.pings.iter().copied()).collect();
        pings.sort_by(f64::total_cmp);
        let p99 = pings.get(pings.len() * 99 / 100).copied().unwrap_or_default();
        let rate = median(&samples.iter().map(|s| s.rates[0]).collect::<Vec<_>>()) / 1e9;
        let cpu = median(&samples.iter().map(|s| s.cpu_ns_per_byte).collect::<Vec<_>>());
        println!("{name:<24}{:>10.3}{p99:>10.3}{rate:>10.3}{cpu:>12.3}", median(&pings));
        report.note(&format!("echo_{name}_ms"), median(&pings));
        report.note(&format!("echo_{name}_p99_ms"), p99);
        report.note(&format!("echo_{name}_gb_per_s"), rate);
        medians.push((median(&pings), p99, rate));
    }
    let [_, _, alone, mtbox] = medians.as_slice() else { return Err("four cases".into()) };
    for (key, value) in
        [("echo_ms", mtbox.0), ("echo_p99_ms", mtbox.1), ("echo_ratio", mtbox.0 / alone.0)]
    {
        let target = report.target(key)?;
        println!("{key}: {value:.3}, target {target}: {}", verdict(value, target));
        report.note(key, value);
    }

    let mut shares = Vec::new();
    for _ in 0..rounds {
        let mut relay = start(false, &users, dc.port())?;
        let groups = [(&users[0], STREAMS), (&users[1], 1)];
        let sample = run(&mut relay, None, &groups, window, &mut random)?;
        shares.push(sample.rates[0] / sample.rates[1].max(1.0));
    }
    let ratio = median(&shares);
    // Jain's index of two shares.
    let jain = (1.0 + ratio).powi(2) / (2.0 * (1.0 + ratio * ratio));
    let target = report.target("jain_index")?;
    let is_met = if jain >= target { "met" } else { "MISSED" };
    println!("user with {STREAMS} downloads: {ratio:.2} times the bytes of a user with one");
    println!("jain_index: {jain:.3}, target {target}: {is_met}");
    report.note("share_ratio", ratio);
    report.note("jain_index", jain);
    Ok(())
}

fn start(is_copy: bool, users: &[User], dc_port: u16) -> Outcome<Relay> {
    match is_copy {
        true => Relay::copy(dc_port),
        false => Ok(Relay::Daemon(Daemon::start(&Plan::new(users, dc_port, 256))?)),
    }
}

/// One window with these downloads, and round trips of `pinger` if there is one.
fn run(
    relay: &mut Relay,
    pinger: Option<&User>,
    groups: &[(&User, usize)],
    window: Duration,
    random: &mut fastrand::Rng,
) -> Outcome<Sample> {
    let mut connect = |user: &User, first: u8| -> Outcome<TcpStream> {
        let mut stream = sockets::dial(Ipv4Addr::LOCALHOST, relay.port())?;
        match relay {
            Relay::Copy(_) | Relay::Haproxy(_) => stream.write_all(&[0; 64])?,
            Relay::Daemon(_) => {
                user.handshake(&mut stream, random)?;
            }
        }
        // The daemon changes the cipher, so the DC cannot see the byte; the length says it.
        send(&mut stream, relay, &vec![first; if first == DOWNLOAD { 1 } else { PING }])?;
        Ok(stream)
    };
    let mut echo = pinger.map(|user| connect(user, 0)).transpose()?;
    let mut streams = Vec::new();
    for (group, (user, count)) in groups.iter().enumerate() {
        for _ in 0..*count {
            streams.push((group, connect(user, DOWNLOAD)?));
        }
    }
    let totals: Vec<AtomicU64> = groups.iter().map(|_| AtomicU64::new(0)).collect();
    let (is_over, mut pings) = (AtomicBool::new(false), Vec::new());
    let (begin, cpu) = (Instant::now() + WARM_UP, AtomicU64::new(0));
    let (mut elapsed, mut before) = (0.0, Vec::new());
    thread::scope(|scope| -> Outcome<()> {
        for (group, stream) in streams {
            let (totals, is_over) = (&totals, &is_over);
            scope.spawn(move || {
                let mut chunk = vec![0; CHUNK];
                while !is_over.load(Ordering::Relaxed)
                    && let Ok(count @ 1..) =
                        recv(stream.as_raw_fd(), &mut chunk, MsgFlags::MSG_TRUNC)
                {
                    totals[group].fetch_add(count as u64, Ordering::Relaxed);
                }
            });
        }
        let outcome = (|| -> Outcome<()> {
            while begin.elapsed() < window {
                if before.is_empty() && Instant::now() >= begin {
                    before.extend(totals.iter().map(|total| total.load(Ordering::Relaxed)));
                    cpu.store(proc::cpu_ns(relay.pid())?, Ordering::Relaxed);
                }
                match &mut echo {
                    Some(stream) => {
                        let start = Instant::now();
                        send(stream, relay, &[0x5a; PING])?;
                        receive(stream, relay)?;
                        if start >= begin {
                            pings.push(start.elapsed().as_secs_f64() * 1e3);
                        }
                        thread::sleep(PAUSE);
                    }
                    None => thread::sleep(Duration::from_millis(5)),
                }
            }
            elapsed = begin.elapsed().as_secs_f64();
            cpu.store(proc::cpu_ns(relay.pid())? - cpu.load(Ordering::Relaxed), Ordering::Relaxed);
            Ok(())
        })();
        for (total, before) in totals.iter().zip(&before) {
            total.fetch_sub(*before, Ordering::Relaxed);
        }
        is_over.store(true, Ordering::Relaxed);
        outcome
    })?;
    relay.ensure_alive()?;
    let bytes: Vec<f64> = totals.iter().map(|t| t.load(Ordering::Relaxed) as f64).collect();
    let cpu_ns_per_byte = cpu.load(Ordering::Relaxed) as f64 / bytes.iter().sum::<f64>().max(1.0);
    Ok(Sample { pings, rates: bytes.iter().map(|b| b / elapsed).collect(), cpu_ns_per_byte })
}

fn send(stream: &mut TcpStream, relay: &Relay, payload: &[u8]) -> Outcome<()> {
    match relay {
        Relay::Copy(_) | Relay::Haproxy(_) => stream.write_all(payload)?,
        Relay::Daemon(_) => stream.write_all(&faketls::record(payload))?,
    }
    Ok(())
}

fn receive(stream: &mut TcpStream, relay: &Relay) -> Outcome<()> {
    match relay {
        Relay::Copy(_) | Relay::Haproxy(_) => Ok(stream.read_exact(&mut [0; PING])?),
        Relay::Daemon(_) => faketls::read_payload(stream, PING),
    }
}

/// The role `source`: a DC that sends without end on a connection whose first payload is one byte,
/// and echoes other payload.
pub fn run_source() -> Outcome<()> {
    let (listener, port): (TcpListener, u16) = sockets::listen()?;
    helper::report("port", port.into())?;
    for stream in listener.incoming() {
        let mut stream = stream?;
        sockets::tune(&stream)?;
        thread::spawn(move || {
            let (mut chunk, mut got) = (vec![0; CHUNK], 0);
            while got < 64 {
                match stream.read(&mut chunk[..64 - got]) {
                    Ok(count @ 1..) => got += count,
                    _ => return,
                }
            }
            let Ok(mut count @ 1..) = stream.read(&mut chunk) else { return };
            if count == 1 {
                while stream.write_all(&chunk).is_ok() {}
                return;
            }
            // The first one is not echoed.
            count = count.saturating_sub(PING);
            while stream.write_all(&chunk[..count]).is_ok() {
                match stream.read(&mut chunk) {
                    Ok(more @ 1..) => count = more,
                    _ => return,
                }
            }
        });
    }
    Ok(())
}

/// Before the window, so that TCP windows have grown.
const WARM_UP: Duration = Duration::from_millis(500);

/// Between two round trips: a chat, not a transfer.
const PAUSE: Duration = Duration::from_millis(1);

//! How much a flood of wrong hellos slows down a running download. Windows with and without the
//! flood alternate on the same 16 connections, and the medians of their rates are compared. With
//! two CPUs the daemon has one of its own, so that the work of the attackers is not counted. The
//! verdict uses the bytes per second of the daemon's CPU time, so that other load of the machine
//! has no effect.

use std::io::{ErrorKind, Write};
use std::net::{Ipv4Addr, TcpStream as StdStream};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv};

use super::faketls::User;
use super::helper::{self, Helper};
use super::options::{Options, Outcome};
use super::process::{Daemon, Plan, Relay};
use super::report::{Report, median, range};
use super::{environment, proc, sockets};

/// Users whose keys are tried for each wrong hello.
const USERS: usize = 200;

/// Connections that download.
const FLOWS: usize = 16;

/// Wrong hellos per second.
const RATE: u32 = 500;

/// Bytes of the front's answer to each hello.
const REPLY: usize = 32;

/// The source addresses of the wrong hellos.
#[derive(Clone, Copy, PartialEq)]
enum Flood {
    None,
    OneAddress,
    ManyNetworks,
}

const CASES: &[(Flood, &str)] = &[
    (Flood::None, "alone"),
    (Flood::OneAddress, "flood_from_one_address"),
    (Flood::ManyNetworks, "flood_from_250_networks"),
];

/// The result of one window.
struct Sample {
    /// GB per second of the download.
    rate: f64,
    /// GB per second of the daemon's CPU time.
    per_cpu: f64,
    /// The part of a CPU that the daemon used.
    share: f64,
}

/// Runs all windows and prints the table.
pub fn measure(options: &Options, report: &mut Report) -> Outcome<()> {
    let (rounds, window) = if options.short { (5, 1_000) } else { (9, 3_000) };
    let mut random = fastrand::Rng::with_seed(getrandom::u64()?);
    let apart = environment::pin(0, std::process::id());
    let users = User::random(USERS, &mut random);
    let mut dc = Helper::spawn(&["bulk", &FLOWS.to_string(), &u64::MAX.to_string()])?;
    let front = Helper::spawn(&["answerer", "64", &REPLY.to_string()])?;
    let plan = Plan {
        front_port: Some(front.port()),
        ..Plan::new(&users, dc.port(), u64::from(RATE) * 8)
    };
    let mut relay = Relay::Daemon(Daemon::start(&plan)?);
    let alone = apart && environment::pin(1, relay.pid());
    let port = relay.port().to_string();
    let mut floods = [
        Helper::spawn(&["flood", &port, &window.to_string(), "1"])?,
        Helper::spawn(&["flood", &port, &window.to_string(), "250"])?,
    ];
    let mut download = Download::start(&users, relay.port(), &mut random)?;
    dc.expect("ready")?;
    dc.go()?;
    println!(
        "{USERS} users, {FLOWS} connections, {RATE} wrong hellos/s, {rounds} rounds of {window} \
         ms; the daemon {}",
        if alone { "has CPU 1, all other processes CPU 0" } else { "shares its CPU" }
    );

    let window = Duration::from_millis(window);
    let mut samples: Vec<Vec<Sample>> = CASES.iter().map(|_| Vec::new()).collect();
    // The first round warms up and is not counted.
    for round in 0..=rounds {
        for ((from, _), samples) in CASES.iter().zip(&mut samples) {
            let flood = match from {
                Flood::None => None,
                Flood::OneAddress => floods.first_mut(),
                Flood::ManyNetworks => floods.last_mut(),
            };
            let sample = run(&mut download, flood, relay.pid(), window)?;
            relay.ensure_alive()?;
            if round > 0 {
                samples.push(sample);
            }
        }
    }
    // The DC first, or the end of the daemon would be an error for it.
    drop(dc);
    print_table(&samples, report)
}

fn print_table(samples: &[Vec<Sample>], report: &mut Report) -> Outcome<()> {
    let target = report.target("flood_ratio")?;
    let heads = ["GB/s", "of CPU", "GB/CPU s", "ratio", "target"];
    let [rate, share, per_cpu, ratio, wanted] = heads;
    println!(
        "{:<26}{rate:>8}{share:>8}{per_cpu:>10}{:>16}{ratio:>7}{wanted:>8}",
        "case", "min..max"
    );
    let mut base = None;
    for ((from, key), samples) in CASES.iter().zip(samples) {
        let all = |of: fn(&Sample) -> f64| samples.iter().map(of).collect::<Vec<f64>>();
        let (rate, share) = (median(&all(|s| s.rate)), median(&all(|s| s.share)) * 100.0);
        let per_cpu = all(|s| s.per_cpu);
        let own = median(&per_cpu);
        let ratio = own / *base.get_or_insert(own);
        report.note(&format!("{key}_gb_per_s"), rate);
        report.note(&format!("{key}_ratio"), ratio);
        print!("{key:<26}{rate:>8.3}{share:>7.0}%{own:>10.3}{:>16}{ratio:>7.2}", range(&per_cpu));
        match from {
            Flood::OneAddress if ratio >= target => println!("{target:>8.2} met"),
            Flood::OneAddress => println!("{target:>8.2} MISSED"),
            Flood::None | Flood::ManyNetworks => println!("       -"),
        }
    }
    Ok(())
}

/// One window.
fn run(
    download: &mut Download,
    flood: Option<&mut Helper>,
    daemon: u32,
    window: Duration,
) -> Outcome<Sample> {
    let before = proc::cpu_ns(daemon)?;
    let start = Instant::now();
    let flood = flood.map(|flood| flood.go().map(|()| flood)).transpose()?;
    let bytes = download.drain(window)? as f64;
    let spent = (proc::cpu_ns(daemon)? - before) as f64;
    let lasted = start.elapsed().as_nanos() as f64;
    if let Some(flood) = flood {
        let wanted = u64::from(RATE) * window.as_millis() as u64 / 1_000;
        let answered = flood.expect("done")?;
        if answered * 10 < wanted * 9 {
            return Err(format!("{answered} of {wanted} wrong hellos got an answer").into());
        }
    }
    Ok(Sample { rate: bytes / lasted, per_cpu: bytes / spent, share: spent / lasted })
}

/// The clients of the download.
struct Download {
    poll: Poll,
    events: Events,
    flows: Vec<TcpStream>,
    scratch: Vec<u8>,
}

impl Download {
    fn start(users: &[User], port: u16, random: &mut fastrand::Rng) -> Outcome<Self> {
        let poll = Poll::new()?;
        let mut flows = Vec::new();
        for (index, user) in users.iter().step_by(USERS / FLOWS).take(FLOWS).enumerate() {
            let mut stream = sockets::dial(Ipv4Addr::LOCALHOST, port)?;
            user.handshake(&mut stream, random)?;
            stream.set_nonblocking(true)?;
            let mut stream = TcpStream::from_std(stream);
            poll.registry().register(&mut stream, Token(index), Interest::READABLE)?;
            flows.push(stream);
        }
        Ok(Self { poll, events: Events::with_capacity(64), flows, scratch: vec![0; 1 << 20] })
    }

    /// Discards received bytes during `window` and counts them.
    fn drain(&mut self, window: Duration) -> Outcome<u64> {
        let end = Instant::now() + window;
        let mut bytes = 0;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(bytes);
            }
            self.poll.poll(&mut self.events, Some(left))?;
            for event in &self.events {
                let Some(flow) = self.flows.get(event.token().0) else { continue };
                loop {
                    match recv(flow.as_raw_fd(), &mut self.scratch, MsgFlags::MSG_TRUNC) {
                        Ok(0) => return Err("a download has ended".into()),
                        Ok(count) => bytes += count as u64,
                        Err(Errno::EAGAIN) => break,
                        Err(error) => return Err(format!("receiving: {error}").into()),
                    }
                }
            }
        }
    }
}

/// The role `flood`: after each `go` it sends [`RATE`] wrong hellos per second to `port` during
/// `window_ms`, from `networks` (at most 256) loopback networks in turn, then reports `done` with
/// the number of hellos that got the front's answer.
pub fn run_role(port: u16, window_ms: u64, networks: u32) -> Outcome<()> {
    sockets::raise_descriptor_limit()?;
    let mut random = fastrand::Rng::with_seed(getrandom::u64()?);
    // An unknown key: the daemon must try the key of every user.
    let unknown = User::random(1, &mut random).remove(0);
    let hellos: Vec<Vec<u8>> =
        (0..64).map(|_| unknown.hello(&mut random)).collect::<Outcome<_>>()?;
    helper::report("port", port.into())?;
    loop {
        helper::await_go()?;
        let answered = send_hellos(port, window_ms, |n| {
            let source = Ipv4Addr::new(127, 9, (n % networks) as u8, 1);
            (source, &hellos[n as usize % hellos.len()])
        })?;
        helper::report("done", answered)?;
    }
}

fn send_hellos<'a>(
    port: u16,
    window_ms: u64,
    client: impl Fn(u32) -> (Ipv4Addr, &'a Vec<u8>),
) -> Outcome<u64> {
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(256);
    let mut open: Vec<Option<TcpStream>> = Vec::new();
    let start = Instant::now();
    let wanted = (u64::from(RATE) * window_ms / 1_000) as u32;
    let (mut sent, mut answered, mut over) = (0, 0, 0);
    while over < wanted {
        while sent < wanted && start.elapsed() >= Duration::from_secs(1) * sent / RATE {
            let (source, hello) = client(sent);
            let mut stream: StdStream = sockets::dial(source, port)?;
            stream.write_all(hello)?;
            stream.set_nonblocking(true)?;
            let mut stream = TcpStream::from_std(stream);
            poll.registry().register(&mut stream, Token(open.len()), Interest::READABLE)?;
            open.push(Some(stream));
            sent += 1;
        }
        if start.elapsed() > Duration::from_millis(window_ms) + sockets::TIMEOUT {
            return Err(format!("{} hellos without an answer", wanted - over).into());
        }
        poll.poll(&mut events, Some(Duration::from_millis(1)))?;
        for event in &events {
            let Some(place) = open.get_mut(event.token().0) else { continue };
            let Some(stream) = place else { continue };
            match std::io::Read::read(stream, &mut [0; REPLY]) {
                Ok(count) => {
                    answered += u64::from(count > 0);
                    over += 1;
                    *place = None;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => {
                    over += 1;
                    *place = None;
                }
            }
        }
    }
    Ok(answered)
}

//! CPU seconds per GB of relayed payload, compared with the copy loop. Every round runs all cases,
//! so that a change of the machine's speed affects all of them. The verdict uses medians.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};

use super::bulk::{self, RECORD_PAYLOAD, RECORD_WIRE};
use super::faketls::User;
use super::helper::Helper;
use super::options::{Options, Outcome};
use super::process::{Daemon, Haproxy, Plan, Relay};
use super::report::{Report, median, range, verdict};
use super::{proc, sockets};

/// Largest payload of a record that the daemon sends (PROTOCOL 15.6).
const MOST_DOWN: u64 = 16401;

/// The environment variable with a part of the names of the cases to run; the default is all.
const ONLY: &str = "MTBOX_BENCH_CASE";

/// Payload per flow of the check before the measurement, in bytes.
const CHECKED: u64 = 8 << 20;

#[derive(Clone, Copy, PartialEq)]
enum Direction {
    Down,
    Up,
}

#[derive(Clone, Copy, PartialEq)]
enum RelayKind {
    Copy,
    Haproxy,
    Matched,
    ReEncrypt,
}

/// One cell of the table.
#[derive(Clone, Copy)]
struct Case {
    kind: RelayKind,
    direction: Direction,
    flows: usize,
    /// Its name in the table and, with a suffix, in the JSON.
    key: &'static str,
}

const CASES: &[Case] = &[
    Case { kind: RelayKind::Copy, direction: Direction::Down, flows: 1, key: "copy_download_1" },
    Case {
        kind: RelayKind::Haproxy,
        direction: Direction::Down,
        flows: 1,
        key: "haproxy_download_1",
    },
    Case {
        kind: RelayKind::Matched,
        direction: Direction::Down,
        flows: 1,
        key: "mtbox_download_1",
    },
    Case {
        kind: RelayKind::ReEncrypt,
        direction: Direction::Down,
        flows: 1,
        key: "mtbox_download_reencrypt_1",
    },
    Case { kind: RelayKind::Copy, direction: Direction::Up, flows: 1, key: "copy_upload_1" },
    Case { kind: RelayKind::Haproxy, direction: Direction::Up, flows: 1, key: "haproxy_upload_1" },
    Case { kind: RelayKind::Matched, direction: Direction::Up, flows: 1, key: "mtbox_upload_1" },
    Case { kind: RelayKind::Copy, direction: Direction::Down, flows: 16, key: "copy_download_16" },
    Case {
        kind: RelayKind::Haproxy,
        direction: Direction::Down,
        flows: 16,
        key: "haproxy_download_16",
    },
    Case {
        kind: RelayKind::Matched,
        direction: Direction::Down,
        flows: 16,
        key: "mtbox_download_16",
    },
    Case {
        kind: RelayKind::ReEncrypt,
        direction: Direction::Down,
        flows: 16,
        key: "mtbox_download_reencrypt_16",
    },
    Case { kind: RelayKind::Copy, direction: Direction::Up, flows: 16, key: "copy_upload_16" },
    Case {
        kind: RelayKind::Haproxy,
        direction: Direction::Up,
        flows: 16,
        key: "haproxy_upload_16",
    },
    Case { kind: RelayKind::Matched, direction: Direction::Up, flows: 16, key: "mtbox_upload_16" },
];

/// Runs all rounds and prints the table.
pub fn measure(options: &Options, report: &mut Report) -> Outcome<()> {
    let (rounds, volume) = if options.short { (3, 256 << 20) } else { (7, 2 << 30) };
    let mut random = fastrand::Rng::with_seed(getrandom::u64()?);
    println!("CPU time: {}; {rounds} rounds of {} MiB", proc::cpu_source(), volume >> 20);
    check_download(RelayKind::Matched, &mut random)?;
    check_download(RelayKind::ReEncrypt, &mut random)?;

    let has_haproxy = Haproxy::is_installed();
    let only = std::env::var(ONLY).unwrap_or_default();
    let mut cases = CASES.to_vec();
    cases.retain(|case| {
        case.key.contains(&only) && (has_haproxy || case.kind != RelayKind::Haproxy)
    });
    let mut samples = vec![Vec::new(); cases.len()];
    for _ in 0..rounds {
        for (case, samples) in cases.iter().zip(&mut samples) {
            let sample = run(case, volume, &mut random);
            samples.push(sample.map_err(|error| format!("{}: {error}", case.key))?);
        }
    }
    print_table(&cases, &samples, report)
}

fn print_table(cases: &[Case], samples: &[Vec<f64>], report: &mut Report) -> Outcome<()> {
    println!("{:<30}{:>8}{:>16}{:>8}{:>8}", "case", "s/GB", "min..max", "ratio", "target");
    let (mut copy, mut haproxy) = (f64::NAN, f64::NAN);
    for (case, samples) in cases.iter().zip(samples) {
        let own = median(samples);
        report.note(&format!("{}_s_per_gb", case.key), own);
        print!("{:<30}{own:>8.3}{:>16}", case.key, range(samples));
        // The copy loop and HAProxy come first in each group.
        if case.kind == RelayKind::Copy {
            (copy, haproxy) = (own, f64::NAN);
            println!();
            continue;
        }
        let ratio = own / copy;
        report.note(&format!("{}_ratio", case.key), ratio);
        if case.kind == RelayKind::Haproxy {
            haproxy = own;
        }
        let targets = match (case.kind, case.direction) {
            (RelayKind::Matched, Direction::Down) => ["download_ratio", "download_per_haproxy"],
            (RelayKind::Matched, Direction::Up) => ["upload_ratio", "upload_per_haproxy"],
            _ => {
                println!("{ratio:>8.2}       -");
                continue;
            }
        };
        let target = report.target(targets[0])?;
        print!("{ratio:>8.2}{target:>8.2} {}", verdict(ratio, target));
        if haproxy.is_finite() {
            let (ratio, target) = (own / haproxy, report.target(targets[1])?);
            report.note(&format!("{}_per_haproxy", case.key), ratio);
            print!("; {ratio:.2} of HAProxy, target {target:.2} {}", verdict(ratio, target));
        }
        println!();
    }
    Ok(())
}

impl RelayKind {
    fn copies(self) -> bool {
        matches!(self, Self::Copy | Self::Haproxy)
    }
}

/// Transfers `volume` bytes through a new relay and returns its CPU seconds per GB.
fn run(case: &Case, volume: u64, random: &mut fastrand::Rng) -> Outcome<f64> {
    let pattern = bulk::pattern();
    let each = (volume / case.flows as u64) / RECORD_WIRE * RECORD_WIRE;
    let (down, up) = if case.direction == Direction::Down { (each, 0) } else { (0, each) };
    let mut dc = Helper::spawn(&["bulk", &case.flows.to_string(), &down.to_string()])?;
    let (mut relay, streams) = connect(case.kind, case.flows, dc.port(), random)?;
    dc.expect("ready")?;

    let before = proc::cpu_ns(relay.pid())?;
    dc.go()?;
    let received = bulk::transfer(streams, up, &pattern);
    relay.ensure_alive()?;
    let received = received?;
    let at_dc = dc.expect("done")?;
    let spent = proc::cpu_ns(relay.pid())? - before;

    let payload = match case.direction {
        Direction::Up => {
            let per_wire = if case.kind.copies() { RECORD_WIRE } else { RECORD_PAYLOAD };
            let wanted = case.flows as u64 * each / RECORD_WIRE * per_wire;
            match at_dc == wanted {
                true => wanted,
                false => return Err(format!("the DC got {at_dc} bytes of {wanted}").into()),
            }
        }
        Direction::Down => {
            for wire in received {
                if !is_plausible(case.kind, each, wire) {
                    return Err(format!("{wire} bytes arrived of a payload of {each}").into());
                }
            }
            case.flows as u64 * each
        }
    };
    Ok(spent as f64 / payload as f64)
}

/// `wire` bytes can contain `payload` bytes: exactly, or with five bytes per record and at most one
/// record per 64 bytes.
fn is_plausible(kind: RelayKind, payload: u64, wire: u64) -> bool {
    let Some(extra) = wire.checked_sub(payload) else { return false };
    match kind {
        _ if kind.copies() => extra == 0,
        _ => {
            let records = extra / 5;
            extra % 5 == 0 && records >= payload.div_ceil(MOST_DOWN) && records <= payload / 64
        }
    }
}

/// Starts the relay and opens `flows` connections through it; the DC has read their frames.
fn connect(
    kind: RelayKind,
    flows: usize,
    dc_port: u16,
    random: &mut fastrand::Rng,
) -> Outcome<(Relay, Vec<TcpStream>)> {
    let users = User::random(1, random);
    let relay = match kind {
        RelayKind::Copy => Relay::copy(dc_port)?,
        RelayKind::Haproxy => Relay::haproxy(dc_port)?,
        RelayKind::Matched | RelayKind::ReEncrypt => {
            let re_encrypt = kind == RelayKind::ReEncrypt;
            let plan = Plan { re_encrypt, ..Plan::new(&users, dc_port, 256) };
            Relay::Daemon(Daemon::start(&plan)?)
        }
    };
    let mut streams = Vec::new();
    for _ in 0..flows {
        let mut stream = sockets::dial(Ipv4Addr::LOCALHOST, relay.port())?;
        match kind {
            _ if kind.copies() => stream.write_all(&[0; 64])?,
            _ => drop(users[0].handshake(&mut stream, random)?),
        }
        streams.push(stream);
    }
    Ok((relay, streams))
}

/// Checks a download before measuring: complete records with as many payload bytes as the DC sent.
/// With matched keys the payload is the same bytes.
fn check_download(kind: RelayKind, random: &mut fastrand::Rng) -> Outcome<()> {
    let mut dc = Helper::spawn(&["bulk", "1", &CHECKED.to_string()])?;
    let (_relay, mut streams) = connect(kind, 1, dc.port(), random)?;
    dc.expect("ready")?;
    dc.go()?;
    let mut wire = Vec::new();
    for stream in &mut streams {
        stream.read_to_end(&mut wire)?;
    }
    let mut payload = Vec::new();
    let mut rest = wire.as_slice();
    while let [0x17, 3, 3, high, low, tail @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let Some((body, after)) = tail.split_at_checked(length) else { break };
        payload.extend_from_slice(body);
        rest = after;
    }
    let pattern = bulk::pattern();
    let expected = pattern.iter().cycle().take(payload.len());
    if !rest.is_empty() || payload.len() as u64 != CHECKED {
        return Err(
            format!("{} bytes of payload arrived instead of {CHECKED}", payload.len()).into()
        );
    }
    if kind == RelayKind::Matched && !payload.iter().eq(expected) {
        return Err("with matched keys the payload is not what the DC sent".into());
    }
    Ok(())
}

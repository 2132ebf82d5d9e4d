//! CPU time of the daemon for one session: ClientHello, answer, 64-byte frame, connection to the
//! DC, a few bytes back, and the close of both sides. One session at a time.

use std::io::{Read, Write};
use std::net::Ipv4Addr;

use super::faketls::{self, User};
use super::helper::Helper;
use super::options::{Options, Outcome};
use super::process::{Daemon, Plan, Relay};
use super::report::{Report, median, range, verdict};
use super::{proc, sockets};

/// Users of the busy daemon.
const MANY: usize = 1000;

/// How many of them are active.
const ACTIVE: usize = 50;

/// Length of the answer of the DC or the front in bytes; large enough to be sent at once.
const REPLY: usize = 32;

/// Who connects, and from where.
struct Scenario {
    key: &'static str,
    has_many_users: bool,
    /// The user and the source address of connection `n`.
    client: fn(usize) -> (usize, Ipv4Addr),
    is_probe: bool,
    /// Whether the target for returning users applies.
    returning: bool,
}

const SCENARIOS: &[Scenario] = &[
    Scenario {
        key: "one_user",
        has_many_users: false,
        client: |_| (0, Ipv4Addr::LOCALHOST),
        is_probe: false,
        returning: false,
    },
    Scenario {
        key: "same_user_of_1000",
        has_many_users: true,
        client: |_| (MANY / 2, Ipv4Addr::LOCALHOST),
        is_probe: false,
        returning: true,
    },
    Scenario {
        key: "50_in_turn_own_addresses",
        has_many_users: true,
        client: |n| (active(n), Ipv4Addr::new(127, 1, (n % ACTIVE) as u8, 1)),
        is_probe: false,
        returning: true,
    },
    Scenario {
        key: "50_in_turn_one_address",
        has_many_users: true,
        client: |n| (active(n), Ipv4Addr::new(127, 2, 0, 1)),
        is_probe: false,
        returning: true,
    },
    Scenario {
        key: "probe_at_1",
        has_many_users: false,
        client: |_| (0, Ipv4Addr::new(127, 3, 0, 1)),
        is_probe: true,
        returning: false,
    },
    Scenario {
        key: "probe_at_1000",
        has_many_users: true,
        client: |_| (0, Ipv4Addr::new(127, 3, 0, 1)),
        is_probe: true,
        returning: false,
    },
];

/// The active users are far from each other in the configuration.
fn active(n: usize) -> usize {
    n % ACTIVE * (MANY / ACTIVE) + 7
}

/// Runs all rounds and prints the table.
pub fn measure(options: &Options, report: &mut Report) -> Outcome<()> {
    let (rounds, connections) = if options.short { (3, 300) } else { (7, 1500) };
    let mut random = fastrand::Rng::with_seed(getrandom::u64()?);
    let users = User::random(MANY, &mut random);
    let unknown = User::random(1, &mut random);
    // A frame has 64 bytes and a fronted ClientHello is longer: both get the answer.
    let dc = Helper::spawn(&["answerer", "64", &REPLY.to_string()])?;
    let start =
        |users: &[User]| Daemon::start(&Plan::new(users, dc.port(), 4096)).map(Relay::Daemon);
    let lone = start(&users[..1])?;
    let crowded = start(&users)?;
    println!("CPU time: {}; {rounds} rounds of {connections} connections each", proc::cpu_source());

    let mut samples = vec![Vec::new(); SCENARIOS.len()];
    // In the first round the daemon learns its active users; it does not count.
    for round in 0..=rounds {
        for (scenario, samples) in SCENARIOS.iter().zip(&mut samples) {
            let relay = if scenario.has_many_users { &crowded } else { &lone };
            let known = if scenario.is_probe { &unknown } else { &users };
            let sample = run(scenario, relay, known, connections, &mut random);
            let sample = sample.map_err(|error| format!("{}: {error}", scenario.key))?;
            if round > 0 {
                samples.push(sample);
            }
        }
    }
    print_table(&samples, report)
}

fn print_table(samples: &[Vec<f64>], report: &mut Report) -> Outcome<()> {
    let target = report.target("returning_ratio")?;
    println!("{:<30}{:>8}{:>16}{:>8}{:>8}", "who", "ms", "min..max", "ratio", "target");
    let base = samples.first().map_or(0.0, |samples| median(samples));
    for (scenario, samples) in SCENARIOS.iter().zip(samples) {
        let own = median(samples);
        let ratio = own / base;
        report.note(&format!("{}_ms", scenario.key), own);
        report.note(&format!("{}_ratio", scenario.key), ratio);
        print!("{:<30}{own:>8.3}{:>16}{ratio:>8.2}", scenario.key, range(samples));
        match scenario.returning {
            true => println!("{target:>8.2} {}", verdict(ratio, target)),
            false => println!("       -"),
        }
    }
    Ok(())
}

/// CPU milliseconds per connection.
fn run(
    scenario: &Scenario,
    relay: &Relay,
    users: &[User],
    connections: usize,
    random: &mut fastrand::Rng,
) -> Outcome<f64> {
    proc::await_rest(relay.pid())?;
    let before = proc::cpu_ns(relay.pid())?;
    for n in 0..connections {
        let (user, source) = (scenario.client)(n);
        let user = &users[user];
        let mut stream = sockets::dial(source, relay.port())?;
        if scenario.is_probe {
            stream.write_all(&user.hello(random)?)?;
            stream.read_exact(&mut [0; REPLY])?;
        } else {
            user.handshake(&mut stream, random)?;
            faketls::read_payload(&mut stream, REPLY)?;
        }
    }
    proc::await_rest(relay.pid())?;
    let spent = proc::cpu_ns(relay.pid())? - before;
    Ok(spent as f64 / connections as f64 / 1e6)
}

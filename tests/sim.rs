//! Deterministic simulation: the round of the daemon over a network without sockets, in virtual
//! time. `tests/sim/part.rs` lists the parts of the world around it.
//!
//! All randomness comes from a seed. `SIM_SEED=123 cargo test --test sim` repeats one seed of every
//! mix, `SIM_RUNS=5000` runs this many seeds from there or from 0. A failure prints the seed, the
//! reason and the last events.

#[path = "sim/accounting.rs"]
mod accounting;
#[path = "sim/admin.rs"]
mod admin;
#[path = "sim/channel.rs"]
mod channel;
#[path = "sim/client.rs"]
mod client;
#[path = "sim/dns.rs"]
mod dns;
#[path = "sim/driver.rs"]
mod driver;
#[path = "sim/everything.rs"]
mod everything;
#[path = "sim/fronts.rs"]
mod fronts;
#[path = "sim/http.rs"]
mod http;
#[path = "sim/link.rs"]
mod link;
#[path = "sim/net.rs"]
mod net;
#[path = "sim/network.rs"]
mod network;
#[path = "sim/oracle.rs"]
mod oracle;
#[path = "sim/part.rs"]
mod part;
#[path = "sim/peer.rs"]
mod peer;
#[path = "sim/protocol.rs"]
mod protocol;
#[path = "sim/script.rs"]
mod script;
#[path = "sim/server.rs"]
mod server;
#[path = "sim/sockets.rs"]
mod sockets;
#[path = "sim/socks.rs"]
mod socks;
#[path = "sim/statsd.rs"]
mod statsd;
#[path = "sim/trace.rs"]
mod trace;

use std::panic::{AssertUnwindSafe, catch_unwind};

use driver::Driver;
use mtbox::config::settings::ShapeSettings;
use network::Defect;
use peer::Ending;
use script::{Mix, Script};

#[test]
fn honest_sessions_get_every_byte_through_a_bad_network_and_a_tiny_pool() {
    run_all(Mix::Honest);
}

#[test]
fn readers_that_stop_do_not_hold_up_other_sessions() {
    run_all(Mix::Stalls);
}

#[test]
fn a_reset_at_any_moment_leaves_nothing_behind() {
    run_all(Mix::Resets);
}

#[test]
fn silent_peers_are_gone_after_their_deadline() {
    run_all(Mix::Silence);
}

#[test]
fn probes_reach_the_front_with_every_byte_they_sent() {
    run_all(Mix::Probes);
}

#[test]
fn users_reach_their_dc_whatever_the_first_addresses_do() {
    run_all(Mix::Dials);
}

#[test]
fn many_sessions_keep_to_the_limits_and_counts_return_to_zero() {
    run_all(Mix::Crowd);
}

#[test]
fn those_who_take_all_places_keep_no_other_user_out() {
    run_all(Mix::Siege);
}

#[test]
fn a_drain_in_the_middle_ends_every_session() {
    run_all(Mix::Drain);
}

#[test]
fn every_part_of_the_daemon_keeps_its_promises_beside_all_others() {
    run_all(Mix::Everything);
}

#[test]
fn a_burst_is_sent_freely_and_always_keeps_the_pace() {
    let free = download_ms(None, &[]);
    let burst = download_ms(Some(ShapeSettings { always: false, drs: false }), &[]);
    let drs = download_ms(Some(ShapeSettings { always: false, drs: true }), &[]);
    let always = download_ms(Some(ShapeSettings { always: true, drs: false }), &[]);
    // 6.76 ms on average for each record.
    let paced = (DOWNLOAD / 16_401) as u64 * 676 / 100;
    assert!((paced * 7 / 10..paced * 14 / 10).contains(&always), "{always} ms, not {paced}");
    assert!(burst < free + 1_500 && drs < free + 1_500, "{free} {burst} {drs} ms");
    assert!(burst > free + 50 && drs > free + 50, "{free} {burst} {drs} ms");
}

#[test]
fn a_drain_sends_the_few_bytes_that_wait_for_more() {
    for seed in 0..SEEDS {
        let mut script = script::draw(Mix::Drain, seed);
        script.settings.shape = Some(ShapeSettings { always: false, drs: false });
        (script.faults.latency_ms, script.drain_at) = (0, Some(2_000));
        for plan in &mut script.plans {
            (plan.starts, plan.down) = (plan.starts % 1_000, 30_000);
            (plan.server.write_chunk, plan.server.write_pause, plan.server.send_limit) =
                (6, (100, 9), None);
        }
        perform(seed, script).unwrap_or_else(|report| panic!("seed {seed}: {report}"));
    }
}

#[test]
fn new_downloads_have_the_pace_that_was_learned() {
    // Equal durations give the steepest fit, whose mean is slightly lower.
    let ms = download_ms(Some(ShapeSettings { always: true, drs: false }), &[2_000; 500]);
    let paced = (DOWNLOAD / 16_401) as u64 * 2;
    assert!((paced * 9 / 10..paced * 13 / 10).contains(&ms), "{ms} ms, not {paced}");
}

/// The virtual time of a download over a good network, after page timings of these durations.
fn download_ms(shape: Option<ShapeSettings>, learned_us: &[u64]) -> u64 {
    let mut script = script::draw(Mix::Honest, 1);
    script.faults = network::Faults { window: (500_000, 500_000), ..network::Faults::default() };
    script.settings.shape = shape;
    script.plans.retain(|plan| plan.credentials.is_some() && plan.must_complete);
    script.plans.truncate(1);
    for plan in &mut script.plans {
        let fast = |ending| peer::Behaviour {
            write_chunk: 100_000,
            read_chunk: 500_000,
            write_pause: (0, 0),
            read_pause: (0, 0),
            ending,
            send_limit: None,
        };
        (plan.up, plan.down) = (1_000, DOWNLOAD);
        (plan.client, plan.server) = (fast(Ending::AwaitFin), fast(Ending::Fin));
    }
    let mut driver = Driver::new(1, script);
    driver.daemon.shared.mimicry.fit.learn(learned_us.iter().copied());
    while driver.daemon.shared.mimicry.fit.is_running() {
        driver.daemon.shared.mimicry.refine_pace();
    }
    driver.run().unwrap_or_else(|e| panic!("{shape:?}: {}", e.why));
    let network = driver.network.borrow();
    network.links.iter().map(|link| link.last_io - link.opened_at).max().expect("a client")
}

/// Bytes of a long download.
const DOWNLOAD: usize = 8 << 20;

#[test]
fn the_same_seed_gives_the_same_run() {
    let run = |seed| {
        let mut driver = Driver::new(seed, script::draw(Mix::Crowd, seed));
        assert!(driver.run().is_ok());
        let network = driver.network.borrow();
        (network.now, network.actions, network.trace.tail(|_| true))
    };
    for seed in 0..12 {
        assert_eq!(run(seed), run(seed), "seed {seed}");
    }
}

#[test]
fn a_lost_byte_is_noticed() {
    assert_noticed(Defect::LoseByte, &["wrong byte", "the client got a record", "arrived at"]);
}

#[test]
fn a_byte_that_arrives_twice_is_noticed() {
    assert_noticed(Defect::RepeatByte, &["wrong byte", "the client got a record", "bytes of"]);
}

#[test]
fn a_poller_that_stops_reporting_is_noticed() {
    assert_noticed(Defect::DropEdges, &["bytes wait", "a FIN waits", "blocks are held"]);
}

/// Runs honest sessions over a network with a defect; the report must contain one of `messages`.
fn assert_noticed(defect: Defect, messages: &[&str]) {
    let mut runs = 0;
    for seed in 0..40 {
        let mut script = script::draw(Mix::Honest, seed);
        script.faults.defect = Some(defect);
        let is_long = |plan: &client::Plan| plan.must_complete && plan.down > 60_000;
        script.plans.retain(|plan| plan.credentials.is_some() && is_long(plan));
        if script.plans.is_empty() {
            continue;
        }
        runs += 1;
        let report = perform(seed, script).expect_err("a defect must be noticed");
        let first = report.lines().next().unwrap_or_default();
        let fits = messages.iter().any(|message| first.contains(message));
        assert!(fits, "seed {seed}: {first}");
    }
    assert!(runs > 10, "only {runs} seeds had a long download");
}

/// Seeds per mix: nine mixes make 288 runs.
const SEEDS: u64 = 32;

/// After so many failures of a mix, the rest is not run.
const MOST_FAILURES: usize = 20;

fn run_all(mix: Mix) {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let (first, runs): (Option<u64>, Option<u64>) = (number("SIM_SEED"), number("SIM_RUNS"));
    let runs = runs.unwrap_or(if first.is_some() { 1 } else { SEEDS });
    let mut failures: Vec<(u64, String)> = Vec::new();
    for seed in (first.unwrap_or(0)..).take(runs as usize) {
        failures.extend(perform(seed, script::draw(mix, seed)).err().map(|report| (seed, report)));
        if failures.len() == MOST_FAILURES {
            break;
        }
    }
    let Some((seed, report)) = failures.first() else { return };
    let reason = |report: &str| report.lines().next().unwrap_or_default().to_owned();
    let others = failures[1..].iter().map(|(seed, other)| format!("{seed}: {}\n", reason(other)));
    let others: String = others.collect();
    panic!("{mix:?}, SIM_SEED={seed}: {report}other seeds:\n{others}");
}

/// Performs one run; the report of a failure ends with the last events that it concerns.
fn perform(seed: u64, script: Script) -> Result<(), String> {
    let mut driver = Driver::new(seed, script);
    let outcome = catch_unwind(AssertUnwindSafe(|| driver.run()));
    let tail = |client: Option<usize>| {
        let network = driver.network.borrow();
        network.trace.tail(|id| client.is_none_or(|client| network.links[id].client == client))
    };
    match outcome {
        Ok(outcome) => outcome.map_err(|e| format!("{}\n{}", e.why, tail(e.client))),
        Err(_) => {
            let report = format!("a panic (see above)\n{}", tail(None));
            // The daemon is in an unknown state and cannot be dropped safely.
            std::mem::forget(driver);
            Err(report)
        }
    }
}

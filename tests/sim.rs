//! Deterministic simulation: the whole daemon over a network without sockets, in virtual time.
//!
//! Every chance comes from a seed. `SIM_SEED=123 cargo test --test sim` replays one seed in every
//! mix, `SIM_RUNS=5000` tries so many seeds from there or from 0. A seed that fails prints what
//! went wrong and the last things that happened.

#[path = "sim/cable.rs"]
mod cable;
#[path = "sim/client.rs"]
mod client;
#[path = "sim/hub.rs"]
mod hub;
#[path = "sim/lane.rs"]
mod lane;
#[path = "sim/ledger.rs"]
mod ledger;
#[path = "sim/net.rs"]
mod net;
#[path = "sim/peer.rs"]
mod peer;
#[path = "sim/play.rs"]
mod play;
#[path = "sim/protocol.rs"]
mod protocol;
#[path = "sim/scene.rs"]
mod scene;
#[path = "sim/server.rs"]
mod server;
#[path = "sim/trace.rs"]
mod trace;
#[path = "sim/verdict.rs"]
mod verdict;

use std::panic::{AssertUnwindSafe, catch_unwind};

use hub::Sabotage;
use mtbox::config::settings::ShapeSettings;
use peer::Ending;
use play::Play;
use scene::{Mix, Scene};

#[test]
fn honest_sessions_get_every_byte_through_a_bad_network_and_a_tiny_pool() {
    run_all(Mix::Honest);
}

#[test]
fn readers_that_stop_hold_up_nobody_for_ever() {
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
fn strangers_reach_the_front_with_every_byte_they_sent() {
    run_all(Mix::Strangers);
}

#[test]
fn members_reach_their_dc_whatever_the_first_addresses_do() {
    run_all(Mix::Dials);
}

#[test]
fn a_crowd_is_held_to_its_limits_and_counts_return_to_zero() {
    run_all(Mix::Crowd);
}

#[test]
fn a_drain_in_the_middle_ends_everybody() {
    run_all(Mix::Drain);
}

#[test]
fn a_burst_flows_freely_and_always_holds_to_the_pace() {
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
fn a_drain_takes_along_the_few_bytes_that_wait_for_company() {
    for seed in 0..SEEDS {
        let mut scene = scene::draw(Mix::Drain, seed);
        scene.settings.shape = Some(ShapeSettings { always: false, drs: false });
        (scene.faults.latency_ms, scene.drain_at) = (0, Some(2_000));
        for plan in &mut scene.plans {
            (plan.starts, plan.down) = (plan.starts % 1_000, 30_000);
            (plan.server.mouthful, plan.server.think, plan.server.cut_off) = (6, (100, 9), None);
        }
        perform(seed, scene).unwrap_or_else(|report| panic!("seed {seed}: {report}"));
    }
}

#[test]
fn new_downloads_have_the_pace_that_was_learned() {
    // Two milliseconds, always: a fit has its steepest shape then, and a mean a little below.
    let ms = download_ms(Some(ShapeSettings { always: true, drs: false }), &[2_000; 500]);
    let paced = (DOWNLOAD / 16_401) as u64 * 2;
    assert!((paced * 9 / 10..paced * 13 / 10).contains(&ms), "{ms} ms, not {paced}");
}

/// The virtual time of a download over a good network, after visits with these durations.
fn download_ms(shape: Option<ShapeSettings>, learned_us: &[u64]) -> u64 {
    let mut scene = scene::draw(Mix::Honest, 1);
    scene.faults = hub::Faults { window: (500_000, 500_000), ..hub::Faults::default() };
    scene.settings.shape = shape;
    scene.plans.retain(|plan| plan.member.is_some() && plan.guaranteed);
    scene.plans.truncate(1);
    for plan in &mut scene.plans {
        let brisk = |ending| peer::Habits {
            mouthful: 100_000,
            bite: 500_000,
            think: (0, 0),
            nap: (0, 0),
            ending,
            cut_off: None,
        };
        (plan.up, plan.down) = (1_000, DOWNLOAD);
        (plan.habits, plan.server) = (brisk(Ending::AwaitFin), brisk(Ending::Fin));
    }
    let mut play = Play::new(1, scene);
    play.daemon.world.mimicry.fit.learn(learned_us.iter().copied());
    while play.daemon.world.mimicry.fit.is_running() {
        play.daemon.world.mimicry.refine_pace();
    }
    play.run().unwrap_or_else(|e| panic!("{shape:?}: {}", e.why));
    let hub = play.hub.borrow();
    hub.cables.iter().map(|cable| cable.served - cable.born).max().expect("a client")
}

/// Bytes of a long download.
const DOWNLOAD: usize = 8 << 20;

#[test]
fn the_same_seed_tells_the_same_story() {
    let story = |seed| {
        let mut play = Play::new(seed, scene::draw(Mix::Crowd, seed));
        assert!(play.run().is_ok());
        let hub = play.hub.borrow();
        (hub.now, hub.deeds, hub.trace.tail(|_| true))
    };
    for seed in 0..12 {
        assert_eq!(story(seed), story(seed), "seed {seed}");
    }
}

#[test]
fn a_lost_byte_is_noticed() {
    assert_noticed(Sabotage::LoseByte, &["wrong byte", "came up"]);
}

#[test]
fn a_byte_that_comes_twice_is_noticed() {
    assert_noticed(Sabotage::RepeatByte, &["wrong byte", "the client got a record", "bytes of"]);
}

#[test]
fn a_poller_that_stops_reporting_is_noticed() {
    assert_noticed(Sabotage::SwallowEdges, &["stand still", "stands still", "blocks are held"]);
}

/// Runs honest sessions over a network that does what it must not; one of `complaints` follows.
fn assert_noticed(sabotage: Sabotage, complaints: &[&str]) {
    let mut struck = 0;
    for seed in 0..40 {
        let mut scene = scene::draw(Mix::Honest, seed);
        scene.faults.sabotage = Some(sabotage);
        let is_long = |plan: &client::Plan| plan.guaranteed && plan.down > 60_000;
        scene.plans.retain(|plan| plan.member.is_some() && is_long(plan));
        if scene.plans.is_empty() {
            continue;
        }
        struck += 1;
        let report = perform(seed, scene).expect_err("a network like this cannot pass");
        let first = report.lines().next().unwrap_or_default();
        let fits = complaints.iter().any(|complaint| first.contains(complaint));
        assert!(fits, "seed {seed}: {first}");
    }
    assert!(struck > 10, "only {struck} seeds were struck");
}

/// Seeds per mix: eight mixes make 256 runs.
const SEEDS: u64 = 32;

fn run_all(mix: Mix) {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let (first, runs): (Option<u64>, Option<u64>) = (number("SIM_SEED"), number("SIM_RUNS"));
    let runs = runs.unwrap_or(if first.is_some() { 1 } else { SEEDS });
    for seed in (first.unwrap_or(0)..).take(runs as usize) {
        if let Err(report) = perform(seed, scene::draw(mix, seed)) {
            panic!("{mix:?}, SIM_SEED={seed}: {report}");
        }
    }
}

/// Runs one scene; a failure comes with the last things that happened to whom it is about.
fn perform(seed: u64, scene: Scene) -> Result<(), String> {
    let mut play = Play::new(seed, scene);
    let outcome = catch_unwind(AssertUnwindSafe(|| play.run()));
    let tail = |client: Option<usize>| {
        let hub = play.hub.borrow();
        hub.trace.tail(|id| client.is_none_or(|client| hub.cables[id].client == client))
    };
    match outcome {
        Ok(outcome) => outcome.map_err(|e| format!("{}\n{}", e.why, tail(e.client))),
        Err(_) => {
            let report = format!("a panic (see above)\n{}", tail(None));
            // The daemon is in no state to be dropped tidily.
            std::mem::forget(play);
            Err(report)
        }
    }
}

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
fn a_lost_byte_does_not_go_unnoticed() {
    let mut noticed = 0;
    for seed in 0..16 {
        let mut scene = scene::draw(Mix::Honest, seed);
        scene.faults.lose_byte_of = Some(0);
        let loses = scene.plans.len() == 1 && scene.plans[0].down > 30_000;
        let outcome = perform(seed, scene);
        assert!(!loses || outcome.is_err(), "seed {seed} lost a byte and nobody saw it");
        noticed += u32::from(outcome.is_err());
    }
    assert!(noticed > 0, "no seed lost a byte");
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

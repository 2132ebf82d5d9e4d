//! The shape of downloads: whatever the pace and the lengths of records, every byte arrives, and
//! nothing is kept that cannot be passed on (spec: protocol 12, 15.6; gotchas A6, B1).

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::support::client::Visitor;
use crate::support::dc::DcSession;
use crate::support::hello::{Hello, Shape};
use crate::support::obfuscated2::DD;
use crate::support::peer::{End, Peer};
use crate::support::proxy::Config;
use crate::support::stage::Stage;
use crate::support::{QUIET, eventually, holds_within, pattern};

const MIB: usize = 1 << 20;
/// A full TLS 1.3 record.
const FULL: usize = 16_401;

/// Downloads shaped by these keys of `[defense.doppelganger]`.
fn shaped(config: Config, mode: &str, drs: bool) -> Config {
    let table = "defense.doppelganger";
    let config = config.set(table, "enabled", "true").set(table, "mode", &format!("{mode:?}"));
    config.set(table, "drs", &drs.to_string())
}

fn stage(mode: &str, drs: bool) -> Stage {
    Stage::with(|config| shaped(config, mode, drs))
}

/// Each way to shape a download, with matched keys and without.
fn every_way(mut play: impl FnMut(&Stage, &str)) {
    for (mode, drs) in [("burst", false), ("burst", true), ("always", false), ("always", true)] {
        for re_encrypt in ["false", "true"] {
            let stage = Stage::with(|config| {
                shaped(config, mode, drs).set("network", "re-encrypt", re_encrypt)
            });
            play(&stage, &format!("mode {mode}, drs {drs}, re-encrypt {re_encrypt}"));
        }
    }
}

#[test]
fn a_burst_delivers_five_megabytes_exactly() {
    for drs in [false, true] {
        let stage = stage("burst", drs);
        let (mut client, session) = stage.session();
        let sender = send_and_finish(session, pattern(1, 5_000_000));
        // The client judges the length of each record.
        let (seen, end) = client.down.recv_rest();
        assert!(seen == pattern(1, 5_000_000), "drs {drs}");
        assert_eq!(end, End::Fin);
        drop(sender.join().expect("the DC"));
        drop(client);
        stage.proxy.wait_for_connections("alice", 0);
        assert_eq!(stage.proxy.number("alice", "bytes_out"), 5_000_000);
    }
}

/// gotcha B1: a queue that paces loses its tail when the DC closes.
#[test]
fn the_tail_arrives_when_the_dc_closes_right_behind_it() {
    every_way(|stage, way| {
        for size in [4, 17, 18, 50_000] {
            let (mut client, session) = stage.session();
            let sender = send_and_finish(session, pattern(2, size));
            let (seen, end) = client.down.recv_rest();
            assert!(seen == pattern(2, size), "{} of {size} bytes, {way}", seen.len());
            assert_eq!(end, End::Fin, "{size} bytes, {way}");
            drop(sender.join().expect("the DC"));
        }
    });
}

#[test]
fn every_size_arrives_and_both_directions_flow() {
    every_way(|stage, way| {
        let (mut client, mut session) = stage.session();
        let mut total = 0;
        for size in [1, 2, 17, 18, 64, 1_351, 4_096, FULL, FULL + 1, FULL + 17, 70_000] {
            let plain = pattern(size as u64, size);
            client.up.send(&plain);
            assert!(session.from.recv(size) == plain, "{size} bytes up, {way}");
            session.to.send(&plain);
            assert!(client.down.recv(size) == plain, "{size} bytes down, {way}");
            total += size as u64;
        }
        eventually("all is counted", || stage.proxy.number("alice", "bytes_out") == total);
    });
}

#[test]
fn a_burst_begins_with_small_records_where_drs_is_on() {
    for mode in ["burst", "always"] {
        let stage = stage(mode, true);
        let (mut client, mut session) = stage.session();
        // All that the small records need lies ready before the first of them is made.
        stage.proxy.signal(Signal::SIGSTOP);
        session.to.send(&pattern(3, 60_000));
        stage.proxy.signal(Signal::SIGCONT);
        let sender = send_and_finish(session, pattern(4, MIB));
        let mut sizes = Vec::new();
        while let Ok(record) = client.down.next_record() {
            sizes.push(record.len());
        }
        for (at, size) in sizes.iter().enumerate() {
            let fits = match at {
                0..40 => (1_351..=1_450).contains(size),
                // Fewer where the DC's bytes were not there in time.
                40..60 => *size <= 4_096,
                _ => *size <= FULL,
            };
            assert!(fits, "record {at} of {size} bytes, {mode}");
        }
        assert!(sizes[..40].iter().any(|size| *size != sizes[0]), "they vary: {sizes:?}");
        assert!(sizes[40..60].iter().any(|size| *size > 1_450), "{sizes:?}");
        assert!(sizes.contains(&FULL), "{sizes:?}");
        drop(sender.join().expect("the DC"));
    }
}

/// gotcha A6: the reference queues everything that a paced client does not take.
#[test]
fn a_client_that_does_not_read_leaves_the_bytes_in_the_kernel() {
    for mode in ["burst", "always"] {
        let stage = stage(mode, false);
        let (mut warm, mut session) = stage.session();
        session.to.send(&pattern(5, 300_000));
        warm.down.recv(300_000);
        let peer = Peer::connect("client", stage.proxy.addr).with_small_receive_buffer(131_072);
        let hello = Hello::fresh(&stage.secret, Shape::PostQuantum);
        let client = Visitor::greet(peer, &stage.secret, &hello).begin(DD, 2);
        let mut session = stage.dc.accept();
        let before = stage.proxy.resident_kib();
        let pushed = AtomicU64::new(0);
        thread::scope(|scope| {
            scope.spawn(|| {
                let chunk = vec![7; MIB];
                while pushed.load(Ordering::Relaxed) < 50 && session.to.try_send(&chunk).is_some() {
                    pushed.fetch_add(1, Ordering::Relaxed);
                }
            });
            eventually("the DC is held", || {
                let (bytes, chunks) = (counted(&stage), pushed.load(Ordering::Relaxed));
                !holds_within(QUIET * 6, || {
                    counted(&stage) > bytes || pushed.load(Ordering::Relaxed) > chunks
                })
            });
            let grown = stage.proxy.resident_kib().saturating_sub(before);
            assert!(grown < 2 * 1024, "{grown} KiB in mode {mode}");
            assert!(pushed.load(Ordering::Relaxed) < 50, "it took everything in mode {mode}");
            client.reset();
        });
    }
}

#[test]
fn a_quick_ack_and_what_follows_at_once_are_one_record() {
    let stage = stage("burst", false);
    let (mut client, mut session) = stage.session();
    let mut together = 0;
    for round in 0..ROUNDS {
        session.to.send(&pattern(round, 4));
        // Long enough for a read of its own, much shorter than the wait for company.
        let start = Instant::now();
        while start.elapsed() < Duration::from_micros(300) {
            std::hint::spin_loop();
        }
        session.to.send(&pattern(round + ROUNDS, 20));
        let (mut seen, mut records) = (Vec::new(), 0);
        while seen.len() < 24 {
            let record = client.down.next_record().expect("a record");
            seen.extend(client.down.open(&record));
            records += 1;
        }
        assert_eq!(seen, [pattern(round, 4), pattern(round + ROUNDS, 20)].concat());
        together += u64::from(records == 1);
    }
    // A machine that stands still for 2 ms now and then must not fail this.
    assert!(together > ROUNDS / 2, "{together} of {ROUNDS}");
}

#[test]
fn a_quick_ack_alone_still_arrives() {
    every_way(|stage, way| {
        let (mut client, mut session) = stage.session();
        for size in [4, 1, 17] {
            session.to.send(&pattern(6, size));
            assert_eq!(client.down.recv(size), pattern(6, size), "{way}");
        }
    });
}

#[test]
fn a_shaped_download_that_is_over_lets_the_program_sleep() {
    let stage = stage("always", true);
    let (mut client, mut session) = stage.session();
    for size in [4, 200_000] {
        session.to.send(&pattern(8, size));
        client.down.recv(size);
    }
    eventually("it falls asleep", || {
        let wakes = stage.proxy.wake_ups();
        !holds_within(QUIET * 4, || stage.proxy.wake_ups() > wakes)
    });
}

/// Sends everything and then FIN, beside the test.
fn send_and_finish(session: DcSession, plain: Vec<u8>) -> thread::JoinHandle<DcSession> {
    thread::spawn(move || {
        let mut session = session;
        session.to.send(&plain);
        session.to.finish();
        session
    })
}

fn counted(stage: &Stage) -> u64 {
    stage.proxy.number("alice", "bytes_out")
}

const ROUNDS: u64 = 60;

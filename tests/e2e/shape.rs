//! Traffic shape of downloads: with any pace and any record lengths every byte arrives, and no
//! bytes are stored that cannot be forwarded (PROTOCOL 12, 15.6; COMPATIBILITY A6, B1).

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::support::client::Handshake;
use crate::support::dc::DcSession;
use crate::support::fixture::Fixture;
use crate::support::hello::{App, Hello};
use crate::support::obfuscated2::DD;
use crate::support::peer::{End, Peer};
use crate::support::proxy::Config;
use crate::support::{QUIET, eventually, holds_within, pattern};

const MIB: usize = 1 << 20;
/// A full TLS 1.3 record.
const FULL: usize = 16_401;

/// Sets the keys of `[defense.doppelganger]` that shape downloads.
fn shaped(config: Config, mode: &str, drs: bool) -> Config {
    let table = "defense.doppelganger";
    let config = config.set(table, "enabled", "true").set(table, "mode", &format!("{mode:?}"));
    config.set(table, "drs", &drs.to_string())
}

fn fixture(mode: &str, drs: bool) -> Fixture {
    Fixture::with(|config| shaped(config, mode, drs))
}

/// Runs `test` with each mode, with matched keys and without.
fn every_mode(mut test: impl FnMut(&Fixture, &str)) {
    for (mode, drs) in [("burst", false), ("burst", true), ("always", false), ("always", true)] {
        for re_encrypt in ["false", "true"] {
            let fixture = Fixture::with(|config| {
                shaped(config, mode, drs).set("network", "re-encrypt", re_encrypt)
            });
            test(&fixture, &format!("mode {mode}, drs {drs}, re-encrypt {re_encrypt}"));
        }
    }
}

#[test]
fn a_burst_delivers_five_megabytes_exactly() {
    for drs in [false, true] {
        let fixture = fixture("burst", drs);
        let (mut client, session) = fixture.session();
        let sender = send_and_finish(session, pattern(1, 5_000_000));
        // The client checks the length of each record.
        let (seen, end) = client.down.recv_rest();
        assert!(seen == pattern(1, 5_000_000), "drs {drs}");
        assert_eq!(end, End::Fin);
        drop(sender.join().expect("the DC"));
        drop(client);
        fixture.proxy.wait_for_connections("alice", 0);
        assert_eq!(fixture.proxy.number("alice", "bytes_out"), 5_000_000);
    }
}

/// COMPATIBILITY B1: a pacing queue loses its last bytes when the DC closes.
#[test]
fn the_last_bytes_arrive_when_the_dc_closes_right_after_them() {
    every_mode(|fixture, mode| {
        for size in [4, 17, 18, 50_000] {
            let (mut client, session) = fixture.session();
            let sender = send_and_finish(session, pattern(2, size));
            let (seen, end) = client.down.recv_rest();
            assert!(seen == pattern(2, size), "{} of {size} bytes, {mode}", seen.len());
            assert_eq!(end, End::Fin, "{size} bytes, {mode}");
            drop(sender.join().expect("the DC"));
        }
    });
}

#[test]
fn every_size_arrives_and_both_directions_transfer() {
    every_mode(|fixture, mode| {
        let (mut client, mut session) = fixture.session();
        let mut total = 0;
        for size in [1, 2, 17, 18, 64, 1_351, 4_096, FULL, FULL + 1, FULL + 17, 70_000] {
            let plain = pattern(size as u64, size);
            client.up.send(&plain);
            assert!(session.from.recv(size) == plain, "{size} bytes up, {mode}");
            session.to.send(&plain);
            assert!(client.down.recv(size) == plain, "{size} bytes down, {mode}");
            total += size as u64;
        }
        eventually("all is counted", || fixture.proxy.number("alice", "bytes_out") == total);
    });
}

#[test]
fn a_burst_begins_with_small_records_if_drs_is_on() {
    for mode in ["burst", "always"] {
        let fixture = fixture(mode, true);
        let (mut client, mut session) = fixture.session();
        // All bytes of the small records are ready before the first of them is made.
        fixture.proxy.signal(Signal::SIGSTOP);
        session.to.send(&pattern(3, 60_000));
        fixture.proxy.signal(Signal::SIGCONT);
        let sender = send_and_finish(session, pattern(4, MIB));
        let mut sizes = Vec::new();
        while let Ok(record) = client.down.next_record() {
            sizes.push(record.len());
        }
        for (at, size) in sizes.iter().enumerate() {
            let fits = match at {
                0..40 => (1_351..=1_450).contains(size),
                // Smaller if the DC's bytes did not arrive in time.
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

/// COMPATIBILITY A6: the reference queues everything that a paced client does not take.
#[test]
fn a_client_that_does_not_read_leaves_the_bytes_in_the_kernel() {
    for mode in ["burst", "always"] {
        let fixture = fixture(mode, false);
        let (mut warm, mut session) = fixture.session();
        session.to.send(&pattern(5, 300_000));
        warm.down.recv(300_000);
        let peer = Peer::connect("client", fixture.proxy.addr).with_small_receive_buffer(131_072);
        let hello = Hello::new(&fixture.secret, App::PostQuantum);
        let client = Handshake::send_hello(peer, &fixture.secret, &hello).send_frame(DD, 2);
        let mut session = fixture.dc.accept();
        let before = fixture.proxy.resident_kib();
        let pushed = AtomicU64::new(0);
        thread::scope(|scope| {
            scope.spawn(|| {
                let chunk = vec![7; MIB];
                while pushed.load(Ordering::Relaxed) < 50 && session.to.try_send(&chunk).is_some() {
                    pushed.fetch_add(1, Ordering::Relaxed);
                }
            });
            eventually("the DC is blocked", || {
                let (bytes, chunks) = (counted(&fixture), pushed.load(Ordering::Relaxed));
                !holds_within(QUIET * 6, || {
                    counted(&fixture) > bytes || pushed.load(Ordering::Relaxed) > chunks
                })
            });
            let grown = fixture.proxy.resident_kib().saturating_sub(before);
            assert!(grown < 2 * 1024, "{grown} KiB in mode {mode}");
            assert!(pushed.load(Ordering::Relaxed) < 50, "it took everything in mode {mode}");
            client.reset();
        });
    }
}

#[test]
fn a_quick_ack_and_the_bytes_right_after_it_are_one_record() {
    let fixture = fixture("burst", false);
    let (mut client, mut session) = fixture.session();
    let mut together = 0;
    for round in 0..ROUNDS {
        session.to.send(&pattern(round, 4));
        // Long enough for a separate read, much shorter than the wait for more bytes.
        let start = Instant::now();
        while start.elapsed() < Duration::from_micros(300) {
            std::hint::spin_loop();
        }
        session.to.send(&pattern(round + ROUNDS, 20));
        let (mut seen, mut records) = (Vec::new(), 0);
        while seen.len() < 24 {
            let record = client.down.next_record().expect("a record");
            seen.extend(client.down.decrypt(&record));
            records += 1;
        }
        assert_eq!(seen, [pattern(round, 4), pattern(round + ROUNDS, 20)].concat());
        together += u64::from(records == 1);
    }
    // A machine that sometimes stops for 2 ms must not fail this test.
    assert!(together > ROUNDS / 2, "{together} of {ROUNDS}");
}

#[test]
fn a_quick_ack_alone_still_arrives() {
    every_mode(|fixture, mode| {
        let (mut client, mut session) = fixture.session();
        for size in [4, 1, 17] {
            session.to.send(&pattern(6, size));
            assert_eq!(client.down.recv(size), pattern(6, size), "{mode}");
        }
    });
}

#[test]
fn the_program_sleeps_after_a_shaped_download() {
    let fixture = fixture("always", true);
    let (mut client, mut session) = fixture.session();
    for size in [4, 200_000] {
        session.to.send(&pattern(8, size));
        client.down.recv(size);
    }
    eventually("it sleeps", || {
        let wakes = fixture.proxy.wake_ups();
        !holds_within(QUIET * 4, || fixture.proxy.wake_ups() > wakes)
    });
}

/// Sends everything and then FIN, in a thread.
fn send_and_finish(session: DcSession, plain: Vec<u8>) -> thread::JoinHandle<DcSession> {
    thread::spawn(move || {
        let mut session = session;
        session.to.send(&plain);
        session.to.send_fin();
        session
    })
}

fn counted(fixture: &Fixture) -> u64 {
    fixture.proxy.number("alice", "bytes_out")
}

const ROUNDS: u64 = 60;

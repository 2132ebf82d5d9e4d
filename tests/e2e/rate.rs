//! `[throttle] rate`: the users share the rate of the relay by bytes (DECISIONS D171).

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::Instant;

use serde_json::json;

use crate::support::client::Client;
use crate::support::dc::Dc;
use crate::support::eventually;
use crate::support::fixture::HOST;
use crate::support::front::Front;
use crate::support::hello::Secret;
use crate::support::proxy::Config;

/// Bits per second.
const RATE: u64 = 8_000_000;

/// Bytes of the user with one download at the end of the test.
const ENOUGH: u64 = 700_000;

#[test]
fn users_share_the_rate_by_bytes_and_short_messages_pass() {
    let (front, dc) = (Front::listen(), Dc::listen());
    let [many, one, small] = [(); 3].map(|()| Secret::new(HOST));
    let config = Config::new(dc.addr, front.addr)
        .user("many", &many)
        .user("one", &one)
        .user("small", &small);
    let mut proxy = config.clone().set("throttle", "rate", "\"8mbit\"").start();
    assert_eq!(proxy.stats()["throttle"], json!({"rate_bits_per_second": RATE}));
    let open = |secret| (Client::open(proxy.addr, secret), dc.accept());
    let (mut pinger, mut echo) = open(&small);
    let downloads: Vec<_> = std::iter::repeat_n(&many, 6).chain([&one]).map(open).collect();
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        for (mut client, mut session) in downloads {
            let is_over = &is_over;
            scope.spawn(move || {
                while !is_over.load(Relaxed) && session.to.try_send(&[0; 16_384]).is_some() {}
                session.to.send_fin();
            });
            scope.spawn(move || client.down.recv_rest());
        }
        let (begin, mut pings) = (Instant::now(), 0);
        let [many, one] = loop {
            pinger.up.send(b"ping");
            assert_eq!(echo.from.recv(4), b"ping");
            echo.to.send(b"pong");
            assert_eq!(pinger.down.recv(4), b"pong");
            pings += 1;
            let stats = proxy.stats();
            let bytes = ["many", "one"].map(|user| stats["users"][user]["bytes_out"].as_u64());
            if let [Some(many), Some(one @ ENOUGH..)] = bytes {
                break [many, one];
            }
        };
        let limit = (begin.elapsed().as_secs_f64() * RATE as f64 / 8.0) as u64;
        assert!(many + one < limit * 11 / 10 + 300_000, "{many} and {one} bytes, {limit} allowed");
        assert!(many < one * 3 / 2 && one < many * 3 / 2, "{many} and {one} bytes");
        assert!(pings > 10, "{pings} messages passed beside {one} bytes");

        proxy.reload(&config);
        assert!(proxy.stats()["throttle"].is_null());
        let before = proxy.number("one", "bytes_out");
        let begin = Instant::now();
        eventually("a download without the rate", || {
            proxy.number("one", "bytes_out") > before + 20_000_000
        });
        assert!(begin.elapsed().as_secs() < 20, "the rate is still in force");
        is_over.store(true, Relaxed);
    });
}

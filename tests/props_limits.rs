//! Properties of `limits` and `util`, checked against models and the test vectors.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use mtbox::accounts::totals::SavedReplays;
use mtbox::limits::ip_list::{ListReader, ParsedList};
use mtbox::limits::read_coalescing::{ReadCoalescing, Round};
use mtbox::limits::replay::{Replay, ReplayClock};
use mtbox::limits::throttle::{Throttle, fair_share};
use mtbox::util::drbg::{Drbg, SEED};
use mtbox::util::incremental_sort::IncrementalSort;
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::Value;

fn number(value: &Value) -> u32 {
    u32::try_from(value.as_u64().expect("a number")).expect("32 bits")
}

#[test]
fn caps_equal_those_of_the_vectors() {
    let all: Value = serde_json::from_str(include_str!("data/fair_share.json")).expect("JSON");
    let cases = all["caps"].as_array().expect("cases");
    assert!(cases.len() >= 14);
    for case in cases {
        let users = case["connections"].as_object().expect("users");
        let counts: Vec<u32> = users.values().map(number).collect();
        let wanted: Vec<Option<u32>> =
            users.keys().map(|user| case["caps"].get(user).map(number)).collect();
        // Old caps must not remain.
        let mut caps = vec![Some(7); counts.len()];
        let active = fair_share(number(&case["limit"]), &counts, &mut caps);
        assert_eq!((active, caps), (case["active"] == true, wanted), "{}", case["name"]);
    }
}

#[test]
fn the_last_caps_hold_while_the_total_is_within_the_limit() {
    // The admission cases of the vectors, except that a cap of 0 counts as 1 (DECISIONS D5).
    let mut throttle = Throttle::new(100, 4);
    throttle.recompute(&[1, 1, 90, 110]);
    assert!(throttle.is_active());
    let later = [1, 0, 48, 49];
    assert!(throttle.admit(&later, 0), "a user without a cap");
    assert!(throttle.admit(&later, 2), "below the cap");
    assert!(!throttle.admit(&later, 3), "at the cap");
    throttle.recompute(&later);
    assert!(!throttle.is_active());
    assert!(throttle.admit(&later, 3), "no caps any more");
    assert!(!throttle.admit(&later, 4), "an unknown user");
}

#[test]
fn the_number_of_users_may_change() {
    let mut throttle = Throttle::new(2, 2);
    throttle.recompute(&[5, 5, 5]);
    assert_eq!(throttle.caps().collect::<Vec<_>>(), [Some(1); 3]);
    assert!(!throttle.admit(&[5], 0));
    assert!(throttle.admit(&[5, 0], 1));
}

/// The result of parsing these bytes in chunks of these sizes.
fn read_list(bytes: &[u8], cuts: &[usize]) -> ParsedList {
    let (mut reader, mut rest) = (ListReader::default(), bytes);
    for cut in cuts {
        let (piece, later) = rest.split_at((*cut).min(rest.len()));
        reader.push_bytes(piece);
        rest = later;
    }
    reader.push_bytes(rest);
    reader.finish().into_parsed()
}

/// Networks in a small address range, so that they overlap, touch and contain each other.
fn networks() -> impl Strategy<Value = Vec<(u16, u8, bool)>> {
    vec((any::<u16>(), 0..=16u8, any::<bool>()), 0..60)
}

fn v4(low: u16) -> Ipv4Addr {
    Ipv4Addr::from_bits(0xc000_0000 | u32::from(low))
}

fn v6(low: u16) -> Ipv6Addr {
    Ipv6Addr::from_bits((0x2001 << 112) | u128::from(low))
}

proptest! {
    #[test]
    fn a_list_contains_exactly_the_addresses_of_its_networks(
        networks in networks(),
        asked in vec(any::<u16>(), 0..200),
    ) {
        let mut text = String::new();
        for (low, host_bits, is_v6) in &networks {
            match is_v6 {
                true => text += &format!("{}/{}\n", v6(*low), 128 - host_bits),
                false => text += &format!("{}/{}\n", v4(*low), 32 - host_bits),
            }
        }
        let list = read_list(text.as_bytes(), &[]);
        prop_assert_eq!(list.bad_lines, 0);
        let reversed: Vec<&str> = text.lines().rev().collect();
        prop_assert_eq!(&read_list(reversed.join("\n").as_bytes(), &[]), &list, "in any order");
        for low in asked.into_iter().chain([0, u16::MAX]) {
            let holds = |(net, host_bits, is_v6): &(u16, u8, bool), asks_v6: bool| {
                let host = (1u32 << host_bits) - 1;
                *is_v6 == asks_v6 && u32::from(*net) | host == u32::from(low) | host
            };
            for (addr, asks_v6) in [(IpAddr::V4(v4(low)), false), (IpAddr::V6(v6(low)), true)] {
                let wanted = networks.iter().any(|network| holds(network, asks_v6));
                prop_assert_eq!(list.networks.contains(addr), wanted, "{} in {}", addr, &text);
            }
            let mapped = IpAddr::V6(v4(low).to_ipv6_mapped());
            prop_assert_eq!(list.networks.contains(mapped), list.networks.contains(v4(low).into()));
        }
    }

    #[test]
    fn a_list_does_not_depend_on_the_chunks(
        lines in vec("(\\PC{0,20}|[0-9.:/# \\t\r-]{0,40}|10\\.[0-9]\\.0\\.0/1[0-9])", 0..30),
        cuts in vec(0..50usize, 0..40),
    ) {
        let text = lines.join("\n");
        prop_assert_eq!(read_list(text.as_bytes(), &cuts), read_list(text.as_bytes(), &[]));
    }

    #[test]
    fn any_bytes_can_be_parsed(bytes in vec(any::<u8>(), 0..2_000)) {
        let list = read_list(&bytes, &[]);
        let lines = bytes.iter().filter(|byte| **byte == b'\n').count() as u64 + 1;
        prop_assert!(list.networks.len() as u64 + list.bad_lines <= lines);
    }

    #[test]
    fn incremental_sort_sorts(items in vec(any::<u8>(), 0..300), most in 1..50usize) {
        let mut wanted = items.clone();
        wanted.sort_unstable();
        let mut sort = IncrementalSort::new(items);
        while !sort.is_done() {
            sort.step(&mut most.clone());
        }
        prop_assert_eq!(sort.into_items(), wanted);
    }

    /// These properties define max-min fairness in whole connections; no other caps have them.
    #[test]
    fn caps_are_the_only_fair_ones(limit in 0..300u32, counts in vec(0..100u32, 0..20)) {
        let mut caps = vec![None; counts.len()];
        let active = fair_share(limit, &counts, &mut caps);
        let total: u32 = counts.iter().sum();
        prop_assert_eq!(active, total > limit);
        prop_assert_eq!(active, caps.iter().any(Option::is_some));
        let Some(cap) = caps.iter().copied().flatten().next() else { return Ok(()) };
        let mut used = 0;
        for (count, own) in counts.iter().zip(&caps) {
            prop_assert_eq!(own.is_some(), *count > cap, "capped are exactly those above the cap");
            prop_assert!(own.is_none_or(|own| own == cap), "one cap for all");
            used += count.min(&cap);
        }
        let capped = caps.iter().flatten().count() as u32;
        prop_assert!(used <= limit && limit < used + capped, "only the remainder is lost");
    }

    #[test]
    fn in_any_sequence_of_events_light_users_are_admitted_and_heavy_users_are_capped(
        limit in 1..40u32,
        events in vec((0..6usize, 0..4u8), 1..400),
    ) {
        const USERS: u32 = 6;
        let mut throttle = Throttle::new(limit, USERS as usize);
        let mut counts = [0_u32; USERS as usize];
        for (user, event) in events {
            match event {
                0 => counts[user] = counts[user].saturating_sub(1),
                1 if user == 0 => throttle.recompute(&counts),
                _ => {
                    let admitted = throttle.admit(&counts, user);
                    let light = counts[user] < (limit / USERS).max(1);
                    prop_assert!(admitted || !light, "{counts:?} refused {user}");
                    counts[user] += u32::from(admitted);
                    let total: u32 = counts.iter().sum();
                    prop_assert!(admitted || total >= limit || throttle.is_active());
                }
            }
            prop_assert!(counts[user] <= limit);
        }
    }

    #[test]
    fn within_its_bound_the_replay_store_is_a_set(names in vec(0..500u32, 1..1_500)) {
        let (mut store, mut model) = (complete_store(64 * 1024), HashSet::new());
        for name in names {
            prop_assert_eq!(store.is_replay(&digest(name), 0, CLOCK), !model.insert(name));
        }
    }

    #[test]
    fn a_full_replay_store_contains_the_latest_digests(
        max_bytes in 0..100_000usize,
        count in 0..20_000u32,
    ) {
        let mut store = complete_store(max_bytes);
        for name in 0..count {
            prop_assert!(!store.is_replay(&digest(name), 0, CLOCK), "a new one is never refused");
            prop_assert!(store.bytes() <= max_bytes.max(8 * 1024));
        }
        // One generation of the smallest store: three quarters of 512 slots.
        for name in count.saturating_sub(384)..count {
            prop_assert!(store.is_replay(&digest(name), 0, CLOCK));
        }
    }

    #[test]
    fn random_bytes_do_not_depend_on_the_chunks(
        seed in any::<u8>(),
        cuts in vec(0..5_000usize, 1..8),
    ) {
        let total = cuts.iter().sum();
        let (mut whole, mut parts) = (vec![0; total], vec![0; total]);
        Drbg::new([seed; SEED]).fill(&mut whole);
        let (mut drbg, mut rest) = (Drbg::new([seed; SEED]), &mut parts[..]);
        for cut in cuts {
            let (now, later) = rest.split_at_mut(cut);
            drbg.fill(now);
            rest = later;
        }
        prop_assert_eq!(whole, parts);
    }

    #[test]
    fn a_random_number_stays_below_its_bound(seed in any::<u8>(), bound in 1..=u32::MAX) {
        let mut drbg = Drbg::new([seed; SEED]);
        for _ in 0..50 {
            prop_assert!(drbg.u32_below(bound) < bound);
        }
    }

    #[test]
    fn pauses_are_short_and_only_for_many_small_reads(
        rounds in vec((0..30u64, 0..64u32, 1..20_000u64, any::<bool>()), 1..300),
    ) {
        let (mut coalescing, mut off) = (ReadCoalescing::new(true), ReadCoalescing::new(false));
        let (mut now_ms, mut history, mut last_read) = (0, Vec::new(), 0);
        for (gap, reads, size, is_handshaking) in rounds {
            now_ms += gap;
            let bytes = u64::from(reads) * size;
            let round = Round { now_ms, reads, bytes, is_handshaking };
            prop_assert_eq!(off.pause(round), None);
            let is_after_silence = now_ms - last_read >= 20;
            if let Some(pause) = coalescing.pause(round) {
                prop_assert!((1..=2).contains(&pause.as_millis()));
                prop_assert!(reads > 0 && !is_handshaking && !is_after_silence);
                // A part of the last 200 ms had the required rate.
                let recent = history.iter().filter(|(at, _)| now_ms - at <= 200);
                let (count, any_small) = recent.fold((0, false), |(count, small), (_, r)| {
                    let (reads, size): (u32, u64) = *r;
                    (count + reads, small || (reads > 0 && size < 4_096))
                });
                prop_assert!(count > 100 && any_small);
            }
            if reads > 0 {
                last_read = now_ms;
            }
            history.push((now_ms, (reads, size)));
        }
    }
}

/// A store that knows what was accepted before.
fn complete_store(max_bytes: usize) -> Replay {
    let mut store = Replay::new(max_bytes, 0);
    store.restore(&SavedReplays::default(), 0);
    store
}

const CLOCK: ReplayClock = ReplayClock { now_ms: 0, started: None };

fn digest(name: u32) -> [u8; 28] {
    let mut digest = [0; 28];
    digest[12..16].copy_from_slice(&name.to_le_bytes());
    digest
}

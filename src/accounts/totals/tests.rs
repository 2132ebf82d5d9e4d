//! Files cut at every byte and with every bit flipped; users who are removed and added again.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const NOON: u64 = 1_800_000_000;
const DAY: u64 = 86_400;

fn counted(name: &str, bytes_in: u64, bytes_out: u64, seen_s: u64) -> UserCounters<'_> {
    UserCounters { name, bytes_in, bytes_out, seen_s: (seen_s > 0).then_some(seen_s) }
}

fn values(totals: &Totals, name: &str) -> (u64, u64, u64) {
    let UserTotals { bytes_in, bytes_out, seen_s, .. } = totals.base(name);
    (bytes_in, bytes_out, seen_s)
}

/// The totals in the file, by user.
fn all(totals: &Totals) -> BTreeMap<String, UserTotals> {
    let accounts = totals.accounts.iter();
    accounts.map(|(name, account)| (name.clone(), account.written)).collect()
}

fn append(file: &mut Vec<u8>, totals: &mut Totals) -> usize {
    let batch = totals.batch();
    file.extend_from_slice(&batch.bytes);
    totals.mark_written(&batch);
    batch.bytes.len()
}

fn read(file: &[u8]) -> (Totals, usize, LoadEnd) {
    let ParsedTotals { totals, valid_bytes, end, .. } = Totals::parse(file).expect("one of ours");
    (totals, valid_bytes, end)
}

/// The length of a file and the totals in it.
type FileState = (usize, BTreeMap<String, UserTotals>);

/// A file of several batches, and its state after each.
fn file() -> (Vec<u8>, Vec<FileState>) {
    let mut totals = Totals::default();
    let mut file = totals.snapshot().bytes;
    let mut states = vec![(file.len(), all(&totals))];
    for step in 1..=4 {
        let users = [
            counted("alice", step * 1000, step * 1_000_000_007, NOON + step * 600),
            counted("bob", 77, 0, if step < 3 { 0 } else { NOON }),
            counted("idle", 0, 0, 0),
            counted("zoë \"", step / 4 * 5, 0, 0),
        ];
        let configured = users.into_iter().filter(|one| one.name != "bob" || step < 4);
        totals.update(configured, Some(NOON + step * 600));
        append(&mut file, &mut totals);
        let expected = all(&totals).into_iter().filter(|(name, _)| name != "idle");
        let expected = expected.filter(|(_, totals)| *totals != UserTotals::default());
        states.push((file.len(), expected.collect()));
    }
    (file, states)
}

#[test]
fn what_was_written_is_read_back() {
    let (file, states) = file();
    let (totals, good, end) = read(&file);
    assert_eq!((good, end), (file.len(), LoadEnd::Complete));
    assert_eq!(all(&totals), states.last().unwrap().1);
    assert_eq!(values(&totals, "alice"), (4000, 4_000_000_028, NOON + 2400));
    assert_eq!(values(&totals, "bob"), (77, 0, NOON));
    assert_eq!(totals.find("bob").unwrap().current.removed_s, NOON + 2400);
    assert_eq!(values(&totals, "zoë \""), (5, 0, 0));
    assert_eq!(values(&totals, "idle"), (0, 0, 0));
    assert!(!totals.has_changes() && totals.batch().bytes.is_empty());
    let compacted = read(&totals.snapshot().bytes);
    assert_eq!((all(&compacted.0), compacted.2), (all(&totals), LoadEnd::Complete));
    assert!(compacted.1 < file.len());
}

#[test]
fn saved_replays_are_the_end_of_a_file_and_no_other_part() {
    let (mut bytes, states) = file();
    let good = bytes.len();
    let saved = SavedReplays { digests: vec![1, u64::MAX, 7], valid_from_s: NOON };
    bytes.extend(read(&bytes).0.replay_batch(&saved));
    let parse = |bytes: &[u8]| {
        let parsed = Totals::parse(bytes).expect("one of ours");
        assert_eq!((parsed.valid_bytes, all(&parsed.totals)), states[4]);
        parsed
    };
    let parsed = parse(&bytes);
    assert_eq!(
        (parsed.replays, parsed.end, parsed.lost_bytes),
        (Some(saved), LoadEnd::Complete, 0)
    );
    for cut in good..bytes.len() {
        assert_eq!(parse(&bytes[..cut]).replays, None, "cut at {cut}");
    }
    for bit in good * 8..bytes.len() * 8 {
        let mut damaged = bytes.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(parse(&damaged).replays, None, "bit {bit}");
    }
    bytes.push(0);
    let parsed = parse(&bytes);
    assert_eq!((parsed.replays, parsed.end, parsed.lost_bytes), (None, LoadEnd::Damaged, 1));
}

#[test]
fn a_cut_file_has_the_totals_of_its_last_complete_batch() {
    let (file, states) = file();
    for cut in 0..file.len() {
        let (mut totals, good, end) = read(&file[..cut]);
        let state = states.iter().rev().find(|(length, _)| *length <= cut);
        let (length, expected) = state.cloned().unwrap_or_default();
        assert_eq!((good, all(&totals)), (length, expected), "cut at {cut}");
        assert_eq!(end == LoadEnd::Complete, good == cut, "cut at {cut}");
        assert_ne!(end, LoadEnd::Damaged);
        // The totals go on from there.
        let mut repaired = if good == 0 { totals.snapshot().bytes } else { file[..good].to_vec() };
        let before = values(&totals, "alice");
        totals.update([counted("alice", 5, 6, 0)].into_iter(), None);
        append(&mut repaired, &mut totals);
        let after = (before.0 + 5, before.1 + 6, before.2);
        assert_eq!(values(&read(&repaired).0, "alice"), after, "cut at {cut}");
    }
}

#[test]
fn a_flipped_bit_loses_only_what_follows() {
    let (file, states) = file();
    for bit in 0..file.len() * 8 {
        let mut damaged = file.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        let Some(ParsedTotals { totals, valid_bytes: good, end, .. }) = Totals::parse(&damaged)
        else {
            assert!(bit / 8 < HEAD.len(), "bit {bit}");
            continue;
        };
        let (length, expected) =
            states.iter().rev().find(|(length, _)| *length <= bit / 8).unwrap();
        assert_eq!((good, &all(&totals)), (*length, expected), "bit {bit}");
        assert_ne!(end, LoadEnd::Complete, "bit {bit}");
    }
}

#[test]
fn missing_repeated_or_foreign_batches_are_refused() {
    let (file, states) = file();
    let lengths: Vec<usize> = states.iter().map(|(length, _)| *length).collect();
    let missing = [&file[..lengths[1]], &file[lengths[2]..]].concat();
    let repeated = [&file[..lengths[2]], &file[lengths[1]..]].concat();
    assert_eq!(read(&missing).1, lengths[1]);
    assert_eq!(read(&repeated).1, lengths[2]);
    // Some filesystems extend a file with zeros before they write the data.
    let blank = [&file[..lengths[2]], &[0; 5000]].concat();
    assert_eq!((read(&blank).1, read(&blank).2), (lengths[2], LoadEnd::Truncated));
    let garbage = [&file[..lengths[2]], &[0xa5; 5000]].concat();
    assert_eq!((read(&garbage).1, read(&garbage).2), (lengths[2], LoadEnd::Damaged));
}

#[test]
fn other_files_are_not_parsed() {
    for other in [&b"mtbox state 2\n"[..], b"[secrets]\n", b"\0", b"mtbox state 1\r\n"] {
        assert!(Totals::parse(other).is_none());
    }
}

/// The CRC is right, so only the content can be the reason.
#[test]
fn impossible_content_ends_the_parsing() {
    let new = |name: &[u8], numbers: &[u8]| [&[0, name.len() as u8], name, numbers].concat();
    let most = [&[0xff; 9][..], &[1]].concat();
    // The accounts 0 to 2 exist, so the first content is valid.
    let contents: [&[u8]; 9] = [
        &[1, 0, 0, 0],
        &[0x83, 1, 0, 0, 0],
        &[1, 5, 5, 0, 1, 6, 6, 0, 0x83, 1, 0, 0, 0],
        &new(b"a", &[1, 2, 1, 0]),
        &new(b"a", &[1, 2, 3]),
        &new(b"\xff", &[1, 2, 2, 0]),
        &[new(b"a", &most), vec![0, 0, 0, 7, 1, 0, 0]].concat(),
        &[&[0][..], &most, b"a"].concat(),
        &[&[0, 0xff, 0xff, 0xff, 1], &b"a".repeat(100)[..]].concat(),
    ];
    let (good, _) = file();
    let (before, ..) = read(&good);
    for (at, content) in contents.into_iter().enumerate() {
        let mut bytes = vec![content.len() as u8];
        bytes.extend_from_slice(content);
        let sum = crc32(before.chain, &bytes);
        let (totals, length, end) = read(&[&good[..], &bytes, &sum.to_le_bytes()].concat());
        assert_eq!(end == LoadEnd::Complete, at == 0, "{content:?}");
        assert_eq!(length > good.len(), at == 0, "{content:?}");
        assert_eq!(all(&totals), all(&before), "{content:?}");
        assert_eq!(totals.next_number, 3, "no account is added: {content:?}");
    }
}

/// A user who was dropped and is added again is in the file twice until the next snapshot.
#[test]
fn of_two_accounts_with_one_name_the_last_one_wins() {
    let content = [0, 1, b'a', 1, 0, 0, 0, 0, 1, b'b', 5, 0, 0, 0, 0, 1, b'a', 7, 0, 0, 0];
    let bytes = [&[content.len() as u8][..], &content].concat();
    let (totals, _, end) = read(&[HEAD, &bytes, &crc32(0, &bytes).to_le_bytes()].concat());
    assert_eq!((end, totals.len(), totals.next_number), (LoadEnd::Complete, 2, 3));
    assert_eq!((values(&totals, "a"), values(&totals, "b")), ((7, 0, 0), (5, 0, 0)));
}

#[test]
fn session_counters_start_at_zero_and_totals_continue() {
    let mut totals = Totals::default();
    totals.update([counted("alice", 10, 20, NOON)].into_iter(), Some(NOON));
    let file = totals.snapshot().bytes;
    let (mut totals, ..) = read(&file);
    totals.update([counted("alice", 1, 2, 0)].into_iter(), Some(NOON + 60));
    assert_eq!(values(&totals, "alice"), (10, 20, NOON), "the base of the counters");
    let again = totals.snapshot().bytes;
    assert_eq!(values(&read(&again).0, "alice"), (11, 22, NOON));
}

#[test]
fn a_user_who_is_added_again_within_ninety_days_keeps_the_totals() {
    let mut totals = Totals::default();
    totals.update(
        [counted("alice", 10, 20, NOON), counted("bob", 1, 1, NOON)].into_iter(),
        Some(NOON),
    );
    let bob = || [counted("bob", 1, 1, NOON)].into_iter();
    totals.update(bob(), Some(NOON));
    totals.update(bob(), Some(NOON + 89 * DAY));
    let (mut totals, ..) = read(&totals.snapshot().bytes);
    totals.update([counted("alice", 5, 5, 0)].into_iter(), Some(NOON + 90 * DAY));
    let (back, ..) = read(&totals.snapshot().bytes);
    assert_eq!(values(&back, "alice"), (15, 25, NOON));
    assert_eq!(back.find("alice").unwrap().current.removed_s, 0, "is in the config again");

    totals.update([].into_iter(), Some(NOON + 90 * DAY));
    totals.update([].into_iter(), Some(NOON + 181 * DAY));
    assert_eq!(values(&totals, "alice"), (0, 0, 0));
    assert_eq!(totals.snapshot().bytes, HEAD);
}

#[test]
fn a_user_removed_at_an_unknown_time_is_marked_when_the_time_is_known() {
    let mut totals = Totals::default();
    totals.update([counted("alice", 10, 20, 0)].into_iter(), None);
    totals.update([].into_iter(), None);
    totals.update([].into_iter(), Some(NOON));
    totals.update([].into_iter(), Some(NOON + 80 * DAY));
    assert_eq!(values(&totals, "alice"), (10, 20, 0));
    totals.update([].into_iter(), Some(NOON + 91 * DAY));
    assert!(totals.is_empty());
}

#[test]
fn removed_trafficare_bounded_and_the_first_are_dropped_first() {
    let mut totals = Totals::default();
    for n in 0..1000 {
        let (name, at) = (format!("former {n}"), NOON + n);
        totals.update([counted("alice", 1, 1, at), counted(&name, 1, 1, at)].into_iter(), Some(at));
    }
    totals.update([counted("alice", 1, 1, NOON)].into_iter(), Some(NOON + 1000));
    assert_eq!(totals.len(), 1 + 2 + 64);
    assert_eq!(values(&totals, "former 999").0, 1);
    assert_eq!(values(&totals, "former 934").0, 1);
    assert_eq!(values(&totals, "former 933").0, 0);
}

#[test]
fn last_seen_goes_back_only_when_it_was_far_ahead() {
    let mut totals = Totals::default();
    totals.update([counted("alice", 1, 1, NOON)].into_iter(), Some(NOON));
    let (mut totals, ..) = read(&totals.snapshot().bytes);
    for wall_s in [None, Some(NOON - 30 * DAY)] {
        let seen_s = wall_s.unwrap_or(0);
        totals.update([counted("alice", 2, 2, seen_s)].into_iter(), wall_s);
        assert_eq!(totals.find("alice").unwrap().current.seen_s, NOON, "{wall_s:?}");
    }
    let ahead = NOON + 80 * YEAR_S;
    totals.update([counted("alice", 2, 2, ahead)].into_iter(), Some(ahead));
    let mut file = totals.snapshot().bytes;
    let (mut totals, ..) = read(&file);
    totals.update([counted("alice", 1, 1, NOON + 5)].into_iter(), Some(NOON + 9));
    append(&mut file, &mut totals);
    assert_eq!(values(&read(&file).0, "alice").2, NOON + 5);
}

#[test]
fn another_file_gets_what_was_not_written_before() {
    let users = |n: u64| [counted("alice", n, n, NOON), counted("bob", n, 0, 0)].into_iter();
    let mut totals = Totals::default();
    totals.update(users(10), Some(NOON));
    let before = totals.snapshot();
    totals.mark_written(&before);
    totals.update(users(15), Some(NOON));
    // The totals are right whether the write of the last five bytes succeeded or not.
    let mut file = before.bytes.clone();
    file.extend_from_slice(&totals.batch().bytes);
    for (found, wanted) in [(before.bytes, 18), (file, 23), (HEAD.to_vec(), 8)] {
        let mut totals = Totals { accounts: totals.accounts.clone(), ..Totals::default() };
        totals.rebase(read(&found).0);
        totals.update(users(18), Some(NOON));
        let end = [&found[..], &totals.batch().bytes].concat();
        assert_eq!(values(&read(&end).0, "alice").0, wanted);
        let sum = totals.base("alice").bytes_in.wrapping_add(18);
        assert_eq!(sum, wanted, "base and counters");
    }
}

#[test]
fn a_batch_is_a_few_bytes() {
    let mut totals = Totals::default();
    let mut file = totals.snapshot().bytes;
    let mut sizes = Vec::new();
    for step in 1..100 {
        let bytes = step * 600_000_000;
        let one = counted("alice", bytes / 100, bytes, NOON + step * 600);
        totals.update([one].into_iter(), Some(NOON + step * 600));
        sizes.push(append(&mut file, &mut totals));
    }
    assert!(sizes[1..].iter().all(|size| *size <= 17), "{sizes:?}");
}

proptest! {
    #[test]
    fn any_bytes_can_be_parsed_and_appended_to(
        noise in proptest::collection::vec(any::<u8>(), 0..300),
        at in 0..400usize,
        over in any::<bool>(),
    ) {
        let (mut bytes, _) = file();
        let at = at.min(bytes.len());
        if over {
            let end = bytes.len().min(at + noise.len());
            bytes[at..end].copy_from_slice(&noise[..end - at]);
        } else {
            bytes.splice(at.., noise);
        }
        if let Some(ParsedTotals { mut totals, valid_bytes: good, .. }) = Totals::parse(&bytes)
        {
            prop_assert!(good <= bytes.len());
            totals.update([counted("alice", u64::MAX, 1, 1)].into_iter(), Some(NOON));
            let mut repaired = bytes[..good].to_vec();
            if good == 0 {
                repaired = totals.snapshot().bytes;
            } else {
                append(&mut repaired, &mut totals);
            }
            prop_assert_eq!(read(&repaired).2, LoadEnd::Complete);
        }
    }

    #[test]
    fn any_trafficare_read_back(
        traffic in proptest::collection::btree_map(".{0,12}", any::<(u64, u64, u32)>(), 0..80),
        split in 0..80usize,
    ) {
        let users = || traffic.iter().map(|(name, (bytes_in, bytes_out, seen))| {
            counted(name, *bytes_in, *bytes_out, u64::from(*seen))
        });
        let mut totals = Totals::default();
        let mut bytes = totals.snapshot().bytes;
        totals.update(users().take(split), None);
        append(&mut bytes, &mut totals);
        totals.update(users(), None);
        append(&mut bytes, &mut totals);
        let (found, good, end) = read(&bytes);
        prop_assert_eq!((good, end), (bytes.len(), LoadEnd::Complete));
        for one in users() {
            let wanted = (one.bytes_in, one.bytes_out, one.seen_s.unwrap_or(0));
            prop_assert_eq!(values(&found, one.name), wanted);
        }
    }
}

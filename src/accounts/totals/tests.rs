//! Every cut and every flipped bit of a file, and what becomes of people who go and come back.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const NOON: u64 = 1_800_000_000;
const DAY: u64 = 86_400;

fn counted(name: &str, bytes_in: u64, bytes_out: u64, seen_s: u64) -> UserCounters<'_> {
    UserCounters { name, bytes_in, bytes_out, seen_s: (seen_s > 0).then_some(seen_s) }
}

fn totals(ledger: &Totals, name: &str) -> (u64, u64, u64) {
    let UserTotals { bytes_in, bytes_out, seen_s, .. } = ledger.base(name);
    (bytes_in, bytes_out, seen_s)
}

/// What a reader finds: everybody with what is known of them.
fn all(ledger: &Totals) -> BTreeMap<String, UserTotals> {
    let accounts = ledger.accounts.iter();
    accounts.map(|(name, account)| (name.clone(), account.filed)).collect()
}

fn append(file: &mut Vec<u8>, ledger: &mut Totals) -> usize {
    let batch = ledger.batch();
    file.extend_from_slice(&batch.bytes);
    ledger.mark_written(&batch);
    batch.bytes.len()
}

fn read(file: &[u8]) -> (Totals, usize, LoadEnd) {
    Totals::read(file).expect("one of ours")
}

/// How long a file is and what it says.
type Stand = (usize, BTreeMap<String, UserTotals>);

/// A file of several batches, and what there was after each.
fn file() -> (Vec<u8>, Vec<Stand>) {
    let mut ledger = Totals::default();
    let mut file = ledger.snapshot().bytes;
    let mut states = vec![(file.len(), all(&ledger))];
    for step in 1..=4 {
        let people = [
            counted("alice", step * 1000, step * 1_000_000_007, NOON + step * 600),
            counted("bob", 77, 0, if step < 3 { 0 } else { NOON }),
            counted("idle", 0, 0, 0),
            counted("zoë \"", step / 4 * 5, 0, 0),
        ];
        let here = people.into_iter().filter(|one| one.name != "bob" || step < 4);
        ledger.update(here, Some(NOON + step * 600));
        append(&mut file, &mut ledger);
        let said = all(&ledger).into_iter().filter(|(name, _)| name != "idle");
        let said = said.filter(|(_, totals)| *totals != UserTotals::default());
        states.push((file.len(), said.collect()));
    }
    (file, states)
}

#[test]
fn what_was_written_is_read_back() {
    let (file, states) = file();
    let (ledger, good, ending) = read(&file);
    assert_eq!((good, ending), (file.len(), LoadEnd::Complete));
    assert_eq!(all(&ledger), states.last().unwrap().1);
    assert_eq!(totals(&ledger, "alice"), (4000, 4_000_000_028, NOON + 2400));
    assert_eq!(totals(&ledger, "bob"), (77, 0, NOON));
    assert_eq!(ledger.find("bob").unwrap().now.left_s, NOON + 2400);
    assert_eq!(totals(&ledger, "zoë \""), (5, 0, 0));
    assert_eq!(totals(&ledger, "idle"), (0, 0, 0));
    assert!(!ledger.has_changes() && ledger.batch().bytes.is_empty());
    let folded = read(&ledger.snapshot().bytes);
    assert_eq!((all(&folded.0), folded.2), (all(&ledger), LoadEnd::Complete));
    assert!(folded.1 < file.len());
}

#[test]
fn a_file_cut_at_any_byte_says_what_it_said_before_the_last_batch() {
    let (file, states) = file();
    for end in 0..file.len() {
        let (mut ledger, good, ending) = read(&file[..end]);
        let state = states.iter().rev().find(|(length, _)| *length <= end);
        let (length, said) = state.cloned().unwrap_or_default();
        assert_eq!((good, all(&ledger)), (length, said), "cut at {end}");
        assert_eq!(ending == LoadEnd::Complete, good == end, "cut at {end}");
        assert_ne!(ending, LoadEnd::Damaged);
        // And goes on from there.
        let mut mended = if good == 0 { ledger.snapshot().bytes } else { file[..good].to_vec() };
        let before = totals(&ledger, "alice");
        ledger.update([counted("alice", 5, 6, 0)].into_iter(), None);
        append(&mut mended, &mut ledger);
        let after = (before.0 + 5, before.1 + 6, before.2);
        assert_eq!(totals(&read(&mended).0, "alice"), after, "cut at {end}");
    }
}

#[test]
fn a_flipped_bit_costs_only_what_follows() {
    let (file, states) = file();
    for bit in 0..file.len() * 8 {
        let mut torn = file.clone();
        torn[bit / 8] ^= 1 << (bit % 8);
        let Some((ledger, good, ending)) = Totals::read(&torn) else {
            assert!(bit / 8 < HEAD.len(), "bit {bit}");
            continue;
        };
        let (length, said) = states.iter().rev().find(|(length, _)| *length <= bit / 8).unwrap();
        assert_eq!((good, &all(&ledger)), (*length, said), "bit {bit}");
        assert_ne!(ending, LoadEnd::Complete, "bit {bit}");
    }
}

#[test]
fn batches_that_are_missing_doubled_or_of_another_file_fit_nowhere() {
    let (file, states) = file();
    let lengths: Vec<usize> = states.iter().map(|(length, _)| *length).collect();
    let missing = [&file[..lengths[1]], &file[lengths[2]..]].concat();
    let doubled = [&file[..lengths[2]], &file[lengths[1]..]].concat();
    assert_eq!(read(&missing).1, lengths[1]);
    assert_eq!(read(&doubled).1, lengths[2]);
    // A filesystem that made room and was not given the time to fill it.
    let blank = [&file[..lengths[2]], &[0; 5000]].concat();
    assert_eq!((read(&blank).1, read(&blank).2), (lengths[2], LoadEnd::Truncated));
    let garbage = [&file[..lengths[2]], &[0xa5; 5000]].concat();
    assert_eq!((read(&garbage).1, read(&garbage).2), (lengths[2], LoadEnd::Damaged));
}

#[test]
fn what_is_no_ledger_is_not_read() {
    for other in [&b"mtbox state 2\n"[..], b"[secrets]\n", b"\0", b"mtbox state 1\r\n"] {
        assert!(Totals::read(other).is_none());
    }
}

/// The sum is right, so nothing but the content can be the reason.
#[test]
fn impossible_contents_end_the_reading() {
    let new = |name: &[u8], numbers: &[u8]| [&[0, name.len() as u8], name, numbers].concat();
    let most = [&[0xff; 9][..], &[1]].concat();
    // Numbers 0 to 2 are known there, so the first one is fine.
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
        let (ledger, length, ending) = read(&[&good[..], &bytes, &sum.to_le_bytes()].concat());
        assert_eq!(ending == LoadEnd::Complete, at == 0, "{content:?}");
        assert_eq!(length > good.len(), at == 0, "{content:?}");
        assert_eq!(all(&ledger), all(&before), "{content:?}");
        assert_eq!(ledger.numbered, 3, "nobody comes of it: {content:?}");
    }
}

/// Whoever was forgotten and comes back is in the file twice until that is written as a whole.
#[test]
fn of_two_accounts_of_a_name_the_last_one_holds() {
    let content = [0, 1, b'a', 1, 0, 0, 0, 0, 1, b'b', 5, 0, 0, 0, 0, 1, b'a', 7, 0, 0, 0];
    let bytes = [&[content.len() as u8][..], &content].concat();
    let (ledger, _, ending) = read(&[HEAD, &bytes, &crc32(0, &bytes).to_le_bytes()].concat());
    assert_eq!((ending, ledger.len(), ledger.numbered), (LoadEnd::Complete, 2, 3));
    assert_eq!((totals(&ledger, "a"), totals(&ledger, "b")), ((7, 0, 0), (5, 0, 0)));
}

#[test]
fn session_counters_start_at_zero_and_totals_go_on() {
    let mut ledger = Totals::default();
    ledger.update([counted("alice", 10, 20, NOON)].into_iter(), Some(NOON));
    let file = ledger.snapshot().bytes;
    let (mut ledger, ..) = read(&file);
    ledger.update([counted("alice", 1, 2, 0)].into_iter(), Some(NOON + 60));
    assert_eq!(totals(&ledger, "alice"), (10, 20, NOON), "what counters are added to");
    let again = ledger.snapshot().bytes;
    assert_eq!(totals(&read(&again).0, "alice"), (11, 22, NOON));
}

#[test]
fn a_person_who_left_and_comes_back_within_ninety_days_finds_everything() {
    let mut ledger = Totals::default();
    ledger.update(
        [counted("alice", 10, 20, NOON), counted("bob", 1, 1, NOON)].into_iter(),
        Some(NOON),
    );
    let bob = || [counted("bob", 1, 1, NOON)].into_iter();
    ledger.update(bob(), Some(NOON));
    ledger.update(bob(), Some(NOON + 89 * DAY));
    let (mut ledger, ..) = read(&ledger.snapshot().bytes);
    ledger.update([counted("alice", 5, 5, 0)].into_iter(), Some(NOON + 90 * DAY));
    let (back, ..) = read(&ledger.snapshot().bytes);
    assert_eq!(totals(&back, "alice"), (15, 25, NOON));
    assert_eq!(back.find("alice").unwrap().now.left_s, 0, "is here again");

    ledger.update([].into_iter(), Some(NOON + 90 * DAY));
    ledger.update([].into_iter(), Some(NOON + 181 * DAY));
    assert_eq!(totals(&ledger, "alice"), (0, 0, 0));
    assert_eq!(ledger.snapshot().bytes, HEAD);
}

#[test]
fn who_leaves_while_the_time_is_unknown_is_marked_when_it_is_known() {
    let mut ledger = Totals::default();
    ledger.update([counted("alice", 10, 20, 0)].into_iter(), None);
    ledger.update([].into_iter(), None);
    ledger.update([].into_iter(), Some(NOON));
    ledger.update([].into_iter(), Some(NOON + 80 * DAY));
    assert_eq!(totals(&ledger, "alice"), (10, 20, 0));
    ledger.update([].into_iter(), Some(NOON + 91 * DAY));
    assert!(ledger.is_empty());
}

#[test]
fn those_who_left_are_bounded_and_the_first_go_first() {
    let mut ledger = Totals::default();
    for n in 0..1000 {
        let (name, at) = (format!("guest {n}"), NOON + n);
        ledger.update([counted("alice", 1, 1, at), counted(&name, 1, 1, at)].into_iter(), Some(at));
    }
    ledger.update([counted("alice", 1, 1, NOON)].into_iter(), Some(NOON + 1000));
    assert_eq!(ledger.len(), 1 + 2 + 64);
    assert_eq!(totals(&ledger, "guest 999").0, 1);
    assert_eq!(totals(&ledger, "guest 934").0, 1);
    assert_eq!(totals(&ledger, "guest 933").0, 0);
}

#[test]
fn last_seen_goes_back_only_when_it_was_far_ahead() {
    let mut ledger = Totals::default();
    ledger.update([counted("alice", 1, 1, NOON)].into_iter(), Some(NOON));
    let (mut ledger, ..) = read(&ledger.snapshot().bytes);
    for wall_s in [None, Some(NOON - 30 * DAY)] {
        let seen_s = wall_s.unwrap_or(0);
        ledger.update([counted("alice", 2, 2, seen_s)].into_iter(), wall_s);
        assert_eq!(ledger.find("alice").unwrap().now.seen_s, NOON, "{wall_s:?}");
    }
    let ahead = NOON + 80 * YEAR_S;
    ledger.update([counted("alice", 2, 2, ahead)].into_iter(), Some(ahead));
    let mut file = ledger.snapshot().bytes;
    let (mut ledger, ..) = read(&file);
    ledger.update([counted("alice", 1, 1, NOON + 5)].into_iter(), Some(NOON + 9));
    append(&mut file, &mut ledger);
    assert_eq!(totals(&read(&file).0, "alice").2, NOON + 5);
}

#[test]
fn another_file_gets_what_was_not_written_yet() {
    let people = |n: u64| [counted("alice", n, n, NOON), counted("bob", n, 0, 0)].into_iter();
    let mut ledger = Totals::default();
    ledger.update(people(10), Some(NOON));
    let before = ledger.snapshot();
    ledger.mark_written(&before);
    ledger.update(people(15), Some(NOON));
    // Whether the last five arrived or not, a second reading sets it right.
    let mut file = before.bytes.clone();
    file.extend_from_slice(&ledger.batch().bytes);
    for (found, wanted) in [(before.bytes, 18), (file, 23), (HEAD.to_vec(), 8)] {
        let mut ledger = Totals { accounts: ledger.accounts.clone(), ..Totals::default() };
        ledger.rebase(read(&found).0);
        ledger.update(people(18), Some(NOON));
        let end = [&found[..], &ledger.batch().bytes].concat();
        assert_eq!(totals(&read(&end).0, "alice").0, wanted);
        let shown = ledger.base("alice").bytes_in.wrapping_add(18);
        assert_eq!(shown, wanted, "what counters are added to fits");
    }
}

#[test]
fn a_batch_is_a_few_bytes() {
    let mut ledger = Totals::default();
    let mut file = ledger.snapshot().bytes;
    let mut sizes = Vec::new();
    for step in 1..100 {
        let bytes = step * 600_000_000;
        let one = counted("alice", bytes / 100, bytes, NOON + step * 600);
        ledger.update([one].into_iter(), Some(NOON + step * 600));
        sizes.push(append(&mut file, &mut ledger));
    }
    assert!(sizes[1..].iter().all(|size| *size <= 17), "{sizes:?}");
}

proptest! {
    #[test]
    fn whatever_the_bytes_reading_ends_and_goes_on(
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
        if let Some((mut ledger, good, _)) = Totals::read(&bytes) {
            prop_assert!(good <= bytes.len());
            ledger.update([counted("alice", u64::MAX, 1, 1)].into_iter(), Some(NOON));
            let mut mended = bytes[..good].to_vec();
            if good == 0 {
                mended = ledger.snapshot().bytes;
            } else {
                append(&mut mended, &mut ledger);
            }
            prop_assert_eq!(read(&mended).2, LoadEnd::Complete);
        }
    }

    #[test]
    fn any_crowd_comes_back(
        crowd in proptest::collection::btree_map(".{0,12}", any::<(u64, u64, u32)>(), 0..80),
        split in 0..80usize,
    ) {
        let people = || crowd.iter().map(|(name, (bytes_in, bytes_out, seen))| {
            counted(name, *bytes_in, *bytes_out, u64::from(*seen))
        });
        let mut ledger = Totals::default();
        let mut bytes = ledger.snapshot().bytes;
        ledger.update(people().take(split), None);
        append(&mut bytes, &mut ledger);
        ledger.update(people(), None);
        append(&mut bytes, &mut ledger);
        let (found, good, ending) = read(&bytes);
        prop_assert_eq!((good, ending), (bytes.len(), LoadEnd::Complete));
        for one in people() {
            let wanted = (one.bytes_in, one.bytes_out, one.seen_s.unwrap_or(0));
            prop_assert_eq!(totals(&found, one.name), wanted);
        }
    }
}

//! Totals of the users that survive a restart: the current values, the part of them that is in the
//! file, and the file format. Does no I/O; `daemon/server/totals_file.rs` reads and writes the
//! file.
//!
//! The file is a header and batches; a batch holds what changed since the batch before. A batch is
//! its length, its content and a CRC-32 that continues from that of the batch before, so a batch
//! that is missing, repeated, or left over from an older file fails the check. The end of a process
//! adds a last batch with the newest digests of hellos, which the next process cuts off.

mod varint;

use varint::{VarintReader, crc32, put_number, put_signed};

use crate::util::order::sorted;
use crate::util::sorted_map;

/// Totals of one user over all restarts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UserTotals {
    /// Payload bytes from the client.
    pub bytes_in: u64,
    /// Payload bytes to the client.
    pub bytes_out: u64,
    /// When last seen, in Unix seconds; 0 = never, or at an unknown time.
    pub seen_s: u64,
    /// When found to be missing from the config, in Unix seconds; 0 = is in the config, or the
    /// time was unknown.
    removed_s: u64,
}

/// Counters of one user since the start of this process.
#[derive(Debug, Clone, Copy)]
pub struct UserCounters<'a> {
    /// The name in `[secrets]`.
    pub name: &'a str,
    /// Payload bytes from the client.
    pub bytes_in: u64,
    /// Payload bytes to the client.
    pub bytes_out: u64,
    /// When last seen, in Unix seconds; `None` = never, or at an unknown time.
    pub seen_s: Option<u64>,
}

/// Totals of every user in the config, and of users who were removed lately.
#[derive(Debug, Default)]
pub struct Totals {
    /// Sorted by name; while a file is parsed, in the order of the numbers.
    accounts: Vec<(String, TotalsEntry)>,
    /// The file refers to an account by the order of its first appearance; this is the next number.
    next_number: u64,
    /// The CRC-32 of the last batch.
    chain: u32,
}

#[derive(Debug, Clone, Copy, Default)]
struct TotalsEntry {
    /// The number in the file; `None` = not in the file yet.
    number: Option<u64>,
    is_configured: bool,
    /// The value when the counters of this process were zero. The byte counts may wrap below zero,
    /// see [`Totals::rebase`].
    base: UserTotals,
    /// The current value.
    current: UserTotals,
    /// The value in the file.
    written: UserTotals,
}

/// Bytes to write to the file. [`Totals::mark_written`] takes it once they are written.
#[derive(Debug)]
pub struct Batch {
    /// To append to the file, or the whole new file if [`Totals::snapshot`] made it.
    pub bytes: Vec<u8>,
    chain: u32,
    is_snapshot: bool,
}

/// What the replay store keeps over a restart.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SavedReplays {
    /// The newest digests, oldest first, XORed to eight bytes. They were visible on the network,
    /// and show nothing about secrets.
    pub digests: Vec<u64>,
    /// Hellos from before this time count as replays, in Unix seconds.
    pub valid_from_s: u64,
}

/// The result of [`Totals::parse`].
#[derive(Debug, Default)]
pub struct ParsedTotals {
    /// What the last process has saved at its end; `None` = it was interrupted.
    pub replays: Option<SavedReplays>,
    /// The totals in the valid part of the file.
    pub totals: Totals,
    /// Length of the valid part in bytes, without the saved replays; 0 when even the header is
    /// incomplete.
    pub valid_bytes: usize,
    /// What follows the valid part.
    pub end: LoadEnd,
    /// How many bytes follow the valid part and the saved replays.
    pub lost_bytes: usize,
}

/// What follows the valid part of a file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LoadEnd {
    /// Nothing: the whole file is valid.
    #[default]
    Complete,
    /// An incomplete batch, for example after a power failure during a write.
    Truncated,
    /// Damaged data.
    Damaged,
}

impl Totals {
    /// Parses a file up to the first batch that is not valid. `None` = the header is not that of a
    /// totals file of this version.
    pub fn parse(bytes: &[u8]) -> Option<ParsedTotals> {
        let mut totals = Self::default();
        let Some(batches) = bytes.strip_prefix(HEAD) else {
            let end = if bytes.is_empty() { LoadEnd::Complete } else { LoadEnd::Truncated };
            return HEAD.starts_with(bytes).then_some(ParsedTotals {
                end,
                lost_bytes: bytes.len(),
                ..ParsedTotals::default()
            });
        };
        let (mut rest, mut replays, mut lost_bytes) = (batches, None, None);
        let end = loop {
            let mut reader = VarintReader(rest);
            let Some(content) = reader.number().and_then(|length| reader.bytes(length)) else {
                // A power failure loses at most the batch that was being written, and few batches
                // are longer than this.
                break match rest.len() {
                    0 => LoadEnd::Complete,
                    left if left <= 2 * BATCH_FULL => LoadEnd::Truncated,
                    _ => LoadEnd::Damaged,
                };
            };
            let covered = rest.len() - reader.0.len();
            let (Some(sum), Some(covered)) = (reader.bytes(CRC_BYTES), rest.get(..covered)) else {
                break LoadEnd::Truncated;
            };
            let chain = crc32(totals.chain, covered);
            if content.is_empty() || *sum != chain.to_le_bytes() {
                // Some filesystems extend a file with zeros before they write the data.
                let is_blank = rest.iter().all(|byte| *byte == 0);
                break if is_blank { LoadEnd::Truncated } else { LoadEnd::Damaged };
            }
            if let Some(saved) = read_replays(content) {
                // It is the last batch.
                lost_bytes = Some(reader.0.len());
                replays = reader.0.is_empty().then_some(saved);
                break if reader.0.is_empty() { LoadEnd::Complete } else { LoadEnd::Damaged };
            }
            if totals.read_batch(content).is_none() {
                break LoadEnd::Damaged;
            }
            totals.chain = chain;
            rest = reader.0;
        };
        totals.next_number = totals.accounts.len() as u64;
        sorted_map::sort(&mut totals.accounts);
        let lost_bytes = lost_bytes.unwrap_or(rest.len());
        let valid_bytes = bytes.len() - rest.len();
        Some(ParsedTotals { replays, totals, valid_bytes, lost_bytes, end })
    }

    /// Applies a batch completely or not at all. Its CRC is right, so content that is refused here
    /// was not written by mtbox.
    fn read_batch(&mut self, content: &[u8]) -> Option<()> {
        let (mut reader, known) = (VarintReader(content), self.accounts.len());
        let mut undo = Vec::new();
        while !reader.0.is_empty() {
            let entry = self.read_entry(&mut reader, &mut undo);
            let entries = undo.len().max(self.accounts.len());
            if entry.filter(|()| entries <= ACCOUNTS_MAX).is_none() {
                for (at, before) in undo.into_iter().rev() {
                    if let Some((_, account)) = self.accounts.get_mut(at) {
                        *account = before;
                    }
                }
                self.accounts.truncate(known);
                return None;
            }
        }
        Some(())
    }

    /// Applies one entry of a batch; pushes the index and the old value of the account to `undo`.
    fn read_entry(
        &mut self,
        reader: &mut VarintReader<'_>,
        undo: &mut Vec<(usize, TotalsEntry)>,
    ) -> Option<()> {
        let (at, has_removed_s) = match reader.number()?.checked_sub(1) {
            None => {
                let length = reader.number().filter(|length| *length <= NAME_MAX)?;
                let name = std::str::from_utf8(reader.bytes(length)?).ok()?.to_owned();
                let at = self.accounts.len();
                let account = TotalsEntry { number: Some(at as u64), ..TotalsEntry::default() };
                self.accounts.push((name, account));
                (at, true)
            }
            Some(tag) => (usize::try_from(tag / 2).ok()?, tag % 2 == 1),
        };
        let (_, account) = self.accounts.get_mut(at)?;
        undo.push((at, *account));
        let totals = &mut account.written;
        totals.bytes_in = totals.bytes_in.checked_add(reader.number()?)?;
        totals.bytes_out = totals.bytes_out.checked_add(reader.number()?)?;
        totals.seen_s = totals.seen_s.checked_add_signed(reader.signed()?)?.min(TIME_MAX_S);
        if has_removed_s {
            totals.removed_s = reader.number()?;
        }
        (account.current, account.base) = (account.written, account.written);
        Some(())
    }

    fn find(&self, name: &str) -> Option<&TotalsEntry> {
        let at = sorted_map::find(&self.accounts, name)?;
        self.accounts.get(at).map(|(_, account)| account)
    }

    /// Searches the first `sorted` accounts; appends a new one, out of order, if none has the name.
    fn find_or_add(&mut self, name: &str, sorted: usize) -> Option<&mut TotalsEntry> {
        let at = sorted_map::find(self.accounts.get(..sorted)?, name).unwrap_or_else(|| {
            self.accounts.push((name.to_owned(), TotalsEntry::default()));
            self.accounts.len() - 1
        });
        self.accounts.get_mut(at).map(|(_, account)| account)
    }

    /// Updates the current values from the counters of all users in the config. A user who is
    /// missing keeps the totals for 90 days, so that one who was removed by mistake loses nothing;
    /// the number of such users is bounded. `wall_s` is the time in Unix seconds, if known.
    pub fn update<'a>(
        &mut self,
        users: impl Iterator<Item = UserCounters<'a>>,
        wall_s: Option<u64>,
    ) {
        for (_, account) in &mut self.accounts {
            account.is_configured = false;
        }
        let known = self.accounts.len();
        for UserCounters { name, bytes_in, bytes_out, seen_s } in users {
            let Some(account) = self.find_or_add(name, known) else { continue };
            let base = &mut account.base;
            if wall_s.is_some_and(|wall_s| base.seen_s > wall_s.saturating_add(YEAR_S)) {
                // The clock was far ahead when this time was written.
                base.seen_s = 0;
            }
            account.is_configured = true;
            account.current = UserTotals {
                bytes_in: base.bytes_in.wrapping_add(bytes_in),
                bytes_out: base.bytes_out.wrapping_add(bytes_out),
                seen_s: base.seen_s.max(seen_s.unwrap_or(0).min(TIME_MAX_S)),
                removed_s: 0,
            };
        }
        if self.accounts.len() > known {
            sorted_map::sort(&mut self.accounts);
        }
        for (_, account) in self.accounts.iter_mut().filter(|(_, account)| !account.is_configured) {
            if account.current.removed_s == 0 {
                account.current.removed_s = wall_s.unwrap_or(0);
            }
            // The counters of a user who is added again start at zero.
            account.base = account.current;
        }
        self.forget_removed(wall_s);
    }

    /// Drops users who were removed more than 90 days ago, and those removed first if there are too
    /// many. The file drops them with the next snapshot.
    fn forget_removed(&mut self, wall_s: Option<u64>) {
        let is_expired = |removed_s: u64| {
            removed_s != 0 && wall_s.is_some_and(|now_s| now_s.saturating_sub(removed_s) > KEEP_S)
        };
        self.accounts
            .retain(|(_, account)| account.is_configured || !is_expired(account.current.removed_s));
        // A user removed at an unknown time may have been removed just now.
        let removed_at = |account: &TotalsEntry| match account.current.removed_s {
            0 => u64::MAX,
            known => known,
        };
        let removed = self.accounts.iter().filter(|(_, account)| !account.is_configured);
        let removed: Vec<(u64, &str)> =
            removed.map(|(name, account)| (removed_at(account), name.as_str())).collect();
        let most = (self.accounts.len() - removed.len()) * 2 + REMOVED_EXTRA;
        let removed = sorted(&removed, &Ord::cmp);
        let last_dropped = removed.iter().rev().nth(most);
        if let Some((at, last)) = last_dropped.map(|(at, name)| (*at, (*name).to_owned())) {
            self.accounts.retain(|(name, account)| {
                account.is_configured || (removed_at(account), name) > (at, &last)
            });
        }
    }

    /// The value to add a user's counters to, wrapping, and the time when the user was last seen
    /// before this process started.
    pub fn base(&self, name: &str) -> UserTotals {
        self.find(name).map(|account| account.base).unwrap_or_default()
    }

    /// The number of users, including those who were removed.
    pub fn len(&self) -> usize {
        self.accounts.len()
    }

    /// Whether there are no users.
    pub fn is_empty(&self) -> bool {
        self.accounts.is_empty()
    }

    /// Whether [`Totals::batch`] would have content.
    pub fn has_changes(&self) -> bool {
        self.accounts.iter().any(|(_, account)| account.current != account.written)
    }

    /// What changed since the last write, to append to the file; empty if nothing changed.
    pub fn batch(&self) -> Batch {
        let mut writer = BatchWriter { chain: self.chain, ..BatchWriter::default() };
        for (name, account) in &self.accounts {
            if account.current != account.written {
                writer.put(name, account.number, &account.written, &account.current);
            }
        }
        writer.close();
        Batch { bytes: writer.out, chain: writer.chain, is_snapshot: false }
    }

    /// The last batch of a process, to append to the file.
    pub fn replay_batch(&self, saved: &SavedReplays) -> Vec<u8> {
        let mut writer = BatchWriter { chain: self.chain, ..BatchWriter::default() };
        put_number(&mut writer.content, REPLAYS);
        put_number(&mut writer.content, saved.valid_from_s);
        for digest in &saved.digests {
            writer.content.extend_from_slice(&digest.to_le_bytes());
        }
        writer.close();
        writer.out
    }

    /// A new file with the current values, which is as short as possible.
    pub fn snapshot(&self) -> Batch {
        let mut writer = BatchWriter { out: HEAD.to_vec(), ..BatchWriter::default() };
        let zero = UserTotals::default();
        for (name, account) in &self.accounts {
            if account.current != zero {
                writer.put(name, None, &zero, &account.current);
            }
        }
        writer.close();
        Batch { bytes: writer.out, chain: writer.chain, is_snapshot: true }
    }

    /// Records that a batch is in the file. It must be the last one made, with no other change
    /// since.
    pub fn mark_written(&mut self, batch: &Batch) {
        self.chain = batch.chain;
        if batch.is_snapshot {
            self.next_number = 0;
            for (_, account) in &mut self.accounts {
                (account.number, account.written) = (None, UserTotals::default());
            }
        }
        for (_, account) in &mut self.accounts {
            if account.current != account.written && account.number.is_none() {
                account.number = Some(self.next_number);
                self.next_number += 1;
            }
            account.written = account.current;
        }
    }

    /// Replaces the file by `file`, which was just parsed: another file, or the same one after a
    /// write that may have failed. Adds what this process has counted and not written.
    pub fn rebase(&mut self, file: Self) {
        let old = std::mem::replace(self, file);
        let known = self.accounts.len();
        for (name, was) in old.accounts {
            let Some(account) = self.find_or_add(&name, known) else { continue };
            let written = account.written;
            // A base below zero is right: the counters hold more than what is missing, and the sum
            // wraps back.
            let base =
                |file: u64, base: u64, written: u64| file.wrapping_add(base).wrapping_sub(written);
            let current = |file: u64, current: u64, written: u64| {
                file.saturating_add(current.saturating_sub(written))
            };
            account.is_configured = was.is_configured;
            account.base = UserTotals {
                bytes_in: base(written.bytes_in, was.base.bytes_in, was.written.bytes_in),
                bytes_out: base(written.bytes_out, was.base.bytes_out, was.written.bytes_out),
                seen_s: written.seen_s.max(was.base.seen_s),
                removed_s: was.base.removed_s,
            };
            account.current = UserTotals {
                bytes_in: current(written.bytes_in, was.current.bytes_in, was.written.bytes_in),
                bytes_out: current(written.bytes_out, was.current.bytes_out, was.written.bytes_out),
                seen_s: written.seen_s.max(was.current.seen_s),
                removed_s: was.current.removed_s,
            };
        }
        sorted_map::sort(&mut self.accounts);
    }
}

/// Reads the content of a batch of [`Totals::replay_batch`].
fn read_replays(content: &[u8]) -> Option<SavedReplays> {
    let mut reader = VarintReader(content);
    if reader.number()? != REPLAYS {
        return None;
    }
    let valid_from_s = reader.number()?;
    let (digests, rest) = reader.0.as_chunks();
    let digests = digests.iter().map(|bytes| u64::from_le_bytes(*bytes)).collect();
    rest.is_empty().then_some(SavedReplays { digests, valid_from_s })
}

/// Writes batches.
#[derive(Default)]
struct BatchWriter {
    out: Vec<u8>,
    /// Content of the batch in progress.
    content: Vec<u8>,
    chain: u32,
}

impl BatchWriter {
    fn put(&mut self, name: &str, number: Option<u64>, before: &UserTotals, now: &UserTotals) {
        let out = &mut self.content;
        let has_removed_s = number.is_none() || before.removed_s != now.removed_s;
        match number {
            Some(number) => put_number(out, 1 + number * 2 + u64::from(has_removed_s)),
            None => {
                put_number(out, 0);
                put_number(out, name.len() as u64);
                out.extend_from_slice(name.as_bytes());
            }
        }
        put_number(out, now.bytes_in.saturating_sub(before.bytes_in));
        put_number(out, now.bytes_out.saturating_sub(before.bytes_out));
        put_signed(out, now.seen_s.wrapping_sub(before.seen_s).cast_signed());
        if has_removed_s {
            put_number(out, now.removed_s);
        }
        if self.content.len() >= BATCH_FULL {
            self.close();
        }
    }

    fn close(&mut self) {
        if self.content.is_empty() {
            return;
        }
        let start = self.out.len();
        put_number(&mut self.out, self.content.len() as u64);
        self.out.append(&mut self.content);
        self.chain = crc32(self.chain, self.out.get(start..).unwrap_or_default());
        self.out.extend_from_slice(&self.chain.to_le_bytes());
    }
}

/// The header, with the version of the format.
const HEAD: &[u8] = b"mtbox state 1\n";
const CRC_BYTES: u64 = 4;
/// Begins the content of a batch with replays. No account has this tag.
const REPLAYS: u64 = u32::MAX as u64;
/// A batch with this many bytes of content is closed, so that damage costs few users their totals.
const BATCH_FULL: usize = 1024;
/// Longest name in bytes: the size limit of a config file.
const NAME_MAX: u64 = 1 << 20;
/// Most accounts of a file: three times as many users as a config file can hold.
const ACCOUNTS_MAX: usize = 100_000;
/// How long the totals of removed users are kept.
const KEEP_S: u64 = 90 * 86_400;
/// Removed users are kept up to twice the number of configured users, plus this number.
const REMOVED_EXTRA: usize = 64;
const YEAR_S: u64 = 365 * 86_400;
/// Start of the year 9999: RFC 3339 has four digits for the year.
const TIME_MAX_S: u64 = 253_370_764_800;

#[cfg(test)]
mod tests;

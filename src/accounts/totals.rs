//! Totals of the people that survive a restart: what they are, what of it is on file, and the
//! bytes between the two. The file is a head and batches, each of which tells what has changed
//! since the one before. No file is touched here; `daemon/state.rs` does that.
//!
//! A batch is its length, its content and a CRC-32 that goes on from that of the batch before, so
//! a batch that is missing, doubled or left over from an older file fits nowhere.

mod varint;

use varint::{VarintReader, put_number, put_signed};

use crate::util::sorted_map;

pub use varint::crc32;

/// Of one person, over all restarts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UserTotals {
    /// Payload bytes from the client.
    pub bytes_in: u64,
    /// Payload bytes to the client.
    pub bytes_out: u64,
    /// When last seen, in Unix seconds; 0 = never, or at a time that nobody knew.
    pub seen_s: u64,
    /// When found to have left the config, in Unix seconds; 0 = is in it, or nobody knew the time.
    left_s: u64,
}

/// What one person's counters say: since the start of this process.
#[derive(Debug, Clone, Copy)]
pub struct UserCounters<'a> {
    /// The name in `[secrets]`.
    pub name: &'a str,
    /// Payload bytes from the client.
    pub bytes_in: u64,
    /// Payload bytes to the client.
    pub bytes_out: u64,
    /// When last seen, in Unix seconds, if that is known.
    pub seen_s: Option<u64>,
}

/// Everybody who is, or lately was, in the config.
#[derive(Debug, Default)]
pub struct Totals {
    /// In the order of the names; while a file is read, in that of the numbers.
    accounts: Vec<(String, TotalsEntry)>,
    /// Accounts are known by the order in which they came into the file; this is the next number.
    numbered: u64,
    /// The CRC-32 of the last batch.
    chain: u32,
}

#[derive(Debug, Clone, Copy, Default)]
struct TotalsEntry {
    /// The place in the file, once there.
    number: Option<u64>,
    is_here: bool,
    /// What it was when the counters of this process stood at zero. The byte counts may wrap below
    /// zero, see [`Totals::rebase`].
    base: UserTotals,
    /// What it is.
    now: UserTotals,
    /// What the file says.
    filed: UserTotals,
}

/// Bytes to write, and what the ledger has to remember when they are written.
#[derive(Debug)]
pub struct Batch {
    /// To be appended; or the whole file.
    pub bytes: Vec<u8>,
    chain: u32,
    is_whole: bool,
}

/// How reading ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoadEnd {
    /// All of the file is good.
    Complete,
    /// It breaks off: what was being written when the power went.
    Truncated,
    /// What follows is damaged.
    Damaged,
}

impl Totals {
    /// Reads a file up to the first batch that is not good. Gives back how many bytes are; 0 when
    /// even the head is incomplete. `None` = this is no ledger, or not one of this version.
    pub fn read(bytes: &[u8]) -> Option<(Self, usize, LoadEnd)> {
        let mut ledger = Self::default();
        let Some(batches) = bytes.strip_prefix(HEAD) else {
            let ending = if bytes.is_empty() { LoadEnd::Complete } else { LoadEnd::Truncated };
            return HEAD.starts_with(bytes).then_some((ledger, 0, ending));
        };
        let mut rest = batches;
        let ending = loop {
            let mut reader = VarintReader(rest);
            let Some(content) = reader.number().and_then(|length| reader.take(length)) else {
                // The power goes during one batch, and few are longer than this.
                break match rest.len() {
                    0 => LoadEnd::Complete,
                    left if left <= 2 * FULL => LoadEnd::Truncated,
                    _ => LoadEnd::Damaged,
                };
            };
            let covered = rest.len() - reader.0.len();
            let (Some(sum), Some(covered)) = (reader.take(SUM), rest.get(..covered)) else {
                break LoadEnd::Truncated;
            };
            let chain = crc32(ledger.chain, covered);
            if content.is_empty() || *sum != chain.to_le_bytes() {
                // Some filesystems make a file longer before they fill it.
                let is_blank = rest.iter().all(|byte| *byte == 0);
                break if is_blank { LoadEnd::Truncated } else { LoadEnd::Damaged };
            }
            if ledger.take(content).is_none() {
                break LoadEnd::Damaged;
            }
            ledger.chain = chain;
            rest = reader.0;
        };
        ledger.numbered = ledger.accounts.len() as u64;
        sorted_map::sort(&mut ledger.accounts);
        Some((ledger, bytes.len() - rest.len(), ending))
    }

    /// Takes a batch all or nothing. Its sum is right, so only a foreign hand can have made what
    /// is refused here.
    fn take(&mut self, content: &[u8]) -> Option<()> {
        let (mut reader, known) = (VarintReader(content), self.accounts.len());
        let mut before = Vec::new();
        while !reader.0.is_empty() {
            let entry = self.entry(&mut reader, &mut before);
            let most = before.len().max(self.accounts.len());
            if entry.filter(|()| most <= MOST_ACCOUNTS).is_none() {
                for (place, was) in before.into_iter().rev() {
                    if let Some((_, account)) = self.accounts.get_mut(place) {
                        *account = was;
                    }
                }
                self.accounts.truncate(known);
                return None;
            }
        }
        Some(())
    }

    /// Takes one entry; `before` gets what was there, and where.
    fn entry(
        &mut self,
        reader: &mut VarintReader<'_>,
        before: &mut Vec<(usize, TotalsEntry)>,
    ) -> Option<()> {
        let (place, has_left) = match reader.number()?.checked_sub(1) {
            None => {
                let length = reader.number().filter(|length| *length <= MOST_NAME)?;
                let name = std::str::from_utf8(reader.take(length)?).ok()?.to_owned();
                let place = self.accounts.len();
                let account = TotalsEntry { number: Some(place as u64), ..TotalsEntry::default() };
                self.accounts.push((name, account));
                (place, true)
            }
            Some(tag) => (usize::try_from(tag / 2).ok()?, tag % 2 == 1),
        };
        let (_, account) = self.accounts.get_mut(place)?;
        before.push((place, *account));
        let totals = &mut account.filed;
        totals.bytes_in = totals.bytes_in.checked_add(reader.number()?)?;
        totals.bytes_out = totals.bytes_out.checked_add(reader.number()?)?;
        totals.seen_s = totals.seen_s.checked_add_signed(reader.signed()?)?.min(LAST_S);
        if has_left {
            totals.left_s = reader.number()?;
        }
        (account.now, account.base) = (account.filed, account.filed);
        Some(())
    }

    fn find(&self, name: &str) -> Option<&TotalsEntry> {
        let place = sorted_map::find(&self.accounts, name)?;
        self.accounts.get(place).map(|(_, account)| account)
    }

    /// Who is not among the first `known` is added behind, out of order.
    fn find_or_add(&mut self, name: &str, known: usize) -> Option<&mut TotalsEntry> {
        let place = sorted_map::find(self.accounts.get(..known)?, name).unwrap_or_else(|| {
            self.accounts.push((name.to_owned(), TotalsEntry::default()));
            self.accounts.len() - 1
        });
        self.accounts.get_mut(place).map(|(_, account)| account)
    }

    /// Takes everybody's counters, and who is still there. Whoever is not keeps what there was
    /// for 90 days, as long as there are not many more of those than of the others: a person who
    /// was removed by mistake and comes back finds everything. `wall_s` is the time, if known.
    pub fn update<'a>(
        &mut self,
        people: impl Iterator<Item = UserCounters<'a>>,
        wall_s: Option<u64>,
    ) {
        for (_, account) in &mut self.accounts {
            account.is_here = false;
        }
        let known = self.accounts.len();
        for UserCounters { name, bytes_in, bytes_out, seen_s } in people {
            let Some(account) = self.find_or_add(name, known) else { continue };
            let base = &mut account.base;
            if wall_s.is_some_and(|wall_s| base.seen_s > wall_s.saturating_add(YEAR_S)) {
                // A clock was far ahead once.
                base.seen_s = 0;
            }
            account.is_here = true;
            account.now = UserTotals {
                bytes_in: base.bytes_in.wrapping_add(bytes_in),
                bytes_out: base.bytes_out.wrapping_add(bytes_out),
                seen_s: base.seen_s.max(seen_s.unwrap_or(0).min(LAST_S)),
                left_s: 0,
            };
        }
        if self.accounts.len() > known {
            sorted_map::sort(&mut self.accounts);
        }
        for (_, account) in self.accounts.iter_mut().filter(|(_, account)| !account.is_here) {
            if account.now.left_s == 0 {
                account.now.left_s = wall_s.unwrap_or(0);
            }
            // Whoever comes back counts from zero.
            account.base = account.now;
        }
        self.forget(wall_s);
    }

    /// Forgets who left long ago, and the first of those who left if they are too many. The file
    /// forgets them when it is next written as a whole.
    fn forget(&mut self, wall_s: Option<u64>) {
        let is_over = |left_s: u64| {
            left_s != 0 && wall_s.is_some_and(|at| at.saturating_sub(left_s) > KEPT_S)
        };
        self.accounts.retain(|(_, account)| account.is_here || !is_over(account.now.left_s));
        // Who left at an unknown time may have left just now.
        let left_at = |account: &TotalsEntry| match account.now.left_s {
            0 => u64::MAX,
            known => known,
        };
        let left = self.accounts.iter().filter(|(_, account)| !account.is_here);
        let mut left: Vec<(u64, &str)> =
            left.map(|(name, account)| (left_at(account), name.as_str())).collect();
        let most = (self.accounts.len() - left.len()) * 2 + MORE_LEFT;
        left.sort_unstable();
        let last_over = left.iter().rev().nth(most);
        if let Some((at, last)) = last_over.map(|(at, name)| (*at, (*name).to_owned())) {
            self.accounts.retain(|(name, account)| {
                account.is_here || (left_at(account), name) > (at, &last)
            });
        }
    }

    /// What somebody's counters have to be added to, wrapping, and when they were last seen before
    /// this process began.
    pub fn base(&self, name: &str) -> UserTotals {
        self.find(name).map(|account| account.base).unwrap_or_default()
    }

    /// People in it, those who have left included.
    pub fn len(&self) -> usize {
        self.accounts.len()
    }

    /// Whether nobody is in it.
    pub fn is_empty(&self) -> bool {
        self.accounts.is_empty()
    }

    /// Whether [`Totals::batch`] would have something to say.
    pub fn has_changes(&self) -> bool {
        self.accounts.iter().any(|(_, account)| account.now != account.filed)
    }

    /// What has changed since the file was last written, to be appended to it. Nothing when
    /// nothing has.
    pub fn batch(&self) -> Batch {
        let mut writer = BatchWriter { chain: self.chain, ..BatchWriter::default() };
        for (name, account) in &self.accounts {
            if account.now != account.filed {
                writer.put(name, account.number, &account.filed, &account.now);
            }
        }
        writer.close();
        Batch { bytes: writer.out, chain: writer.chain, is_whole: false }
    }

    /// A file that says the same and is as short as it can be.
    pub fn snapshot(&self) -> Batch {
        let mut writer = BatchWriter { out: HEAD.to_vec(), ..BatchWriter::default() };
        let nothing = UserTotals::default();
        for (name, account) in &self.accounts {
            if account.now != nothing {
                writer.put(name, None, &nothing, &account.now);
            }
        }
        writer.close();
        Batch { bytes: writer.out, chain: writer.chain, is_whole: true }
    }

    /// The batch is on file. It must be the last one made, and nothing else may have happened
    /// since.
    pub fn mark_written(&mut self, batch: &Batch) {
        self.chain = batch.chain;
        if batch.is_whole {
            self.numbered = 0;
            for (_, account) in &mut self.accounts {
                (account.number, account.filed) = (None, UserTotals::default());
            }
        }
        for (_, account) in &mut self.accounts {
            if account.now != account.filed && account.number.is_none() {
                account.number = Some(self.numbered);
                self.numbered += 1;
            }
            account.filed = account.now;
        }
    }

    /// Another file, just read, takes the place of the one that was written so far; or the same
    /// one, when it is uncertain what arrived there. What this process has counted and not written
    /// is added to what the file says.
    pub fn rebase(&mut self, file: Self) {
        let before = std::mem::replace(self, file);
        let known = self.accounts.len();
        for (name, was) in before.accounts {
            let Some(account) = self.find_or_add(&name, known) else { continue };
            let filed = account.filed;
            // A base below zero is made good by the counters, which hold more than is missing.
            let base =
                |file: u64, base: u64, filed: u64| file.wrapping_add(base).wrapping_sub(filed);
            let now =
                |file: u64, now: u64, filed: u64| file.saturating_add(now.saturating_sub(filed));
            account.is_here = was.is_here;
            account.base = UserTotals {
                bytes_in: base(filed.bytes_in, was.base.bytes_in, was.filed.bytes_in),
                bytes_out: base(filed.bytes_out, was.base.bytes_out, was.filed.bytes_out),
                seen_s: filed.seen_s.max(was.base.seen_s),
                left_s: was.base.left_s,
            };
            account.now = UserTotals {
                bytes_in: now(filed.bytes_in, was.now.bytes_in, was.filed.bytes_in),
                bytes_out: now(filed.bytes_out, was.now.bytes_out, was.filed.bytes_out),
                seen_s: filed.seen_s.max(was.now.seen_s),
                left_s: was.now.left_s,
            };
        }
        sorted_map::sort(&mut self.accounts);
    }
}

/// Batches in the making.
#[derive(Default)]
struct BatchWriter {
    out: Vec<u8>,
    content: Vec<u8>,
    chain: u32,
}

impl BatchWriter {
    fn put(&mut self, name: &str, number: Option<u64>, before: &UserTotals, now: &UserTotals) {
        let out = &mut self.content;
        let has_left = number.is_none() || before.left_s != now.left_s;
        match number {
            Some(number) => put_number(out, 1 + number * 2 + u64::from(has_left)),
            None => {
                put_number(out, 0);
                put_number(out, name.len() as u64);
                out.extend_from_slice(name.as_bytes());
            }
        }
        put_number(out, now.bytes_in.saturating_sub(before.bytes_in));
        put_number(out, now.bytes_out.saturating_sub(before.bytes_out));
        put_signed(out, now.seen_s.wrapping_sub(before.seen_s).cast_signed());
        if has_left {
            put_number(out, now.left_s);
        }
        if self.content.len() >= FULL {
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

/// With the version; another one is another file.
const HEAD: &[u8] = b"mtbox state 1\n";
/// Bytes of a sum.
const SUM: u64 = 4;
/// A batch is closed when it is this long, so that damage costs few people anything.
const FULL: usize = 1024;
/// A config file is no longer, so no name is.
const MOST_NAME: u64 = 1 << 20;
/// More people than a config file can hold, three times over.
const MOST_ACCOUNTS: usize = 100_000;
/// How long people who left are remembered.
const KEPT_S: u64 = 90 * 86_400;
/// At most twice as many of them as there are others, and a few.
const MORE_LEFT: usize = 64;
const YEAR_S: u64 = 365 * 86_400;
/// RFC 3339 has four digits for the year.
const LAST_S: u64 = 253_370_764_800;

#[cfg(test)]
mod tests;

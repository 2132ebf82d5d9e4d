//! `state-file`: keeps the totals of the users on disk. [`Totals`] decides what to write,
//! [`WriteBudget`] decides when, and this module does the I/O.
//!
//! No work is done while bytes move: the counters are compared with the file when a batch is due,
//! and one is due only after a user was connected. An error of the file is logged; the totals stay
//! in memory, and the file is opened and read again at the next interval.
//!
//! The last write of a process also has the newest digests of the replay store. They are cut off at
//! the next start, so that only an orderly end leaves them there.

use std::fmt;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::accounts::Accounts;
use crate::accounts::totals::{Batch, LoadEnd, ParsedTotals, Totals, UserCounters};
use crate::config::settings::Settings;
use crate::daemon::admin::telemetry::Telemetry;
use crate::daemon::time::Time;
use crate::io::append_file::{self, AppendFile};
use crate::io::clock::Tick;
use crate::io::logger::{event, fields};
use crate::limits::replay::Replay;
use crate::limits::write_budget::{BudgetInput, WriteBudget};

/// The file, and the time of the next write.
#[derive(Default)]
pub(super) struct TotalsFile {
    path: Option<PathBuf>,
    /// `None` = the config names no file, or the last access failed.
    file: Option<AppendFile>,
    budget: WriteBudget,
    due: Option<Tick>,
}

/// The parts of the daemon that the totals file reads and changes.
pub(super) struct TotalsContext<'a> {
    pub(super) settings: &'a Settings,
    pub(super) time: &'a Time,
    pub(super) accounts: &'a mut Accounts,
    pub(super) telemetry: &'a mut Telemetry,
    pub(super) replay: Option<&'a mut Replay>,
}

impl TotalsContext<'_> {
    fn interval(&self) -> Duration {
        self.settings.state.as_ref().map(|settings| settings.interval).unwrap_or_default()
    }

    fn budget_input(&self) -> BudgetInput {
        let interval_ms = self.interval().as_millis() as u64;
        BudgetInput { users: self.settings.users.len(), interval_ms }
    }

    /// Copies the counters of the users into the totals.
    fn update_totals(&mut self) {
        let (accounts, time) = (&mut *self.accounts, self.time);
        let Some(totals) = &mut accounts.totals else { return };
        let has_clock = !time.is_unset();
        let counters = accounts.users.iter().map(|(user, _)| UserCounters {
            name: user.name(),
            bytes_in: user.bytes_in,
            bytes_out: user.bytes_out,
            seen_s: user.last_seen_ms.filter(|_| has_clock).map(|at| time.wall_of(at).as_secs()),
        });
        totals.update(counters, has_clock.then_some(time.wall.unix_s));
    }
}

/// Why the file could not be opened, read or written.
#[derive(Debug)]
enum TotalsFileError {
    /// Another process has locked it.
    Locked,
    /// It would become longer than [`LENGTH_MAX`].
    TooLong,
    Io(io::Error),
}

impl From<io::Error> for TotalsFileError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::WouldBlock => Self::Locked,
            _ => Self::Io(error),
        }
    }
}

impl fmt::Display for TotalsFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Locked => f.write_str("locked by another process"),
            Self::TooLong => f.write_str("the file is too long"),
            Self::Io(e) => e.fmt(f),
        }
    }
}

impl TotalsFile {
    /// Reads the totals, if the config names a file.
    pub(super) fn new(context: &mut TotalsContext<'_>) -> Self {
        let mut file = Self::default();
        file.apply(context);
        file
    }

    /// Applies a new config. The totals of the old users must have been written before, see
    /// [`TotalsFile::save`].
    pub(super) fn apply(&mut self, context: &mut TotalsContext<'_>) {
        let wanted = context.settings.state.as_ref().map(|settings| settings.path.clone());
        self.due = None;
        if wanted.is_none() {
            *self = Self { budget: self.budget, ..Self::default() };
            context.accounts.totals = None;
            return;
        }
        if let Some(replay) = &mut context.replay {
            replay.keep_recent();
        }
        if self.path == wanted {
            // A removed user is marked as removed, and counts from zero if added again.
            return self.save(context);
        }
        // The totals are kept when the file moves.
        (self.path, self.file) = (wanted, None);
        if let Err(e) = self.open(context) {
            self.warn(context, &e);
        }
    }

    /// The time of the next write.
    pub(super) fn due(&self) -> Option<Tick> {
        self.due
    }

    /// Writes a batch if it is due. Call it at the beginning of a round: a counter changes only
    /// while a user is connected, and a user who disconnects in this round still counts as
    /// connected then.
    pub(super) fn write_due(&mut self, context: &mut TotalsContext<'_>) {
        let now = context.time.now;
        match self.due {
            Some(due) if now >= due => self.save(context),
            None if context.accounts.users.total_connections() > 0 && self.path.is_some() => {
                self.due = Some(Tick(self.budget.next_ms(context.budget_input(), now.0)));
            }
            _ => {}
        }
    }

    /// Writes the changes now.
    pub(super) fn save(&mut self, context: &mut TotalsContext<'_>) {
        self.due = None;
        if self.path.is_none() {
            return;
        }
        context.update_totals();
        if context.accounts.totals.as_ref().is_none_or(Totals::has_changes)
            && let Err(e) = self.append(context)
        {
            self.file = None;
            self.warn(context, &e);
            if context.accounts.totals.is_some() {
                self.due = Some(context.time.now + context.interval());
            }
        }
    }

    /// Whether [`TotalsFile::close`] can save the replay store.
    pub(super) fn is_open(&self) -> bool {
        self.file.is_some()
    }

    /// Writes the changes and the replay store, and waits until they are on the disk.
    pub(super) fn close(&mut self, context: &mut TotalsContext<'_>) {
        self.save(context);
        if let Some(file) = &mut self.file {
            if let (Some(replay), Some(totals)) = (&context.replay, &context.accounts.totals)
                && file.is_in_place()
            {
                let time = context.time;
                let started = (!time.is_unset()).then_some(time.started);
                // Without it, hellos from before the next start count as replays.
                if let Some(saved) = replay.saved(started, time.wall.unix_s) {
                    let _ = file.append(&totals.replay_batch(&saved));
                }
            }
            // If fsync(2) fails, the bytes are written, but may not survive a power failure.
            let _ = file.sync();
        }
    }

    fn append(&mut self, context: &mut TotalsContext<'_>) -> Result<(), TotalsFileError> {
        if !self.file.as_ref().is_some_and(AppendFile::is_in_place) {
            self.file = None;
            self.open(context)?;
        }
        let input = context.budget_input();
        let (Some(file), Some(totals)) = (&mut self.file, &mut context.accounts.totals) else {
            return Ok(());
        };
        let batch = totals.batch();
        if batch.bytes.is_empty() {
            return Ok(());
        }
        let length = file.length() + batch.bytes.len() as u64;
        let written = if length > COMPACT_LENGTH + input.users as u64 * COMPACT_LENGTH_PER_USER {
            compact(file, totals)?
        } else {
            write(file, totals, &batch)?
        };
        self.budget.spend(written, input, context.time.now.0);
        Ok(())
    }

    /// Opens and reads the file, cuts off an incomplete last write, and compacts it.
    fn open(&mut self, context: &mut TotalsContext<'_>) -> Result<(), TotalsFileError> {
        let Some(path) = self.path.clone() else { return Ok(()) };
        let is_first = context.accounts.totals.is_none();
        let (mut file, bytes) = match AppendFile::open(&path, LENGTH_MAX) {
            Err(e) if e.kind() == ErrorKind::FileTooLarge => replace_unusable(&path)?,
            Err(e) => {
                if context.accounts.totals.is_none() {
                    context.accounts.totals = read_only(&path);
                    context.update_totals();
                }
                return Err(e.into());
            }
            Ok(opened) => opened,
        };
        let parsed = Totals::parse(&bytes);
        if parsed.is_none() {
            (file, _) = replace_unusable(&path)?;
        }
        let ParsedTotals { replays, totals, valid_bytes, end, lost_bytes } =
            parsed.unwrap_or_default();
        let users = totals.len();
        match &mut context.accounts.totals {
            // The totals in memory are better than those of an empty file.
            Some(_) if valid_bytes == 0 => {}
            Some(known) => known.rebase(totals),
            None => context.accounts.totals = Some(totals),
        }
        context.update_totals();
        match end {
            LoadEnd::Complete => event!(Info, "state-file", path = ?path.display(), users = users),
            _ => {
                event!(
                    Warn, "state-file-damaged", path = ?path.display(), users = users,
                    lost_bytes = lost_bytes
                )
            }
        }
        // A damaged file is kept under another name, for the operator.
        if end == LoadEnd::Damaged && append_file::set_aside(&path).is_ok() {
            (file, _) = AppendFile::open(&path, LENGTH_MAX)?;
        } else if file.length() > valid_bytes as u64 {
            file.truncate(valid_bytes as u64)?;
            // A power failure must not bring back the replays, as if there were no others.
            file.sync()?;
        }
        // Another file, after a reload, is not that of the process before.
        if let (Some(replay), Some(saved), true) = (&mut context.replay, &replays, is_first) {
            replay.restore(saved, context.time.wall.unix_s);
        }
        let input = context.budget_input();
        let Some(totals) = &mut context.accounts.totals else { return Ok(()) };
        if file.length() != totals.snapshot().bytes.len() as u64 || totals.has_changes() {
            let written = compact(&mut file, totals)?;
            self.budget.spend(written, input, context.time.now.0);
        }
        self.file = Some(file);
        Ok(())
    }

    fn warn(&self, context: &mut TotalsContext<'_>, error: &TotalsFileError) {
        let Some(path) = &self.path else { return };
        let path = path.display();
        match error {
            TotalsFileError::Locked => context.telemetry.warn(fields!(
                "state-file-locked", path = ?path,
                hint = ?"another mtbox uses this file; set a different state-file for each"
            )),
            _ => context.telemetry.warn(fields!(
                "state-file-failed", path = ?path, error = ?error,
                hint = ?"totals are kept in memory; see state-file"
            )),
        }
    }
}

/// Appends a batch. Returns the number of bytes written.
fn write(file: &mut AppendFile, totals: &mut Totals, batch: &Batch) -> io::Result<usize> {
    file.append(&batch.bytes)?;
    totals.mark_written(batch);
    Ok(batch.bytes.len())
}

/// Replaces the file by one without superseded batches, if that saves enough and is possible;
/// otherwise appends. Returns the number of bytes written.
fn compact(file: &mut AppendFile, totals: &mut Totals) -> Result<usize, TotalsFileError> {
    let (batch, snapshot) = (totals.batch(), totals.snapshot());
    let length = file.length() + batch.bytes.len() as u64;
    let saves_little = length > COMPACT_LENGTH && length < 2 * snapshot.bytes.len() as u64;
    if !saves_little && file.replace(&snapshot.bytes).is_ok() {
        totals.mark_written(&snapshot);
        return Ok(snapshot.bytes.len());
    }
    // The folder may not be writable, so that a file in it cannot be replaced.
    match file.length() {
        0 => Ok(write(file, totals, &snapshot)?),
        _ if length > LENGTH_MAX => Err(TotalsFileError::TooLong),
        _ => Ok(write(file, totals, &batch)?),
    }
}

/// Renames a file that is no state file, or is damaged from its first byte, and begins a new one.
fn replace_unusable(path: &Path) -> io::Result<(AppendFile, Vec<u8>)> {
    let aside = append_file::set_aside(path)?;
    event!(
        Warn, "state-file-unusable", path = ?path.display(), aside = ?aside.display(),
        hint = ?"not a state file of this version; a new one begins"
    );
    AppendFile::open(path, LENGTH_MAX)
}

/// The totals of a file that cannot be opened for writing.
fn read_only(path: &Path) -> Option<Totals> {
    let bytes = AppendFile::read(path, LENGTH_MAX).ok()?;
    Totals::parse(&bytes).map(|parsed| parsed.totals)
}

/// Bytes. A longer file is compacted.
const COMPACT_LENGTH: u64 = 256 << 10;
/// Bytes, added to [`COMPACT_LENGTH`] for each user.
const COMPACT_LENGTH_PER_USER: u64 = 64;
/// Bytes. No state file is longer: three times the names of a config file of maximum size.
const LENGTH_MAX: u64 = 8 << 20;

//! `state-file`: keeps the people's totals on disk. The ledger (`policy/ledger.rs`) knows what to
//! write, the budget (`policy/budget.rs`) when; here they meet the file and the world.
//!
//! Nothing is noted while bytes move: the counters are compared with the file when a batch is due,
//! and one is due only after somebody was connected. Whatever goes wrong with the file costs a
//! warning: it is opened and read again at the next interval, and what was counted is added to it.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use crate::accounts::totals::{Batch, LoadEnd, ParsedTotals, Totals, UserCounters};
use crate::daemon::shared::World;
use crate::io::append_file::{self, AppendFile};
use crate::io::clock::Tick;
use crate::limits::write_budget::{BudgetInput, WriteBudget};

/// The file, and when to write to it next.
#[derive(Default)]
pub struct TotalsFile {
    path: Option<PathBuf>,
    /// `None` = none is wanted, or there is trouble with it.
    file: Option<AppendFile>,
    budget: WriteBudget,
    due: Option<Tick>,
}

impl TotalsFile {
    /// Reads the totals, if the config wants any.
    pub fn new(world: &mut World) -> Self {
        let mut state = Self::default();
        state.settle(world);
        state
    }

    /// Takes a new config. The old people must have been saved before, see [`TotalsFile::save`].
    pub fn settle(&mut self, world: &mut World) {
        let wanted = world.settings.state.as_ref().map(|settings| settings.path.clone());
        self.due = None;
        if wanted.is_none() {
            *self = Self { budget: self.budget, ..Self::default() };
            world.accounts.totals = None;
            return;
        }
        if self.path == wanted {
            // Who has gone counts from zero after coming back, and has to be marked as gone.
            return self.save(world);
        }
        // The totals move to another file with the people.
        (self.path, self.file) = (wanted, None);
        if let Err(e) = self.open(world) {
            self.complain(world, &e);
        }
    }

    /// When the next batch is due.
    pub fn due(&self) -> Option<Tick> {
        self.due
    }

    /// Writes a batch when it is due. To be called before a round begins: a counter moves only
    /// while somebody is connected, and whoever leaves in this round is still there now.
    pub fn turn(&mut self, world: &mut World) {
        match self.due {
            Some(due) if world.time.now >= due => self.save(world),
            None if world.accounts.users.total_connections() > 0 && self.path.is_some() => {
                let next = self.budget.next_ms(household(world), world.time.now.0);
                self.due = Some(Tick(next));
            }
            _ => {}
        }
    }

    /// Writes what has changed, now.
    pub fn save(&mut self, world: &mut World) {
        self.due = None;
        if self.path.is_none() {
            return;
        }
        settle(world);
        if world.accounts.totals.as_ref().is_none_or(Totals::has_changes)
            && let Err(e) = self.append(world)
        {
            self.file = None;
            self.complain(world, &e);
            if world.accounts.totals.is_some() {
                self.due = Some(Tick(world.time.now.0 + household(world).interval_ms));
            }
        }
    }

    /// The last words: saves, and waits until they are on the disk.
    pub fn close(&mut self, world: &mut World) {
        self.save(world);
        if let Some(file) = &self.file {
            // Should it fail, the bytes are written all the same, only not yet for certain.
            let _ = file.sync();
        }
    }

    fn append(&mut self, world: &mut World) -> io::Result<()> {
        if !self.file.as_ref().is_some_and(AppendFile::is_in_place) {
            self.file = None;
            self.open(world)?;
        }
        let household = household(world);
        let (Some(file), Some(ledger)) = (&mut self.file, &mut world.accounts.totals) else {
            return Ok(());
        };
        let batch = ledger.batch();
        if batch.bytes.is_empty() {
            return Ok(());
        }
        let length = file.length() + batch.bytes.len() as u64;
        let spent = if length > ROOM + household.users as u64 * ROOM_EACH {
            fold(file, ledger)?
        } else {
            add(file, ledger, &batch)?
        };
        self.budget.spend(spent, household, world.time.now.0);
        Ok(())
    }

    /// Opens and reads the file, mends it where the power went while it was written, and folds
    /// its batches into one.
    fn open(&mut self, world: &mut World) -> io::Result<()> {
        let Some(path) = self.path.clone() else { return Ok(()) };
        let (mut file, bytes) = match AppendFile::open(&path, MOST_BYTES) {
            Err(e) if e.kind() == ErrorKind::FileTooLarge => begin_afresh(&path)?,
            Err(e) => {
                if world.accounts.totals.is_none() {
                    world.accounts.totals = peek(&path);
                    settle(world);
                }
                return Err(e);
            }
            Ok(opened) => opened,
        };
        let found = Totals::parse(&bytes);
        if found.is_none() {
            (file, _) = begin_afresh(&path)?;
        }
        let ParsedTotals { totals: found, valid_bytes: good, end: ending } =
            found.unwrap_or_default();
        let people = found.len();
        match &mut world.accounts.totals {
            // An empty file knows less than we do.
            Some(_) if good == 0 => {}
            Some(ledger) => ledger.rebase(found),
            None => world.accounts.totals = Some(found),
        }
        settle(world);
        let lost = bytes.len() - good;
        match ending {
            LoadEnd::Complete => log::info!("event=state-file path={path:?} people={people}"),
            _ => log::warn!(
                "event=state-file-damaged path={path:?} people={people} lost_bytes={lost}"
            ),
        }
        // The rest may be of use to somebody.
        if ending == LoadEnd::Damaged && append_file::set_aside(&path).is_ok() {
            (file, _) = AppendFile::open(&path, MOST_BYTES)?;
        } else if file.length() > good as u64 {
            file.truncate(good as u64)?;
        }
        let Some(ledger) = &mut world.accounts.totals else { return Ok(()) };
        if file.length() != ledger.snapshot().bytes.len() as u64 || ledger.has_changes() {
            let spent = fold(&mut file, ledger)?;
            self.budget.spend(spent, household(world), world.time.now.0);
        }
        self.file = Some(file);
        Ok(())
    }

    fn complain(&self, world: &mut World, error: &io::Error) {
        let Some(path) = &self.path else { return };
        let line = match error.kind() {
            ErrorKind::WouldBlock => format!(
                "event=state-file-locked path={path:?} hint=\"another mtbox keeps its totals \
                 there; give each a file of its own\""
            ),
            _ => format!(
                "event=state-file-failed path={path:?} error={:?} hint=\"totals are kept in \
                 memory; see state-file\"",
                error.to_string()
            ),
        };
        world.telemetry.warn(format_args!("{line}"));
    }
}

/// Adds a batch.
fn add(file: &mut AppendFile, ledger: &mut Totals, batch: &Batch) -> io::Result<usize> {
    file.append(&batch.bytes)?;
    ledger.mark_written(batch);
    Ok(batch.bytes.len())
}

/// Puts a file that is as short as it can be in place of this one, where that is worth it and
/// possible; otherwise this one goes on.
fn fold(file: &mut AppendFile, ledger: &mut Totals) -> io::Result<usize> {
    let (batch, whole) = (ledger.batch(), ledger.snapshot());
    let length = file.length() + batch.bytes.len() as u64;
    let is_long = length > ROOM && length < 2 * whole.bytes.len() as u64;
    if !is_long && file.replace(&whole.bytes).is_ok() {
        ledger.mark_written(&whole);
        return Ok(whole.bytes.len());
    }
    // Not so in a folder in which we may not make files.
    match file.length() {
        0 => add(file, ledger, &whole),
        _ if length > MOST_BYTES => Err(ErrorKind::FileTooLarge.into()),
        _ => add(file, ledger, &batch),
    }
}

/// Another file in place of one that is none of ours, or damaged from its first byte.
fn begin_afresh(path: &Path) -> io::Result<(AppendFile, Vec<u8>)> {
    let aside = append_file::set_aside(path)?;
    log::warn!(
        "event=state-file-unusable path={path:?} aside={aside:?} hint=\"not a state file of this \
         version; a new one begins\""
    );
    AppendFile::open(path, MOST_BYTES)
}

/// Totals from a file that cannot be written to.
fn peek(path: &Path) -> Option<Totals> {
    let bytes = AppendFile::read(path, MOST_BYTES).ok()?;
    Totals::parse(&bytes).map(|parsed| parsed.totals)
}

/// Tells the ledger what has been counted.
fn settle(world: &mut World) {
    let Some(mut ledger) = world.accounts.totals.take() else { return };
    let has_clock = !world.time.is_unset();
    let people = world.accounts.users.iter().map(|(user, _)| UserCounters {
        name: user.name(),
        bytes_in: user.bytes_in,
        bytes_out: user.bytes_out,
        seen_s: user.last_seen_ms.filter(|_| has_clock).map(|at| world.time.wall_of(at).as_secs()),
    });
    ledger.update(people, has_clock.then_some(world.time.wall.unix_s));
    world.accounts.totals = Some(ledger);
}

fn household(world: &World) -> BudgetInput {
    let every = world.settings.state.as_ref().map(|settings| settings.interval).unwrap_or_default();
    BudgetInput { users: world.settings.users.len(), interval_ms: every.as_millis() as u64 }
}

/// A file that has grown beyond this is written anew.
const ROOM: u64 = 256 << 10;
/// And so much more for each of the people.
const ROOM_EACH: u64 = 64;
/// No file of ours is longer: the names of a config file of the permitted size, three times over,
/// before it is folded.
const MOST_BYTES: u64 = 8 << 20;

//! How networks come in: files in slices, the web as errands, at most so many at a time; then
//! they are put in order step by step, and replace those of before in one.

use std::fs::{File, OpenOptions};
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt;
use std::rc::Rc;
use std::time::SystemTime;

use nix::fcntl::OFlag;

use crate::config::settings::ListSource;
use crate::daemon::fetch::connection::FetchRoute;
use crate::daemon::fetch::http_get::HttpGet;
use crate::daemon::fetch::ip_lists::{FileWork, ListKind, cache};
use crate::daemon::fetch::schedule::Job;
use crate::daemon::fetch::{FetchTarget, FetchTask, TaskStep};
use crate::daemon::shared::World;
use crate::limits::ip_list::{ListReader, ParsedList, UnsortedList};

/// A file that is being read.
pub struct FileReading {
    which: ListKind,
    at: usize,
    file: File,
    mark: Freshness,
    bytes: u64,
    reader: ListReader,
}

/// A source that is complete and being put in order.
pub struct SortingSource {
    which: ListKind,
    at: usize,
    mark: Freshness,
    bytes: u64,
    draft: UnsortedList,
}

/// By what the next look at a source can tell that nothing has changed.
#[derive(Default, Clone, PartialEq)]
pub enum Freshness {
    /// It never came.
    #[default]
    None,
    /// Size and time of a file.
    File(u64, SystemTime),
    /// Header lines for the next request, see [`HttpGet::validators`].
    Web(String),
}

/// Puts every source on the agenda, and the copies on disk in place of what has to be fetched.
pub fn plan(world: &mut World) {
    let mut all = Vec::new();
    for (which, list) in world.lists.iter() {
        all.extend((0..list.sources.len()).map(|at| (which, at)));
    }
    for (which, at) in all {
        world.fetch.schedule.add(Job::IpList(which, at), world.time.now);
        cache::restore(world, which, at);
    }
    announce(world);
}

/// Tells the log what is waited for.
pub fn announce(world: &World) {
    for (which, list) in world.lists.iter() {
        let sources = list.sources.iter();
        let missing = sources.filter(|s| s.is_web() && s.networks.is_none()).count();
        if missing > 0 {
            let name = which.as_str();
            let until_then = match which {
                ListKind::Block => "nobody is turned away by them",
                ListKind::Allow => "nobody is let in by them",
            };
            log::info!(
                "event=list-pending name={name} sources={missing} until_then={until_then:?}"
            );
        }
    }
}

/// A source is due.
pub fn begin(world: &mut World, which: ListKind, at: usize) {
    let Some(list) = world.lists.get(which) else { return };
    let Some(source) = list.sources.get(at) else { return };
    let chore = match source.is_web() {
        false => FileWork::Open(which, at),
        true if list.fetching >= list.concurrency => return list.waiting.push_back(at),
        true => {
            list.fetching += 1;
            FileWork::Fetch(which, at)
        }
    };
    world.lists.chores.push_back(chore);
}

/// Asks for a source in the web.
pub fn fetch(world: &mut World, which: ListKind, at: usize) {
    let Some(source) = world.lists.source(which, at) else { return };
    let ListSource::Web(url) = &source.from else { return };
    let validators = match &source.mark {
        Freshness::Web(validators) => validators.clone(),
        _ => String::new(),
    };
    let fetch = HttpGet::new(url.clone(), FetchRoute::Routes, SOURCE_MAX, validators);
    let reader = source.reader();
    world.order(Box::new(ListTask { which, at, fetch, bytes: 0, reader }));
}

/// Opens a file, unless it is the one that was read last.
pub fn open(world: &mut World, which: ListKind, at: usize) -> Option<FileReading> {
    let source = world.lists.source(which, at)?;
    let ListSource::File(path) = &source.from else { return None };
    // A pipe without a writer would wait for one.
    let opened = OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path);
    let (found, file) = match opened.and_then(|file| Ok((file.metadata()?, file))) {
        Ok((found, file)) if found.is_file() => (found, file),
        Ok(_) => {
            fail(world, which, at, "not a regular file");
            return None;
        }
        Err(e) => {
            fail(world, which, at, &e.to_string());
            return None;
        }
    };
    let mark = found.modified().map_or(Freshness::None, |time| Freshness::File(found.len(), time));
    if mark != Freshness::None && mark == source.mark {
        confirm(world, which, at);
        return None;
    }
    Some(FileReading { which, at, file, mark, bytes: 0, reader: source.reader() })
}

/// Reads the next slice of a file.
pub fn read_on(world: &mut World, mut reading: FileReading) -> Option<FileWork> {
    let FileReading { which, at, .. } = reading;
    // No memory of its own: between two pieces of a growing list it would be in the way.
    let most = world.buffers.scratch.len().min(SLICE);
    let slice = world.buffers.scratch.get_mut(..most).unwrap_or_default();
    let why = match reading.file.read(slice) {
        Ok(0) => {
            let FileReading { mark, bytes, reader, .. } = reading;
            let draft = reader.finish();
            return Some(FileWork::Sort(Box::new(SortingSource { which, at, mark, bytes, draft })));
        }
        Ok(count) => {
            reading.bytes += count as u64;
            reading.reader.push_bytes(slice.get(..count).unwrap_or_default());
            if reading.bytes <= SOURCE_MAX {
                return Some(FileWork::Read(reading));
            }
            format!("larger than {SOURCE_MAX} bytes")
        }
        Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {
            return Some(FileWork::Read(reading));
        }
        Err(e) => e.to_string(),
    };
    fail(world, which, at, &why);
    None
}

/// Puts a few thousand networks in order; when all are, they replace those of before.
pub fn sort_on(world: &mut World, mut arrival: Box<SortingSource>) -> Option<FileWork> {
    if arrival.draft.step(SORTED_PER_STEP).is_pending() {
        return Some(FileWork::Sort(arrival));
    }
    let SortingSource { which, at, mark, bytes, draft } = *arrival;
    let ParsedList { networks, bad_lines, is_full } = draft.into_parsed();
    let source = world.lists.source(which, at)?;
    // A login page of a hotel is no list; nor is what a server says that has lost its data.
    if source.is_web() && networks.is_empty() {
        fail(world, which, at, "no network in it");
        return None;
    }
    let name = which.as_str();
    if source.networks.as_deref() == Some(&networks) {
        log::debug!("event=list-unchanged name={name} source={:?}", source.shown());
    } else {
        let (shown, entries) = (source.shown(), networks.len());
        let cut = if is_full { " cut=true" } else { "" };
        log::info!(
            "event=list name={name} source={shown:?} entries={entries} bad_lines={bad_lines} \
             bytes={bytes}{cut}"
        );
        source.networks = Some(Rc::new(networks));
        source.is_saved = false;
    }
    (source.bad_lines, source.mark) = (bad_lines, mark);
    confirm(world, which, at);
    None
}

/// What we have of a source is what it is.
fn confirm(world: &mut World, which: ListKind, at: usize) {
    let now = world.time.wall_of(world.time.now.0);
    let is_kept = world.lists.cache_dir.is_some();
    let Some(source) = world.lists.source(which, at) else { return };
    source.updated = Some(now);
    if is_kept && source.is_web() && !source.is_saved {
        world.lists.chores.push_back(FileWork::Save(which, at));
    }
    done(world, which, at, true);
}

/// A source could not be had: what we have of it stays.
fn fail(world: &mut World, which: ListKind, at: usize, why: &str) {
    let Some(source) = world.lists.source(which, at) else { return };
    let kept = if source.networks.is_some() { "the last good copy" } else { "nothing" };
    let (name, shown) = (which.as_str(), source.shown());
    let line =
        format!("event=list-failed name={name} source={shown:?} error={why:?} kept={kept:?}");
    world.telemetry.warn(format_args!("{line}"));
    done(world, which, at, false);
}

fn done(world: &mut World, which: ListKind, at: usize, well: bool) {
    let Some(list) = world.lists.get(which) else { return };
    let every = list.every;
    if let Some(source) = list.sources.get_mut(at) {
        source.is_tried = true;
    }
    list.failed += u64::from(!well);
    world.done(Job::IpList(which, at), well, every);
}

/// A list on its way from the web.
struct ListTask {
    which: ListKind,
    at: usize,
    fetch: HttpGet,
    bytes: u64,
    reader: ListReader,
}

impl FetchTask for ListTask {
    fn target(&self) -> FetchTarget {
        self.fetch.target()
    }

    fn open(&mut self) -> Vec<u8> {
        self.fetch.question()
    }

    fn take(&mut self, bytes: &[u8]) -> TaskStep {
        let (reader, count) = (&mut self.reader, &mut self.bytes);
        self.fetch.take(bytes, &mut |piece| {
            *count += piece.len() as u64;
            reader.push_bytes(piece);
        })
    }

    fn end(&mut self) -> TaskStep {
        self.fetch.end()
    }

    fn job(&self) -> Option<Job> {
        Some(Job::IpList(self.which, self.at))
    }

    fn settle(self: Box<Self>, outcome: Result<(), String>, world: &mut World) {
        let Self { which, at, fetch, bytes, reader } = *self;
        let Some(list) = world.lists.get(which) else { return };
        list.fetching = list.fetching.saturating_sub(1);
        if let Some(next) = list.waiting.pop_front() {
            begin(world, which, next);
        }
        let has_come =
            world.lists.source(which, at).is_some_and(|source| source.networks.is_some());
        match outcome {
            Err(why) => fail(world, which, at, &why),
            Ok(()) if !fetch.is_unchanged() => {
                let (mark, draft) =
                    (Freshness::Web(fetch.validators().to_owned()), reader.finish());
                let arrival = SortingSource { which, at, mark, bytes, draft };
                world.lists.chores.push_back(FileWork::Sort(Box::new(arrival)));
            }
            Ok(()) if has_come => confirm(world, which, at),
            Ok(()) => fail(world, which, at, "unchanged, it says, but it never came"),
        }
    }
}

/// Largest source in bytes.
const SOURCE_MAX: u64 = 16 << 20;
/// Bytes of a file that are read in one turn: a millisecond or two on a small router.
const SLICE: usize = 32 << 10;
/// Networks that are put into their places in one turn; as long.
const SORTED_PER_STEP: usize = 4_096;

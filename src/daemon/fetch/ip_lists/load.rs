//! Loads sources: files in parts, web sources by fetch tasks, a few at a time. A complete source is
//! sorted in steps and then replaces the old networks. A source that fails changes nothing.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::OpenOptionsExt;
use std::rc::Rc;
use std::time::Duration;

use nix::fcntl::OFlag;

use crate::config::settings::ListSource;
use crate::daemon::admin::telemetry::Telemetry;
use crate::daemon::fetch::http_get::HttpGet;
use crate::daemon::fetch::ip_lists::kind::SourceId;
use crate::daemon::fetch::ip_lists::lists::IpLists;
use crate::daemon::fetch::ip_lists::work::{FileReading, FileWork, Freshness, SortingSource};
use crate::daemon::fetch::schedule::{Job, JobResult};
use crate::daemon::fetch::task::{FetchError, FetchTarget, FetchTask, TaskStep};
use crate::daemon::upstream::connect::target::Route;
use crate::io::logger::{Maybe, event, fields};
use crate::limits::ip_list::{ListReader, ParsedList};

/// The result of a step of loading.
pub enum LoadStep {
    /// More work on the same source.
    Continue(FileWork),
    /// The source was loaded, or failed; `None` = a reload has removed it.
    Finished(Option<JobResult>),
}

/// Queues the work for a source that is due.
pub fn begin(lists: &mut IpLists, id: SourceId) {
    let Some(list) = lists.get(id.list) else { return };
    let Some(source) = list.sources.get(id.index) else { return };
    let work = match source.is_web() {
        false => FileWork::Open(id),
        true if list.fetching >= list.concurrency => return list.waiting.push_back(id.index),
        true => {
            list.fetching += 1;
            FileWork::Fetch(id)
        }
    };
    lists.work.push_back(work);
}

/// Opens a file, unless it has not changed since it was read.
pub fn open(
    lists: &mut IpLists,
    id: SourceId,
    wall: Duration,
    telemetry: &mut Telemetry,
) -> LoadStep {
    let Some(source) = lists.source(id) else { return LoadStep::Finished(None) };
    let ListSource::File(path) = &source.origin else { return LoadStep::Finished(None) };
    // Without O_NONBLOCK, opening a pipe would wait for its writer.
    let opened = OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path);
    let (found, file) = match opened.and_then(|file| Ok((file.metadata()?, file))) {
        Ok((found, file)) if found.is_file() => (found, file),
        Ok(_) => return LoadStep::Finished(fail(lists, id, "not a regular file", telemetry)),
        Err(e) => return LoadStep::Finished(fail(lists, id, &e.to_string(), telemetry)),
    };
    let freshness =
        found.modified().map_or(Freshness::None, |time| Freshness::File(found.len(), time));
    if freshness != Freshness::None && freshness == source.freshness {
        return LoadStep::Finished(confirm(lists, id, wall));
    }
    let reader = source.reader();
    LoadStep::Continue(FileWork::Read(FileReading {
        source: id,
        file,
        freshness,
        bytes: 0,
        reader,
    }))
}

/// Reads the next part of a file into `scratch`. A buffer of its own would fragment the heap,
/// between two allocations of a growing list.
pub fn read_part(
    lists: &mut IpLists,
    mut reading: FileReading,
    scratch: &mut [u8],
    telemetry: &mut Telemetry,
) -> LoadStep {
    let id = reading.source;
    let room = scratch.len().min(READ_PER_STEP);
    let part = scratch.get_mut(..room).unwrap_or_default();
    let why = match reading.file.read(part) {
        Ok(0) => {
            let FileReading { freshness, bytes, reader, .. } = reading;
            let unsorted = reader.finish();
            let sorting = SortingSource { source: id, freshness, bytes, unsorted };
            return LoadStep::Continue(FileWork::Sort(Box::new(sorting)));
        }
        Ok(count) => {
            reading.bytes += count as u64;
            reading.reader.push_bytes(part.get(..count).unwrap_or_default());
            if reading.bytes <= SOURCE_MAX {
                return LoadStep::Continue(FileWork::Read(reading));
            }
            FetchError::TooLarge(SOURCE_MAX).to_string()
        }
        Err(e) if e.kind() == ErrorKind::Interrupted => {
            return LoadStep::Continue(FileWork::Read(reading));
        }
        Err(e) => e.to_string(),
    };
    LoadStep::Finished(fail(lists, id, &why, telemetry))
}

/// Sorts a few thousand networks; once all are sorted, they replace the old ones.
pub fn sort_part(
    lists: &mut IpLists,
    mut sorting: Box<SortingSource>,
    wall: Duration,
    telemetry: &mut Telemetry,
) -> LoadStep {
    if sorting.unsorted.step(SORTED_PER_STEP).is_pending() {
        return LoadStep::Continue(FileWork::Sort(sorting));
    }
    let SortingSource { source: id, freshness, bytes, unsorted } = *sorting;
    let ParsedList { networks, bad_lines, is_full } = unsorted.into_parsed();
    let Some(source) = lists.source(id) else { return LoadStep::Finished(None) };
    // Such as the login page of a hotel, the answer of a server that has lost its data, or a
    // compressed file. A file may be empty.
    if networks.is_empty() && (source.is_web() || bad_lines > 0) {
        return LoadStep::Finished(fail(lists, id, "no network in it", telemetry));
    }
    let (name, label) = (id.list.as_str(), source.label());
    if source.networks.as_deref() == Some(&networks) {
        event!(Debug, "list-unchanged", name = %name, source = ?label);
    } else {
        let entries = networks.len();
        let cut = is_full.then_some(true);
        event!(
            Info, "list", name = %name, source = ?label, entries = entries, bad_lines = bad_lines,
            bytes = bytes, cut = Maybe(cut)
        );
        source.networks = Some(Rc::new(networks));
        source.is_saved = false;
    }
    (source.bad_lines, source.freshness) = (bad_lines, freshness);
    LoadStep::Finished(confirm(lists, id, wall))
}

/// Records that the networks of a source are up to date. `wall` is the time since 1970.
fn confirm(lists: &mut IpLists, id: SourceId, wall: Duration) -> Option<JobResult> {
    let has_cache = lists.cache_dir.is_some();
    let source = lists.source(id)?;
    source.updated = Some(wall);
    if has_cache && source.is_web() && !source.is_saved {
        lists.work.push_back(FileWork::Save(id));
    }
    finish(lists, id, true)
}

/// Records that a source could not be loaded. Its networks stay as they are.
fn fail(
    lists: &mut IpLists,
    id: SourceId,
    why: &str,
    telemetry: &mut Telemetry,
) -> Option<JobResult> {
    let source = lists.source(id)?;
    let kept = if source.networks.is_some() { "the last good copy" } else { "nothing" };
    let (name, label) = (id.list.as_str(), source.label());
    telemetry.warn(fields!(
        "list-failed", name = %name, source = ?label, error = ?why, kept = ?kept
    ));
    finish(lists, id, false)
}

fn finish(lists: &mut IpLists, id: SourceId, is_ok: bool) -> Option<JobResult> {
    let list = lists.get(id.list)?;
    list.failed += u64::from(!is_ok);
    if let Some(source) = list.sources.get_mut(id.index) {
        source.is_tried = true;
    }
    Some(JobResult { job: Job::IpList(id), is_ok, period: list.period })
}

/// Fetches one source from the web.
pub struct IpListTask {
    id: SourceId,
    get: HttpGet,
    bytes: u64,
    reader: ListReader,
}

impl IpListTask {
    /// The task for a source; `None` = it is not a web source.
    pub fn new(lists: &mut IpLists, id: SourceId) -> Option<Self> {
        let source = lists.source(id)?;
        let ListSource::Web(url) = &source.origin else { return None };
        let validators = match &source.freshness {
            Freshness::Web(validators) => validators.clone(),
            _ => String::new(),
        };
        let get = HttpGet::new(url.clone(), Route::Upstreams, SOURCE_MAX, validators);
        Some(Self { id, get, bytes: 0, reader: source.reader() })
    }

    /// The job that the task belongs to.
    pub fn job(&self) -> Job {
        Job::IpList(self.id)
    }

    /// Queues the sorting of a fetched source, and the fetch of the next waiting one. `None` = the
    /// job ends after the sorting.
    pub fn apply(
        self,
        outcome: Result<(), FetchError>,
        lists: &mut IpLists,
        wall: Duration,
        telemetry: &mut Telemetry,
    ) -> Option<JobResult> {
        let Self { id, get, bytes, reader } = self;
        let list = lists.get(id.list)?;
        list.fetching = list.fetching.saturating_sub(1);
        if let Some(index) = list.waiting.pop_front() {
            begin(lists, SourceId { index, ..id });
        }
        let is_loaded = lists.source(id).is_some_and(|source| source.networks.is_some());
        match outcome {
            Err(why) => fail(lists, id, &why.to_string(), telemetry),
            Ok(()) if !get.is_unchanged() => {
                let freshness = Freshness::Web(get.validators().to_owned());
                let unsorted = reader.finish();
                let sorting = SortingSource { source: id, freshness, bytes, unsorted };
                lists.work.push_back(FileWork::Sort(Box::new(sorting)));
                None
            }
            Ok(()) if is_loaded => confirm(lists, id, wall),
            Ok(()) => {
                fail(lists, id, "the server reports no change, but there is no copy", telemetry)
            }
        }
    }
}

impl FetchTask for IpListTask {
    fn target(&self) -> FetchTarget {
        self.get.target()
    }

    fn request(&mut self) -> Vec<u8> {
        self.get.request()
    }

    fn push_bytes(&mut self, bytes: &[u8]) -> TaskStep {
        let (reader, count) = (&mut self.reader, &mut self.bytes);
        self.get.push_bytes(bytes, &mut |piece| {
            *count += piece.len() as u64;
            reader.push_bytes(piece);
        })
    }

    fn finish(&mut self) -> TaskStep {
        self.get.finish()
    }
}

/// Largest source in bytes.
const SOURCE_MAX: u64 = 16 << 20;
/// Bytes of a file read per step: a millisecond or two on a small router.
const READ_PER_STEP: usize = 32 << 10;
/// Networks sorted per step: about the same time.
const SORTED_PER_STEP: usize = 4_096;

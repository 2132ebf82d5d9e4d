//! How networks come in: files in slices, the web as errands, at most so many at a time.

use std::fs::{self, File};
use std::io::Read as _;
use std::rc::Rc;

use crate::config::settings::ListSource;
use crate::daemon::errand::agenda::Job;
use crate::daemon::errand::fetch::Fetch;
use crate::daemon::errand::line::Via;
use crate::daemon::errand::{Errand, Step, Target};
use crate::daemon::lists::{Which, cache};
use crate::daemon::world::World;
use crate::policy::iplist::{Read, Reader};

/// A file that is being read.
pub struct Reading {
    which: Which,
    at: usize,
    file: File,
    left: u64,
    reader: Reader,
}

/// Puts every source on the agenda. What lies on this machine and is small is read at once, so
/// that it holds from the first connection on.
pub fn plan(world: &mut World) {
    let mut all = Vec::new();
    for (which, list) in world.lists.iter() {
        all.extend((0..list.sources.len()).map(|at| (which, at)));
    }
    for (which, at) in all {
        world.agenda.add(Job::List(which, at), world.now);
        cache::restore(world, which, at);
        let Some(source) = world.lists.source(which, at) else { continue };
        let ListSource::File(path) = &source.from else { continue };
        if fs::metadata(path).is_ok_and(|found| found.len() <= AT_ONCE_MAX) {
            open(world, which, at);
            while world.lists.reading.is_some() {
                read_on(world);
            }
        }
    }
}

/// A source is due.
pub fn begin(world: &mut World, which: Which, at: usize) {
    let Some(list) = world.lists.get(which) else { return };
    let Some(source) = list.sources.get(at) else { return };
    match &source.from {
        ListSource::File(_) => world.lists.to_read.push((which, at)),
        ListSource::Web(_) if list.fetching >= list.concurrency => list.waiting.push(at),
        ListSource::Web(url) => {
            list.fetching += 1;
            let validators = source.validators.clone();
            let fetch = Fetch::new(url.clone(), Via::Routes, SOURCE_MAX, validators);
            world.order(Box::new(ListErrand { which, at, fetch, reader: Reader::default() }));
        }
    }
}

/// Reads the next slice of a file, or opens the next one.
pub fn read_on(world: &mut World) {
    let Some(reading) = &mut world.lists.reading else {
        if let Some((which, at)) = world.lists.to_read.pop() {
            open(world, which, at);
        }
        return;
    };
    let mut slice = vec![0; SLICE.min(usize::try_from(reading.left).unwrap_or(SLICE))];
    let outcome = match reading.file.read(&mut slice) {
        Ok(0) => Some(Ok(())),
        Ok(count) => {
            reading.left -= count as u64;
            reading.reader.take(slice.get(..count).unwrap_or_default());
            (reading.left == 0).then_some(Ok(()))
        }
        Err(e) if e.kind() == std::io::ErrorKind::Interrupted => None,
        Err(e) => Some(Err(e.to_string())),
    };
    let Some(outcome) = outcome else { return };
    if let Some(Reading { which, at, reader, .. }) = world.lists.reading.take() {
        finish(world, which, at, outcome.map(|()| Some(reader.finish())));
    }
}

/// Opens a file, unless it is the one that was read last.
fn open(world: &mut World, which: Which, at: usize) {
    let Some(source) = world.lists.source(which, at) else { return };
    let ListSource::File(path) = &source.from else { return };
    let opened = File::open(path).and_then(|file| Ok((file.metadata()?, file)));
    let (found, file) = match opened {
        Ok((found, file)) if found.is_file() => (found, file),
        Ok(_) => return finish(world, which, at, Err("not a file".to_owned())),
        Err(e) => return finish(world, which, at, Err(e.to_string())),
    };
    let stamp = found.modified().ok().map(|time| (found.len(), time));
    if stamp.is_some() && stamp == source.stamp && source.ranges.is_some() {
        return finish(world, which, at, Ok(None));
    }
    source.stamp = stamp;
    let reader = Reader::default();
    world.lists.reading = Some(Reading { which, at, file, left: SOURCE_MAX, reader });
}

/// A source has come (`Some`), is what it was (`None`), or has failed.
fn finish(world: &mut World, which: Which, at: usize, outcome: Result<Option<Read>, String>) {
    let updated = world.wall_of(world.now.0);
    let Some(list) = world.lists.get(which) else { return };
    let every = list.every;
    let Some(source) = list.sources.get_mut(at) else { return };
    let (name, list_name) = (source.shown(), which.as_str());
    let well = outcome.is_ok();
    match outcome {
        Ok(None) => {}
        Ok(Some(read)) => {
            let is_news = source.ranges.as_deref() != Some(&read.ranges);
            source.bad_lines = read.bad_lines;
            let (entries, bad_lines) = (read.ranges.len(), read.bad_lines);
            source.ranges = Some(Rc::new(read.ranges));
            list.bad_lines = list.sources.iter().map(|source| source.bad_lines).sum();
            list.updated = Some(updated);
            let full = if read.is_full { " cut=true" } else { "" };
            log::info!(
                "event=list name={list_name} source={name:?} entries={entries} \
                 bad_lines={bad_lines}{full}"
            );
            if is_news {
                cache::save(world, which, at);
            }
        }
        Err(why) => {
            let kept = source.ranges.as_ref().map_or("nothing", |_| "the last good copy");
            let line = format!(
                "event=list-failed name={list_name} source={name:?} error={why:?} kept={kept:?}"
            );
            world.folded.warn(world.now, &line);
        }
    }
    world.done(Job::List(which, at), well, every);
}

/// A list on its way from the web.
struct ListErrand {
    which: Which,
    at: usize,
    fetch: Fetch,
    reader: Reader,
}

impl Errand for ListErrand {
    fn target(&self) -> Target {
        self.fetch.target()
    }

    fn open(&mut self) -> Vec<u8> {
        self.reader = Reader::default();
        self.fetch.question()
    }

    fn take(&mut self, bytes: &[u8]) -> Step {
        let reader = &mut self.reader;
        self.fetch.take(bytes, &mut |piece| reader.take(piece))
    }

    fn end(&mut self) -> Step {
        self.fetch.end()
    }

    fn settle(self: Box<Self>, outcome: Result<(), String>, world: &mut World) {
        let Self { which, at, fetch, reader } = *self;
        let outcome = outcome.map(|()| (!fetch.is_unchanged()).then(|| reader.finish()));
        if let (Ok(Some(_)), Some(source)) = (&outcome, world.lists.source(which, at)) {
            source.validators = fetch.validators().to_owned();
        }
        finish(world, which, at, outcome);
        let Some(list) = world.lists.get(which) else { return };
        list.fetching = list.fetching.saturating_sub(1);
        if !list.waiting.is_empty() {
            let next = list.waiting.remove(0);
            begin(world, which, next);
        }
    }
}

/// Largest source in bytes.
const SOURCE_MAX: u64 = 16 << 20;
/// A file of at most this size is read before the first connection.
const AT_ONCE_MAX: u64 = 1 << 20;
/// Bytes of a file that are read in one turn.
const SLICE: usize = 64 << 10;

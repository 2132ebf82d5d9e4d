//! Who may connect at all: the allowlist and the blocklist (spec: defense 2). Each source keeps
//! its last good networks until new ones are complete; a source that fails changes nothing.
//!
//! `load.rs` brings the networks in, `cache.rs` keeps fetched ones over a restart. Both do their
//! work in bounded steps, one per round of the loop, as chores. `reload.rs` takes a new config.

mod cache;
mod load;
mod reload;

use std::collections::VecDeque;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

pub use load::{begin, plan};
pub use reload::{refresh, reload};

use crate::accounts::recorder::Cause;
use crate::config::settings::{ListSettings, ListSource, Settings};
use crate::daemon::admin::probe_summary::ProbeKind;
use crate::daemon::admin::telemetry::Telemetry;
use crate::daemon::fetch::MOST_ERRANDS;
use crate::daemon::shared::World;
use crate::daemon::upstream::addresses::is_private;
use crate::io::clock::Tick;
use crate::limits::ip_list::{ListReader, Networks};

/// Both lists.
#[derive(Default)]
pub struct IpLists {
    block: Option<IpList>,
    allow: Option<IpList>,
    cache_dir: Option<PathBuf>,
    /// What waits to be done, the next first; at most a few per source.
    chores: VecDeque<FileWork>,
}

/// Work for the time between two rounds of the loop.
enum FileWork {
    /// Open the file of a source.
    Open(ListKind, usize),
    /// Ask for a source in the web.
    Fetch(ListKind, usize),
    /// Read on in a file.
    Read(load::FileReading),
    /// Put on in order what has come, then use it.
    Sort(Box<load::SortingSource>),
    /// Begin to write the copy of a source.
    Save(ListKind, usize),
    /// Write on.
    Write(Box<cache::CacheWriter>),
}

/// One of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListKind {
    /// Its addresses may not connect.
    Block,
    /// Its addresses alone may connect.
    Allow,
}

impl ListKind {
    /// As in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Block => "blocklist",
            Self::Allow => "allowlist",
        }
    }
}

/// One list and where it stands.
pub struct IpList {
    sources: Vec<ListState>,
    every: Duration,
    /// Fetches at once.
    concurrency: usize,
    /// Sources that are being fetched.
    fetching: usize,
    /// Sources that wait for their turn.
    waiting: VecDeque<usize>,
    /// Connections that it has turned away.
    pub refused: u64,
    /// Looks at its sources that brought nothing.
    pub failed: u64,
    /// When the log was last told that nobody can connect.
    complained: Option<Tick>,
}

struct ListState {
    from: ListSource,
    /// `None` = it never came.
    networks: Option<Rc<Networks>>,
    bad_lines: u64,
    /// By what the next look at it can tell that nothing has changed.
    mark: load::Freshness,
    /// When it was last seen to be what we have, since 1970.
    updated: Option<Duration>,
    /// It was tried once, well or not.
    is_tried: bool,
    /// The copy on disk is what we have.
    is_saved: bool,
}

impl ListState {
    fn new(from: &ListSource) -> Self {
        Self {
            from: from.clone(),
            networks: None,
            bad_lines: 0,
            mark: load::Freshness::default(),
            updated: None,
            is_tried: false,
            is_saved: false,
        }
    }

    /// For a log: a URL goes without what may be secret in it.
    fn shown(&self) -> String {
        match &self.from {
            ListSource::File(path) => path.display().to_string(),
            ListSource::Web(url) => {
                let (path, _query) = url.path.split_once('?').unwrap_or((&url.path, ""));
                format!("{}://{}{path}", url.scheme, url.host)
            }
        }
    }

    fn reader(&self) -> ListReader {
        self.networks.as_deref().map_or_else(ListReader::default, ListReader::with_capacity_of)
    }

    fn is_web(&self) -> bool {
        matches!(self.from, ListSource::Web(_))
    }
}

impl IpList {
    fn new(settings: &ListSettings) -> Self {
        Self {
            sources: settings.sources.iter().map(ListState::new).collect(),
            every: settings.interval,
            concurrency: (settings.concurrency as usize).clamp(1, MOST_ERRANDS),
            fetching: 0,
            waiting: VecDeque::new(),
            refused: 0,
            failed: 0,
            complained: None,
        }
    }

    /// Networks in all sources.
    pub fn entries(&self) -> usize {
        self.sources.iter().filter_map(|source| source.networks.as_ref()).map(|r| r.len()).sum()
    }

    /// Lines in all sources that are no network.
    pub fn bad_lines(&self) -> u64 {
        self.sources.iter().map(|source| source.bad_lines).sum()
    }

    /// Since when every source has been seen to be what we have; `None` = not every one has.
    pub fn updated(&self) -> Option<Duration> {
        // `None` is less than any time.
        self.sources.iter().map(|source| source.updated).min().flatten()
    }

    fn is_loaded(&self) -> bool {
        self.sources.iter().any(|source| source.networks.is_some())
    }

    fn find(&self, addr: IpAddr) -> Option<&ListState> {
        let has = |source: &&ListState| source.networks.as_ref().is_some_and(|r| r.contains(addr));
        self.sources.iter().find(has)
    }
}

impl IpLists {
    /// Empty lists, as the settings want them.
    pub fn new(settings: &Settings) -> Self {
        Self {
            block: settings.blocklist.as_ref().map(IpList::new),
            allow: settings.allowlist.as_ref().map(IpList::new),
            cache_dir: settings.cache_dir.clone(),
            chores: VecDeque::new(),
        }
    }

    /// The lists that are on.
    pub fn iter(&self) -> impl Iterator<Item = (ListKind, &IpList)> {
        let both = [(ListKind::Allow, &self.allow), (ListKind::Block, &self.block)];
        both.into_iter().filter_map(|(which, list)| Some((which, list.as_ref()?)))
    }

    /// Whether something can be done without waiting.
    pub fn has_work(&self) -> bool {
        !self.chores.is_empty()
    }

    /// The files have not all been read yet: whoever comes has to wait the moment that it takes,
    /// or a blocklist would let in whom it names, and an allowlist would refuse its own.
    pub fn is_opening(&self) -> bool {
        let mut sources = self.iter().flat_map(|(_, list)| &list.sources);
        sources.any(|source| !source.is_tried && !source.is_web())
    }

    fn get(&mut self, which: ListKind) -> Option<&mut IpList> {
        match which {
            ListKind::Block => self.block.as_mut(),
            ListKind::Allow => self.allow.as_mut(),
        }
    }

    fn source(&mut self, which: ListKind, at: usize) -> Option<&mut ListState> {
        self.get(which)?.sources.get_mut(at)
    }
}

/// Whether the lists let a client connect; the allowlist decides first. An allowlist of which no
/// source has been loaded refuses all clients and says so once a minute; a blocklist refuses none
/// until then. The caller closes a refused connection.
pub fn may_enter(lists: &mut IpLists, telemetry: &mut Telemetry, addr: IpAddr) -> bool {
    let refused_by = if !is_allowed(lists, telemetry, addr) {
        Cause::NotAllowlisted
    } else if is_blocked(lists, telemetry, addr) {
        Cause::Blocklisted
    } else {
        return true;
    };
    telemetry.record_client(addr, refused_by);
    false
}

fn is_allowed(lists: &mut IpLists, telemetry: &mut Telemetry, addr: IpAddr) -> bool {
    let Some(list) = &mut lists.allow else { return true };
    if list.find(addr).is_some() {
        return true;
    }
    list.refused += 1;
    if list.is_loaded() {
        let hint = "home networks must be on the list too: add a file that contains them";
        log_refused(telemetry, addr, format_args!("event=refused list=allowlist"), hint);
        return false;
    }
    let now = telemetry.now();
    if list.complained.is_none_or(|at| now.0 >= at.0 + COMPLAIN_MS) {
        list.complained = Some(now);
        log::warn!(
            "event=allowlist-empty refused={} hint=\"no source has been loaded, so all clients are \
             refused; see event=list-failed, or use a file\"",
            list.refused
        );
    }
    telemetry.count_probe(ProbeKind::Listed, addr);
    false
}

fn is_blocked(lists: &mut IpLists, telemetry: &mut Telemetry, addr: IpAddr) -> bool {
    let Some(list) = &mut lists.block else { return false };
    let Some(source) = list.find(addr).map(ListState::shown) else { return false };
    list.refused += 1;
    // FireHOL's level 1, which is often recommended, contains them.
    let hint = "this list contains home networks; use one without them";
    let line = format_args!("event=refused list=blocklist source={source:?}");
    log_refused(telemetry, addr, line, hint);
    true
}

/// Logs a refused client: a debug line and a probe, or, for a home network, a hint for the operator.
fn log_refused(telemetry: &mut Telemetry, addr: IpAddr, line: fmt::Arguments<'_>, hint: &str) {
    let client = telemetry.shown(addr);
    if is_private(addr) {
        telemetry.info(format_args!("{line} client={client} hint={hint:?}"));
    } else {
        log::debug!("{line} client={client}");
        telemetry.count_probe(ProbeKind::Listed, addr);
    }
}

/// Takes one bounded step of what waits to be done.
pub fn turn(world: &mut World) {
    let Some(chore) = world.lists.chores.pop_front() else { return };
    world.telemetry.counters.stirred = true;
    let next = match chore {
        FileWork::Open(which, at) => load::open(world, which, at).map(FileWork::Read),
        FileWork::Fetch(which, at) => {
            load::fetch(world, which, at);
            None
        }
        FileWork::Read(reading) => load::read_on(world, reading),
        FileWork::Sort(arrival) => load::sort_on(world, arrival),
        FileWork::Save(which, at) => cache::open(world, which, at).map(FileWork::Write),
        FileWork::Write(writing) => cache::write_on(world, writing).map(FileWork::Write),
    };
    if let Some(next) = next {
        world.lists.chores.push_front(next);
    }
}

const COMPLAIN_MS: u64 = 60_000;

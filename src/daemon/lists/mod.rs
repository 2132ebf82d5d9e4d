//! Who may connect at all: the allowlist and the blocklist (spec: defense 2). Each source keeps
//! its last good networks until new ones are complete; a source that fails changes nothing.
//!
//! `load.rs` brings the networks in, `cache.rs` keeps fetched ones over a restart.

mod cache;
mod load;

use std::net::IpAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

pub use load::{begin, plan};

use crate::config::settings::{ListSettings, ListSource, Settings};
use crate::daemon::world::World;
use crate::io::clock::Tick;
use crate::policy::iplist::Ranges;

/// Both lists.
#[derive(Default)]
pub struct Lists {
    block: Option<List>,
    allow: Option<List>,
    cache_dir: Option<PathBuf>,
    /// The file that is being read.
    reading: Option<load::Reading>,
    /// Files that wait for it.
    to_read: Vec<(Which, usize)>,
    /// The copy that is being written.
    saving: Option<cache::Saving>,
}

/// One of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// Its addresses may not connect.
    Block,
    /// Its addresses alone may connect.
    Allow,
}

impl Which {
    /// As in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Block => "blocklist",
            Self::Allow => "allowlist",
        }
    }
}

/// One list and where it stands.
pub struct List {
    sources: Vec<Source>,
    every: Duration,
    concurrency: usize,
    /// Sources that are being fetched.
    fetching: usize,
    /// Sources that wait for their turn.
    waiting: Vec<usize>,
    /// Connections that it has turned away.
    pub refused: u64,
    /// Lines of the last good copies that are no network.
    pub bad_lines: u64,
    /// When a copy was last complete and new, since 1970.
    pub updated: Option<Duration>,
    /// When the log was last told that nobody can connect.
    complained: Option<Tick>,
}

struct Source {
    from: ListSource,
    /// `None` = it never came.
    ranges: Option<Rc<Ranges>>,
    bad_lines: u64,
    /// For the next fetch.
    validators: String,
    /// Size and time of the file that was read last.
    stamp: Option<(u64, std::time::SystemTime)>,
}

impl Source {
    /// For a log: a URL without what may be secret in it.
    fn shown(&self) -> String {
        match &self.from {
            ListSource::File(path) => path.display().to_string(),
            ListSource::Web(url) => format!("{}://{}", url.scheme, url.host),
        }
    }
}

impl List {
    fn new(settings: &ListSettings) -> Self {
        let source = |from: &ListSource| Source {
            from: from.clone(),
            ranges: None,
            bad_lines: 0,
            validators: String::new(),
            stamp: None,
        };
        Self {
            sources: settings.sources.iter().map(source).collect(),
            every: settings.every,
            concurrency: settings.concurrency.max(1) as usize,
            fetching: 0,
            waiting: Vec::new(),
            refused: 0,
            bad_lines: 0,
            updated: None,
            complained: None,
        }
    }

    /// Ranges in all copies.
    pub fn entries(&self) -> usize {
        self.sources.iter().filter_map(|source| source.ranges.as_ref()).map(|r| r.len()).sum()
    }

    fn is_loaded(&self) -> bool {
        self.sources.iter().any(|source| source.ranges.is_some())
    }

    fn find(&self, addr: IpAddr) -> Option<&Source> {
        let has = |source: &&Source| source.ranges.as_ref().is_some_and(|r| r.contains(addr));
        self.sources.iter().find(has)
    }
}

impl Lists {
    /// Empty lists, as the settings want them.
    pub fn new(settings: &Settings) -> Self {
        Self {
            block: settings.blocklist.as_ref().map(List::new),
            allow: settings.allowlist.as_ref().map(List::new),
            cache_dir: settings.cache_dir.clone(),
            ..Self::default()
        }
    }

    /// The lists that are on.
    pub fn iter(&self) -> impl Iterator<Item = (Which, &List)> {
        let both = [(Which::Allow, &self.allow), (Which::Block, &self.block)];
        both.into_iter().filter_map(|(which, list)| Some((which, list.as_ref()?)))
    }

    /// Whether a file waits to be read or written.
    pub fn has_work(&self) -> bool {
        self.reading.is_some() || !self.to_read.is_empty() || self.saving.is_some()
    }

    fn get(&mut self, which: Which) -> Option<&mut List> {
        match which {
            Which::Block => self.block.as_mut(),
            Which::Allow => self.allow.as_mut(),
        }
    }

    fn source(&mut self, which: Which, at: usize) -> Option<&mut Source> {
        self.get(which)?.sources.get_mut(at)
    }
}

/// Whether a client may connect: the allowlist is asked first. An allowlist of which no source
/// has ever come lets nobody in and says so once a minute; a blocklist lets everybody in until
/// then.
pub fn may_enter(world: &mut World, addr: IpAddr) -> bool {
    let now = world.now;
    if let Some(list) = &mut world.lists.allow
        && list.find(addr).is_none()
    {
        list.refused += 1;
        if list.is_loaded() {
            let line = format!("event=refused list=allowlist client={}", world.shown(addr));
            world.folded.info(now, &line);
        } else if list.complained.is_none_or(|at| now.0 >= at.0 + COMPLAIN_MS) {
            list.complained = Some(now);
            log::warn!(
                "event=allowlist-empty refused={} hint=\"no source has come yet, so nobody may \
                 connect; see event=list-failed, or name a file\"",
                list.refused
            );
        }
        return false;
    }
    let Some(list) = &mut world.lists.block else { return true };
    let Some(name) = list.find(addr).map(Source::shown) else { return true };
    list.refused += 1;
    let shown = world.shown(addr);
    let line = match is_home(addr) {
        true => format!(
            "event=refused list=blocklist source={name:?} client={shown} hint=\"the list holds \
             home networks; use one without them, or this client's network cannot connect\""
        ),
        false => format!("event=refused list=blocklist source={name:?} client={shown}"),
    };
    world.folded.info(now, &line);
    false
}

/// An address of a home network or of this machine (RFC 1918, RFC 4193).
fn is_home(addr: IpAddr) -> bool {
    match addr.to_canonical() {
        IpAddr::V4(v4) => v4.is_private() || v4.is_loopback() || v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local(),
    }
}

/// Takes one bounded step of reading or writing files.
pub fn turn(world: &mut World) {
    load::read_on(world);
    cache::write_on(world);
}

const COMPLAIN_MS: u64 = 60_000;

//! The state of both lists and of their sources.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use crate::config::settings::{ListSettings, ListSource, Settings};
use crate::daemon::fetch::ip_lists::kind::{ListKind, SourceId};
use crate::daemon::fetch::ip_lists::work::{FileWork, Freshness};
use crate::daemon::fetch::runner::TASKS_AT_ONCE;
use crate::daemon::upstream::addresses::is_private;
use crate::io::clock::Tick;
use crate::limits::ip_list::{ListReader, Networks};
use crate::util::host_port::HostPort;

/// Both lists.
#[derive(Default)]
pub struct IpLists {
    /// The blocklist.
    pub(super) block: Option<IpList>,
    /// The allowlist.
    pub(super) allow: Option<IpList>,
    /// The folder of cached copies.
    pub(super) cache_dir: Option<PathBuf>,
    /// Queued work, the next first; at most a few entries per source.
    pub(super) work: VecDeque<FileWork>,
    /// Where clients come from.
    pub clients: ClientSources,
}

/// Whether all clients come from one private address.
#[derive(Default)]
pub struct ClientSources {
    /// The only address so far.
    only: Option<IpAddr>,
    /// There was another address, or it is public.
    has_others: bool,
    /// A list has refused it.
    is_refused: bool,
}

impl ClientSources {
    /// Takes note of the address of a client.
    pub(super) fn note(&mut self, addr: IpAddr) {
        let is_other = |only: IpAddr| only != addr;
        self.has_others |= !is_private(addr) || self.only.is_some_and(is_other);
        self.only = Some(addr);
    }

    /// Takes note of a refusal. Returns whether it is the first one of an only address.
    pub(super) fn is_first_refusal(&mut self) -> bool {
        !self.has_others && !std::mem::replace(&mut self.is_refused, true)
    }

    /// Whether a list refuses the only, private address from which all clients come.
    pub fn are_hidden(&self) -> bool {
        self.is_refused && !self.has_others
    }
}

/// One list.
pub struct IpList {
    pub(super) sources: Vec<SourceState>,
    pub(super) period: Duration,
    /// Fetches at once.
    pub(super) concurrency: usize,
    /// Sources that are being fetched.
    pub(super) fetching: usize,
    /// Indices of sources that wait until fewer are fetched.
    pub(super) waiting: VecDeque<usize>,
    /// Connections refused because of this list.
    pub refused: u64,
    /// Attempts to load a source that failed.
    pub failed: u64,
    /// When `event=allowlist-empty` was last logged.
    pub(super) warned_at: Option<Tick>,
}

/// One source of a list.
pub(super) struct SourceState {
    pub(super) origin: ListSource,
    /// The latest good copy; `None` = it has never been loaded.
    pub(super) networks: Option<Rc<Networks>>,
    pub(super) bad_lines: u64,
    pub(super) freshness: Freshness,
    /// When `networks` was last confirmed, since 1970.
    pub(super) updated: Option<Duration>,
    /// Loading was tried at least once.
    pub(super) is_tried: bool,
    /// The cached copy is the same as `networks`.
    pub(super) is_saved: bool,
}

impl SourceState {
    pub(super) fn new(origin: &ListSource) -> Self {
        Self {
            origin: origin.clone(),
            networks: None,
            bad_lines: 0,
            freshness: Freshness::default(),
            updated: None,
            is_tried: false,
            is_saved: false,
        }
    }

    /// The name of the source in a log: a path, or a URL without its query and user.
    pub(super) fn label(&self) -> String {
        match &self.origin {
            ListSource::File(path) => path.display().to_string(),
            ListSource::Web(url) => {
                let (path, _query) = url.path.split_once('?').unwrap_or((&url.path, ""));
                let server = match url.port {
                    Some(port) => HostPort::new(&url.host, port).to_string(),
                    None => url.host.clone(),
                };
                format!("{}://{server}{path}", url.scheme)
            }
        }
    }

    pub(super) fn reader(&self) -> ListReader {
        self.networks.as_deref().map_or_else(ListReader::default, ListReader::with_capacity_of)
    }

    pub(super) fn is_web(&self) -> bool {
        matches!(self.origin, ListSource::Web(_))
    }
}

impl IpList {
    fn new(settings: &ListSettings) -> Self {
        Self {
            sources: settings.sources.iter().map(SourceState::new).collect(),
            period: settings.interval,
            concurrency: (settings.concurrency as usize).clamp(1, TASKS_AT_ONCE),
            fetching: 0,
            waiting: VecDeque::new(),
            refused: 0,
            failed: 0,
            warned_at: None,
        }
    }

    /// Networks in all sources.
    pub fn entries(&self) -> usize {
        let networks = self.sources.iter().filter_map(|source| source.networks.as_ref());
        networks.map(|networks| networks.len()).sum()
    }

    /// Lines in all sources that are not networks.
    pub fn bad_lines(&self) -> u64 {
        self.sources.iter().map(|source| source.bad_lines).sum()
    }

    /// When the source that was confirmed least recently was confirmed, since 1970; `None` = one
    /// has not been loaded yet.
    pub fn updated(&self) -> Option<Duration> {
        // `None` is less than any time.
        self.sources.iter().map(|source| source.updated).min().flatten()
    }

    /// Whether at least one source has been loaded.
    pub(super) fn is_loaded(&self) -> bool {
        self.sources.iter().any(|source| source.networks.is_some())
    }

    /// The first source that contains an address.
    pub(super) fn find(&self, addr: IpAddr) -> Option<&SourceState> {
        let contains =
            |source: &&SourceState| source.networks.as_ref().is_some_and(|n| n.contains(addr));
        self.sources.iter().find(contains)
    }
}

impl IpLists {
    /// The lists of the settings, not loaded yet.
    pub fn new(settings: &Settings) -> Self {
        Self {
            block: settings.blocklist.as_ref().map(IpList::new),
            allow: settings.allowlist.as_ref().map(IpList::new),
            cache_dir: settings.cache_dir.clone(),
            work: VecDeque::new(),
            clients: ClientSources::default(),
        }
    }

    /// The configured lists.
    pub fn iter(&self) -> impl Iterator<Item = (ListKind, &IpList)> {
        let both = [(ListKind::Allow, &self.allow), (ListKind::Block, &self.block)];
        both.into_iter().filter_map(|(kind, list)| Some((kind, list.as_ref()?)))
    }

    /// Whether file work is queued.
    pub fn has_work(&self) -> bool {
        !self.work.is_empty()
    }

    /// Whether some files have not been read yet. No client is accepted until then: a blocklist
    /// would accept its addresses, and an allowlist would refuse its own.
    pub fn is_opening(&self) -> bool {
        let mut sources = self.iter().flat_map(|(_, list)| &list.sources);
        sources.any(|source| !source.is_tried && !source.is_web())
    }

    pub(super) fn get(&mut self, kind: ListKind) -> Option<&mut IpList> {
        match kind {
            ListKind::Block => self.block.as_mut(),
            ListKind::Allow => self.allow.as_mut(),
        }
    }

    pub(super) fn source(&mut self, id: SourceId) -> Option<&mut SourceState> {
        self.get(id.list)?.sources.get_mut(id.index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_hidden_while_all_come_from_one_private_address() {
        let addr = |text: &str| text.parse::<IpAddr>().unwrap();
        let mut clients = ClientSources::default();
        clients.note(addr("127.0.0.1"));
        assert!(!clients.are_hidden(), "not refused");
        assert!(clients.is_first_refusal() && !clients.is_first_refusal() && clients.are_hidden());
        for other in ["10.0.0.1", "192.0.2.1"] {
            let mut clients = ClientSources::default();
            clients.note(addr("127.0.0.1"));
            clients.note(addr(other));
            assert!(!clients.is_first_refusal() && !clients.are_hidden(), "{other}");
        }
    }
}

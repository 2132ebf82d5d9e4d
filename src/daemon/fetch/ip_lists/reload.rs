//! Schedules the lists at the start and after a reload. A source that is still configured keeps
//! its networks and its place in the schedule.

use crate::config::settings::Settings;
use crate::daemon::fetch::ip_lists::cache;
use crate::daemon::fetch::ip_lists::kind::{ListKind, SourceId};
use crate::daemon::fetch::ip_lists::lists::{IpLists, SourceState};
use crate::daemon::fetch::schedule::{Job, Schedule};
use crate::io::clock::Tick;
use crate::io::logger::event;

/// Schedules every source, and loads the cached copies of those from the web.
pub fn plan(lists: &mut IpLists, schedule: &mut Schedule, now: Tick) {
    for id in ids(lists, &|_| true) {
        schedule.add(Job::IpList(id), now);
        cache::restore(lists, id);
    }
    report_pending(lists);
}

/// Applies the lists of new settings. Files are read again, since the operator may have edited
/// them. Returns the jobs that were removed.
pub fn reload(
    settings: &Settings,
    lists: &mut IpLists,
    schedule: &mut Schedule,
    now: Tick,
) -> Vec<Job> {
    let removed = schedule.remove(&|job| matches!(job, Job::IpList(_)));
    let mut before = std::mem::replace(lists, IpLists::new(settings));
    lists.clients = std::mem::take(&mut before.clients);
    let mut missing = Vec::new();
    for kind in [ListKind::Block, ListKind::Allow] {
        let Some(list) = lists.get(kind) else { continue };
        let latest = now + list.period;
        if let Some(old) = before.get(kind) {
            (list.refused, list.failed) = (old.refused, old.failed);
            list.warned_at = old.warned_at;
        }
        for (index, source) in list.sources.iter_mut().enumerate() {
            let id = SourceId { list: kind, index };
            let mut due = None;
            if let Some((old_index, old)) = take_source(&mut before, kind, source) {
                let old_job = Job::IpList(SourceId { list: kind, index: old_index });
                let old_due = removed.iter().find(|(job, due)| *job == old_job && due.is_some());
                due = old_due.and_then(|(_, due)| *due).filter(|_| old.is_web());
                *source = old;
            } else {
                missing.push(id);
            }
            schedule.add(Job::IpList(id), due.unwrap_or(now).min(latest));
        }
    }
    missing.into_iter().for_each(|id| cache::restore(lists, id));
    report_pending(lists);
    removed.into_iter().map(|(job, _)| job).collect()
}

/// Reads the files again, for a reload that has changed no list.
pub fn refresh(lists: &IpLists, schedule: &mut Schedule, now: Tick) {
    let files = ids(lists, &|source| !source.is_web());
    schedule.bring_forward(&|job| matches!(job, Job::IpList(id) if files.contains(&id)), now);
}

/// Whether new settings change the lists.
pub fn has_changed(before: &Settings, now: &Settings) -> bool {
    before.blocklist != now.blocklist
        || before.allowlist != now.allowlist
        || before.cache_dir != now.cache_dir
}

fn ids(lists: &IpLists, is_wanted: &dyn Fn(&SourceState) -> bool) -> Vec<SourceId> {
    let mut ids = Vec::new();
    for (kind, list) in lists.iter() {
        let sources = list.sources.iter().enumerate().filter(|(_, source)| is_wanted(source));
        ids.extend(sources.map(|(index, _)| SourceId { list: kind, index }));
    }
    ids
}

/// Removes the source with the same origin from the old lists. Returns its index there, too.
fn take_source(
    before: &mut IpLists,
    kind: ListKind,
    wanted: &SourceState,
) -> Option<(usize, SourceState)> {
    let sources = &mut before.get(kind)?.sources;
    let is_it = |source: &SourceState| source.origin == wanted.origin && source.is_tried;
    let index = sources.iter().position(is_it)?;
    let source = sources.get_mut(index)?;
    Some((index, std::mem::replace(source, SourceState::new(&wanted.origin))))
}

/// Logs which sources have to be fetched first.
fn report_pending(lists: &IpLists) {
    for (kind, list) in lists.iter() {
        let sources = list.sources.iter();
        let missing = sources.filter(|s| s.is_web() && s.networks.is_none()).count();
        if missing > 0 {
            let until_then = match kind {
                ListKind::Block => "these sources block no address",
                ListKind::Allow => "these sources allow no address",
            };
            event!(
                Info, "list-pending", name = %kind.as_str(), sources = missing,
                until_then = ?until_then
            );
        }
    }
}

//! Lists of a new config in a running daemon: what was fetched before and is still wanted stays.

use crate::daemon::fetch::ip_lists::{IpLists, ListKind, ListState, cache, load};
use crate::daemon::fetch::schedule::Job;
use crate::daemon::shared::World;
use crate::io::clock::Tick;

/// Takes the lists of the world's new settings. Files are read again, since who reloads has often
/// just edited one. Returns the jobs that are not there any more.
pub fn reload(world: &mut World) -> Vec<Job> {
    let settings = world.settings.clone();
    let gone = world.fetch.schedule.forget(|job| matches!(job, Job::IpList(..)));
    let mut before = std::mem::replace(&mut world.lists, IpLists::new(&settings));
    let mut missing = Vec::new();
    for which in [ListKind::Block, ListKind::Allow] {
        let Some(list) = world.lists.get(which) else { continue };
        let latest = Tick(world.time.now.0 + list.every.as_millis() as u64);
        if let Some(old) = before.get(which) {
            (list.refused, list.failed) = (old.refused, old.failed);
            list.complained = old.complained;
        }
        for (at, source) in list.sources.iter_mut().enumerate() {
            let mut due = None;
            if let Some((was_at, was)) = before.take(which, source) {
                let was_due = |(job, due): &(Job, Option<Tick>)| match job {
                    Job::IpList(of, at) if (*of, *at) == (which, was_at) => *due,
                    _ => None,
                };
                due = gone.iter().find_map(was_due).filter(|_| was.is_web());
                *source = was;
            } else {
                missing.push((which, at));
            }
            let due = due.unwrap_or(world.time.now).min(latest);
            world.fetch.schedule.add(Job::IpList(which, at), due);
        }
    }
    for (which, at) in missing {
        cache::restore(world, which, at);
    }
    load::announce(world);
    gone.into_iter().map(|(job, _)| job).collect()
}

/// Reads the files again, where nothing else has changed.
pub fn refresh(world: &mut World) {
    let mut files = Vec::new();
    for (which, list) in world.lists.iter() {
        let sources = list.sources.iter().enumerate();
        files.extend(sources.filter(|(_, s)| !s.is_web()).map(|(at, _)| Job::IpList(which, at)));
    }
    world.fetch.schedule.hasten(|job| files.contains(&job), world.time.now);
}

impl IpLists {
    /// Takes the source that comes from the same place, and where it stood.
    fn take(&mut self, which: ListKind, wanted: &ListState) -> Option<(usize, ListState)> {
        let sources = &mut self.get(which)?.sources;
        let at = sources.iter().position(|source| source.from == wanted.from && source.is_tried)?;
        let source = sources.get_mut(at)?;
        let taken = std::mem::replace(source, ListState::new(&wanted.from));
        Some((at, taken))
    }
}

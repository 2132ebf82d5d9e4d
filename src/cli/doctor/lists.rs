//! Can the lists and the other pages that the daemon fetches be had? Each file is opened, of each
//! page the beginning is fetched; the way is that of the daemon.

use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use nix::fcntl::OFlag;

use crate::cli::doctor::context::{CheckContext, joined};
use crate::cli::doctor::findings::Section;
use crate::cli::json::Json;
use crate::config::settings::{ListSettings, ListSource, Settings};
use crate::daemon::fetch::http_get::HttpGet;
use crate::daemon::fetch::task::{FetchRoute, FetchTarget, FetchTask, TaskStep};
use crate::proto::url::Url;

/// Looks at every source of every list, and at every page.
pub fn check(patient: &mut CheckContext) -> Vec<Section> {
    let mut section = Section::new("lists", "Validate lists and pages");
    let settings = &patient.settings;
    let mut pages = Vec::new();
    for (name, list) in [("blocklist", &settings.blocklist), ("allowlist", &settings.allowlist)] {
        if let Some(list) = list {
            look_at_files(name, list, &mut section);
            pages.extend(
                web(list).map(|url| PageHead::new(name, url.clone(), FetchRoute::Upstreams)),
            );
        }
    }
    let others = [
        ("auto-update", settings.dc_list.as_ref(), FetchRoute::Upstreams),
        ("doppelganger", raids(settings), FetchRoute::Native),
    ];
    for (name, urls, via) in others {
        pages.extend(urls.into_iter().flatten().map(|url| PageHead::new(name, url.clone(), via)));
    }
    let mut errands: Vec<&mut dyn FetchTask> = Vec::new();
    pages.iter_mut().for_each(|page| errands.push(page));
    let outcomes = patient.alone.run(&mut errands, LIMIT);
    for (page, outcome) in pages.iter().zip(outcomes) {
        let PageHead { list, place, .. } = page;
        let finding = match outcome {
            Ok(()) => section.ok(format!("{list}: {place} answers")),
            Err(why) => section.fail(format!("{list}: {place}: {why}")).remedy(
                "correct the address, or look at the way out; until it comes, the last copy in \
                 defense.cache-dir holds, if there is one",
            ),
        };
        finding.fact("list", Json::text(list)).fact("source", Json::text(place));
    }
    if section.is_empty() {
        section.skip("no lists and no pages are configured");
    }
    vec![section]
}

/// Pages are visited only where there is a pace to learn.
fn raids(settings: &Settings) -> Option<&Vec<Url>> {
    settings.shape.map(|_| &settings.raids.pages)
}

fn web(list: &ListSettings) -> impl Iterator<Item = &Url> {
    list.sources.iter().filter_map(|source| match source {
        ListSource::Web(url) => Some(url),
        ListSource::File(_) => None,
    })
}

fn look_at_files(name: &str, list: &ListSettings, section: &mut Section) {
    for source in &list.sources {
        let ListSource::File(path) = source else { continue };
        let finding = match read_a_bit(path) {
            Ok(()) => section.ok(format!("{name}: {} can be read", path.display())),
            Err(why) => section
                .fail(format!("{name}: {}: {why}", path.display()))
                .remedy("correct the path, or let the user that mtbox runs as read the file"),
        };
        finding.fact("list", Json::text(name)).fact("source", Json::text(path.display()));
    }
}

fn read_a_bit(path: &Path) -> Result<(), String> {
    // A pipe that nobody writes to would hold us up.
    let flags = OFlag::O_NONBLOCK.bits();
    let mut file =
        OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(|e| e.to_string())?;
    let is_file = file.metadata().is_ok_and(|found| found.is_file());
    if !is_file {
        return Err("not a file".to_owned());
    }
    file.read(&mut [0; 512]).map(drop).map_err(|e| e.to_string())
}

/// The beginning of a page.
struct PageHead {
    list: &'static str,
    /// The host alone: the path may hold a key.
    place: String,
    fetch: HttpGet,
}

impl PageHead {
    fn new(list: &'static str, url: Url, via: FetchRoute) -> Self {
        let place = format!("{}://{}", url.scheme, joined(&url.host, url.port_or(HTTP_PORT)));
        Self { list, place, fetch: HttpGet::new(url, via, MOST_BYTES, String::new()) }
    }
}

impl FetchTask for PageHead {
    fn target(&self) -> FetchTarget {
        self.fetch.target()
    }

    fn request(&mut self) -> Vec<u8> {
        self.fetch.request()
    }

    fn push_bytes(&mut self, bytes: &[u8]) -> TaskStep {
        let mut has_begun = false;
        let step = self.fetch.push_bytes(bytes, &mut |piece| has_begun |= !piece.is_empty());
        match step {
            TaskStep::More if has_begun => TaskStep::Done,
            step => step,
        }
    }

    fn finish(&mut self) -> TaskStep {
        self.fetch.finish()
    }
}

const LIMIT: Duration = Duration::from_secs(20);
const MOST_BYTES: u64 = 1 << 30;
const HTTP_PORT: u16 = 80;

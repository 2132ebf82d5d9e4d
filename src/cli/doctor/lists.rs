//! Are the IP lists and the web pages of the config available? Opens each file, and fetches the
//! beginning of each page over the same upstreams as the daemon.

use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use nix::fcntl::OFlag;

use crate::cli::admin_client;
use crate::cli::doctor::context::CheckContext;
use crate::cli::doctor::findings::Section;
use crate::cli::doctor::telegram;
use crate::config::settings::{ListSettings, ListSource, Settings};
use crate::daemon::fetch::http_get::HttpGet;
use crate::daemon::fetch::ip_lists::admission::HIDDEN;
use crate::daemon::fetch::task::{FetchError, FetchTarget, FetchTask, TaskStep};
use crate::daemon::upstream::connect::target::Route;
use crate::proto::url::Url;
use crate::util::json::Json;

pub(super) fn check(context: &mut CheckContext) -> Vec<Section> {
    let mut section = Section::new("lists", "Validate lists and pages");
    let settings = &context.settings;
    let mut pages = Vec::new();
    for (name, list) in [("blocklist", &settings.blocklist), ("allowlist", &settings.allowlist)] {
        if let Some(list) = list {
            check_files(name, list, &mut section);
            let urls = urls(list).cloned();
            pages.extend(urls.map(|url| PageHead::new(name, url, Route::Upstreams)));
        }
    }
    let others = [
        ("auto-update", settings.dc_list.as_ref(), Route::Upstreams),
        ("doppelganger", timed_pages(settings), Route::Native),
    ];
    for (name, urls, route) in others {
        pages.extend(urls.into_iter().flatten().map(|url| PageHead::new(name, url.clone(), route)));
    }
    let mut tasks: Vec<&mut dyn FetchTask> = Vec::new();
    pages.iter_mut().for_each(|page| tasks.push(page));
    let outcomes = context.standalone.run(&mut tasks, LIMIT);
    for (page, outcome) in pages.iter().zip(outcomes) {
        let PageHead { name, server, .. } = page;
        let finding = match outcome {
            Ok(()) => section.ok(format!("{name}: {server} answers")),
            Err(error @ FetchError::Proxy(_)) => {
                section.fail(format!("{name}: {server}: {error}")).remedy(telegram::PROXY_REMEDY)
            }
            Err(error) => section.fail(format!("{name}: {server}: {error}")).remedy(
                "correct the address, or check the network; until then mtbox uses the copy in \
                 defense.cache-dir, if it exists",
            ),
        };
        finding.fact("list", Json::text(name)).fact("source", Json::text(server));
    }
    check_clients(&context.settings, &mut section);
    if section.is_empty() {
        section.skip("the config has no lists and no pages");
    }
    vec![section]
}

/// Whether a relay hides the addresses of clients, for which a list is of no use.
fn check_clients(settings: &Settings, section: &mut Section) {
    if settings.blocklist.is_none() && settings.allowlist.is_none() {
        return;
    }
    let explained = admin_client::get(settings, "/explain/?text");
    if explained.is_ok_and(|reply| reply.body.contains(HIDDEN)) {
        section.fail(HIDDEN).remedy(BEHIND_RELAY);
    } else if settings.proxy_protocol.is_none()
        && settings.binds.iter().all(|bind| bind.ip().is_loopback())
    {
        section
            .warn("only this machine can reach bind-to, so the lists see no address of a client")
            .remedy(BEHIND_RELAY);
    }
}

/// The daemon fetches these pages only if it shapes traffic.
fn timed_pages(settings: &Settings) -> Option<&Vec<Url>> {
    settings.shape.map(|_| &settings.page_timing.pages)
}

fn urls(list: &ListSettings) -> impl Iterator<Item = &Url> {
    list.sources.iter().filter_map(|source| match source {
        ListSource::Web(url) => Some(url),
        ListSource::File(_) => None,
    })
}

fn check_files(name: &str, list: &ListSettings, section: &mut Section) {
    for source in &list.sources {
        let ListSource::File(path) = source else { continue };
        let finding = match read_head(path) {
            Ok(()) => section.ok(format!("{name}: {} is readable", path.display())),
            Err(e) => section
                .fail(format!("{name}: {}: {e}", path.display()))
                .remedy("correct the path, or let the account of mtbox read the file"),
        };
        finding.fact("list", Json::text(name)).fact("source", Json::text(path.display()));
    }
}

fn read_head(path: &Path) -> io::Result<()> {
    // Without O_NONBLOCK, the open of a pipe without a writer blocks.
    let flags = OFlag::O_NONBLOCK.bits();
    let mut file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let is_file = file.metadata().is_ok_and(|found| found.is_file());
    if !is_file {
        return Err(io::Error::other("not a file"));
    }
    file.read(&mut [0; 512]).map(drop)
}

/// Fetches a page until the first bytes of its body arrive.
struct PageHead {
    /// The list, or the key of the page.
    name: &'static str,
    /// Scheme, host and port only: the path may contain a key.
    server: String,
    fetch: HttpGet,
}

impl PageHead {
    fn new(name: &'static str, url: Url, route: Route) -> Self {
        let server = format!("{}://{}", url.scheme, url.server(HTTP_PORT));
        Self { name, server, fetch: HttpGet::new(url, route, PAGE_MAX, String::new()) }
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

const BEHIND_RELAY: &str =
    "let the relay send a PROXY header, and set proxy-protocol-listener = true";
const LIMIT: Duration = Duration::from_secs(20);
/// In bytes, by Content-Length. Larger than any list.
const PAGE_MAX: u64 = 1 << 30;
const HTTP_PORT: u16 = 80;

//! The pages that are being written or were written lately. A page with many rows is written over
//! several rounds and answers all requests of the next second; a page with few rows is written
//! again for each request.

use std::rc::Rc;
use std::time::Duration;

use crate::daemon::admin::pages::{Page, PageQuery, Writer};
use crate::daemon::admin::view::View;
use crate::io::clock::Tick;

/// One page in progress, and complete ones that may answer more requests.
#[derive(Default)]
pub(super) struct PageStore {
    draft: Option<Draft>,
    pages: Vec<WrittenPage>,
    /// Rows that may still be written in this turn.
    rows_left: usize,
    /// Number of pages that were completed.
    written: u64,
}

/// A page in progress.
struct Draft {
    query: PageQuery,
    started: Tick,
    rows: usize,
    page: Page,
    writer: Writer,
}

struct WrittenPage {
    query: PageQuery,
    /// It answers requests until then.
    until: Tick,
    page: Rc<Page>,
}

impl PageStore {
    /// Starts a turn, in which a bounded number of rows is written.
    pub(super) fn begin_turn(&mut self) {
        self.rows_left = ROWS_PER_TURN;
    }

    /// The page for a request that arrived at `asked`; `None` = it is not complete yet. Writes the
    /// next rows, unless another page is in progress.
    pub(super) fn get(
        &mut self,
        query: &PageQuery,
        asked: Tick,
        view: &View<'_>,
    ) -> Option<Rc<Page>> {
        let answers = |one: &&WrittenPage| one.query == *query && asked <= one.until;
        if let Some(written) = self.pages.iter().find(answers) {
            return Some(Rc::clone(&written.page));
        }
        let draft = self.draft.get_or_insert_with(|| Draft::new(query, view));
        if draft.query != *query || asked > draft.until() {
            return None;
        }
        while self.rows_left > 0 {
            self.rows_left -= 1;
            if !draft.write_row(view) {
                return self.complete();
            }
        }
        None
    }

    fn complete(&mut self) -> Option<Rc<Page>> {
        let Draft { query, started, rows, page, .. } = self.draft.take()?;
        self.written += 1;
        if self.pages.len() >= PAGES_MAX {
            self.pages.remove(0);
        }
        let until = if rows > FEW_ROWS { started + REUSE_TIME } else { started };
        let page = Rc::new(page);
        self.pages.push(WrittenPage { query, until, page: Rc::clone(&page) });
        Some(page)
    }

    /// Drops the pages that can answer no request; `is_asked` says whether a request waits for a
    /// page and arrived not later than a time.
    pub(super) fn retain(&mut self, now: Tick, is_asked: impl Fn(&PageQuery, Tick) -> bool) {
        self.draft.take_if(|draft| !is_asked(&draft.query, draft.until()));
        self.pages.retain(|one| now < one.until || is_asked(&one.query, one.until));
    }

    /// Drops all pages, because users and settings have changed.
    pub(super) fn clear(&mut self) {
        (self.draft, self.pages) = (None, Vec::new());
    }

    /// When the first page becomes too old.
    pub(super) fn due(&self) -> Option<Tick> {
        self.pages.iter().map(|one| one.until).min()
    }

    /// Number of pages that were completed.
    pub(super) fn written(&self) -> u64 {
        self.written
    }
}

impl Draft {
    fn new(query: &PageQuery, view: &View<'_>) -> Self {
        let (page, writer) = query.start(view);
        Self { query: query.clone(), started: view.time.now, rows: 0, page, writer }
    }

    /// The time of the last request that the page can answer.
    fn until(&self) -> Tick {
        self.started + REUSE_TIME
    }

    fn write_row(&mut self, view: &View<'_>) -> bool {
        self.rows += 1;
        self.writer.as_mut().is_some_and(|writer| writer.write_row(view, &mut self.page.body))
    }
}

/// At most a millisecond on a fast machine, five on a slow router.
const ROWS_PER_TURN: usize = 256;
/// A page with at most so many rows is written for each request.
const FEW_ROWS: usize = 256;
/// How long a page with more rows answers requests, from its start.
const REUSE_TIME: Duration = Duration::from_secs(1);
/// Pages that are kept: more than there are kinds.
const PAGES_MAX: usize = 8;

#[cfg(test)]
mod tests;

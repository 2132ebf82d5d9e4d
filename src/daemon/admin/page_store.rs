//! The pages that are being written or were written lately. A page with many rows is written over
//! several rounds and answers all requests of the next second; a page with few rows is written
//! again for each request.

use std::rc::Rc;
use std::time::Duration;

use crate::daemon::admin::pages::{Page, PageQuery, Writer};
use crate::daemon::admin::view::View;
use crate::io::clock::Tick;
use crate::util::memory::{Account, Charge, Class, MemoryFull};

/// One page in progress, and complete ones that may answer more requests.
#[derive(Default)]
pub(super) struct PageStore {
    draft: Option<Draft>,
    pages: Vec<WrittenPage>,
    /// The memory of the pages and of their connections, once there are any.
    account: Option<Rc<Account>>,
    /// Rows that may still be written in this turn.
    rows_left: usize,
    /// Number of pages that were completed.
    written: u64,
    /// Number of pages for which there was no memory.
    refused: u64,
}

/// A page in progress.
struct Draft {
    query: PageQuery,
    started: Tick,
    rows: usize,
    page: Page,
    writer: Writer,
    charge: Charge,
}

struct WrittenPage {
    query: PageQuery,
    /// It answers requests until then.
    until: Tick,
    page: Rc<ChargedPage>,
}

/// A complete page.
pub(super) struct ChargedPage {
    /// The page.
    pub(super) page: Page,
    _charge: Charge,
}

impl PageStore {
    /// The account of the pages and of their connections.
    pub(super) fn account(&mut self, view: &View<'_>) -> &Rc<Account> {
        let budget = &view.buffers.memory.budget;
        self.account.get_or_insert_with(|| Account::of_class(budget, Class::Operator))
    }

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
    ) -> Option<Rc<ChargedPage>> {
        let answers = |one: &&WrittenPage| one.query == *query && asked <= one.until;
        if let Some(written) = self.pages.iter().find(answers) {
            return Some(Rc::clone(&written.page));
        }
        let charge = self.account(view).charge_held(0);
        let draft = self.draft.get_or_insert_with(|| Draft::new(query, view, charge));
        if draft.query != *query || asked > draft.until() {
            return None;
        }
        while self.rows_left > 0 {
            self.rows_left -= 1;
            let mut has_more = draft.write_row(view);
            if has_more == Err(MemoryFull) {
                // Pages that are no longer sent are dispensable.
                self.pages.retain(|one| Rc::strong_count(&one.page) > 1);
                has_more = draft.write_row(view);
            }
            match has_more {
                Ok(true) => {}
                Ok(false) => return self.complete(),
                Err(MemoryFull) => {
                    draft.page = Page::without_memory();
                    self.refused += 1;
                    return self.complete();
                }
            }
        }
        None
    }

    fn complete(&mut self) -> Option<Rc<ChargedPage>> {
        let Draft { query, started, rows, mut page, mut charge, .. } = self.draft.take()?;
        page.body.shrink_to_fit();
        charge.set_held(page.body.capacity());
        self.written += 1;
        if self.pages.len() >= PAGES_MAX {
            self.pages.remove(0);
        }
        let until = if rows > FEW_ROWS { started + REUSE_TIME } else { started };
        let page = Rc::new(ChargedPage { page, _charge: charge });
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

    /// Number of pages for which there was no memory.
    pub(super) fn refused(&self) -> u64 {
        self.refused
    }
}

impl Draft {
    fn new(query: &PageQuery, view: &View<'_>, charge: Charge) -> Self {
        let (page, writer) = query.start(view);
        Self { query: query.clone(), started: view.time.now, rows: 0, page, writer, charge }
    }

    /// The time of the last request that the page can answer.
    fn until(&self) -> Tick {
        self.started + REUSE_TIME
    }

    /// Writes the next row. Returns whether there are more.
    fn write_row(&mut self, view: &View<'_>) -> Result<bool, MemoryFull> {
        let body = &mut self.page.body;
        if self.writer.is_some() && body.capacity() - body.len() < ROW_BYTES {
            let spare = if body.len() < FREE_BYTES { FREE_BYTES / 4 } else { SPARE_BYTES };
            if body.len() + spare > FREE_BYTES {
                self.charge.resize(body.len() + spare)?;
            }
            body.reserve_exact(spare);
        }
        self.rows += 1;
        let has_more = self.writer.as_mut().is_some_and(|writer| writer.write_row(view, body));
        // A row can be longer than expected.
        self.charge.set_held(body.capacity());
        Ok(has_more)
    }
}

/// At most a millisecond on a fast machine, five on a slow router.
const ROWS_PER_TURN: usize = 256;
/// A page with at most so many rows is written for each request.
const FEW_ROWS: usize = 256;
/// How long a page with more rows answers requests, from its start.
const REUSE_TIME: Duration = Duration::from_secs(1);
/// Most rows are shorter.
const ROW_BYTES: usize = 2 << 10;
/// A page may have so many bytes without asking, so that a short one is always written.
const FREE_BYTES: usize = 32 << 10;
/// By this much a longer page grows.
const SPARE_BYTES: usize = 32 << 10;
/// Pages that are kept: more than there are kinds.
const PAGES_MAX: usize = 8;

#[cfg(test)]
mod tests;

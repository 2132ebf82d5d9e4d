//! One connection to the admin pages: one request, one answer, and the client's FIN.

use std::io::{self, IoSlice, IoSliceMut};
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use crate::daemon::admin::page_store::{ChargedPage, PageStore};
use crate::daemon::admin::pages::{self, AdminPages, Asked, PageQuery};
use crate::daemon::admin::view::View;
use crate::io::clock::Tick;
use crate::io::wire::Wire;
use crate::proto::http1::{self, REQUEST_HEAD_MAX};
use crate::util::memory::ChargedBytes;

/// A connection.
pub(super) struct AdminConnection<W> {
    /// The slot of the listener that accepted it.
    pub(super) listener: usize,
    /// Connections are served in this order.
    pub(super) number: u64,
    wire: W,
    pages: AdminPages,
    stage: RequestStage,
    /// The client sent FIN.
    is_finished: bool,
    /// There was an event, or more can be written.
    is_ready: bool,
    /// When the client became the one to act.
    since: Tick,
    deadline: Tick,
}

enum RequestStage {
    /// The bytes so far.
    Incomplete(ChargedBytes),
    /// The request of this time waits for its page.
    Waiting { query: PageQuery, is_head: bool, asked: Tick },
    /// `sent` counts the bytes of head and page that the socket took.
    Answered { head: String, page: Option<Rc<ChargedPage>>, sent: usize },
}

impl<W: Wire> AdminConnection<W> {
    /// A new connection; its request may have arrived already.
    pub(super) fn new(
        (listener, pages): (usize, AdminPages),
        number: u64,
        wire: W,
        now: Tick,
    ) -> Self {
        Self {
            listener,
            number,
            wire,
            pages,
            stage: RequestStage::Incomplete(ChargedBytes::default()),
            is_finished: false,
            is_ready: true,
            since: now,
            deadline: now + ANSWER_TIMEOUT,
        }
    }

    /// Records an event.
    pub(super) fn mark_ready(&mut self) {
        self.is_ready = true;
    }

    /// Whether a step makes progress without waiting for the client.
    pub(super) fn has_work(&self) -> bool {
        self.is_ready || matches!(self.stage, RequestStage::Waiting { .. })
    }

    /// Whether it waits for this page and its request arrived at `until` or earlier.
    pub(super) fn asks(&self, page: &PageQuery, until: Tick) -> bool {
        match &self.stage {
            RequestStage::Waiting { query, asked, .. } => query == page && *asked <= until,
            _ => false,
        }
    }

    /// When the client must have acted.
    pub(super) fn deadline(&self) -> Option<Tick> {
        Some(self.deadline).filter(|_| !matches!(self.stage, RequestStage::Waiting { .. }))
    }

    /// From when on the connection gives its slot to a new one: the client has not sent its
    /// request, or reads too slowly. `None` = it waits for us.
    pub(super) fn evictable_at(&self) -> Option<Tick> {
        let sent = match &self.stage {
            RequestStage::Incomplete(_) => 0,
            RequestStage::Waiting { .. } => return None,
            // The kernel sends the rest.
            RequestStage::Answered { .. } if self.is_sent() => return Some(self.since),
            RequestStage::Answered { sent, .. } => *sent as u64,
        };
        Some(self.since + PATIENCE + Duration::from_millis(sent / BYTES_PER_MS))
    }

    /// Reads the request, writes the answer, and waits for the client's FIN. `Ready` = close it.
    pub(super) fn step(&mut self, store: &mut PageStore, view: &View<'_>) -> io::Result<Poll<()>> {
        self.is_ready = false;
        let now = view.time.now;
        self.read(store, view)?;
        if let RequestStage::Waiting { query, is_head, asked } = &self.stage
            && let Some(charged) = store.get(query, *asked, view)
        {
            let (page, is_head) = (&charged.page, *is_head);
            let head = http1::response_head(page.status, page.kind, page.body.len());
            // The client is not to blame for this time.
            self.deadline = self.deadline + now.since(*asked);
            self.answer(head, Some(charged).filter(|_| !is_head), now);
        }
        let is_late = self.deadline().is_some_and(|deadline| now >= deadline);
        match self.stage {
            RequestStage::Incomplete(_) if self.is_finished => return Ok(Poll::Ready(())),
            RequestStage::Incomplete(_) if is_late => {
                self.answer(pages::timeout_answer(), None, now);
            }
            RequestStage::Answered { .. } if is_late => return Ok(Poll::Ready(())),
            _ => {}
        }
        self.write()
    }

    /// Ends a connection that gives its slot to a new one.
    pub(super) fn evict(mut self, now: Tick) {
        if let RequestStage::Incomplete(_) = self.stage {
            self.answer(pages::timeout_answer(), None, now);
            // What the socket does not take at once is lost.
            let _ = self.write();
        }
    }

    fn read(&mut self, store: &mut PageStore, view: &View<'_>) -> io::Result<()> {
        let mut chunk = [0; 1024];
        // Bounded: a client that sends without end is cut off at the deadline.
        for _ in 0..READS_PER_STEP {
            match self.wire.read(&mut [IoSliceMut::new(&mut chunk)]) {
                Ok(0) => {
                    self.is_finished = true;
                    break;
                }
                Ok(n) => self.receive(chunk.get(..n).unwrap_or_default(), store, view),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    fn receive(&mut self, bytes: &[u8], store: &mut PageStore, view: &View<'_>) {
        let RequestStage::Incomplete(received) = &mut self.stage else { return };
        let room = REQUEST_HEAD_MAX.saturating_sub(received.len());
        let now = view.time.now;
        // The number of connections bounds them.
        received.extend_held(store.account(view), bytes.get(..room).unwrap_or(bytes));
        match pages::asked(received, self.pages, view) {
            Some(Asked::Page { query, is_head }) => {
                self.stage = RequestStage::Waiting { query, is_head, asked: now };
            }
            Some(Asked::Nothing(answer)) => self.answer(answer, None, now),
            None => {}
        }
    }

    fn answer(&mut self, head: String, page: Option<Rc<ChargedPage>>, now: Tick) {
        self.stage = RequestStage::Answered { head, page, sent: 0 };
        self.since = now;
        self.deadline = self.deadline.max(now + CLOSE_TIMEOUT);
    }

    /// The socket took the whole answer.
    fn is_sent(&self) -> bool {
        let RequestStage::Answered { head, page, sent } = &self.stage else { return false };
        *sent >= head.len() + page.as_ref().map_or(0, |charged| charged.page.body.len())
    }

    fn write(&mut self) -> io::Result<Poll<()>> {
        let RequestStage::Answered { head, page, sent } = &mut self.stage else {
            return Ok(Poll::Pending);
        };
        let body = page.as_ref().map_or("", |charged| &charged.page.body).as_bytes();
        let end = (head.len() + body.len()).min(*sent + WRITTEN_PER_STEP);
        while *sent < end {
            let head_rest = head.as_bytes().get(*sent..).unwrap_or_default();
            let (from, to) = (sent.saturating_sub(head.len()), end.saturating_sub(head.len()));
            let parts = [head_rest, body.get(from..to).unwrap_or_default()].map(IoSlice::new);
            match self.wire.write(&parts) {
                Ok(n) => *sent += n,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(Poll::Pending),
                Err(e) => return Err(e),
            }
        }
        if !self.is_sent() {
            self.is_ready = true;
            return Ok(Poll::Pending);
        }
        // The slot stays in use until the client answers our FIN: closing a socket with unread
        // bytes sends RST, which can overtake the answer.
        self.wire.shutdown_write()?;
        Ok(if self.is_finished { Poll::Ready(()) } else { Poll::Pending })
    }
}

/// From accept to the client's FIN, without the time in which the page is written.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// The least time for the client to read an answer.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// For a request or the first bytes of an answer, when others wait for the slot.
const PATIENCE: Duration = Duration::from_millis(250);
/// The rate at which an answer must be read then: 256 KB per second.
const BYTES_PER_MS: u64 = 256;
const READS_PER_STEP: usize = 16;
/// Bytes of an answer, besides its head.
const WRITTEN_PER_STEP: usize = 64 << 10;

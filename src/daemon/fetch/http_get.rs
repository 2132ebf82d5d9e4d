//! One document of the web: request, redirects, body in pieces, and every limit on the way. Pure:
//! an [`FetchTask`](super::Errand) that wants a document has one of these and passes bytes through.

use crate::daemon::fetch::connection::{FetchRoute, HostOrAddr};
use crate::daemon::fetch::{FetchTarget, TaskStep};
use crate::proto::http1_client::{self, BodyProgress, Head, Response};
use crate::proto::url::Url;

/// One document on its way.
pub struct HttpGet {
    url: Url,
    via: FetchRoute,
    validators: String,
    redirects: u32,
    most_bytes: u64,
    body_bytes: u64,
    response: Response,
}

impl HttpGet {
    /// The document at `url`, of at most `most_bytes`. `validators` come from
    /// [`HttpGet::validators`] of an earlier time; empty = none.
    pub fn new(url: Url, via: FetchRoute, most_bytes: u64, validators: String) -> Self {
        let (redirects, body_bytes, response) = (0, 0, Response::default());
        Self { url, via, validators, redirects, most_bytes, body_bytes, response }
    }

    /// Where to go for it, now.
    pub fn target(&self) -> FetchTarget {
        let (host, port) = (self.url.host.clone(), self.url.port_or(HTTP_PORT));
        let tls = (self.url.scheme == "https").then(|| host.clone());
        FetchTarget { place: HostOrAddr::Named { host, port }, tls, via: self.via }
    }

    /// What to say there.
    pub fn question(&self) -> Vec<u8> {
        http1_client::get_request(&self.url, &self.validators)
    }

    /// The server says that nothing has changed since the validators were given out.
    pub fn is_unchanged(&self) -> bool {
        self.response.head().status == 304
    }

    /// What to give to the next fetch of the same document.
    pub fn validators(&self) -> &str {
        &self.response.head().validators
    }

    /// Takes bytes; pieces of the document go to `body`.
    pub fn take(&mut self, bytes: &[u8], body: &mut dyn FnMut(&[u8])) -> TaskStep {
        let (most, seen) = (self.most_bytes, &mut self.body_bytes);
        let mut pass = |head: &Head, piece: &[u8]| {
            let is_document = (200..300).contains(&head.status);
            *seen = seen.saturating_add(piece.len() as u64);
            if is_document && *seen <= most {
                body(piece);
            }
        };
        let progress = self.response.push(bytes, &mut pass);
        let head = self.response.head();
        if (301..=308).contains(&head.status) && head.status != 304 {
            return self.follow();
        }
        if head.status >= 400 {
            return TaskStep::Failed(format!("the server says {}", head.status));
        }
        if self.body_bytes > self.most_bytes {
            return TaskStep::Failed(format!("larger than {} bytes", self.most_bytes));
        }
        match progress {
            Ok(BodyProgress::Complete) => TaskStep::Done,
            Ok(BodyProgress::Incomplete) => TaskStep::More,
            Err(fault) => TaskStep::Failed(fault.as_str().to_owned()),
        }
    }

    /// The connection has ended.
    pub fn end(&self) -> TaskStep {
        match self.response.finish() {
            Ok(()) => TaskStep::Done,
            Err(fault) => TaskStep::Failed(fault.as_str().to_owned()),
        }
    }

    /// Goes where a redirect leads: three times at most, and never from `https` to `http`.
    fn follow(&mut self) -> TaskStep {
        let location = self.response.head().location.as_deref();
        let Some(next) = location.and_then(|location| self.url.join(location)) else {
            return TaskStep::Failed("a redirect to nowhere".to_owned());
        };
        self.redirects += 1;
        let is_web = matches!(next.scheme.as_str(), "http" | "https") && !next.host.is_empty();
        if self.redirects > MOST_REDIRECTS || !is_web {
            return TaskStep::Failed("too many redirects, or one to no web page".to_owned());
        }
        if self.url.scheme == "https" && next.scheme != "https" {
            return TaskStep::Failed("a redirect from https to http".to_owned());
        }
        if next.scheme == "https" && !crate::config::HAS_TLS {
            return TaskStep::Failed(
                "a redirect to https, which this build does not have".to_owned(),
            );
        }
        (self.url, self.response, self.body_bytes) = (next, Response::default(), 0);
        TaskStep::Again
    }
}

const HTTP_PORT: u16 = 80;
const MOST_REDIRECTS: u32 = 3;

//! HTTP GET of one document: request, redirects, the body in pieces, and all limits. Part of each
//! [`FetchTask`](crate::daemon::fetch::task::FetchTask) that fetches a document.

use crate::daemon::fetch::task::{FetchError, FetchTarget, TaskStep};
use crate::daemon::upstream::connect::target::{HostOrAddrs, Reach, Route};
use crate::proto::http1_client::{self, BodyProgress, Head, Response};
use crate::proto::url::Url;

/// The fetch of one document.
pub struct HttpGet {
    url: Url,
    /// The host of the first URL, which the operator has written.
    configured: String,
    route: Route,
    validators: String,
    redirects: u32,
    max_bytes: u64,
    body_bytes: u64,
    response: Response,
}

impl HttpGet {
    /// A document at `url` of at most `max_bytes`. `validators` come from
    /// [`HttpGet::validators`] of an earlier fetch; empty = none.
    pub fn new(url: Url, route: Route, max_bytes: u64, validators: String) -> Self {
        let (redirects, body_bytes, response) = (0, 0, Response::default());
        let configured = url.host.clone();
        Self { url, configured, route, validators, redirects, max_bytes, body_bytes, response }
    }

    /// The server of the current URL.
    pub fn target(&self) -> FetchTarget {
        let tls = (self.url.scheme == "https").then(|| self.url.host.clone());
        // A redirect must not lead where the operator does not send it.
        let reach = match self.url.host.eq_ignore_ascii_case(&self.configured) {
            true => Reach::of_configured(&self.configured),
            false => Reach::Elsewhere,
        };
        let server = HostOrAddrs::Host(self.url.server(HTTP_PORT), reach);
        FetchTarget { server, tls, route: self.route }
    }

    /// The request for the current URL.
    pub fn request(&self) -> Vec<u8> {
        http1_client::get_request(&self.url, &self.validators)
    }

    /// Whether the document has not changed since the validators were issued (status 304).
    pub fn is_unchanged(&self) -> bool {
        self.response.head().status == 304
    }

    /// The validators for the next fetch of the same document.
    pub fn validators(&self) -> &str {
        &self.response.head().validators
    }

    /// Parses received bytes; passes pieces of the document to `on_body`.
    pub fn push_bytes(&mut self, bytes: &[u8], on_body: &mut dyn FnMut(&[u8])) -> TaskStep {
        let (max, seen) = (self.max_bytes, &mut self.body_bytes);
        let mut pass = |head: &Head, piece: &[u8]| {
            let is_document = (200..300).contains(&head.status);
            *seen = seen.saturating_add(piece.len() as u64);
            if is_document && *seen <= max {
                on_body(piece);
            }
        };
        let progress = self.response.push(bytes, &mut pass);
        let status = self.response.head().status;
        if (301..=308).contains(&status) && status != 304 {
            return self.redirect().map_or_else(TaskStep::Failed, |()| TaskStep::Reconnect);
        }
        if status >= 400 {
            return TaskStep::Failed(FetchError::Status(status));
        }
        if self.body_bytes > self.max_bytes {
            return TaskStep::Failed(FetchError::TooLarge(self.max_bytes));
        }
        match progress {
            Ok((BodyProgress::Complete, _)) => TaskStep::Done,
            Ok((BodyProgress::Incomplete, _)) => TaskStep::More,
            Err(fault) => TaskStep::Failed(FetchError::response(fault.as_str())),
        }
    }

    /// Ends the document: the server has sent its FIN.
    pub fn finish(&self) -> TaskStep {
        match self.response.finish() {
            Ok(()) => TaskStep::Done,
            Err(fault) => TaskStep::Failed(FetchError::response(fault.as_str())),
        }
    }

    /// Follows a redirect: three at most, and never from `https` to `http`.
    fn redirect(&mut self) -> Result<(), FetchError> {
        let location = self.response.head().location.as_deref();
        let next = location
            .and_then(|location| self.url.join(location))
            .ok_or(FetchError::response("a redirect without a valid location"))?;
        self.redirects += 1;
        if self.redirects > REDIRECTS_MAX {
            return Err(FetchError::response("too many redirects"));
        }
        if !matches!(next.scheme.as_str(), "http" | "https") || next.host.is_empty() {
            return Err(FetchError::response("a redirect to something other than a web page"));
        }
        if self.url.scheme == "https" && next.scheme != "https" {
            return Err(FetchError::response("a redirect from https to http"));
        }
        if next.scheme == "https" && !crate::config::HAS_TLS {
            return Err(FetchError::response("a redirect to https, which this build lacks"));
        }
        (self.url, self.response, self.body_bytes) = (next, Response::default(), 0);
        Ok(())
    }
}

const HTTP_PORT: u16 = 80;
const REDIRECTS_MAX: u32 = 3;

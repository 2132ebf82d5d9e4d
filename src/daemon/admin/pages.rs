//! The HTTP responses of the admin pages, by path.

use crate::config::HAS_METRICS;
use crate::daemon::admin::explain::ExplainQuery;
use crate::daemon::admin::view::View;
use crate::daemon::admin::{metrics, stats, stats_table};
use crate::proto::http1::{self, HeadFault, Request};

/// The pages of one listener.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AdminPages {
    /// `/stats` and `/explain`.
    pub stats: bool,
    /// The page for Prometheus, at its configured path.
    pub metrics: bool,
}

/// The response to the request in `received`; `None` while its head is incomplete.
pub(super) fn answer(received: &[u8], pages: AdminPages, view: &View<'_>) -> Option<Vec<u8>> {
    let request = match http1::parse_request(received) {
        Ok(request) => request,
        Err(HeadFault::Incomplete) => return None,
        Err(HeadFault::Invalid) => {
            return Some(http1::response(http1::BAD_REQUEST, TEXT, "400 bad request\n", false));
        }
        Err(HeadFault::TooLarge) => {
            let body = "431 request head too large\n";
            return Some(http1::response(http1::HEAD_TOO_LARGE, TEXT, body, false));
        }
    };
    let is_head = request.method == "HEAD";
    let is_page = is_head || request.method == "GET";
    let (status, content_type, body) = match page(&request, pages, view) {
        AdminPage::NotFound => (http1::NOT_FOUND, TEXT, "404 page not found\n".to_owned()),
        _ if !is_page => (http1::METHOD_NOT_ALLOWED, TEXT, "405 method not allowed\n".to_owned()),
        AdminPage::Found(content_type, body) => (http1::OK, content_type, body),
        AdminPage::UnknownUser(body) => (http1::NOT_FOUND, TEXT, body),
    };
    Some(http1::response(status, content_type, &body, is_head))
}

/// The response if the request did not arrive in time.
pub(super) fn timeout_answer() -> Vec<u8> {
    http1::response(http1::REQUEST_TIMEOUT, TEXT, "408 request timeout\n", false)
}

/// The page of one path.
enum AdminPage {
    /// Content type and body.
    Found(&'static str, String),
    /// `/explain` of a name that no user has. The body of a 404.
    UnknownUser(String),
    NotFound,
}

/// `/stats` and `/explain` take precedence over the configured path of the metrics.
fn page(request: &Request<'_>, pages: AdminPages, view: &View<'_>) -> AdminPage {
    let Request { path, query, .. } = *request;
    if pages.stats
        && let Some(query) = ExplainQuery::parse(path, query)
    {
        return match query.answer(view) {
            Ok(body) if query.is_text() => AdminPage::Found(TEXT, body),
            Ok(body) => AdminPage::Found(JSON, body),
            Err(error) => AdminPage::UnknownUser(format!("{error}\n")),
        };
    }
    if pages.stats && path == "/stats" {
        return match query {
            "text" => AdminPage::Found(TEXT, stats_table::table(view.accounts, view.time)),
            _ => AdminPage::Found(JSON, stats::body(view)),
        };
    }
    match view.settings.prometheus.as_ref().filter(|_| HAS_METRICS && pages.metrics) {
        Some(prometheus) if prometheus.path == "/" || prometheus.path == path => {
            AdminPage::Found(metrics::CONTENT_TYPE, metrics::page(view, prometheus))
        }
        _ => AdminPage::NotFound,
    }
}

const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";

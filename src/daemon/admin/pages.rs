//! The HTTP responses of the admin pages, by path.

use crate::config::HAS_METRICS;
use crate::daemon::admin::explain::ExplainQuery;
use crate::daemon::admin::view::View;
use crate::daemon::admin::{metrics, stats, stats_table};
use crate::proto::http1::{self, RequestHead};

/// The pages of one listener.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct AdminPages {
    /// `/stats` and `/explain`.
    pub(super) stats: bool,
    /// The page for Prometheus, at its configured path.
    pub(super) metrics: bool,
}

/// The response to the request in `received`; `None` while its head is incomplete.
pub(super) fn answer(received: &[u8], pages: AdminPages, view: &View<'_>) -> Option<Vec<u8>> {
    let error = |status, body: &str, head| http1::response(status, TEXT, body, head);
    Some(match http1::parse_request(received) {
        RequestHead::Incomplete => return None,
        RequestHead::Page { path, query, head } => match page(path, query, pages, view) {
            AdminPage::Found(content_type, body) => {
                http1::response(http1::OK, content_type, &body, head)
            }
            AdminPage::UnknownUser(body) => error(http1::NOT_FOUND, &body, head),
            AdminPage::NotFound => error(http1::NOT_FOUND, "404 page not found\n", head),
        },
        RequestHead::OtherMethod { path } => match page(path, "", pages, view) {
            AdminPage::NotFound => error(http1::NOT_FOUND, "404 page not found\n", false),
            _ => error(http1::METHOD_NOT_ALLOWED, "405 method not allowed\n", false),
        },
        RequestHead::Invalid => error(http1::BAD_REQUEST, "400 bad request\n", false),
        RequestHead::TooLarge => {
            error(http1::HEAD_TOO_LARGE, "431 request head too large\n", false)
        }
    })
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
fn page(path: &str, query: &str, pages: AdminPages, view: &View<'_>) -> AdminPage {
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

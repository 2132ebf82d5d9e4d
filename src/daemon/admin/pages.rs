//! The HTTP responses of the admin pages, by path.

use crate::config::HAS_METRICS;
use crate::daemon::admin::explain::{self, AllWriter, ExplainQuery, Subject, UnknownUserWriter};
use crate::daemon::admin::metrics::{self, MetricsWriter};
use crate::daemon::admin::rows::RowWriter;
use crate::daemon::admin::stats::StatsWriter;
use crate::daemon::admin::stats_table::TableWriter;
use crate::daemon::admin::view::View;
use crate::proto::http1::{self, HeadFault, Request, Status};

/// The pages of one listener.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AdminPages {
    /// `/stats` and `/explain`.
    pub stats: bool,
    /// The page for Prometheus, at its configured path.
    pub metrics: bool,
}

/// What a request asks for.
pub(super) enum Asked {
    /// A page, or with `is_head` only its head.
    Page { query: PageQuery, is_head: bool },
    /// None: the whole response.
    Nothing(String),
}

/// A page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PageQuery {
    /// `/stats`.
    Stats,
    /// `/stats?text`.
    Table,
    /// The page for Prometheus.
    Metrics,
    /// `/explain`.
    Explain(ExplainQuery),
}

/// Evaluates the request in `received`; `None` while its head is incomplete.
pub(super) fn asked(received: &[u8], pages: AdminPages, view: &View<'_>) -> Option<Asked> {
    let request = match http1::parse_request(received) {
        Ok(request) => request,
        Err(HeadFault::Incomplete) => return None,
        Err(HeadFault::Invalid) => {
            return Some(error(http1::BAD_REQUEST, "400 bad request\n", false));
        }
        Err(HeadFault::TooLarge) => {
            let body = "431 request head too large\n";
            return Some(error(http1::HEAD_TOO_LARGE, body, false));
        }
    };
    let is_head = request.method == "HEAD";
    Some(match PageQuery::of(&request, pages, view) {
        None => error(http1::NOT_FOUND, NOT_FOUND, is_head),
        Some(query) if is_head || request.method == "GET" => Asked::Page { query, is_head },
        Some(_) => error(http1::METHOD_NOT_ALLOWED, "405 method not allowed\n", false),
    })
}

/// The response if the request did not arrive in time.
pub(super) fn timeout_answer() -> String {
    response(http1::REQUEST_TIMEOUT, "408 request timeout\n", false)
}

fn error(status: Status, body: &str, is_head: bool) -> Asked {
    Asked::Nothing(response(status, body, is_head))
}

fn response(status: Status, body: &str, is_head: bool) -> String {
    http1::response_head(status, TEXT, body.len()) + if is_head { "" } else { body }
}

/// A page that is complete, or as far as it is written.
pub(super) struct Page {
    /// 200, or 404 for a name that no user has.
    pub(super) status: Status,
    /// The content type.
    pub(super) kind: &'static str,
    /// The body.
    pub(super) body: String,
}

impl Page {
    /// The answer if there is no memory for a page.
    pub(super) fn without_memory() -> Self {
        Self { status: http1::UNAVAILABLE, kind: TEXT, body: "503 not enough memory\n".to_owned() }
    }
}

/// What writes the rest of a page; `None` = it is complete.
pub(super) type Writer = Option<Box<dyn RowWriter>>;

impl PageQuery {
    /// `/stats` and `/explain` take precedence over the configured path of the metrics.
    fn of(request: &Request<'_>, pages: AdminPages, view: &View<'_>) -> Option<Self> {
        let Request { path, query, .. } = *request;
        if pages.stats
            && let Some(query) = ExplainQuery::parse(path, query)
        {
            return Some(Self::Explain(query));
        }
        if pages.stats && path == "/stats" {
            return Some(if query == "text" { Self::Table } else { Self::Stats });
        }
        let prometheus = view.settings.prometheus.as_ref();
        let prometheus = prometheus.filter(|_| HAS_METRICS && pages.metrics)?;
        (prometheus.path == "/" || prometheus.path == path).then_some(Self::Metrics)
    }

    /// Starts the page.
    pub(super) fn start(&self, view: &View<'_>) -> (Page, Writer) {
        let (mut status, mut body) = (http1::OK, String::new());
        let (kind, writer): (_, Writer) = match self {
            Self::Stats => (JSON, Some(Box::<StatsWriter>::default())),
            Self::Table => (TEXT, Some(Box::<TableWriter>::default())),
            Self::Metrics if HAS_METRICS && view.settings.prometheus.is_some() => {
                (metrics::CONTENT_TYPE, Some(Box::<MetricsWriter>::default()))
            }
            // A reload has ended them after the request.
            Self::Metrics => {
                (status, body) = (http1::NOT_FOUND, NOT_FOUND.to_owned());
                (TEXT, None)
            }
            Self::Explain(query) => {
                let is_text = query.is_text();
                let kind = if is_text { TEXT } else { JSON };
                match query.subject(&view.accounts.users) {
                    Subject::All => (kind, Some(Box::new(AllWriter::new(view, is_text)))),
                    Subject::One(id) => {
                        body = explain::page_of(view, id, is_text);
                        (kind, None)
                    }
                    Subject::Unknown(name) => {
                        status = http1::NOT_FOUND;
                        (TEXT, Some(Box::new(UnknownUserWriter::new(name))))
                    }
                }
            }
        };
        (Page { status, kind, body }, writer)
    }
}

const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";
const NOT_FOUND: &str = "404 page not found\n";

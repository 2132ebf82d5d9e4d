//! The operator's pages, for `curl`, Prometheus and our own commands: a few connections of their
//! own, one request each, so that they answer however busy the rest is. Which page is where is
//! decided by `pages`; what it says is written elsewhere.

pub mod counters;
pub mod explain;
pub mod metrics;
pub mod probe_summary;
pub mod state_dump;
pub mod stats;
pub mod stats_table;
pub mod statsd;
pub mod telemetry;

use std::io::{self, Read, Write};

use mio::Registry;

use crate::config::HAS_METRICS;
use crate::config::settings::{HttpBind, Settings};
use crate::daemon::admin::explain::ExplainQuery;
use crate::daemon::shared::World;
use crate::io::admin_socket::{AdminSocket, AdminStream};
use crate::io::clock::Tick;
use crate::io::listen::AcceptError;
use crate::proto::http1::{self, HEAD_MAX, RequestHead};

/// The listeners for the operator and their connections.
#[derive(Default)]
pub struct AdminServer {
    desks: [Option<AdminListener>; MOST_DESKS],
    visits: [Option<AdminConnection>; MOST_VISITS],
}

/// A listener.
struct AdminListener {
    desk: AdminSocket,
    endpoint: HttpBind,
    pages: AdminPages,
    knocked: bool,
    /// It is broken and left alone until then.
    rests: Option<Tick>,
}

/// What is answered at a listener.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct AdminPages {
    stats: bool,
    metrics: bool,
}

struct AdminConnection {
    /// By which listener it has come.
    desk: usize,
    stream: AdminStream,
    pages: AdminPages,
    seen: Vec<u8>,
    answer: Option<Vec<u8>>,
    sent: usize,
    /// The client has said all it will.
    finished: bool,
    until: Tick,
}

impl AdminServer {
    /// Listens where the settings say, and nowhere else any more. What cannot be had is a line in
    /// the log and no reason not to run (spec: stats 1). `base` is the token of the first place.
    pub fn settle(&mut self, settings: &Settings, registry: &Registry, base: usize) {
        let wanted = wanted(settings);
        let mut missing = Vec::new();
        for (endpoint, pages) in &wanted {
            let mut desks = self.desks.iter_mut().flatten();
            match desks.find(|reception| reception.endpoint == *endpoint) {
                Some(reception) => reception.pages = *pages,
                None => missing.push((endpoint.clone(), *pages)),
            }
        }
        let is_unwanted = |reception: &mut AdminListener| {
            !wanted.iter().any(|(endpoint, _)| *endpoint == reception.endpoint)
        };
        for (endpoint, pages) in missing {
            let outcome = self.open(&endpoint, pages, registry, base).or_else(|_| {
                // One of ours that is not wanted any more may be in the way.
                self.desks.iter_mut().for_each(|desk| drop(desk.take_if(|r| is_unwanted(r))));
                self.open(&endpoint, pages, registry, base)
            });
            let word = if pages.stats { "stats" } else { "metrics" };
            match outcome {
                Ok(()) => log::info!("event={word} addr={endpoint}"),
                Err(e) => {
                    log::warn!("event={word}-off addr={endpoint} error={:?}", e.to_string());
                }
            }
        }
        self.desks.iter_mut().for_each(|desk| drop(desk.take_if(|r| is_unwanted(r))));
    }

    fn open(
        &mut self,
        endpoint: &HttpBind,
        pages: AdminPages,
        registry: &Registry,
        base: usize,
    ) -> io::Result<()> {
        let Some(place) = self.desks.iter().position(Option::is_none) else {
            return Err(io::Error::other("too many listeners at once"));
        };
        let mut desk = match endpoint {
            HttpBind::Tcp(addr) => AdminSocket::tcp(*addr)?,
            HttpBind::Unix(path) => AdminSocket::unix(path)?,
        };
        desk.register(registry, base + place)?;
        let endpoint = endpoint.clone();
        self.desks[place] =
            Some(AdminListener { desk, endpoint, pages, knocked: true, rests: None });
        Ok(())
    }

    /// The poller says that somebody stands before a listener.
    pub fn knock(&mut self, place: usize) {
        if let Some(Some(reception)) = self.desks.get_mut(place) {
            reception.knocked = true;
        }
    }

    /// Takes in who waits, as far as there are places. `base` is the token of the first one.
    ///
    /// # Errors
    /// The system is out of descriptors or memory.
    pub fn accept(
        &mut self,
        world: &mut World,
        registry: &Registry,
        base: usize,
    ) -> Result<(), io::Error> {
        for at in 0..MOST_DESKS {
            while let Some(place) = self.free_place(at) {
                let Some(reception) = &mut self.desks[at] else { break };
                let Some(mut stream) = reception.look(world)? else { break };
                if stream.register(registry, base + place).is_ok() {
                    let pages = reception.pages;
                    self.visits[place] =
                        Some(AdminConnection::new(at, stream, pages, world.time.now));
                    self.step(place, world);
                }
            }
        }
        Ok(())
    }

    /// A place for a visit by one listener. With several, none may take all places: who reads
    /// metrics slowly must not keep the operator from `/stats`.
    fn free_place(&self, desk: usize) -> Option<usize> {
        let others = self.desks.iter().flatten().count() > 1;
        let most = if others { MOST_VISITS - KEPT_VISITS } else { MOST_VISITS };
        let here = self.visits.iter().flatten().filter(|visit| visit.desk == desk).count();
        self.visits.iter().position(Option::is_none).filter(|_| here < most)
    }

    /// One look at a visit, after an event or at its deadline.
    pub fn step(&mut self, place: usize, world: &World) {
        let Some(Some(visit)) = self.visits.get_mut(place) else { return };
        if visit.step(world).is_err() {
            self.visits[place] = None;
        }
    }

    /// The earliest deadline.
    pub fn due(&self, now: Tick) -> Option<Tick> {
        let visits = self.visits.iter().flatten().map(|visit| visit.until);
        let rests = self.desks.iter().flatten().filter_map(|reception| reception.rests);
        visits.chain(rests.filter(|until| now < *until)).min()
    }

    /// Looks at every visit whose deadline has come.
    pub fn expire(&mut self, world: &World) {
        for place in 0..self.visits.len() {
            if self.visits[place].as_ref().is_some_and(|visit| world.time.now >= visit.until) {
                self.step(place, world);
            }
        }
    }
}

/// The listeners that the settings ask for; one that serves both is one.
fn wanted(settings: &Settings) -> Vec<(HttpBind, AdminPages)> {
    let mut wanted: Vec<(HttpBind, AdminPages)> = Vec::new();
    let stats =
        settings.api_bind.as_ref().map(|bind| (bind, AdminPages { stats: true, metrics: false }));
    let metrics = settings.prometheus.as_ref().map(|metrics| &metrics.bind);
    let metrics = metrics.map(|bind| (bind, AdminPages { stats: false, metrics: true }));
    for (bind, pages) in stats.into_iter().chain(metrics) {
        match wanted.iter_mut().find(|(endpoint, _)| endpoint == bind) {
            Some((_, both)) => both.metrics = true,
            None => wanted.push((bind.clone(), pages)),
        }
    }
    wanted
}

impl AdminListener {
    /// One accept.
    fn look(&mut self, world: &mut World) -> Result<Option<AdminStream>, io::Error> {
        if !self.knocked || self.rests.is_some_and(|until| world.time.now < until) {
            return Ok(None);
        }
        self.rests = None;
        loop {
            match self.desk.accept() {
                Ok(Some(visitor)) => return Ok(Some(visitor)),
                Ok(None) => {
                    self.knocked = false;
                    return Ok(None);
                }
                Err(AcceptError::Transient) => {}
                Err(AcceptError::Exhausted(e)) => {
                    let line = format!("event=accept-paused error={:?}", e.to_string());
                    world.telemetry.warn(format_args!("{line}"));
                    return Err(e);
                }
                Err(AcceptError::Broken(e)) => {
                    let (addr, error) = (&self.endpoint, e.to_string());
                    let line = format!("event=accept-failed addr={addr} error={error:?}");
                    world.telemetry.log.error(world.time.now, &line);
                    self.rests = Some(Tick(world.time.now.0 + BROKEN_REST_MS));
                    return Ok(None);
                }
            }
        }
    }
}

impl AdminConnection {
    fn new(desk: usize, stream: AdminStream, pages: AdminPages, now: Tick) -> Self {
        let until = Tick(now.0 + PATIENCE_MS);
        let (seen, answer) = (Vec::new(), None);
        Self { desk, stream, pages, seen, answer, sent: 0, finished: false, until }
    }

    /// Reads, answers, and waits for the client's FIN. `Err` = over.
    fn step(&mut self, world: &World) -> Result<(), ()> {
        self.read(world)?;
        let late = world.time.now >= self.until;
        match &self.answer {
            None if self.finished => return Err(()),
            None if late => {
                let body = "408 request timeout\n";
                self.settle(http1::response(http1::REQUEST_TIMEOUT, TEXT, body, false));
                self.until = Tick(world.time.now.0 + GOODBYE_MS);
            }
            Some(_) if late => return Err(()),
            _ => {}
        }
        self.write()
    }

    fn read(&mut self, world: &World) -> Result<(), ()> {
        let mut chunk = [0; 1024];
        // Bounded: who keeps sending is not read to the end, and is cut off at the deadline.
        for _ in 0..READS_PER_STEP {
            match self.stream.read(&mut chunk) {
                Ok(0) => {
                    self.finished = true;
                    break;
                }
                Ok(n) if self.answer.is_none() => {
                    let room = HEAD_MAX - self.seen.len().min(HEAD_MAX);
                    self.seen.extend_from_slice(&chunk[..n.min(room)]);
                    if let Some(answer) = answer(&self.seen, self.pages, world) {
                        self.settle(answer);
                    }
                }
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => return Err(()),
            }
        }
        Ok(())
    }

    fn settle(&mut self, answer: Vec<u8>) {
        self.answer = Some(answer);
        self.seen = Vec::new();
    }

    fn write(&mut self) -> Result<(), ()> {
        let Some(answer) = &self.answer else { return Ok(()) };
        while self.sent < answer.len() {
            match self.stream.write(&answer[self.sent..]) {
                Ok(n) => self.sent += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(_) => return Err(()),
            }
        }
        // The place is free once the client has answered our FIN: closing with bytes unread
        // would let a reset overtake the answer.
        self.stream.shutdown_write().map_err(drop)?;
        if self.finished { Err(()) } else { Ok(()) }
    }
}

fn answer(seen: &[u8], pages: AdminPages, world: &World) -> Option<Vec<u8>> {
    let refused = |status, body: &str, head| http1::response(status, TEXT, body, head);
    Some(match http1::parse_request(seen) {
        RequestHead::Incomplete => return None,
        RequestHead::Page { path, query, head } => match page(path, query, pages, world) {
            AdminPage::Is(kind, body) => http1::response(http1::OK, kind, &body, head),
            AdminPage::Nobody(why) => refused(http1::NOT_FOUND, &why, head),
            AdminPage::None => refused(http1::NOT_FOUND, "404 page not found\n", head),
        },
        RequestHead::OtherMethod { path } => match page(path, "", pages, world) {
            AdminPage::None => refused(http1::NOT_FOUND, "404 page not found\n", false),
            _ => refused(http1::METHOD_NOT_ALLOWED, "405 method not allowed\n", false),
        },
        RequestHead::Invalid => refused(http1::BAD_REQUEST, "400 bad request\n", false),
        RequestHead::TooLarge => {
            refused(http1::HEAD_TOO_LARGE, "431 request head too large\n", false)
        }
    })
}

/// What a path means.
enum AdminPage {
    /// The type of the body, and the body.
    Is(&'static str, String),
    /// Somebody is asked about who is not there.
    Nobody(String),
    /// Nothing.
    None,
}

/// The page of a path. Stats go before metrics, whose path may be any.
fn page(path: &str, query: &str, pages: AdminPages, world: &World) -> AdminPage {
    if pages.stats
        && let Some(question) = ExplainQuery::read(path, query)
    {
        return match question.answer(world) {
            Ok((is_text, body)) => AdminPage::Is(if is_text { TEXT } else { JSON }, body),
            Err(why) => AdminPage::Nobody(why),
        };
    }
    if pages.stats && path == "/stats" {
        return match query {
            "text" => AdminPage::Is(TEXT, stats_table::table(world)),
            _ => AdminPage::Is(JSON, stats::body(world)),
        };
    }
    match world.settings.prometheus.as_ref().filter(|_| HAS_METRICS && pages.metrics) {
        Some(prometheus) if prometheus.path == "/" || prometheus.path == path => {
            AdminPage::Is(metrics::KIND, metrics::page(world, prometheus))
        }
        _ => AdminPage::None,
    }
}

/// Listeners at a time: two, and two more while they move.
pub const MOST_DESKS: usize = 4;
/// Connections at a time.
pub const MOST_VISITS: usize = 8;
/// Of those, for the other listeners.
const KEPT_VISITS: usize = 2;
/// From accept to the end of the answer.
const PATIENCE_MS: u64 = 5_000;
/// For the client to take a 408.
const GOODBYE_MS: u64 = 1_000;
const READS_PER_STEP: usize = 16;
/// How long a broken listener is left alone.
const BROKEN_REST_MS: u64 = 1_000;
const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";

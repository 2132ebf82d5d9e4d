//! A web server with the blocklist and the page of data centres. It answers slowly, partly,
//! endlessly or not at all. A list that was not sent whole must never be used.

use std::net::SocketAddr;

use mtbox::config::settings::{ListSettings, ListSource, Settings};
use mtbox::daemon::Daemon;
use mtbox::proto::url::Url;

use crate::net::SimNet;
use crate::network::Network;
use crate::part::Part;
use crate::peer::{Behaviour, Ending, Peer};
use crate::script::Script;

/// The server.
#[derive(Default)]
pub struct WebServer {
    visits: Vec<Visit>,
}

struct Visit {
    peer: Peer,
    request: Vec<u8>,
    answered: bool,
    /// Networks of the list, which count once all bytes were sent.
    entries: Option<u64>,
    /// Sends another line at this time, without end.
    endless_at: Option<u64>,
    answer: WebAnswer,
}

/// How the server answers a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WebAnswer {
    Whole,
    Chunked,
    /// Ends before its length.
    Truncated,
    /// A line from time to time, for ever.
    Endless,
    /// Status 500.
    Failure,
    /// To the same server.
    Redirect,
    Garbage,
    /// Only the first bytes.
    Stall,
    Silence,
    Reset,
}

const ANSWERS: [WebAnswer; 12] = [
    WebAnswer::Whole,
    WebAnswer::Whole,
    WebAnswer::Chunked,
    WebAnswer::Truncated,
    WebAnswer::Endless,
    WebAnswer::Failure,
    WebAnswer::Redirect,
    WebAnswer::Redirect,
    WebAnswer::Garbage,
    WebAnswer::Stall,
    WebAnswer::Silence,
    WebAnswer::Reset,
];

impl WebServer {
    /// Takes part if the settings name its blocklist.
    pub fn part(script: &Script) -> Option<Box<dyn Part>> {
        script.settings.blocklist.is_some().then(|| Box::new(Self::default()) as Box<dyn Part>)
    }
}

impl Visit {
    fn act(&mut self, network: &mut Network) -> bool {
        let received = self.peer.receive(network);
        let mut acted = !received.is_empty();
        self.request.extend(received);
        if !self.answered && self.request.ends_with(b"\r\n\r\n") {
            self.answered = true;
            self.answer(network);
            acted = true;
        }
        if self.endless_at.is_some_and(|at| network.now >= at) {
            self.peer.out.extend(b"203.0.113.77\n");
            self.endless_at = Some(network.now + ENDLESS_MS);
            acted = true;
        }
        acted |= !self.peer.send(network).is_empty();
        let is_done = self.answered && self.endless_at.is_none();
        if is_done
            && self.peer.out.is_empty()
            && let Some(entries) = self.entries.take()
        {
            network.served_lists.insert(entries);
        }
        acted | self.peer.finish(network, is_done)
    }

    fn answer(&mut self, network: &mut Network) {
        // More than one step of a fetch reads, sometimes.
        let most = [200, 4_000][network.rng.usize(0..2)];
        let count = network.rng.usize(1..most);
        let page = |count: usize| -> String {
            // Neighbours would become one network.
            (0..count).map(|at| format!("203.0.{}.{}\n", at / 100, at % 100 * 2)).collect()
        };
        let body = page(count);
        let head = |rest: &str| format!("HTTP/1.1 200 OK\r\n{rest}\r\n");
        let length = |len: usize| head(&format!("Content-Length: {len}\r\n"));
        let text = match self.answer {
            WebAnswer::Whole => {
                self.entries = Some(count as u64);
                length(body.len()) + &body
            }
            WebAnswer::Chunked => {
                self.entries = Some(count as u64);
                let chunk = |part: &str| format!("{:x}\r\n{part}\r\n", part.len());
                let (first, second) = body.split_at(body.len() / 2);
                head("Transfer-Encoding: chunked\r\n") + &chunk(first) + &chunk(second) + &chunk("")
            }
            WebAnswer::Truncated => length(body.len() + 1_000) + &body,
            WebAnswer::Endless => {
                self.endless_at = Some(network.now);
                head("")
            }
            WebAnswer::Failure => "HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n".to_owned(),
            WebAnswer::Redirect => {
                let to = ["/list", "http://10.80.0.1/list", "//", "ftp://x/"];
                let to = to[network.rng.usize(0..to.len())];
                format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n")
            }
            WebAnswer::Garbage => "203.0.113.1\n".repeat(count),
            WebAnswer::Stall => length(body.len()),
            WebAnswer::Silence | WebAnswer::Reset => String::new(),
        };
        self.peer.out.extend(text.bytes());
    }
}

impl Part for WebServer {
    fn serves(&self, addr: SocketAddr, _is_session: bool) -> bool {
        addr == server_addr()
    }

    fn attach(&mut self, network: &mut Network, link: usize) {
        let answer = ANSWERS[network.rng.usize(0..ANSWERS.len())];
        let behaviour = Behaviour {
            write_chunk: [30, 600, 9_000][network.rng.usize(0..3)],
            read_chunk: 2_000,
            write_pause: (20, 800),
            read_pause: (10, 300),
            ending: match answer {
                WebAnswer::Reset => Ending::Reset,
                WebAnswer::Stall | WebAnswer::Silence => Ending::Stall,
                _ if network.rng.bool() => Ending::Fin,
                _ => Ending::Close,
            },
            send_limit: None,
        };
        let peer = Peer::new(link, behaviour);
        let (request, answered, entries, endless_at) = (Vec::new(), false, None, None);
        self.visits.push(Visit { peer, request, answered, entries, endless_at, answer });
    }

    fn act(&mut self, network: &mut Network) -> Result<bool, String> {
        self.visits.retain(|visit| !network.links[visit.peer.link].closed);
        Ok(self.visits.iter_mut().fold(false, |acted, visit| visit.act(network) | acted))
    }

    fn due(&self, now: u64) -> Option<u64> {
        let dues = self.visits.iter().flat_map(|visit| [visit.peer.due(now), visit.endless_at]);
        dues.flatten().min()
    }

    fn check(&self, daemon: &Daemon<SimNet>, network: &Network, until: u64) -> Result<(), String> {
        let idle = daemon.shared.settings.timeouts.http.as_millis() as u64;
        for visit in &self.visits {
            let link = &network.links[visit.peer.link];
            let over = (link.last_io.max(link.opened_at) + idle).min(link.opened_at + TOTAL_MS);
            if !link.closed && link.to_daemon.ready() > 0 {
                return Err("bytes of a download wait".to_owned());
            }
            if !link.closed && until > over + SLACK_MS {
                return Err(format!("a fetch outlives its deadline at {over} ms"));
            }
        }
        Ok(())
    }
}

/// Uses this server for the blocklist and for the page of data centres.
pub fn apply(settings: &mut Settings, interval: std::time::Duration) {
    let url = |path| Url::parse(&format!("http://{}{path}", server_addr())).expect("a URL");
    let sources = vec![ListSource::Web(url("/list"))];
    settings.blocklist = Some(ListSettings { sources, concurrency: 1, interval });
    settings.dc_list = Some(vec![url("/dc")]);
}

/// The address of the server.
pub fn server_addr() -> SocketAddr {
    SocketAddr::from(([10, 80, 0, 1], 80))
}

const ENDLESS_MS: u64 = 1_500;
/// The limit of a whole fetch, from the first dial on.
const TOTAL_MS: u64 = 600_000;
/// A fetch has its deadlines from its own events, which may be a little later.
const SLACK_MS: u64 = 6_000;

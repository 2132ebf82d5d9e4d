//! Operators who ask for the admin pages: `/stats` at any time, other pages, and requests that
//! never end. The numbers of `/stats` are compared with what the network knows.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use mtbox::config::settings::{HttpBind, PrometheusSettings, Settings};
use mtbox::daemon::Daemon;
use mtbox::io::listen::ListenAddr;
use serde_json::Value;

use crate::link::{Link, NO_CLIENT};
use crate::net::SimNet;
use crate::network::Network;
use crate::part::Part;
use crate::peer::{Behaviour, EndSeen, Ending, Peer};
use crate::script::Script;
use crate::sockets::{ADMIN_PORT, is_admin};

/// The operators.
pub struct Operators {
    visits: Vec<PageVisit>,
    /// The user of each client with a secret.
    users: BTreeMap<usize, String>,
    /// The latest byte counters of each user.
    bytes: BTreeMap<String, (u64, u64)>,
}

struct PageVisit {
    starts: u64,
    request: Vec<u8>,
    behaviour: Behaviour,
    /// The answer must be the page of `/stats`.
    must_answer: bool,
    peer: Option<Peer>,
    received: Vec<u8>,
    /// When the request was queued.
    asked_at: u64,
    is_judged: bool,
}

impl Operators {
    /// Takes part if the settings have the page.
    pub fn part(script: &Script) -> Option<Box<dyn Part>> {
        script.settings.api_bind.as_ref()?;
        let mut rng = fastrand::Rng::with_seed(script.seed ^ 0xad);
        let visits = (0..rng.usize(1..14)).map(|_| PageVisit::draw(&mut rng)).collect();
        let names = script.plans.iter().enumerate().filter_map(|(client, plan)| {
            let credentials = plan.credentials.as_ref()?;
            Some((client, script.settings.users[credentials.user].name.clone()))
        });
        let (users, bytes) = (names.collect(), BTreeMap::new());
        Some(Box::new(Self { visits, users, bytes }))
    }
}

impl PageVisit {
    fn draw(rng: &mut fastrand::Rng) -> Self {
        let stats = b"GET /stats HTTP/1.1\r\nHost: x\r\n\r\n".to_vec();
        let mut behaviour = Behaviour {
            write_chunk: 60,
            read_chunk: 20_000,
            write_pause: (0, 0),
            read_pause: (0, 0),
            ending: Ending::AwaitFin,
            send_limit: None,
        };
        let kind = rng.u32(0..10);
        let request = match kind {
            0 => b"GET /metrics HTTP/1.1\r\n\r\n".to_vec(),
            1 => b"GET /nowhere HTTP/1.1\r\n\r\n".to_vec(),
            2 => b"POST /stats HTTP/1.1\r\n\r\n".to_vec(),
            3 => (0..rng.usize(1..9_000)).map(|_| rng.u8(..)).collect(),
            4 => stats[..rng.usize(0..stats.len())].to_vec(),
            _ => stats,
        };
        match rng.u32(0..8) {
            0 => behaviour.ending = Ending::Reset,
            1 => (behaviour.ending, behaviour.send_limit) = (Ending::Stall, Some(rng.usize(0..34))),
            2 => behaviour.write_pause = (60, 3_000),
            3 => (behaviour.read_chunk, behaviour.read_pause) = (9, (50, 900)),
            _ => {}
        }
        let is_quick = behaviour.write_pause.0 == 0 && behaviour.read_pause.0 == 0;
        Self {
            starts: rng.u64(0..25_000),
            request,
            must_answer: kind > 4 && is_quick && behaviour.ending == Ending::AwaitFin,
            behaviour,
            peer: None,
            received: Vec::new(),
            asked_at: 0,
            is_judged: false,
        }
    }

    fn act(&mut self, network: &mut Network) -> bool {
        let Some(peer) = &mut self.peer else {
            if network.now < self.starts {
                return false;
            }
            let must_answer = self.must_answer;
            let wanted = |addr: &ListenAddr| match addr {
                ListenAddr::Unix(_) => !must_answer,
                tcp => is_admin(tcp),
            };
            let link = network.connect(NO_CLIENT, SocketAddr::from(([10, 0, 0, 9], 1)), wanted);
            let mut peer = Peer::new(link, self.behaviour.clone());
            peer.out.extend(&self.request);
            (self.peer, self.asked_at) = (Some(peer), network.now);
            return true;
        };
        let received = peer.receive(network);
        let mut acted = !received.is_empty();
        self.received.extend(received);
        acted |= !peer.send(network).is_empty();
        acted | peer.finish(network, true)
    }
}

impl Part for Operators {
    fn act(&mut self, network: &mut Network) -> Result<bool, String> {
        let mut acted = false;
        for visit in &mut self.visits {
            acted |= visit.act(network);
            let Some(peer) = &visit.peer else { continue };
            if peer.end_seen.is_none() || std::mem::replace(&mut visit.is_judged, true) {
                continue;
            }
            // A reset: the daemon was not listening there, or the operator did it.
            let is_answered = peer.end_seen == Some(EndSeen::Fin);
            if visit.must_answer && network.links[peer.link].accepted_at.is_some() {
                if !is_answered {
                    return Err("a request for /stats was reset".to_owned());
                }
                let stats = parse(&visit.received)?;
                check_stats(&stats, visit.asked_at, network, &self.users, &mut self.bytes)?;
            }
        }
        Ok(acted)
    }

    fn due(&self, now: u64) -> Option<u64> {
        let dues = self.visits.iter().filter_map(|visit| match &visit.peer {
            None => Some(visit.starts),
            Some(peer) => peer.due(now),
        });
        dues.min()
    }

    fn is_done(&self) -> bool {
        self.visits.iter().all(|visit| visit.peer.is_some())
    }

    fn check(&self, _: &Daemon<SimNet>, network: &Network, until: u64) -> Result<(), String> {
        for visit in &self.visits {
            let link = visit.peer.as_ref().map(|peer| &network.links[peer.link]);
            let Some((link, at)) = link.and_then(|link| Some((link, link.accepted_at?))) else {
                continue;
            };
            if !link.closed && until > at + ANSWER_MS + SLACK_MS {
                return Err("a connection to an admin page outlives its deadline".to_owned());
            }
        }
        Ok(())
    }
}

/// The body of a response with status 200.
fn parse(response: &[u8]) -> Result<Value, String> {
    let text = String::from_utf8_lossy(response);
    let fault = |why: &str| format!("{why} in the answer {text:?}");
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(|| fault("no head"))?;
    if !head.starts_with("HTTP/1.1 200 ") && !head.starts_with("HTTP/1.0 200 ") {
        return Err(fault("no status 200"));
    }
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    if length != Some(body.len()) {
        return Err(fault("a wrong length"));
    }
    serde_json::from_str(body).map_err(|e| fault(&e.to_string()))
}

/// Compares `/stats` with the connections of the network. The answer is from some time after
/// `asked_at`.
fn check_stats(
    stats: &Value,
    asked_at: u64,
    network: &Network,
    owners: &BTreeMap<usize, String>,
    bytes: &mut BTreeMap<String, (u64, u64)>,
) -> Result<(), String> {
    let number = |value: &Value, key: &str| {
        value[key].as_u64().ok_or_else(|| format!("/stats has no number {key:?}: {value}"))
    };
    let users = stats["users"].as_object().ok_or("/stats has no users")?;
    let mut sum = 0;
    for (name, user) in users {
        let count = number(user, "connections")?;
        sum += count;
        let is_mine = |link: &&Link| {
            link.dialled.is_none() && owners.get(&link.client).is_some_and(|owner| owner == name)
        };
        // Closed earlier, it must not be counted.
        let may_count = |link: &&Link| {
            link.accepted_at.is_some() && link.closed_at.is_none_or(|at| at >= asked_at)
        };
        let most = network.links.iter().filter(is_mine).filter(may_count).count() as u64;
        if count > most {
            return Err(format!("/stats has {count} connections of {name}, at most {most} exist"));
        }
        // Relayed all the time, it must be counted.
        let has_server = |client: usize| {
            let is_server = |far: &Link| far.client == client && far.dialled.is_some();
            network.links.iter().any(|far| is_server(far) && !far.closed)
        };
        let must_count = |link: &&Link| {
            let is_relayed = link.relayed_at.is_some_and(|at| at < asked_at);
            is_relayed && !link.closed && has_server(link.client)
        };
        let least = network.links.iter().filter(is_mine).filter(must_count).count() as u64;
        if count < least {
            return Err(format!("/stats has {count} connections of {name} instead of {least}"));
        }
        let now = (number(user, "bytes_in")?, number(user, "bytes_out")?);
        let before = bytes.insert(name.clone(), now).unwrap_or_default();
        if now.0 < before.0 || now.1 < before.1 {
            return Err(format!("the bytes of {name} went from {before:?} to {now:?}"));
        }
    }
    if number(stats, "total_connections")? != sum {
        return Err(format!("the connections of /stats do not add up to {sum}"));
    }
    let entries = stats["lists"]["blocklist"]["entries"].as_u64().unwrap_or_default();
    if entries > 0 && !network.served_lists.contains(&entries) {
        return Err(format!("a list of {entries} networks was never sent whole"));
    }
    Ok(())
}

/// Turns the pages on.
pub fn apply(settings: &mut Settings) {
    settings.api_bind = Some(HttpBind::Tcp(SocketAddr::from(([127, 0, 0, 1], ADMIN_PORT))));
    settings.prometheus = Some(PrometheusSettings {
        bind: HttpBind::Unix(PathBuf::from("/sim/metrics")),
        path: "/metrics".to_owned(),
        prefix: "sim".to_owned(),
        per_user: true,
    });
}

/// From accept to the end, with the time to read a 408.
const ANSWER_MS: u64 = 6_000;
const SLACK_MS: u64 = 20;

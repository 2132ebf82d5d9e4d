//! One name asked over plain DNS: in datagrams with random capitals, over TCP where an answer
//! does not fit, server after server where one refuses or keeps silent.

use std::net::SocketAddr;

use crate::daemon::resolver::lookup::{Lookup, LookupStep};
use crate::daemon::resolver::system::Servers;
use crate::daemon::resolver::tcp::Tcp;
use crate::daemon::resolver::udp::{Udp, UdpEvent};
use crate::io::clock::Tick;
use crate::io::sockopt::SocketOptions;
use crate::io::wire::MioNet;
use crate::proto::dns::{self, AddressAnswer, DnsFault, RecordType};
use crate::util::drbg::Drbg;

/// The sockets of one search.
#[derive(Default)]
pub struct PlainQuery {
    udp: Option<Udp>,
    tcp: Option<Tcp>,
    server: Option<SocketAddr>,
    tries: usize,
    refusals: usize,
}

/// What a search needs from around it.
pub struct QueryContext<'a> {
    /// Whom to ask.
    pub servers: &'a Servers,
    /// What was learned of them.
    pub memory: &'a mut ServerStats,
    /// For connections.
    pub options: &'a SocketOptions,
    /// Where sockets come from.
    pub net: &'a mut MioNet,
    /// Ids and capitals.
    pub drbg: &'a mut Drbg,
    /// The token of the search's sockets.
    pub token: usize,
    /// The round's time.
    pub now: Tick,
}

/// What was learned of the servers.
#[derive(Default)]
pub struct ServerStats {
    /// A server that answered where one before it did not; it comes first until then.
    better: Option<(SocketAddr, Tick)>,
    /// Servers that do not give capitals back.
    careless: Vec<(SocketAddr, Tick)>,
}

impl PlainQuery {
    /// Takes what came, and asks on where that is needed. `true` = the search is over.
    pub fn step(&mut self, quest: &mut Lookup, desk: &mut QueryContext<'_>) -> bool {
        // Each turn of the loop but the last one uses up a try.
        loop {
            self.hear_datagrams(quest, desk);
            self.hear_stream(quest, desk);
            match quest.next(desk.now) {
                LookupStep::Wait => return false,
                LookupStep::Ask => {}
                LookupStep::Done => return true,
            }
            if !self.ask_next(quest, desk) {
                return true;
            }
        }
    }

    fn hear_datagrams(&mut self, quest: &mut Lookup, desk: &mut QueryContext<'_>) {
        while let Some(udp) = &mut self.udp {
            match udp.hear() {
                UdpEvent::Nothing => return,
                UdpEvent::Answer(_, Err(DnsFault::WrongCase)) => {
                    desk.memory.note_careless(self.server, desk.now);
                    self.ask_datagrams(quest, desk);
                }
                UdpEvent::Answer(kind, Err(DnsFault::Truncated)) => {
                    self.ask_stream(kind, quest, desk)
                }
                UdpEvent::Answer(kind, outcome) => self.take(kind, outcome, quest, desk),
                // A fresh port makes whoever is guessing start anew.
                UdpEvent::Flooded if self.tries < TRIES_MAX => {
                    self.tries += 1;
                    self.ask_datagrams(quest, desk);
                }
                UdpEvent::Flooded => self.udp = None,
                UdpEvent::Broken(kinds) => {
                    self.udp = None;
                    quest.fail(kinds, desk.now);
                }
            }
        }
    }

    fn hear_stream(&mut self, quest: &mut Lookup, desk: &mut QueryContext<'_>) {
        while let Some(tcp) = &mut self.tcp {
            match tcp.hear() {
                UdpEvent::Nothing => return,
                UdpEvent::Answer(kind, outcome) => self.take(kind, outcome, quest, desk),
                UdpEvent::Flooded => self.tcp = None,
                UdpEvent::Broken(kinds) => {
                    self.tcp = None;
                    quest.fail(kinds, desk.now);
                }
            }
        }
    }

    fn take(
        &mut self,
        kind: RecordType,
        outcome: Result<AddressAnswer, DnsFault>,
        quest: &mut Lookup,
        desk: &mut QueryContext<'_>,
    ) {
        if outcome.is_ok() && self.tries > 1 {
            desk.memory.note_better(self.server, desk.now);
        }
        quest.hear(kind, outcome, desk.now);
    }

    /// Begins the next try, at the next server. `false` = there is none.
    fn ask_next(&mut self, quest: &mut Lookup, desk: &mut QueryContext<'_>) -> bool {
        let list = &desk.servers.list;
        self.refusals += usize::from(quest.was_refused());
        let most_tries = (list.len() * desk.servers.attempts).min(TRIES_MAX);
        if self.tries >= most_tries || self.refusals >= list.len() {
            return false;
        }
        let first = list.iter().position(|server| desk.memory.is_better(*server, desk.now));
        let next = (first.unwrap_or(0) + self.tries).checked_rem(list.len());
        self.server = next.and_then(|at| list.get(at)).copied();
        self.tries += 1;
        self.tcp = None;
        quest.again(desk.servers.timeout_ms, desk.now);
        self.ask_datagrams(quest, desk);
        self.server.is_some()
    }

    fn ask_datagrams(&mut self, quest: &mut Lookup, desk: &mut QueryContext<'_>) {
        let Some(server) = self.server else { return };
        let name = if desk.memory.is_careless(server, desk.now) {
            quest.name.to_ascii_lowercase()
        } else {
            let mut coins = [0; 32];
            desk.drbg.fill(&mut coins);
            dns::mix_case(&quest.name, &coins)
        };
        let kinds = quest.open();
        match Udp::ask(server, name, &kinds, desk.net, desk.token, desk.drbg) {
            Ok(udp) => self.udp = Some(udp),
            Err(e) => {
                log::debug!("event=dns-unreachable server={server} error={:?}", e.to_string());
                self.udp = None;
                quest.fail(kinds, desk.now);
            }
        }
    }

    fn ask_stream(&mut self, kind: RecordType, quest: &mut Lookup, desk: &mut QueryContext<'_>) {
        let Some(server) = self.server else { return };
        if self.tcp.is_none() {
            let name = quest.name.to_ascii_lowercase();
            self.tcp = Tcp::open(server, name, desk.options, desk.net, desk.token).ok();
            quest.extend(STREAM_MS, desk.now);
        }
        match &mut self.tcp {
            Some(tcp) => tcp.ask(kind, desk.drbg),
            None => quest.fail([kind], desk.now),
        }
    }
}

impl ServerStats {
    /// For a moment only: the order of the servers may have a meaning, such as names that only
    /// the first one knows.
    fn note_better(&mut self, server: Option<SocketAddr>, now: Tick) {
        if self.better.is_none_or(|(_, until)| until <= now) {
            self.better = server.map(|server| (server, Tick(now.0 + BETTER_MS)));
        }
    }

    fn is_better(&self, server: SocketAddr, now: Tick) -> bool {
        self.better.is_some_and(|(other, until)| other == server && until > now)
    }

    fn note_careless(&mut self, server: Option<SocketAddr>, now: Tick) {
        let Some(server) = server else { return };
        self.careless.retain(|(other, until)| *other != server && *until > now);
        if self.careless.len() >= CARELESS_MAX {
            self.careless.remove(0);
        }
        self.careless.push((server, Tick(now.0 + CARELESS_MS)));
    }

    fn is_careless(&self, server: SocketAddr, now: Tick) -> bool {
        self.careless.iter().any(|(other, until)| *other == server && *until > now)
    }
}

/// Tries for one name, over all servers.
const TRIES_MAX: usize = 6;
/// For a connection and the answers on it.
const STREAM_MS: u64 = 3_000;
const BETTER_MS: u64 = 60_000;
const CARELESS_MAX: usize = 8;
/// A forger who guessed everything but the capitals has made us drop them for this long only.
const CARELESS_MS: u64 = 3_600_000;

#[cfg(test)]
mod tests;

//! The life of the connection to an encrypted name server (RFC 7858, RFC 8484): opened when a
//! name is wanted, kept while names are wanted, closed after half a minute of rest. Where it
//! cannot be had, names fail; nothing is asked in the clear instead. Knows no socket: `mod.rs`
//! carries the bytes.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};

use crate::config::settings::{DnsSettings, NameServer};
use crate::daemon::resolver::codec::Codec;
use crate::daemon::resolver::udp;
use crate::io::clock::Tick;
use crate::proto::dns::{self, AddressAnswer, DnsFault, RecordType};
use crate::util::drbg::Drbg;

/// One server, what it is asked, and when.
pub struct EncryptedServer {
    host: String,
    port: u16,
    address: ServerAddress,
    codec: Codec,
    waiting: VecDeque<PendingQuery>,
    sent: Vec<PendingQuery>,
    /// The connection has brought an answer.
    useful: bool,
    /// Packets of this connection that answered nothing.
    strays: usize,
    /// Connections in a row that have brought no answer.
    failures: u32,
    /// No connection is tried before.
    retry_at: Tick,
    /// When the connection was last asked something or told us something.
    active: Tick,
}

/// Where the server is.
enum ServerAddress {
    /// The operator has said so.
    Fixed(IpAddr),
    /// Its name has to be looked up.
    Unknown,
    /// Its name is being looked up.
    Sought,
    /// Its name led there, until then.
    Found(Vec<IpAddr>, Tick),
}

/// A question that is waiting or on its way.
struct PendingQuery {
    /// Whose it is; `None` = nobody wants to know any more.
    place: Option<usize>,
    kind: RecordType,
    id: u16,
    /// In lower case: nobody on the way can forge an answer, so capitals would add nothing.
    name: String,
}

/// What is to be done about the connection.
#[derive(Debug, PartialEq, Eq)]
pub enum ConnectionAction {
    /// Nothing: there is none, and none is needed or possible now.
    Rest,
    /// Look this name up, through the system's servers; said once.
    Find(String),
    /// Connect to one of these.
    Open(Vec<SocketAddr>),
    /// Say and hear what there is.
    Talk,
    /// Nobody has asked for a while: close it.
    Close,
    /// It has been silent for too long: it is lost.
    GiveUp,
    /// The last try is not long ago: fail whatever waits, without another one.
    Refuse,
}

/// An answer, or why there is none, for the search at a place.
pub type QueryResult = (usize, RecordType, Result<AddressAnswer, DnsFault>);

impl EncryptedServer {
    /// `None` = the settings name no such server.
    pub fn new(settings: &DnsSettings) -> Option<Self> {
        let (host, port, codec) = match &settings.server {
            NameServer::Tls { host, port } => (host.clone(), *port, Codec::Stream),
            NameServer::Https(url) => (url.host.clone(), url.port_or(HTTPS_PORT), Codec::http(url)),
            NameServer::System | NameServer::Udp(_) => return None,
        };
        let fixed = settings.bootstrap.or_else(|| host.parse().ok());
        let address = fixed.map_or(ServerAddress::Unknown, ServerAddress::Fixed);
        Some(Self {
            host,
            port,
            address,
            codec,
            waiting: VecDeque::new(),
            sent: Vec::new(),
            useful: false,
            strays: 0,
            failures: 0,
            retry_at: Tick(0),
            active: Tick(0),
        })
    }

    /// The name that the server's certificate must have.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Whether questions travel in HTTP requests.
    pub fn is_http(&self) -> bool {
        !self.codec.has_ids()
    }

    /// Takes a question.
    pub fn ask(&mut self, place: usize, kind: RecordType, name: &str) {
        let name = name.to_ascii_lowercase();
        self.waiting.push_back(PendingQuery { place: Some(place), kind, id: 0, name });
    }

    /// The search at a place is over.
    pub fn forget(&mut self, place: usize) {
        self.waiting.retain(|ask| ask.place != Some(place));
        for ask in &mut self.sent {
            ask.place = ask.place.filter(|other| *other != place);
        }
    }

    /// What is to be done, given whether there is a connection, open or opening.
    pub fn next(&mut self, connected: bool, now: Tick) -> ConnectionAction {
        if connected {
            let silent_ms = now.0.saturating_sub(self.active.0);
            return match (self.sent.is_empty(), self.waiting.is_empty()) {
                (true, true) if silent_ms >= REST_MS => ConnectionAction::Close,
                (false, _) if silent_ms >= SILENCE_MS => ConnectionAction::GiveUp,
                _ => ConnectionAction::Talk,
            };
        }
        if self.waiting.is_empty() {
            return ConnectionAction::Rest;
        }
        if now < self.retry_at {
            return ConnectionAction::Refuse;
        }
        if matches!(self.address, ServerAddress::Found(_, until) if until <= now) {
            self.address = ServerAddress::Unknown;
        }
        let ips = match &self.address {
            ServerAddress::Sought => return ConnectionAction::Rest,
            ServerAddress::Unknown => {
                self.address = ServerAddress::Sought;
                return ConnectionAction::Find(self.host.clone());
            }
            ServerAddress::Fixed(ip) => std::slice::from_ref(ip),
            ServerAddress::Found(ips, _) => ips,
        };
        self.active = now;
        ConnectionAction::Open(ips.iter().map(|ip| SocketAddr::new(*ip, self.port)).collect())
    }

    /// What [`ConnectionAction::Find`] has led to.
    pub fn found(&mut self, addrs: Vec<IpAddr>, ttl_s: u32, now: Tick) {
        let kept_ms = (u64::from(ttl_s) * 1000).clamp(ADDRESS_LEAST_MS, ADDRESS_MOST_MS);
        self.address = match addrs.is_empty() {
            true => ServerAddress::Unknown,
            false => ServerAddress::Found(addrs, Tick(now.0 + kept_ms)),
        };
    }

    /// What may be said on the open connection now; empty = nothing.
    pub fn say(&mut self, drbg: &mut Drbg, now: Tick) -> Vec<u8> {
        let mut out = Vec::new();
        while self.sent.len() < self.codec.most_at_once()
            && let Some(mut ask) = self.waiting.pop_front()
        {
            let used: Vec<(u16, RecordType)> =
                self.sent.iter().map(|ask| (ask.id, ask.kind)).collect();
            ask.id = if self.codec.has_ids() { udp::fresh_id(drbg, &used) } else { 0 };
            let mut packet = Vec::new();
            // A name that cannot be asked for was refused before.
            if dns::write_query(&mut packet, ask.id, &ask.name, ask.kind).is_ok() {
                self.codec.write(&mut out, &packet);
                self.sent.push(ask);
                self.active = now;
            }
        }
        out
    }

    /// Takes the answers out of what the connection has brought. `ended` = nothing will follow.
    ///
    /// # Errors
    /// Why the connection is of no use any more.
    pub fn hear(
        &mut self,
        inbox: &mut Vec<u8>,
        ended: bool,
        now: Tick,
    ) -> Result<Vec<QueryResult>, &'static str> {
        let mut told = Vec::new();
        loop {
            let packet = match self.codec.take(inbox, ended) {
                Ok(Some(packet)) => packet,
                Ok(None) => return Ok(told),
                // What came before it counts; the next call says it again.
                Err(_) if !told.is_empty() => return Ok(told),
                Err(why) => return Err(why),
            };
            let outcomes = self.sent.iter().map(|ask| match packet.as_deref() {
                Some(packet) => dns::parse_answer(packet, ask.id, &ask.name, ask.kind),
                None => Err(REFUSED),
            });
            let judged = outcomes.enumerate().find(|(_, o)| *o != Err(DnsFault::Unrelated));
            let Some((at, outcome)) = judged else {
                self.strays += 1;
                if self.codec.has_ids() && self.strays <= STRAYS_MAX {
                    continue;
                }
                return Err("an answer to another question");
            };
            let ask = self.sent.remove(at);
            (self.useful, self.failures, self.active) = (true, 0, now);
            told.extend(ask.place.map(|place| (place, ask.kind, outcome)));
        }
    }

    /// The connection, or the way to it, is gone. What was asked is asked again over another one
    /// if this one was useful, since closing is a server's right; `None`. Otherwise it fails, and
    /// so does all that is asked until the next try.
    pub fn lose(&mut self, drbg: &mut Drbg, now: Tick) -> Option<Vec<QueryResult>> {
        self.codec.reset();
        self.strays = 0;
        for ask in self.sent.drain(..).rev().filter(|ask| ask.place.is_some()) {
            self.waiting.push_front(ask);
        }
        if std::mem::take(&mut self.useful) {
            return None;
        }
        if now >= self.retry_at {
            let wait_ms = RETRY_MS << self.failures.min(RETRY_DOUBLINGS);
            let jitter_ms = u64::from(drbg.u32_below(wait_ms as u32 / 4));
            self.retry_at = Tick(now.0 + wait_ms - jitter_ms);
            self.failures = self.failures.saturating_add(1);
        }
        if !matches!(self.address, ServerAddress::Fixed(_)) {
            self.address = ServerAddress::Unknown;
        }
        let refused = |ask: PendingQuery| Some((ask.place?, ask.kind, Err(REFUSED)));
        Some(self.waiting.drain(..).filter_map(refused).collect())
    }

    /// When [`EncryptedServer::next`] changes even if nothing comes, given that there is a connection.
    /// While that is still opening it has a deadline of its own.
    pub fn due(&self) -> Option<Tick> {
        match (self.sent.is_empty(), self.waiting.is_empty()) {
            (true, true) => Some(Tick(self.active.0 + REST_MS)),
            (true, false) => None,
            (false, _) => Some(Tick(self.active.0 + SILENCE_MS)),
        }
    }
}

const HTTPS_PORT: u16 = 443;
/// As if the server had said SERVFAIL.
const REFUSED: DnsFault = DnsFault::Refused(2);
/// A connection that nobody needs is kept for this long.
const REST_MS: u64 = 30_000;
/// A connection that owes an answer for this long is dead, though TCP may not know it yet.
const SILENCE_MS: u64 = 3_000;
/// Late answers to questions that were given up are a few; more is nonsense.
const STRAYS_MAX: usize = 32;
/// The pause after the first failure; it doubles up to 16 s.
const RETRY_MS: u64 = 1_000;
const RETRY_DOUBLINGS: u32 = 4;
/// How long the server's own addresses are kept, whatever their TTL.
const ADDRESS_LEAST_MS: u64 = 60_000;
const ADDRESS_MOST_MS: u64 = 3_600_000;

#[cfg(test)]
mod tests;

//! The state of the connection to an encrypted name server (RFC 7858, RFC 8484): opened when a
//! name is wanted, kept while names are wanted, closed after half a minute without queries. If it
//! cannot be opened, lookups fail; no query is sent unencrypted instead. Without sockets:
//! `encrypted.rs` sends and receives the bytes.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::config::settings::{DnsSettings, NameServer};
use crate::daemon::resolver::codec::{Codec, DecodedReply, ServerFault};
use crate::daemon::resolver::lookup::LookupSlot;
use crate::daemon::resolver::udp;
use crate::io::clock::Tick;
use crate::proto::dns::{self, AddressAnswer, DnsFault, RecordType};
use crate::util::drbg::Drbg;
use crate::util::host_port::HostPort;

/// One server, its queries, and its connection.
pub struct EncryptedServer {
    host: String,
    port: u16,
    address: ServerAddress,
    codec: Codec,
    /// Queries that have not been sent.
    waiting: VecDeque<PendingQuery>,
    /// Queries that were sent on this connection.
    sent: Vec<PendingQuery>,
    /// An answer was received on this connection.
    has_answered: bool,
    /// Packets on this connection that matched no query.
    unrelated: usize,
    /// Connections in a row without an answer.
    failures: u32,
    /// The earliest time of the next connection.
    retry_at: Tick,
    /// When a query or an answer was last sent or received.
    active: Tick,
}

/// What is known about the server's address.
enum ServerAddress {
    /// A configured address.
    Fixed(IpAddr),
    /// Its host name has to be looked up.
    Unknown,
    /// Its host name is being looked up.
    LookingUp,
    /// The addresses of its host name, valid until then.
    Known(Vec<IpAddr>, Tick),
}

/// A query that waits or was sent.
struct PendingQuery {
    /// The lookup of the query; `None` = it is over.
    slot: Option<LookupSlot>,
    kind: RecordType,
    id: u16,
    /// In lower case: answers on this connection cannot be forged, so 0x20 would add nothing.
    name: String,
}

/// The next action for the connection.
#[derive(Debug, PartialEq, Eq)]
pub enum ConnectionAction {
    /// Nothing: there is no connection, and none is needed or possible now.
    Idle,
    /// Look up this name with the system's servers; returned once.
    LookUp(String),
    /// Connect to one of these addresses.
    Connect(Vec<SocketAddr>),
    /// Send and receive.
    Exchange,
    /// Close it: there were no queries for a while.
    Close,
    /// Drop it: an answer is overdue.
    TimeOut,
    /// Fail the waiting queries: the latest attempt to connect was moments ago.
    FailWaiting,
}

/// The answer for a lookup, or why there is none.
pub type QueryResult = (LookupSlot, RecordType, Result<AddressAnswer, DnsFault>);

impl EncryptedServer {
    /// `None` = the settings name no encrypted server.
    pub fn new(settings: &DnsSettings) -> Option<Self> {
        let (HostPort { host, port }, codec) = match &settings.server {
            NameServer::Tls(server) => (server.clone(), Codec::Stream),
            NameServer::Https(url) => (url.server(HTTPS_PORT), Codec::http(url)),
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
            has_answered: false,
            unrelated: 0,
            failures: 0,
            retry_at: Tick(0),
            active: Tick(0),
        })
    }

    /// The name that the server's certificate must have.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Whether queries are sent in HTTP requests.
    pub fn is_http(&self) -> bool {
        !self.codec.has_ids()
    }

    /// Whether an answer was received on this connection.
    pub fn has_answered(&self) -> bool {
        self.has_answered
    }

    /// Queues a query of the lookup in this slot.
    pub fn queue(&mut self, slot: LookupSlot, kind: RecordType, name: &str) {
        let name = name.to_ascii_lowercase();
        self.waiting.push_back(PendingQuery { slot: Some(slot), kind, id: 0, name });
    }

    /// Cancels the queries of the lookup in this slot.
    pub fn cancel(&mut self, slot: LookupSlot) {
        self.waiting.retain(|query| query.slot != Some(slot));
        for query in &mut self.sent {
            query.slot = query.slot.filter(|other| *other != slot);
        }
    }

    /// The next action. `has_connection` = there is one, open or opening.
    pub fn next_action(&mut self, has_connection: bool, now: Tick) -> ConnectionAction {
        if has_connection {
            let idle = now.since(self.active);
            return match (self.sent.is_empty(), self.waiting.is_empty()) {
                (true, true) if idle >= KEEP_IDLE => ConnectionAction::Close,
                (false, _) if idle >= ANSWER_MAX => ConnectionAction::TimeOut,
                _ => ConnectionAction::Exchange,
            };
        }
        if self.waiting.is_empty() {
            return ConnectionAction::Idle;
        }
        if now < self.retry_at {
            return ConnectionAction::FailWaiting;
        }
        if matches!(self.address, ServerAddress::Known(_, until) if until <= now) {
            self.address = ServerAddress::Unknown;
        }
        let ips = match &self.address {
            ServerAddress::LookingUp => return ConnectionAction::Idle,
            ServerAddress::Unknown => {
                self.address = ServerAddress::LookingUp;
                return ConnectionAction::LookUp(self.host.clone());
            }
            ServerAddress::Fixed(ip) => std::slice::from_ref(ip),
            ServerAddress::Known(ips, _) => ips,
        };
        self.active = now;
        ConnectionAction::Connect(ips.iter().map(|ip| SocketAddr::new(*ip, self.port)).collect())
    }

    /// Sets the result of [`ConnectionAction::LookUp`].
    pub fn set_addresses(&mut self, addrs: Vec<IpAddr>, ttl_s: u32, now: Tick) {
        let ttl = Duration::from_secs(ttl_s.into()).clamp(ADDRESS_TTL_MIN, ADDRESS_TTL_MAX);
        self.address = match addrs.is_empty() {
            true => ServerAddress::Unknown,
            false => ServerAddress::Known(addrs, now + ttl),
        };
    }

    /// The queries that may be sent now, encoded; empty = none.
    pub fn write_queries(&mut self, drbg: &mut Drbg, now: Tick) -> Vec<u8> {
        let mut out = Vec::new();
        while self.sent.len() < self.codec.max_pending()
            && let Some(mut query) = self.waiting.pop_front()
        {
            let pending: Vec<(u16, RecordType)> =
                self.sent.iter().map(|query| (query.id, query.kind)).collect();
            query.id = if self.codec.has_ids() { udp::unused_id(drbg, &pending) } else { 0 };
            let mut packet = Vec::new();
            // The resolver has rejected names that cannot be encoded.
            if dns::write_query(&mut packet, query.id, &query.name, query.kind).is_ok() {
                self.codec.encode(&mut out, &packet);
                self.sent.push(query);
                self.active = now;
            }
        }
        out
    }

    /// Removes the answers from the received bytes. `is_closed` = the peer has sent its FIN.
    ///
    /// # Errors
    /// The connection cannot be used any more.
    pub fn read_answers(
        &mut self,
        inbox: &mut Vec<u8>,
        is_closed: bool,
        now: Tick,
    ) -> Result<Vec<QueryResult>, ServerFault> {
        let mut results = Vec::new();
        loop {
            let packet = match self.codec.decode(inbox, is_closed) {
                Ok(DecodedReply::Packet(packet)) => Ok(packet),
                Ok(DecodedReply::Refusal(status)) => Err(DnsFault::NotDns(status)),
                Ok(DecodedReply::Incomplete) => return Ok(results),
                // The answers before the fault count; the next call returns the fault.
                Err(_) if !results.is_empty() => return Ok(results),
                Err(fault) => return Err(fault),
            };
            let outcomes = self.sent.iter().map(|query| match &packet {
                Ok(packet) => dns::parse_answer(packet, query.id, &query.name, query.kind),
                Err(fault) => Err(*fault),
            });
            let matched = outcomes.enumerate().find(|(_, o)| *o != Err(DnsFault::Unrelated));
            let Some((at, outcome)) = matched else {
                self.unrelated += 1;
                if self.codec.has_ids() && self.unrelated <= UNRELATED_MAX {
                    continue;
                }
                return Err(ServerFault::Unrelated);
            };
            let query = self.sent.remove(at);
            (self.has_answered, self.failures, self.active) = (true, 0, now);
            results.extend(query.slot.map(|slot| (slot, query.kind, outcome)));
        }
    }

    /// Handles the end of the connection, or a failed attempt to open it. If an answer was received
    /// on it, its queries are sent again over the next one, since servers may close connections;
    /// returns `None`. Otherwise all queries fail, and so do those until the next attempt.
    pub fn connection_lost(&mut self, drbg: &mut Drbg, now: Tick) -> Option<Vec<QueryResult>> {
        self.codec.reset();
        self.unrelated = 0;
        for query in self.sent.drain(..).rev().filter(|query| query.slot.is_some()) {
            self.waiting.push_front(query);
        }
        if std::mem::take(&mut self.has_answered) {
            return None;
        }
        if now >= self.retry_at {
            let wait_ms = RETRY_MS << self.failures.min(RETRY_DOUBLINGS);
            let jitter_ms = drbg.u32_below(wait_ms / 4);
            self.retry_at = now + Duration::from_millis((wait_ms - jitter_ms).into());
            self.failures = self.failures.saturating_add(1);
        }
        if !matches!(self.address, ServerAddress::Fixed(_)) {
            self.address = ServerAddress::Unknown;
        }
        let failed = |query: PendingQuery| Some((query.slot?, query.kind, Err(REFUSED)));
        Some(self.waiting.drain(..).filter_map(failed).collect())
    }

    /// When [`EncryptedServer::next_action`] changes without received bytes. For an open connection
    /// only: one that is being opened has its own deadline.
    pub fn due(&self) -> Option<Tick> {
        match (self.sent.is_empty(), self.waiting.is_empty()) {
            (true, true) => Some(self.active + KEEP_IDLE),
            (true, false) => None,
            (false, _) => Some(self.active + ANSWER_MAX),
        }
    }
}

const HTTPS_PORT: u16 = 443;
/// The same as SERVFAIL.
const REFUSED: DnsFault = DnsFault::Refused(2);
/// How long a connection without queries is kept.
const KEEP_IDLE: Duration = Duration::from_secs(30);
/// A connection on which an answer is overdue is dead, even if TCP has not noticed.
const ANSWER_MAX: Duration = Duration::from_secs(3);
/// There are a few late answers to cancelled queries; more mean a faulty server.
const UNRELATED_MAX: usize = 32;
/// The pause after the first failure; it doubles up to 16 s.
const RETRY_MS: u32 = 1_000;
const RETRY_DOUBLINGS: u32 = 4;
/// How long the server's own addresses are kept, whatever their TTL is.
const ADDRESS_TTL_MIN: Duration = Duration::from_secs(60);
const ADDRESS_TTL_MAX: Duration = Duration::from_secs(3_600);

#[cfg(test)]
mod tests;

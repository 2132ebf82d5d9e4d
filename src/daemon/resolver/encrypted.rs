//! The connection to the encrypted server: passes bytes between it and the state in `secure.rs`,
//! and looks up the server's own host name.

use std::net::SocketAddr;
use std::time::Duration;

use crate::config::settings::DnsSettings;
use crate::daemon::fetch::connection::{Connection, ConnectionState};
use crate::daemon::fetch::task::FetchTarget;
use crate::daemon::resolver::codec::ServerFault;
use crate::daemon::resolver::lookup::{GRACE, Lookup, LookupSlot};
use crate::daemon::resolver::plain::{PlainQuery, QueryContext, ServerStats};
use crate::daemon::resolver::secure::{ConnectionAction, EncryptedServer, QueryResult};
use crate::daemon::resolver::system::SystemFiles;
use crate::daemon::upstream::connect::SOCKETS;
use crate::daemon::upstream::connect::target::{HostOrAddrs, Route};
use crate::daemon::upstream::outbound::ConnectContext;
use crate::daemon::upstream::sockets;
use crate::io::clock::{Tick, earliest};
use crate::io::logger::fields;
use crate::io::readiness::Readiness;
use crate::io::wire::Net;
use crate::proto::dns::{DnsFault, RecordType};
use crate::proto::doh::DohFault;

/// The encrypted server and the one connection to it.
pub struct EncryptedResolver<N: Net> {
    server: EncryptedServer,
    connection: Option<Connection<N>>,
    /// Plain bytes of an answer that is not complete yet.
    inbox: Vec<u8>,
    /// Why the last connection ended without a byte of an answer. The present one only offers
    /// HTTP/2, to find out whether the server speaks nothing else.
    suspicion: Option<ServerFault>,
    /// The addresses of the connection.
    addrs: Vec<SocketAddr>,
    /// The lookup of the server's own host name.
    bootstrap: Option<(Lookup, PlainQuery<N>)>,
    /// Why the server cannot be used now.
    fault: Option<String>,
    awake: bool,
}

/// The parts that a step of the encrypted resolver uses.
pub struct EncryptedContext<'a, 'b, N> {
    /// Settings, outgoing connections and the log.
    pub connect: &'a mut ConnectContext<'b>,
    /// Creates the sockets.
    pub net: &'a mut N,
    /// The system's servers, for the server's own host name.
    pub system: &'a mut SystemFiles,
    /// Observations about them.
    pub stats: &'a mut ServerStats,
    /// The first of the tokens of the connection; the one after them is for the lookup.
    pub first_token: usize,
}

/// Which of the two sockets an event is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EncryptedSocket {
    /// The connection to the server, by the offset of the socket's token.
    Connection(usize),
    /// The lookup of its host name.
    Bootstrap,
}

/// Whether an exchange may go on at once.
enum Progress {
    /// The state has changed: ask for the next action.
    Changed,
    /// Wait for an event.
    Blocked,
}

impl<N: Net> EncryptedResolver<N> {
    /// `None` = the settings name no encrypted server.
    pub fn new(settings: &DnsSettings) -> Option<Self> {
        let server = EncryptedServer::new(settings)?;
        Some(Self {
            server,
            connection: None,
            inbox: Vec::new(),
            suspicion: None,
            addrs: Vec::new(),
            bootstrap: None,
            fault: None,
            awake: false,
        })
    }

    /// Takes note in a lookup of why its query failed.
    pub fn blame(&self, fault: DnsFault, lookup: &mut Lookup) {
        let server = self.server.host();
        match &self.fault {
            Some(why) => lookup.blame(server, why),
            None => lookup.blame(server, fault),
        }
    }

    /// Queues both queries of a lookup.
    pub fn queue(&mut self, slot: LookupSlot, name: &str) {
        self.server.queue(slot, RecordType::A, name);
        self.server.queue(slot, RecordType::Aaaa, name);
        self.awake = true;
    }

    /// The lookup in this slot is over.
    pub fn cancel(&mut self, slot: LookupSlot) {
        self.server.cancel(slot);
        self.awake = true;
    }

    /// Takes an event of the poller.
    pub fn on_ready(&mut self, socket: EncryptedSocket, ready: Readiness) {
        if let (EncryptedSocket::Connection(offset), Some(connection)) =
            (socket, &mut self.connection)
        {
            connection.on_ready(offset, ready);
        }
        self.awake = true;
    }

    /// The earliest deadline.
    pub fn due(&self) -> Option<Tick> {
        let connection = self.connection.as_ref();
        let connection = connection.and_then(|one| earliest(&[one.due(), self.server.due()]));
        let bootstrap = self.bootstrap.as_ref().map(|(lookup, _)| lookup.due());
        earliest(&[connection, bootstrap])
    }

    /// Goes on as far as possible without blocking. Returns the answers.
    pub fn poll(&mut self, context: &mut EncryptedContext<'_, '_, N>) -> Vec<QueryResult> {
        let mut results = Vec::new();
        let now = context.connect.now;
        if !std::mem::take(&mut self.awake) && self.due().is_none_or(|due| due > now) {
            return results;
        }
        self.poll_bootstrap(context, &mut results);
        // A new connection is opened at once only if the last one received an answer, so the loop
        // ends.
        loop {
            match self.server.next_action(self.connection.is_some(), now) {
                ConnectionAction::Idle => return results,
                ConnectionAction::LookUp(name) => {
                    let known = context.system.known(&name);
                    if known.is_empty() {
                        let lookup = Lookup::new(name, Duration::ZERO, GRACE, now);
                        self.bootstrap = Some((lookup, PlainQuery::default()));
                        self.poll_bootstrap(context, &mut results);
                    } else {
                        self.server.set_addresses(known, 0, now);
                    }
                }
                ConnectionAction::Connect(addrs) => {
                    self.addrs = addrs;
                    let alpn = self.server.is_http().then_some("http/1.1");
                    self.connect(alpn, context.first_token);
                }
                ConnectionAction::Exchange => match self.exchange(context, &mut results) {
                    Progress::Changed => {}
                    Progress::Blocked => return results,
                },
                ConnectionAction::Close => (self.connection, self.suspicion) = (None, None),
                ConnectionAction::TimeOut => {
                    self.lose(&ServerFault::Timeout, context.connect, &mut results);
                }
                ConnectionAction::FailWaiting => {
                    let failed = self.server.connection_lost(context.connect.drbg, now);
                    results.extend(failed.into_iter().flatten());
                }
            }
        }
    }

    fn connect(&mut self, alpn: Option<&'static str>, first_token: usize) {
        self.inbox.clear();
        let tls = Some(self.server.host().to_owned());
        let server = HostOrAddrs::Addrs(self.addrs.clone());
        let target = FetchTarget { server, tls, route: Route::Native };
        self.connection = Some(Connection::new(target, first_token).with_alpn(alpn));
    }

    /// Sends queries and receives answers.
    fn exchange(
        &mut self,
        context: &mut EncryptedContext<'_, '_, N>,
        results: &mut Vec<QueryResult>,
    ) -> Progress {
        let Some(connection) = &mut self.connection else { return Progress::Changed };
        let now = context.connect.now;
        let state = connection.step(context.connect, context.net, &mut self.inbox, &mut |_, _| {});
        let (is_closed, error) = match state {
            ConnectionState::Opening if connection.has_more() => return Progress::Changed,
            ConnectionState::Opening => return Progress::Blocked,
            ConnectionState::Open => (false, None),
            ConnectionState::Closed => (true, None),
            ConnectionState::Failed(error) => (true, Some(error)),
        };
        if let Some(fault) = self.suspicion.take() {
            let http2 = ServerFault::Response(DohFault::Http2);
            let fault = if connection.has_alpn() { http2 } else { fault };
            self.lose(&fault, context.connect, results);
            return Progress::Changed;
        }
        let is_silent = self.inbox.is_empty() && !self.server.has_answered();
        // Bytes that came before a failure count.
        let answers = match (self.server.read_answers(&mut self.inbox, is_closed, now), error) {
            (Ok(answers), _) => answers,
            (Err(fault), error) => {
                let fault = match (fault, error) {
                    (fault @ ServerFault::Response(DohFault::Http2), _) | (fault, None) => fault,
                    (_, Some(error)) => ServerFault::Connection(error),
                };
                // Unbound and BIND close without a word when a client does not speak HTTP/2.
                if is_closed && is_silent && self.server.is_http() && connection.is_secure() {
                    self.suspicion = Some(fault);
                    self.connect(Some("h2"), context.first_token);
                } else {
                    self.lose(&fault, context.connect, results);
                }
                return Progress::Changed;
            }
        };
        let has_answers = !answers.is_empty();
        if has_answers {
            self.fault = None;
        }
        results.extend(answers);
        if is_closed {
            return Progress::Changed;
        }
        let queries = self.server.write_queries(context.connect.drbg, now);
        connection.queue(&queries);
        match has_answers || !queries.is_empty() || connection.has_more() {
            true => Progress::Changed,
            false => Progress::Blocked,
        }
    }

    /// Continues the lookup of the server's own host name.
    fn poll_bootstrap(
        &mut self,
        context: &mut EncryptedContext<'_, '_, N>,
        results: &mut Vec<QueryResult>,
    ) {
        let Some((lookup, plain)) = &mut self.bootstrap else { return };
        let now = context.connect.now;
        let mut query = QueryContext {
            servers: context.system.servers(),
            stats: context.stats,
            options: &sockets::socket_options(context.connect.settings),
            net: context.net,
            drbg: context.connect.drbg,
            token: context.first_token + SOCKETS,
            now,
        };
        if plain.poll(lookup, &mut query).is_pending() {
            return;
        }
        let Some((lookup, _)) = self.bootstrap.take() else { return };
        let found = lookup.into_result();
        match found.found {
            Ok(addrs) => self.server.set_addresses(addrs, found.ttl_s, now),
            Err(fault) => {
                self.server.set_addresses(Vec::new(), found.ttl_s, now);
                self.lose(&ServerFault::NoAddress(fault), context.connect, results);
            }
        }
    }

    fn lose(
        &mut self,
        fault: &ServerFault,
        context: &mut ConnectContext<'_>,
        results: &mut Vec<QueryResult>,
    ) {
        self.connection = None;
        let suspicion = self.suspicion.take();
        let fault = suspicion.as_ref().unwrap_or(fault);
        let Some(failed) = self.server.connection_lost(context.drbg, context.now) else { return };
        results.extend(failed);
        self.fault = Some(fault.to_string());
        let server = self.server.host();
        context.log.warn(context.now, fields!("dns-unreachable", server = ?server, error = ?fault));
    }
}

//! One lookup over plain DNS: datagrams with random case (0x20 encoding), TCP if an answer does not
//! fit, and the next server if one refuses or does not answer.

use std::fmt::Display;
use std::io;
use std::net::SocketAddr;
use std::task::Poll;
use std::time::Duration;

use crate::daemon::resolver::lookup::{Lookup, LookupStep};
use crate::daemon::resolver::system::Servers;
use crate::daemon::resolver::tcp::Tcp;
use crate::daemon::resolver::udp::{DnsEvent, Udp};
use crate::io::clock::Tick;
use crate::io::egress;
use crate::io::logger::event;
use crate::io::sockopt::SocketOptions;
use crate::io::wire::Net;
use crate::proto::dns::{self, AddressAnswer, DnsFault, RecordType};
use crate::util::drbg::Drbg;

/// The sockets of one lookup.
pub struct PlainQuery<N: Net> {
    udp: Option<Udp<N::Datagram>>,
    tcp: Option<Tcp<N::Wire>>,
    server: Option<SocketAddr>,
    attempts: usize,
    /// Attempts that a server has refused.
    refusals: usize,
}

/// The parts that a step of a lookup uses.
pub struct QueryContext<'a, N> {
    /// The servers to ask.
    pub servers: &'a Servers,
    /// Which of them to prefer, and which lack 0x20.
    pub stats: &'a mut ServerStats,
    /// For TCP connections.
    pub options: &'a SocketOptions,
    /// Creates the sockets.
    pub net: &'a mut N,
    /// Random ids and case.
    pub drbg: &'a mut Drbg,
    /// The token of the lookup's sockets.
    pub token: usize,
    /// The time of this round.
    pub now: Tick,
}

/// Observations about name servers.
#[derive(Default)]
pub struct ServerStats {
    /// A server that answered after others did not; it is asked first until then.
    preferred: Option<(SocketAddr, Tick)>,
    /// Servers that do not keep the case of a name, and until when that is assumed.
    no_0x20: Vec<(SocketAddr, Tick)>,
}

impl<N: Net> Default for PlainQuery<N> {
    fn default() -> Self {
        Self { udp: None, tcp: None, server: None, attempts: 0, refusals: 0 }
    }
}

impl<N: Net> PlainQuery<N> {
    /// Handles received answers, and queries the next server if needed. Ready = the lookup is over.
    pub fn poll(&mut self, lookup: &mut Lookup, context: &mut QueryContext<'_, N>) -> Poll<()> {
        // Each round but the last one uses up an attempt.
        loop {
            self.read_datagrams(lookup, context);
            self.read_stream(lookup, context);
            match lookup.next_step(context.now) {
                LookupStep::Wait => return Poll::Pending,
                LookupStep::Retry if self.ask_next_server(lookup, context) => {}
                LookupStep::Retry | LookupStep::Done => return Poll::Ready(()),
            }
        }
    }

    fn read_datagrams(&mut self, lookup: &mut Lookup, context: &mut QueryContext<'_, N>) {
        while let Some(udp) = &mut self.udp {
            match udp.next_event() {
                DnsEvent::Pending => return,
                DnsEvent::Answer(_, Err(DnsFault::WrongCase)) => {
                    context.stats.add_no_0x20(self.server, context.now);
                    self.send_datagrams(lookup, context);
                }
                DnsEvent::Answer(kind, Err(DnsFault::Truncated)) => {
                    self.send_over_tcp(kind, lookup, context);
                }
                DnsEvent::Answer(kind, outcome) => self.record(kind, outcome, lookup, context),
                // An attacker who guesses ids has to find the new port as well.
                DnsEvent::Flooded if self.attempts < ATTEMPTS_MAX => {
                    self.attempts += 1;
                    self.send_datagrams(lookup, context);
                }
                DnsEvent::Flooded => self.udp = None,
                DnsEvent::Broken(kinds, e) => {
                    self.udp = None;
                    self.blame(&e, lookup);
                    lookup.fail(kinds, context.now);
                }
            }
        }
    }

    fn read_stream(&mut self, lookup: &mut Lookup, context: &mut QueryContext<'_, N>) {
        while let Some(tcp) = &mut self.tcp {
            match tcp.next_event() {
                DnsEvent::Pending => return,
                DnsEvent::Answer(kind, outcome) => self.record(kind, outcome, lookup, context),
                DnsEvent::Flooded => self.tcp = None,
                DnsEvent::Broken(kinds, e) => {
                    self.tcp = None;
                    self.blame(&format_args!("TCP: {e}"), lookup);
                    lookup.fail(kinds, context.now);
                }
            }
        }
    }

    fn record(
        &mut self,
        kind: RecordType,
        outcome: Result<AddressAnswer, DnsFault>,
        lookup: &mut Lookup,
        context: &mut QueryContext<'_, N>,
    ) {
        if outcome.is_ok() && self.attempts > 1 {
            context.stats.prefer(self.server, context.now);
        }
        if let Err(fault) = &outcome {
            self.blame(fault, lookup);
        }
        lookup.record(kind, outcome, context.now);
    }

    /// Takes note of why the server that was asked last failed.
    fn blame(&self, why: &dyn Display, lookup: &mut Lookup) {
        self.server.iter().for_each(|server| lookup.blame(server, why));
    }

    /// Begins the next attempt, at the next server. Returns whether there was an attempt left.
    fn ask_next_server(&mut self, lookup: &mut Lookup, context: &mut QueryContext<'_, N>) -> bool {
        let list = &context.servers.list;
        if !lookup.has_failed_query() {
            self.blame(&"no answer", lookup);
        }
        self.refusals += usize::from(lookup.has_failed_query());
        let max_attempts = (list.len() * context.servers.attempts).min(ATTEMPTS_MAX);
        if self.attempts >= max_attempts || self.refusals >= list.len() {
            return false;
        }
        let is_preferred = |server: &SocketAddr| context.stats.is_preferred(*server, context.now);
        let first = list.iter().position(is_preferred);
        let next = (first.unwrap_or(0) + self.attempts).checked_rem(list.len());
        self.server = next.and_then(|at| list.get(at)).copied();
        self.attempts += 1;
        self.tcp = None;
        lookup.begin_attempt(context.servers.timeout, context.now);
        self.send_datagrams(lookup, context);
        self.server.is_some()
    }

    fn send_datagrams(&mut self, lookup: &mut Lookup, context: &mut QueryContext<'_, N>) {
        let Some(server) = self.server else { return };
        let name = if context.stats.lacks_0x20(server, context.now) {
            lookup.name.to_ascii_lowercase()
        } else {
            let mut random = [0; 32];
            context.drbg.fill(&mut random);
            dns::mix_case(&lookup.name, &random)
        };
        let kinds = lookup.unanswered();
        match Udp::send(server, name, &kinds, context.net, context.token, context.drbg) {
            Ok(udp) => self.udp = Some(udp),
            Err(e) => {
                event!(Debug, "dns-unreachable", server = %server, error = ?e);
                self.udp = None;
                self.blame(&e, lookup);
                self.fail(&e, kinds, lookup, context.now);
            }
        }
    }

    /// Handles the error of a new socket. A shortage of this machine is no fault of the server,
    /// which is asked again soon; for a datagram socket, `EADDRNOTAVAIL` is none.
    fn fail(&mut self, error: &io::Error, kinds: Vec<RecordType>, lookup: &mut Lookup, now: Tick) {
        if error.kind() != io::ErrorKind::AddrNotAvailable && egress::is_shortage(error) {
            self.attempts = self.attempts.saturating_sub(1);
            lookup.begin_attempt(RETRY, now);
        } else {
            lookup.fail(kinds, now);
        }
    }

    fn send_over_tcp(
        &mut self,
        kind: RecordType,
        lookup: &mut Lookup,
        context: &mut QueryContext<'_, N>,
    ) {
        let Some(server) = self.server else { return };
        if self.tcp.is_none() {
            let name = lookup.name.to_ascii_lowercase();
            match Tcp::open(server, name, context.options, context.net, context.token) {
                Ok(tcp) => self.tcp = Some(tcp),
                Err(e) => {
                    self.blame(&e, lookup);
                    return self.fail(&e, vec![kind], lookup, context.now);
                }
            }
            lookup.extend_attempt(TCP_ATTEMPT, context.now);
        }
        if let Some(tcp) = &mut self.tcp {
            tcp.queue(kind, context.drbg);
        }
    }
}

impl ServerStats {
    /// For a minute only: the order of the servers may have a meaning, such as host names that
    /// only the first one knows.
    fn prefer(&mut self, server: Option<SocketAddr>, now: Tick) {
        if self.preferred.is_none_or(|(_, until)| until <= now) {
            self.preferred = server.map(|server| (server, now + PREFER));
        }
    }

    fn is_preferred(&self, server: SocketAddr, now: Tick) -> bool {
        self.preferred.is_some_and(|(other, until)| other == server && until > now)
    }

    fn add_no_0x20(&mut self, server: Option<SocketAddr>, now: Tick) {
        let Some(server) = server else { return };
        self.no_0x20.retain(|(other, until)| *other != server && *until > now);
        if self.no_0x20.len() >= NO_0X20_MAX {
            self.no_0x20.remove(0);
        }
        self.no_0x20.push((server, now + NO_0X20));
    }

    fn lacks_0x20(&self, server: SocketAddr, now: Tick) -> bool {
        self.no_0x20.iter().any(|(other, until)| *other == server && *until > now)
    }
}

/// Attempts for one name, over all servers.
const ATTEMPTS_MAX: usize = 6;
/// After a shortage of this machine.
const RETRY: Duration = Duration::from_millis(200);
/// For a TCP connection and the answers on it.
const TCP_ATTEMPT: Duration = Duration::from_secs(3);
const PREFER: Duration = Duration::from_secs(60);
const NO_0X20_MAX: usize = 8;
/// An attacker who guesses everything but the case disables 0x20 for this time only.
const NO_0X20: Duration = Duration::from_secs(3_600);

#[cfg(test)]
mod tests;

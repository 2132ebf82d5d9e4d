//! The first stage: determines the address of the client, from its socket or from a PROXY protocol
//! header. The header is not read in the accept loop, so a silent client delays no other.

use std::io::IoSliceMut;
use std::time::Duration;

use crate::daemon::fetch::ip_lists::admission;
use crate::daemon::fetch::ip_lists::lists::IpLists;
use crate::daemon::session::accounting::Accounting;
use crate::daemon::session::buffers::{Buffers, READ_MAX};
use crate::daemon::session::client::Client;
use crate::daemon::session::handshake::{Announced, AwaitClientHello};
use crate::daemon::session::outcome::Outcome;
use crate::daemon::session::step::{Step, Turn};
use crate::io::clock::Tick;
use crate::io::logger::event;
use crate::io::wire::Wire;
use crate::proto::proxy_header::{self, Preface};
use crate::util::client_prefix::ClientPrefix;
use crate::util::drbg::Drbg;
use crate::util::memory::ChargedBytes;

/// A connection whose client address is not known yet.
pub struct AwaitProxyHeader {
    /// Whether the peer may send a header.
    may_send_header: bool,
    seen: ChargedBytes,
}

/// What the stage uses.
pub struct HeaderContext<'a> {
    /// Counters and records.
    pub accounting: Accounting<'a>,
    /// `network.timeout.handshake`.
    pub handshake_timeout: Duration,
    /// Memory for the bytes of the header.
    pub buffers: &'a mut Buffers,
    /// The blocklist and the allowlist.
    pub lists: &'a mut IpLists,
    /// Random bytes.
    pub drbg: &'a mut Drbg,
}

impl AwaitProxyHeader {
    /// A stage that has not begun. Without a header the client's address is that of its socket, and
    /// the lists were checked at accept.
    pub fn new(may_send_header: bool) -> Self {
        Self { may_send_header, seen: ChargedBytes::default() }
    }

    /// The deadline of the header.
    pub fn due(&self, accepted: Tick, handshake_timeout: Duration) -> Tick {
        accepted + handshake_timeout.min(HEADER_TIMEOUT)
    }

    /// One step: at most one read.
    pub fn step<W: Wire>(
        &mut self,
        client: &mut Client<W>,
        ctx: &mut HeaderContext<'_>,
    ) -> Step<AwaitClientHello> {
        if !self.may_send_header {
            return Step::Next(self.enter(client, 0, Announced::MayNot, ctx));
        }
        let read = client.read_hello(&mut self.seen, READ_MAX, ctx.buffers, &mut ctx.accounting);
        let need = match read {
            Ok(_) => None,
            Err(Turn::Close(outcome)) => return Step::Stay(Turn::Close(outcome)),
            Err(turn) => Some(turn),
        };
        let due = self.due(client.accepted, ctx.handshake_timeout);
        let is_over = client.endpoint.fin_received || ctx.accounting.now >= due;
        match proxy_header::parse(&self.seen) {
            Preface::Complete { len, source } => {
                if let Some(source) = source {
                    ctx.accounting.telemetry.counters.clients.remove(client.addr);
                    (client.addr, client.port) = (source.ip(), source.port());
                    ctx.accounting.telemetry.counters.clients.add(client.addr);
                    let network = ClientPrefix::of(client.addr);
                    client.account.move_to(ctx.buffers.memory.of_network(network));
                }
                let announced = if source.is_some() { Announced::Yes } else { Announced::No };
                self.admit(client, len, announced, ctx)
            }
            Preface::Absent => self.admit(client, 0, Announced::No, ctx),
            // Too few bytes for a header are the start of the hello.
            Preface::Ambiguous if is_over => self.admit(client, 0, Announced::No, ctx),
            Preface::Incomplete if is_over => self.refuse(client, ctx),
            Preface::Malformed => self.refuse(client, ctx),
            Preface::Ambiguous | Preface::Incomplete if client.endpoint.ready.readable => {
                Step::Stay(need.unwrap_or(Turn::Again))
            }
            Preface::Ambiguous | Preface::Incomplete => Step::Stay(Turn::Wait),
        }
    }

    /// Checks the lists for the client's address, which is known now.
    fn admit<W: Wire>(
        &mut self,
        client: &mut Client<W>,
        header_len: usize,
        announced: Announced,
        ctx: &mut HeaderContext<'_>,
    ) -> Step<AwaitClientHello> {
        let (now, telemetry) = (ctx.accounting.now, &mut *ctx.accounting.telemetry);
        match admission::check(ctx.lists, client.addr, now, telemetry) {
            Ok(()) => Step::Next(self.enter(client, header_len, announced, ctx)),
            Err(outcome) => {
                close_unanswered(&mut client.endpoint.wire, ctx.buffers);
                Step::Stay(Turn::Close(outcome))
            }
        }
    }

    /// Moves to the next stage. The bytes after a header of `header_len` bytes start the hello.
    fn enter<W: Wire>(
        &mut self,
        client: &Client<W>,
        header_len: usize,
        announced: Announced,
        ctx: &mut HeaderContext<'_>,
    ) -> AwaitClientHello {
        self.seen.discard_front(header_len);
        // Without a header, the time of this stage counts as silence before the hello.
        let silent_since = if header_len == 0 { client.active } else { ctx.accounting.now };
        let seen = std::mem::take(&mut self.seen);
        AwaitClientHello::new(seen, announced, silent_since, ctx.handshake_timeout, ctx.drbg)
    }

    /// Closes the connection after a malformed header: the client's address is unknown, so the
    /// lists cannot be checked.
    fn refuse<W: Wire>(
        &mut self,
        client: &Client<W>,
        ctx: &mut HeaderContext<'_>,
    ) -> Step<AwaitClientHello> {
        let from = ctx.accounting.telemetry.shown(client.addr);
        event!(Debug, "bad-proxy-header", id = client.id, client = %from);
        Step::Stay(Turn::Close(Outcome::BadHeader))
    }
}

/// Ends a connection without an answer. Reads once before, so that the kernel sends FIN, not RST.
pub fn close_unanswered<W: Wire>(wire: &mut W, buffers: &mut Buffers) {
    let _ = wire.read(&mut [IoSliceMut::new(&mut buffers.scratch)]);
    let _ = wire.shutdown_write();
}

/// For the whole header, from accept. mtg-multi waits ten seconds and blocks all other accepts.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);

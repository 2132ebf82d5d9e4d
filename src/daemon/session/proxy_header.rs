//! The first stage: learns the address of the client from its socket or from a PROXY protocol
//! header. The header is read here and never in the accept loop, so that a silent client delays no
//! other.

use std::io::IoSliceMut;
use std::time::Duration;

use crate::accounts::recorder::Cause;
use crate::daemon::admin::probe_summary::ProbeKind;
use crate::daemon::fetch::ip_lists::{self, IpLists};
use crate::daemon::session::accounting::Accounting;
use crate::daemon::session::buffers::{Buffers, READ_MAX};
use crate::daemon::session::client::Client;
use crate::daemon::session::endpoint::ReadOutcome;
use crate::daemon::session::handshake::AwaitClientHello;
use crate::daemon::session::step::{CloseReason, Step, Turn};
use crate::io::clock::Tick;
use crate::io::wire::Wire;
use crate::proto::proxy_header::{self, Preface};
use crate::util::drbg::Drbg;

/// A connection whose client address is not known yet.
pub struct AwaitProxyHeader {
    /// Whether the peer may send a header.
    may_announce: bool,
    seen: Vec<u8>,
}

/// What the stage uses.
pub struct HeaderContext<'a> {
    /// Counters and records.
    pub books: Accounting<'a>,
    /// `network.timeout.handshake`.
    pub handshake_timeout: Duration,
    /// Memory for the bytes of the header.
    pub buffers: &'a mut Buffers,
    /// Which addresses may connect.
    pub lists: &'a mut IpLists,
    /// Random bytes.
    pub drbg: &'a mut Drbg,
}

impl AwaitProxyHeader {
    /// A stage that has not begun. The address of a peer that may not send a header is that of its
    /// socket, and the lists were consulted at accept.
    pub fn new(may_announce: bool) -> Self {
        Self { may_announce, seen: Vec::new() }
    }

    /// Bytes that the stage holds on the heap.
    pub fn held(&self) -> usize {
        self.seen.capacity()
    }

    /// When the header must be complete.
    pub fn due(&self, accepted: Tick, handshake_timeout: Duration) -> Tick {
        accepted + handshake_timeout.min(HEADER_TIMEOUT)
    }

    /// One look for a header: at most one read.
    pub fn step<W: Wire>(
        mut self,
        client: &mut Client<W>,
        ctx: &mut HeaderContext<'_>,
    ) -> Step<Self, AwaitClientHello> {
        if !self.may_announce {
            return Step::Next(self.enter(client, 0, ctx));
        }
        if client.end.ready.readable {
            let into = &mut ctx.buffers.scratch[..READ_MAX];
            match client.end.read(&mut [IoSliceMut::new(into)]) {
                ReadOutcome::Bytes(n) => {
                    ctx.books.telemetry.counters.read(n);
                    if ctx.buffers.keep_hello(&mut self.seen, n).is_err() {
                        return Step::Stay(self, Turn::Close(CloseReason::Pressure));
                    }
                    client.active = ctx.books.now;
                }
                ReadOutcome::WouldBlock | ReadOutcome::Fin => {}
                ReadOutcome::Reset => return Step::Stay(self, Turn::Close(CloseReason::Reset)),
            }
        }
        let due = self.due(client.accepted, ctx.handshake_timeout);
        let is_over = client.end.fin_received || ctx.books.now >= due;
        match proxy_header::parse(&self.seen) {
            Preface::Complete { len, source } => {
                if let Some(source) = source {
                    ctx.books.telemetry.counters.clients.take(client.addr);
                    (client.addr, client.port) = (source.ip(), source.port());
                    ctx.books.telemetry.counters.clients.add(client.addr);
                }
                self.admit(client, len, ctx)
            }
            Preface::Absent => self.admit(client, 0, ctx),
            // Without a header the bytes are the stream, however few they are.
            Preface::Ambiguous if is_over => self.admit(client, 0, ctx),
            Preface::Incomplete if is_over => self.refuse(client, ctx),
            Preface::Malformed => self.refuse(client, ctx),
            Preface::Ambiguous | Preface::Incomplete if client.end.ready.readable => {
                Step::Stay(self, Turn::Again)
            }
            Preface::Ambiguous | Preface::Incomplete => Step::Stay(self, Turn::Wait),
        }
    }

    /// The address is known: lets the client in if the lists do.
    fn admit<W: Wire>(
        self,
        client: &mut Client<W>,
        header_len: usize,
        ctx: &mut HeaderContext<'_>,
    ) -> Step<Self, AwaitClientHello> {
        if ip_lists::may_enter(ctx.lists, ctx.books.telemetry, client.addr) {
            return Step::Next(self.enter(client, header_len, ctx));
        }
        turn_away(&mut client.end.wire, ctx.buffers);
        Step::Stay(self, Turn::Close(CloseReason::Unwelcome))
    }

    /// What follows a header of `header_len` bytes is the start of the hello.
    fn enter<W: Wire>(
        mut self,
        client: &Client<W>,
        header_len: usize,
        ctx: &mut HeaderContext<'_>,
    ) -> AwaitClientHello {
        self.seen.drain(..header_len.min(self.seen.len()));
        // Without a header, the client has been silent before its hello for all that time.
        let silent_since = if header_len == 0 { client.active } else { ctx.books.now };
        AwaitClientHello::new(self.seen, silent_since, ctx.handshake_timeout, ctx.drbg)
    }

    /// The header is malformed. The client's address is unknown, so the lists cannot be consulted.
    fn refuse<W: Wire>(
        self,
        client: &Client<W>,
        ctx: &mut HeaderContext<'_>,
    ) -> Step<Self, AwaitClientHello> {
        let telemetry = &mut *ctx.books.telemetry;
        telemetry.counters.bad_headers += 1;
        telemetry.record_client(client.addr, Cause::BadHeader);
        telemetry.count_probe(ProbeKind::BadHeader, client.addr);
        let from = telemetry.shown(client.addr);
        log::debug!("event=bad-proxy-header id={} client={from}", client.id);
        Step::Stay(self, Turn::Close(CloseReason::BadHeader))
    }
}

/// Ends a connection without a word. Reads once before, so that the kernel sends FIN and not RST.
pub fn turn_away<W: Wire>(wire: &mut W, buffers: &mut Buffers) {
    let _ = wire.read(&mut [IoSliceMut::new(&mut buffers.scratch)]);
    let _ = wire.shutdown_write();
}

/// For the whole header, from accept. mtg-multi waits for ten seconds, and all connections with it.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);

//! The fourth stage: connects to Telegram or to the front, and watches the client meanwhile.

pub mod context;
pub mod direct;
pub mod state;
pub mod via_proxy;

use std::io::IoSliceMut;
use std::net::SocketAddr;
use std::task::Poll;

use crate::accounts::recorder::{Cause, Detail};
use crate::daemon::session::buffers::READ_MAX;
use crate::daemon::session::client::Client;
use crate::daemon::session::close::Closing;
use crate::daemon::session::dial::context::DialContext;
use crate::daemon::session::dial::state::{Dial, DialRoute};
use crate::daemon::session::endpoint::{Endpoint, ReadOutcome};
use crate::daemon::session::outcome::Outcome;
use crate::daemon::session::relay::Relay;
use crate::daemon::session::step::{Step, Turn};
use crate::daemon::session::transform::Transform;
use crate::daemon::upstream::sockets::LOOKUP;
use crate::io::wire::{Net, Wire};
use crate::proto::obfuscated2::FRAME_LEN;
use crate::proto::proxy_header;

/// What follows [`Dial`].
pub enum AfterDial<W> {
    /// The server is connected.
    Relay(Box<Relay<W>>),
    /// The connection is closed gracefully.
    Closing(Closing),
}

type DialStep<W> = Step<Box<Dial<W>>, AfterDial<W>>;

impl<W: Wire> Dial<W> {
    /// One step: checks the client and the running attempts, and starts the next ones.
    pub fn step<N: Net<Wire = W>>(
        mut self: Box<Self>,
        client: &mut Client<W>,
        ctx: &mut DialContext<'_, N>,
    ) -> DialStep<W> {
        client.endpoint.flush(ctx.accounting.now);
        while !self.has_request() && client.endpoint.ready.hup && client.endpoint.ready.readable {
            if let Err(fault) = self.read_last_payload(client, ctx) {
                return close_with_alert(self, client, fault, ctx);
            }
        }
        let has_left = !self.has_request() && client.endpoint.fin_received;
        if client.endpoint.ready.broken || client.endpoint.write_failed || has_left {
            let failure = self.failure_at_client_close(ctx.accounting.now);
            let failure = failure.map(|failure| self.failure_of_server(failure));
            return Step::Stay(self, Turn::Close(Outcome::Gone(failure)));
        }
        let until = *self.lookup_until.get_or_insert(ctx.accounting.now + LOOKUP);
        let outcome = match self.route {
            DialRoute::Upstreams(_) => via_proxy::poll(&mut self, until, ctx),
            DialRoute::Addresses(_) | DialRoute::Name(_) => direct::poll(&mut self, until, ctx),
        };
        match outcome {
            Poll::Pending => Step::Stay(self, Turn::Wait),
            Poll::Ready(Ok(slot)) => self.connected(client, slot, ctx),
            Poll::Ready(Err(())) => self.give_up(client, ctx),
        }
    }

    /// Whether the client waits for an answer: always from a front; from a data centre only if the
    /// client sent payload after the frame.
    fn has_request(&self) -> bool {
        !self.is_relay() || self.opening.len() > FRAME_LEN
    }

    /// Reads payload that the client sent before its FIN; it is sent after the frame.
    ///
    /// # Errors
    /// The client's bytes are not TLS records. Says why.
    fn read_last_payload<N: Net<Wire = W>>(
        &mut self,
        client: &mut Client<W>,
        ctx: &mut DialContext<'_, N>,
    ) -> Result<(), &'static str> {
        let Transform::Mtproto(transform) = &mut self.transform else { return Ok(()) };
        let room = READ_MAX.min(ctx.buffers.scratch.len());
        let into = &mut ctx.buffers.scratch[..room];
        let ReadOutcome::Bytes(n) = client.endpoint.read(&mut [IoSliceMut::new(into)]) else {
            return Ok(());
        };
        let payload = &mut ctx.buffers.scratch[..n];
        let len = transform.up.transform(payload).map_err(|fault| fault.as_str())?;
        self.opening.extend_from_slice(&ctx.buffers.scratch[..len]);
        Ok(())
    }

    /// Begins the relay after a successful attempt. Sends the opening in one write.
    fn connected<N: Net<Wire = W>>(
        mut self: Box<Self>,
        client: &mut Client<W>,
        slot: usize,
        ctx: &mut DialContext<'_, N>,
    ) -> DialStep<W> {
        let Some(attempt) = self.attempts[slot].take() else {
            return Step::Stay(self, Turn::Wait);
        };
        let destination = self.destination(&attempt);
        let addr = attempt.addr;
        let mut uncounted = self.opening.len();
        if !self.is_relay() {
            uncounted += self.complete_opening(client, addr, ctx);
        }
        let mut server = Endpoint::new(attempt.wire);
        if server.send(&self.opening, &ctx.buffers.pool, ctx.accounting.now).is_err() {
            return Step::Stay(self, Turn::Close(Outcome::Pressure));
        }
        let now = ctx.accounting.now;
        let (id, ms) = (client.id, now.since(client.accepted).as_millis());
        let telemetry = &mut *ctx.accounting.telemetry;
        match &self.transform {
            Transform::Mtproto(transform) => {
                let dc = transform.dc;
                uncounted = uncounted.saturating_sub(FRAME_LEN);
                let connection = telemetry.counters.telegram.add(destination.ip(), dc);
                client.dc_connection = Some(connection);
                log::debug!(
                    "event=connected id={id}{} dc={dc} addr={addr} ms={ms} client={}",
                    ctx.accounting.users.log_field(client.user),
                    telemetry.shown(client.addr)
                );
            }
            Transform::Plain => log::debug!(
                "event=front-connected id={id} addr={addr} ms={ms} client={}",
                telemetry.shown(client.addr)
            ),
        }
        server.uncounted = uncounted as u32;
        client.active = now;
        let relay = Relay { server, slot: slot as u8 + 1, transform: self.transform };
        Step::Next(AfterDial::Relay(Box::new(relay)))
    }

    /// Completes the opening for a front: a PROXY protocol header before it if configured, and the
    /// bytes received while dialling after it, for one write (PROTOCOL 10). Returns the number of
    /// bytes of the client that were added.
    fn complete_opening<N: Net<Wire = W>>(
        &mut self,
        client: &mut Client<W>,
        front: SocketAddr,
        ctx: &mut DialContext<'_, N>,
    ) -> usize {
        if ctx.settings.front.proxy_protocol {
            let source = SocketAddr::new(client.addr, client.port);
            let mut with_header =
                Vec::with_capacity(proxy_header::WRITTEN_MAX + self.opening.len());
            proxy_header::write(&mut with_header, source, front);
            with_header.append(&mut self.opening);
            self.opening = with_header;
        }
        let has_more = client.endpoint.ready.readable && !client.endpoint.fin_received;
        if !has_more || self.opening.len() >= OPENING_MAX {
            return 0;
        }
        let room = (OPENING_MAX - self.opening.len()).min(ctx.buffers.scratch.len());
        let into = &mut ctx.buffers.scratch[..room];
        let ReadOutcome::Bytes(n) = client.endpoint.read(&mut [IoSliceMut::new(into)]) else {
            return 0;
        };
        self.opening.extend_from_slice(&ctx.buffers.scratch[..n]);
        n
    }

    /// Closes the session, since no address is left. An unauthenticated client gets a reset, as
    /// from an address that refuses connections.
    fn give_up<N: Net<Wire = W>>(
        self: Box<Self>,
        client: &mut Client<W>,
        ctx: &mut DialContext<'_, N>,
    ) -> DialStep<W> {
        let failure = self.failure.unwrap_or((Cause::DcUnreachable, Detail::None));
        let (cause, detail) = self.failure_of_server(failure);
        if client.fronted {
            client.endpoint.wire.reset_on_close();
            return Step::Stay(self, Turn::Close(Outcome::FrontUnreachable(cause, detail)));
        }
        let outcome = Outcome::DcUnreachable(cause, detail);
        let name = client.user.map_or("", |user| ctx.accounting.users.get(user).name());
        let why = outcome.why();
        ctx.accounting.telemetry.warn(format_args!("event=dc-unreachable user={name:?} why={why}"));
        let closing = Closing::begin(client, outcome, &mut ctx.accounting);
        Step::Next(AfterDial::Closing(closing))
    }

    /// The same failure, of the front if the session belongs to no user.
    fn failure_of_server(&self, (cause, detail): (Cause, Detail)) -> (Cause, Detail) {
        match cause {
            Cause::DcUnreachable if !self.is_relay() => (Cause::FrontDown, detail),
            _ => (cause, detail),
        }
    }
}

fn close_with_alert<W: Wire, N>(
    dial: Box<Dial<W>>,
    client: &mut Client<W>,
    fault: &str,
    ctx: &mut DialContext<'_, N>,
) -> DialStep<W> {
    let DialContext { buffers, drbg, accounting, .. } = ctx;
    match Closing::begin_with_alert(client, fault, buffers, drbg, accounting) {
        Ok(closing) => Step::Next(AfterDial::Closing(closing)),
        Err(outcome) => Step::Stay(dial, Turn::Close(outcome)),
    }
}

/// Most bytes of the first write to a front.
const OPENING_MAX: usize = 32_768;

//! The fourth stage: connects to Telegram or to the front, and watches the client meanwhile.

use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::task::Poll;
use std::time::Duration;

use crate::accounts::recorder::{Cause, Detail};
use crate::config::settings::Settings;
use crate::daemon::session::accounting::Accounting;
use crate::daemon::session::buffers::{Buffers, READ_LEAST, READ_MAX};
use crate::daemon::session::client::Client;
use crate::daemon::session::close::Closing;
use crate::daemon::session::endpoint::{Endpoint, ReadOutcome};
use crate::daemon::session::key::{SERVER_SLOTS, SessionKey};
use crate::daemon::session::outcome::Outcome;
use crate::daemon::session::relay::{Relay, Unproven, UnprovenWay};
use crate::daemon::session::step::{Step, Turn};
use crate::daemon::session::transform::Transform;
use crate::daemon::upstream::connect::error::ConnectError;
use crate::daemon::upstream::connect::{Connect, Connected};
use crate::daemon::upstream::outbound::{ConnectContext, Outbound};
use crate::daemon::upstream::proxies::Upstreams;
use crate::flow::fin_hold::FinHold;
use crate::io::clock::Tick;
use crate::io::logger::{Maybe, event, fields};
use crate::io::wire::{Net, Wire};
use crate::limits::front_loops::Sender;
use crate::limits::memory_level::MemoryUse;
use crate::proto::obfuscated2::FRAME_LEN;
use crate::proto::proxy_header;
use crate::proto::socks5::Destination;
use crate::util::drbg::Drbg;
use crate::util::memory::ChargedBytes;

/// The fourth stage: the server is being connected.
pub struct Dial<W> {
    /// The transformation of the relay that follows.
    transform: Transform,
    /// The first bytes for the server, sent in one write.
    opening: ChargedBytes,
    connect: Connect<W>,
    begun: Tick,
    has_begun: bool,
}

/// The parts of the daemon that a dial uses.
pub struct DialContext<'a, N> {
    /// Counters and records.
    pub accounting: Accounting<'a>,
    /// Timeouts and socket options.
    pub settings: &'a Settings,
    /// The scratch block and the pool.
    pub buffers: &'a mut Buffers,
    /// The sizes of buffers in the kernel.
    pub memory: &'a MemoryUse,
    /// Random bytes.
    pub drbg: &'a mut Drbg,
    /// Host names, addresses and upstreams.
    pub outbound: &'a mut Outbound,
    /// The network.
    pub net: &'a mut N,
    /// The key of the session, for the tokens of its sockets.
    pub key: SessionKey,
}

/// What follows [`Dial`].
pub enum AfterDial<W> {
    /// The server is connected.
    Relay(Box<Relay<W>>),
    /// The connection is closed gracefully.
    Closing(Closing),
}

type DialStep<W> = Step<AfterDial<W>>;

impl<W: Wire> Dial<W> {
    /// A stage that begins to dial at this time.
    pub fn new(
        transform: Transform,
        opening: ChargedBytes,
        connect: Connect<W>,
        begun: Tick,
    ) -> Self {
        Self { transform, opening, connect, begun, has_begun: false }
    }

    /// Records an event for the socket in this slot of the session.
    pub fn wake(&mut self, slot: usize) {
        self.connect.wake(slot.wrapping_sub(SERVER_SLOTS));
    }

    /// The next deadline of the stage.
    pub fn due(&self) -> Tick {
        self.connect.due().max(self.begun)
    }

    /// The session has ended. A second call does nothing.
    pub fn abandon(&mut self, upstreams: &mut Upstreams) {
        self.connect.abandon(upstreams);
    }

    /// One step: checks the client and the running attempts, and starts the next ones.
    pub fn step<N: Net<Wire = W>>(
        &mut self,
        client: &mut Client<W>,
        ctx: &mut DialContext<'_, N>,
    ) -> DialStep<W> {
        client.endpoint.flush(ctx.accounting.now);
        let mut turn = Turn::Wait;
        while !self.has_request() && client.endpoint.ready.hup && client.endpoint.ready.readable {
            let Ok(room) = Buffers::bytes_to_read(&client.account, READ_MAX) else {
                turn = Turn::NeedMemory(READ_LEAST as u32);
                break;
            };
            if let Err(fault) = self.read_last_payload(client, room, ctx) {
                self.abandon(&mut ctx.outbound.upstreams);
                let closing =
                    Closing::begin_with_alert(client, fault, ctx.drbg, &mut ctx.accounting);
                return Step::Next(AfterDial::Closing(closing));
            }
        }
        let has_left = !self.has_request() && client.endpoint.fin_received;
        if client.endpoint.ready.broken || client.endpoint.write_failed || has_left {
            let has_waited = ctx.accounting.now >= self.begun + CLIENT_WAIT;
            let error = has_waited.then(|| self.connect.current_error()).flatten();
            let failure = error.map(|error| self.blame(&error));
            return Step::Stay(Turn::Close(Outcome::Gone(failure)));
        }
        if ctx.accounting.now < self.begun {
            return Step::Stay(turn);
        }
        let held = client.account.held_by_owner();
        let first_buffers = ctx.memory.socket_buffer(client.class(), held);
        if !self.has_begun && self.is_relay() {
            let (now, owner) = (ctx.accounting.now, client.account.owner());
            if ctx.memory.has_to_wait(held) && !owner.take_turn(now.0, OWNER_WAIT_MS) {
                self.begun = Tick(now.0 + OWNER_WAIT_MS);
                return Step::Stay(turn);
            }
            // Until its sockets are looked at, so that those that wait do not all go on at once.
            client.account.set_kernel(first_buffers.unwrap_or(0).saturating_mul(4));
        }
        self.has_begun = true;
        let mut connect = ConnectContext {
            now: ctx.accounting.now,
            settings: ctx.settings,
            outbound: ctx.outbound,
            drbg: ctx.drbg,
            log: &mut ctx.accounting.telemetry.log,
            account: client.account.get(),
            first_buffers,
        };
        match self.connect.poll(ctx.key.token(SERVER_SLOTS), &mut connect, ctx.net) {
            Poll::Pending => Step::Stay(turn),
            Poll::Ready(Ok(connected)) => self.connected(client, connected, ctx),
            Poll::Ready(Err(error)) => self.give_up(client, &error, ctx),
        }
    }

    /// Whether the session belongs to a user.
    fn is_relay(&self) -> bool {
        matches!(self.transform, Transform::Mtproto(_))
    }

    /// Whether the client waits for an answer: always from a front; from a data centre only if the
    /// client sent payload after the frame.
    fn has_request(&self) -> bool {
        !self.is_relay() || self.opening.len() > FRAME_LEN
    }

    /// Reads at most `room` bytes of the payload that the client sent before its FIN; they are sent
    /// after the frame.
    ///
    /// # Errors
    /// The client's bytes are not TLS records. Says why.
    fn read_last_payload<N: Net<Wire = W>>(
        &mut self,
        client: &mut Client<W>,
        room: usize,
        ctx: &mut DialContext<'_, N>,
    ) -> Result<(), &'static str> {
        let Transform::Mtproto(transform) = &mut self.transform else { return Ok(()) };
        let into = &mut ctx.buffers.scratch[..room];
        let ReadOutcome::Bytes(n) = client.endpoint.read(&mut [IoSliceMut::new(into)]) else {
            return Ok(());
        };
        let payload = &mut ctx.buffers.scratch[..n];
        let len = transform.up.transform(payload).map_err(|fault| fault.as_str())?;
        self.opening.extend_held(client.account.get(), &ctx.buffers.scratch[..len]);
        Ok(())
    }

    /// Begins the relay after a successful attempt. Sends the opening in one write.
    fn connected<N: Net<Wire = W>>(
        &mut self,
        client: &mut Client<W>,
        connected: Connected<W>,
        ctx: &mut DialContext<'_, N>,
    ) -> DialStep<W> {
        let Connected { wire, offset, addr, destination, upstream, .. } = connected;
        let has_request = self.has_request();
        let mut uncounted = self.opening.len();
        if !self.is_relay() {
            uncounted += self.complete_opening(client, addr, ctx);
        }
        let mut server = Endpoint::new(wire);
        server.send_charged(std::mem::take(&mut self.opening), ctx.accounting.now);
        let now = ctx.accounting.now;
        let (id, ms) = (client.id, now.since(client.accepted).as_millis());
        let telemetry = &mut *ctx.accounting.telemetry;
        match &self.transform {
            Transform::Mtproto(transform) => {
                let dc = transform.dc;
                uncounted = uncounted.saturating_sub(FRAME_LEN);
                let connection = telemetry.counters.telegram.add(destination.ip(), dc);
                client.dc_connection = Some(connection);
                event!(
                    Debug, "connected", id = id,
                    user = ?Maybe(ctx.accounting.users.name_of(client.user)), dc = dc, addr = %addr,
                    ms = ms, client = %telemetry.shown(client.addr)
                );
            }
            Transform::Plain => {
                ctx.outbound.front_loops.sent(Sender::Session(id));
                event!(
                    Debug, "front-connected", id = id, addr = %addr, ms = ms,
                    client = %telemetry.shown(client.addr)
                );
            }
        }
        server.uncounted = uncounted as u32;
        client.active = now;
        if let Some(upstream) = upstream
            && !has_request
        {
            // Without a request there is no answer to wait for.
            ctx.outbound.upstreams.record_abandoned(upstream);
        }
        let slot = (SERVER_SLOTS + offset) as u8;
        let way = upstream.map_or(UnprovenWay::Address(addr), UnprovenWay::Proxy);
        let unproven = self.is_relay().then(|| Box::new(Unproven { way, requested: None }));
        let relay = Relay {
            server,
            slot,
            unproven,
            fin_hold: FinHold::default(),
            ends_first: false,
            transform: std::mem::replace(&mut self.transform, Transform::Plain),
        };
        Step::Next(AfterDial::Relay(Box::new(relay)))
    }

    /// Completes the opening for a front: a PROXY protocol header before it if configured, and the
    /// bytes received while dialling after it, for one write (PROTOCOL 10). What there is no memory
    /// for is left to the relay. Returns the number of bytes of the client that were added.
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
            with_header.extend_from_slice(&self.opening);
            self.opening = ChargedBytes::held(client.account.get(), with_header);
        }
        let has_more = client.endpoint.ready.readable && !client.endpoint.fin_received;
        if !has_more || self.opening.len() >= OPENING_MAX {
            return 0;
        }
        let room = OPENING_MAX - self.opening.len();
        let Ok(room) = Buffers::bytes_to_read(&client.account, room) else { return 0 };
        let into = &mut ctx.buffers.scratch[..room];
        let ReadOutcome::Bytes(n) = client.endpoint.read(&mut [IoSliceMut::new(into)]) else {
            return 0;
        };
        self.opening.extend_held(client.account.get(), &ctx.buffers.scratch[..n]);
        n
    }

    /// Closes the session, since no address is left. An unauthenticated client gets a reset, as
    /// from an address that refuses connections.
    fn give_up<N: Net<Wire = W>>(
        &mut self,
        client: &mut Client<W>,
        error: &ConnectError,
        ctx: &mut DialContext<'_, N>,
    ) -> DialStep<W> {
        let (cause, detail) = self.blame(error);
        if client.fronted.is_some() {
            client.endpoint.wire.reset_on_close();
            return Step::Stay(Turn::Close(Outcome::FrontUnreachable(cause, detail)));
        }
        let outcome = Outcome::DcUnreachable(cause, detail);
        let name = client.user.map_or("", |user| ctx.accounting.users.get(user).name());
        let dc = match &self.transform {
            Transform::Mtproto(transform) => Some(transform.dc),
            Transform::Plain => None,
        };
        let upstreams = &ctx.outbound.upstreams;
        let proxy = error.upstream().and_then(|id| upstreams.last_error(id));
        let addr = match error {
            ConnectError::Address(addr, _) => Some(addr),
            _ => None,
        };
        ctx.accounting.telemetry.warn(fields!(
            "dc-unreachable",
            user = ?name,
            dc = Maybe(dc),
            why = %outcome.why(),
            proxy = %Maybe(proxy.map(|(name, _)| name)),
            addr = %Maybe(addr),
            error = ?error.reason(upstreams)
        ));
        let closing = Closing::begin(client, outcome, &mut ctx.accounting);
        Step::Next(AfterDial::Closing(closing))
    }

    /// The cause that `mtbox explain` reports for an error.
    fn blame(&self, error: &ConnectError) -> (Cause, Detail) {
        let unreachable = match self.is_relay() {
            true => Cause::DcUnreachable,
            false => Cause::FrontDown,
        };
        match error {
            ConnectError::NameNotFound(..) => (Cause::FrontUnknown, Detail::None),
            ConnectError::Loop => (Cause::FrontLoop, Detail::None),
            ConnectError::NotPublic(..) => (Cause::FrontNotPublic, Detail::None),
            ConnectError::Shortage(_) => (Cause::Shortage, Detail::None),
            ConnectError::Address(addr, error) => {
                let code = error.as_ref().and_then(io::Error::raw_os_error).unwrap_or(0);
                (unreachable, Detail::DialFailed(*addr, code))
            }
            ConnectError::Upstream(upstream, _) | ConnectError::CircuitOpen(upstream) => {
                (Cause::ProxyDown, Detail::Upstream(upstream.0))
            }
            ConnectError::Refused(upstream, Destination::Addr(addr), fault) => {
                (unreachable, Detail::ViaProxy(*addr, *fault, upstream.0))
            }
            ConnectError::Refused(..) | ConnectError::NoAddress => (unreachable, Detail::None),
        }
    }
}

/// Apps start a new connection after some seconds, long before the last address of a silent data
/// centre has been tried. If the client closes after this time, the server was too slow.
const CLIENT_WAIT: Duration = Duration::from_secs(2);

/// While a user holds too much memory, one of its sessions begins in this many milliseconds.
const OWNER_WAIT_MS: u64 = 100;

/// Most bytes of the first write to a front.
const OPENING_MAX: usize = 32_768;

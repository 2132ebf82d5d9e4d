//! One connection, from accept to close: a client and its current stage.
//!
//! A session has no access to other sessions. The context of a stage lists the parts of the daemon
//! that it uses.

pub(crate) mod accounting;
pub(crate) mod buffers;
pub(crate) mod capacity;
mod client;
mod close;
pub(crate) mod dial;
mod endpoint;
mod handshake;
pub mod key;
pub(crate) mod memory;
pub(crate) mod outcome;
pub(crate) mod proxy_header;
mod rejected;
mod relay;
mod server_hello;
pub(crate) mod standing;
pub(crate) mod step;
mod traffic;
mod transform;

use std::net::SocketAddr;
use std::time::Duration;

use crate::accounts::users::Users;
use crate::config::settings::Settings;
use crate::daemon::admin::state_dump::SessionCounts;
use crate::daemon::session::accounting::Accounting;
use crate::daemon::session::client::Client;
use crate::daemon::session::close::Closing;
use crate::daemon::session::dial::{AfterDial, Dial, DialContext};
use crate::daemon::session::handshake::{
    AfterFrame, AfterHello, AwaitClientHello, AwaitFrame, FrameContext, HelloContext,
};
use crate::daemon::session::key::{CLIENT_SLOT, SessionKey};
use crate::daemon::session::memory::SessionAccount;
use crate::daemon::session::outcome::Outcome;
use crate::daemon::session::proxy_header::{AwaitProxyHeader, HeaderContext};
use crate::daemon::session::relay::{Relay, RelayContext};
use crate::daemon::session::standing::Standing;
use crate::daemon::session::step::{Step, Turn};
use crate::daemon::shared::Shared;
use crate::daemon::upstream::outbound::Outbound;
use crate::io::clock::{Tick, earliest};
use crate::io::readiness::Readiness;
use crate::io::wire::{Net, Wire};
use crate::limits::fair_queue::Flow;
use crate::limits::front_loops::Sender;

/// The stage of a session. A session only moves down this list.
pub enum Stage<W> {
    /// Reads the PROXY protocol header, if there is one.
    AwaitProxyHeader(AwaitProxyHeader),
    /// Collects and checks the ClientHello.
    AwaitClientHello(AwaitClientHello),
    /// Has sent the ServerHello; collects the 64-byte frame.
    AwaitFrame(Box<AwaitFrame>),
    /// Connects to Telegram or to the front.
    Dial(Box<Dial<W>>),
    /// Forwards bytes.
    Relay(Box<Relay<W>>),
    /// Closes gracefully.
    Closing(Closing),
}

/// One connection, from accept to close.
pub struct Session<W> {
    /// The client's side.
    pub client: Client<W>,
    stage: Stage<W>,
    /// The deadline in the timer wheel.
    pub armed: Option<Tick>,
    /// The session waits until its class has room for this many bytes; 0 = it does not. Deadlines
    /// and events still wake it.
    pub needs_memory: u32,
}

impl<W: Wire> Session<W> {
    /// A connection accepted now. `may_send_header` = the peer may send a PROXY protocol header.
    pub fn new(
        id: u64,
        wire: W,
        peer: SocketAddr,
        may_send_header: bool,
        account: SessionAccount,
        now: Tick,
    ) -> Self {
        Self {
            client: Client::new(id, wire, peer, account, now),
            stage: Stage::AwaitProxyHeader(AwaitProxyHeader::new(may_send_header)),
            armed: None,
            needs_memory: 0,
        }
    }

    /// Records what the poller reports about the socket in a slot. Returns whether the session has
    /// to be stepped.
    pub fn on_ready(&mut self, slot: usize, fresh: Readiness) -> bool {
        match &mut self.stage {
            _ if slot == CLIENT_SLOT => self.client.endpoint.on_ready(fresh),
            Stage::Dial(dial) => dial.wake(slot),
            Stage::Relay(relay) if usize::from(relay.slot) == slot => {
                relay.server.on_ready(fresh);
            }
            _ => return false,
        }
        true
    }

    /// The next deadline: the session must be stepped then, even without an event.
    pub fn due(&self, settings: &Settings, now: Tick) -> Tick {
        let accepted = self.client.accepted;
        let timeout = settings.timeouts.handshake;
        match &self.stage {
            Stage::AwaitProxyHeader(stage) => stage.due(accepted, timeout),
            Stage::AwaitClientHello(stage) => stage.due(accepted, timeout, now),
            Stage::AwaitFrame(_) => handshake::frame_due(accepted, timeout),
            Stage::Dial(dial) => dial.due(),
            Stage::Relay(relay) => relay.due(&self.client, settings, now),
            Stage::Closing(closing) => closing.due(),
        }
    }

    /// Whose share of the loop the session uses.
    pub fn flow(&self, users: &Users) -> Flow {
        match self.client.user {
            Some(user) => Flow::of_user(users.position(user)),
            None if self.client.fronted.is_some() => Flow::FRONTED,
            None => Flow::OPENING,
        }
    }

    /// Adds the session to the count of its stage.
    pub fn count(&self, counts: &mut SessionCounts) {
        let count = match &self.stage {
            Stage::Dial(_) => &mut counts.dialling,
            Stage::Relay(relay) if relay.is_fronted() => &mut counts.fronted,
            Stage::Relay(_) => &mut counts.relayed,
            Stage::Closing(_) => &mut counts.closing,
            _ => &mut counts.opening,
        };
        *count += 1;
    }

    /// Whose place the session takes.
    pub fn standing(&self) -> Standing {
        match self.client.user {
            Some(user) => Standing::User(user),
            None if self.client.fronted.is_some() => Standing::Fronted,
            None => Standing::Unknown,
        }
    }

    /// Since when a peer takes nothing of what is sent to it.
    pub fn stalled_since(&self) -> Option<Tick> {
        let server = match &self.stage {
            Stage::Relay(relay) => relay.server.stalled_since,
            _ => None,
        };
        earliest(&[self.client.endpoint.stalled_since, server])
    }

    /// Whether the session waits for a server.
    pub fn is_dialling(&self) -> bool {
        matches!(self.stage, Stage::Dial(_))
    }

    /// Since when the bytes that the session holds, also those in the kernel, wait for a peer.
    pub fn stuck_since(&self) -> Option<Tick> {
        let active = self.client.active;
        match &self.stage {
            Stage::Dial(_) => Some(active),
            _ if self.needs_memory > 0 => Some(active),
            _ => self.stalled_since().or_else(|| {
                let holds = self.client.account.kernel() > KERNEL_IDLE;
                holds.then(|| active + SHAPED_GAP)
            }),
        }
    }

    /// Makes the end of the session free its memory in the kernel at once: both peers get a reset.
    pub fn reset_on_close(&mut self) {
        self.sockets().for_each(Wire::reset_on_close);
    }

    /// The sockets of the client and of the connected server.
    pub fn sockets(&mut self) -> impl Iterator<Item = &mut W> {
        let server = match &mut self.stage {
            Stage::Relay(relay) => Some(&mut relay.server.wire),
            _ => None,
        };
        server.into_iter().chain([&mut self.client.endpoint.wire])
    }

    /// Whether a server was connected, so that bytes may wait to be sent.
    pub fn was_connected(&self) -> bool {
        matches!(self.stage, Stage::Relay(_) | Stage::Closing(_))
    }

    /// One bounded step. A new stage continues in the same step. A session moves only to later
    /// stages, so the loop ends.
    pub fn step<N: Net<Wire = W>>(
        &mut self,
        key: SessionKey,
        shared: &mut Shared,
        net: &mut N,
        draining: bool,
    ) -> Turn {
        loop {
            let client = &mut self.client;
            self.stage = match &mut self.stage {
                Stage::AwaitProxyHeader(stage) => {
                    match stage.step(client, &mut header_context(shared)) {
                        Step::Stay(turn) => return turn,
                        Step::Next(next) => Stage::AwaitClientHello(next),
                    }
                }
                Stage::AwaitClientHello(stage) => {
                    match stage.step(client, &mut hello_context(shared)) {
                        Step::Stay(turn) => return turn,
                        Step::Next(AfterHello::AwaitFrame(next)) => Stage::AwaitFrame(next),
                        Step::Next(AfterHello::Front(next)) => Stage::Dial(next),
                    }
                }
                Stage::AwaitFrame(stage) => match stage.step(client, &mut frame_context(shared)) {
                    Step::Stay(turn) => return turn,
                    Step::Next(AfterFrame::Dial(next)) => Stage::Dial(next),
                    Step::Next(AfterFrame::Closing(next)) => Stage::Closing(next),
                },
                Stage::Dial(stage) => {
                    match stage.step(client, &mut dial_context(shared, net, key)) {
                        Step::Stay(turn) => return turn,
                        Step::Next(AfterDial::Relay(next)) => Stage::Relay(next),
                        Step::Next(AfterDial::Closing(next)) => Stage::Closing(next),
                    }
                }
                Stage::Relay(stage) => {
                    match stage.step(client, &mut relay_context(shared, draining)) {
                        Step::Stay(turn) => return turn,
                        Step::Next(next) => Stage::Closing(next),
                    }
                }
                Stage::Closing(stage) => {
                    return stage.step(client, &mut shared.buffers, shared.time.now);
                }
            };
        }
    }

    /// Logs the end of the session and releases its counts. The caller drops it.
    pub fn finish(&mut self, outcome: Outcome, shared: &mut Shared) {
        let mut is_in_time_wait = false;
        let sent_up = match &mut self.stage {
            Stage::Dial(dial) => {
                dial.abandon(&mut shared.outbound.upstreams);
                0
            }
            Stage::Relay(relay) => {
                relay.abandon(&mut shared.outbound.upstreams);
                if relay.is_fronted() && outcome != Outcome::Finished {
                    // Otherwise our FIN would be the first one, and keep the port for a minute.
                    relay.server.wire.reset_on_close();
                }
                is_in_time_wait = relay.is_in_time_wait();
                relay.server.sent
            }
            _ => self.client.sent_up,
        };
        let Shared { time, capacity, accounts, telemetry, limits, outbound, .. } = shared;
        if let Some(token) = self.client.fronted {
            let age_ms = time.now.since(self.client.accepted).as_millis() as u64;
            outbound.front_loops.end(Sender::Session(self.client.id), false, time.now.0);
            limits.dials.release(token, is_in_time_wait.then_some(age_ms), time.now.0);
        }
        let mut accounting = Accounting::new(time, accounts, capacity, telemetry);
        close::finish(&mut self.client, outcome, sent_up, &mut accounting);
    }
}

fn header_context(shared: &mut Shared) -> HeaderContext<'_> {
    let Shared { settings, time, drbg, buffers, capacity, accounts, lists, telemetry, .. } = shared;
    HeaderContext {
        accounting: Accounting::new(time, accounts, capacity, telemetry),
        handshake_timeout: settings.timeouts.handshake,
        buffers,
        lists,
        drbg,
    }
}

fn hello_context(shared: &mut Shared) -> HelloContext<'_> {
    let Shared { time, accounts, capacity, telemetry, .. } = shared;
    HelloContext {
        accounting: Accounting::new(time, accounts, capacity, telemetry),
        settings: &shared.settings,
        time: &shared.time,
        drbg: &mut shared.drbg,
        buffers: &mut shared.buffers,
        limits: &mut shared.limits,
        mimicry: &mut shared.mimicry,
        front_loops: &mut shared.outbound.front_loops,
    }
}

fn frame_context(shared: &mut Shared) -> FrameContext<'_> {
    let Shared { time, accounts, capacity, telemetry, .. } = shared;
    FrameContext {
        accounting: Accounting::new(time, accounts, capacity, telemetry),
        settings: &shared.settings,
        drbg: &mut shared.drbg,
        buffers: &mut shared.buffers,
        outbound: &shared.outbound,
        pace: shared.mimicry.pace,
    }
}

fn dial_context<'a, N>(
    shared: &'a mut Shared,
    net: &'a mut N,
    key: SessionKey,
) -> DialContext<'a, N> {
    let Shared { settings, time, drbg, buffers, capacity, accounts, outbound, telemetry, .. } =
        shared;
    let accounting = Accounting::new(time, accounts, capacity, telemetry);
    let memory = &shared.memory;
    DialContext { accounting, settings, buffers, memory, drbg, outbound, net, key }
}

fn relay_context(shared: &mut Shared, draining: bool) -> RelayContext<'_> {
    let Shared { settings, time, drbg, buffers, capacity, accounts, outbound, telemetry, .. } =
        shared;
    let accounting = Accounting::new(time, accounts, capacity, telemetry);
    let Outbound { upstreams, front_loops, bad_addresses, .. } = outbound;
    let dials = &shared.limits.dials;
    RelayContext {
        accounting,
        settings,
        drbg,
        buffers,
        upstreams,
        bad_addresses,
        front_loops,
        dials,
        draining,
    }
}

/// Bytes that the sockets of an idle session may occupy in the kernel.
const KERNEL_IDLE: u32 = 8 << 10;
/// A shaped download may leave bytes in the kernel this long.
const SHAPED_GAP: Duration = Duration::from_secs(1);

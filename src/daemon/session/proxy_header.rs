//! The first stage: where does the client come from? The socket knows, or a PROXY protocol header
//! does, read here and never in the accept loop, so that a silent client stalls nobody.

use std::io::IoSliceMut;

use crate::accounts::recorder::Cause;
use crate::daemon::admin::probe_summary::ProbeKind;
use crate::daemon::fetch::ip_lists;
use crate::daemon::session::handshake::{AwaitClientHello, READ, StageTurn, handshake_ms};
use crate::daemon::session::{CloseReason, ReadOutcome, Session, Stage, Turn};
use crate::daemon::shared::World;
use crate::io::clock::Tick;
use crate::io::wire::Wire;
use crate::proto::proxy_header::{self, Preface};

/// A connection whose address is not known yet.
pub struct AwaitProxyHeader {
    /// Whether a header may come.
    may_announce: bool,
    seen: Vec<u8>,
}

impl AwaitProxyHeader {
    /// A stage that has not begun. A peer that may announce nothing comes from where its socket
    /// says, and was judged by that already.
    pub fn new(may_announce: bool) -> Self {
        Self { may_announce, seen: Vec::new() }
    }

    /// Bytes that the stage holds on the heap.
    pub fn held(&self) -> usize {
        self.seen.capacity()
    }

    /// When the header must be complete.
    pub fn due(&self, born: Tick, handshake_ms: u64) -> Tick {
        Tick(born.0 + handshake_ms.min(HEADER_MS))
    }
}

/// One look for a header: at most one read.
pub fn prologue<W: Wire>(session: &mut Session<W>, world: &mut World) -> StageTurn {
    let Stage::AwaitProxyHeader(stage) = &mut session.stage else { return StageTurn::On };
    if !stage.may_announce {
        return enter(session, world, 0);
    }
    if session.client.ready.readable {
        match session.client.read(&mut [IoSliceMut::new(&mut world.buffers.scratch[..READ])]) {
            ReadOutcome::Bytes(n) => {
                world.telemetry.counters.read(n);
                if world.buffers.keep_hello(&mut stage.seen, n).is_err() {
                    return StageTurn::Stop(Turn::Done(CloseReason::Pressure));
                }
                session.active = world.time.now;
            }
            ReadOutcome::Nothing | ReadOutcome::Fin => {}
            ReadOutcome::Reset => return StageTurn::Stop(Turn::Done(CloseReason::Reset)),
        }
    }
    let out_of_time = world.time.now >= stage.due(session.born, handshake_ms(world));
    let is_over = session.client.done || out_of_time;
    match proxy_header::parse(&stage.seen) {
        Preface::Complete { len, source } => {
            if let Some(source) = source {
                world.telemetry.counters.clients.remove(session.addr);
                (session.addr, session.port) = (source.ip(), source.port());
                world.telemetry.counters.clients.add(session.addr);
            }
            judge(session, world, len)
        }
        Preface::Absent => judge(session, world, 0),
        // Without a header the bytes are the stream, however few they are.
        Preface::Ambiguous if is_over => judge(session, world, 0),
        Preface::Incomplete if is_over => refuse(session, world),
        Preface::Malformed => refuse(session, world),
        Preface::Ambiguous | Preface::Incomplete if session.client.ready.readable => {
            StageTurn::Stop(Turn::Again)
        }
        Preface::Ambiguous | Preface::Incomplete => StageTurn::Stop(Turn::Waiting),
    }
}

/// The address is known now, and may be one that is not let in.
fn judge<W: Wire>(session: &mut Session<W>, world: &mut World, len: usize) -> StageTurn {
    if ip_lists::may_enter(world, session.addr) {
        return enter(session, world, len);
    }
    turn_away(&mut session.client.wire, world);
    StageTurn::Stop(Turn::Done(CloseReason::Unwelcome))
}

/// Ends a connection without a word, after a look at what it has sent so that the kernel says FIN
/// rather than RST.
pub fn turn_away<W: Wire>(wire: &mut W, world: &mut World) {
    let _ = wire.read(&mut [IoSliceMut::new(&mut world.buffers.scratch)]);
    let _ = wire.shutdown_write();
}

/// The client comes in, with what it sent behind a header of `len` bytes.
fn enter<W: Wire>(session: &mut Session<W>, world: &mut World, len: usize) -> StageTurn {
    let Stage::AwaitProxyHeader(stage) = &mut session.stage else { return StageTurn::On };
    let mut seen = std::mem::take(&mut stage.seen);
    seen.drain(..len.min(seen.len()));
    // Silence without a header has been silence before the hello.
    let silent_since = if len == 0 { session.active } else { world.time.now };
    session.stage = Stage::AwaitClientHello(AwaitClientHello::new(seen, silent_since, world));
    StageTurn::On
}

/// A header that is none: nobody can be told where the client comes from, so nobody is asked.
fn refuse<W: Wire>(session: &Session<W>, world: &mut World) -> StageTurn {
    world.telemetry.counters.bad_headers += 1;
    world.telemetry.record_client(session.addr, Cause::BadHeader);
    world.telemetry.count_probe(ProbeKind::BadHeader, session.addr);
    log::debug!(
        "event=bad-proxy-header id={} client={}",
        session.id,
        world.telemetry.shown(session.addr)
    );
    StageTurn::Stop(Turn::Done(CloseReason::BadHeader))
}

/// For the whole header, from accept. The reference waits for ten seconds, and all wait with it.
const HEADER_MS: u64 = 5_000;

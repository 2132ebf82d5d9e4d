//! When a relay ends: a peer that takes no bytes, and silence.

use std::time::Duration;

use crate::config::settings::Settings;
use crate::daemon::session::buffers::Buffers;
use crate::daemon::session::client::Client;
use crate::daemon::session::outcome::Outcome;
use crate::daemon::session::relay::Relay;
use crate::daemon::session::transform::Transform;
use crate::io::clock::{Tick, earliest};
use crate::io::wire::Wire;

impl<W: Wire> Relay<W> {
    /// The outcome if the session must close, since a peer accepts no bytes or both are silent.
    pub(super) fn overdue(
        &mut self,
        client: &mut Client<W>,
        settings: &Settings,
        buffers: &Buffers,
        now: Tick,
    ) -> Option<Outcome> {
        let is_tight = buffers.is_tight_for(&client.account);
        for endpoint in [&mut client.endpoint, &mut self.server] {
            let Some(since) = endpoint.stalled_since else { continue };
            if now < since + STALL_WHEN_TIGHT {
                continue;
            }
            if !is_tight && endpoint.has_acknowledged_more() {
                endpoint.stalled_since = Some(now);
            } else if is_tight || now >= since + STALL {
                return Some(Outcome::Stalled);
            }
        }
        let idle = self.idle_limit(client, settings);
        if now < client.active + idle {
            return None;
        }
        // What the kernel still delivers is traffic too.
        if client.endpoint.has_acknowledged_more() || self.server.has_acknowledged_more() {
            client.active = client.active + idle.min(STALL);
            return None;
        }
        Some(Outcome::Idle)
    }

    /// The next deadline of the session.
    pub fn due(&self, client: &Client<W>, settings: &Settings, now: Tick) -> Tick {
        let idle = client.active + self.idle_limit(client, settings);
        let stalled = [client.endpoint.stalled_since, self.server.stalled_since];
        // Checked early, since the limit becomes shorter when memory is short.
        let [stall_down, stall_up] = stalled.map(|since| {
            let (since, first) = (since?, since? + STALL_WHEN_TIGHT);
            Some(if now < first { first } else { (now + STALL_WHEN_TIGHT).min(since + STALL) })
        });
        let shape = match &self.transform {
            Transform::Mtproto(mtproto) if client.endpoint.outbox.is_empty() => {
                mtproto.down.shape()
            }
            _ => None,
        };
        let next = shape.and_then(|shape| shape.due(now.0, self.server.ready.readable));
        let silence = self.silence_ends(client);
        let fin = if self.may_hold_fin(client) { self.fin_hold.due_ms(now.0) } else { None };
        let (next, fin) = (next.map(Tick), fin.map(Tick));
        earliest(&[Some(idle), stall_down, stall_up, next, fin, silence]).unwrap_or(idle)
    }

    /// The idle limit: shorter for fronted and for half-closed sessions.
    fn idle_limit(&self, client: &Client<W>, settings: &Settings) -> Duration {
        let idle = settings.timeouts.idle;
        let is_half_closed = client.endpoint.fin_received || self.server.fin_received;
        match (&self.transform, is_half_closed) {
            (Transform::Plain, _) => idle.min(FRONT_IDLE),
            (Transform::Mtproto(_), true) => idle.min(HALF_CLOSED_IDLE),
            (Transform::Mtproto(_), false) => idle,
        }
    }
}

/// A peer may acknowledge no bytes for this long.
const STALL: Duration = Duration::from_secs(30);
/// When memory is short, a peer has this long for a whole buffer; else the time between two looks.
const STALL_WHEN_TIGHT: Duration = Duration::from_secs(5);
/// The idle limit of a fronted session; longer than the keep-alive limits of common web servers.
const FRONT_IDLE: Duration = Duration::from_secs(120);
/// The idle limit of a relayed session after the FIN of one side.
const HALF_CLOSED_IDLE: Duration = Duration::from_secs(30);

//! Whether what has taken the connection leads to Telegram: a proxy that says yes, or an address.
//! The first byte of Telegram shows that it does (DECISIONS D145, D209).

use std::time::Duration;

use crate::daemon::session::client::Client;
use crate::daemon::session::outcome::{DC_ANSWERS_WITHIN, Outcome};
use crate::daemon::session::relay::{Relay, RelayContext, UnprovenWay};
use crate::daemon::session::transform::Transform;
use crate::daemon::upstream::proxies::{CLOSED_UNPROVEN, SILENT, Upstreams};
use crate::io::clock::Tick;
use crate::io::logger::{Maybe, fields};
use crate::io::wire::Wire;

impl<W: Wire> Relay<W> {
    /// Records whether the way has led to Telegram: the first byte has come; or none has come for
    /// too long after a request, or the connection has ended before. A client that closes earlier
    /// shows nothing.
    pub(super) fn judge_way(&mut self, client: &Client<W>, ctx: &mut RelayContext<'_>) {
        let (Some(unproven), Transform::Mtproto(mtproto)) = (&mut self.unproven, &self.transform)
        else {
            return;
        };
        let now = ctx.accounting.now;
        if self.server.sent > 0 || self.server.uncounted > 0 {
            unproven.requested.get_or_insert(now);
        }
        if mtproto.down.has_started() {
            match self.unproven.take().map(|unproven| unproven.way) {
                Some(UnprovenWay::Proxy(upstream)) => ctx.upstreams.record_success(upstream),
                Some(UnprovenWay::Address(addr)) => {
                    ctx.bad_addresses.remove(addr);
                    ctx.upstreams
                        .direct()
                        .into_iter()
                        .for_each(|id| ctx.upstreams.record_success(id));
                }
                None => {}
            }
            return;
        }
        let is_closed = self.server.fin_received || self.server.write_failed;
        let is_early = now < client.active + DC_ANSWERS_WITHIN;
        let why = if is_closed && is_early && !has_ended(client) {
            CLOSED_UNPROVEN
        } else if self.silence_ends(client).is_some_and(|at| now >= at) {
            SILENT
        } else {
            return;
        };
        let Some(unproven) = self.unproven.take() else { return };
        let accounting = &mut ctx.accounting;
        let (outcome, name) = match unproven.way {
            UnprovenWay::Proxy(upstream) => {
                ctx.upstreams.record_failure(upstream, why, now);
                let name = ctx.upstreams.last_error(upstream).map(|(name, _)| name);
                (Outcome::ProxyDown(upstream), name.unwrap_or_default())
            }
            UnprovenWay::Address(addr) => {
                ctx.bad_addresses.add(addr, now);
                if let Some(direct) = ctx.upstreams.direct() {
                    ctx.upstreams.record_failure(direct, why, now);
                }
                (Outcome::DcHungUp(addr), addr.to_string())
            }
        };
        let is_proxy = matches!(unproven.way, UnprovenWay::Proxy(_));
        let proxy = Maybe(is_proxy.then_some(&name));
        let fields = fields!("dial-failed", addr = %name, error = ?why, proxy = %proxy);
        accounting.telemetry.info(fields);
        accounting.record(client.user, client.addr, outcome);
    }

    /// When a server that has sent nothing is too late. `None` = it need not send anything.
    pub(super) fn silence_ends(&self, client: &Client<W>) -> Option<Tick> {
        let requested = self.unproven.as_ref()?.requested?;
        let is_silent = !self.server.ready.readable && !has_ended(client);
        // An upload is not answered before its end.
        let upload = Duration::from_millis(self.server.sent / SLOW_UPLOAD);
        is_silent.then(|| requested + DC_ANSWERS_WITHIN + upload)
    }

    /// The session has ended. A second call does nothing.
    pub fn abandon(&mut self, upstreams: &mut Upstreams) {
        if let Some(UnprovenWay::Proxy(upstream)) = self.unproven.take().map(|one| one.way) {
            upstreams.record_abandoned(upstream);
        }
    }
}

/// Whether the client has ended its side. After its FIN, read or not, the server's is an answer.
fn has_ended<W>(client: &Client<W>) -> bool {
    client.endpoint.fin_received || client.endpoint.ready.hup
}

/// Bytes per millisecond of an upload that is too slow for a whole request in
/// [`DC_ANSWERS_WITHIN`]: 32 kbit/s.
const SLOW_UPLOAD: u64 = 4;

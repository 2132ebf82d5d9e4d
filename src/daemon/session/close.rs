//! The end of a session: the log line, the cause, the counters, and the graceful close of the
//! client's connection.

use std::io::IoSliceMut;
use std::time::Duration;

use crate::daemon::session::accounting::Accounting;
use crate::daemon::session::buffers::{Buffers, READ_MAX};
use crate::daemon::session::client::Client;
use crate::daemon::session::endpoint::ReadOutcome;
use crate::daemon::session::outcome::Outcome;
use crate::daemon::session::step::Turn;
use crate::io::clock::Tick;
use crate::io::logger::{Maybe, event, fields};
use crate::io::wire::Wire;
use crate::proto::tls;
use crate::util::drbg::Drbg;
use crate::util::memory::ChargedBytes;

/// The last stage, a graceful close: flushes, sends FIN, and reads until the client's FIN, so that
/// no RST overtakes our last bytes.
pub struct Closing {
    /// The deadline of the client's FIN.
    until: Tick,
}

impl Closing {
    /// Logs the end of the session, releases its counts, and begins to close the connection.
    pub fn begin<W: Wire>(
        client: &mut Client<W>,
        outcome: Outcome,
        accounting: &mut Accounting<'_>,
    ) -> Self {
        event!(
            Debug, "closing", id = client.id, why = %outcome.why(),
            user = ?Maybe(accounting.users.name_of(client.user)),
            client = %accounting.telemetry.shown(client.addr)
        );
        record_end(client, outcome, accounting);
        release(client, accounting);
        Self { until: accounting.now + LINGER }
    }

    /// Like [`Closing::begin`], but first sends an encrypted alert, as a TLS server does when it
    /// cannot decrypt a record (PROTOCOL 15.13).
    pub fn begin_with_alert<W: Wire>(
        client: &mut Client<W>,
        fault: &str,
        drbg: &mut Drbg,
        accounting: &mut Accounting<'_>,
    ) -> Self {
        let from = accounting.telemetry.shown(client.addr);
        event!(Debug, "protocol-error", id = client.id, why = %fault, client = %from);
        let mut alert = vec![0u8; ALERT_LEN];
        let (header, sealed) = alert.split_at_mut(tls::HEADER_LEN);
        header.copy_from_slice(&tls::header(tls::APPLICATION_DATA, sealed.len() as u16));
        drbg.fill(sealed);
        let alert = ChargedBytes::held(client.account.get(), alert);
        client.endpoint.send_charged(alert, accounting.now);
        Self::begin(client, Outcome::Garbled, accounting).at_once()
    }

    /// Waits for no FIN of the client: a web server closes its socket after a fault of TLS, and its
    /// kernel answers later bytes with RST.
    pub fn at_once(self) -> Self {
        Self { until: Tick(0) }
    }

    /// The deadline of the stage.
    pub fn due(&self) -> Tick {
        self.until
    }

    /// At most one read and one write.
    pub fn step<W: Wire>(&self, client: &mut Client<W>, buffers: &mut Buffers, now: Tick) -> Turn {
        let endpoint = &mut client.endpoint;
        endpoint.flush(now);
        // Later, close(2) sends FIN, or RST if there are unread bytes.
        if endpoint.outbox.is_empty() && now < self.until {
            endpoint.send_fin();
        }
        if endpoint.ready.readable && !endpoint.fin_received && now < self.until {
            let into = &mut buffers.scratch[..READ_MAX];
            if let ReadOutcome::Bytes(_) = endpoint.read(&mut [IoSliceMut::new(into)])
                && endpoint.ready.readable
            {
                return Turn::Again;
            }
        }
        let is_over = endpoint.write_failed
            || (endpoint.fin_received && endpoint.fin_sent)
            || now >= self.until;
        if is_over { Turn::Close(Outcome::Finished) } else { Turn::Wait }
    }
}

/// Logs the end of a session and removes it from all counts. The caller closes the connection.
pub fn finish<W: Wire>(
    client: &mut Client<W>,
    outcome: Outcome,
    sent_up: u64,
    accounting: &mut Accounting<'_>,
) {
    event!(
        Debug, "closed", id = client.id, why = %outcome.why(),
        user = ?Maybe(accounting.users.name_of(client.user)), up = sent_up,
        down = client.endpoint.sent, ms = accounting.now.since(client.accepted).as_millis(),
        client = %accounting.telemetry.shown(client.addr)
    );
    record_end(client, outcome, accounting);
    release(client, accounting);
    accounting.telemetry.counters.clients.remove(client.addr);
}

/// Records how the session ended. A user's session that failed is also logged for the operator.
fn record_end<W>(client: &Client<W>, outcome: Outcome, accounting: &mut Accounting<'_>) {
    let is_failure = matches!(outcome, Outcome::HandshakeTimeout | Outcome::Garbled);
    if client.user.is_some() && is_failure {
        let from = accounting.telemetry.shown(client.addr);
        accounting.telemetry.info(fields!(
            "session-failed", user = ?Maybe(accounting.users.name_of(client.user)),
            why = %outcome.why(), client = %from
        ));
    }
    accounting.record(client.user, client.addr, outcome);
}

/// Removes the session from all counts. A second call does nothing.
fn release<W>(client: &mut Client<W>, accounting: &mut Accounting<'_>) {
    if let Some(user) = client.user.take() {
        accounting.users.remove_session(user);
    }
    if client.fronted.take().is_some() {
        accounting.capacity.fronted = accounting.capacity.fronted.saturating_sub(1);
        accounting.telemetry.counters.fronting.remove(client.addr);
    }
    if let Some(connection) = client.dc_connection.take() {
        accounting.telemetry.counters.telegram.remove(connection);
    }
}

/// How long a client may take to answer our FIN.
const LINGER: Duration = Duration::from_secs(3);

/// An alert record of TLS 1.3: header, two bytes of alert, content type, 16-byte tag.
const ALERT_LEN: usize = tls::HEADER_LEN + 19;

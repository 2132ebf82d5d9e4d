//! The end of a session: the log line, the cause, the counters, and the graceful close.

use std::io::IoSliceMut;
use std::time::Duration;

use crate::accounts::recorder::{Cause, Detail};
use crate::daemon::session::accounting::Accounting;
use crate::daemon::session::buffers::{Buffers, READ_MAX};
use crate::daemon::session::client::Client;
use crate::daemon::session::endpoint::ReadOutcome;
use crate::daemon::session::outcome::{self, Phase};
use crate::daemon::session::step::{CloseReason, Turn};
use crate::io::clock::Tick;
use crate::io::wire::Wire;
use crate::proto::tls;
use crate::util::drbg::Drbg;

/// The last stage: what is left for this client is a graceful close. Flushes, sends FIN, and reads
/// until the client's FIN, so that no RST overtakes our last bytes.
pub struct Closing {
    /// When we stop waiting.
    until: Tick,
}

impl Closing {
    /// Ends the session for the counters, and begins to close the connection.
    pub fn begin<W: Wire>(
        client: &mut Client<W>,
        phase: Phase,
        reason: CloseReason,
        books: &mut Accounting<'_>,
    ) -> Self {
        log::debug!(
            "event=closing id={} why={}{} client={}",
            client.id,
            reason.as_str(),
            books.users.log_field(client.user),
            books.telemetry.shown(client.addr)
        );
        record_end(client, phase, reason, books);
        release(client, books);
        Self { until: books.now + LINGER }
    }

    /// Like [`Closing::begin`], after an encrypted alert: what a TLS server sends to a client whose
    /// records it cannot read (PROTOCOL 15.13).
    ///
    /// # Errors
    /// The pool has no block for the alert.
    pub fn begin_with_alert<W: Wire>(
        client: &mut Client<W>,
        phase: Phase,
        fault: &str,
        buffers: &Buffers,
        drbg: &mut Drbg,
        books: &mut Accounting<'_>,
    ) -> Result<Self, CloseReason> {
        let from = books.telemetry.shown(client.addr);
        log::debug!("event=protocol-error id={} why={fault} client={from}", client.id);
        let mut alert = [0u8; ALERT_LEN];
        let (header, sealed) = alert.split_at_mut(tls::HEADER_LEN);
        header.copy_from_slice(&tls::header(tls::APPLICATION_DATA, sealed.len() as u16));
        drbg.fill(sealed);
        let sent = client.end.send(&alert, &buffers.pool, books.now);
        sent.map_err(|_| CloseReason::Pressure)?;
        Ok(Self::begin(client, phase, CloseReason::Garbled, books))
    }

    /// When the stage must be looked at even if nothing comes.
    pub fn due(&self) -> Tick {
        self.until
    }

    /// At most one read and one write.
    pub fn step<W: Wire>(&self, client: &mut Client<W>, buffers: &mut Buffers, now: Tick) -> Turn {
        let end = &mut client.end;
        end.flush(now);
        if end.outbox.is_empty() {
            end.send_fin();
        }
        if end.ready.readable && !end.fin_received && now < self.until {
            let into = &mut buffers.scratch[..READ_MAX];
            if let ReadOutcome::Bytes(_) = end.read(&mut [IoSliceMut::new(into)])
                && end.ready.readable
            {
                return Turn::Again;
            }
        }
        let is_over = end.write_failed || (end.fin_received && end.fin_sent) || now >= self.until;
        if is_over { Turn::Close(CloseReason::Finished) } else { Turn::Wait }
    }
}

/// Ends a session whose connection is closed at once. The only other end is [`Closing::begin`].
pub fn finish<W: Wire>(
    client: &mut Client<W>,
    phase: Phase,
    reason: CloseReason,
    sent_up: u64,
    books: &mut Accounting<'_>,
) {
    log::debug!(
        "event=closed id={} why={}{} up={} down={} ms={} client={}",
        client.id,
        reason.as_str(),
        books.users.log_field(client.user),
        sent_up,
        client.end.sent,
        books.now.since(client.accepted).as_millis(),
        books.telemetry.shown(client.addr)
    );
    record_end(client, phase, reason, books);
    release(client, books);
    books.telemetry.counters.clients.remove(client.addr);
    if reason == CloseReason::Pressure {
        books.telemetry.counters.pressed += 1;
    }
}

/// Records why the session ended. A user's session that failed is also logged for the operator.
fn record_end<W>(
    client: &Client<W>,
    phase: Phase,
    reason: CloseReason,
    books: &mut Accounting<'_>,
) {
    let Some(user) = client.user else {
        if reason == CloseReason::Pressure {
            books.telemetry.record_client(client.addr, Cause::Pressure);
        }
        return;
    };
    if matches!(reason, CloseReason::Handshake | CloseReason::Garbled | CloseReason::Pressure) {
        let from = books.telemetry.shown(client.addr);
        let who = books.users.log_field(client.user);
        let why = reason.as_str();
        books.telemetry.info(format_args!("event=session-failed{who} why={why} client={from}"));
    }
    if let Some(cause) = outcome::of_close(reason, phase) {
        books.telemetry.record_user(books.users, user, cause, Detail::None);
    }
}

/// Gives back every count and place that the session holds. Harmless to repeat.
fn release<W>(client: &mut Client<W>, books: &mut Accounting<'_>) {
    if let Some(user) = client.user.take() {
        books.users.remove_session(user);
    }
    if std::mem::take(&mut client.fronted) {
        books.capacity.fronted = books.capacity.fronted.saturating_sub(1);
        books.telemetry.counters.fronting.remove(client.addr);
    }
    if let Some(connection) = client.dc_connection.take() {
        books.telemetry.counters.telegram.remove(connection);
    }
}

/// How long a client may take to answer our FIN.
const LINGER: Duration = Duration::from_secs(3);

/// An alert record of TLS 1.3: header, two bytes of alert, content type, 16-byte tag.
const ALERT_LEN: usize = tls::HEADER_LEN + 19;

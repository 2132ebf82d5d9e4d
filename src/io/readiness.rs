//! What the poller reports about a socket.

use mio::event::Event;

/// Edge-triggered: each flag holds until a call says otherwise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Readiness {
    /// A read may find bytes.
    pub readable: bool,
    /// A write may succeed.
    pub writable: bool,
    /// A FIN or an error waits behind the bytes: a short read does not mean "drained".
    pub hup: bool,
    /// Urgent data has come. A read stops at its mark, so that a short read does not mean "drained"
    /// (tcp(7), "Out-of-band data").
    pub urgent: bool,
    /// The connection is broken, not only half closed.
    pub broken: bool,
}

/// The readiness that an event reports.
pub fn of(event: &Event) -> Readiness {
    Readiness {
        readable: event.is_readable(),
        writable: event.is_writable(),
        hup: event.is_read_closed() || event.is_error(),
        urgent: event.is_priority(),
        broken: event.is_error() || event.is_write_closed(),
    }
}

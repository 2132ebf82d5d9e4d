//! The listeners for clients: accepting, errors of accept(2), and moving to other addresses. An
//! error of the system pauses all listeners; an error of one listener pauses only that one.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use mio::Registry;

use crate::io::clock::Tick;
use crate::io::listen::{AcceptError, Bind, Listener};
use crate::io::logger::RateLimitedLog;
use crate::io::wire::MioWire;

/// The listeners for clients. Each keeps its slot, and so its token, until it is closed.
pub(super) struct ClientListeners {
    slots: Vec<Option<ClientListener>>,
    /// The token of slot 0.
    token_base: usize,
}

impl ClientListeners {
    /// Opens all or none. The listener in slot `n` gets the poll token `token_base + n`.
    ///
    /// # Errors
    /// The system's error, with the address in its text.
    pub(super) fn open(binds: &[Bind], registry: &Registry, token_base: usize) -> io::Result<Self> {
        let mut listeners = Self { slots: Vec::new(), token_base };
        for bind in binds {
            let slot = listeners.free_slot(&[]);
            listeners.put(slot, ClientListener::open(*bind, registry, token_base + slot)?);
        }
        Ok(listeners)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &ClientListener> {
        self.slots.iter().flatten()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut ClientListener> {
        self.slots.iter_mut().flatten()
    }

    /// Records that the poller reported a connection at the listener in this slot.
    pub(super) fn mark_readable(&mut self, slot: usize) {
        if let Some(Some(listener)) = self.slots.get_mut(slot) {
            listener.mark_readable();
        }
    }

    /// Closes all listeners.
    pub(super) fn close(&mut self) {
        self.slots.clear();
    }

    /// Moves to other addresses. Listeners that are still wanted stay open, and new ones are opened
    /// before old ones are closed. `accept_pending` accepts the connections that wait at a listener
    /// before it is closed. Returns how many were opened and closed.
    ///
    /// # Errors
    /// A new listener cannot be opened; then all old ones are still open.
    pub(super) fn reopen(
        &mut self,
        wanted: &[Bind],
        registry: &Registry,
        mut accept_pending: impl FnMut(&mut ClientListener),
    ) -> io::Result<(usize, usize)> {
        let is_kept = |one: &ClientListener| wanted.contains(&one.listener.bind_spec());
        let is_open = |bind: &&Bind| !self.iter().any(|one| one.listener.bind_spec() == **bind);
        let missing: Vec<Bind> = wanted.iter().filter(is_open).copied().collect();
        let mut opened: Vec<(usize, ClientListener)> = Vec::new();
        let mut blocked = Vec::new();
        for bind in missing {
            let slot = self.free_slot(&opened);
            match ClientListener::open(bind, registry, self.token_base + slot) {
                Ok(listener) => opened.push((slot, listener)),
                Err(e) if e.kind() == io::ErrorKind::AddrInUse && self.blocks(bind, wanted) => {
                    blocked.push(bind);
                }
                Err(e) => return Err(e),
            }
        }
        // An old listener of ours has the port: it must close before the new one can open.
        let mut closed: Vec<Bind> = Vec::new();
        for bind in blocked {
            for slot in &mut self.slots {
                let is_in_the_way = |one: &ClientListener| {
                    !is_kept(one) && one.listener.bind_spec().addr.port() == bind.addr.port()
                };
                if let Some(mut listener) = slot.take_if(|one| is_in_the_way(one)) {
                    accept_pending(&mut listener);
                    closed.push(listener.listener.bind_spec());
                }
            }
            let slot = self.free_slot(&opened);
            match ClientListener::open(bind, registry, self.token_base + slot) {
                Ok(listener) => opened.push((slot, listener)),
                Err(e) => {
                    drop(opened);
                    self.restore(&closed, registry);
                    return Err(e);
                }
            }
        }
        let mut closed = closed.len();
        for slot in &mut self.slots {
            if let Some(mut listener) = slot.take_if(|one| !is_kept(one)) {
                accept_pending(&mut listener);
                closed += 1;
            }
        }
        let count = opened.len();
        opened.into_iter().for_each(|(slot, listener)| self.put(slot, listener));
        Ok((count, closed))
    }

    /// Whether a listener that is about to close has the port.
    fn blocks(&self, bind: Bind, wanted: &[Bind]) -> bool {
        let mut closing = self.iter().filter(|one| !wanted.contains(&one.listener.bind_spec()));
        closing.any(|one| one.listener.bind_spec().addr.port() == bind.addr.port())
    }

    /// Opens the listeners again that a failed move has closed.
    fn restore(&mut self, closed: &[Bind], registry: &Registry) {
        for bind in closed {
            let slot = self.free_slot(&[]);
            match ClientListener::open(*bind, registry, self.token_base + slot) {
                Ok(listener) => self.put(slot, listener),
                Err(e) => log::error!("event=listener-lost error={:?}", e.to_string()),
            }
        }
    }

    /// The first slot that neither an open listener nor one of `reserved` has.
    fn free_slot(&self, reserved: &[(usize, ClientListener)]) -> usize {
        let is_free = |slot: &usize| {
            self.slots.get(*slot).is_none_or(Option::is_none)
                && reserved.iter().all(|(other, _)| other != slot)
        };
        (0..).find(is_free).unwrap_or(self.slots.len())
    }

    fn put(&mut self, slot: usize, listener: ClientListener) {
        while self.slots.len() <= slot {
            self.slots.push(None);
        }
        self.slots[slot] = Some(listener);
    }
}

/// A listener, and whether a call of accept(2) is worth while.
pub(super) struct ClientListener {
    listener: Listener,
    /// The poller reported a connection that accept(2) has not returned yet.
    readable: bool,
    /// accept(2) failed on this listener: no further call until then.
    paused_until: Option<Tick>,
}

/// The result of one accept(2).
pub(super) enum Accepted {
    /// A connection and the address of its client.
    Connection(MioWire, SocketAddr),
    /// The connection failed before it was accepted; others may wait behind it.
    Transient,
    /// No connection is waiting, or this listener is paused.
    None,
    /// The system is out of descriptors or memory: accept(2) fails on all listeners.
    Exhausted,
}

impl ClientListener {
    /// Listens, and registers the listener with the poller.
    ///
    /// # Errors
    /// The system's error, with the address in its text.
    fn open(bind: Bind, registry: &Registry, token: usize) -> io::Result<Self> {
        let listener = Self::new(Listener::bind(bind)?, registry, token)?;
        log::info!("event=listening addr={}", listener.listener.local_addr());
        Ok(listener)
    }

    fn new(mut listener: Listener, registry: &Registry, token: usize) -> io::Result<Self> {
        listener.register(registry, token)?;
        Ok(Self { listener, readable: true, paused_until: None })
    }

    pub(super) fn listener(&self) -> &Listener {
        &self.listener
    }

    /// Records that a connection may be waiting.
    pub(super) fn mark_readable(&mut self) {
        self.readable = true;
    }

    /// Whether [`ClientListener::accept`] may return a connection.
    pub(super) fn may_accept(&self, now: Tick) -> bool {
        self.readable && self.paused_until.is_none_or(|until| now >= until)
    }

    /// The end of the pause, if the listener is paused.
    pub(super) fn due(&self, now: Tick) -> Option<Tick> {
        self.paused_until.filter(|until| now < *until)
    }

    /// Calls accept(2) once.
    pub(super) fn accept(&mut self, now: Tick, log: &mut RateLimitedLog) -> Accepted {
        if !self.may_accept(now) {
            return Accepted::None;
        }
        self.paused_until = None;
        match self.listener.accept() {
            Ok(Some((wire, peer))) => Accepted::Connection(wire, peer),
            Ok(None) => {
                self.readable = false;
                Accepted::None
            }
            Err(AcceptError::Transient) => Accepted::Transient,
            Err(AcceptError::Exhausted(e)) => {
                log.warn(now, format_args!("event=accept-paused error={:?}", e.to_string()));
                Accepted::Exhausted
            }
            Err(AcceptError::Broken(e)) => {
                let (addr, error) = (self.listener.local_addr(), e.to_string());
                log.error(now, format_args!("event=accept-failed addr={addr} error={error:?}"));
                self.paused_until = Some(now + BROKEN_PAUSE);
                Accepted::None
            }
        }
    }
}

/// Pause of a listener whose accept(2) failed.
const BROKEN_PAUSE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use mio::Poll;

    use super::*;
    use crate::io::listen::{self, ListenOptions};

    fn listeners(count: usize) -> (Poll, Vec<ClientListener>) {
        let poll = Poll::new().unwrap();
        let addrs = vec!["127.0.0.1:0".parse().unwrap(); count];
        let listeners = listen::bind_all(&addrs, ListenOptions::default()).unwrap();
        let listeners = listeners
            .into_iter()
            .enumerate()
            .map(|(token, listener)| ClientListener::new(listener, poll.registry(), token).unwrap())
            .collect();
        (poll, listeners)
    }

    fn accepts(listener: &mut ClientListener, now: Tick) -> bool {
        let _client = TcpStream::connect(listener.listener().local_addr()).unwrap();
        listener.mark_readable();
        let accepted = listener.accept(now, &mut RateLimitedLog::default());
        matches!(accepted, Accepted::Connection(..))
    }

    /// mtg-multi stops to accept for good, on all listeners (COMPATIBILITY A4, A5).
    #[test]
    fn a_broken_listener_pauses_alone_and_is_tried_again() {
        let (_poll, mut listeners) = listeners(2);
        let [broken, whole] = &mut listeners[..] else { panic!("two listeners") };
        broken.listener().stop_listening();
        let log = &mut RateLimitedLog::default();
        assert!(matches!(broken.accept(Tick(10), log), Accepted::None));
        let end = Tick(10) + BROKEN_PAUSE;
        assert_eq!(broken.due(Tick(11)), Some(end));
        assert!(!broken.may_accept(Tick(11)));
        assert!(accepts(whole, Tick(11)));
        assert_eq!(whole.due(Tick(11)), None);
        assert!(broken.may_accept(end));
        assert_eq!(broken.due(end), None, "a pause that is over needs no timer");
    }

    #[test]
    fn accept_is_not_called_until_the_poller_reports_a_connection() {
        let (_poll, mut listeners) = listeners(1);
        let listener = &mut listeners[0];
        assert!(matches!(listener.accept(Tick(0), &mut RateLimitedLog::default()), Accepted::None));
        assert!(!listener.may_accept(Tick(0)));
        assert_eq!(listener.due(Tick(0)), None);
        assert!(accepts(listener, Tick(0)));
    }
}

//! The listeners for clients and for the admin pages: opening, moving at a reload, and accept(2)
//! with its pauses.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use crate::config::settings::{HttpBind, Settings};
use crate::daemon::admin;
use crate::daemon::admin::pages::AdminPages;
use crate::daemon::tokens;
use crate::io::clock::Tick;
use crate::io::listen::{self, AcceptError, Bind, ListenAddr, ListenOptions};
use crate::io::logger::{RateLimitedLog, event, fields};
use crate::io::sockopt::SocketOptions;
use crate::io::wire::{ListenSocket, Net};

/// All listeners. Each keeps its slot, and so its token, until it is closed.
pub struct Listeners<L> {
    slots: Vec<Option<OpenListener<L>>>,
    /// The system was out of descriptors or memory: no call of accept(2) until then, or until a
    /// session ends.
    exhausted_until: Option<Tick>,
    /// Listeners that could not be opened, and are tried again.
    missing: Vec<ListenerKind>,
    /// When they are tried again.
    retry_at: Tick,
}

/// A listener, and whether a call of accept(2) is worth while.
pub(super) struct OpenListener<L> {
    socket: L,
    kind: ListenerKind,
    /// The poller reported a connection that accept(2) has not returned yet.
    readable: bool,
    /// accept(2) failed on this listener: no further call until then.
    paused_until: Option<Tick>,
}

/// The connections that a listener accepts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ListenerKind {
    /// Those of clients.
    Clients(Bind),
    /// Those to these admin pages.
    Admin(HttpBind, AdminPages),
}

/// The result of one accept(2).
pub(super) enum Accepted<W> {
    /// A connection and the address of its client.
    Connection(W, SocketAddr),
    /// The connection failed before it was accepted; others may wait behind it.
    Transient,
    /// No connection is waiting, or accepting is paused.
    None,
    /// The system was out of descriptors or memory. Accepting is paused from now on.
    Exhausted,
}

impl<L: ListenSocket> Listeners<L> {
    /// Opens the listeners for clients and those for the admin pages. An address for clients that
    /// this machine does not have yet is tried again later, if it has another one.
    ///
    /// # Errors
    /// A listener for clients cannot be opened; the text names the address.
    pub fn open(settings: &Settings, net: &mut impl Net<Listener = L>) -> io::Result<Self> {
        let mut listeners = Self::none();
        listeners.move_clients(settings, net, &mut |_| {})?;
        listeners.apply_admin(settings, net);
        Ok(listeners)
    }

    fn none() -> Self {
        Self { slots: Vec::new(), exhausted_until: None, missing: Vec::new(), retry_at: Tick(0) }
    }

    /// Moves the listeners for clients to the addresses of the settings. Those that are still
    /// wanted stay open, and new ones are opened before old ones are closed. `accept_pending`
    /// accepts the connections that wait at an old one. Returns how many were opened and closed.
    ///
    /// # Errors
    /// A new listener cannot be opened; then all old ones are open.
    pub(super) fn move_clients(
        &mut self,
        settings: &Settings,
        net: &mut impl Net<Listener = L>,
        accept_pending: &mut dyn FnMut(&mut OpenListener<L>),
    ) -> io::Result<(usize, usize)> {
        let wanted = binds(settings);
        let is_old = |one: &OpenListener<L>| one.bind().is_some_and(|bind| !wanted.contains(&bind));
        let mut missing = wanted.clone();
        missing.retain(|bind| !self.iter().any(|one| one.bind() == Some(*bind)));
        let (mut opened, mut closed, mut blocked) = (Vec::new(), Vec::new(), Vec::new());
        let mut absent = Vec::new();
        for bind in missing {
            let port = bind.addr.port();
            let is_blocking = |one: &OpenListener<L>| is_old(one) && one.has_port(port);
            match self.open_one(ListenerKind::Clients(bind), net) {
                Ok(slot) => opened.push(slot),
                Err(e) if e.kind() == io::ErrorKind::AddrInUse && self.iter().any(is_blocking) => {
                    blocked.push(bind);
                }
                Err(e) if e.kind() == io::ErrorKind::AddrNotAvailable => absent.push((bind, e)),
                Err(e) => return self.undo(&opened, &closed, net, e),
            }
        }
        let is_kept = |one: &OpenListener<L>| one.bind().is_some_and(|bind| wanted.contains(&bind));
        let is_any_kept = !blocked.is_empty() || self.iter().any(is_kept);
        if let Some((_, e)) = absent.pop_if(|_| !is_any_kept) {
            return self.undo(&opened, &closed, net, e);
        }
        // An old listener of ours has the port: it must close before the new one can open.
        for bind in blocked {
            let port = bind.addr.port();
            closed.extend(self.close(&|one| is_old(one) && one.has_port(port), accept_pending));
            match self.open_one(ListenerKind::Clients(bind), net) {
                Ok(slot) => opened.push(slot),
                Err(e) => return self.undo(&opened, &closed, net, e),
            }
        }
        closed.extend(self.close(&is_old, accept_pending));
        for (_, e) in &absent {
            event!(
                Warn, "listener-missing", error = ?e,
                hint = ?"it is tried again every few seconds; the others serve"
            );
        }
        self.missing.retain(|kind| matches!(kind, ListenerKind::Admin(..)));
        self.missing.extend(absent.into_iter().map(|(bind, _)| ListenerKind::Clients(bind)));
        Ok((opened.len(), closed.len()))
    }

    /// Opens the listeners for the admin pages that the settings name and closes all others. A
    /// listener that cannot be opened is logged; the proxy runs without it (COMPATIBILITY 6.1).
    pub(super) fn apply_admin(&mut self, settings: &Settings, net: &mut impl Net<Listener = L>) {
        let wanted = admin::wanted(settings);
        self.missing.retain(|kind| matches!(kind, ListenerKind::Clients(_)));
        let is_old = |one: &OpenListener<L>| match &one.kind {
            ListenerKind::Admin(bind, _) => wanted.iter().all(|(other, _)| other != bind),
            ListenerKind::Clients(_) => false,
        };
        for (bind, pages) in &wanted {
            let kind = ListenerKind::Admin(bind.clone(), *pages);
            let is_same = |one: &&mut OpenListener<L>| match &one.kind {
                ListenerKind::Admin(other, _) => other == bind,
                ListenerKind::Clients(_) => false,
            };
            if let Some(open) = self.slots.iter_mut().flatten().find(is_same) {
                open.kind = kind;
                continue;
            }
            let outcome = self.open_one(kind.clone(), net).or_else(|_| {
                // The address may belong to a listener that is about to close.
                self.close(&is_old, &mut |_| {});
                self.open_one(kind.clone(), net)
            });
            if outcome.is_err() {
                self.missing.push(kind);
            }
            match (outcome, pages.stats) {
                (Ok(_), true) => event!(Info, "stats", addr = %bind),
                (Ok(_), false) => event!(Info, "metrics", addr = %bind),
                (Err(e), true) => event!(Warn, "stats-off", addr = %bind, error = ?e),
                (Err(e), false) => event!(Warn, "metrics-off", addr = %bind, error = ?e),
            }
        }
        self.close(&is_old, &mut |_| {});
    }

    /// Tries the listeners again that could not be opened: the address may have come, and the
    /// process that had the port may have ended. Returns whether one for clients was opened.
    pub(super) fn open_missing(&mut self, net: &mut impl Net<Listener = L>, now: Tick) -> bool {
        if self.missing.is_empty() || now < self.retry_at {
            return false;
        }
        self.retry_at = now + RETRY_PAUSE;
        let mut has_client = false;
        for kind in std::mem::take(&mut self.missing) {
            match self.open_one(kind.clone(), net) {
                Ok(_) => match &kind {
                    ListenerKind::Clients(_) => has_client = true,
                    ListenerKind::Admin(bind, AdminPages { stats: true, .. }) => {
                        event!(Info, "stats", addr = %bind);
                    }
                    ListenerKind::Admin(bind, _) => event!(Info, "metrics", addr = %bind),
                },
                Err(_) => self.missing.push(kind),
            }
        }
        has_client
    }

    /// Closes the listeners for clients. Connections that wait there are reset.
    pub(super) fn close_clients(&mut self) {
        self.missing.retain(|kind| matches!(kind, ListenerKind::Admin(..)));
        self.slots.iter_mut().for_each(|slot| drop(slot.take_if(|one| one.bind().is_some())));
    }

    /// Sets the options that the sockets of clients inherit.
    pub(super) fn set_client_options(&self, options: &SocketOptions) {
        let clients = self.iter().filter(|one| one.bind().is_some());
        clients.for_each(|one| one.socket.set_client_options(options));
    }

    /// The addresses at which clients are accepted.
    pub(super) fn client_addrs(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        self.iter().filter(|one| one.bind().is_some()).map(|one| one.socket.local_addr())
    }

    /// Records that the poller reported a connection at the listener in this slot.
    pub(super) fn mark_readable(&mut self, slot: usize) {
        if let Some(Some(listener)) = self.slots.get_mut(slot) {
            listener.readable = true;
        }
    }

    /// The slots, some of which may be empty.
    pub(super) fn slots(&self) -> std::ops::Range<usize> {
        0..self.slots.len()
    }

    /// The kind of the listener in a slot; `None` = the slot is empty.
    pub(super) fn kind(&self, slot: usize) -> Option<&ListenerKind> {
        self.slots.get(slot)?.as_ref().map(|listener| &listener.kind)
    }

    /// Whether there is more than one listener for the admin pages.
    pub(super) fn has_several_admin(&self) -> bool {
        self.iter().filter(|one| one.bind().is_none()).count() > 1
    }

    /// Whether a call of accept(2) may return a connection.
    pub(super) fn may_accept(&self, slot: usize, now: Tick) -> bool {
        let is_exhausted = self.exhausted_until.is_some_and(|until| now < until);
        let listener = self.slots.get(slot).and_then(Option::as_ref);
        !is_exhausted && listener.is_some_and(|listener| listener.may_accept(now))
    }

    /// Calls accept(2) once, unless the listener or all of them are paused.
    pub(super) fn accept(
        &mut self,
        slot: usize,
        now: Tick,
        log: &mut RateLimitedLog,
    ) -> Accepted<L::Wire> {
        if !self.may_accept(slot, now) {
            return Accepted::None;
        }
        let Some(Some(listener)) = self.slots.get_mut(slot) else { return Accepted::None };
        match listener.accept(now, log) {
            Ok(accepted) => accepted,
            Err(Exhausted) => {
                self.exhausted_until = Some(now + EXHAUSTED_PAUSE);
                Accepted::Exhausted
            }
        }
    }

    /// Ends the pause of a system that was out of descriptors: one was released.
    pub(super) fn end_exhaustion(&mut self) {
        self.exhausted_until = None;
    }

    /// The end of the earliest pause.
    pub(super) fn due(&self, now: Tick) -> Option<Tick> {
        let pauses = self.iter().map(|listener| listener.paused_until);
        let retry = (!self.missing.is_empty()).then_some(self.retry_at);
        pauses.chain([self.exhausted_until, retry]).flatten().filter(|until| now < *until).min()
    }

    fn iter(&self) -> impl Iterator<Item = &OpenListener<L>> {
        self.slots.iter().flatten()
    }

    /// Opens a listener in the first free slot, which is returned.
    fn open_one(
        &mut self,
        kind: ListenerKind,
        net: &mut impl Net<Listener = L>,
    ) -> io::Result<usize> {
        let slot = self.slots.iter().position(Option::is_none).unwrap_or(self.slots.len());
        let socket = net.listen(&kind.addr(), tokens::LISTENERS.first() + slot)?;
        if let ListenerKind::Clients(_) = kind {
            event!(Info, "listening", addr = %socket.local_addr());
        }
        let listener = Some(OpenListener { socket, kind, readable: true, paused_until: None });
        match self.slots.get_mut(slot) {
            Some(free) => *free = listener,
            None => self.slots.push(listener),
        }
        Ok(slot)
    }

    /// Closes the listeners for which `is_old` holds, and passes each to `before` first. Returns
    /// the addresses of those for clients.
    fn close(
        &mut self,
        is_old: &dyn Fn(&OpenListener<L>) -> bool,
        before: &mut dyn FnMut(&mut OpenListener<L>),
    ) -> Vec<Bind> {
        let mut closed = Vec::new();
        for slot in &mut self.slots {
            let Some(mut listener) = slot.take_if(|one| is_old(one)) else { continue };
            before(&mut listener);
            closed.extend(listener.bind());
        }
        closed
    }

    /// Reverts a move that has failed with `error`.
    fn undo<T>(
        &mut self,
        opened: &[usize],
        closed: &[Bind],
        net: &mut impl Net<Listener = L>,
        error: io::Error,
    ) -> io::Result<T> {
        for slot in opened {
            self.slots[*slot] = None;
        }
        for bind in closed {
            if let Err(e) = self.open_one(ListenerKind::Clients(*bind), net) {
                event!(Error, "listener-lost", error = ?e);
            }
        }
        Err(error)
    }
}

/// The system is out of descriptors or memory: accept(2) fails on all listeners.
struct Exhausted;

impl<L: ListenSocket> OpenListener<L> {
    /// The address for clients, as in the settings.
    fn bind(&self) -> Option<Bind> {
        match self.kind {
            ListenerKind::Clients(bind) => Some(bind),
            ListenerKind::Admin(..) => None,
        }
    }

    fn has_port(&self, port: u16) -> bool {
        self.bind().is_some_and(|bind| bind.addr.port() == port)
    }

    fn may_accept(&self, now: Tick) -> bool {
        self.readable && self.paused_until.is_none_or(|until| now >= until)
    }

    /// Accepts all pending connections, before the listener is closed.
    pub(super) fn accept_pending(
        &mut self,
        now: Tick,
        log: &mut RateLimitedLog,
    ) -> Vec<(L::Wire, SocketAddr)> {
        let mut accepted = Vec::new();
        loop {
            match self.accept(now, log) {
                Ok(Accepted::Connection(wire, peer)) => accepted.push((wire, peer)),
                Ok(Accepted::Transient) => {}
                Ok(Accepted::None | Accepted::Exhausted) | Err(Exhausted) => return accepted,
            }
        }
    }

    fn accept(
        &mut self,
        now: Tick,
        log: &mut RateLimitedLog,
    ) -> Result<Accepted<L::Wire>, Exhausted> {
        self.paused_until = None;
        match self.socket.accept() {
            Ok(Some((wire, peer))) => return Ok(Accepted::Connection(wire, peer)),
            Ok(None) => self.readable = false,
            Err(AcceptError::Transient) => return Ok(Accepted::Transient),
            Err(AcceptError::Exhausted(e)) => {
                log.warn(now, fields!("accept-paused", error = ?e));
                return Err(Exhausted);
            }
            Err(AcceptError::Broken(e)) => {
                let error = e.to_string();
                let addr = match &self.kind {
                    ListenerKind::Clients(_) => self.socket.local_addr().to_string(),
                    ListenerKind::Admin(bind, _) => bind.to_string(),
                };
                log.error(now, fields!("accept-failed", addr = %addr, error = ?error));
                self.paused_until = Some(now + BROKEN_PAUSE);
            }
        }
        Ok(Accepted::None)
    }
}

impl ListenerKind {
    fn addr(&self) -> ListenAddr {
        match self {
            Self::Clients(bind) => ListenAddr::Tcp(*bind),
            Self::Admin(HttpBind::Unix(path), _) => ListenAddr::Unix(path.clone()),
            Self::Admin(HttpBind::Tcp(addr), _) => {
                ListenAddr::Tcp(Bind::new(*addr, ListenOptions::default()))
            }
        }
    }
}

/// The addresses to listen on for clients, with their socket options.
fn binds(settings: &Settings) -> Vec<Bind> {
    let options = ListenOptions {
        max_segment: settings.max_segment,
        multipath: settings.multipath,
        reuse_port: settings.reuse_port,
    };
    listen::plan(&settings.binds, options)
}

/// The pause after the system ran out of descriptors or memory.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);
/// Between two tries to open a listener.
const RETRY_PAUSE: Duration = Duration::from_secs(3);
/// Pause of a listener whose accept(2) failed.
const BROKEN_PAUSE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use mio::Poll;

    use super::*;
    use crate::io::egress::Egress;
    use crate::io::mio_net::{MioListener, MioNet};

    fn listeners(count: usize) -> (Poll, Vec<OpenListener<MioListener>>) {
        let poll = Poll::new().unwrap();
        let mut net = MioNet::new(poll.registry().try_clone().unwrap(), Egress::default());
        let addr = "127.0.0.1:0".parse().unwrap();
        let kind = ListenerKind::Clients(Bind::new(addr, ListenOptions::default()));
        let mut all = Listeners::none();
        (0..count).for_each(|slot| assert_eq!(all.open_one(kind.clone(), &mut net).unwrap(), slot));
        (poll, all.slots.into_iter().flatten().collect())
    }

    fn accept(listener: &mut OpenListener<MioListener>, now: Tick) -> bool {
        let log = &mut RateLimitedLog::default();
        matches!(listener.accept(now, log), Ok(Accepted::Connection(..)))
    }

    fn accepts(listener: &mut OpenListener<MioListener>, now: Tick) -> bool {
        let _client = TcpStream::connect(listener.socket.local_addr()).unwrap();
        listener.readable = true;
        accept(listener, now)
    }

    /// mtg-multi stops to accept for good, on all listeners (COMPATIBILITY A4, A5).
    #[test]
    fn a_broken_listener_pauses_alone_and_is_tried_again() {
        let (_poll, mut listeners) = listeners(2);
        let [broken, whole] = &mut listeners[..] else { panic!("two listeners") };
        let MioListener::Tcp(socket) = &broken.socket else { panic!("a TCP listener") };
        socket.stop_listening();
        assert!(!accept(broken, Tick(10)));
        let end = Tick(10) + BROKEN_PAUSE;
        assert_eq!(broken.paused_until, Some(end));
        assert!(!broken.may_accept(Tick(11)));
        assert!(accepts(whole, Tick(11)));
        assert_eq!(whole.paused_until, None);
        assert!(broken.may_accept(end));
        let slots = listeners.into_iter().map(Some).collect();
        let both = Listeners { slots, ..Listeners::none() };
        assert_eq!(both.due(Tick(11)), Some(end));
        assert_eq!(both.due(end), None, "a pause that is over needs no timer");
    }

    #[test]
    fn accept_is_not_called_until_the_poller_reports_a_connection() {
        let (_poll, mut listeners) = listeners(1);
        let listener = &mut listeners[0];
        assert!(!accept(listener, Tick(0)));
        assert!(!listener.may_accept(Tick(0)));
        assert_eq!(listener.paused_until, None);
        assert!(accepts(listener, Tick(0)));
    }

    fn settings(binds: &str) -> Settings {
        let secret = format!("ee{}{}", "11".repeat(16), "61".repeat(4));
        let text = format!("bind-to = {binds}\nsecret = \"{secret}\"\n");
        crate::config::load::load(text.as_bytes(), "test").unwrap().settings
    }

    /// 192.0.2.77 is for documentation (RFC 5737): no machine has it. Of 127.77.0.0/24 only this
    /// test binds .2 and .3.
    #[test]
    fn an_address_that_is_not_there_yet_is_tried_again_and_the_others_serve() {
        let poll = Poll::new().unwrap();
        let mut net = MioNet::new(poll.registry().try_clone().unwrap(), Egress::default());
        assert!(Listeners::open(&settings("\"192.0.2.77:1\""), &mut net).is_err());
        let both = settings("[\"127.77.0.2:7777\", \"192.0.2.77:1\"]");
        let mut all = Listeners::open(&both, &mut net).unwrap();
        assert_eq!(all.iter().count(), 1);
        assert!(!all.open_missing(&mut net, Tick(0)));
        let next = Tick(0) + RETRY_PAUSE;
        assert_eq!(all.due(Tick(0)), Some(next));
        let here = Bind::new("127.77.0.3:7777".parse().unwrap(), ListenOptions::default());
        all.missing = vec![ListenerKind::Clients(here)];
        assert!(!all.open_missing(&mut net, Tick(1)), "not yet");
        assert!(all.open_missing(&mut net, next));
        assert_eq!((all.iter().count(), all.due(next)), (2, None));
        let absent = settings("[\"127.77.0.2:7777\", \"192.0.2.78:1\"]");
        assert_eq!(all.move_clients(&absent, &mut net, &mut |_| {}).unwrap(), (0, 1));
        assert_eq!(all.missing.len(), 1);
        all.close_clients();
        assert!(all.missing.is_empty());
    }
}

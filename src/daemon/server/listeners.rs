//! The listeners: who stands before them, what happens when an accept goes wrong, and how they
//! move. Trouble of the system pauses all of them; trouble of one listener pauses that one alone.

use std::io;
use std::net::SocketAddr;

use mio::Registry;

use crate::io::clock::Tick;
use crate::io::listen::{AcceptError, Bind, Listener};
use crate::io::logger::RateLimitedLog;
use crate::io::wire::MioWire;

/// The listeners for clients, each with a place that is its own for as long as it is there.
pub struct ClientListeners {
    places: Vec<Option<ClientListener>>,
    /// The token of the first place.
    base: usize,
}

impl ClientListeners {
    /// Opens all or none; events come with tokens from `base` on.
    ///
    /// # Errors
    /// The system's error, with the address in its text.
    pub fn open(binds: &[Bind], registry: &Registry, base: usize) -> io::Result<Self> {
        let mut doors = Self { places: Vec::new(), base };
        for bind in binds {
            let place = doors.free_place();
            doors.put(place, ClientListener::open(*bind, registry, base + place)?);
        }
        Ok(doors)
    }

    /// Those that are open.
    pub fn iter(&self) -> impl Iterator<Item = &ClientListener> {
        self.places.iter().flatten()
    }

    /// The same, to look before.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut ClientListener> {
        self.places.iter_mut().flatten()
    }

    /// The poller says that somebody stands before the door with this token.
    pub fn knock(&mut self, token: usize) {
        if let Some(Some(door)) = self.places.get_mut(token.saturating_sub(self.base)) {
            door.knock();
        }
    }

    /// Closes all of them.
    pub fn close(&mut self) {
        self.places.clear();
    }

    /// Moves to other addresses: what is wanted and open stays as it is, new doors open before
    /// old ones close, and who stands before an old one is let in by `admit` first. Returns how
    /// many were opened and closed.
    ///
    /// # Errors
    /// A new door cannot be opened: then everything is as before.
    pub fn reopen(
        &mut self,
        wanted: &[Bind],
        registry: &Registry,
        mut admit: impl FnMut(&mut ClientListener),
    ) -> io::Result<(usize, usize)> {
        let is_kept = |door: &ClientListener| wanted.contains(&door.listener.bind_spec());
        let is_open = |bind: &&Bind| !self.iter().any(|door| door.listener.bind_spec() == **bind);
        let missing: Vec<Bind> = wanted.iter().filter(is_open).copied().collect();
        let mut opened: Vec<(usize, ClientListener)> = Vec::new();
        let mut in_the_way = Vec::new();
        for bind in missing {
            let place = self.free_place_beside(&opened);
            match ClientListener::open(bind, registry, self.base + place) {
                Ok(door) => opened.push((place, door)),
                Err(e) if e.kind() == io::ErrorKind::AddrInUse && self.blocks(bind, wanted) => {
                    in_the_way.push(bind);
                }
                Err(e) => return Err(e),
            }
        }
        // An address that only an old door of ours keeps from us: that one has to go first.
        let mut gone: Vec<Bind> = Vec::new();
        for bind in in_the_way {
            for place in &mut self.places {
                let shares = |door: &ClientListener| {
                    !is_kept(door) && door.listener.bind_spec().addr.port() == bind.addr.port()
                };
                if let Some(mut door) = place.take_if(|door| shares(door)) {
                    admit(&mut door);
                    gone.push(door.listener.bind_spec());
                }
            }
            let place = self.free_place_beside(&opened);
            match ClientListener::open(bind, registry, self.base + place) {
                Ok(door) => opened.push((place, door)),
                Err(e) => {
                    drop(opened);
                    self.restore(&gone, registry);
                    return Err(e);
                }
            }
        }
        let mut closed = gone.len();
        for place in &mut self.places {
            if let Some(mut door) = place.take_if(|door| !is_kept(door)) {
                admit(&mut door);
                closed += 1;
            }
        }
        let count = opened.len();
        opened.into_iter().for_each(|(place, door)| self.put(place, door));
        Ok((count, closed))
    }

    /// Whether a door that is about to close has the port.
    fn blocks(&self, bind: Bind, wanted: &[Bind]) -> bool {
        let mut going = self.iter().filter(|door| !wanted.contains(&door.listener.bind_spec()));
        going.any(|door| door.listener.bind_spec().addr.port() == bind.addr.port())
    }

    /// Opens again what was closed for nothing.
    fn restore(&mut self, gone: &[Bind], registry: &Registry) {
        for bind in gone {
            let place = self.free_place();
            match ClientListener::open(*bind, registry, self.base + place) {
                Ok(door) => self.put(place, door),
                Err(e) => log::error!("event=listener-lost error={:?}", e.to_string()),
            }
        }
    }

    fn free_place(&self) -> usize {
        self.free_place_beside(&[])
    }

    fn free_place_beside(&self, taken: &[(usize, ClientListener)]) -> usize {
        let is_free = |place: &usize| {
            self.places.get(*place).is_none_or(Option::is_none)
                && taken.iter().all(|(other, _)| other != place)
        };
        (0..).find(is_free).unwrap_or(self.places.len())
    }

    fn put(&mut self, place: usize, door: ClientListener) {
        while self.places.len() <= place {
            self.places.push(None);
        }
        self.places[place] = Some(door);
    }
}

/// A listener and whether somebody may stand before it.
pub struct ClientListener {
    listener: Listener,
    knocked: bool,
    /// It is broken and left alone until then.
    rests: Option<Tick>,
}

/// What a look before a door brings.
pub enum Accepted {
    /// Somebody.
    New(MioWire, SocketAddr),
    /// Somebody who is gone already; look again.
    Gone,
    /// Nobody, or nobody who can be had from this door for now.
    Nobody,
    /// The system is out of descriptors or memory: no door can give anybody for a while.
    NoRoom,
}

impl ClientListener {
    /// Listens; events come with `token`.
    ///
    /// # Errors
    /// The system's error, with the address in its text.
    pub fn open(bind: Bind, registry: &Registry, token: usize) -> io::Result<Self> {
        let door = Self::new(Listener::bind(bind)?, registry, token)?;
        log::info!("event=listening addr={}", door.listener.local_addr());
        Ok(door)
    }

    /// Events come with `token`.
    ///
    /// # Errors
    /// When the poller refuses the listener.
    pub fn new(mut listener: Listener, registry: &Registry, token: usize) -> io::Result<Self> {
        listener.register(registry, token)?;
        Ok(Self { listener, knocked: true, rests: None })
    }

    /// The listener itself.
    pub fn listener(&self) -> &Listener {
        &self.listener
    }

    /// The poller says that somebody is there.
    pub fn knock(&mut self) {
        self.knocked = true;
    }

    /// Whether a look may bring somebody.
    pub fn is_worth_a_look(&self, now: Tick) -> bool {
        self.knocked && self.rests.is_none_or(|until| now >= until)
    }

    /// When a door that rests now must be looked at even if nothing comes.
    pub fn due(&self, now: Tick) -> Option<Tick> {
        self.rests.filter(|until| now < *until)
    }

    /// One accept.
    pub fn look(&mut self, now: Tick, folded: &mut RateLimitedLog) -> Accepted {
        if !self.is_worth_a_look(now) {
            return Accepted::Nobody;
        }
        self.rests = None;
        match self.listener.accept() {
            Ok(Some((wire, peer))) => Accepted::New(wire, peer),
            Ok(None) => {
                self.knocked = false;
                Accepted::Nobody
            }
            Err(AcceptError::Transient) => Accepted::Gone,
            Err(AcceptError::Exhausted(e)) => {
                folded.warn(now, &format!("event=accept-paused error={:?}", e.to_string()));
                Accepted::NoRoom
            }
            Err(AcceptError::Broken(e)) => {
                let addr = self.listener.local_addr();
                let line = format!("event=accept-failed addr={addr} error={:?}", e.to_string());
                folded.error(now, &line);
                self.rests = Some(Tick(now.0 + BROKEN_REST_MS));
                Accepted::Nobody
            }
        }
    }
}

/// How long a broken listener is left alone.
const BROKEN_REST_MS: u64 = 1_000;

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use mio::Poll;

    use super::*;
    use crate::io::listen::{self, ListenOptions};

    fn doors(count: usize) -> (Poll, Vec<ClientListener>) {
        let poll = Poll::new().unwrap();
        let addrs = vec!["127.0.0.1:0".parse().unwrap(); count];
        let listeners = listen::bind_all(&addrs, ListenOptions::default()).unwrap();
        let doors = listeners
            .into_iter()
            .enumerate()
            .map(|(token, listener)| ClientListener::new(listener, poll.registry(), token).unwrap())
            .collect();
        (poll, doors)
    }

    fn serves(door: &mut ClientListener, now: Tick) -> bool {
        let _client = TcpStream::connect(door.listener().local_addr()).unwrap();
        door.knock();
        matches!(door.look(now, &mut RateLimitedLog::default()), Accepted::New(..))
    }

    /// The reference stops to accept for good, on all listeners (gotchas A4, A5).
    #[test]
    fn a_broken_listener_rests_alone_and_is_tried_again() {
        let (_poll, mut doors) = doors(2);
        let [broken, whole] = &mut doors[..] else { panic!("two doors") };
        broken.listener().stop_listening();
        let folded = &mut RateLimitedLog::default();
        assert!(matches!(broken.look(Tick(10), folded), Accepted::Nobody));
        assert_eq!(broken.due(Tick(11)), Some(Tick(10 + BROKEN_REST_MS)));
        assert!(!broken.is_worth_a_look(Tick(11)));
        assert!(serves(whole, Tick(11)));
        assert_eq!(whole.due(Tick(11)), None);
        let over = Tick(10 + BROKEN_REST_MS);
        assert!(broken.is_worth_a_look(over));
        assert_eq!(broken.due(over), None, "nobody waits for what has been");
    }

    #[test]
    fn a_door_nobody_stands_before_is_not_looked_at_until_a_knock() {
        let (_poll, mut doors) = doors(1);
        assert!(matches!(doors[0].look(Tick(0), &mut RateLimitedLog::default()), Accepted::Nobody));
        assert!(!doors[0].is_worth_a_look(Tick(0)));
        assert_eq!(doors[0].due(Tick(0)), None);
        assert!(serves(&mut doors[0], Tick(0)));
    }
}

//! The listeners: who stands before them, and what happens when an accept goes wrong. Trouble of
//! the system pauses all of them; trouble of one listener pauses that one alone.

use std::io;
use std::net::SocketAddr;

use mio::Registry;

use crate::io::clock::Tick;
use crate::io::listen::{AcceptTrouble, Listener};
use crate::io::logger::Folded;
use crate::io::wire::MioWire;

/// A listener and whether somebody may stand before it.
pub struct Door {
    listener: Listener,
    knocked: bool,
    /// It is broken and left alone until then.
    rests: Option<Tick>,
}

/// What a look before a door brings.
pub enum Guest {
    /// Somebody.
    New(MioWire, SocketAddr),
    /// Somebody who is gone already; look again.
    Gone,
    /// Nobody, or nobody who can be had from this door for now.
    Nobody,
    /// The system is out of descriptors or memory: no door can give anybody for a while.
    NoRoom,
}

impl Door {
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
    pub fn look(&mut self, now: Tick, folded: &mut Folded) -> Guest {
        if !self.is_worth_a_look(now) {
            return Guest::Nobody;
        }
        self.rests = None;
        match self.listener.accept() {
            Ok(Some((wire, peer))) => Guest::New(wire, peer),
            Ok(None) => {
                self.knocked = false;
                Guest::Nobody
            }
            Err(AcceptTrouble::Transient) => Guest::Gone,
            Err(AcceptTrouble::Exhausted(e)) => {
                folded.warn(now, &format!("event=accept-paused error={:?}", e.to_string()));
                Guest::NoRoom
            }
            Err(AcceptTrouble::Broken(e)) => {
                let addr = self.listener.local_addr();
                let line = format!("event=accept-failed addr={addr} error={:?}", e.to_string());
                folded.error(now, &line);
                self.rests = Some(Tick(now.0 + BROKEN_REST_MS));
                Guest::Nobody
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
    use crate::io::listen::{self, Manner};

    fn doors(count: usize) -> (Poll, Vec<Door>) {
        let poll = Poll::new().unwrap();
        let addrs = vec!["127.0.0.1:0".parse().unwrap(); count];
        let listeners = listen::bind_all(&addrs, Manner::default()).unwrap();
        let doors = listeners
            .into_iter()
            .enumerate()
            .map(|(token, listener)| Door::new(listener, poll.registry(), token).unwrap())
            .collect();
        (poll, doors)
    }

    fn serves(door: &mut Door, now: Tick) -> bool {
        let _client = TcpStream::connect(door.listener().local_addr()).unwrap();
        door.knock();
        matches!(door.look(now, &mut Folded::default()), Guest::New(..))
    }

    /// The reference stops to accept for good, on all listeners (gotchas A4, A5).
    #[test]
    fn a_broken_listener_rests_alone_and_is_tried_again() {
        let (_poll, mut doors) = doors(2);
        let [broken, whole] = &mut doors[..] else { panic!("two doors") };
        broken.listener().stop_listening();
        let folded = &mut Folded::default();
        assert!(matches!(broken.look(Tick(10), folded), Guest::Nobody));
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
        assert!(matches!(doors[0].look(Tick(0), &mut Folded::default()), Guest::Nobody));
        assert!(!doors[0].is_worth_a_look(Tick(0)));
        assert_eq!(doors[0].due(Tick(0)), None);
        assert!(serves(&mut doors[0], Tick(0)));
    }
}

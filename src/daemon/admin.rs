//! `GET /stats` for the operator's `curl`: its own few connections, one request each, so that it
//! answers however busy the rest is.

use std::io::{self, Read, Write};
use std::net::Shutdown;

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use crate::daemon::stats;
use crate::daemon::world::World;
use crate::io::clock::Tick;
use crate::proto::http1::{self, Ask, HEAD_MAX};

/// The connections of the stats listener.
#[derive(Default)]
pub struct Admin {
    visits: [Option<Visit>; MOST_VISITS],
}

struct Visit {
    stream: TcpStream,
    seen: Vec<u8>,
    answer: Option<Vec<u8>>,
    sent: usize,
    /// The client has said all it will.
    finished: bool,
    until: Tick,
}

impl Admin {
    /// Whether another connection may be accepted; otherwise it waits in the backlog.
    pub fn has_room(&self) -> bool {
        self.visits.iter().any(Option::is_none)
    }

    /// Takes a connection in; `base` is the token of the first place. Returns its place.
    pub fn accept(
        &mut self,
        mut stream: TcpStream,
        registry: &Registry,
        base: usize,
        now: Tick,
    ) -> Option<usize> {
        let place = self.visits.iter().position(Option::is_none)?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        registry.register(&mut stream, Token(base + place), interest).ok()?;
        let until = Tick(now.0 + PATIENCE_MS);
        let (seen, answer) = (Vec::new(), None);
        self.visits[place] = Some(Visit { stream, seen, answer, sent: 0, finished: false, until });
        Some(place)
    }

    /// One look at a visit, after an event or at its deadline.
    pub fn step(&mut self, place: usize, world: &World) {
        let Some(Some(visit)) = self.visits.get_mut(place) else { return };
        if visit.step(world).is_err() {
            self.visits[place] = None;
        }
    }

    /// The earliest deadline of a visit.
    pub fn due(&self) -> Option<Tick> {
        self.visits.iter().flatten().map(|visit| visit.until).min()
    }

    /// Looks at every visit whose deadline has come.
    pub fn expire(&mut self, world: &World) {
        for place in 0..self.visits.len() {
            if self.visits[place].as_ref().is_some_and(|visit| world.now >= visit.until) {
                self.step(place, world);
            }
        }
    }
}

impl Visit {
    /// Reads, answers, and waits for the client's FIN. `Err` = over.
    fn step(&mut self, world: &World) -> Result<(), ()> {
        self.read(world)?;
        let late = world.now >= self.until;
        match &self.answer {
            None if self.finished => return Err(()),
            None if late => {
                let body = "408 request timeout\n";
                self.settle(http1::response(http1::REQUEST_TIMEOUT, TEXT, body, false));
                self.until = Tick(world.now.0 + GOODBYE_MS);
            }
            Some(_) if late => return Err(()),
            _ => {}
        }
        self.write()
    }

    fn read(&mut self, world: &World) -> Result<(), ()> {
        let mut chunk = [0; 1024];
        // Bounded: who keeps sending is not read to the end, and is cut off at the deadline.
        for _ in 0..READS_PER_STEP {
            match self.stream.read(&mut chunk) {
                Ok(0) => {
                    self.finished = true;
                    break;
                }
                Ok(n) if self.answer.is_none() => {
                    let room = HEAD_MAX - self.seen.len().min(HEAD_MAX);
                    self.seen.extend_from_slice(&chunk[..n.min(room)]);
                    if let Some(answer) = answer(&self.seen, world) {
                        self.settle(answer);
                    }
                }
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => return Err(()),
            }
        }
        Ok(())
    }

    fn settle(&mut self, answer: Vec<u8>) {
        self.answer = Some(answer);
        self.seen = Vec::new();
    }

    fn write(&mut self) -> Result<(), ()> {
        let Some(answer) = &self.answer else { return Ok(()) };
        while self.sent < answer.len() {
            match self.stream.write(&answer[self.sent..]) {
                Ok(n) => self.sent += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(_) => return Err(()),
            }
        }
        // The place is free once the client has answered our FIN: closing with bytes unread
        // would let a reset overtake the answer.
        self.stream.shutdown(Shutdown::Write).map_err(drop)?;
        if self.finished { Err(()) } else { Ok(()) }
    }
}

fn answer(seen: &[u8], world: &World) -> Option<Vec<u8>> {
    Some(match http1::ask(seen) {
        Ask::More => return None,
        Ask::Page { path: "/stats", head } => {
            http1::response(http1::OK, "application/json", &stats::body(world), head)
        }
        Ask::Method { path: "/stats" } => {
            http1::response(http1::METHOD_NOT_ALLOWED, TEXT, "405 method not allowed\n", false)
        }
        Ask::Page { head, .. } => {
            http1::response(http1::NOT_FOUND, TEXT, "404 page not found\n", head)
        }
        Ask::Method { .. } => {
            http1::response(http1::NOT_FOUND, TEXT, "404 page not found\n", false)
        }
        Ask::Bad => http1::response(http1::BAD_REQUEST, TEXT, "400 bad request\n", false),
        Ask::TooLarge => {
            http1::response(http1::HEAD_TOO_LARGE, TEXT, "431 request head too large\n", false)
        }
    })
}

/// Connections at a time.
pub const MOST_VISITS: usize = 8;
/// From accept to the end of the answer.
const PATIENCE_MS: u64 = 5_000;
/// For the client to take a 408.
const GOODBYE_MS: u64 = 1_000;
const READS_PER_STEP: usize = 16;
const TEXT: &str = "text/plain; charset=utf-8";

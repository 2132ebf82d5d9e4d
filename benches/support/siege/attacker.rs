//! The attacker as a helper process: opens connections at the rate of its row, and holds, drips or
//! leaves.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream as StdStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use slab::Slab;

use super::attacks::{ADDRESSES, ATTACKS, Attack, Opening, Then};
use super::origin;
use crate::support::faketls::User;
use crate::support::options::Outcome;
use crate::support::{helper, sockets};

/// Between two reads of a connection that drips.
const DRIP_EACH: Duration = Duration::from_millis(500);

/// When an attacker that does not renew its connections has them all, those that were closed are
/// opened again at this part of its rate.
const REFILL: f64 = 10.0;

/// Time for new connections before others get their turn.
const ROUND: Duration = Duration::from_millis(100);

/// A session that is not open after this time is given up.
const PATIENCE: Duration = Duration::from_millis(500);

/// The role `attack`: carries out the row `key` against `port`. It reports `port` when it starts,
/// `ready` when it holds all connections or has opened as many in total, or after `ramp_ms` at the
/// latest, and after `go` the bytes and the connections so far as `sent` and `opened`.
pub fn run(key: &str, port: u16, secret: &str, ramp_ms: u64) -> Outcome<()> {
    sockets::raise_descriptor_limit()?;
    let attack = ATTACKS.iter().find(|attack| attack.key == key).ok_or("no such attack")?;
    let mut force = Force {
        attack,
        to: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
        user: User::parse(secret)?,
        random: fastrand::Rng::with_seed(getrandom::u64()?),
        poll: Poll::new()?,
        open: Slab::new(),
        order: VecDeque::new(),
        tried: 0,
        opened: 0,
        sent: 0,
    };
    helper::report("port", port.into())?;
    thread::spawn(|| {
        let asked = helper::await_go().is_ok();
        IS_ASKED.store(asked, Ordering::Relaxed);
    });
    force.run(Duration::from_millis(ramp_ms))
}

static IS_ASKED: AtomicBool = AtomicBool::new(false);

struct Force {
    attack: &'static Attack,
    to: SocketAddr,
    user: User,
    random: fastrand::Rng,
    poll: Poll,
    open: Slab<Connection>,
    /// Keys of `open`, the oldest first; some are gone.
    order: VecDeque<(usize, u32)>,
    tried: u32,
    opened: u64,
    sent: u64,
}

struct Connection {
    stream: TcpStream,
    /// The opening that is not sent yet.
    unsent: Vec<u8>,
    number: u32,
    drips_at: Instant,
}

impl Force {
    fn run(&mut self, ramp: Duration) -> Outcome<()> {
        let begin = Instant::now();
        let mut events = Events::with_capacity(1_024);
        let (mut is_ready, mut allowance, mut filled) = (false, 0.0, begin);
        loop {
            let now = Instant::now();
            let is_full = is_ready && !self.attack.renews;
            let rate = f64::from(self.attack.rate) / if is_full { REFILL } else { 1.0 };
            allowance += now.duration_since(filled).as_secs_f64() * rate;
            filled = now;
            // A session that is refused takes its time.
            while allowance >= 1.0 && now.elapsed() < ROUND && self.has_room() {
                allowance -= 1.0;
                self.open_one()?;
            }
            // A rate that was not used is lost.
            allowance = allowance.min(rate / 10.0);
            if self.attack.then != Then::Holds {
                self.drip(now);
            }
            let has_all = self.tried as usize >= self.attack.most;
            if !is_ready && (has_all || begin.elapsed() > ramp) {
                is_ready = true;
                helper::report("ready", self.open.len() as u64)?;
            }
            if IS_ASKED.swap(false, Ordering::Relaxed) {
                helper::report("sent", self.sent)?;
                helper::report("opened", self.opened)?;
            }
            self.poll.poll(&mut events, Some(Duration::from_millis(5)))?;
            for event in &events {
                let key = event.token().0;
                if event.is_read_closed() || event.is_error() {
                    self.open.try_remove(key);
                } else if event.is_writable() {
                    self.speak(key);
                }
            }
        }
    }

    fn has_room(&mut self) -> bool {
        if self.attack.is_burst && self.tried as usize >= self.attack.most {
            return false;
        }
        while self.attack.renews && self.open.len() >= self.attack.most {
            let Some((key, number)) = self.order.pop_front() else { break };
            if self.open.get(key).is_some_and(|connection| connection.number == number) {
                self.open.remove(key);
            }
        }
        self.open.len() < self.attack.most
    }

    fn open_one(&mut self) -> Outcome<()> {
        self.tried += 1;
        let last = (self.tried % ADDRESSES) as u8 + 1;
        let source = Ipv4Addr::new(127, 9, 0, last);
        let (stream, unsent) = match self.attack.opening {
            Opening::Session => match self.session(source, origin::SHORT) {
                Ok(stream) => (stream, Vec::new()),
                Err(_) => return Ok(()),
            },
            Opening::EndlessSession => match self.session(source, origin::ENDLESS) {
                Ok(stream) => (stream, Vec::new()),
                Err(_) => return Ok(()),
            },
            _ => (sockets::start_dial(source, self.to)?, self.opening()?),
        };
        let mut stream = TcpStream::from_std(stream);
        let drips_at = Instant::now() + DRIP_EACH.mul_f64(self.random.f64());
        let slot = self.open.vacant_entry();
        let both = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(&mut stream, Token(slot.key()), both)?;
        self.order.push_back((slot.key(), self.tried));
        slot.insert(Connection { stream, unsent, number: self.tried, drips_at });
        self.opened += 1;
        Ok(())
    }

    fn opening(&mut self) -> Outcome<Vec<u8>> {
        Ok(match self.attack.opening {
            Opening::HalfHello(length) => {
                let mut hello = self.user.hello(&mut self.random)?;
                hello.truncate(length);
                hello
            }
            Opening::Page(length) => {
                let mut request = b"GET / HTTP/1.1\r\nCookie: ".to_vec();
                request.resize(request.len().max(length), b'x');
                request
            }
            Opening::EndlessPage => b"GET /endless HTTP/1.1\r\n\r\n".to_vec(),
            Opening::Stats => b"GET /stats HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
            Opening::Silence | Opening::Session | Opening::EndlessSession => Vec::new(),
        })
    }

    /// A session of the attacker's user, in which the DC answers as `request` says.
    fn session(&mut self, source: Ipv4Addr, request: &[u8]) -> Outcome<StdStream> {
        let mut stream = sockets::dial_within(source, self.to, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        self.sent += self.user.handshake(&mut stream, &mut self.random)? as u64;
        stream.write_all(&crate::support::faketls::record(request))?;
        stream.set_nonblocking(true)?;
        Ok(stream)
    }

    /// Sends what is left of the opening, and leaves if that is the plan.
    fn speak(&mut self, key: usize) {
        let Some(connection) = self.open.get_mut(key) else { return };
        if !connection.unsent.is_empty() {
            match connection.stream.write(&connection.unsent) {
                Ok(count) => {
                    self.sent += count as u64;
                    connection.unsent.drain(..count);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => {
                    self.open.remove(key);
                    return;
                }
            }
        }
        if self.attack.then == Then::Leaves && connection.unsent.is_empty() {
            self.open.remove(key);
        }
    }

    fn drip(&mut self, now: Instant) {
        let Then::Drips(rate) = self.attack.then else { return };
        let mut scratch = vec![0; (rate as f64 * DRIP_EACH.as_secs_f64()) as usize];
        let mut gone = Vec::new();
        for (key, connection) in &mut self.open {
            if connection.drips_at > now {
                continue;
            }
            connection.drips_at += DRIP_EACH;
            match connection.stream.read(&mut scratch) {
                Ok(1..) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Ok(0) | Err(_) => gone.push(key),
            }
        }
        for key in gone {
            self.open.remove(key);
        }
    }
}

/// An address that answers no SYN: a listener whose backlog is full.
pub struct DeadSite {
    /// Its port on loopback.
    pub port: u16,
    _listener: std::os::fd::OwnedFd,
    _fill: Vec<StdStream>,
}

impl DeadSite {
    /// Opens the listener and fills its backlog.
    pub fn open() -> Outcome<Self> {
        let (listener, port) = sockets::listen_with_backlog(1)?;
        let to = SocketAddr::from(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port));
        let limit = Duration::from_millis(300);
        let mut fill = Vec::new();
        while let Ok(stream) = StdStream::connect_timeout(&to, limit) {
            fill.push(stream);
        }
        Ok(Self { port, _listener: listener, _fill: fill })
    }
}

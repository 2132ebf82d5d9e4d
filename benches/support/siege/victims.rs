//! What the others get: a user who downloads, users who open sessions, visitors of the site.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle, sleep};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv};

use super::origin;
use crate::support::faketls::{self, User};
use crate::support::options::Outcome;
use crate::support::sockets;

/// A new session must carry its first payload within this time.
const SESSION_LIMIT: Duration = Duration::from_millis(500);

/// A visitor must get the first byte of the site within this time.
const VISIT_LIMIT: Duration = Duration::from_secs(2);

/// Pauses between two new sessions and between two visits.
const SESSION_EACH: Duration = Duration::from_millis(50);
const VISIT_EACH: Duration = Duration::from_millis(200);

/// The attempts of one kind.
#[derive(Default, Clone)]
pub struct Attempts {
    all: Vec<Attempt>,
}

#[derive(Clone, Copy)]
struct Attempt {
    start: Instant,
    /// Milliseconds; those of a failed attempt are its limit.
    took: f64,
    is_served: bool,
}

/// All who are not the attacker, each in a thread.
pub struct Victims {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    to: SocketAddr,
    /// Bytes of the download.
    bytes: AtomicU64,
    /// How often the download has ended or stood still.
    breaks: AtomicU64,
    sessions: Mutex<Attempts>,
    visits: Mutex<Attempts>,
    is_over: AtomicBool,
}

impl Victims {
    /// Starts them: the first user downloads, the others open sessions in turn. `has_site` = there
    /// is a site to visit.
    pub fn start(port: u16, users: &[User], has_site: bool) -> Outcome<Self> {
        let shared = Arc::new(Shared {
            to: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
            bytes: AtomicU64::new(0),
            breaks: AtomicU64::new(0),
            sessions: Mutex::default(),
            visits: Mutex::default(),
            is_over: AtomicBool::new(false),
        });
        let (first, others) = users.split_first().ok_or("no users")?;
        let (first, others) = (first.clone(), others.to_vec());
        let seeds = [getrandom::u64()?, getrandom::u64()?];
        let [one, two, three] = [0; 3].map(|_| Arc::clone(&shared));
        let mut threads = vec![
            thread::spawn(move || one.download(&first, fastrand::Rng::with_seed(seeds[0]))),
            thread::spawn(move || two.open_sessions(&others, fastrand::Rng::with_seed(seeds[1]))),
        ];
        if has_site {
            threads.push(thread::spawn(move || three.visit()));
        }
        Ok(Self { shared, threads })
    }

    /// Bytes of the download so far.
    pub fn bytes(&self) -> u64 {
        self.shared.bytes.load(Ordering::Relaxed)
    }

    /// How often the download had to begin again.
    pub fn breaks(&self) -> u64 {
        self.shared.breaks.load(Ordering::Relaxed)
    }

    /// The new sessions and the visits that began after `start`.
    pub fn since(&self, start: Instant) -> (Attempts, Attempts) {
        let since = |attempts: &Mutex<Attempts>| {
            let mut found = attempts.lock().map(|all| all.clone()).unwrap_or_default();
            found.all.retain(|attempt| attempt.start >= start);
            found
        };
        (since(&self.shared.sessions), since(&self.shared.visits))
    }

    /// Ends them.
    pub fn stop(self) {
        self.shared.is_over.store(true, Ordering::Relaxed);
        for thread in self.threads {
            // A thread that has panicked has said so.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    fn download(&self, user: &User, mut random: fastrand::Rng) {
        let source = Ipv4Addr::new(127, 0, 6, 1);
        while !self.is_over() {
            if self.download_once(user, source, &mut random).is_err() && !self.is_over() {
                self.breaks.fetch_add(1, Ordering::Relaxed);
                sleep(Duration::from_millis(100));
            }
        }
    }

    fn download_once(
        &self,
        user: &User,
        source: Ipv4Addr,
        random: &mut fastrand::Rng,
    ) -> Outcome<()> {
        let mut stream = sockets::dial_within(source, self.to, Duration::from_secs(1))?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        user.handshake(&mut stream, random)?;
        stream.write_all(&faketls::record(origin::ENDLESS))?;
        let mut scratch = vec![0; 256 * 1024];
        let (mut last, patience) = (Instant::now(), Duration::from_secs(20));
        while !self.is_over() {
            match recv(stream.as_raw_fd(), &mut scratch, MsgFlags::MSG_TRUNC) {
                Ok(0) => return Err("the download has ended".into()),
                Ok(count) => {
                    last = Instant::now();
                    self.bytes.fetch_add(count as u64, Ordering::Relaxed);
                }
                Err(Errno::EAGAIN | Errno::EINTR) if last.elapsed() < patience => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Opens and closes sessions from new addresses: half of them in the attacker's network.
    fn open_sessions(&self, users: &[User], mut random: fastrand::Rng) {
        for number in 0.. {
            if self.is_over() {
                return;
            }
            let last = (number % 120) as u8 + 100;
            let source = match number % 2 {
                0 => Ipv4Addr::new(127, 9, 0, last),
                _ => Ipv4Addr::new(127, 0, 7, last),
            };
            let user = &users[number % users.len()];
            let start = Instant::now();
            let is_served = self.open_session(user, source, &mut random).is_ok();
            note(&self.sessions, start, is_served, SESSION_LIMIT);
            sleep(SESSION_EACH);
        }
    }

    fn open_session(
        &self,
        user: &User,
        source: Ipv4Addr,
        random: &mut fastrand::Rng,
    ) -> Outcome<()> {
        let mut stream = sockets::dial_within(source, self.to, SESSION_LIMIT)?;
        stream.set_read_timeout(Some(SESSION_LIMIT))?;
        user.handshake_in_segments(&mut stream, random)?;
        stream.write_all(&faketls::record(origin::SHORT))?;
        faketls::read_payload(&mut stream, origin::REPLY)
    }

    fn visit(&self) {
        for number in 0_u32.. {
            if self.is_over() {
                return;
            }
            let source = Ipv4Addr::new(127, 0, 8, (number % 200) as u8 + 1);
            let start = Instant::now();
            let is_served = self.visit_once(source).is_ok();
            note(&self.visits, start, is_served, VISIT_LIMIT);
            sleep(VISIT_EACH);
        }
    }

    fn visit_once(&self, source: Ipv4Addr) -> Outcome<()> {
        let mut stream: TcpStream = sockets::dial_within(source, self.to, VISIT_LIMIT)?;
        stream.set_read_timeout(Some(VISIT_LIMIT))?;
        stream.write_all(b"GET / HTTP/1.1\r\n\r\n")?;
        Ok(stream.read_exact(&mut [0])?)
    }
}

fn note(attempts: &Mutex<Attempts>, start: Instant, is_served: bool, limit: Duration) {
    let took = start.elapsed();
    let is_served = is_served && took <= limit;
    let took = took.min(limit).as_secs_f64() * 1e3;
    if let Ok(mut attempts) = attempts.lock() {
        attempts.all.push(Attempt { start, took, is_served });
    }
}

impl Attempts {
    /// The failed part, in per cent; 0 if there were no attempts.
    pub fn failed_percent(&self) -> f64 {
        let failed = self.all.iter().filter(|attempt| !attempt.is_served).count();
        failed as f64 * 100.0 / self.all.len().max(1) as f64
    }

    /// The time that 95 of 100 attempts do not exceed, in milliseconds.
    pub fn p95(&self) -> f64 {
        let mut sorted: Vec<f64> = self.all.iter().map(|attempt| attempt.took).collect();
        sorted.sort_by(f64::total_cmp);
        sorted.get((sorted.len() * 95).div_ceil(100).saturating_sub(1)).copied().unwrap_or(0.0)
    }
}

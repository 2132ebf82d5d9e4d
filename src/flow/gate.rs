//! What is this connection, judged from the bytes that it has sent so far?
//!
//! Pure: the clock comes in as a number, the people and stores as [`Book`]. The gate decides at
//! the first wrong byte (spec: protocol 3.2, 10) and tries keys in slices, so that a stranger
//! against a thousand users cannot hold the loop. Sealing the answer is `daemon/answer.rs`.

use std::net::IpAddr;

use crate::policy::misses::Misses;
use crate::policy::replay::Replay;
use crate::policy::throttle::Throttle;
use crate::policy::users::{HostId, UserId, Users};
use crate::proto::client_hello::{self, Assembly, ClientHello, Stamp, Suspicion};

/// Everything that a verdict depends on besides the bytes.
pub struct Book<'a> {
    /// The people whose keys are tried.
    pub users: &'a Users,
    /// The store against replays; `None` = off.
    pub replay: Option<&'a mut Replay>,
    /// Fair share; `None` = off.
    pub throttle: Option<&'a mut Throttle>,
    /// Networks whose hellos fit no key.
    pub misses: &'a mut Misses,
    /// Milliseconds of a clock that only goes forward.
    pub now_ms: u64,
    /// Unix time in seconds; `None` while the clock is not set (D4: skip the time test).
    pub unix_s: Option<u64>,
    /// Largest accepted distance between the two clocks, in seconds.
    pub tolerance_s: u64,
}

/// The answer of [`Gate::look`].
#[derive(Debug)]
pub enum Verdict {
    /// Nothing can be said yet: read on.
    More,
    /// Keys are left to try: give others a turn, then call again with the same bytes.
    Busy,
    /// One of ours.
    Admit(Admission),
    /// Not provably ours, or not now: become a plain pipe to this host.
    Front {
        /// Whose site it gets.
        host: HostId,
        /// Why, for the counters and the log.
        why: Suspicion,
        /// Whose key fits, when one does: a person of ours with a problem.
        user: Option<UserId>,
    },
}

/// What the answer to an accepted hello needs.
#[derive(Debug)]
pub struct Admission {
    /// Whose key opened the hello.
    pub user: UserId,
    /// The hello's random as received; part of the answer's digest.
    pub random: [u8; 32],
    /// Echoed in the answer.
    pub session_id: Vec<u8>,
    /// The TLS 1.3 suite to answer with.
    pub cipher: u16,
    /// The hello offers a usable X25519MLKEM768 share.
    pub hybrid: bool,
    /// How many of the seen bytes were the hello; the rest belongs to the next stage.
    pub consumed: usize,
}

/// The judge of one connection. Empty until a whole hello has come and its first keys failed.
#[derive(Default)]
pub struct Gate {
    trial: Option<Box<Trial>>,
}

/// A whole hello, half tried.
struct Trial {
    offer: Offer,
    hello: Vec<u8>,
    left: std::vec::IntoIter<UserId>,
}

/// What is kept of a parsed hello.
struct Offer {
    host: HostId,
    random: [u8; 32],
    session_id: Vec<u8>,
    cipher: u16,
    hybrid: bool,
    consumed: usize,
}

impl Gate {
    /// Judges all bytes seen so far on a connection from `addr`. Tries at most [`SLICE`] keys;
    /// after [`Verdict::Busy`] call again with the same bytes. A miss tries every candidate, or,
    /// while the network of `addr` floods us with misses, the likeliest [`SLICE`].
    pub fn look(&mut self, seen: &[u8], addr: IpAddr, book: &mut Book<'_>) -> Verdict {
        if let Some(mut trial) = self.trial.take() {
            let opened = try_keys(&mut trial.left, &trial.hello, &trial.offer, book.users);
            return match opened {
                Some((user, stamp)) => trial.offer.admit(user, &stamp, book),
                None if trial.left.len() == 0 => trial.offer.miss(addr, book),
                None => {
                    self.trial = Some(trial);
                    Verdict::Busy
                }
            };
        }
        let first = book.users.first_host();
        let (hello, consumed) = match client_hello::assemble(seen) {
            Assembly::Short => return Verdict::More,
            Assembly::Wrong(why) => return stranger(first, why),
            Assembly::Whole { hello, consumed } => (hello, consumed),
        };
        let offer = match client_hello::parse(&hello) {
            Ok(parsed) => match Offer::of(&parsed, consumed, book.users) {
                Ok(offer) => offer,
                Err((host, why)) => return stranger(host, why),
            },
            Err(why) => return stranger(first, why),
        };
        let mut candidates = book.users.candidates(offer.host, addr);
        match try_keys(&mut candidates, &hello, &offer, book.users) {
            Some((user, stamp)) => offer.admit(user, &stamp, book),
            None => {
                let left: Vec<UserId> = candidates.collect();
                if left.is_empty() || book.misses.is_flood(addr, book.now_ms) {
                    return offer.miss(addr, book);
                }
                let left = left.into_iter();
                self.trial = Some(Box::new(Trial { offer, hello, left }));
                Verdict::Busy
            }
        }
    }
}

impl Offer {
    fn of(
        hello: &ClientHello<'_>,
        consumed: usize,
        users: &Users,
    ) -> Result<Self, (HostId, Suspicion)> {
        let mut named = false;
        let mut known = None;
        for name in hello.names() {
            named = true;
            known = known.or_else(|| users.host_named(name));
        }
        let host = known.ok_or_else(|| {
            let why = if named { Suspicion::ForeignSni } else { Suspicion::NoSni };
            (users.first_host(), why)
        })?;
        let cipher = hello.cipher().ok_or((host, Suspicion::NoCipher))?;
        Ok(Self {
            host,
            random: *hello.random(),
            session_id: hello.session_id().to_vec(),
            cipher,
            hybrid: hello.offers_group(client_hello::X25519MLKEM768),
            consumed,
        })
    }

    /// No key fits.
    fn miss(&self, addr: IpAddr, book: &mut Book<'_>) -> Verdict {
        book.misses.note(addr, book.now_ms);
        stranger(self.host, Suspicion::WrongKey)
    }

    /// The key fits; now the clock, the replay store and the fair share have their say.
    fn admit(self, user: UserId, stamp: &Stamp, book: &mut Book<'_>) -> Verdict {
        let front = |why| Verdict::Front { host: self.host, why, user: Some(user) };
        if let Some(now) = book.unix_s
            && let Err(off_s) = client_hello::within(stamp.unix, now, book.tolerance_s)
        {
            return front(Suspicion::ClockOff { off_s });
        }
        if let Some(replay) = book.replay.as_deref_mut()
            && replay.seen_before(&stamp.digest)
        {
            return front(Suspicion::Replay);
        }
        if let Some(throttle) = book.throttle.as_deref_mut()
            && !throttle.admit(book.users.connections(), book.users.position(user))
        {
            return front(Suspicion::Throttled);
        }
        Verdict::Admit(Admission {
            user,
            random: self.random,
            session_id: self.session_id,
            cipher: self.cipher,
            hybrid: self.hybrid,
            consumed: self.consumed,
        })
    }
}

fn stranger(host: HostId, why: Suspicion) -> Verdict {
    Verdict::Front { host, why, user: None }
}

/// Tries the next [`SLICE`] candidates.
fn try_keys(
    candidates: &mut impl Iterator<Item = UserId>,
    hello: &[u8],
    offer: &Offer,
    users: &Users,
) -> Option<(UserId, Stamp)> {
    candidates.take(SLICE).find_map(|id| {
        let stamp = users.get(id).hello_key().open(hello, &offer.random)?;
        Some((id, stamp))
    })
}

/// Keys tried per turn. Sixteen HMACs over a 1.8 kB hello take some 20 µs with SHA instructions
/// and 4 ms on an 880 MHz MIPS.
pub const SLICE: usize = 16;

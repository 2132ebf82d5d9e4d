//! What is this connection, judged from the bytes that it has sent so far?
//!
//! Pure: the clock comes in as a number, the people and stores as [`AuthContext`]. The gate decides at
//! the first wrong byte (spec: protocol 3.2, 10) and tries keys in slices, so that a stranger
//! against a thousand users cannot hold the loop. Sealing the answer is `daemon/answer.rs`.

use std::net::IpAddr;

use crate::accounts::users::{HostId, UserId, Users};
use crate::limits::hello_rate_limit::HelloRateLimit;
use crate::limits::replay::Replay;
use crate::limits::throttle::Throttle;
use crate::proto::client_hello::{self, Assembly, ClientHello, HelloStamp, Reject};

/// Everything that a verdict depends on besides the bytes.
pub struct AuthContext<'a> {
    /// The people whose keys are tried.
    pub users: &'a Users,
    /// The store against replays; `None` = off.
    pub replay: Option<&'a mut Replay>,
    /// Fair share; `None` = off.
    pub throttle: Option<&'a mut Throttle>,
    /// Networks whose hellos fit no key.
    pub misses: &'a mut HelloRateLimit,
    /// Milliseconds of a clock that only goes forward.
    pub now_ms: u64,
    /// Unix time in seconds; `None` while the clock is not set (D4: skip the time test).
    pub unix_s: Option<u64>,
    /// Largest accepted distance between the two clocks, in seconds.
    pub tolerance_s: u64,
}

/// The answer of [`Authenticator::check`].
#[derive(Debug)]
pub enum AuthVerdict {
    /// Nothing can be said yet: read on.
    Incomplete,
    /// Keys are left to try: give others a turn, then call again with the same bytes.
    KeysLeft,
    /// One of ours.
    Admit(Admission),
    /// Not provably ours, or not now: become a plain pipe to this host.
    Front {
        /// Whose site it gets.
        host: HostId,
        /// Why, for the counters and the log.
        why: Reject,
        /// Whose key fits, when one does: a person of ours with a problem.
        user: Option<UserId>,
    },
}

/// What the answer to an accepted hello needs.
#[derive(Debug)]
pub struct Admission {
    /// Whose key opened the hello.
    pub user: UserId,
    /// The site that the answer has to look like.
    pub host: HostId,
    /// The hello's random as received; part of the answer's digest.
    pub random: [u8; 32],
    /// Echoed in the answer.
    pub session_id: Vec<u8>,
    /// The suites of TLS 1.3 that the client offers, its favourite first; never empty.
    pub suites: Vec<u16>,
    /// The hello offers a usable X25519MLKEM768 share.
    pub hybrid: bool,
    /// The hello offers an x25519 share.
    pub x25519: bool,
    /// How many of the seen bytes were the hello; the rest belongs to the next stage.
    pub consumed: usize,
}

/// The judge of one connection. Empty until a whole hello has come and its first keys failed.
#[derive(Default)]
pub struct Authenticator {
    trial: Option<Box<KeySearch>>,
}

/// A whole hello, half tried.
struct KeySearch {
    offer: HelloFields,
    hello: Vec<u8>,
    left: std::vec::IntoIter<UserId>,
    /// A key has fitted, but not for us to answer: the others are tried for the time it takes.
    doom: Option<RejectedUser>,
}

/// Why a person of ours is treated as a stranger.
struct RejectedUser {
    why: Reject,
    user: UserId,
}

/// What is kept of a parsed hello.
struct HelloFields {
    host: HostId,
    random: [u8; 32],
    session_id: Vec<u8>,
    suites: Vec<u16>,
    hybrid: bool,
    x25519: bool,
    consumed: usize,
}

impl Authenticator {
    /// Judges all bytes seen so far on a connection from `addr`. Tries at most [`KEYS_PER_CHECK`] keys;
    /// after [`AuthVerdict::KeysLeft`] call again with the same bytes. A miss tries every candidate, or,
    /// while the network of `addr` floods us with misses, the likeliest [`KEYS_PER_CHECK`]; so does a hello
    /// that opens but may not be answered, since the time would tell them apart (spec: protocol
    /// 15.16).
    pub fn check(&mut self, seen: &[u8], addr: IpAddr, book: &mut AuthContext<'_>) -> AuthVerdict {
        let mut trial = match self.trial.take() {
            Some(trial) => trial,
            None => match KeySearch::begin(seen, addr, book) {
                Ok(trial) => trial,
                Err(verdict) => return verdict,
            },
        };
        let rest = trial.left.len().saturating_sub(KEYS_PER_CHECK);
        if let Some((user, stamp)) = trial.try_keys(rest, book.users) {
            match judge(user, &stamp, book) {
                Ok(()) => return AuthVerdict::Admit(trial.offer.admit(user)),
                Err(why) => trial.doom = Some(RejectedUser { why, user }),
            }
            trial.try_keys(rest, book.users);
        }
        if trial.left.len() == 0 || book.misses.is_limited(addr, book.now_ms) {
            return trial.end(addr, book);
        }
        self.trial = Some(trial);
        AuthVerdict::KeysLeft
    }
}

impl KeySearch {
    /// Reads the hello, when it is whole.
    fn begin(seen: &[u8], addr: IpAddr, book: &AuthContext<'_>) -> Result<Box<Self>, AuthVerdict> {
        let first = book.users.first_host();
        let (hello, consumed) = match client_hello::assemble(seen) {
            Assembly::Incomplete => return Err(AuthVerdict::Incomplete),
            Assembly::Rejected(why) => return Err(stranger(first, why)),
            Assembly::Complete { hello, consumed } => (hello, consumed),
        };
        let parsed = client_hello::parse(&hello).map_err(|why| stranger(first, why))?;
        let offer = HelloFields::of(&parsed, consumed, book.users)
            .map_err(|(host, why)| stranger(host, why))?;
        let left: Vec<UserId> = book.users.candidates(offer.host, addr).collect();
        Ok(Box::new(Self { offer, hello, left: left.into_iter(), doom: None }))
    }

    /// Tries candidates until one fits or only `rest` are left. Once one has fitted in vain, the
    /// others are tried in vain as well.
    fn try_keys(&mut self, rest: usize, users: &Users) -> Option<(UserId, HelloStamp)> {
        let (hello, random, is_doomed) = (&self.hello, &self.offer.random, self.doom.is_some());
        let count = self.left.len().saturating_sub(rest);
        self.left.by_ref().take(count).find_map(|id| {
            let stamp = users.get(id).hello_key().verify(hello, random)?;
            (!is_doomed).then_some((id, stamp))
        })
    }

    /// No key is left to try.
    fn end(self, addr: IpAddr, book: &mut AuthContext<'_>) -> AuthVerdict {
        let host = self.offer.host;
        if let Some(RejectedUser { why, user }) = self.doom {
            return AuthVerdict::Front { host, why, user: Some(user) };
        }
        book.misses.record_failure(addr, book.now_ms);
        stranger(host, Reject::WrongKey)
    }
}

impl HelloFields {
    fn of(
        hello: &ClientHello<'_>,
        consumed: usize,
        users: &Users,
    ) -> Result<Self, (HostId, Reject)> {
        let mut named = false;
        let mut known = None;
        for name in hello.server_names() {
            named = true;
            known = known.or_else(|| users.find_host(name));
        }
        let host = known.ok_or_else(|| {
            let why = if named { Reject::ForeignSni } else { Reject::NoSni };
            (users.first_host(), why)
        })?;
        let suites: Vec<u16> = hello.suites().collect();
        if suites.is_empty() {
            return Err((host, Reject::NoCipher));
        }
        Ok(Self {
            host,
            random: *hello.random(),
            session_id: hello.session_id().to_vec(),
            suites,
            hybrid: hello.offers_group(client_hello::X25519MLKEM768),
            x25519: hello.offers_group(client_hello::X25519),
            consumed,
        })
    }

    fn admit(self, user: UserId) -> Admission {
        Admission {
            user,
            host: self.host,
            random: self.random,
            session_id: self.session_id,
            suites: self.suites,
            hybrid: self.hybrid,
            x25519: self.x25519,
            consumed: self.consumed,
        }
    }
}

/// The key fits; now the operator, the clock, the replay store and the fair share have their say.
fn judge(user: UserId, stamp: &HelloStamp, book: &mut AuthContext<'_>) -> Result<(), Reject> {
    if !book.users.get(user).is_enabled() {
        return Err(Reject::Disabled);
    }
    if let Some(now) = book.unix_s {
        let within = client_hello::check_clock(stamp.unix_s, now, book.tolerance_s);
        within.map_err(|off_s| Reject::ClockOff { off_s })?;
    }
    if let Some(replay) = book.replay.as_deref_mut()
        && replay.seen_before(&stamp.digest)
    {
        return Err(Reject::Replay);
    }
    if let Some(throttle) = book.throttle.as_deref_mut()
        && !throttle.admit(book.users.connections(), book.users.position(user))
    {
        return Err(Reject::Throttled);
    }
    Ok(())
}

fn stranger(host: HostId, why: Reject) -> AuthVerdict {
    AuthVerdict::Front { host, why, user: None }
}

/// Keys tried per turn. Sixteen HMACs over a 1.8 kB hello take some 20 µs with SHA instructions
/// and 4 ms on an 880 MHz MIPS.
pub const KEYS_PER_CHECK: usize = 16;

#[cfg(test)]
mod tests;

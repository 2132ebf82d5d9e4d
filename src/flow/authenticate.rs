//! Authentication of a client by its ClientHello.
//!
//! Performs no I/O: clock, users and stores are parameters, see [`AuthContext`]. A connection is
//! rejected at the first wrong byte (PROTOCOL 3.2, 10). Keys are tried in slices, so that a
//! probe against a thousand users cannot block the loop.

use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use crate::accounts::users::{HostId, UserId, Users};
use crate::limits::network_rate::NetworkRate;
use crate::limits::replay::{Replay, ReplayClock};
use crate::limits::throttle::Throttle;
use crate::proto::client_hello::{self, Assembly, ClientHello, HelloStamp, Reject};
use crate::util::memory::{Account, Charge, MemoryFull};

/// The inputs of a verdict besides the received bytes.
pub struct AuthContext<'a> {
    /// The users whose keys are tried.
    pub users: &'a Users,
    /// Digests seen before; `None` = replay protection is off.
    pub replay: Option<&'a mut Replay>,
    /// Limit of connections per user; `None` = off.
    pub throttle: Option<&'a mut Throttle>,
    /// Fair share of the places for users, while all of them are taken.
    pub places: &'a mut Throttle,
    /// Failed hellos per client prefix.
    pub hello_rate: &'a mut NetworkRate,
    /// Monotonic clock in milliseconds.
    pub now_ms: u64,
    /// Unix time in seconds; `None` while the clock is not set, which skips the time test
    /// (DECISIONS D4).
    pub unix_s: Option<u64>,
    /// The wall-clock time of the start, since 1970; `None` while the clock is not set.
    pub started: Option<Duration>,
    /// Largest accepted difference between the clocks of client and server, in seconds.
    pub tolerance_s: u64,
    /// The account of the session, for what is kept between two calls.
    pub account: &'a Rc<Account>,
}

/// Result of [`Authenticator::check`].
#[derive(Debug)]
pub enum AuthVerdict {
    /// The hello is incomplete: read more bytes.
    Incomplete,
    /// Keys are left to try: serve other connections, then call again with the same bytes.
    KeysLeft,
    /// Keys are left to try, but there is no memory to go on later: call again with the same bytes
    /// when there is room for this many bytes.
    NeedMemory(u32),
    /// The client is authenticated.
    Admit(Admission),
    /// The client is rejected: relay the connection to the front of this host.
    Front {
        /// The host whose front serves the connection.
        host: HostId,
        /// The reason, for counters and log.
        why: Reject,
        /// The user whose key matches, if one does: a user with a problem, not a probe.
        user: Option<UserId>,
    },
}

/// The data of an accepted hello that the ServerHello needs.
#[derive(Debug)]
pub struct Admission {
    /// The user whose key matches.
    pub user: UserId,
    /// The host whose front the ServerHello has to imitate.
    pub host: HostId,
    /// The hello's random as received; part of the ServerHello's digest.
    pub random: [u8; 32],
    /// Echoed in the ServerHello.
    pub session_id: Vec<u8>,
    /// The TLS 1.3 cipher suites that the client offers, in its order of preference; never empty.
    pub suites: Vec<u16>,
    /// Whether the hello has a well-formed X25519MLKEM768 key share.
    pub hybrid: bool,
    /// Whether the hello has a well-formed x25519 key share.
    pub x25519: bool,
    /// Length of the hello in the bytes seen; the rest belongs to the next stage.
    pub consumed: usize,
}

/// Authenticator of one connection. Owns heap memory only while keys are left to try.
#[derive(Default)]
pub struct Authenticator {
    search: Option<Box<KeySearch>>,
}

/// A complete hello and the users whose keys have not been tried.
struct KeySearch {
    fields: HelloFields,
    hello: Vec<u8>,
    left: std::vec::IntoIter<UserId>,
    /// A key matched, but the user is rejected. The other keys are still tried, so that the time
    /// does not reveal the match.
    rejected: Option<RejectedUser>,
    /// For all of this, once it is kept.
    charge: Option<Charge>,
}

/// A user with a matching key, and why the client is rejected.
struct RejectedUser {
    why: Reject,
    user: UserId,
}

/// The fields that are kept of a parsed hello.
struct HelloFields {
    host: HostId,
    random: [u8; 32],
    session_id: Vec<u8>,
    suites: Vec<u16>,
    hybrid: bool,
    x25519: bool,
    consumed: usize,
    /// The hello names no host, as those of old apps; `host` is the first one.
    is_nameless: bool,
}

impl Authenticator {
    /// Checks all bytes seen so far on a connection from `addr`. Tries at most [`KEYS_PER_CHECK`]
    /// keys; after [`AuthVerdict::KeysLeft`] call again with the same bytes.
    ///
    /// A hello that matches no key costs as many tries as there are candidates, or
    /// [`KEYS_PER_CHECK`], the most likely ones, while the network of `addr` exceeds the rate of
    /// failed hellos. A hello that matches a rejected user costs the same, since a shorter time
    /// would reveal the match (PROTOCOL 15.16).
    pub fn check(
        &mut self,
        seen: &[u8],
        addr: IpAddr,
        context: &mut AuthContext<'_>,
    ) -> AuthVerdict {
        let mut search = match self.search.take() {
            Some(search) => search,
            None => match KeySearch::new(seen, addr, context).and_then(|s| s.charged(context)) {
                Ok(search) => search,
                Err(verdict) => return verdict,
            },
        };
        let rest = search.left.len().saturating_sub(KEYS_PER_CHECK);
        if let Some((user, stamp)) = search.try_keys(rest, context.users) {
            match check_user(user, &stamp, context) {
                Ok(()) => return AuthVerdict::Admit(search.fields.admit(user, context.users)),
                Err(why) => search.rejected = Some(RejectedUser { why, user }),
            }
            search.try_keys(rest, context.users);
        }
        if search.left.len() == 0 || context.hello_rate.is_limited(addr, context.now_ms) {
            return search.finish(addr, context);
        }
        self.search = Some(search);
        AuthVerdict::KeysLeft
    }
}

impl KeySearch {
    /// Parses the hello. `Err` is a verdict that needs no key.
    fn new(seen: &[u8], addr: IpAddr, context: &AuthContext<'_>) -> Result<Box<Self>, AuthVerdict> {
        let first = context.users.first_host();
        let (hello, consumed) = match client_hello::assemble(seen) {
            Assembly::Incomplete => return Err(AuthVerdict::Incomplete),
            Assembly::Rejected(why) => return Err(reject(first, why)),
            Assembly::Complete { hello, consumed } => (hello, consumed),
        };
        let parsed = client_hello::parse(&hello).map_err(|why| reject(first, why))?;
        let fields = HelloFields::of(&parsed, consumed, context.users)
            .map_err(|(host, why)| reject(host, why))?;
        let left: Vec<UserId> = match fields.is_nameless {
            // Not all, so that such a probe is answered nearly as soon as one that names a foreign
            // host.
            true => context.users.candidates_of_all(addr).take(NAMELESS_KEYS).collect(),
            false => context.users.candidates(fields.host, addr).collect(),
        };
        Ok(Box::new(Self { fields, hello, left: left.into_iter(), rejected: None, charge: None }))
    }

    /// Charges what is kept between two calls, if it takes several. Before the first key is tried,
    /// so that a second try after a lack of memory is the same as the first.
    fn charged(mut self: Box<Self>, context: &AuthContext<'_>) -> Result<Box<Self>, AuthVerdict> {
        if self.left.len() > KEYS_PER_CHECK {
            let keys = self.left.len() * size_of::<UserId>();
            let bytes = size_of::<Self>() + self.hello.capacity() + keys;
            let charge = context.account.charge(bytes);
            let charge = charge.map_err(|MemoryFull| AuthVerdict::NeedMemory(bytes as u32))?;
            self.charge = Some(charge);
        }
        Ok(self)
    }

    /// Tries candidates until a key matches or only `rest` candidates are left. After a match of a
    /// rejected user the results are ignored.
    fn try_keys(&mut self, rest: usize, users: &Users) -> Option<(UserId, HelloStamp)> {
        let (hello, random) = (&self.hello, &self.fields.random);
        let is_rejected = self.rejected.is_some();
        let count = self.left.len().saturating_sub(rest);
        self.left.by_ref().take(count).find_map(|id| {
            let stamp = users.get(id).hello_key().verify(hello, random)?;
            (!is_rejected).then_some((id, stamp))
        })
    }

    /// The verdict after the last key.
    fn finish(self, addr: IpAddr, context: &mut AuthContext<'_>) -> AuthVerdict {
        let host = self.fields.host;
        if let Some(RejectedUser { why, user }) = self.rejected {
            return AuthVerdict::Front { host, why, user: Some(user) };
        }
        context.hello_rate.record(addr, context.now_ms);
        reject(host, if self.fields.is_nameless { Reject::NoSni } else { Reject::WrongKey })
    }
}

impl HelloFields {
    fn of(
        hello: &ClientHello<'_>,
        consumed: usize,
        users: &Users,
    ) -> Result<Self, (HostId, Reject)> {
        let mut has_name = false;
        let mut known = None;
        for name in hello.server_names() {
            has_name = true;
            known = known.or_else(|| users.find_host(name));
        }
        let host = match known {
            None if has_name => return Err((users.first_host(), Reject::ForeignSni)),
            None => users.first_host(),
            Some(host) => host,
        };
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
            is_nameless: !has_name,
        })
    }

    fn admit(self, user: UserId, users: &Users) -> Admission {
        Admission {
            user,
            host: users.get(user).host(),
            random: self.random,
            session_id: self.session_id,
            suites: self.suites,
            hybrid: self.hybrid,
            x25519: self.x25519,
            consumed: self.consumed,
        }
    }
}

/// Checks a user whose key matches: enabled, clock, replay, number of connections.
fn check_user(
    user: UserId,
    stamp: &HelloStamp,
    context: &mut AuthContext<'_>,
) -> Result<(), Reject> {
    if !context.users.get(user).is_enabled() {
        return Err(Reject::Disabled);
    }
    if let Some(now) = context.unix_s {
        let checked = client_hello::check_clock(stamp.unix_s, now, context.tolerance_s);
        checked.map_err(|off_s| Reject::ClockOff { off_s })?;
    }
    let clock = ReplayClock { now_ms: context.now_ms, started: context.started };
    if let Some(replay) = context.replay.as_deref_mut()
        && replay.is_replay(&stamp.digest, stamp.unix_s, clock)
    {
        return Err(Reject::Replay);
    }
    if let Some(throttle) = context.throttle.as_deref_mut()
        && !throttle.admit(context.users.connections(), context.users.position(user))
    {
        return Err(Reject::Throttled);
    }
    let (users, places) = (context.users, &mut *context.places);
    if users.total_connections() >= places.limit()
        && !places.admit(users.connections(), users.position(user))
    {
        return Err(Reject::Throttled);
    }
    Ok(())
}

fn reject(host: HostId, why: Reject) -> AuthVerdict {
    AuthVerdict::Front { host, why, user: None }
}

/// Number of keys tried per call. 16 HMACs over a hello of 1.8 kB take about 20 µs with SHA
/// instructions and 4 ms on a MIPS CPU at 880 MHz.
pub const KEYS_PER_CHECK: usize = 16;
/// Number of keys tried on a hello that names no host.
const NAMELESS_KEYS: usize = 4 * KEYS_PER_CHECK;

#[cfg(test)]
mod tests;

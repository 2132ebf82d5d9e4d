//! Openings that come back: a router in front of us, or a name that leads to this machine, may
//! bring what we send to a front to our own listener. It would be sent to the front again, without
//! end. A hello is known again by its random. Time is a parameter.
//!
//! An equal hello may also be a replay by a censor, who must see no difference. So a hello only
//! counts as one that has come back if the front does not answer the first one, and if the end of
//! the second one ends the first one. A client can pretend both in front of a slow site, so what
//! its hello has shown holds for a minute only. The random of our own look is known to us alone.
//!
//! Other openings may be equal by chance: while the first has no answer, we look at the front.

use std::hash::{DefaultHasher, Hasher};

use crate::accounts::users::HostId;
use crate::proto::{client_hello, tls};

/// The openings on their way to a front, and the fronts that lead back to us.
#[derive(Default)]
pub struct FrontLoops {
    hellos: Vec<HelloOnTheWay>,
    known: Vec<KnownLoop>,
    /// A front that has to be looked at.
    wanted: Option<HostId>,
    /// When a look was wanted last, in milliseconds.
    wanted_ms: Option<u64>,
}

struct KnownLoop {
    host: HostId,
    /// In milliseconds; `None` = until a reload.
    until_ms: Option<u64>,
}

/// Who sends a hello.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sender {
    /// The session with this id, for a client.
    Session(u64),
    /// Our own look at the front of this host.
    Look(HostId),
}

/// A hello or another opening whose answer has not begun.
struct HelloOnTheWay {
    sender: Sender,
    mark: u64,
    host: HostId,
    is_sent: bool,
    /// When an equal hello was refused, in milliseconds.
    refused_ms: Option<u64>,
}

impl FrontLoops {
    /// An opening is going to be sent to the front of `host`.
    pub fn begin(&mut self, sender: Sender, opening: &[u8], host: HostId) {
        let mark = mark(opening);
        self.hellos.retain(|other| other.sender != sender);
        if self.hellos.len() >= HELLOS_MAX {
            self.hellos.remove(0);
        }
        let hello = HelloOnTheWay { sender, mark, host, is_sent: false, refused_ms: None };
        self.hellos.push(hello);
    }

    /// The hello of `sender` has been sent.
    pub fn sent(&mut self, sender: Sender) {
        for hello in self.hellos.iter_mut().filter(|hello| hello.sender == sender) {
            hello.is_sent = true;
        }
    }

    /// Whether an equal opening was sent to a front that has not answered it yet.
    pub fn comes_back(&self, opening: &[u8]) -> bool {
        self.count(opening) > 0
    }

    /// How many equal openings have no answer yet.
    fn count(&self, opening: &[u8]) -> usize {
        let mark = mark(opening);
        self.hellos.iter().filter(|other| other.is_sent && other.mark == mark).count()
    }

    /// Until when an opening that is not a hello has to wait, in milliseconds, since a look at the
    /// front shows whether it has come back. `has_answered` = the front answered a look before.
    pub fn suspect(
        &mut self,
        opening: &[u8],
        host: HostId,
        has_answered: bool,
        now_ms: u64,
    ) -> Option<u64> {
        let least = if has_answered { EQUAL_MIN } else { 1 };
        if self.count(opening) < least {
            return None;
        }
        if self.wanted_ms.is_none_or(|at| now_ms >= at + LOOKS_APART_MS) {
            (self.wanted, self.wanted_ms) = (Some(host), Some(now_ms));
        }
        self.wanted_ms.map(|at| at + SUSPECT_MS).filter(|until| now_ms < *until)
    }

    /// The front that has to be looked at now.
    pub fn take_wanted(&mut self) -> Option<HostId> {
        self.wanted.take()
    }

    /// A hello that came back is refused.
    pub fn refuse(&mut self, hello: &[u8], now_ms: u64) {
        let mark = mark(hello);
        for other in self.hellos.iter_mut().filter(|other| other.mark == mark) {
            other.refused_ms = Some(now_ms);
        }
    }

    /// The hello of `sender` is answered, or its connection has ended. Without an answer, and soon
    /// after an equal hello was refused, the front leads back to us.
    pub fn end(&mut self, sender: Sender, is_answered: bool, now_ms: u64) {
        let Some(at) = self.hellos.iter().position(|hello| hello.sender == sender) else { return };
        let hello = self.hellos.remove(at);
        let is_soon = hello.refused_ms.is_some_and(|at| now_ms <= at + CONFIRM_MS);
        if is_soon && !is_answered {
            let until_ms = match sender {
                Sender::Session(_) => Some(now_ms + SHOWN_BY_CLIENT_MS),
                Sender::Look(_) => None,
            };
            self.known.retain(|known| known.host != hello.host || known.until_ms.is_none());
            self.known.push(KnownLoop { host: hello.host, until_ms });
        }
    }

    /// Whether the front of `host` leads back to us.
    pub fn leads_back(&self, host: HostId, now_ms: u64) -> bool {
        let holds = |known: &KnownLoop| known.until_ms.is_none_or(|until| now_ms < until);
        self.known.iter().any(|known| known.host == host && holds(known))
    }

    /// Forgets which fronts lead back to us. Returns whether there were any.
    pub fn forget(&mut self) -> bool {
        !std::mem::take(&mut self.known).is_empty()
    }
}

/// What is equal in equal openings: the start of a hello's random, or a hash of the first bytes.
fn mark(opening: &[u8]) -> u64 {
    let hello = opening.starts_with(&[tls::HANDSHAKE]).then(|| client_hello::mark(opening));
    hello.flatten().unwrap_or_else(|| {
        let mut hasher = DefaultHasher::new();
        hasher.write(opening.get(..PREFIX_LEN).unwrap_or(opening));
        hasher.finish()
    })
}

/// How long a hello that may have come back waits for the answer to the first one, in milliseconds.
pub const WAIT_MS: u64 = 2_000;
/// Milliseconds between two looks at the first one.
pub const LOOK_MS: u64 = 20;
/// How long another opening waits for a look at the front, in milliseconds.
const SUSPECT_MS: u64 = WAIT_MS + 1_000;
/// Bytes that are compared of an opening that is not a hello.
const PREFIX_LEN: usize = 64;
/// Equal openings without an answer that are suspicious although the front answers others.
const EQUAL_MIN: usize = 8;
/// Least time between two looks for this reason, in milliseconds.
const LOOKS_APART_MS: u64 = 60_000;
/// Most openings. A flood removes the oldest.
const HELLOS_MAX: usize = 128;
/// How soon the refusal of a hello ends the connection that has brought it, in milliseconds.
const CONFIRM_MS: u64 = 2_000;
/// How long a loop counts that the hello of a client has shown, in milliseconds.
const SHOWN_BY_CLIENT_MS: u64 = 60_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accounts::users::Users;

    /// Milliseconds, soon after all.
    const LATER: u64 = 3_000;

    fn hello(random: u8) -> Vec<u8> {
        [&[tls::HANDSHAKE; 11][..], &[random; 60]].concat()
    }

    fn host() -> HostId {
        Users::default().first_host()
    }

    #[test]
    fn a_hello_that_comes_back_unanswered_and_ends_with_its_copy_is_a_loop() {
        let (mut loops, host) = (FrontLoops::default(), host());
        loops.begin(Sender::Session(1), &hello(7), host);
        assert!(!loops.comes_back(&hello(7)), "it is not sent yet");
        loops.sent(Sender::Session(1));
        assert!(loops.comes_back(&hello(7)) && !loops.comes_back(&hello(8)));
        loops.refuse(&hello(7), 100);
        loops.end(Sender::Session(1), false, 100 + CONFIRM_MS);
        assert!(loops.leads_back(host, LATER) && !loops.comes_back(&hello(7)));
        assert!(loops.forget() && !loops.leads_back(host, LATER) && !loops.forget());
    }

    #[test]
    fn what_a_client_shows_holds_for_a_minute_and_our_own_look_until_a_reload() {
        let (mut loops, host) = (FrontLoops::default(), host());
        for (sender, holds) in [(Sender::Session(1), false), (Sender::Look(host), true)] {
            loops.begin(sender, &hello(7), host);
            loops.sent(sender);
            loops.refuse(&hello(7), 100);
            loops.end(sender, false, 200);
            let end = 200 + SHOWN_BY_CLIENT_MS;
            assert!(loops.leads_back(host, end - 1));
            assert_eq!(loops.leads_back(host, end), holds);
        }
    }

    #[test]
    fn a_replay_beside_a_front_that_answers_or_stays_open_is_none() {
        let (mut loops, host) = (FrontLoops::default(), host());
        for (is_answered, end) in [(true, 100), (false, 101 + CONFIRM_MS)] {
            loops.begin(Sender::Session(1), &hello(7), host);
            loops.sent(Sender::Session(1));
            loops.refuse(&hello(7), 100);
            loops.end(Sender::Session(1), is_answered, end);
            assert!(!loops.leads_back(host, LATER));
        }
        loops.begin(Sender::Session(2), &hello(7), host);
        loops.sent(Sender::Session(2));
        loops.end(Sender::Session(2), false, 100);
        assert!(!loops.leads_back(host, LATER), "nothing came back");
    }

    #[test]
    fn an_equal_request_waits_for_a_look_at_the_front_and_no_longer() {
        let (mut loops, host, request) = (FrontLoops::default(), host(), b"GET / HTTP/1.1\r\n\r\n");
        assert_eq!(loops.suspect(request, host, false, 0), None, "the first one");
        loops.begin(Sender::Session(1), request, host);
        loops.sent(Sender::Session(1));
        assert_eq!(loops.suspect(b"GET /x", host, false, 0), None, "another one");
        assert_eq!(loops.suspect(request, host, true, 0), None, "the front is known to answer");
        assert_eq!(loops.suspect(request, host, false, 10), Some(3_010));
        assert_eq!((loops.take_wanted(), loops.take_wanted()), (Some(host), None));
        assert_eq!(loops.suspect(request, host, false, 3_009), Some(3_010));
        assert_eq!(loops.suspect(request, host, false, 3_010), None, "the look has shown nothing");
        assert_eq!(loops.take_wanted(), None, "once a minute");
        for sender in 2..=EQUAL_MIN as u64 {
            loops.begin(Sender::Session(sender), request, host);
            loops.sent(Sender::Session(sender));
        }
        assert_eq!(loops.suspect(request, host, true, 60_010), Some(63_010));
        loops.end(Sender::Session(1), true, 60_020);
        assert_eq!(loops.suspect(request, host, true, 60_020), None, "one is answered");
    }

    #[test]
    fn a_flood_is_bounded() {
        let (mut loops, host) = (FrontLoops::default(), host());
        for sender in 0..2 * HELLOS_MAX as u64 {
            loops.begin(Sender::Session(sender), &hello(7), host);
        }
        assert_eq!(loops.hellos.len(), HELLOS_MAX);
    }
}

//! Openings that come back: a router in front of us, or a name that leads to this machine, may
//! bring what we send to a front to our own listener. It would be sent to the front again, without
//! end. A hello is known again by its random. Time is a parameter.
//!
//! An equal hello may also be a replay by a censor, who must see no difference. So a hello only
//! counts as one that has come back if the front does not answer the first one, and if the end of
//! the second one ends the first one. A client can pretend both in front of a slow site, so what its
//! hello has shown holds for a minute only. The random of our own look is known to us alone.

use crate::accounts::users::HostId;
use crate::proto::client_hello;

/// The hellos on their way to a front, and the fronts that lead back to us.
#[derive(Default)]
pub struct FrontLoops {
    hellos: Vec<HelloOnTheWay>,
    known: Vec<KnownLoop>,
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

/// A hello whose answer has not begun.
struct HelloOnTheWay {
    sender: Sender,
    mark: u64,
    host: HostId,
    is_sent: bool,
    /// When an equal hello was refused, in milliseconds.
    refused_ms: Option<u64>,
}

impl FrontLoops {
    /// A hello is going to be sent to the front of `host`. Shorter ones are not recorded.
    pub fn begin(&mut self, sender: Sender, hello: &[u8], host: HostId) {
        let Some(mark) = client_hello::mark(hello) else { return };
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

    /// Whether an equal hello was sent to a front that has not answered it yet.
    pub fn comes_back(&self, hello: &[u8]) -> bool {
        let mark = client_hello::mark(hello);
        self.hellos.iter().any(|other| other.is_sent && Some(other.mark) == mark)
    }

    /// A hello that came back is refused.
    pub fn refuse(&mut self, hello: &[u8], now_ms: u64) {
        let mark = client_hello::mark(hello);
        for other in self.hellos.iter_mut().filter(|other| Some(other.mark) == mark) {
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

/// How long a hello that may have come back waits for the answer to the first one, in milliseconds.
pub const WAIT_MS: u64 = 2_000;
/// Milliseconds between two looks at the first one.
pub const LOOK_MS: u64 = 20;
/// Most hellos. A flood removes the oldest.
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

    fn hello(random: u8) -> [u8; 60] {
        [random; 60]
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
    fn a_flood_is_bounded_and_short_openings_have_no_mark() {
        let (mut loops, host) = (FrontLoops::default(), host());
        loops.begin(Sender::Session(0), &[0x16; 18], host);
        assert!(loops.hellos.is_empty());
        for sender in 0..2 * HELLOS_MAX as u64 {
            loops.begin(Sender::Session(sender), &hello(7), host);
        }
        assert_eq!(loops.hellos.len(), HELLOS_MAX);
    }
}

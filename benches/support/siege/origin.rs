//! The DC and the site. Both read everything and answer as the first bytes ask: not at all, with a
//! few bytes, or without an end. Their send buffers are small: real ones fill up on another
//! machine, not on the CPU of the users.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::time::Duration;

use mio::net::TcpStream;
use mio::{Events, Interest, Token};
use slab::Slab;
use socket2::SockRef;

use crate::support::options::Outcome;
use crate::support::{bulk, helper, sockets};

/// The payload that asks the DC for a short answer. Its cipher text is random, so the DC counts.
pub const SHORT: &[u8] = &[0; 1];

/// The payload that asks the DC for an endless download.
pub const ENDLESS: &[u8] = &[0; 2];

/// Bytes of a short answer.
pub const REPLY: usize = 1_024;

/// Bytes before the payload at the DC.
const FRAME: usize = 64;

/// Writes of one turn, of up to 256 KiB each.
const WRITES: usize = 4;

/// Bytes of a socket's send buffer; the kernel doubles it.
const SEND_BUFFER: usize = 256 << 10;

const LISTENER: Token = Token(usize::MAX);

struct Peer {
    stream: TcpStream,
    /// The first bytes.
    seen: Vec<u8>,
    answer: Answer,
    sent: usize,
    /// It is in the queue.
    is_ready: bool,
}

/// The end of a turn.
enum Turn {
    /// The socket is full or the answer complete.
    Full,
    /// More can be sent.
    Unfinished,
    /// The peer has closed.
    Closed,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Answer {
    None,
    Short,
    Endless,
}

/// The role `origin`: the site, or the DC.
pub fn run(is_site: bool) -> Outcome<()> {
    sockets::raise_descriptor_limit()?;
    let (mut poll, listener) = helper::listen(LISTENER)?;

    let pattern = bulk::pattern();
    let judge = if is_site { wanted_of_site } else { wanted_of_dc };
    let mut peers: Slab<Peer> = Slab::new();
    let mut events = Events::with_capacity(256);
    // Peers whose turn ended before their socket was full.
    let mut ready: VecDeque<usize> = VecDeque::new();
    loop {
        let wait = if ready.is_empty() { None } else { Some(Duration::ZERO) };
        poll.poll(&mut events, wait)?;
        for event in &events {
            if event.token() == LISTENER {
                while let Ok((mut stream, _)) = listener.accept() {
                    SockRef::from(&stream).set_send_buffer_size(SEND_BUFFER)?;
                    let slot = peers.vacant_entry();
                    let both = Interest::READABLE | Interest::WRITABLE;
                    poll.registry().register(&mut stream, Token(slot.key()), both)?;
                    slot.insert(Peer {
                        stream,
                        seen: Vec::new(),
                        answer: Answer::None,
                        sent: 0,
                        is_ready: false,
                    });
                }
                continue;
            }
            let key = event.token().0;
            let Some(peer) = peers.get_mut(key) else { continue };
            if !peer.receive(judge) {
                peers.remove(key);
            } else if !peer.is_ready {
                peer.is_ready = true;
                ready.push_back(key);
            }
        }
        for _ in 0..ready.len() {
            let Some(key) = ready.pop_front() else { break };
            let Some(peer) = peers.get_mut(key) else { continue };
            match peer.send(&pattern) {
                Turn::Full => peer.is_ready = false,
                Turn::Unfinished => ready.push_back(key),
                Turn::Closed => drop(peers.remove(key)),
            }
        }
    }
}

fn wanted_of_dc(seen: &[u8]) -> Answer {
    match seen.len().saturating_sub(FRAME) {
        0 => Answer::None,
        count if count < ENDLESS.len() => Answer::Short,
        _ => Answer::Endless,
    }
}

fn wanted_of_site(seen: &[u8]) -> Answer {
    if seen.starts_with(b"GET /endless") {
        Answer::Endless
    } else if seen.starts_with(b"GET ") {
        Answer::Short
    } else {
        Answer::None
    }
}

impl Peer {
    /// Reads everything; `false` = the peer has closed.
    fn receive(&mut self, judge: fn(&[u8]) -> Answer) -> bool {
        let mut scratch = [0; 32 * 1024];
        loop {
            match self.stream.read(&mut scratch) {
                Ok(0) => return false,
                Ok(count) => {
                    let room = (FRAME + ENDLESS.len()).saturating_sub(self.seen.len());
                    self.seen.extend_from_slice(&scratch[..count.min(room)]);
                    self.answer = self.answer.max(judge(&self.seen));
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return error.kind() == ErrorKind::WouldBlock,
            }
        }
    }

    /// Writes for one turn.
    fn send(&mut self, pattern: &[u8]) -> Turn {
        let most = match self.answer {
            Answer::None => 0,
            Answer::Short => REPLY,
            Answer::Endless => usize::MAX,
        };
        for _ in 0..WRITES {
            if self.sent >= most {
                return Turn::Full;
            }
            let from = self.sent % pattern.len();
            let to = pattern.len().min(from.saturating_add(most - self.sent));
            match self.stream.write(&pattern[from..to]) {
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Turn::Full,
                Err(_) => return Turn::Closed,
            }
        }
        Turn::Unfinished
    }
}

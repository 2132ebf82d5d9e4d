//! The DC and the front of the handshake and memory benchmarks: answers each connection once after
//! enough bytes, discards the rest, and closes when its peer does.

use std::io::{ErrorKind, Read, Write};

use mio::net::TcpStream;
use mio::{Events, Interest, Token};
use slab::Slab;

use super::options::Outcome;
use super::{helper, sockets};

const LISTENER: Token = Token(usize::MAX);

struct Peer {
    stream: TcpStream,
    seen: u64,
}

/// The role `answerer`: `reply` bytes after the first `after`. Runs until it is killed.
pub fn run(after: u64, reply: usize) -> Outcome<()> {
    sockets::raise_descriptor_limit()?;
    let (mut poll, listener) = helper::listen(LISTENER)?;

    let answer = vec![0x5a; reply];
    let mut peers: Slab<Peer> = Slab::new();
    let mut events = Events::with_capacity(256);
    let mut scratch = vec![0; 64 * 1024];
    loop {
        poll.poll(&mut events, None)?;
        for event in &events {
            if event.token() == LISTENER {
                while let Ok((mut stream, _)) = listener.accept() {
                    let slot = peers.vacant_entry();
                    let token = Token(slot.key());
                    poll.registry().register(&mut stream, token, Interest::READABLE)?;
                    slot.insert(Peer { stream, seen: 0 });
                }
                continue;
            }
            let key = event.token().0;
            let Some(peer) = peers.get_mut(key) else { continue };
            if !serve(peer, after, &answer, &mut scratch) {
                peers.remove(key);
            }
        }
    }
}

/// Reads everything; `false` = the peer has closed.
fn serve(peer: &mut Peer, after: u64, answer: &[u8], scratch: &mut [u8]) -> bool {
    loop {
        match peer.stream.read(scratch) {
            Ok(0) => return false,
            Ok(count) => {
                let had = peer.seen;
                peer.seen += count as u64;
                // The answer is small and the socket new, so it always fits into the send buffer.
                if had < after && peer.seen >= after && peer.stream.write_all(answer).is_err() {
                    return false;
                }
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return error.kind() == ErrorKind::WouldBlock,
        }
    }
}

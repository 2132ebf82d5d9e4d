//! The plain copy loop that the daemon is compared with: one thread, edge-triggered, one 64 KiB
//! buffer, read and write. It makes no unnecessary call, so the comparison is fair.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown};

use mio::net::TcpStream;
use mio::{Events, Interest, Registry, Token};
use slab::Slab;

use super::helper;
use super::options::Outcome;

const LISTENER: Token = Token(usize::MAX);

const BUFFER: usize = 64 * 1024;

/// One socket of a pair, with its unsent bytes.
struct End {
    stream: TcpStream,
    unsent: Vec<u8>,
    readable: bool,
    /// The peer's FIN was reported: read to the end, because no further edge follows.
    closing: bool,
    ended: bool,
}

/// The role `copy`: relays every connection to the DC on `dc_port`. Runs until it is killed.
pub fn run(dc_port: u16) -> Outcome<()> {
    let (mut poll, listener) = helper::listen(LISTENER)?;

    let mut pairs: Slab<[End; 2]> = Slab::new();
    let mut events = Events::with_capacity(256);
    let mut buffer = vec![0; BUFFER];
    loop {
        poll.poll(&mut events, None)?;
        for event in &events {
            if event.token() == LISTENER {
                while let Ok((client, _)) = listener.accept() {
                    let dc = TcpStream::connect((Ipv4Addr::LOCALHOST, dc_port).into())?;
                    let slot = pairs.vacant_entry();
                    let key = slot.key();
                    slot.insert([
                        End::new(client, poll.registry(), Token(key * 2))?,
                        End::new(dc, poll.registry(), Token(key * 2 + 1))?,
                    ]);
                }
                continue;
            }
            let (key, side) = (event.token().0 / 2, event.token().0 % 2);
            let Some(pair) = pairs.get_mut(key) else { continue };
            pair[side].readable |= event.is_readable();
            pair[side].closing |= event.is_read_closed();
            let [client, dc] = pair;
            let moved = copy(client, dc, &mut buffer).and_then(|()| copy(dc, client, &mut buffer));
            if moved.is_err() || (client.is_done() && dc.is_done()) {
                pairs.remove(key);
            }
        }
    }
}

impl End {
    fn new(mut stream: TcpStream, registry: &Registry, token: Token) -> Outcome<Self> {
        stream.set_nodelay(true)?;
        registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        Ok(Self { stream, unsent: Vec::new(), readable: false, closing: false, ended: false })
    }

    fn is_done(&self) -> bool {
        self.ended && self.unsent.is_empty()
    }

    /// Sends the unsent bytes; `false` = the socket is still full.
    fn flush(&mut self) -> std::io::Result<bool> {
        while !self.unsent.is_empty() {
            match self.stream.write(&self.unsent) {
                Ok(count) => drop(self.unsent.drain(..count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}

/// Copies bytes until `from` is drained or `to` is full.
fn copy(from: &mut End, to: &mut End, buffer: &mut [u8]) -> std::io::Result<()> {
    while to.flush()? && from.readable {
        let count = match from.stream.read(buffer) {
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                from.readable = false;
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        if count == 0 {
            from.ended = true;
            from.readable = false;
            return to.stream.shutdown(Shutdown::Write);
        }
        // A short read means that the socket is drained, which saves one call.
        from.readable = count == buffer.len() || from.closing;
        let sent = match to.stream.write(&buffer[..count]) {
            Ok(sent) => sent,
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            Err(error) => return Err(error),
        };
        to.unsent.extend_from_slice(&buffer[sent..count]);
    }
    Ok(())
}

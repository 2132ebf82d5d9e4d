//! Both ends of a bulk transfer: sends from one buffer, discards without copying, counts. It does
//! as little as possible, because it shares the CPU with the relay under test.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream as StdStream};
use std::os::fd::AsRawFd;

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv};

use super::options::Outcome;
use super::sockets::{self, TIMEOUT};
use super::{faketls, helper};

/// Payload of an uploaded record in bytes, the maximum of TLS.
pub const RECORD_PAYLOAD: u64 = 16384;

/// Bytes of such a record on the wire.
pub const RECORD_WIRE: u64 = RECORD_PAYLOAD + 5;

/// Records in the buffer that senders repeat.
const RECORDS: usize = 16;

/// The most bytes that one call discards. No buffer of this size is touched.
const DISCARD: usize = 1 << 20;

/// The bytes that every sender repeats: complete records for a reader of records, noise for others.
pub fn pattern() -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(0x626f_7865);
    let payload: Vec<u8> = (0..RECORD_PAYLOAD).map(|_| random.u8(..)).collect();
    faketls::record(&payload).repeat(RECORDS)
}

/// The role `bulk`, the DC: accepts `flows` connections, reads the 64-byte frame of each, and then
/// sends `send_each` bytes on each or only discards.
pub fn run_dc(flows: usize, send_each: u64) -> Outcome<()> {
    let (listener, port) = sockets::listen()?;
    helper::report("port", port.into())?;
    let mut streams = Vec::new();
    while streams.len() < flows {
        let (mut stream, _) = listener.accept()?;
        sockets::tune(&stream)?;
        stream.read_exact(&mut [0; 64])?;
        streams.push(stream);
    }
    helper::report("ready", 0)?;
    helper::await_go()?;
    let received = transfer(streams, send_each, &pattern())?;
    helper::report("done", received.iter().sum())
}

struct Flow {
    stream: TcpStream,
    sent: u64,
    received: u64,
    open: bool,
}

/// Sends `send_each` bytes of the repeated `pattern` on each stream, then FIN, and discards
/// received bytes until every peer has closed. If `send_each` is 0 it sends no FIN. Returns the
/// received bytes of each stream.
pub fn transfer(streams: Vec<StdStream>, send_each: u64, pattern: &[u8]) -> Outcome<Vec<u64>> {
    let mut poll = Poll::new()?;
    let mut flows = Vec::new();
    for (index, stream) in streams.into_iter().enumerate() {
        stream.set_nonblocking(true)?;
        let mut stream = TcpStream::from_std(stream);
        let interest = match send_each {
            0 => Interest::READABLE,
            _ => Interest::READABLE | Interest::WRITABLE,
        };
        poll.registry().register(&mut stream, Token(index), interest)?;
        flows.push(Flow { stream, sent: 0, received: 0, open: true });
    }
    let mut scratch = vec![0; DISCARD];
    let mut events = Events::with_capacity(64);
    let mut open = flows.len();
    while open > 0 {
        poll.poll(&mut events, Some(TIMEOUT))?;
        if events.is_empty() {
            return Err(format!("a transfer is stuck with {open} streams open").into());
        }
        for event in &events {
            let Some(flow) = flows.get_mut(event.token().0) else { continue };
            if event.is_writable() {
                flow.send(send_each, pattern)?;
            }
            if flow.open && event.is_readable() {
                flow.discard(&mut scratch)?;
                open -= usize::from(!flow.open);
                if !flow.open && flow.sent < send_each {
                    return Err(format!("closed after {} bytes of {send_each}", flow.sent).into());
                }
            }
        }
    }
    Ok(flows.iter().map(|flow| flow.received).collect())
}

impl Flow {
    /// Writes until the socket is full or everything is sent.
    fn send(&mut self, total: u64, pattern: &[u8]) -> Outcome<()> {
        while self.sent < total {
            let from = (self.sent % pattern.len() as u64) as usize;
            let left = usize::try_from(total - self.sent)?;
            let piece = &pattern[from..][..left.min(pattern.len() - from)];
            match self.stream.write(piece) {
                Ok(count) => self.sent += count as u64,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(format!("sending: {error}").into()),
            }
            if self.sent == total {
                self.stream.shutdown(Shutdown::Write)?;
            }
        }
        Ok(())
    }

    /// Discards received bytes; MSG_TRUNC on TCP frees them without a copy (tcp(7)).
    fn discard(&mut self, scratch: &mut [u8]) -> Outcome<()> {
        loop {
            match recv(self.stream.as_raw_fd(), scratch, MsgFlags::MSG_TRUNC) {
                Ok(0) => {
                    self.open = false;
                    return Ok(());
                }
                Ok(count) => self.received += count as u64,
                Err(Errno::EAGAIN) => return Ok(()),
                Err(error) => return Err(format!("receiving: {error}").into()),
            }
        }
    }
}

//! One end of a TCP connection. Every wait has a limit, and a failure names the peer.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::time::Duration;

use nix::libc::linger;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect, setsockopt, socket, sockopt,
};

use super::TIMEOUT;

/// How the other side ended its direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// FIN.
    Fin,
    /// RST.
    Reset,
}

/// A connected socket, with a name for messages.
pub struct Peer {
    name: &'static str,
    stream: TcpStream,
}

impl Peer {
    /// Connects, or fails the test.
    pub fn connect(name: &'static str, to: SocketAddr) -> Self {
        let stream = TcpStream::connect_timeout(&to, TIMEOUT)
            .unwrap_or_else(|error| panic!("{name} cannot connect to {to}: {error}"));
        Self::new(name, stream)
    }

    /// Connects from the address `from` of this machine, or fails the test.
    pub fn connect_from(name: &'static str, from: Ipv4Addr, to: SocketAddr) -> Self {
        let socket = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None);
        let socket = socket.expect("a socket");
        bind(socket.as_raw_fd(), &SockaddrStorage::from(SocketAddr::from((from, 0))))
            .expect("bind");
        connect(socket.as_raw_fd(), &SockaddrStorage::from(to))
            .unwrap_or_else(|error| panic!("{name} cannot connect from {from}: {error}"));
        Self::new(name, TcpStream::from(socket))
    }

    /// Takes over an accepted socket.
    pub fn new(name: &'static str, stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(TIMEOUT)).expect("a read timeout");
        stream.set_write_timeout(Some(TIMEOUT)).expect("a write timeout");
        stream.set_nodelay(true).expect("no delay");
        Self { name, stream }
    }

    /// Removes the limit of reads, for a peer that only reacts.
    pub fn without_read_timeout(&self) {
        self.stream.set_read_timeout(None).expect("no read timeout");
    }

    /// Removes the limit of writes, for a peer that sends to one that does not read.
    pub fn without_write_timeout(&self) {
        self.stream.set_write_timeout(None).expect("no write timeout");
    }

    /// A second descriptor of the same socket.
    pub fn duplicate(&self) -> Self {
        Self { name: self.name, stream: self.stream.try_clone().expect("another descriptor") }
    }

    /// The socket.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Sets a small receive buffer, so that the other side soon notices a peer that does not read.
    pub fn with_small_receive_buffer(self, bytes: usize) -> Self {
        setsockopt(&self.stream, sockopt::RcvBuf, &bytes).expect("a receive buffer");
        self
    }

    /// Writes all bytes with as few segments as the kernel allows.
    pub fn send(&mut self, bytes: &[u8]) {
        let name = self.name;
        self.try_send(bytes).unwrap_or_else(|error| panic!("{name} cannot send: {error}"));
    }

    /// Writes all bytes, unless the other side has closed.
    pub fn try_send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Receives exactly `count` bytes.
    pub fn recv(&mut self, count: usize) -> Vec<u8> {
        let mut out = vec![0; count];
        let mut got = 0;
        while got < count {
            match self.read(&mut out[got..]) {
                Ok(more) => got += more,
                Err(end) => panic!("{} got {end:?} after {got} of {count} bytes", self.name),
            }
        }
        out
    }

    /// Receives everything until the other side ends, and how it ended.
    pub fn recv_rest(&mut self) -> (Vec<u8>, End) {
        let mut out = Vec::new();
        let mut chunk = vec![0; 65_536];
        loop {
            match self.read(&mut chunk) {
                Ok(count) => out.extend_from_slice(&chunk[..count]),
                Err(end) => return (out, end),
            }
        }
    }

    /// Reads once: at least one byte, or the end. Anything else fails the test.
    pub fn read(&mut self, into: &mut [u8]) -> Result<usize, End> {
        loop {
            return match self.stream.read(into) {
                Ok(0) => Err(End::Fin),
                Ok(count) => Ok(count),
                Err(error) => match error.kind() {
                    ErrorKind::Interrupted => continue,
                    ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => Err(End::Reset),
                    kind => panic!("{} waited {TIMEOUT:?} for bytes: {kind:?}", self.name),
                },
            };
        }
    }

    /// The other side sends nothing, not even an end, for `time`.
    pub fn is_quiet_for(&mut self, time: Duration) -> bool {
        self.stream.set_read_timeout(Some(time)).expect("a read timeout");
        let outcome = self.stream.peek(&mut [0]);
        self.stream.set_read_timeout(Some(TIMEOUT)).expect("a read timeout");
        matches!(outcome, Err(error)
            if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut))
    }

    /// At least one byte arrives within `time`; an end does not count.
    pub fn receives_within(&mut self, time: Duration) -> bool {
        self.stream.set_read_timeout(Some(time)).expect("a read timeout");
        let outcome = self.stream.peek(&mut [0]);
        self.stream.set_read_timeout(Some(TIMEOUT)).expect("a read timeout");
        matches!(outcome, Ok(1..))
    }

    /// Sends FIN; reading goes on.
    pub fn send_fin(&self) {
        // The other side may have reset the connection already.
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Closes with RST.
    pub fn reset(self) {
        let now = linger { l_onoff: 1, l_linger: 0 };
        setsockopt(&self.stream, sockopt::Linger, &now).expect("linger 0");
    }
}

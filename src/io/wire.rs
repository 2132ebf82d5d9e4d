//! The interface between the daemon and the network: traits, which tests implement with faults and
//! virtual time. `io/mio_net.rs` implements them with mio.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::task::Poll;

use crate::io::listen::{AcceptError, ListenAddr};
use crate::io::sockopt::SocketOptions;

/// A stream socket. A call transfers bytes with at most one successful system call.
pub trait Wire {
    /// readv(2) into buffers of at least one byte in total; `Ok(0)` = the peer's FIN.
    ///
    /// # Errors
    /// `WouldBlock` if no byte is pending; any other error means that the connection is broken.
    fn read(&mut self, into: &mut [IoSliceMut<'_>]) -> io::Result<usize>;

    /// writev(2).
    ///
    /// # Errors
    /// `WouldBlock` if the send buffer is full; any other error means that the peer accepts no more
    /// bytes.
    fn write(&mut self, from: &[IoSlice<'_>]) -> io::Result<usize>;

    /// Shuts the sending direction down, which sends a FIN.
    ///
    /// # Errors
    /// The connection is closed already.
    fn shutdown_write(&mut self) -> io::Result<()>;

    /// Makes closing send RST and discard unsent bytes.
    fn reset_on_close(&mut self);

    /// Bytes that the socket occupies in the kernel.
    fn memory(&self) -> u64;

    /// Limits the receive and the send buffer in the kernel to about twice `bytes` each; what they
    /// hold already stays. `None` = the kernel chooses.
    fn limit_buffers(&mut self, bytes: Option<u32>);

    /// Sets options, as far as the kernel takes them.
    fn set_options(&mut self, options: &SocketOptions);

    /// Bytes in the kernel that the peer has not acknowledged, with what the kernel needs to keep
    /// them; `None` = the kernel does not tell.
    fn unacknowledged(&self) -> Option<u32>;

    /// Whether the peer has acknowledged every byte written so far; `false` also if the kernel does
    /// not tell.
    fn is_acknowledged(&self) -> bool {
        self.unacknowledged() == Some(0)
    }

    /// State of a connect that was started; `Pending` = neither connected nor failed.
    ///
    /// # Errors
    /// Why it failed. Reported once: reading `SO_ERROR` clears it, and a second call returns
    /// `Pending`.
    fn poll_connect(&mut self) -> Poll<io::Result<()>>;
}

/// A datagram socket that is connected: it sends to one address and receives from it only.
pub trait DatagramSocket {
    /// send(2).
    ///
    /// # Errors
    /// `WouldBlock` if the send buffer is full. `ConnectionRefused` may belong to an earlier
    /// datagram.
    fn send(&mut self, packet: &[u8]) -> io::Result<usize>;

    /// recv(2); bytes that do not fit are lost.
    ///
    /// # Errors
    /// `WouldBlock` if no datagram is pending.
    fn recv(&mut self, into: &mut [u8]) -> io::Result<usize>;
}

/// A listening socket.
pub trait ListenSocket {
    /// Type of the accepted sockets.
    type Wire: Wire;

    /// Accepts the next connection; `None` = no connection is pending. The peer of a Unix socket
    /// has an unspecified address.
    ///
    /// # Errors
    /// See [`AcceptError`].
    fn accept(&mut self) -> Result<Option<(Self::Wire, SocketAddr)>, AcceptError>;

    /// The requested address with the actual port; unspecified for a Unix socket.
    fn local_addr(&self) -> SocketAddr;

    /// Sets options for all connections accepted later.
    fn set_client_options(&self, options: &SocketOptions);
}

/// The operations of the daemon on the network.
pub trait Net {
    /// Type of its stream sockets.
    type Wire: Wire;
    /// Type of its datagram sockets.
    type Datagram: DatagramSocket;
    /// Type of its listening sockets.
    type Listener: ListenSocket<Wire = Self::Wire>;

    /// Starts to connect and registers the socket with `token`.
    ///
    /// # Errors
    /// The system's immediate error, such as an unreachable network.
    fn dial(
        &mut self,
        to: SocketAddr,
        options: &SocketOptions,
        token: usize,
    ) -> io::Result<Self::Wire>;

    /// Registers an accepted socket for readiness events with `token`.
    ///
    /// # Errors
    /// The poller's error.
    fn register(&mut self, wire: &mut Self::Wire, token: usize) -> io::Result<()>;

    /// Whether an address is loopback or belongs to an interface of this machine.
    fn is_own_address(&mut self, ip: IpAddr) -> bool;

    /// Opens a datagram socket on an unused port that receives from `to` only, and registers it
    /// with `token`.
    ///
    /// # Errors
    /// The system's immediate error, such as an unreachable network.
    fn datagram(&mut self, to: SocketAddr, token: usize) -> io::Result<Self::Datagram>;

    /// Opens a datagram socket for sending to `to` only: it is not registered.
    ///
    /// # Errors
    /// As [`Net::datagram`].
    fn datagram_sender(&mut self, to: SocketAddr) -> io::Result<Self::Datagram>;

    /// Listens, and registers the listener with `token`.
    ///
    /// # Errors
    /// The system's error; its text names the address.
    fn listen(&mut self, endpoint: &ListenAddr, token: usize) -> io::Result<Self::Listener>;

    /// Whether a dial or a datagram socket has found no descriptor since the last call.
    fn has_lacked_files(&mut self) -> bool {
        false
    }

    /// Bytes of memory that the process occupies, and at most that its TCP sockets occupy in the
    /// kernel.
    fn memory_in_use(&mut self) -> (u64, u64);

    /// Microseconds of a monotonic clock, for measurements within a round.
    fn micros(&self) -> u64;
}

//! The interface between the daemon and the network: traits, which tests implement with faults and
//! virtual time, and their implementation with mio.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::task::Poll;
use std::time::Instant;

use mio::net::{TcpStream, UdpSocket};
use mio::{Interest, Registry, Token};

use crate::io::egress::Egress;
use crate::io::ifaces::OwnAddresses;
use crate::io::sockopt::{self, SocketOptions};

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

/// The operations of the daemon on the network.
pub trait Net {
    /// Type of its stream sockets.
    type Wire: Wire;
    /// Type of its datagram sockets.
    type Datagram: DatagramSocket;

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

    /// Microseconds of a monotonic clock, for measurements within a round.
    fn micros(&self) -> u64;
}

/// A TCP socket registered with mio.
#[derive(Debug)]
pub struct MioWire(TcpStream);

impl MioWire {
    /// Wraps an accepted or connecting socket.
    pub fn new(stream: TcpStream) -> Self {
        Self(stream)
    }

    /// Unwraps the socket.
    pub(super) fn into_stream(self) -> TcpStream {
        self.0
    }
}

impl Wire for MioWire {
    fn read(&mut self, into: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        retry(|| self.0.read_vectored(into))
    }

    fn write(&mut self, from: &[IoSlice<'_>]) -> io::Result<usize> {
        match from {
            // send(2) saves copying an iovec array into the kernel.
            [one] => retry(|| self.0.write(one)),
            many => retry(|| self.0.write_vectored(many)),
        }
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        self.0.shutdown(Shutdown::Write)
    }

    fn reset_on_close(&mut self) {
        sockopt::reset_on_close(&self.0);
    }

    fn poll_connect(&mut self) -> Poll<io::Result<()>> {
        match self.0.take_error() {
            Ok(None) => {}
            Ok(Some(e)) | Err(e) => return Poll::Ready(Err(e)),
        }
        match self.0.peer_addr() {
            Ok(_) => Poll::Ready(Ok(())),
            Err(e) if e.kind() == io::ErrorKind::NotConnected => Poll::Pending,
            Err(e) => Poll::Ready(Err(e)),
        }
    }
}

/// A connected UDP socket.
#[derive(Debug)]
pub struct MioDatagram(UdpSocket);

impl DatagramSocket for MioDatagram {
    fn send(&mut self, packet: &[u8]) -> io::Result<usize> {
        retry(|| self.0.send(packet))
    }

    fn recv(&mut self, into: &mut [u8]) -> io::Result<usize> {
        retry(|| self.0.recv(into))
    }
}

/// The network of the operating system.
pub struct MioNet {
    registry: Registry,
    own: OwnAddresses,
    egress: Egress,
    start: Instant,
}

impl MioNet {
    /// Sockets are registered with `registry`. `egress` applies to outgoing ones.
    pub fn new(registry: Registry, egress: Egress) -> Self {
        Self { registry, own: OwnAddresses::default(), egress, start: Instant::now() }
    }

    /// Replaces the egress settings; applies to sockets opened later.
    pub fn set_egress(&mut self, egress: Egress) {
        self.egress = egress;
    }
}

impl Net for MioNet {
    type Wire = MioWire;
    type Datagram = MioDatagram;

    fn dial(
        &mut self,
        to: SocketAddr,
        options: &SocketOptions,
        token: usize,
    ) -> io::Result<MioWire> {
        let mut wire = MioWire(self.egress.dial(to, options)?);
        self.register(&mut wire, token)?;
        Ok(wire)
    }

    fn register(&mut self, wire: &mut MioWire, token: usize) -> io::Result<()> {
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.registry.register(&mut wire.0, Token(token), interest)
    }

    fn is_own_address(&mut self, ip: IpAddr) -> bool {
        ip.to_canonical().is_loopback() || self.own.contains(ip)
    }

    fn datagram(&mut self, to: SocketAddr, token: usize) -> io::Result<MioDatagram> {
        let mut socket = self.egress.udp_socket(to)?;
        self.registry.register(&mut socket, Token(token), Interest::READABLE)?;
        Ok(MioDatagram(socket))
    }

    fn datagram_sender(&mut self, to: SocketAddr) -> io::Result<MioDatagram> {
        self.egress.udp_socket(to).map(MioDatagram)
    }

    fn micros(&self) -> u64 {
        self.start.elapsed().as_micros() as u64
    }
}

fn retry(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match call() {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            outcome => return outcome,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::net::TcpListener;

    use mio::{Events, Poll as Poller};

    use super::*;

    struct SocketPair {
        poll: Poller,
        net: MioNet,
    }

    impl SocketPair {
        fn new() -> Self {
            let poll = Poller::new().unwrap();
            let net = MioNet::new(poll.registry().try_clone().unwrap(), Egress::default());
            Self { poll, net }
        }

        fn dial(&mut self, to: SocketAddr) -> MioWire {
            self.net.dial(to, &SocketOptions::default(), 5).unwrap()
        }

        /// Waits for events until `done` is not `None`.
        fn until<T>(&mut self, mut done: impl FnMut() -> Option<T>) -> T {
            loop {
                if let Some(value) = done() {
                    return value;
                }
                let mut events = Events::with_capacity(4);
                self.poll.poll(&mut events, None).unwrap();
                assert!(events.iter().all(|event| event.token() == Token(5)));
            }
        }

        fn wait_connected(&mut self, wire: &mut MioWire) -> io::Result<()> {
            self.until(|| match wire.poll_connect() {
                Poll::Ready(outcome) => Some(outcome),
                Poll::Pending => None,
            })
        }

        fn read(&mut self, wire: &mut MioWire, room: usize) -> io::Result<Vec<u8>> {
            let mut into = vec![0; room];
            let outcome = self.until(|| match wire.read(&mut [IoSliceMut::new(&mut into)]) {
                Err(e) if e.kind() == ErrorKind::WouldBlock => None,
                outcome => Some(outcome),
            });
            outcome.map(|n| into[..n].to_vec())
        }
    }

    #[test]
    fn a_connect_ends_with_an_event() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut pair = SocketPair::new();
        let mut wire = pair.dial(listener.local_addr().unwrap());
        pair.wait_connected(&mut wire).unwrap();
        let (mut peer, _) = listener.accept().unwrap();

        let slices = [IoSlice::new(b"three "), IoSlice::new(b"short "), IoSlice::new(b"words")];
        assert_eq!(wire.write(&slices).unwrap(), 17);
        assert_eq!(wire.write(&[IoSlice::new(b"!")]).unwrap(), 1);
        wire.shutdown_write().unwrap();
        let mut seen = String::new();
        peer.read_to_string(&mut seen).unwrap();
        assert_eq!(seen, "three short words!");

        // The other half is still open after our FIN.
        peer.write_all(b"answer").unwrap();
        assert_eq!(pair.read(&mut wire, 3).unwrap(), b"ans");
        assert_eq!(pair.read(&mut wire, 99).unwrap(), b"wer");
        drop(peer);
        assert_eq!(pair.read(&mut wire, 99).unwrap(), b"");
    }

    #[test]
    fn a_refused_connect_is_reported() {
        let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut pair = SocketPair::new();
        let mut wire = pair.dial(closed);
        let error = pair.wait_connected(&mut wire).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    }

    #[test]
    fn a_reset_is_an_error_and_not_a_fin() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut pair = SocketPair::new();
        let mut wire = pair.dial(listener.local_addr().unwrap());
        pair.wait_connected(&mut wire).unwrap();
        let (peer, _) = listener.accept().unwrap();
        sockopt::reset_on_close(&peer);
        drop(peer);
        let error = pair.read(&mut wire, 1).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }

    #[test]
    fn a_full_send_buffer_returns_would_block() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut pair = SocketPair::new();
        let mut wire = pair.dial(listener.local_addr().unwrap());
        pair.wait_connected(&mut wire).unwrap();
        let _peer = listener.accept().unwrap();
        let block = vec![0; 1 << 20];
        let error = loop {
            if let Err(e) = wire.write(&[IoSlice::new(&block)]) {
                break e;
            }
        };
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
    }

    #[test]
    fn own_addresses_are_recognised_in_both_notations() {
        let mut net = SocketPair::new().net;
        for own in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
            assert!(net.is_own_address(own.parse().unwrap()), "{own}");
        }
        assert!(!net.is_own_address("203.0.113.77".parse().unwrap()));
    }
}

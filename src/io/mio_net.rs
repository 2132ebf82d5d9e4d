//! The network of the operating system: sockets that are registered with mio.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr};
use std::os::fd::OwnedFd;
use std::task::Poll;
use std::time::Instant;

use mio::net::{TcpStream, UdpSocket};
use mio::{Interest, Registry, Token};

use crate::io::egress::{self, Egress};
use crate::io::ifaces::OwnAddresses;
use crate::io::listen::{AcceptError, ListenAddr, Listener};
use crate::io::rlimit;
use crate::io::sockopt::{self, SocketOptions};
use crate::io::unix_listener::UnixSocketListener;
use crate::io::wire::{DatagramSocket, ListenSocket, Net, Wire};

/// A stream socket. A Unix socket is one too: every call works on the descriptor.
#[derive(Debug)]
pub struct MioWire(TcpStream);

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

    fn memory(&self) -> u64 {
        sockopt::memory(&self.0)
    }

    fn limit_buffers(&mut self, bytes: Option<u32>) {
        sockopt::limit_buffers(&self.0, bytes);
    }

    fn set_options(&mut self, options: &SocketOptions) {
        sockopt::apply(&self.0, options);
    }

    fn unacknowledged(&self) -> Option<u32> {
        sockopt::unacknowledged(&self.0)
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

/// A listening socket of either kind.
pub enum MioListener {
    /// A TCP listener.
    Tcp(Listener),
    /// A Unix socket in the file system.
    Unix(UnixSocketListener),
}

impl ListenSocket for MioListener {
    type Wire = MioWire;

    fn accept(&mut self) -> Result<Option<(MioWire, SocketAddr)>, AcceptError> {
        match self {
            Self::Tcp(listener) => {
                Ok(listener.accept()?.map(|(stream, peer)| (MioWire(stream), peer)))
            }
            Self::Unix(listener) => Ok(listener.accept()?.map(|stream| {
                let stream = std::net::TcpStream::from(OwnedFd::from(stream));
                (MioWire(TcpStream::from_std(stream)), NO_ADDR)
            })),
        }
    }

    fn local_addr(&self) -> SocketAddr {
        match self {
            Self::Tcp(listener) => listener.local_addr(),
            Self::Unix(_) => NO_ADDR,
        }
    }

    fn set_client_options(&self, options: &SocketOptions) {
        match self {
            Self::Tcp(listener) => listener.set_client_options(options),
            Self::Unix(_) => {}
        }
    }
}

/// The network of the operating system.
pub struct MioNet {
    registry: Registry,
    own: OwnAddresses,
    egress: Egress,
    lacks_files: bool,
    memory: (u64, u64),
    start: Instant,
}

impl MioNet {
    /// Sockets are registered with `registry`. `egress` applies to outgoing ones.
    pub fn new(registry: Registry, egress: Egress) -> Self {
        let own = OwnAddresses::default();
        Self { registry, own, egress, lacks_files: false, memory: (0, 0), start: Instant::now() }
    }

    fn note<T>(&mut self, outcome: io::Result<T>) -> io::Result<T> {
        self.lacks_files |= outcome.as_ref().is_err_and(egress::lacks_files);
        outcome
    }

    /// Replaces the egress settings; applies to sockets opened later.
    pub fn set_egress(&mut self, egress: Egress) {
        self.egress = egress;
    }
}

impl Net for MioNet {
    type Wire = MioWire;
    type Datagram = MioDatagram;
    type Listener = MioListener;

    fn dial(
        &mut self,
        to: SocketAddr,
        options: &SocketOptions,
        token: usize,
    ) -> io::Result<MioWire> {
        let outcome = self.egress.dial(to, options);
        let mut wire = MioWire(self.note(outcome)?);
        self.register(&mut wire, token)?;
        Ok(wire)
    }

    fn register(&mut self, wire: &mut MioWire, token: usize) -> io::Result<()> {
        let interest = Interest::READABLE | Interest::WRITABLE | Interest::PRIORITY;
        self.registry.register(&mut wire.0, Token(token), interest)
    }

    fn is_own_address(&mut self, ip: IpAddr) -> bool {
        ip.to_canonical().is_loopback() || self.own.contains(ip)
    }

    fn datagram(&mut self, to: SocketAddr, token: usize) -> io::Result<MioDatagram> {
        let outcome = self.egress.udp_socket(to);
        let mut socket = self.note(outcome)?;
        self.registry.register(&mut socket, Token(token), Interest::READABLE)?;
        Ok(MioDatagram(socket))
    }

    fn datagram_sender(&mut self, to: SocketAddr) -> io::Result<MioDatagram> {
        self.egress.udp_socket(to).map(MioDatagram)
    }

    fn listen(&mut self, endpoint: &ListenAddr, token: usize) -> io::Result<MioListener> {
        let (registry, token, interest) = (&self.registry, Token(token), Interest::READABLE);
        Ok(match endpoint {
            ListenAddr::Tcp(bind) => {
                let mut listener = Listener::bind(*bind)?;
                registry.register(listener.source(), token, interest)?;
                MioListener::Tcp(listener)
            }
            ListenAddr::Unix(path) => {
                let mut listener = UnixSocketListener::bind(path)?;
                registry.register(listener.source(), token, interest)?;
                MioListener::Unix(listener)
            }
        })
    }

    fn has_lacked_files(&mut self) -> bool {
        std::mem::take(&mut self.lacks_files)
    }

    fn memory_in_use(&mut self) -> (u64, u64) {
        self.memory = rlimit::memory_in_use(self.memory);
        self.memory
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

/// The address of a Unix socket.
const NO_ADDR: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

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

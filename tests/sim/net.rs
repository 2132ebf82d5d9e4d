//! The daemon's side of the simulated network: implementations of [`Net`] and [`Wire`].

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::task::Poll;

use mtbox::io::listen::{AcceptError, ListenAddr};
use mtbox::io::sockopt::SocketOptions;
use mtbox::io::wire::{DatagramSocket, ListenSocket, Net, Wire};

use crate::dns;
use crate::link::ConnectState;
use crate::network::SharedNetwork;
use crate::sockets::{DatagramPort, Listening};
use crate::trace::Event;

/// The network as the daemon sees it.
pub struct SimNet(pub SharedNetwork);

/// The daemon's end of a link. Dropping it closes it.
pub struct SimWire {
    network: SharedNetwork,
    id: usize,
}

impl SimWire {
    /// The daemon's end of link `id`.
    pub fn new(network: &SharedNetwork, id: usize) -> Self {
        Self { network: Rc::clone(network), id }
    }
}

/// A datagram socket, by its index. Dropping it closes it.
pub struct SimDatagram {
    network: SharedNetwork,
    at: usize,
}

/// A listener, by its index. Dropping it closes it.
pub struct SimListener {
    network: SharedNetwork,
    at: usize,
    addr: SocketAddr,
}

impl Net for SimNet {
    type Wire = SimWire;
    type Datagram = SimDatagram;
    type Listener = SimListener;

    fn dial(
        &mut self,
        to: SocketAddr,
        _options: &SocketOptions,
        token: usize,
    ) -> io::Result<SimWire> {
        let mut network = self.0.borrow_mut();
        network.actions += 1;
        if to.ip() == dns::FORGED {
            network.violation = Some("an address of a forged answer is dialled".to_owned());
        }
        let bad = network.faults.bad_dials;
        let is_bad = !is_good(to) && network.happens(bad);
        let slow = network.faults.slow_dials_ms;
        let at = network.now + network.rng.u64(0..=slow);
        let state = match (is_bad, network.rng.u32(0..4)) {
            (false, _) => ConnectState::Connecting(at, true),
            (true, 0) => ConnectState::Connecting(at, false),
            (true, 1) => ConnectState::Connecting(u64::MAX, false),
            (true, _) => return Err(io::ErrorKind::NetworkUnreachable.into()),
        };
        let client = network.client_of(token);
        let id = network.add_link(client, Some(to), state);
        network.register(id, token);
        let now = network.now;
        network.trace.push(now, id, Event::Dial(client));
        drop(network);
        Ok(SimWire::new(&self.0, id))
    }

    fn register(&mut self, wire: &mut SimWire, token: usize) -> io::Result<()> {
        self.0.borrow_mut().register(wire.id, token);
        Ok(())
    }

    fn is_own_address(&mut self, ip: IpAddr) -> bool {
        ip.is_loopback()
    }

    fn datagram(&mut self, to: SocketAddr, token: usize) -> io::Result<SimDatagram> {
        Ok(self.open(to, Some(token)))
    }

    fn datagram_sender(&mut self, to: SocketAddr) -> io::Result<SimDatagram> {
        Ok(self.open(to, None))
    }

    fn listen(&mut self, endpoint: &ListenAddr, token: usize) -> io::Result<SimListener> {
        let mut network = self.0.borrow_mut();
        let is_same = |one: &Listening| !one.closed && one.endpoint == *endpoint;
        if network.listeners.iter().any(is_same) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        let listener = Listening::new(endpoint.clone(), token);
        let addr = listener.addr().unwrap_or(NO_ADDR);
        network.listeners.push(listener);
        Ok(SimListener { network: Rc::clone(&self.0), at: network.listeners.len() - 1, addr })
    }

    fn memory_in_use(&mut self) -> (u64, u64) {
        (0, 0)
    }

    fn micros(&self) -> u64 {
        self.0.borrow_mut().micros()
    }
}

impl SimNet {
    fn open(&mut self, to: SocketAddr, token: Option<usize>) -> SimDatagram {
        let mut network = self.0.borrow_mut();
        let now = network.now;
        network.datagrams.push(DatagramPort::new(to, token, now));
        SimDatagram { network: Rc::clone(&self.0), at: network.datagrams.len() - 1 }
    }
}

impl DatagramSocket for SimDatagram {
    fn send(&mut self, packet: &[u8]) -> io::Result<usize> {
        self.network.borrow_mut().send(self.at, packet)
    }

    fn recv(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.network.borrow_mut().receive(self.at, into)
    }
}

impl Drop for SimDatagram {
    fn drop(&mut self) {
        self.network.borrow_mut().datagrams[self.at].closed = true;
    }
}

impl ListenSocket for SimListener {
    type Wire = SimWire;

    fn accept(&mut self) -> Result<Option<(SimWire, SocketAddr)>, AcceptError> {
        let accepted = self.network.borrow_mut().accept(self.at)?;
        Ok(accepted.map(|(id, from)| (SimWire::new(&self.network, id), from)))
    }

    fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    fn set_client_options(&self, _options: &SocketOptions) {}
}

impl Drop for SimListener {
    fn drop(&mut self) {
        self.network.borrow_mut().close_listener(self.at);
    }
}

impl Wire for SimWire {
    fn read(&mut self, into: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.network.borrow_mut().read(self.id, into)
    }

    fn write(&mut self, from: &[IoSlice<'_>]) -> io::Result<usize> {
        self.network.borrow_mut().write(self.id, from)
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        self.network.borrow_mut().shutdown_write(self.id)
    }

    fn reset_on_close(&mut self) {
        self.network.borrow_mut().reset_on_close(self.id);
    }

    fn memory(&self) -> u64 {
        0
    }

    fn limit_buffers(&mut self, _bytes: Option<u32>) {}

    fn set_options(&mut self, _options: &SocketOptions) {}

    fn unacknowledged(&self) -> Option<u32> {
        Some(self.network.borrow().unacknowledged(self.id))
    }

    fn poll_connect(&mut self) -> Poll<io::Result<()>> {
        self.network.borrow_mut().poll_connect(self.id)
    }
}

impl Drop for SimWire {
    fn drop(&mut self) {
        self.network.borrow_mut().close(self.id);
    }
}

/// One address of each destination is always reachable, so that honest sessions can succeed.
fn is_good(addr: SocketAddr) -> bool {
    matches!(addr.ip(), IpAddr::V4(v4) if v4.octets()[3] == 1)
}

/// The address of a Unix socket.
const NO_ADDR: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

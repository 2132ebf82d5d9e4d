//! The seam between the daemon and the network: traits that tests implement with faults and
//! virtual time, and their implementation over mio.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr};

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use super::ifaces::OwnAddresses;
use super::sockopt::{self, SocketOptions};

/// One stream socket. Every call does at most one system call that moves bytes.
pub trait Wire {
    /// readv(2); `Ok(0)` = the peer's FIN.
    ///
    /// # Errors
    /// `WouldBlock` when drained; anything else means that the connection is broken.
    fn read(&mut self, into: &mut [IoSliceMut<'_>]) -> io::Result<usize>;

    /// writev(2).
    ///
    /// # Errors
    /// `WouldBlock` when full; anything else means that the peer takes nothing any more.
    fn write(&mut self, from: &[IoSlice<'_>]) -> io::Result<usize>;

    /// Sends our FIN.
    ///
    /// # Errors
    /// When the connection is gone already.
    fn shut(&mut self) -> io::Result<()>;

    /// Closing will send RST and drop what is unsent.
    fn reset_on_close(&mut self);

    /// Of a connect that was started: `true` = connected, `false` = still on the way.
    ///
    /// # Errors
    /// Why it failed.
    fn outcome(&mut self) -> io::Result<bool>;
}

/// The network as the daemon sees it.
pub trait Net {
    /// Its sockets.
    type Wire: Wire;

    /// Starts to connect. Events come with `token`.
    ///
    /// # Errors
    /// What the system says at once, such as an unreachable network.
    fn dial(
        &mut self,
        to: SocketAddr,
        options: &SocketOptions,
        token: usize,
    ) -> io::Result<Self::Wire>;

    /// Events of an accepted socket come with `token` from now on.
    ///
    /// # Errors
    /// When the poller refuses it.
    fn adopt(&mut self, wire: &mut Self::Wire, token: usize) -> io::Result<()>;

    /// Whether an address is loopback or stands on one of our interfaces.
    fn is_own_address(&mut self, ip: IpAddr) -> bool;
}

/// A TCP socket registered with mio.
#[derive(Debug)]
pub struct MioWire(TcpStream);

impl MioWire {
    /// Wraps an accepted or connecting socket.
    pub fn new(stream: TcpStream) -> Self {
        Self(stream)
    }

    /// The socket itself.
    pub fn into_stream(self) -> TcpStream {
        self.0
    }

    /// Sets the options of a relayed socket, best effort.
    pub fn apply(&self, options: &SocketOptions) {
        sockopt::apply(&self.0, options);
    }
}

impl Wire for MioWire {
    fn read(&mut self, into: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        retry(|| self.0.read_vectored(into))
    }

    fn write(&mut self, from: &[IoSlice<'_>]) -> io::Result<usize> {
        retry(|| self.0.write_vectored(from))
    }

    fn shut(&mut self) -> io::Result<()> {
        self.0.shutdown(Shutdown::Write)
    }

    fn reset_on_close(&mut self) {
        sockopt::reset_on_close(&self.0);
    }

    fn outcome(&mut self) -> io::Result<bool> {
        if let Some(error) = self.0.take_error()? {
            return Err(error);
        }
        match self.0.peer_addr() {
            Ok(_) => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::NotConnected => Ok(false),
            Err(e) => Err(e),
        }
    }
}

/// The real network.
pub struct MioNet {
    registry: Registry,
    own: OwnAddresses,
}

impl MioNet {
    /// Sockets are registered here.
    pub fn new(registry: Registry) -> Self {
        Self { registry, own: OwnAddresses::default() }
    }
}

impl Net for MioNet {
    type Wire = MioWire;

    fn dial(
        &mut self,
        to: SocketAddr,
        options: &SocketOptions,
        token: usize,
    ) -> io::Result<MioWire> {
        let mut wire = MioWire(TcpStream::connect(to)?);
        wire.apply(options);
        self.adopt(&mut wire, token)?;
        Ok(wire)
    }

    fn adopt(&mut self, wire: &mut MioWire, token: usize) -> io::Result<()> {
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.registry.register(&mut wire.0, Token(token), interest)
    }

    fn is_own_address(&mut self, ip: IpAddr) -> bool {
        ip.is_loopback() || self.own.contains(ip)
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

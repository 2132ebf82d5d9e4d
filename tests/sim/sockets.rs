//! Listeners and datagram sockets of the daemon, as its kernel keeps them.

use std::collections::VecDeque;
use std::net::SocketAddr;

use mtbox::io::listen::ListenAddr;

/// A listening socket of the daemon.
pub struct Listening {
    /// Where it listens.
    pub endpoint: ListenAddr,
    /// The token of its events.
    pub token: usize,
    /// Links that wait for accept(2), and the addresses of their clients.
    pub backlog: VecDeque<(usize, SocketAddr)>,
    /// The next poll reports an event.
    pub edge_pending: bool,
    /// The daemon has closed it.
    pub closed: bool,
}

/// A connected datagram socket of the daemon.
pub struct DatagramPort {
    /// The server that it is connected to.
    pub to: SocketAddr,
    /// The token of its events; `None` = for sending only.
    pub token: Option<usize>,
    /// Datagrams that the daemon has sent and no server has taken yet.
    pub sent: VecDeque<Vec<u8>>,
    /// Datagrams for the daemon, and when they arrive.
    pub in_flight: Vec<(u64, Vec<u8>)>,
    /// Datagrams that have arrived.
    pub arrived: VecDeque<Vec<u8>>,
    /// The next poll reports an event.
    pub edge_pending: bool,
    /// The daemon has closed it.
    pub closed: bool,
    /// When it was opened.
    pub opened_at: u64,
}

/// Whether this is a listener of the admin pages.
pub fn is_admin(endpoint: &ListenAddr) -> bool {
    match endpoint {
        ListenAddr::Tcp(bind) => bind.addr.port() >= ADMIN_PORT,
        ListenAddr::Unix(_) => true,
    }
}

/// The lowest port of the admin pages.
pub const ADMIN_PORT: u16 = 9_000;

impl Listening {
    /// A listener without connections.
    pub fn new(endpoint: ListenAddr, token: usize) -> Self {
        let (backlog, edge_pending, closed) = (VecDeque::new(), false, false);
        Self { endpoint, token, backlog, edge_pending, closed }
    }

    /// The TCP address; `None` for a Unix socket.
    pub fn addr(&self) -> Option<SocketAddr> {
        match &self.endpoint {
            ListenAddr::Tcp(bind) => Some(bind.addr),
            ListenAddr::Unix(_) => None,
        }
    }
}

impl DatagramPort {
    /// A socket without datagrams.
    pub fn new(to: SocketAddr, token: Option<usize>, opened_at: u64) -> Self {
        let (sent, in_flight, arrived) = (VecDeque::new(), Vec::new(), VecDeque::new());
        let (edge_pending, closed) = (false, false);
        Self { to, token, sent, in_flight, arrived, edge_pending, closed, opened_at }
    }

    /// When the next datagram arrives.
    pub fn due(&self) -> Option<u64> {
        self.in_flight.iter().map(|(at, _)| *at).min().filter(|_| !self.closed)
    }

    /// Lets datagrams arrive; `true` = one did.
    pub fn arrive(&mut self, now: u64) -> bool {
        let before = self.arrived.len();
        let (arrived, later) = std::mem::take(&mut self.in_flight)
            .into_iter()
            .partition::<Vec<_>, _>(|(at, _)| *at <= now);
        self.in_flight = later;
        self.arrived.extend(arrived.into_iter().map(|(_, packet)| packet));
        let any = self.arrived.len() > before;
        self.edge_pending |= any;
        any
    }
}

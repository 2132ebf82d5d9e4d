//! The web site behind the proxy's name, as a recorder: it notes what its first read returns, since
//! a prober's bytes must reach it in one piece.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use super::PATIENCE;
use super::peer::Peer;

/// The listener.
pub struct Origin {
    /// Where it listens.
    pub addr: SocketAddr,
    visits: Receiver<Visit>,
    knocks: Arc<AtomicUsize>,
}

/// One connection that has said something, or ended.
pub struct Visit {
    /// What the first read returned; empty when the visitor closed without a word.
    pub first: Vec<u8>,
    /// The connection.
    pub peer: Peer,
}

impl Origin {
    /// Listens on 127.0.0.1.
    pub fn listen() -> Self {
        Self::listen_on(Ipv4Addr::LOCALHOST.into())
    }

    /// Listens on this address.
    pub fn listen_on(ip: IpAddr) -> Self {
        let listener = TcpListener::bind((ip, 0)).expect("a port");
        let addr = listener.local_addr().expect("an address");
        let (sender, visits) = channel();
        let knocks = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&knocks);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                count.fetch_add(1, Ordering::SeqCst);
                let sender = sender.clone();
                thread::spawn(move || {
                    let mut peer = Peer::new("origin", stream);
                    let mut first = vec![0; 262_144];
                    let count = peer.read(&mut first).unwrap_or(0);
                    first.truncate(count);
                    // The scenario may be over; then nobody wants the visit.
                    let _ = sender.send(Visit { first, peer });
                });
            }
        });
        Self { addr, visits, knocks }
    }

    /// The next visit.
    pub fn visit(&self) -> Visit {
        self.visits.recv_timeout(PATIENCE).expect("a visit at the origin")
    }

    /// The next visit, if one comes within `time`.
    pub fn visit_within(&self, time: Duration) -> Option<Visit> {
        self.visits.recv_timeout(time).ok()
    }

    /// How many connections were made, silent ones included.
    pub fn knocks(&self) -> usize {
        self.knocks.load(Ordering::SeqCst)
    }
}

//! The front as a recorder: it keeps what its first read returns, because the bytes of a probe must
//! reach it in one piece.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use super::TIMEOUT;
use super::peer::Peer;

/// The listener.
pub struct Front {
    /// Where it listens.
    pub addr: SocketAddr,
    accepted: Receiver<FrontConn>,
    connected: Arc<AtomicUsize>,
}

/// A connection that has sent bytes or ended.
pub struct FrontConn {
    /// The bytes of the first read; empty if the connection ended without a byte.
    pub first: Vec<u8>,
    /// The connection.
    pub peer: Peer,
}

impl Front {
    /// Listens on 127.0.0.1.
    pub fn listen() -> Self {
        Self::listen_on(Ipv4Addr::LOCALHOST.into())
    }

    /// Listens on this address.
    pub fn listen_on(ip: IpAddr) -> Self {
        let listener = TcpListener::bind((ip, 0)).expect("a port");
        let addr = listener.local_addr().expect("an address");
        let (sender, accepted) = channel();
        let connected = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connected);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                count.fetch_add(1, Ordering::SeqCst);
                let sender = sender.clone();
                thread::spawn(move || {
                    let mut peer = Peer::new("front", stream);
                    let mut first = vec![0; 262_144];
                    let count = peer.read(&mut first).unwrap_or(0);
                    first.truncate(count);
                    // The receiver is gone when the test has ended.
                    let _ = sender.send(FrontConn { first, peer });
                });
            }
        });
        Self { addr, accepted, connected }
    }

    /// The next connection.
    pub fn accept(&self) -> FrontConn {
        self.accepted.recv_timeout(TIMEOUT).expect("a connection at the front")
    }

    /// The next connection, if there is one within `time`.
    pub fn accept_within(&self, time: Duration) -> Option<FrontConn> {
        self.accepted.recv_timeout(time).ok()
    }

    /// Number of connections so far, silent ones included.
    pub fn connections(&self) -> usize {
        self.connected.load(Ordering::SeqCst)
    }
}

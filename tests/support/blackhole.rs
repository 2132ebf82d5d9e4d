//! An address that never answers: a listener whose backlog is full drops every further SYN.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrIn, bind, getsockname, listen, socket,
};

/// The listener; its backlog stays full until it is dropped.
pub struct BlackHole {
    /// An address where a connect never ends.
    pub addr: SocketAddr,
    _listener: OwnedFd,
    _fill: Vec<TcpStream>,
}

impl BlackHole {
    /// Opens the listener and fills its backlog.
    pub fn open() -> Self {
        let none = SockFlag::SOCK_CLOEXEC;
        let listener = socket(AddressFamily::Inet, SockType::Stream, none, None).expect("a socket");
        bind(listener.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, 0)).expect("an address");
        listen(&listener, Backlog::new(1).expect("a small backlog")).expect("a listener");
        let name: SockaddrIn = getsockname(listener.as_raw_fd()).expect("its name");
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, name.port()));
        let mut fill = Vec::new();
        while let Ok(stream) = TcpStream::connect_timeout(&addr, Duration::from_millis(300)) {
            fill.push(stream);
        }
        Self { addr, _listener: listener, _fill: fill }
    }
}

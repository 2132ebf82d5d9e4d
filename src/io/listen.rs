//! Listening sockets: which family an address means, and what an accept can say.

use std::io;
use std::net::{Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};

use mio::net::TcpListener;
use mio::{Interest, Registry, Token};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, listen, setsockopt, socket,
    sockopt,
};

use super::wire::MioWire;

/// A listening socket.
pub struct Listener {
    inner: TcpListener,
    addr: SocketAddr,
}

/// What an accept says when it brings nobody.
#[derive(Debug)]
pub enum AcceptTrouble {
    /// This one is gone; the next may be there.
    Transient,
    /// The system is out of descriptors or memory: pause.
    Exhausted(io::Error),
    /// The listener itself is broken.
    Broken(io::Error),
}

/// Binds all addresses or none.
///
/// An unspecified address alone on its port, `0.0.0.0:P` or `[::]:P`, takes both families where
/// the kernel has IPv6, as the reference does. When both are given, each takes its own.
///
/// # Errors
/// The system's error, with the address in its text.
pub fn bind_all(addrs: &[SocketAddr]) -> io::Result<Vec<Listener>> {
    addrs.iter().map(|addr| bind_one(*addr, addrs)).collect()
}

fn bind_one(addr: SocketAddr, all: &[SocketAddr]) -> io::Result<Listener> {
    let any_of = |v4: bool| {
        all.iter().any(|a| a.port() == addr.port() && a.ip().is_unspecified() && a.is_ipv4() == v4)
    };
    let dual = addr.ip().is_unspecified() && !(any_of(true) && any_of(false));
    let both = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), addr.port());
    let inner = if dual {
        open(both, false).or_else(|e| if addr.is_ipv4() { open(addr, true) } else { Err(e) })
    } else {
        open(addr, true)
    };
    let inner = inner.map_err(|errno| {
        let error = io::Error::from(errno);
        let hint = match errno {
            Errno::EACCES => "; ports below 1024 need root or CAP_NET_BIND_SERVICE",
            Errno::EADDRINUSE => "; another program listens there",
            Errno::EADDRNOTAVAIL => "; this machine has no such address",
            _ => "",
        };
        io::Error::new(error.kind(), format!("cannot listen on {addr}: {error}{hint}"))
    })?;
    let port = inner.local_addr()?.port();
    Ok(Listener { inner, addr: SocketAddr::new(addr.ip(), port) })
}

fn open(addr: SocketAddr, only_v6: bool) -> Result<TcpListener, Errno> {
    let family = if addr.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let fd: OwnedFd = socket(family, SockType::Stream, flags, None)?;
    setsockopt(&fd, sockopt::ReuseAddr, &true)?;
    if addr.is_ipv6() {
        setsockopt(&fd, sockopt::Ipv6V6Only, &only_v6)?;
    }
    bind(fd.as_raw_fd(), &SockaddrStorage::from(addr))?;
    // The kernel clips it to net.core.somaxconn.
    listen(&fd, Backlog::new(BACKLOG).unwrap_or(Backlog::MAXCONN))?;
    Ok(TcpListener::from_std(fd.into()))
}

impl Listener {
    /// The address as it was asked for, with the port that it has.
    pub fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    /// Events come with `token`.
    ///
    /// # Errors
    /// When the poller refuses it.
    pub fn register(&mut self, registry: &Registry, token: usize) -> io::Result<()> {
        registry.register(&mut self.inner, Token(token), Interest::READABLE)
    }

    /// The next connection; `None` = nobody waits.
    ///
    /// # Errors
    /// See [`AcceptTrouble`].
    pub fn accept(&mut self) -> Result<Option<(MioWire, SocketAddr)>, AcceptTrouble> {
        match self.inner.accept() {
            Ok((stream, peer)) => {
                let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
                Ok(Some((MioWire::new(stream), peer)))
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(e) => Err(judge(e)),
        }
    }
}

/// accept(2), "Error handling": network errors of the connection itself are passed on and mean
/// "try the next".
fn judge(error: io::Error) -> AcceptTrouble {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EMFILE | Errno::ENFILE | Errno::ENOBUFS | Errno::ENOMEM) => {
            AcceptTrouble::Exhausted(error)
        }
        Some(Errno::EBADF | Errno::EINVAL | Errno::ENOTSOCK | Errno::EFAULT) => {
            AcceptTrouble::Broken(error)
        }
        _ => AcceptTrouble::Transient,
    }
}

const BACKLOG: i32 = 4096;

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    fn knock(listener: &mut Listener, addr: &str) -> SocketAddr {
        let client = TcpStream::connect((addr, listener.local_addr().port())).unwrap();
        loop {
            if let Some((_, peer)) = listener.accept().unwrap() {
                assert_eq!(peer.port(), client.local_addr().unwrap().port());
                return peer;
            }
        }
    }

    #[test]
    fn an_unspecified_address_alone_takes_both_families() {
        let mut all = bind_all(&["0.0.0.0:0".parse().unwrap()]).unwrap();
        assert!(knock(&mut all[0], "127.0.0.1").is_ipv4());
        assert_eq!(all[0].local_addr().ip().to_string(), "0.0.0.0");
        if TcpStream::connect("[::1]:1")
            .is_err_and(|e| e.kind() == io::ErrorKind::ConnectionRefused)
        {
            assert!(knock(&mut all[0], "::1").is_ipv6());
        }
    }

    #[test]
    fn both_unspecified_addresses_share_a_port() {
        let port = bind_all(&["0.0.0.0:0".parse().unwrap()]).unwrap()[0].local_addr().port();
        let addrs = [format!("0.0.0.0:{port}"), format!("[::]:{port}")];
        let addrs: Vec<SocketAddr> = addrs.iter().map(|a| a.parse().unwrap()).collect();
        let mut all = bind_all(&addrs).unwrap();
        assert!(knock(&mut all[0], "127.0.0.1").is_ipv4());
    }

    #[test]
    fn a_taken_address_is_named_in_the_error() {
        let first = bind_all(&["127.0.0.1:0".parse().unwrap()]).unwrap();
        let addr = first[0].local_addr();
        let error = bind_all(&[addr]).err().unwrap().to_string();
        assert!(error.contains(&addr.to_string()) && error.contains("another program"), "{error}");
    }

    #[test]
    fn running_out_of_descriptors_is_no_broken_listener() {
        let of = |errno: Errno| judge(io::Error::from(errno));
        assert!(matches!(of(Errno::EMFILE), AcceptTrouble::Exhausted(_)));
        assert!(matches!(of(Errno::ENOBUFS), AcceptTrouble::Exhausted(_)));
        assert!(matches!(of(Errno::ECONNABORTED), AcceptTrouble::Transient));
        assert!(matches!(of(Errno::EBADF), AcceptTrouble::Broken(_)));
    }
}

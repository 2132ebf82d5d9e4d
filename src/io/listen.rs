//! Listening sockets: address families, and the results of accept(2).
//!
//! Every connection is accepted here; the caller applies lists and limits.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::path::PathBuf;

use mio::net::{TcpListener, TcpStream};
use nix::errno::Errno;
use nix::sys::socket::{Backlog, SockaddrStorage, bind, listen, setsockopt, sockopt};

use crate::io::sockopt::{SocketOptions, apply, new_stream};

/// A listening TCP socket.
pub struct Listener {
    inner: TcpListener,
    addr: SocketAddr,
}

/// Options of a listener.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ListenOptions {
    /// `TCP_MAXSEG`: the maximum segment size, in bytes, that is announced to clients.
    pub max_segment: Option<u16>,
    /// Multipath TCP, if the kernel supports it.
    pub multipath: bool,
    /// `SO_REUSEPORT`: the kernel distributes connections among the processes that listen on the
    /// address.
    pub reuse_port: bool,
}

/// Why accept(2) returned no connection.
#[derive(Debug)]
pub enum AcceptError {
    /// The pending connection failed; the next one may succeed.
    Transient,
    /// The system has no free descriptor or memory: pause.
    Exhausted(io::Error),
    /// The listener itself does not work.
    Broken(io::Error),
}

/// An address to listen on, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bind {
    /// The address, never an IPv4-mapped one.
    pub addr: SocketAddr,
    /// The address is unspecified and accepts IPv4 and IPv6.
    pub dual_stack: bool,
    /// Options of the listener.
    pub options: ListenOptions,
}

impl Bind {
    /// The only address with its port: if it is unspecified, it accepts both families.
    pub fn new(addr: SocketAddr, options: ListenOptions) -> Self {
        let addr = unmapped(addr);
        Self { addr, dual_stack: addr.ip().is_unspecified(), options }
    }
}

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenAddr {
    /// A TCP address.
    Tcp(Bind),
    /// A Unix socket, by its path.
    Unix(PathBuf),
}

/// Decides for each address whether it accepts both families.
///
/// An unspecified address, `0.0.0.0:P` or `[::]:P`, accepts both families as in mtg-multi
/// (COMPATIBILITY 5.1), unless the list has an address of the other family with the same port: then
/// each accepts its own family. A kernel without IPv6 serves IPv4 only.
pub fn plan(addrs: &[SocketAddr], options: ListenOptions) -> Vec<Bind> {
    let mut binds: Vec<Bind> = addrs.iter().map(|addr| Bind::new(*addr, options)).collect();
    for at in 0..binds.len() {
        let Bind { addr, dual_stack, .. } = binds[at];
        let conflicts = |other: &Bind| {
            other.addr.port() == addr.port() && other.addr.is_ipv4() != addr.is_ipv4()
        };
        binds[at].dual_stack = dual_stack && !binds.iter().any(conflicts);
    }
    binds
}

/// Binds all addresses as [`plan`] decides, or none.
///
/// # Errors
/// The system's error; its text names the address.
pub fn bind_all(addrs: &[SocketAddr], options: ListenOptions) -> io::Result<Vec<Listener>> {
    plan(addrs, options).into_iter().map(Listener::bind).collect()
}

/// Opens one socket for both families. Falls back to IPv4 only if the kernel lacks IPv6: any other
/// error, such as a port in use in one family, must be reported.
fn open_both(port: u16, options: ListenOptions) -> Result<TcpListener, Errno> {
    match open(SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port), false, options) {
        Err(Errno::EAFNOSUPPORT | Errno::EPROTONOSUPPORT | Errno::EADDRNOTAVAIL) => {
            open(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port), true, options)
        }
        outcome => outcome,
    }
}

fn open(addr: SocketAddr, only_v6: bool, options: ListenOptions) -> Result<TcpListener, Errno> {
    let mut fd = new_stream(addr, options.multipath)?;
    if let Some(bytes) = options.max_segment {
        let bytes = u32::from(bytes);
        if setsockopt(&fd, sockopt::TcpMaxSeg, &bytes).is_err() && options.multipath {
            // Not every kernel supports both options; the segment size matters more.
            fd = new_stream(addr, false)?;
            setsockopt(&fd, sockopt::TcpMaxSeg, &bytes)?;
        }
    }
    setsockopt(&fd, sockopt::ReuseAddr, &true)?;
    if options.reuse_port {
        setsockopt(&fd, sockopt::ReusePort, &true)?;
    }
    if addr.is_ipv6() {
        setsockopt(&fd, sockopt::Ipv6V6Only, &only_v6)?;
    }
    bind(fd.as_raw_fd(), &SockaddrStorage::from(addr))?;
    // The kernel limits it to net.core.somaxconn.
    listen(&fd, Backlog::new(BACKLOG).unwrap_or(Backlog::MAXCONN))?;
    Ok(TcpListener::from_std(fd.into()))
}

/// Converts an IPv4-mapped IPv6 address to IPv4. Other addresses keep their scope id.
fn unmapped(addr: SocketAddr) -> SocketAddr {
    match addr.ip().to_canonical() {
        IpAddr::V4(ip) => SocketAddr::new(ip.into(), addr.port()),
        IpAddr::V6(_) => addr,
    }
}

impl Listener {
    /// Opens a listening socket.
    ///
    /// # Errors
    /// The system's error; its text names the address.
    pub fn bind(spec: Bind) -> io::Result<Self> {
        let Bind { mut addr, dual_stack, options } = spec;
        let inner =
            if dual_stack { open_both(addr.port(), options) } else { open(addr, true, options) };
        let inner = inner.map_err(|errno| {
            let error = io::Error::from(errno);
            let hint = match errno {
                Errno::EACCES => "; ports below 1024 need root or CAP_NET_BIND_SERVICE",
                Errno::EADDRINUSE if options.reuse_port => {
                    "; another program listens there, without reuse-port or as another user"
                }
                Errno::EADDRINUSE => "; another program listens there",
                Errno::EADDRNOTAVAIL => "; this machine has no such address",
                Errno::EAFNOSUPPORT => "; this machine has no IPv6",
                _ => "",
            };
            let kind = match errno {
                Errno::EAFNOSUPPORT => io::ErrorKind::AddrNotAvailable,
                _ => error.kind(),
            };
            io::Error::new(kind, format!("cannot listen on {addr}: {error}{hint}"))
        })?;
        addr.set_port(inner.local_addr()?.port());
        Ok(Self { inner, addr })
    }

    /// The requested address with the actual port.
    pub fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    /// Sets options for all connections accepted later: on Linux they inherit those of the
    /// listener.
    pub fn set_client_options(&self, options: &SocketOptions) {
        apply(&self.inner, options);
    }

    /// Makes the next accept fail.
    #[cfg(test)]
    pub fn stop_listening(&self) {
        nix::sys::socket::shutdown(self.inner.as_raw_fd(), nix::sys::socket::Shutdown::Read)
            .unwrap();
    }

    /// The socket, for a poller.
    pub(super) fn source(&mut self) -> &mut TcpListener {
        &mut self.inner
    }

    /// Accepts the next connection; `None` = no connection is pending.
    ///
    /// # Errors
    /// See [`AcceptError`].
    pub fn accept(&mut self) -> Result<Option<(TcpStream, SocketAddr)>, AcceptError> {
        match self.inner.accept() {
            Ok((stream, peer)) => Ok(Some((stream, unmapped(peer)))),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(e) => Err(accept_error(e)),
        }
    }
}

/// Classifies an error of accept(2). Network errors of the pending connection mean "try the next"
/// (accept(2), Error handling). An error that is not known to remove a connection from the queue
/// counts as broken, so that the caller pauses: a permanent refusal, for example by a security
/// module, would otherwise make the loop spin.
pub(super) fn accept_error(error: io::Error) -> AcceptError {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EMFILE | Errno::ENFILE | Errno::ENOBUFS | Errno::ENOMEM) => {
            AcceptError::Exhausted(error)
        }
        Some(
            Errno::ECONNABORTED
            | Errno::ECONNRESET
            | Errno::EINTR
            | Errno::EPROTO
            | Errno::ENOPROTOOPT
            | Errno::ENETDOWN
            | Errno::ENETUNREACH
            | Errno::EHOSTDOWN
            | Errno::EHOSTUNREACH
            | Errno::ENONET
            | Errno::ETIMEDOUT,
        ) => AcceptError::Transient,
        _ => AcceptError::Broken(error),
    }
}

/// Largest number of connections that wait for accept(2).
const BACKLOG: i32 = 4096;

#[cfg(test)]
mod tests {
    use std::net::TcpStream as Client;
    use std::time::Duration;

    use nix::sys::socket::getsockopt;

    use super::*;

    fn bind_all(addrs: &[SocketAddr]) -> io::Result<Vec<Listener>> {
        super::bind_all(addrs, ListenOptions::default())
    }

    fn any(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn accepted(listener: &mut Listener) -> (TcpStream, SocketAddr) {
        loop {
            if let Some(accepted) = listener.accept().unwrap() {
                return accepted;
            }
        }
    }

    fn connect_to(listener: &mut Listener, addr: &str) -> SocketAddr {
        let client = Client::connect((addr, listener.local_addr().port())).unwrap();
        let (_, peer) = accepted(listener);
        assert_eq!(peer.port(), client.local_addr().unwrap().port());
        peer
    }

    fn has_ipv6() -> bool {
        std::net::TcpListener::bind("[::1]:0").is_ok()
    }

    /// Binds both addresses on a port that is free in both families. A parallel test may bind the
    /// port in between; then the next port is tried.
    fn bind_pair(first: &str, second: &str) -> Vec<Listener> {
        (0..16)
            .find_map(|_| {
                let port = bind_all(&[any("0.0.0.0:0")]).unwrap()[0].local_addr().port();
                bind_all(&[first, second].map(|ip| any(&format!("{ip}:{port}")))).ok()
            })
            .expect("a free port")
    }

    #[test]
    fn an_unspecified_address_alone_takes_both_families() {
        for asked in ["0.0.0.0:0", "[::]:0"] {
            let mut all = bind_all(&[any(asked)]).unwrap();
            assert!(connect_to(&mut all[0], "127.0.0.1").is_ipv4());
            assert_eq!(all[0].local_addr().ip(), any(asked).ip());
            if has_ipv6() {
                assert!(connect_to(&mut all[0], "::1").is_ipv6());
            }
        }
    }

    #[test]
    fn both_unspecified_addresses_share_a_port() {
        if !has_ipv6() {
            return;
        }
        let mut all = bind_pair("0.0.0.0", "[::]");
        assert!(connect_to(&mut all[0], "127.0.0.1").is_ipv4());
        assert!(connect_to(&mut all[1], "::1").is_ipv6());
    }

    #[test]
    fn an_unspecified_address_leaves_the_other_family_to_a_named_one() {
        if !has_ipv6() {
            return;
        }
        let mut all = bind_pair("[::]", "127.0.0.1");
        assert!(connect_to(&mut all[0], "::1").is_ipv6());
        assert!(connect_to(&mut all[1], "127.0.0.1").is_ipv4());
    }

    #[test]
    fn a_port_taken_in_one_family_is_an_error_and_not_half_a_service() {
        if !has_ipv6() {
            return;
        }
        let first = bind_all(&[any("[::1]:0")]).unwrap();
        let port = first[0].local_addr().port();
        assert!(bind_all(&[any(&format!("0.0.0.0:{port}"))]).is_err());
    }

    #[test]
    fn a_mapped_address_is_bound_as_ipv4() {
        let mut all = bind_all(&[any("[::ffff:127.0.0.1]:0")]).unwrap();
        assert!(all[0].local_addr().is_ipv4());
        assert!(connect_to(&mut all[0], "127.0.0.1").is_ipv4());
    }

    #[test]
    fn a_taken_address_is_named_in_the_error() {
        let first = bind_all(&[any("127.0.0.1:0")]).unwrap();
        let addr = first[0].local_addr();
        let error = bind_all(&[addr]).err().unwrap().to_string();
        assert!(error.contains(&addr.to_string()) && error.contains("another program"), "{error}");
    }

    #[test]
    fn a_failing_address_leaves_none_of_the_others_bound() {
        let taken = bind_all(&[any("127.0.0.1:0")]).unwrap();
        // Of the 127.0.0.0/8 network only this test binds this address.
        let other = any(&format!("127.77.0.1:{}", taken[0].local_addr().port()));
        assert!(bind_all(&[other, taken[0].local_addr()]).is_err());
        assert!(bind_all(&[other]).is_ok());
    }

    #[test]
    fn no_pending_connection_is_no_error() {
        let mut all = bind_all(&[any("127.0.0.1:0")]).unwrap();
        assert!(all[0].accept().unwrap().is_none());
    }

    #[test]
    fn accepted_sockets_inherit_the_options_of_the_listener() {
        let mut all = bind_all(&[any("127.0.0.1:0")]).unwrap();
        let options = SocketOptions {
            keep_alive: Some((Duration::from_secs(15), Duration::from_secs(16), 9)),
            user_timeout_ms: 150_000,
            not_sent_lowat: Some(65_536),
            congestion: Some("reno".to_owned()),
            first_buffers: None,
        };
        all[0].set_client_options(&options);
        let _client = Client::connect(all[0].local_addr()).unwrap();
        let socket = accepted(&mut all[0]).0;
        assert_eq!(getsockopt(&socket, sockopt::TcpNoDelay), Ok(true));
        assert_eq!(getsockopt(&socket, sockopt::KeepAlive), Ok(true));
        assert_eq!(getsockopt(&socket, sockopt::TcpKeepIdle), Ok(15));
        assert_eq!(getsockopt(&socket, sockopt::TcpKeepInterval), Ok(16));
        assert_eq!(getsockopt(&socket, sockopt::TcpKeepCount), Ok(9));
        assert_eq!(getsockopt(&socket, sockopt::TcpUserTimeout), Ok(150_000));
        assert_eq!(getsockopt(&socket, super::super::sockopt::TcpNotSentLowat), Ok(65_536));
        assert_eq!(getsockopt(&socket, sockopt::TcpCongestion), Ok("reno".into()));
    }

    #[test]
    fn the_client_respects_the_maximum_segment_size() {
        for multipath in [false, true] {
            let options =
                ListenOptions { max_segment: Some(536), multipath, ..ListenOptions::default() };
            let mut all = super::bind_all(&[any("127.0.0.1:0")], options).unwrap();
            let client = Client::connect(all[0].local_addr()).unwrap();
            accepted(&mut all[0]);
            let max = getsockopt(&client, sockopt::TcpMaxSeg).unwrap();
            assert!(max <= 536, "{max}");
        }
    }

    #[test]
    fn a_port_is_shared_only_if_both_listeners_set_reuse_port() {
        let reuse_port = ListenOptions { reuse_port: true, ..ListenOptions::default() };
        let first = super::bind_all(&[any("127.0.0.1:0")], reuse_port).unwrap();
        let addr = first[0].local_addr();
        assert!(super::bind_all(&[addr], reuse_port).is_ok());
        let alone = bind_all(&[addr]).err().unwrap().to_string();
        assert!(alone.contains("another program listens there"), "{alone}");
        let first = bind_all(&[any("127.0.0.1:0")]).unwrap();
        let error =
            super::bind_all(&[first[0].local_addr()], reuse_port).err().unwrap().to_string();
        assert!(error.contains("without reuse-port"), "{error}");
    }

    /// Linux copies the options of a Multipath TCP listener too.
    #[test]
    fn accepted_sockets_of_a_multipath_listener_inherit_too() {
        let options = ListenOptions { multipath: true, ..ListenOptions::default() };
        let mut all = super::bind_all(&[any("127.0.0.1:0")], options).unwrap();
        let options = SocketOptions {
            keep_alive: Some((Duration::from_secs(15), Duration::from_secs(16), 9)),
            ..SocketOptions::default()
        };
        all[0].set_client_options(&options);
        for multipath in [false, true] {
            let socket = new_stream(all[0].local_addr(), multipath).unwrap();
            let _ = nix::sys::socket::connect(
                socket.as_raw_fd(),
                &SockaddrStorage::from(all[0].local_addr()),
            );
            let socket = accepted(&mut all[0]).0;
            assert_eq!(getsockopt(&socket, sockopt::TcpNoDelay), Ok(true));
            assert_eq!(getsockopt(&socket, sockopt::KeepAlive), Ok(true));
        }
    }

    #[test]
    fn running_out_of_descriptors_does_not_mean_a_broken_listener() {
        let of = |errno: Errno| accept_error(io::Error::from(errno));
        assert!(matches!(of(Errno::EMFILE), AcceptError::Exhausted(_)));
        assert!(matches!(of(Errno::ENOBUFS), AcceptError::Exhausted(_)));
        assert!(matches!(of(Errno::ECONNABORTED), AcceptError::Transient));
        assert!(matches!(of(Errno::EBADF), AcceptError::Broken(_)));
        assert!(matches!(of(Errno::EACCES), AcceptError::Broken(_)));
    }
}

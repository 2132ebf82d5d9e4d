//! New sockets, and the options of relayed sockets (COMPATIBILITY 5.3; tcp(7)). Options are best
//! effort: a connection works even if the kernel refuses one.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use nix::libc;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, getsockopt, setsockopt, socket, sockopt,
};
use nix::{getsockopt_impl, setsockopt_impl, sockopt_impl};

/// Options of a relayed socket.
#[derive(Debug, Clone, Default)]
pub struct SocketOptions {
    /// Keep-alive: idle time, probe interval, number of probes; `None` = off.
    pub keep_alive: Option<(Duration, Duration, u32)>,
    /// `TCP_USER_TIMEOUT` in milliseconds; 0 = the kernel's default.
    pub user_timeout_ms: u32,
    /// `TCP_NOTSENT_LOWAT` in bytes.
    pub not_sent_lowat: Option<u32>,
    /// `TCP_CONGESTION`; `None` = the system's default.
    pub congestion: Option<String>,
    /// Bytes of the receive and of the send buffer, until the kernel adapts them or others are set.
    pub first_buffers: Option<u32>,
}

/// A non-blocking, close-on-exec socket for the family of `addr`.
///
/// # Errors
/// The system lacks the family or a free descriptor.
pub(super) fn new_socket(addr: SocketAddr, kind: SockType) -> nix::Result<OwnedFd> {
    let family = if addr.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    socket(family, kind, SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC, None)
}

/// A stream socket as [`new_socket`] creates it; with `multipath`, one of Multipath TCP (RFC 8684).
/// Kernels without it return various errors, so any error leads to plain TCP.
///
/// # Errors
/// As [`new_socket`].
pub(super) fn new_stream(addr: SocketAddr, multipath: bool) -> nix::Result<OwnedFd> {
    if multipath {
        let protocol = socket2::Protocol::from(libc::IPPROTO_MPTCP);
        let domain = socket2::Domain::for_address(addr);
        // socket2 sets close-on-exec.
        let socket = socket2::Socket::new(domain, socket2::Type::STREAM, Some(protocol));
        if let Ok(socket) = socket
            && socket.set_nonblocking(true).is_ok()
        {
            return Ok(socket.into());
        }
    }
    new_socket(addr, SockType::Stream)
}

/// Sets the options and `TCP_NODELAY`.
pub(super) fn apply(socket: &impl AsFd, options: &SocketOptions) {
    let _ = setsockopt(socket, sockopt::TcpNoDelay, &true);
    if let Some((idle, interval, count)) = options.keep_alive {
        let _ = setsockopt(socket, sockopt::KeepAlive, &true);
        let _ = setsockopt(socket, sockopt::TcpKeepIdle, &seconds(idle));
        let _ = setsockopt(socket, sockopt::TcpKeepInterval, &seconds(interval));
        let _ = setsockopt(socket, sockopt::TcpKeepCount, &count.clamp(1, KEEP_COUNT_MAX));
    }
    if options.user_timeout_ms > 0 {
        let _ = setsockopt(socket, sockopt::TcpUserTimeout, &options.user_timeout_ms);
    }
    if let Some(bytes) = options.not_sent_lowat {
        let _ = setsockopt(socket, TcpNotSentLowat, &bytes);
    }
    if let Some(name) = &options.congestion {
        let _ = setsockopt(socket, sockopt::TcpCongestion, &name.as_str().into());
    }
    if options.first_buffers.is_some() {
        limit_buffers(socket, options.first_buffers);
        // A lock at connect(2) would also limit the scale of the window for ever.
        limit_buffers(socket, None);
    }
}

/// Tries `TCP_CONGESTION` on a new socket.
///
/// # Errors
/// The kernel does not know the algorithm, or does not permit it.
pub fn check_congestion_control(name: &str) -> io::Result<()> {
    let socket = new_socket(SocketAddr::from(([127, 0, 0, 1], 0)), SockType::Stream)?;
    Ok(setsockopt(&socket, sockopt::TcpCongestion, &name.into())?)
}

/// Makes close(2) send RST instead of FIN (`SO_LINGER` with zero seconds).
pub(super) fn reset_on_close(socket: &impl AsFd) {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    let _ = setsockopt(socket, sockopt::Linger, &linger);
}

/// Bytes that the peer has not acknowledged, with their overhead (`SO_MEMINFO`, Linux 4.12).
pub(super) fn unacknowledged(socket: &impl AsFd) -> Option<u32> {
    memory_info(socket).map(|[.., queued]| queued)
}

/// Whole seconds, rounded up, limited to the range that Linux accepts.
fn seconds(time: Duration) -> u32 {
    let whole = time.as_secs() + u64::from(time.subsec_nanos() > 0);
    u32::try_from(whole).unwrap_or(KEEP_SECONDS_MAX).clamp(1, KEEP_SECONDS_MAX)
}

/// Linux: `MAX_TCP_KEEPIDLE`, `MAX_TCP_KEEPINTVL`.
const KEEP_SECONDS_MAX: u32 = 32_767;
/// Linux: `MAX_TCP_KEEPCNT`.
const KEEP_COUNT_MAX: u32 = 127;

sockopt_impl!(
    /// Number of unsent bytes above which a socket is not writable.
    TcpNotSentLowat,
    Both,
    libc::IPPROTO_TCP,
    libc::TCP_NOTSENT_LOWAT,
    u32
);

sockopt_impl!(
    /// Bytes of a socket in the kernel by kind, up to `SK_MEMINFO_WMEM_QUEUED` (linux/sock_diag.h).
    MemInfo,
    GetOnly,
    libc::SOL_SOCKET,
    libc::SO_MEMINFO,
    [u32; 6]
);

sockopt_impl!(
    /// A number that no other socket has had.
    Cookie,
    GetOnly,
    libc::SOL_SOCKET,
    libc::SO_COOKIE,
    u64
);

sockopt_impl!(
    /// Which buffer sizes are fixed, so that the kernel does not adapt them; since Linux 5.14.
    BufLock,
    SetOnly,
    libc::SOL_SOCKET,
    libc::SO_BUF_LOCK,
    u32
);

sockopt_impl!(
    /// The largest window that is announced, in bytes.
    WindowClamp,
    SetOnly,
    libc::IPPROTO_TCP,
    libc::TCP_WINDOW_CLAMP,
    u32
);

/// The numbers of [`MemInfo`]; `None` = the kernel does not say.
fn memory_info(socket: &impl AsFd) -> Option<[u32; 6]> {
    // qemu-user returns four bytes of any option that it does not know, and nix ends the program
    // if an option is shorter than its type. The kernel refuses four bytes of a cookie.
    getsockopt(socket, Cookie).and_then(|_| getsockopt(socket, MemInfo)).ok()
}

/// Bytes that a socket occupies in the kernel: received, to be sent, and set aside. 0 if the kernel
/// does not say.
pub(super) fn memory(socket: &impl AsFd) -> u64 {
    let Some([received, _, _, _, ahead, queued]) = memory_info(socket) else { return 0 };
    // What is set aside can be negative for a moment.
    let sum = i64::from(received) + i64::from(ahead as i32) + i64::from(queued);
    u64::try_from(sum).unwrap_or_default()
}

/// Limits the receive and the send buffer to twice `bytes` each, overhead included (socket(7)).
/// What they hold already stays. `None` = the kernel chooses their size.
pub(super) fn limit_buffers(socket: &impl AsFd, bytes: Option<u32>) {
    match bytes {
        Some(bytes) => {
            let _ = setsockopt(socket, sockopt::RcvBuf, &(bytes as usize));
            let _ = setsockopt(socket, sockopt::SndBuf, &(bytes as usize));
            // The buffer at connect(2) has limited it.
            let _ = setsockopt(socket, WindowClamp, &bytes.saturating_mul(2));
        }
        None => drop(setsockopt(socket, BufLock, &0)),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    use nix::fcntl::{FcntlArg, OFlag, fcntl};

    use super::*;

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (client, listener.accept().unwrap().0)
    }

    #[test]
    fn the_options_arrive_in_the_kernel() {
        let (socket, _peer) = pair();
        let hours = Duration::from_secs(36_000);
        let options = SocketOptions {
            keep_alive: Some((hours, Duration::from_millis(1_500), 500)),
            user_timeout_ms: 150_000,
            not_sent_lowat: Some(131_072),
            congestion: Some("reno".to_owned()),
            first_buffers: None,
        };
        apply(&socket, &options);
        assert_eq!(getsockopt(&socket, sockopt::TcpKeepIdle), Ok(32_767));
        assert_eq!(getsockopt(&socket, sockopt::TcpKeepInterval), Ok(2));
        assert_eq!(getsockopt(&socket, sockopt::TcpKeepCount), Ok(127));
        assert_eq!(getsockopt(&socket, sockopt::TcpUserTimeout), Ok(150_000));
        assert_eq!(getsockopt(&socket, TcpNotSentLowat), Ok(131_072));
        assert_eq!(getsockopt(&socket, sockopt::TcpNoDelay), Ok(true));
        // Every kernel has this one.
        assert_eq!(getsockopt(&socket, sockopt::TcpCongestion), Ok("reno".into()));
    }

    #[test]
    fn a_stream_is_created_with_and_without_multipath() {
        for addr in ["127.0.0.1:0", "[::1]:0"] {
            for multipath in [false, true] {
                let Ok(socket) = new_stream(addr.parse().unwrap(), multipath) else { continue };
                let flags = fcntl(&socket, FcntlArg::F_GETFL).unwrap();
                assert!(OFlag::from_bits_retain(flags).contains(OFlag::O_NONBLOCK));
                assert_eq!(fcntl(&socket, FcntlArg::F_GETFD), Ok(libc::FD_CLOEXEC));
                assert_eq!(getsockopt(&socket, sockopt::SockType), Ok(SockType::Stream));
            }
        }
        assert!(new_stream("127.0.0.1:0".parse().unwrap(), true).is_ok());
    }

    #[test]
    fn the_memory_of_a_socket_is_bounded_by_its_buffers() {
        let (mut socket, _peer) = pair();
        limit_buffers(&socket, Some(16_384));
        socket.set_nonblocking(true).unwrap();
        while socket.write(&[0; 4_096]).is_ok() {}
        assert!((4_096..=131_072).contains(&memory(&socket)), "{}", memory(&socket));
        limit_buffers(&socket, None);
    }

    #[test]
    fn an_unknown_congestion_control_is_refused() {
        assert!(check_congestion_control("reno").is_ok());
        assert!(check_congestion_control("no-such-thing").is_err());
    }

    #[test]
    fn the_first_buffers_bound_what_arrives_and_can_grow() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let arrived = |grown: Option<u32>| {
            let addr = listener.local_addr().unwrap();
            let socket = new_stream(addr, false).unwrap();
            apply(&socket, &SocketOptions { first_buffers: Some(8_192), ..Default::default() });
            let socket = socket2::Socket::from(socket);
            let _ = socket.connect(&addr.into());
            let mut peer = listener.accept().unwrap().0;
            limit_buffers(&socket, grown);
            peer.set_nonblocking(true).unwrap();
            let mut reader = TcpStream::from(socket);
            // A window that is announced grows only while the application reads.
            for _ in 0..64 {
                while peer.write(&[0; 4_096]).is_ok() {}
                let _ = reader.read(&mut [0; 2_048]);
            }
            memory(&reader)
        };
        let few = arrived(Some(8_192));
        assert!(few <= 32_768, "{few}");
        let many = arrived(Some(131_072));
        assert!(many > 2 * few, "{few} and {many}");
    }

    #[test]
    fn bytes_are_acknowledged_once_the_peer_has_room_for_them() {
        let (mut socket, mut peer) = pair();
        assert_eq!(unacknowledged(&socket), Some(0));
        socket.set_nonblocking(true).unwrap();
        let block = [0; 65_536];
        let mut sent = 0;
        // Until the peer's buffer is full.
        while let Ok(more) = socket.write(&block) {
            sent += more;
        }
        let all = unacknowledged(&socket).unwrap();
        assert!(all > 0);
        let mut rest = vec![0; sent];
        peer.read_exact(&mut rest[..sent / 2]).unwrap();
        while unacknowledged(&socket).unwrap() >= all {
            std::thread::yield_now();
        }
        peer.read_exact(&mut rest[sent / 2..]).unwrap();
        while unacknowledged(&socket) != Some(0) {
            std::thread::yield_now();
        }
    }

    #[test]
    fn reset_on_close_sends_a_reset() {
        let (socket, mut peer) = pair();
        reset_on_close(&socket);
        drop(socket);
        let error = peer.read(&mut [0; 1]).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    }
}

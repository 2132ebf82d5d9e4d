//! Options of relayed sockets (spec: network 3; tcp(7)). All best effort: a kernel that refuses
//! one still carries the connection.

use std::os::fd::AsFd;
use std::time::Duration;

use nix::libc;
use nix::sys::socket::{setsockopt, sockopt};
use nix::{getsockopt_impl, setsockopt_impl, sockopt_impl};

/// What a relayed socket gets, whatever its role.
#[derive(Debug, Clone, Default)]
pub struct SocketOptions {
    /// Idle time, interval and count of probes; `None` = no keep-alive.
    pub keep_alive: Option<(Duration, Duration, u32)>,
    /// `TCP_USER_TIMEOUT` in milliseconds; 0 = the kernel's own patience.
    pub user_timeout_ms: u32,
    /// `TCP_NOTSENT_LOWAT` in bytes.
    pub not_sent_lowat: Option<u32>,
}

/// Sets the options, `TCP_NODELAY` included.
pub fn apply(socket: &impl AsFd, options: &SocketOptions) {
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
}

/// Closing will send RST.
pub fn reset_on_close(socket: &impl AsFd) {
    let at_once = libc::linger { l_onoff: 1, l_linger: 0 };
    let _ = setsockopt(socket, sockopt::Linger, &at_once);
}

/// Whole seconds, rounded up, within what Linux takes.
fn seconds(time: Duration) -> u32 {
    let whole = time.as_secs() + u64::from(time.subsec_nanos() > 0);
    u32::try_from(whole).unwrap_or(KEEP_SECONDS_MAX).clamp(1, KEEP_SECONDS_MAX)
}

/// Linux: `MAX_TCP_KEEPIDLE`, `MAX_TCP_KEEPINTVL`.
const KEEP_SECONDS_MAX: u32 = 32_767;
/// Linux: `MAX_TCP_KEEPCNT`.
const KEEP_COUNT_MAX: u32 = 127;

sockopt_impl!(
    /// Unsent bytes above which a socket counts as full.
    TcpNotSentLowat,
    Both,
    libc::IPPROTO_TCP,
    libc::TCP_NOTSENT_LOWAT,
    u32
);

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::{TcpListener, TcpStream};

    use nix::sys::socket::getsockopt;

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
        };
        apply(&socket, &options);
        assert_eq!(getsockopt(&socket, sockopt::TcpKeepIdle), Ok(32_767));
        assert_eq!(getsockopt(&socket, sockopt::TcpKeepInterval), Ok(2));
        assert_eq!(getsockopt(&socket, sockopt::TcpKeepCount), Ok(127));
        assert_eq!(getsockopt(&socket, sockopt::TcpUserTimeout), Ok(150_000));
        assert_eq!(getsockopt(&socket, TcpNotSentLowat), Ok(131_072));
        assert_eq!(getsockopt(&socket, sockopt::TcpNoDelay), Ok(true));
    }

    #[test]
    fn a_deliberate_reset_is_seen_as_one() {
        let (socket, mut peer) = pair();
        reset_on_close(&socket);
        drop(socket);
        let error = peer.read(&mut [0; 1]).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    }
}

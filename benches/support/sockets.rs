//! Socket set-up of all processes of a benchmark. Nothing here runs during a measurement.

use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, sockopt};
use nix::sys::socket::{bind, connect, getsockopt, setsockopt, socket};
use socket2::{Domain, Socket, Type};

use super::options::Outcome;

/// A peer that is silent for this time is stuck, and the run has failed.
pub const TIMEOUT: Duration = Duration::from_secs(30);

/// The environment variable with the network of all processes: `namespace` or `host`.
pub const NETWORK: &str = "MTBOX_BENCH_NETWORK";

/// Connects to `port` on loopback from the address `source`, with a deadline on each read.
pub fn dial(source: Ipv4Addr, port: u16) -> Outcome<TcpStream> {
    let socket = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    // The port is chosen when the destination is known, so a port in TIME_WAIT can be used again.
    setsockopt(&socket, sockopt::IpBindAddressNoPort, &true)?;
    bind(socket.as_raw_fd(), &SockaddrIn::from(SocketAddrV4::new(source, 0)))?;
    connect(socket.as_raw_fd(), &SockaddrIn::from(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port)))?;
    let stream = TcpStream::from(socket);
    tune(&stream)?;
    Ok(stream)
}

/// The same with a limit of the time to connect.
pub fn dial_within(source: Ipv4Addr, to: SocketAddr, limit: Duration) -> Outcome<TcpStream> {
    let socket = bound(source)?;
    socket.connect_timeout(&to.into(), limit)?;
    let stream = TcpStream::from(socket);
    tune(&stream)?;
    Ok(stream)
}

/// Begins to connect from the address `source`; the socket does not block.
pub fn start_dial(source: Ipv4Addr, to: SocketAddr) -> Outcome<TcpStream> {
    let socket = bound(source)?;
    socket.set_nonblocking(true)?;
    match socket.connect(&to.into()) {
        Err(error) if error.raw_os_error() != Some(Errno::EINPROGRESS as i32) => Err(error.into()),
        _ => Ok(socket.into()),
    }
}

fn bound(source: Ipv4Addr) -> Outcome<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    setsockopt(&socket, sockopt::IpBindAddressNoPort, &true)?;
    socket.bind(&SocketAddr::from((source, 0)).into())?;
    Ok(socket)
}

/// Sets TCP_NODELAY, a read timeout and, on the host's network, cubic if the kernel allows it.
pub fn tune(stream: &TcpStream) -> Outcome<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    if uses_host_network() {
        // Refused without privileges if cubic is restricted; the head of the table shows it.
        let _ = setsockopt(stream, sockopt::TcpCongestion, &OsString::from("cubic"));
    }
    Ok(())
}

/// A listener on a free loopback port.
pub fn listen() -> Outcome<(TcpListener, u16)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let port = listener.local_addr()?.port();
    Ok((listener, port))
}

/// A listener on a free loopback port with this backlog, from which no connection is accepted.
pub fn listen_with_backlog(backlog: i32) -> Outcome<(OwnedFd, u16)> {
    let socket = bound(Ipv4Addr::LOCALHOST)?;
    socket.listen(backlog)?;
    let port = socket.local_addr()?.as_socket().ok_or("no address")?.port();
    Ok((socket.into(), port))
}

/// A port that was free a moment ago.
pub fn free_port() -> Outcome<u16> {
    Ok(listen()?.1)
}

/// On the host's network the system's congestion control may be unsuitable.
fn uses_host_network() -> bool {
    std::env::var(NETWORK).is_ok_and(|network| network == "host")
}

/// The congestion control of sockets that choose none.
pub fn system_congestion() -> String {
    let path = "/proc/sys/net/ipv4/tcp_congestion_control";
    std::fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

/// The congestion control that the sockets of `dial` have.
pub fn our_congestion() -> Outcome<String> {
    let (listener, _) = listen()?;
    let stream = TcpStream::connect(listener.local_addr()?)?;
    tune(&stream)?;
    let name = getsockopt(&stream, sockopt::TcpCongestion)?;
    Ok(name.to_string_lossy().trim_end_matches('\0').to_owned())
}

/// Raises the soft limit of open files to the hard one.
pub fn raise_descriptor_limit() -> Outcome<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    Ok(())
}

/// The limit of open files of a process.
pub fn descriptor_limit() -> Outcome<u64> {
    Ok(getrlimit(Resource::RLIMIT_NOFILE)?.1)
}

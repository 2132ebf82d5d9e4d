//! Outgoing connections and datagrams: device, source address and mark. If one of these cannot be
//! set, the socket is not used, since traffic must not leave over another interface.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};

use mio::net::{TcpStream, UdpSocket};
use nix::errno::Errno;
use nix::sys::socket::{SockType, SockaddrStorage, bind, connect, setsockopt, sockopt};

use crate::io::sockopt::{SocketOptions, apply, new_socket, new_stream};

/// Settings of outgoing sockets. Device and addresses are not applied to destinations on loopback
/// unless they are loopback themselves, so that a resolver or a web server on this machine stays
/// reachable.
#[derive(Debug, Clone, Default)]
pub struct Egress {
    /// `SO_BINDTODEVICE`.
    pub device: Option<String>,
    /// Source addresses, at most one per family. If only one family has an address, the other
    /// family is not used.
    pub addrs: Vec<IpAddr>,
    /// `SO_MARK`; set for loopback too, since routing rules decide what it means.
    pub mark: Option<u32>,
    /// Multipath TCP (RFC 8684), if the kernel supports it.
    pub multipath: bool,
}

/// The system refuses an egress setting. The text names the configuration key and a remedy.
#[derive(Debug)]
struct EgressRefused(String);

impl fmt::Display for EgressRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for EgressRefused {}

/// Whether the system refused an egress setting, in contrast to an unreachable peer.
pub fn is_refused(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<EgressRefused>())
}

/// Whether the error may be a shortage of this machine: local ports, descriptors, places in the
/// poller or memory. With `EADDRNOTAVAIL`, the machine may also have no address of the family.
pub fn is_shortage(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(
        errno,
        Some(
            Errno::EADDRNOTAVAIL
                | Errno::EAGAIN
                | Errno::ENOBUFS
                | Errno::ENOMEM
                | Errno::EMFILE
                | Errno::ENFILE
                | Errno::ENOSPC
        )
    )
}

/// Whether no descriptor was left, of the process or of the system.
pub fn lacks_files(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(errno, Some(Errno::EMFILE | Errno::ENFILE))
}

impl Egress {
    /// Starts a TCP connect without waiting for it.
    ///
    /// # Errors
    /// The system's immediate error, such as an unreachable network; see [`is_refused`].
    pub fn dial(&self, to: SocketAddr, options: &SocketOptions) -> io::Result<TcpStream> {
        let socket = new_stream(to, self.multipath)?;
        self.apply_to(&socket, to.ip())?;
        apply(&socket, options);
        match connect(socket.as_raw_fd(), &SockaddrStorage::from(to)) {
            Ok(()) | Err(Errno::EINPROGRESS | Errno::EINTR) => {
                Ok(TcpStream::from_std(socket.into()))
            }
            Err(errno) => Err(errno.into()),
        }
    }

    /// A UDP socket on an unused port that receives from `to` only.
    ///
    /// # Errors
    /// As [`Egress::dial`].
    pub fn udp_socket(&self, to: SocketAddr) -> io::Result<UdpSocket> {
        let socket = new_socket(to, SockType::Datagram)?;
        self.apply_to(&socket, to.ip())?;
        connect(socket.as_raw_fd(), &SockaddrStorage::from(to))?;
        Ok(UdpSocket::from_std(socket.into()))
    }

    /// Applies the settings to a new socket.
    fn apply_to(&self, socket: &OwnedFd, to: IpAddr) -> io::Result<()> {
        let is_loopback = to.to_canonical().is_loopback();
        if let Some(mark) = self.mark {
            let outcome = setsockopt(socket, sockopt::Mark, &mark);
            outcome.map_err(|errno| refused("network.mark", &mark, errno))?;
        }
        if let Some(device) =
            self.device.as_ref().filter(|device| !is_loopback || *device == LOOPBACK)
        {
            let outcome = setsockopt(socket, sockopt::BindToDevice, &device.into());
            outcome.map_err(|errno| refused("network.bind-device", device, errno))?;
        }
        self.bind_source(socket, to, is_loopback)
    }

    fn bind_source(&self, socket: &OwnedFd, to: IpAddr, is_loopback: bool) -> io::Result<()> {
        let mut usable =
            self.addrs.iter().filter(|addr| !is_loopback || addr.is_loopback()).peekable();
        if usable.peek().is_none() {
            return Ok(());
        }
        let Some(source) = usable.find(|addr| addr.is_ipv4() == to.is_ipv4()) else {
            let text = "network.bind-address has no address of this family";
            return Err(io::Error::new(io::ErrorKind::AddrNotAvailable, text));
        };
        // The kernel chooses the port at connect, where it must be unique only per destination.
        let _ = setsockopt(socket, sockopt::IpBindAddressNoPort, &true);
        let any_port = SockaddrStorage::from(SocketAddr::new(*source, 0));
        let outcome = bind(socket.as_raw_fd(), &any_port);
        outcome.map_err(|errno| refused("network.bind-address", source, errno))
    }
}

fn refused(key: &str, value: &dyn fmt::Display, errno: Errno) -> io::Error {
    let hint = match errno {
        Errno::EPERM | Errno::EACCES if key.ends_with("mark") => {
            "; run as root or with CAP_NET_ADMIN"
        }
        Errno::EPERM | Errno::EACCES => "; run as root or with CAP_NET_RAW",
        Errno::ENODEV => "; no such device exists now",
        Errno::EADDRNOTAVAIL => "; this machine has no such address now",
        _ => "",
    };
    let what = io::Error::from(errno);
    io::Error::other(EgressRefused(format!("{key} = {value}: {what}{hint}")))
}

/// The loopback device of Linux.
const LOOPBACK: &str = "lo";

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket as StdUdp};

    use nix::sys::socket::getsockopt;

    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn from(addrs: &[&str]) -> Egress {
        Egress { addrs: addrs.iter().map(|addr| ip(addr)).collect(), ..Egress::default() }
    }

    fn dial(egress: &Egress, to: SocketAddr) -> io::Result<TcpStream> {
        egress.dial(to, &SocketOptions::default())
    }

    fn server() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        (listener, addr)
    }

    #[test]
    fn streams_and_datagrams_use_the_given_source_address() {
        let egress = from(&["::1", "127.0.0.9"]);
        let (listener, to) = server();
        let stream = dial(&egress, to).unwrap();
        let (_, peer) = listener.accept().unwrap();
        assert_eq!(peer.ip(), ip("127.0.0.9"));
        assert_eq!(stream.local_addr().unwrap(), peer);

        let server = StdUdp::bind("127.0.0.1:0").unwrap();
        let socket = egress.udp_socket(server.local_addr().unwrap()).unwrap();
        socket.send(b"ping").unwrap();
        let (_, peer) = server.recv_from(&mut [0; 8]).unwrap();
        assert_eq!(peer, socket.local_addr().unwrap());
        assert_eq!(peer.ip(), ip("127.0.0.9"));
    }

    #[test]
    fn many_connections_to_one_address_use_many_ports() {
        let egress = from(&["127.0.0.9"]);
        let (listener, to) = server();
        let streams: Vec<_> = (0..32).map(|_| dial(&egress, to).unwrap()).collect();
        let mut ports: Vec<u16> =
            streams.iter().map(|_| listener.accept().unwrap().1.port()).collect();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), streams.len());
    }

    #[test]
    fn a_foreign_source_address_is_refused_and_names_the_key() {
        // RFC 5737: a documentation address. Nothing is sent, since the socket is never connected.
        let egress = from(&["203.0.113.77"]);
        let remote = "192.0.2.1:443".parse().unwrap();
        let error = dial(&egress, remote).unwrap_err();
        assert!(is_refused(&error));
        let text = error.to_string();
        assert!(text.contains("network.bind-address = 203.0.113.77"), "{text}");
        assert!(is_refused(&egress.udp_socket(remote).unwrap_err()));
    }

    #[test]
    fn a_family_without_an_address_is_not_used() {
        let error = dial(&from(&["203.0.113.77"]), "[2001:db8::1]:443".parse().unwrap());
        let error = error.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrNotAvailable);
        assert!(!is_refused(&error));
    }

    #[test]
    fn loopback_is_reachable_despite_another_address_and_device() {
        let (listener, to) = server();
        let egress = Egress { device: Some("wan0".to_owned()), ..from(&["203.0.113.77"]) };
        let _stream = dial(&egress, to).unwrap();
        assert_eq!(listener.accept().unwrap().1.ip(), ip("127.0.0.1"));
    }

    #[test]
    fn a_missing_device_is_refused_and_names_the_key() {
        let egress = Egress { device: Some("no-such-device".to_owned()), ..Egress::default() };
        let error = dial(&egress, "192.0.2.1:443".parse().unwrap()).unwrap_err();
        assert!(is_refused(&error));
        assert!(error.to_string().contains("network.bind-device = no-such-device"), "{error}");
    }

    #[test]
    fn the_loopback_device_is_for_loopback_too() {
        let (listener, to) = server();
        let egress = Egress { device: Some("lo".to_owned()), ..Egress::default() };
        let stream = dial(&egress, to).unwrap();
        listener.accept().unwrap();
        assert_eq!(getsockopt(&stream, sockopt::BindToDevice), Ok("lo".into()));
    }

    #[test]
    fn a_mark_is_set_or_refused() {
        let (_listener, to) = server();
        let egress = Egress { mark: Some(0x4d54), ..Egress::default() };
        match dial(&egress, to) {
            Ok(stream) => assert_eq!(getsockopt(&stream, sockopt::Mark), Ok(0x4d54)),
            Err(e) => assert!(is_refused(&e) && e.to_string().contains("CAP_NET_ADMIN"), "{e}"),
        }
    }

    #[test]
    fn a_multipath_dial_reaches_an_ordinary_listener() {
        let (listener, to) = server();
        let _stream = dial(&Egress { multipath: true, ..Egress::default() }, to).unwrap();
        listener.accept().unwrap();
    }
}

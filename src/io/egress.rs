//! Our own connections and datagrams at their start: from which device, address and with which
//! mark they leave. What is asked for here is kept or the socket is not used, since traffic must
//! not leave by another way.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};

use mio::net::{TcpStream, UdpSocket};
use nix::errno::Errno;
use nix::sys::socket::{SockType, SockaddrStorage, bind, connect, setsockopt, sockopt};

use crate::io::sockopt::{SocketOptions, apply, new_socket, new_stream};

/// The way out. Device and address are not for destinations on loopback, unless they are loopback
/// themselves: a resolver or a web server on this machine stays within reach.
#[derive(Debug, Clone, Default)]
pub struct Egress {
    /// `SO_BINDTODEVICE`.
    pub device: Option<String>,
    /// Source addresses, at most one per family. A family that has none is not used, if the other
    /// has one.
    pub addrs: Vec<IpAddr>,
    /// `SO_MARK`, for loopback too: rules decide what it means.
    pub mark: Option<u32>,
    /// Multipath TCP (RFC 8684), where the kernel has it.
    pub multipath: bool,
}

/// The system refuses a way out. Its text names the key and what helps.
#[derive(Debug)]
pub struct EgressRefused(String);

impl fmt::Display for EgressRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for EgressRefused {}

/// Whether an error means that the way out is refused, not that the peer is out of reach.
pub fn is_refused(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<EgressRefused>())
}

impl Egress {
    /// Starts to connect.
    ///
    /// # Errors
    /// What the system says at once, such as an unreachable network; see [`is_refused`].
    pub fn dial(&self, to: SocketAddr, wanted: &SocketOptions) -> io::Result<TcpStream> {
        let socket = new_stream(to, self.multipath)?;
        self.leave(&socket, to.ip())?;
        apply(&socket, wanted);
        match connect(socket.as_raw_fd(), &SockaddrStorage::from(to)) {
            Ok(()) | Err(Errno::EINPROGRESS | Errno::EINTR) => {
                Ok(TcpStream::from_std(socket.into()))
            }
            Err(errno) => Err(errno.into()),
        }
    }

    /// A datagram socket on a fresh port that hears `to` only.
    ///
    /// # Errors
    /// As [`Egress::dial`].
    pub fn udp_socket(&self, to: SocketAddr) -> io::Result<UdpSocket> {
        let socket = new_socket(to, SockType::Datagram)?;
        self.leave(&socket, to.ip())?;
        connect(socket.as_raw_fd(), &SockaddrStorage::from(to))?;
        Ok(UdpSocket::from_std(socket.into()))
    }

    /// Ties a fresh socket to the way out.
    fn leave(&self, socket: &OwnedFd, to: IpAddr) -> io::Result<()> {
        let is_near = to.to_canonical().is_loopback();
        if let Some(mark) = self.mark {
            let outcome = setsockopt(socket, sockopt::Mark, &mark);
            outcome.map_err(|errno| barred("network.mark", &mark, errno))?;
        }
        if let Some(device) = self.device.as_ref().filter(|device| !is_near || *device == LOOPBACK)
        {
            let outcome = setsockopt(socket, sockopt::BindToDevice, &device.into());
            outcome.map_err(|errno| barred("network.bind-device", device, errno))?;
        }
        self.leave_from(socket, to, is_near)
    }

    fn leave_from(&self, socket: &OwnedFd, to: IpAddr, is_near: bool) -> io::Result<()> {
        let mut fit = self.addrs.iter().filter(|addr| !is_near || addr.is_loopback()).peekable();
        if fit.peek().is_none() {
            return Ok(());
        }
        let Some(source) = fit.find(|addr| addr.is_ipv4() == to.is_ipv4()) else {
            let text = "network.bind-address has no address of this family";
            return Err(io::Error::new(io::ErrorKind::AddrNotAvailable, text));
        };
        // The port is chosen at connect, where it need only be unique for that destination.
        let _ = setsockopt(socket, sockopt::IpBindAddressNoPort, &true);
        let any_port = SockaddrStorage::from(SocketAddr::new(*source, 0));
        let outcome = bind(socket.as_raw_fd(), &any_port);
        outcome.map_err(|errno| barred("network.bind-address", source, errno))
    }
}

fn barred(key: &str, value: &dyn fmt::Display, errno: Errno) -> io::Error {
    let hint = match errno {
        Errno::EPERM | Errno::EACCES if key.ends_with("mark") => {
            "; run as root or with CAP_NET_ADMIN"
        }
        Errno::EPERM | Errno::EACCES => "; run as root or with CAP_NET_RAW",
        Errno::ENODEV => "; there is no such device now",
        Errno::EADDRNOTAVAIL => "; this machine has no such address now",
        _ => "",
    };
    let what = io::Error::from(errno);
    io::Error::other(EgressRefused(format!("{key} = {value}: {what}{hint}")))
}

/// Linux's name for it.
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
    fn streams_and_datagrams_leave_from_the_given_address() {
        let egress = from(&["::1", "127.0.0.9"]);
        let (listener, to) = server();
        let stream = dial(&egress, to).unwrap();
        let (_, peer) = listener.accept().unwrap();
        assert_eq!(peer.ip(), ip("127.0.0.9"));
        assert_eq!(stream.local_addr().unwrap(), peer);

        let server = StdUdp::bind("127.0.0.1:0").unwrap();
        let socket = egress.udp_socket(server.local_addr().unwrap()).unwrap();
        socket.send(b"who").unwrap();
        let (_, peer) = server.recv_from(&mut [0; 8]).unwrap();
        assert_eq!(peer, socket.local_addr().unwrap());
        assert_eq!(peer.ip(), ip("127.0.0.9"));
    }

    #[test]
    fn many_connections_to_one_place_leave_from_many_ports() {
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
    fn an_address_that_is_not_ours_bars_the_way_and_names_the_key() {
        // RFC 5737: nobody has it. Nothing is sent, since the socket is never connected.
        let egress = from(&["203.0.113.77"]);
        let far = "192.0.2.1:443".parse().unwrap();
        let error = dial(&egress, far).unwrap_err();
        assert!(is_refused(&error));
        let text = error.to_string();
        assert!(text.contains("network.bind-address = 203.0.113.77"), "{text}");
        assert!(is_refused(&egress.udp_socket(far).unwrap_err()));
    }

    #[test]
    fn a_family_without_an_address_is_not_used() {
        let error = dial(&from(&["203.0.113.77"]), "[2001:db8::1]:443".parse().unwrap());
        let error = error.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrNotAvailable);
        assert!(!is_refused(&error));
    }

    #[test]
    fn loopback_is_reached_past_an_address_and_a_device_that_lead_away() {
        let (listener, to) = server();
        let egress = Egress { device: Some("wan0".to_owned()), ..from(&["203.0.113.77"]) };
        let _stream = dial(&egress, to).unwrap();
        assert_eq!(listener.accept().unwrap().1.ip(), ip("127.0.0.1"));
    }

    #[test]
    fn a_device_that_is_not_there_bars_the_way_and_names_the_key() {
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
    fn a_mark_is_on_the_socket_or_bars_the_way() {
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

//! SOCKS5 client (RFC 1928, RFC 1929): the handshake for one connection. Accepts the proxy's bytes
//! in pieces of any size, and never reads beyond the handshake, so the destination's first bytes
//! stay in the socket.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// Where the proxy shall connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// An IP address and a port.
    Addr(SocketAddr),
    /// A host name of 1 to 255 bytes, which the proxy resolves, and a port.
    Name(String, u16),
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Addr(addr) => addr.fmt(f),
            Self::Name(host, port) => write!(f, "{host}:{port}"),
        }
    }
}

/// State of one handshake.
pub struct Negotiation {
    destination: Destination,
    user: Option<(Vec<u8>, Vec<u8>)>,
    state: SocksState,
    seen: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SocksState {
    Method,
    Password,
    Reply,
    /// The rest of the reply: bound address and port, of this many bytes.
    Bound(usize),
    Done,
}

/// Why the handshake failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SocksFault {
    /// The bytes are not SOCKS5.
    NotSocks,
    /// The proxy requires an authentication method that was not offered.
    NoMethod,
    /// The same, and no user name was offered.
    NoUser,
    /// The proxy rejects user name or password.
    WrongPassword,
    /// The proxy refuses the connection with this reply code (RFC 1928 6).
    Refused(u8),
}

impl SocksFault {
    /// Text for logs and reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotSocks => "not a SOCKS5 proxy",
            Self::NoMethod => "the proxy requires another authentication method",
            Self::NoUser => {
                "the proxy requires another authentication method, probably user name and \
                 password: write socks5://USER:PASSWORD@HOST:PORT"
            }
            Self::WrongPassword => "the proxy refuses name or password",
            Self::Refused(2) => "not allowed by the rules of the proxy",
            Self::Refused(3) => "network unreachable from the proxy",
            Self::Refused(4) => "host unreachable from the proxy",
            Self::Refused(5) => "connection refused by the destination",
            Self::Refused(6) => "TTL expired behind the proxy",
            Self::Refused(_) => "the proxy failed",
        }
    }

    /// Whether the proxy works and only the destination is unreachable, so that another destination
    /// may succeed.
    pub fn is_about_destination(self) -> bool {
        matches!(self, Self::Refused(3..=6))
    }
}

impl Negotiation {
    /// Starts a handshake; returns it with the bytes to send first. `user` = user name and
    /// password.
    pub fn new(destination: Destination, user: Option<(Vec<u8>, Vec<u8>)>) -> (Self, Vec<u8>) {
        let hello = match &user {
            Some(_) => vec![VERSION, 2, NO_AUTH, PASSWORD],
            None => vec![VERSION, 1, NO_AUTH],
        };
        (Self { destination, user, state: SocksState::Method, seen: Vec::new() }, hello)
    }

    /// What the proxy is asked for.
    pub fn destination(&self) -> &Destination {
        &self.destination
    }

    /// Largest number of bytes to read next; 0 = the handshake is complete.
    pub fn bytes_needed(&self) -> usize {
        self.length().saturating_sub(self.seen.len())
    }

    /// Processes at most [`Negotiation::bytes_needed`] received bytes; appends the bytes to send to
    /// `out`.
    ///
    /// # Errors
    /// The handshake failed.
    pub fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), SocksFault> {
        self.seen.extend_from_slice(bytes);
        while self.state != SocksState::Done && self.bytes_needed() == 0 {
            let message = std::mem::take(&mut self.seen);
            self.state = match (self.state, message.as_slice()) {
                (SocksState::Method, [VERSION, NO_AUTH]) => self.request(out),
                (SocksState::Method, [VERSION, PASSWORD]) => self.password(out)?,
                (SocksState::Method, [VERSION, _]) if self.user.is_none() => {
                    return Err(SocksFault::NoUser);
                }
                (SocksState::Method, [VERSION, _]) => return Err(SocksFault::NoMethod),
                (SocksState::Password, [_, 0]) => self.request(out),
                (SocksState::Password, [_, _]) => return Err(SocksFault::WrongPassword),
                (SocksState::Reply, [VERSION, 0, _, kind, first]) => match *kind {
                    IPV4 => SocksState::Bound(4 - 1 + 2),
                    IPV6 => SocksState::Bound(16 - 1 + 2),
                    DOMAIN => SocksState::Bound(usize::from(*first) + 2),
                    _ => return Err(SocksFault::NotSocks),
                },
                (SocksState::Reply, [VERSION, code, ..]) => return Err(SocksFault::Refused(*code)),
                (SocksState::Bound(_), _) => SocksState::Done,
                _ => return Err(SocksFault::NotSocks),
            };
        }
        // Report another protocol, such as HTTP, at its first byte.
        match (self.state, self.seen.first()) {
            (SocksState::Method | SocksState::Reply, Some(first)) if *first != VERSION => {
                Err(SocksFault::NotSocks)
            }
            // A refusal may end after the reply code.
            (SocksState::Reply, _) => match self.seen.get(1) {
                Some(code) if *code != 0 => Err(SocksFault::Refused(*code)),
                _ => Ok(()),
            },
            _ => Ok(()),
        }
    }

    fn length(&self) -> usize {
        match self.state {
            SocksState::Method | SocksState::Password => 2,
            // Version, reply code, reserved byte, address type, first byte of the address.
            SocksState::Reply => 5,
            SocksState::Bound(length) => length,
            SocksState::Done => 0,
        }
    }

    fn password(&self, out: &mut Vec<u8>) -> Result<SocksState, SocksFault> {
        let Some((name, password)) = &self.user else { return Err(SocksFault::NoUser) };
        out.push(1);
        for text in [name, password] {
            let text = text.get(..255).unwrap_or(text);
            out.push(text.len() as u8);
            out.extend_from_slice(text);
        }
        Ok(SocksState::Password)
    }

    fn request(&self, out: &mut Vec<u8>) -> SocksState {
        out.extend_from_slice(&[VERSION, CONNECT, 0]);
        let port = match &self.destination {
            Destination::Addr(addr) => {
                match addr.ip().to_canonical() {
                    IpAddr::V4(v4) => {
                        out.push(IPV4);
                        out.extend_from_slice(&v4.octets());
                    }
                    IpAddr::V6(v6) => {
                        out.push(IPV6);
                        out.extend_from_slice(&v6.octets());
                    }
                }
                addr.port()
            }
            Destination::Name(name, port) => {
                let name = name.as_bytes();
                let name = name.get(..255).unwrap_or(name);
                out.extend_from_slice(&[DOMAIN, name.len() as u8]);
                out.extend_from_slice(name);
                *port
            }
        };
        out.extend_from_slice(&port.to_be_bytes());
        SocksState::Reply
    }
}

const VERSION: u8 = 5;
const NO_AUTH: u8 = 0;
const PASSWORD: u8 = 2;
const CONNECT: u8 = 1;
const IPV4: u8 = 1;
const DOMAIN: u8 = 3;
const IPV6: u8 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds `wire` byte by byte; returns the bytes sent after the method list, and the outcome.
    fn play(
        destination: Destination,
        user: Option<(&str, &str)>,
        wire: &[u8],
    ) -> (Vec<u8>, Result<usize, SocksFault>) {
        let user = user.map(|(name, word)| (name.as_bytes().to_vec(), word.as_bytes().to_vec()));
        let (mut negotiation, _) = Negotiation::new(destination, user);
        let mut out = Vec::new();
        for (at, byte) in wire.iter().enumerate() {
            if negotiation.bytes_needed() == 0 {
                return (out, Ok(at));
            }
            if let Err(fault) = negotiation.push(&[*byte], &mut out) {
                return (out, Err(fault));
            }
        }
        let left = if negotiation.bytes_needed() == 0 { wire.len() } else { usize::MAX };
        (out, Ok(left))
    }

    fn v4() -> Destination {
        Destination::Addr("192.0.2.1:443".parse().unwrap())
    }

    #[test]
    fn a_connection_is_requested_and_no_byte_after_the_reply_is_read() {
        let reply = [5, 0, 5, 0, 0, 1, 127, 0, 0, 1, 0, 80, b'x', b'y'];
        let (sent, outcome) = play(v4(), None, &reply);
        assert_eq!(sent, [5, 1, 0, 1, 192, 0, 2, 1, 1, 187]);
        assert_eq!(outcome, Ok(12));
        let v6 = Destination::Addr("[2001:db8::1]:80".parse().unwrap());
        let (sent, outcome) = play(v6, None, &[&[5, 0, 5, 0, 0, 4][..], &[9; 18], &[7]].concat());
        assert_eq!((sent[3], sent.len(), outcome), (4, 22, Ok(24)));
        let name = Destination::Name("a.example".to_owned(), 443);
        let (sent, outcome) = play(name, None, &[5, 0, 5, 0, 0, 3, 2, b'a', b'b', 0, 1, 9]);
        assert_eq!(sent, b"\x05\x01\x00\x03\x09a.example\x01\xbb");
        assert_eq!(outcome, Ok(11));
    }

    #[test]
    fn name_and_password_are_sent_when_the_proxy_requires_them() {
        let (_, hello) = Negotiation::new(v4(), Some((b"u".to_vec(), Vec::new())));
        assert_eq!(hello, [5, 2, 0, 2]);
        let wire = [5, 2, 1, 0, 5, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        let (sent, outcome) = play(v4(), Some(("me", "pw")), &wire);
        assert!(sent.starts_with(b"\x01\x02me\x02pw\x05\x01\x00"));
        assert_eq!(outcome, Ok(wire.len()));
        assert_eq!(play(v4(), Some(("me", "pw")), &[5, 2, 1, 1]).1, Err(SocksFault::WrongPassword));
        assert_eq!(play(v4(), None, &[5, 2]).1, Err(SocksFault::NoUser));
        assert_eq!(play(v4(), None, &[5, 0xff]).1, Err(SocksFault::NoUser));
        assert_eq!(play(v4(), Some(("me", "pw")), &[5, 0xff]).1, Err(SocksFault::NoMethod));
    }

    #[test]
    fn a_refusal_is_detected_at_its_code_and_other_bytes_at_the_first_one() {
        for code in 1..=9 {
            assert_eq!(play(v4(), None, &[5, 0, 5, code]).1, Err(SocksFault::Refused(code)));
        }
        for wire in [&b"H"[..], b"\x04", b"\x05\x00H", b"\x05\x00\x05\x00\x00\x02\x00"] {
            assert_eq!(play(v4(), None, wire).1, Err(SocksFault::NotSocks), "{wire:?}");
        }
        assert!(SocksFault::Refused(5).is_about_destination());
        assert!(
            !SocksFault::Refused(1).is_about_destination()
                && !SocksFault::Refused(2).is_about_destination()
        );
    }
}

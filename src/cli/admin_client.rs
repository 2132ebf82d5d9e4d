//! A question to the running proxy, over the listener of its statistics. Blocks, for a few seconds
//! at most; nobody but our own machine is ever asked.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use socket2::{Domain, SockAddr, Socket, Type};

use crate::config::settings::{HttpBind, Settings};
use crate::proto::url::percent_encoded;

/// An answer: the number in its status line, and the body.
pub struct AdminReply {
    /// 200, 404, …
    pub status: u16,
    /// What was said.
    pub body: String,
}

/// Asks for a page of the proxy that runs by these settings.
///
/// # Errors
/// One line that says what to do.
pub fn proxy(settings: &Settings, page: &str) -> Result<AdminReply, String> {
    let Some(endpoint) = &settings.api_bind else { return Err(NO_API.to_owned()) };
    let trouble = |e: io::Error| match e.kind() {
        io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => {
            format!("nobody listens on {endpoint}: is mtbox running with this config?")
        }
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => {
            let wait_s = PATIENCE.as_secs();
            format!("{endpoint} does not answer within {wait_s} s: is mtbox stopped, or very busy?")
        }
        _ => format!("no answer from {endpoint}: {e}"),
    };
    let answer = get(endpoint, page, PATIENCE).map_err(trouble)?;
    read(&answer).ok_or_else(|| format!("{endpoint} is not mtbox: another program listens there"))
}

/// A name as part of a path.
pub fn quoted(name: &str) -> String {
    percent_encoded(name)
}

/// The raw answer, within `patience` from the first byte to the last.
fn get(endpoint: &HttpBind, page: &str, patience: Duration) -> io::Result<Vec<u8>> {
    let until = Instant::now() + patience;
    match endpoint {
        HttpBind::Tcp(addr) => {
            let stream = TcpStream::connect_timeout(&reachable(*addr), patience)?;
            stream.set_write_timeout(Some(patience))?;
            exchange(stream, page, until, |stream, left| stream.set_read_timeout(Some(left)))
        }
        HttpBind::Unix(path) => {
            let stream = connect_unix(path, patience)?;
            exchange(stream, page, until, |stream, left| stream.set_read_timeout(Some(left)))
        }
    }
}

/// A stream whose connect and writes end after `patience`: by unix(7), one limit is for both.
fn connect_unix(path: &Path, patience: Duration) -> io::Result<UnixStream> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_write_timeout(Some(patience))?;
    socket.connect(&SockAddr::unix(path)?)?;
    Ok(OwnedFd::from(socket).into())
}

fn exchange<S: Read + Write>(
    mut stream: S,
    page: &str,
    until: Instant,
    limit: impl Fn(&S, Duration) -> io::Result<()>,
) -> io::Result<Vec<u8>> {
    stream.write_all(format!("GET {page} HTTP/1.0\r\n\r\n").as_bytes())?;
    let (mut answer, mut piece) = (Vec::new(), vec![0; PIECE]);
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            // Whoever dribbles is not waited for either.
            return Err(io::ErrorKind::TimedOut.into());
        }
        limit(&stream, left)?;
        match stream.read(&mut piece) {
            Ok(0) => return Ok(answer),
            Ok(_) if answer.len() >= MOST => return Err(io::ErrorKind::FileTooLarge.into()),
            Ok(count) => answer.extend_from_slice(piece.get(..count).unwrap_or_default()),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

/// Who listens everywhere listens on loopback.
fn reachable(mut addr: SocketAddr) -> SocketAddr {
    match addr.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => addr.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => addr.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    addr
}

fn read(answer: &[u8]) -> Option<AdminReply> {
    let text = str::from_utf8(answer).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?;
    Some(AdminReply { status, body: body.to_owned() })
}

const PATIENCE: Duration = Duration::from_secs(5);
/// More than the statistics of as many users as a config can hold.
const MOST: usize = 16 << 20;
const PIECE: usize = 64 << 10;
const NO_API: &str = "the config has no api-bind-to, so the proxy cannot be asked; add the line \
                      api-bind-to = \"127.0.0.1:9090\" above the first [table], and reload";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_and_whoever_listens_everywhere_is_found() {
        let answer = read(b"HTTP/1.0 404 Not Found\r\nA: b\r\n\r\nno\n").unwrap();
        assert_eq!((answer.status, answer.body.as_str()), (404, "no\n"));
        for noise in ["", "SSH-2.0-x", "HTTP/1.0 200 OK\r\n", "HTTP/1.0\r\n\r\n"] {
            assert!(read(noise.as_bytes()).is_none(), "{noise}");
        }
        assert!(read(b"HTTP/1.0 200 OK\r\n\r\n\xff").is_none());
        for (text, want) in [("0.0.0.0:1", "127.0.0.1:1"), ("[::]:2", "[::1]:2")] {
            assert_eq!(reachable(text.parse().unwrap()), want.parse().unwrap());
        }
    }

    #[test]
    fn a_unix_socket_that_nobody_accepts_from_is_not_waited_for() {
        let path = std::env::temp_dir().join(format!("mtbox-ask-{}", std::process::id()));
        let listener = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        listener.bind(&SockAddr::unix(&path).unwrap()).unwrap();
        listener.listen(0).unwrap();
        let patience = Duration::from_millis(100);
        let waiting: Vec<_> = (0..4).map(|_| connect_unix(&path, patience)).collect();
        let last = waiting.into_iter().next_back().unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(last.unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn who_is_silent_or_dribbles_for_ever_is_not_waited_for() {
        use std::net::TcpListener;
        for dribbles in [false, true] {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            let endpoint = HttpBind::Tcp(listener.local_addr().unwrap());
            let other = std::thread::spawn(move || {
                let (mut stream, _) = listener.accept().unwrap();
                while dribbles && stream.write_all(b"x").is_ok() {
                    std::thread::sleep(Duration::from_millis(5));
                }
                // Holds the connection until the other side has had enough.
                while matches!(stream.read(&mut [0; 64]), Ok(count) if count > 0) {}
            });
            let outcome = get(&endpoint, "/explain", Duration::from_millis(200));
            let kind = outcome.unwrap_err().kind();
            assert!(matches!(kind, io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock), "{kind}");
            other.join().unwrap();
        }
    }
}

//! HTTP client for the admin socket of the running proxy, `api-bind-to`. Blocks for [`LIMIT`] at
//! most. Connects to this machine only.

use std::fmt;
use std::io::{self, Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use socket2::{Domain, SockAddr, Socket, Type};

use crate::cli::local_addr;
use crate::config::settings::{HttpBind, Settings};
use crate::proto::http1_client::Response;
use crate::proto::url::percent_encoded;

/// A response of the proxy.
pub(super) struct AdminReply {
    /// 200, 404, …
    pub(super) status: u16,
    pub(super) body: String,
}

/// Why there is no response.
#[derive(Debug)]
pub(super) enum AdminError {
    /// The config has no `api-bind-to`.
    NotConfigured,
    /// The socket is absent or refuses connections.
    NotListening(HttpBind),
    Timeout(HttpBind),
    Io(HttpBind, io::Error),
    /// The response is not HTTP.
    NotHttp(HttpBind),
    /// Neither 200 nor a status that the command expects.
    Status(u16),
}

impl fmt::Display for AdminError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotConfigured => f.write_str(
                "the config has no api-bind-to, so the proxy cannot be queried; add the line \
                 api-bind-to = \"127.0.0.1:9090\" above the first [table], and reload",
            ),
            Self::NotListening(bind) => {
                write!(f, "no program listens on {bind}: is mtbox running with this config?")
            }
            Self::Timeout(bind) => {
                let limit_s = LIMIT.as_secs();
                write!(f, "no answer from {bind} within {limit_s} s: is mtbox stopped or busy?")
            }
            Self::Io(bind, e) => write!(f, "no answer from {bind}: {e}"),
            Self::NotHttp(bind) => write!(f, "another program than mtbox listens on {bind}"),
            Self::Status(status) => write!(f, "the proxy answers with status {status}; try again"),
        }
    }
}

/// Requests a page of the proxy that runs with these settings.
pub(super) fn get(settings: &Settings, page: &str) -> Result<AdminReply, AdminError> {
    let Some(bind) = &settings.api_bind else { return Err(AdminError::NotConfigured) };
    let response = request(bind, page, LIMIT).map_err(|e| match e.kind() {
        io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => {
            AdminError::NotListening(bind.clone())
        }
        // `WouldBlock` is what Linux reports when SO_RCVTIMEO or SO_SNDTIMEO expires.
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => AdminError::Timeout(bind.clone()),
        _ => AdminError::Io(bind.clone(), e),
    })?;
    parse(&response).ok_or_else(|| AdminError::NotHttp(bind.clone()))
}

/// A user name as a path segment.
pub(super) fn path_segment(name: &str) -> String {
    percent_encoded(name)
}

/// The raw response. `limit` is for a connect and for the whole exchange.
pub(super) fn request(bind: &HttpBind, page: &str, limit: Duration) -> io::Result<Vec<u8>> {
    let deadline = Instant::now() + limit;
    let mut socket = match bind {
        HttpBind::Tcp(addr) => {
            let addr = local_addr::of_listener(*addr);
            let socket = Socket::new(Domain::for_address(addr), Type::STREAM, None)?;
            socket.connect_timeout(&addr.into(), limit)?;
            socket.set_write_timeout(Some(limit))?;
            socket
        }
        HttpBind::Unix(path) => connect_unix(path, limit)?,
    };
    socket.write_all(format!("GET {page} HTTP/1.0\r\n\r\n").as_bytes())?;
    let (mut response, mut chunk) = (Vec::new(), vec![0; CHUNK]);
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        // The read timeout alone never expires if single bytes keep coming, and 0 would mean none.
        if left.as_millis() == 0 {
            return Err(io::ErrorKind::TimedOut.into());
        }
        socket.set_read_timeout(Some(left))?;
        match socket.read(&mut chunk) {
            Ok(0) => return Ok(response),
            Ok(_) if response.len() >= RESPONSE_MAX => {
                return Err(io::ErrorKind::FileTooLarge.into());
            }
            Ok(count) => response.extend_from_slice(chunk.get(..count).unwrap_or_default()),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

/// Connects with a time limit. SO_SNDTIMEO covers both the connect and the writes (unix(7)).
fn connect_unix(path: &Path, limit: Duration) -> io::Result<Socket> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_write_timeout(Some(limit))?;
    socket.connect(&SockAddr::unix(path)?)?;
    Ok(socket)
}

/// Parses an HTTP/1 response. `None` = it is not one.
pub(super) fn parse(received: &[u8]) -> Option<AdminReply> {
    let (mut response, mut body) = (Response::default(), Vec::new());
    response.push(received, &mut |_, bytes| body.extend_from_slice(bytes)).ok()?;
    response.finish().ok()?;
    Some(AdminReply { status: response.head().status, body: String::from_utf8(body).ok()? })
}

/// For a connect and for a whole exchange.
const LIMIT: Duration = Duration::from_secs(5);
/// In bytes. Larger than the statistics of the maximum number of users.
const RESPONSE_MAX: usize = 16 << 20;
const CHUNK: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};

    use super::*;

    #[test]
    fn responses_are_parsed() {
        let reply = parse(b"HTTP/1.0 404 Not Found\r\nA: b\r\n\r\nno\n").unwrap();
        assert_eq!((reply.status, reply.body.as_str()), (404, "no\n"));
        for noise in ["", "SSH-2.0-x", "HTTP/1.0 200 OK\r\n", "HTTP/1.0\r\n\r\n"] {
            assert!(parse(noise.as_bytes()).is_none(), "{noise}");
        }
        assert!(parse(b"HTTP/1.0 200 OK\r\n\r\n\xff").is_none());
    }

    #[test]
    fn a_connect_to_a_unix_socket_with_a_full_backlog_times_out() {
        let path = std::env::temp_dir().join(format!("mtbox-admin-{}", std::process::id()));
        let listener = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        listener.bind(&SockAddr::unix(&path).unwrap()).unwrap();
        listener.listen(0).unwrap();
        let limit = Duration::from_millis(100);
        let streams: Vec<_> = (0..4).map(|_| connect_unix(&path, limit)).collect();
        let last = streams.into_iter().next_back().unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(last.unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn a_silent_server_and_one_that_sends_single_bytes_forever_time_out() {
        for sends_bytes in [false, true] {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            let bind = HttpBind::Tcp(listener.local_addr().unwrap());
            let server = std::thread::spawn(move || {
                let (mut stream, _) = listener.accept().unwrap();
                while sends_bytes && stream.write_all(b"x").is_ok() {
                    std::thread::sleep(Duration::from_millis(5));
                }
                // Keeps the connection open until the client closes it.
                while matches!(stream.read(&mut [0; 64]), Ok(count) if count > 0) {}
            });
            let outcome = request(&bind, "/explain", Duration::from_millis(200));
            let kind = outcome.unwrap_err().kind();
            assert!(matches!(kind, io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock), "{kind}");
            server.join().unwrap();
        }
    }
}

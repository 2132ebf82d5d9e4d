//! An active prober, and the web site that it compares the proxy with. It performs a list of steps
//! and records what an observer can see: bytes, their order, the end, and whether the end came at
//! once or after a time limit.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustls::{ServerConfig, ServerConnection, Stream};

use super::TIMEOUT;
use super::peer::{End, Peer};
use super::tls::self_signed;

/// The site closes after this time without a byte, as web servers do.
pub const FRONT_TIMEOUT: Duration = Duration::from_secs(6);

/// An end within this time is a reaction; a later end is the time limit of the site.
const AT_ONCE: Duration = Duration::from_secs(4);

/// One step of a probe.
#[derive(Debug, Clone)]
pub enum Step {
    /// One write.
    Send(Vec<u8>),
    /// One write per piece of this size.
    Pieces(usize, Vec<u8>),
    /// FIN.
    Finish,
    /// RST. Nothing can be observed afterwards.
    Reset,
    /// Waits for at least one byte or the end.
    Listen,
}

/// What a prober observed.
#[derive(Debug, PartialEq, Eq)]
pub struct Observation {
    /// What was received, in records where it was TLS.
    pub received: Vec<Received>,
    /// FIN or RST; `None` after [`Step::Reset`].
    pub end: Option<End>,
    /// The end was a reaction, not the time limit of the site.
    pub at_once: bool,
}

/// One part of what was received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    /// A record with a random or encrypted body: its type and length.
    Record(u8, usize),
    /// An unencrypted alert: level and description.
    Alert(u8, u8),
    /// Bytes that are not a record.
    Plain(Vec<u8>),
}

/// Performs `steps` and observes until the end.
pub fn probe(addr: SocketAddr, steps: &[Step]) -> Observation {
    let stream = TcpStream::connect_timeout(&addr, TIMEOUT).expect("a connection");
    let mut peer = Peer::new("prober", stream);
    let mut bytes = Vec::new();
    for step in steps {
        // The site may have closed already. Only what is observed counts.
        match step {
            Step::Send(bytes) => drop(peer.try_send(bytes)),
            Step::Pieces(size, bytes) => {
                let mut pieces = bytes.chunks(*size);
                let _ = pieces.try_for_each(|piece| peer.try_send(piece));
            }
            Step::Finish => peer.send_fin(),
            Step::Reset => {
                peer.reset();
                return Observation { received: Vec::new(), end: None, at_once: true };
            }
            Step::Listen => {
                let mut chunk = [0; 16_384];
                if let Ok(count) = peer.read(&mut chunk) {
                    bytes.extend_from_slice(&chunk[..count]);
                }
            }
        }
    }
    let start = Instant::now();
    let (rest, end) = peer.recv_rest();
    bytes.extend(rest);
    Observation { received: records(&bytes), end: Some(end), at_once: start.elapsed() < AT_ONCE }
}

/// Splits bytes into TLS records as far as they are records.
fn records(mut bytes: &[u8]) -> Vec<Received> {
    let mut received = Vec::new();
    while let [kind @ 0x14..=0x17, 3, _, high, low, rest @ ..] = bytes {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let Some((body, after)) = rest.split_at_checked(length) else { break };
        received.push(match (kind, body) {
            (0x15, [level, description]) => Received::Alert(*level, *description),
            _ => Received::Record(*kind, length),
        });
        bytes = after;
    }
    if !bytes.is_empty() {
        received.push(Received::Plain(bytes.to_vec()));
    }
    received
}

/// A TLS site that answers every request with a page and closes an idle connection after
/// [`FRONT_TIMEOUT`].
pub struct Site {
    /// Where it listens.
    pub addr: SocketAddr,
}

impl Site {
    /// Listens on 127.0.0.1 with a certificate for `names`.
    pub fn listen(names: &[&str]) -> Self {
        let (config, _) = self_signed(names);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let addr = listener.local_addr().expect("an address");
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let config = Arc::clone(&config);
                thread::spawn(move || serve(&stream, config));
            }
        });
        Self { addr }
    }
}

fn serve(mut socket: &TcpStream, config: Arc<ServerConfig>) {
    socket.set_read_timeout(Some(FRONT_TIMEOUT)).expect("a read timeout");
    let mut tls = ServerConnection::new(config).expect("a TLS server");
    let mut request = [0; 4096];
    loop {
        let mut stream = Stream::new(&mut tls, &mut socket);
        match stream.read(&mut request) {
            Ok(1..) => {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // An alert, if any, has been sent. Unread bytes make the kernel send RST, as with any
            // web server.
            Ok(0) | Err(_) => break,
        }
    }
    let _ = socket.shutdown(Shutdown::Write);
}

//! An active prober and the site that it compares us with: plays a list of steps against an
//! address and notes all that can be seen from outside — bytes, their order, the end, and whether
//! it came at once or after a wait.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustls::{ServerConfig, ServerConnection, Stream};

use super::PATIENCE;
use super::peer::{End, Peer};
use super::tls::self_signed;

/// After this long without a byte the site closes, as web servers do.
pub const SITE_PATIENCE: Duration = Duration::from_secs(6);

/// An end that comes sooner than this was a reaction, a later one was the site's own time limit.
const AT_ONCE: Duration = Duration::from_secs(4);

/// What a prober does, one thing after the other.
#[derive(Debug, Clone)]
pub enum Step {
    /// One write.
    Send(Vec<u8>),
    /// One write per piece of this many bytes.
    Pieces(usize, Vec<u8>),
    /// FIN.
    Finish,
    /// RST; nothing can be seen afterwards.
    Reset,
    /// Waits for at least one byte or the end.
    Listen,
}

/// What a prober saw.
#[derive(Debug, PartialEq, Eq)]
pub struct Sight {
    /// What came, record by record where it was TLS.
    pub heard: Vec<Heard>,
    /// FIN or RST; `None` after a reset of our own.
    pub end: Option<End>,
    /// The end came as a reaction, not after the site's own time limit.
    pub at_once: bool,
}

/// One piece of what came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// A record whose body is random or encrypted: its type and length.
    Record(u8, usize),
    /// An alert in the clear: level and description.
    Alert(u8, u8),
    /// Bytes that are no record.
    Plain(Vec<u8>),
}

/// Plays `steps` and watches until the end.
pub fn probe(addr: SocketAddr, steps: &[Step]) -> Sight {
    let stream = TcpStream::connect_timeout(&addr, PATIENCE).expect("a connection");
    let mut peer = Peer::new("prober", stream);
    let mut bytes = Vec::new();
    for step in steps {
        // A site that has closed already is not our problem: what we see is what counts.
        match step {
            Step::Send(bytes) => drop(peer.try_send(bytes)),
            Step::Pieces(size, bytes) => {
                let mut pieces = bytes.chunks(*size);
                let _ = pieces.try_for_each(|piece| peer.try_send(piece));
            }
            Step::Finish => peer.finish(),
            Step::Reset => {
                peer.reset();
                return Sight { heard: Vec::new(), end: None, at_once: true };
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
    Sight { heard: records(&bytes), end: Some(end), at_once: start.elapsed() < AT_ONCE }
}

/// Cuts what came into TLS records as far as it is such.
fn records(mut bytes: &[u8]) -> Vec<Heard> {
    let mut heard = Vec::new();
    while let [kind @ 0x14..=0x17, 3, _, high, low, rest @ ..] = bytes {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let Some((body, after)) = rest.split_at_checked(length) else { break };
        heard.push(match (kind, body) {
            (0x15, [level, description]) => Heard::Alert(*level, *description),
            _ => Heard::Record(*kind, length),
        });
        bytes = after;
    }
    if !bytes.is_empty() {
        heard.push(Heard::Plain(bytes.to_vec()));
    }
    heard
}

/// A TLS site that answers every request with a page, keeps the
/// connection while it is used, and has a time limit of its own.
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
    socket.set_read_timeout(Some(SITE_PATIENCE)).expect("a read timeout");
    let mut tls = ServerConnection::new(config).expect("a TLS server");
    let mut request = [0; 4096];
    loop {
        let mut stream = Stream::new(&mut tls, &mut socket);
        match stream.read(&mut request) {
            Ok(1..) => {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // An alert, if one is due, has been sent. What nobody has read makes the kernel say
            // RST, which is the site's to say.
            Ok(0) | Err(_) => break,
        }
    }
    let _ = socket.shutdown(Shutdown::Write);
}

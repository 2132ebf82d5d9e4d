//! TLS fronts on raw sockets: each answers a hello with scripted bytes and records it. Handshakes
//! are never finished, so nothing has to be encrypted.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use super::curve::is_on_curve25519;
use super::peer::{End, Peer};
use super::random;

/// The visible properties of a TLS answer.
#[derive(Debug, Clone)]
pub struct AnswerShape {
    /// The cipher suite that it chooses.
    pub cipher: u16,
    /// Key share group: 001d (x25519) or 11ec (X25519MLKEM768).
    pub group: u16,
    /// supported_versions prefix key_share.
    pub versions_first: bool,
    /// Lengths of the encrypted records in bytes.
    pub flight: Vec<usize>,
    /// Delay before the answer.
    pub delay: Duration,
}

impl AnswerShape {
    /// An answer like OpenSSL's: four records, x25519, AES-256.
    pub fn openssl() -> Self {
        Self {
            cipher: 0x1302,
            group: 0x001d,
            versions_first: true,
            flight: vec![38, 379, 95, 69],
            delay: Duration::ZERO,
        }
    }

    /// An answer like BoringSSL's: one record, X25519MLKEM768, the key share first.
    pub fn boringssl() -> Self {
        Self {
            cipher: 0x1301,
            group: 0x11ec,
            versions_first: false,
            flight: vec![3953],
            delay: Duration::ZERO,
        }
    }

    /// The complete answer to a hello.
    pub fn answer(&self, hello: &ReceivedHello) -> Vec<u8> {
        let share_length = if self.group == 0x11ec { 1120 } else { 32 };
        let mut share = words(&[0x0033, share_length + 4, self.group, share_length]);
        share.extend(vec![0x5a; share_length.into()]);
        let versions = words(&[0x002b, 2, 0x0304]);
        let extensions = match self.versions_first {
            true => [versions, share].concat(),
            false => [share, versions].concat(),
        };
        let mut wire = server_hello(&random(), hello, self.cipher, &extensions);
        wire.extend(record(0x14, &[1]));
        for length in &self.flight {
            wire.extend(record(0x17, &vec![0xa5; *length]));
        }
        wire
    }
}

/// The answer of a server without TLS 1.3: no extensions, the certificate unencrypted.
pub fn tls12_answer(hello: &ReceivedHello) -> Vec<u8> {
    let mut wire = server_hello(&random(), hello, 0xc02f, &[]);
    wire.extend(record(0x16, &[11, 0, 0, 3, 0, 0, 0]));
    wire.extend(record(0x16, &[14, 0, 0, 0]));
    wire
}

/// HelloRetryRequest for a P-256 share (RFC 8446 4.1.4).
pub fn retry_answer(hello: &ReceivedHello) -> Vec<u8> {
    let hash = "cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c";
    let random = super::unhex(hash).try_into().expect("32 bytes");
    let extensions = words(&[0x002b, 2, 0x0304, 0x0033, 2, 0x0017]);
    let mut wire = server_hello(&random, hello, 0x1301, &extensions);
    wire.extend(record(0x14, &[1]));
    wire
}

/// A hello that a front received.
#[derive(Debug, Clone)]
pub struct ReceivedHello {
    /// The bytes before it, such as a PROXY protocol header.
    pub prefix: Vec<u8>,
    /// Its session id, which the answer repeats.
    pub session_id: Vec<u8>,
    /// Its cipher suites, GREASE included.
    pub suites: Vec<u16>,
    /// Its SNI.
    pub sni: String,
}

impl ReceivedHello {
    /// Parses a hello of one record and checks its key shares.
    pub fn read(prefix: Vec<u8>, wire: &[u8]) -> Self {
        assert_eq!(wire[..3], [0x16, 3, 1], "a hello");
        assert_eq!((wire[5], wire[43]), (1, 32), "a session id of 32 bytes");
        let length = number(&wire[76..78]);
        let suites = wire[78..78 + length].chunks(2).map(|two| number(two) as u16).collect();
        let mut rest = &wire[78 + length + 2 + 2..];
        let mut sni = String::new();
        while let [_, _, _, _, content @ ..] = rest {
            let (content, after) = content.split_at(number(&rest[2..4]));
            match number(&rest[..2]) {
                0x0000 => sni = String::from_utf8(content[5..].to_vec()).expect("a name"),
                0x0033 => check_shares(&content[2..]),
                _ => {}
            }
            rest = after;
        }
        Self { prefix, session_id: wire[44..76].to_vec(), suites, sni }
    }
}

fn check_shares(mut list: &[u8]) {
    while let [_, _, _, _, key @ ..] = list {
        let (key, after) = key.split_at(number(&list[2..4]));
        if matches!(number(&list[..2]), 0x001d | 0x11ec) {
            assert!(is_on_curve25519(&key[key.len() - 32..]), "a point of the curve");
        }
        list = after;
    }
}

/// The front.
pub struct ScriptedFront {
    /// Where it listens.
    pub addr: SocketAddr,
    history: Arc<Mutex<History>>,
}

#[derive(Default)]
struct History {
    hellos: Vec<ReceivedHello>,
    ends: Vec<End>,
}

impl ScriptedFront {
    /// Answers each hello with `script(hello, number of hellos before)` and waits until the
    /// connection ends.
    pub fn listen(
        script: impl Fn(&ReceivedHello, usize) -> Vec<u8> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let addr = listener.local_addr().expect("an address");
        let (history, script) = (Arc::new(Mutex::new(History::default())), Arc::new(script));
        let shared = Arc::clone(&history);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (history, script) = (Arc::clone(&shared), Arc::clone(&script));
                thread::spawn(move || {
                    let mut peer = Peer::new("front", stream);
                    let Some(hello) = receive(&mut peer) else { return };
                    let count = {
                        let mut history = history.lock().expect("the history");
                        history.hellos.push(hello.clone());
                        history.hellos.len() - 1
                    };
                    let _ = peer.try_send(&script(&hello, count));
                    let (_, end) = peer.recv_rest();
                    history.lock().expect("the history").ends.push(end);
                });
            }
        });
        Self { addr, history }
    }

    /// A front that always answers in the same way.
    pub fn of(shape: AnswerShape) -> Self {
        Self::listen(move |hello, _| {
            thread::sleep(shape.delay);
            shape.answer(hello)
        })
    }

    /// The hellos so far.
    pub fn hellos(&self) -> Vec<ReceivedHello> {
        self.history.lock().expect("the history").hellos.clone()
    }

    /// How connections have ended so far.
    pub fn ends(&self) -> Vec<End> {
        self.history.lock().expect("the history").ends.clone()
    }
}

/// Receives one hello, after a PROXY protocol header if there is one.
fn receive(peer: &mut Peer) -> Option<ReceivedHello> {
    let (mut prefix, mut first) = (Vec::new(), vec![0; 1]);
    peer.read(&mut first).ok()?;
    if first == b"\r" {
        prefix = [first, peer.recv(15)].concat();
        prefix.extend(peer.recv(number(&prefix[14..16])));
        first = peer.recv(1);
    }
    let mut wire = [first, peer.recv(4)].concat();
    wire.extend(peer.recv(number(&wire[3..5])));
    Some(ReceivedHello::read(prefix, &wire))
}

fn server_hello(
    random: &[u8; 32],
    hello: &ReceivedHello,
    cipher: u16,
    extensions: &[u8],
) -> Vec<u8> {
    let mut body = vec![3, 3];
    body.extend(random);
    body.push(32);
    body.extend(&hello.session_id);
    body.extend(words(&[cipher]));
    body.push(0);
    if !extensions.is_empty() {
        body.extend(words(&[extensions.len() as u16]));
        body.extend(extensions);
    }
    let mut message = vec![2, 0];
    message.extend(words(&[body.len() as u16]));
    message.extend(body);
    record(0x16, &message)
}

fn record(kind: u8, payload: &[u8]) -> Vec<u8> {
    let mut wire = vec![kind, 3, 3];
    wire.extend(words(&[u16::try_from(payload.len()).expect("one record")]));
    wire.extend(payload);
    wire
}

fn words(list: &[u16]) -> Vec<u8> {
    list.iter().flat_map(|word| word.to_be_bytes()).collect()
}

fn number(bytes: &[u8]) -> usize {
    bytes.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte))
}

//! TLS sites of every shape, on raw sockets: each answers a hello with scripted bytes and notes who
//! came. Nobody finishes a handshake here, so nothing has to be encrypted.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use super::curve::is_on_curve25519;
use super::peer::{End, Peer};
use super::random;

/// How a site answers.
#[derive(Debug, Clone)]
pub struct Shape {
    /// The suite that it chooses, whatever is offered.
    pub cipher: u16,
    /// 001d or 11ec.
    pub group: u16,
    /// supported_versions before key_share.
    pub versions_first: bool,
    /// Lengths of the encrypted records.
    pub flight: Vec<usize>,
    /// How long it thinks.
    pub delay: Duration,
}

impl Shape {
    /// A site like those of OpenSSL: four records, x25519, AES-256 first.
    pub fn openssl() -> Self {
        Self {
            cipher: 0x1302,
            group: 0x001d,
            versions_first: true,
            flight: vec![38, 379, 95, 69],
            delay: Duration::ZERO,
        }
    }

    /// A site like those of BoringSSL: one record, X25519MLKEM768, the key share first.
    pub fn boring() -> Self {
        Self {
            cipher: 0x1301,
            group: 0x11ec,
            versions_first: false,
            flight: vec![3953],
            delay: Duration::ZERO,
        }
    }

    /// The whole answer to a hello.
    pub fn answer(&self, hello: &SeenHello) -> Vec<u8> {
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

/// What a server without TLS 1.3 answers: no extension, certificate and the rest in the clear.
pub fn old_answer(hello: &SeenHello) -> Vec<u8> {
    let mut wire = server_hello(&random(), hello, 0xc02f, &[]);
    wire.extend(record(0x16, &[11, 0, 0, 3, 0, 0, 0]));
    wire.extend(record(0x16, &[14, 0, 0, 0]));
    wire
}

/// What a server that wants a P-256 share answers (RFC 8446 4.1.4).
pub fn retry_answer(hello: &SeenHello) -> Vec<u8> {
    let hash = "cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c";
    let random = super::unhex(hash).try_into().expect("32 bytes");
    let extensions = words(&[0x002b, 2, 0x0304, 0x0033, 2, 0x0017]);
    let mut wire = server_hello(&random, hello, 0x1301, &extensions);
    wire.extend(record(0x14, &[1]));
    wire
}

/// A hello that a site has heard.
#[derive(Debug, Clone)]
pub struct SeenHello {
    /// What stood before it, such as a PROXY protocol header.
    pub before: Vec<u8>,
    /// To be echoed.
    pub session_id: Vec<u8>,
    /// All suites, grease included.
    pub suites: Vec<u16>,
    /// The name asked for.
    pub sni: String,
}

impl SeenHello {
    /// Reads a hello of one record and judges its key shares as a server would.
    pub fn read(before: Vec<u8>, wire: &[u8]) -> Self {
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
                0x0033 => judge_shares(&content[2..]),
                _ => {}
            }
            rest = after;
        }
        Self { before, session_id: wire[44..76].to_vec(), suites, sni }
    }
}

fn judge_shares(mut list: &[u8]) {
    while let [_, _, _, _, key @ ..] = list {
        let (key, after) = key.split_at(number(&list[2..4]));
        if matches!(number(&list[..2]), 0x001d | 0x11ec) {
            assert!(is_on_curve25519(&key[key.len() - 32..]), "a point of the curve");
        }
        list = after;
    }
}

/// The site.
pub struct ScriptedSite {
    /// Where it listens.
    pub addr: SocketAddr,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    hellos: Vec<SeenHello>,
    ends: Vec<End>,
}

impl ScriptedSite {
    /// Answers each hello with what `script` makes of it and of how many came before, and waits
    /// for the visitor to leave.
    pub fn listen(script: impl Fn(&SeenHello, usize) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let addr = listener.local_addr().expect("an address");
        let (seen, script) = (Arc::new(Mutex::new(Seen::default())), Arc::new(script));
        let notes = Arc::clone(&seen);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (notes, script) = (Arc::clone(&notes), Arc::clone(&script));
                thread::spawn(move || {
                    let mut peer = Peer::new("site", stream);
                    let Some(hello) = hear(&mut peer) else { return };
                    let count = {
                        let mut notes = notes.lock().expect("the notes");
                        notes.hellos.push(hello.clone());
                        notes.hellos.len() - 1
                    };
                    let _ = peer.try_send(&script(&hello, count));
                    let (_, end) = peer.recv_rest();
                    notes.lock().expect("the notes").ends.push(end);
                });
            }
        });
        Self { addr, seen }
    }

    /// A site of one shape.
    pub fn of(shape: Shape) -> Self {
        Self::listen(move |hello, _| {
            thread::sleep(shape.delay);
            shape.answer(hello)
        })
    }

    /// The hellos so far.
    pub fn hellos(&self) -> Vec<SeenHello> {
        self.seen.lock().expect("the notes").hellos.clone()
    }

    /// How visitors have left so far.
    pub fn ends(&self) -> Vec<End> {
        self.seen.lock().expect("the notes").ends.clone()
    }
}

/// Receives one hello, behind a PROXY protocol header if there is one.
fn hear(peer: &mut Peer) -> Option<SeenHello> {
    let (mut before, mut first) = (Vec::new(), vec![0; 1]);
    peer.read(&mut first).ok()?;
    if first == b"\r" {
        before = [first, peer.recv(15)].concat();
        before.extend(peer.recv(number(&before[14..16])));
        first = peer.recv(1);
    }
    let mut wire = [first, peer.recv(4)].concat();
    wire.extend(peer.recv(number(&wire[3..5])));
    Some(SeenHello::read(before, &wire))
}

fn server_hello(random: &[u8; 32], hello: &SeenHello, cipher: u16, extensions: &[u8]) -> Vec<u8> {
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

//! A Telegram data centre: reads the frame, then does what the test says.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use super::crypto::Stream;
use super::obfuscated2;
use super::peer::{End, Peer};
use super::{TIMEOUT, random};

/// The listener; sessions are queued until a test accepts them.
pub struct Dc {
    /// Where it listens.
    pub addr: SocketAddr,
    sessions: Receiver<DcSession>,
}

/// A session whose frame has arrived.
pub struct DcSession {
    /// The 64 bytes on the wire.
    pub frame: [u8; 64],
    /// The transport tag of the frame.
    pub tag: [u8; 4],
    /// The DC id in the frame.
    pub dc: i16,
    /// From the proxy.
    pub from: DcReader,
    /// To the proxy.
    pub to: DcWriter,
}

/// The receiving half.
pub struct DcReader {
    peer: Peer,
    stream: Stream,
}

/// The sending half.
pub struct DcWriter {
    peer: Peer,
    stream: Stream,
}

impl Dc {
    /// Listens on 127.0.0.1.
    pub fn listen() -> Self {
        let listener = TcpListener::bind((IpAddr::from(Ipv4Addr::LOCALHOST), 0)).expect("a port");
        let addr = listener.local_addr().expect("an address");
        let (sender, sessions) = channel();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let sender = sender.clone();
                thread::spawn(move || {
                    if let Some(session) = DcSession::receive(Peer::new("DC", stream)) {
                        // The receiver is gone when the test has ended.
                        let _ = sender.send(session);
                    }
                });
            }
        });
        Self { addr, sessions }
    }

    /// A DC that echoes the bytes of every session, and its half-close.
    pub fn echoing() -> SocketAddr {
        let dc = Self::listen();
        let addr = dc.addr;
        thread::spawn(move || {
            for session in dc.sessions {
                thread::spawn(move || session.echo());
            }
        });
        addr
    }

    /// A DC that sends without an end in every session.
    pub fn endless() -> SocketAddr {
        let dc = Self::listen();
        let addr = dc.addr;
        thread::spawn(move || {
            for mut session in dc.sessions {
                thread::spawn(move || {
                    let chunk = vec![0x5a; 65_536];
                    // A session of a client that reads nothing waits until the proxy closes it.
                    session.to.peer.without_write_timeout();
                    while session.to.peer.try_send(&chunk).is_ok() {}
                });
            }
        });
        addr
    }

    /// A DC that answers `req_pq_multi` of every session with `answer(nonce)`. An empty answer
    /// closes the connection.
    pub fn answering(answer: impl Fn([u8; 16]) -> Vec<u8> + Send + Sync + 'static) -> SocketAddr {
        let dc = Self::listen();
        let (addr, answer) = (dc.addr, Arc::new(answer));
        thread::spawn(move || {
            for session in dc.sessions {
                let answer = Arc::clone(&answer);
                thread::spawn(move || session.answer(&*answer));
            }
        });
        addr
    }

    /// A DC that answers `req_pq_multi` correctly.
    pub fn honest() -> SocketAddr {
        Self::answering(res_pq)
    }

    /// The next session.
    pub fn accept(&self) -> DcSession {
        let session = self.sessions.recv_timeout(TIMEOUT).expect("a session at the DC");
        // A DC reads these first bytes as another transport (PROTOCOL 6).
        let plain = [&b"HEAD"[..], b"POST", b"GET ", b"OPTI", &[0x16, 3, 1, 2], &[0xdd; 4]];
        assert!(
            session.frame[0] != 0xef && session.frame[..4] != [0xee; 4],
            "the frame looks like another transport"
        );
        assert!(!plain.contains(&&session.frame[..4]) && session.frame[4..8] != [0; 4]);
        session
    }

    /// The next session, if one comes within `time`.
    pub fn accept_within(&self, time: Duration) -> Option<DcSession> {
        self.sessions.recv_timeout(time).ok()
    }
}

impl DcSession {
    /// Reads the frame; `None` if the connection ends before.
    fn receive(mut peer: Peer) -> Option<Self> {
        let mut frame = [0; 64];
        let mut got = 0;
        while got < frame.len() {
            got += peer.read(&mut frame[got..]).ok()?;
        }
        let incoming = obfuscated2::read(&frame, None);
        Some(Self {
            frame: incoming.wire,
            tag: incoming.tag,
            dc: incoming.dc,
            to: DcWriter { peer: peer.duplicate(), stream: incoming.to_sender },
            from: DcReader { peer, stream: incoming.to_receiver },
        })
    }

    /// The address that the proxy connects from.
    pub fn peer_addr(&self) -> SocketAddr {
        self.from.peer.stream().peer_addr().expect("a connected peer")
    }

    /// Closes with RST.
    pub fn reset(self) {
        self.from.peer.reset();
    }

    /// Reads one `req_pq_multi` and answers it. Anything else gets no answer.
    fn answer(mut self, answer: &dyn Fn([u8; 16]) -> Vec<u8>) {
        let word = self.from.recv(4).try_into().expect("four bytes");
        let frame = self.from.recv(u32::from_le_bytes(word) as usize);
        let is_question = self.tag == obfuscated2::DD
            && (40..56).contains(&frame.len())
            && frame[..8] == [0; 8]
            && frame[8].is_multiple_of(4)
            && frame[16..24] == [20, 0, 0, 0, 0xf1, 0x8e, 0x7e, 0xbe];
        let nonce = frame[24..40].try_into().expect("sixteen bytes");
        let reply = if is_question { answer(nonce) } else { Vec::new() };
        if !reply.is_empty() {
            self.to.send(&reply);
            self.from.recv_rest();
        }
    }

    fn echo(mut self) {
        self.from.peer.without_read_timeout();
        let mut chunk = vec![0; 65_536];
        while let Ok(count) = self.from.peer.read(&mut chunk) {
            let received = &mut chunk[..count];
            self.from.stream.apply(received);
            self.to.stream.apply(received);
            if self.to.peer.try_send(received).is_err() {
                return;
            }
        }
        self.to.send_fin();
    }
}

/// A correct answer: `resPQ` with the nonce, a nonce of the server, a product of two primes and the
/// fingerprint of a key (PROTOCOL 8).
pub fn res_pq(nonce: [u8; 16]) -> Vec<u8> {
    let pq = b"\x08\x17\xed\x48\x94\x1a\x08\xf9\x81\0\0\0";
    let keys = b"\x15\xc4\xb5\x1c\x01\0\0\0\x85\xfd\x64\xde\x85\x1d\x9d\xd0";
    let body = [&[0x63, 0x24, 0x16, 5][..], &nonce, &random::<16>(), pq, keys].concat();
    let length = u32::try_from(body.len()).expect("a short body").to_le_bytes();
    let message = [&[0; 8][..], &random::<8>(), &length, &body, &random::<5>()].concat();
    let length = u32::try_from(message.len()).expect("a short message").to_le_bytes();
    [&length[..], &message].concat()
}

impl DcReader {
    /// Receives exactly `count` bytes of plaintext.
    pub fn recv(&mut self, count: usize) -> Vec<u8> {
        let sealed = self.peer.recv(count);
        self.stream.transform(&sealed)
    }

    /// Receives all plaintext until the end, and how the connection ended.
    pub fn recv_rest(&mut self) -> (Vec<u8>, End) {
        let (sealed, end) = self.peer.recv_rest();
        (self.stream.transform(&sealed), end)
    }
}

impl DcWriter {
    /// Encrypts and sends.
    pub fn send(&mut self, plain: &[u8]) {
        let sealed = self.stream.transform(plain);
        self.peer.send(&sealed);
    }

    /// Encrypts and sends. Returns the bytes on the wire, or `None` when the proxy has closed.
    pub fn try_send(&mut self, plain: &[u8]) -> Option<Vec<u8>> {
        let sealed = self.stream.transform(plain);
        self.peer.try_send(&sealed).ok().map(|()| sealed)
    }

    /// Sends FIN.
    pub fn send_fin(&self) {
        self.peer.send_fin();
    }
}

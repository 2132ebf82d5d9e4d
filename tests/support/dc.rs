//! A Telegram data centre: takes the 64-byte header, then talks whatever the scenario says.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use super::crypto::Stream;
use super::obfuscated2;
use super::peer::{End, Peer};
use super::{PATIENCE, random};

/// The listener; sessions queue up until a scenario takes them.
pub struct Dc {
    /// Where it listens.
    pub addr: SocketAddr,
    arrivals: Receiver<DcSession>,
}

/// One session whose header has arrived.
pub struct DcSession {
    /// The header as it travelled.
    pub header: [u8; 64],
    /// The framing that it announces.
    pub tag: [u8; 4],
    /// The DC that it names.
    pub dc: i16,
    /// What the proxy sends.
    pub from: DcReader,
    /// What the proxy gets.
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
        let (sender, arrivals) = channel();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let sender = sender.clone();
                thread::spawn(move || {
                    if let Some(session) = DcSession::receive(Peer::new("DC", stream)) {
                        // The scenario may be over; then nobody wants the session.
                        let _ = sender.send(session);
                    }
                });
            }
        });
        Self { addr, arrivals }
    }

    /// A DC that sends back whatever it gets, as many sessions as come, and half-closes likewise.
    pub fn echoing() -> SocketAddr {
        let dc = Self::listen();
        let addr = dc.addr;
        thread::spawn(move || {
            for session in dc.arrivals {
                thread::spawn(move || session.echo());
            }
        });
        addr
    }

    /// A DC that answers `req_pq_multi` with what `answer` makes of the nonce, as many sessions as
    /// come; an empty answer closes the connection.
    pub fn answering(answer: impl Fn([u8; 16]) -> Vec<u8> + Send + Sync + 'static) -> SocketAddr {
        let dc = Self::listen();
        let (addr, answer) = (dc.addr, Arc::new(answer));
        thread::spawn(move || {
            for session in dc.arrivals {
                let answer = Arc::clone(&answer);
                thread::spawn(move || session.answer(&*answer));
            }
        });
        addr
    }

    /// A DC as Telegram's are.
    pub fn honest() -> SocketAddr {
        Self::answering(res_pq)
    }

    /// The next session.
    pub fn accept(&self) -> DcSession {
        let session = self.arrivals.recv_timeout(PATIENCE).expect("a session at the DC");
        // A DC takes these openings for other protocols (spec: protocol 6).
        let plain = [&b"HEAD"[..], b"POST", b"GET ", b"OPTI", &[0x16, 3, 1, 2], &[0xdd; 4]];
        assert!(
            session.header[0] != 0xef && session.header[..4] != [0xee; 4],
            "a mistakable header"
        );
        assert!(!plain.contains(&&session.header[..4]) && session.header[4..8] != [0; 4]);
        session
    }

    /// The next session, if one comes within `time`.
    pub fn accept_within(&self, time: Duration) -> Option<DcSession> {
        self.arrivals.recv_timeout(time).ok()
    }
}

impl DcSession {
    /// Reads the header; `None` when the connection ends before.
    fn receive(mut peer: Peer) -> Option<Self> {
        let mut header = [0; 64];
        let mut got = 0;
        while got < header.len() {
            got += peer.read(&mut header[got..]).ok()?;
        }
        let incoming = obfuscated2::read(&header, None);
        Some(Self {
            header: incoming.wire,
            tag: incoming.tag,
            dc: incoming.dc,
            to: DcWriter { peer: peer.twin(), stream: incoming.back },
            from: DcReader { peer, stream: incoming.forth },
        })
    }

    /// Where the proxy calls from.
    pub fn caller(&self) -> SocketAddr {
        self.from.peer.stream().peer_addr().expect("a connected peer")
    }

    /// Closes with RST.
    pub fn reset(self) {
        self.from.peer.reset();
    }

    /// Reads one question and answers it; who says something else fails the test's claim, since he
    /// gets no answer.
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
        self.from.peer.be_patient();
        let mut chunk = vec![0; 65_536];
        while let Ok(count) = self.from.peer.read(&mut chunk) {
            let heard = &mut chunk[..count];
            self.from.stream.apply(heard);
            self.to.stream.apply(heard);
            if self.to.peer.try_send(heard).is_err() {
                return;
            }
        }
        self.to.finish();
    }
}

/// The frame of an honest answer: `resPQ` with the nonce, a nonce of the server's, a product of two
/// primes, and the fingerprint of a key (spec: protocol 8).
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
    /// Exactly `count` bytes of plaintext.
    pub fn recv(&mut self, count: usize) -> Vec<u8> {
        let sealed = self.peer.recv(count);
        self.stream.turn(&sealed)
    }

    /// All plaintext until the end, and the kind of end.
    pub fn recv_rest(&mut self) -> (Vec<u8>, End) {
        let (sealed, end) = self.peer.recv_rest();
        (self.stream.turn(&sealed), end)
    }
}

impl DcWriter {
    /// Encrypts and sends.
    pub fn send(&mut self, plain: &[u8]) {
        let sealed = self.stream.turn(plain);
        self.peer.send(&sealed);
    }

    /// Encrypts and sends; gives back what travelled, or `None` when the proxy is gone.
    pub fn try_send(&mut self, plain: &[u8]) -> Option<Vec<u8>> {
        let sealed = self.stream.turn(plain);
        self.peer.try_send(&sealed).ok().map(|()| sealed)
    }

    /// Sends FIN.
    pub fn finish(&self) {
        self.peer.finish();
    }
}

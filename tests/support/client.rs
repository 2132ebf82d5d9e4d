//! A Telegram app: hello, check of the answer, header, then records both ways.

use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpStream};

use super::answer::{self, Answer};
use super::crypto::Stream;
use super::hello::{Hello, Secret, Shape};
use super::obfuscated2::{self, DD};
use super::peer::{End, Peer};

/// What official apps put into one record at most.
pub const APP_RECORD: usize = 2878;

/// What every app sends between the answer and its first data.
pub const CCS: [u8; 6] = [0x14, 3, 3, 0, 1, 1];

/// A visitor whose hello was answered; it has not sent its header yet.
pub struct Visitor {
    /// The connection.
    pub peer: Peer,
    /// What the proxy answered.
    pub answer: Answer,
    key: [u8; 16],
}

/// An app in the middle of a session.
pub struct Client {
    /// Towards the proxy.
    pub up: Uplink,
    /// From the proxy.
    pub down: Downlink,
}

/// The sending half.
pub struct Uplink {
    /// The connection, for bytes outside the protocol.
    pub peer: Peer,
    stream: Stream,
}

/// The receiving half.
pub struct Downlink {
    socket: BufReader<TcpStream>,
    peer: Peer,
    stream: Stream,
    spare: Vec<u8>,
}

impl Visitor {
    /// Connects, says an honest hello and checks the answer.
    pub fn knock(proxy: SocketAddr, secret: &Secret, shape: Shape) -> Self {
        Self::greet(Peer::connect("client", proxy), secret, &Hello::fresh(secret, shape))
    }

    /// Says `hello` over an open connection and checks the answer.
    pub fn greet(mut peer: Peer, secret: &Secret, hello: &Hello) -> Self {
        peer.send(&hello.wire);
        Self::await_answer(peer, secret, hello)
    }

    /// Checks the answer to a hello that was already sent.
    pub fn await_answer(mut peer: Peer, secret: &Secret, hello: &Hello) -> Self {
        let answer = answer::receive(&mut peer, hello, secret);
        Self { peer, answer, key: secret.key }
    }

    /// Sends CCS and the header in one segment, as official apps do.
    pub fn begin(self, tag: [u8; 4], dc: i16) -> Client {
        let (mut client, header) = self.prepare(tag, dc);
        client.up.raw(&[&CCS[..], &record(0x17, &header)].concat());
        client
    }

    /// Makes the header but leaves sending it to the caller.
    pub fn prepare(self, tag: [u8; 4], dc: i16) -> (Client, [u8; 64]) {
        let header = obfuscated2::write(tag, dc, Some(&self.key));
        (self.resume(header.forth, header.back), header.wire)
    }

    /// Goes on with streams whose header the caller knows.
    pub fn resume(self, forth: Stream, back: Stream) -> Client {
        let socket = self.peer.stream().try_clone().expect("another descriptor");
        Client {
            down: Downlink {
                socket: BufReader::with_capacity(65_536, socket),
                peer: self.peer.twin(),
                stream: back,
                spare: Vec::new(),
            },
            up: Uplink { peer: self.peer, stream: forth },
        }
    }
}

impl Client {
    /// A whole session of a current app towards DC 2.
    pub fn open(proxy: SocketAddr, secret: &Secret) -> Self {
        Visitor::knock(proxy, secret, Shape::PostQuantum).begin(DD, 2)
    }

    /// Closes with RST.
    pub fn reset(self) {
        self.up.peer.reset();
    }
}

impl Uplink {
    /// Encrypts the next bytes of the stream.
    pub fn seal(&mut self, plain: &[u8]) -> Vec<u8> {
        self.stream.turn(plain)
    }

    /// Sends in records as the apps do.
    pub fn send(&mut self, plain: &[u8]) {
        self.send_cut(plain, APP_RECORD);
    }

    /// Sends in records of `size` bytes, all in one write.
    pub fn send_cut(&mut self, plain: &[u8], size: usize) {
        let sealed = self.seal(plain);
        let wire: Vec<u8> = sealed.chunks(size).flat_map(|part| record(0x17, part)).collect();
        self.raw(&wire);
    }

    /// Sends as much as the proxy takes before it loses patience; failing is no failure.
    pub fn pour(&mut self, plain: &[u8]) {
        for chunk in plain.chunks(APP_RECORD) {
            let sealed = self.seal(chunk);
            if self.peer.try_send(&record(0x17, &sealed)).is_err() {
                return;
            }
        }
    }

    /// Sends bytes as they are.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.peer.send(bytes);
    }

    /// Sends FIN.
    pub fn finish(&self) {
        self.peer.finish();
    }
}

impl Downlink {
    /// Exactly `count` bytes of plaintext.
    pub fn recv(&mut self, count: usize) -> Vec<u8> {
        let mut out = std::mem::take(&mut self.spare);
        while out.len() < count {
            match self.next_record() {
                Ok(sealed) => out.extend_from_slice(&self.stream.turn(&sealed)),
                Err(end) => panic!("client got {end:?} after {} of {count} bytes", out.len()),
            }
        }
        self.spare = out.split_off(count);
        out
    }

    /// All plaintext until the end, and the kind of end.
    pub fn recv_rest(&mut self) -> (Vec<u8>, End) {
        let mut out = std::mem::take(&mut self.spare);
        loop {
            match self.next_record() {
                Ok(sealed) => out.extend_from_slice(&self.stream.turn(&sealed)),
                Err(end) => return (out, end),
            }
        }
    }

    /// The payload of the next record as it travelled, its header judged (spec: protocol 5).
    pub fn next_record(&mut self) -> Result<Vec<u8>, End> {
        if self.at_end()? {
            return Err(End::Fin);
        }
        let mut header = [0; 5];
        self.fill(&mut header)?;
        assert_eq!(header[..3], [0x17, 3, 3], "only application data travels to the client");
        let length = usize::from(u16::from_be_bytes([header[3], header[4]]));
        assert!((1..=16_401).contains(&length), "a record of {length} bytes");
        let mut payload = vec![0; length];
        self.fill(&mut payload)?;
        Ok(payload)
    }

    /// Decrypts a payload got from [`Self::next_record`]; in order, each once.
    pub fn open(&mut self, sealed: &[u8]) -> Vec<u8> {
        self.stream.turn(sealed)
    }

    /// Whether nothing at all arrives for `time`.
    pub fn is_quiet_for(&mut self, time: std::time::Duration) -> bool {
        self.socket.buffer().is_empty() && self.peer.is_quiet_for(time)
    }

    fn at_end(&mut self) -> Result<bool, End> {
        match self.socket.fill_buf() {
            Ok(bytes) => Ok(bytes.is_empty()),
            Err(error) => Err(reset_or_panic(&error)),
        }
    }

    fn fill(&mut self, into: &mut [u8]) -> Result<(), End> {
        self.socket.read_exact(into).map_err(|error| reset_or_panic(&error))
    }
}

/// One record.
pub fn record(kind: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).expect("at most 65535 bytes");
    let mut wire = vec![kind, 3, 3];
    wire.extend_from_slice(&length.to_be_bytes());
    wire.extend_from_slice(payload);
    wire
}

fn reset_or_panic(error: &std::io::Error) -> End {
    match error.kind() {
        std::io::ErrorKind::ConnectionReset => End::Reset,
        kind => panic!("client stopped in the middle of a record: {kind:?}"),
    }
}

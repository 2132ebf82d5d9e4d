//! A Telegram app: hello, check of the answer, frame, then records in both directions.

use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpStream};

use super::answer::{self, Answer};
use super::crypto::Stream;
use super::hello::{App, Hello, Secret};
use super::obfuscated2::{self, DD};
use super::peer::{End, Peer};

/// The largest payload of a record of the official apps, in bytes.
pub const APP_RECORD: usize = 2878;

/// The record that every app sends between the answer and its frame.
pub const CCS: [u8; 6] = [0x14, 3, 3, 0, 1, 1];

/// A client whose hello was answered and that has not sent its frame.
pub struct Handshake {
    /// The connection.
    pub peer: Peer,
    /// The answer of the proxy.
    pub answer: Answer,
    key: [u8; 16],
}

/// A client in a session.
pub struct Client {
    /// To the proxy.
    pub up: Uplink,
    /// From the proxy.
    pub down: Downlink,
}

/// The sending half.
pub struct Uplink {
    /// The connection, for bytes that are not valid records.
    pub peer: Peer,
    stream: Stream,
}

/// The receiving half.
pub struct Downlink {
    socket: BufReader<TcpStream>,
    peer: Peer,
    stream: Stream,
    pending: Vec<u8>,
}

impl Handshake {
    /// Connects, sends a valid hello and checks the answer.
    pub fn connect(proxy: SocketAddr, secret: &Secret, app: App) -> Self {
        Self::send_hello(Peer::connect("client", proxy), secret, &Hello::new(secret, app))
    }

    /// Sends `hello` on an open connection and checks the answer.
    pub fn send_hello(mut peer: Peer, secret: &Secret, hello: &Hello) -> Self {
        peer.send(&hello.wire);
        Self::read_answer(peer, secret, hello)
    }

    /// Checks the answer to a hello that was sent before.
    pub fn read_answer(mut peer: Peer, secret: &Secret, hello: &Hello) -> Self {
        let answer = answer::receive(&mut peer, hello, secret);
        Self { peer, answer, key: secret.key }
    }

    /// Sends CCS and the frame in one segment, as the official apps do.
    pub fn send_frame(self, tag: [u8; 4], dc: i16) -> Client {
        let (mut client, frame) = self.make_frame(tag, dc);
        client.up.send_raw(&[&CCS[..], &record(0x17, &frame)].concat());
        client
    }

    /// Makes the frame; the caller sends it.
    pub fn make_frame(self, tag: [u8; 4], dc: i16) -> (Client, [u8; 64]) {
        let frame = obfuscated2::write(tag, dc, Some(&self.key));
        (self.with_streams(frame.to_receiver, frame.to_sender), frame.wire)
    }

    /// Continues with the ciphers of a frame that the caller sends.
    pub fn with_streams(self, to_receiver: Stream, to_sender: Stream) -> Client {
        let socket = self.peer.stream().try_clone().expect("another descriptor");
        Client {
            down: Downlink {
                socket: BufReader::with_capacity(65_536, socket),
                peer: self.peer.duplicate(),
                stream: to_sender,
                pending: Vec::new(),
            },
            up: Uplink { peer: self.peer, stream: to_receiver },
        }
    }
}

impl Client {
    /// Opens a session of a current app with DC 2.
    pub fn open(proxy: SocketAddr, secret: &Secret) -> Self {
        Handshake::connect(proxy, secret, App::PostQuantum).send_frame(DD, 2)
    }

    /// Closes with RST.
    pub fn reset(self) {
        self.up.peer.reset();
    }
}

impl Uplink {
    /// Encrypts the next bytes.
    pub fn encrypt(&mut self, plain: &[u8]) -> Vec<u8> {
        self.stream.transform(plain)
    }

    /// Sends in records of the size that apps use.
    pub fn send(&mut self, plain: &[u8]) {
        self.send_records(plain, APP_RECORD);
    }

    /// Sends in records of `size` bytes, with one write.
    pub fn send_records(&mut self, plain: &[u8], size: usize) {
        let sealed = self.encrypt(plain);
        let wire: Vec<u8> = sealed.chunks(size).flat_map(|part| record(0x17, part)).collect();
        self.send_raw(&wire);
    }

    /// Sends until the proxy closes; an error of the socket is allowed.
    pub fn send_while_open(&mut self, plain: &[u8]) {
        for chunk in plain.chunks(APP_RECORD) {
            let sealed = self.encrypt(chunk);
            if self.peer.try_send(&record(0x17, &sealed)).is_err() {
                return;
            }
        }
    }

    /// Sends bytes without record headers.
    pub fn send_raw(&mut self, bytes: &[u8]) {
        self.peer.send(bytes);
    }

    /// Sends FIN.
    pub fn send_fin(&self) {
        self.peer.send_fin();
    }
}

impl Downlink {
    /// Receives exactly `count` bytes of plaintext.
    pub fn recv(&mut self, count: usize) -> Vec<u8> {
        let mut out = std::mem::take(&mut self.pending);
        while out.len() < count {
            match self.next_record() {
                Ok(sealed) => out.extend_from_slice(&self.stream.transform(&sealed)),
                Err(end) => panic!("client got {end:?} after {} of {count} bytes", out.len()),
            }
        }
        self.pending = out.split_off(count);
        out
    }

    /// Receives all plaintext until the end, and how the connection ended.
    pub fn recv_rest(&mut self) -> (Vec<u8>, End) {
        let mut out = std::mem::take(&mut self.pending);
        loop {
            match self.next_record() {
                Ok(sealed) => out.extend_from_slice(&self.stream.transform(&sealed)),
                Err(end) => return (out, end),
            }
        }
    }

    /// Receives the encrypted payload of the next record and checks its header (PROTOCOL 5).
    pub fn next_record(&mut self) -> Result<Vec<u8>, End> {
        if self.at_end()? {
            return Err(End::Fin);
        }
        let mut header = [0; 5];
        self.fill(&mut header)?;
        assert_eq!(header[..3], [0x17, 3, 3], "the client gets only application data");
        let length = usize::from(u16::from_be_bytes([header[3], header[4]]));
        assert!((1..=16_401).contains(&length), "a record of {length} bytes");
        let mut payload = vec![0; length];
        self.fill(&mut payload)?;
        Ok(payload)
    }

    /// Decrypts a payload of [`Self::next_record`]. Call it once for each, in order.
    pub fn decrypt(&mut self, sealed: &[u8]) -> Vec<u8> {
        self.stream.transform(sealed)
    }

    /// No byte and no end arrives for `time`.
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

//! A scripted name server: it answers over UDP and TCP, or inside TLS, with any correct or faulty
//! packet, and records its questions. Packets are built by hand, without a DNS library.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::proxy::free_port;

/// Record types (RFC 1035 3.2.2, RFC 3596).
pub const A: u16 = 1;
pub const CNAME: u16 = 5;
pub const AAAA: u16 = 28;

/// A compression pointer to the name in the question.
pub const QUESTION_NAME: [u8; 2] = [0xc0, 12];

/// The server.
pub struct NameServer {
    /// Where it listens.
    pub addr: SocketAddr,
    transport: Transport,
    history: Arc<History>,
    acceptor: Option<JoinHandle<()>>,
}

/// The transport of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// UDP.
    Udp,
    /// TCP, each packet after its length.
    Tcp,
    /// The same inside TLS (RFC 7858).
    Tls,
    /// Bodies of POST requests inside TLS (RFC 8484).
    Https,
}

/// A received question.
#[derive(Debug, Clone)]
pub struct Question {
    /// Its transport.
    pub transport: Transport,
    /// The address of the client.
    pub from: SocketAddr,
    /// The id, which the answer has to repeat.
    pub id: u16,
    /// The name, with its upper-case letters.
    pub name: String,
    /// [`A`] or [`AAAA`].
    pub kind: u16,
    /// The whole packet.
    pub wire: Vec<u8>,
    /// Number of questions before it.
    pub index: usize,
}

/// One step of the answer to a question.
pub enum Action {
    /// Sends a packet.
    Send(Vec<u8>),
    /// Sends a packet on a stream, one byte per write.
    SendByteByByte(Vec<u8>),
    /// Sends bytes on a stream, without a length.
    SendRaw(Vec<u8>),
    /// Sends a packet as a chunked HTTP body.
    SendChunked(Vec<u8>),
    /// Sends a datagram from another port.
    SendFromOtherPort(Vec<u8>),
    /// Closes the stream.
    Close,
}

/// The answer to each question.
pub type Script = dyn Fn(&Question) -> Vec<Action> + Send + Sync;

/// The questions and connections so far.
#[derive(Default)]
pub struct History {
    questions: Mutex<Vec<Question>>,
    connections: AtomicUsize,
    streams: Mutex<Vec<TcpStream>>,
    is_closed: AtomicBool,
}

impl NameServer {
    /// Listens on 127.0.0.1.
    pub fn listen(script: impl Fn(&Question) -> Vec<Action> + Send + Sync + 'static) -> Self {
        loop {
            let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
            // Another process may use the port with one of the protocols.
            let Ok(udp) = UdpSocket::bind(addr) else { continue };
            let Ok(tcp) = TcpListener::bind(addr) else { continue };
            let history = Arc::new(History::default());
            let script: Arc<Script> = Arc::new(script);
            let (history_udp, script_udp) = (Arc::clone(&history), Arc::clone(&script));
            thread::spawn(move || serve_datagrams(&udp, &history_udp, &script_udp));
            let history_tcp = Arc::clone(&history);
            thread::spawn(move || {
                for stream in tcp.incoming().flatten() {
                    history_tcp.connections.fetch_add(1, Ordering::SeqCst);
                    let (history, script) = (Arc::clone(&history_tcp), Arc::clone(&script));
                    thread::spawn(move || {
                        let from = stream.peer_addr().expect("a connected socket");
                        stream.set_nodelay(true).expect("no delay");
                        serve_stream(stream, Transport::Tcp, from, &history, &script);
                    });
                }
            });
            return Self { addr, transport: Transport::Udp, history, acceptor: None };
        }
    }

    /// Listens on `addr` for TLS or HTTPS.
    pub fn secure(
        transport: Transport,
        addr: SocketAddr,
        tls: Arc<ServerConfig>,
        script: impl Fn(&Question) -> Vec<Action> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(addr).expect("the port");
        let addr = listener.local_addr().expect("an address");
        let history = Arc::new(History::default());
        let (shared, script) = (Arc::clone(&history), Arc::new(script));
        let acceptor = thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if shared.is_closed.load(Ordering::SeqCst) {
                    return;
                }
                shared.connections.fetch_add(1, Ordering::SeqCst);
                let duplicate = || stream.try_clone().expect("another descriptor");
                shared.streams.lock().expect("the streams").push(duplicate());
                let socket = duplicate();
                let (tls, history) = (Arc::clone(&tls), Arc::clone(&shared));
                let script: Arc<Script> = Arc::clone(&script) as Arc<Script>;
                thread::spawn(move || {
                    let from = stream.peer_addr().expect("a connected socket");
                    stream.set_nodelay(true).expect("no delay");
                    let tls = ServerConnection::new(tls).expect("a TLS server");
                    serve_stream(StreamOwned::new(tls, stream), transport, from, &history, &script);
                    // Other descriptors keep the socket open.
                    let _ = socket.shutdown(Shutdown::Both);
                });
            }
        });
        Self { addr, transport, history, acceptor: Some(acceptor) }
    }

    /// Closes the listener and its connections.
    pub fn close(mut self) {
        self.history.is_closed.store(true, Ordering::SeqCst);
        // Wakes the acceptor, which then ends.
        let _ = TcpStream::connect(self.addr);
        if let Some(acceptor) = self.acceptor.take() {
            acceptor.join().expect("the acceptor");
        }
        for stream in self.history.streams.lock().expect("the streams").drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// The address as a TOML string for `network.dns`.
    pub fn url(&self) -> String {
        let addr = self.addr;
        match self.transport {
            Transport::Udp | Transport::Tcp => format!("\"udp://{addr}\""),
            Transport::Tls => format!("\"tls://{addr}\""),
            Transport::Https => format!("\"https://{addr}/dns-query\""),
        }
    }

    /// All questions so far.
    pub fn questions(&self) -> Vec<Question> {
        self.history.questions.lock().expect("the history").clone()
    }

    /// Number of questions so far.
    pub fn count(&self) -> usize {
        self.history.questions.lock().expect("the history").len()
    }

    /// Number of streams so far.
    pub fn connections(&self) -> usize {
        self.history.connections.load(Ordering::SeqCst)
    }
}

impl History {
    /// Records a packet; `None` = it is not a question.
    pub fn note(&self, transport: Transport, from: SocketAddr, wire: &[u8]) -> Option<Question> {
        let mut questions = self.questions.lock().expect("the history");
        let question = Question::read(transport, from, wire, questions.len())?;
        questions.push(question.clone());
        Some(question)
    }
}

impl Question {
    fn read(transport: Transport, from: SocketAddr, wire: &[u8], index: usize) -> Option<Self> {
        assert_eq!(wire.get(2..12)?, b"\x01\0\0\x01\0\0\0\0\0\0", "one recursive question");
        let mut labels = Vec::new();
        let mut at = 12;
        loop {
            let length = usize::from(*wire.get(at)?);
            let label = wire.get(at + 1..at + 1 + length)?;
            at += 1 + length;
            if label.is_empty() {
                break;
            }
            labels.push(String::from_utf8(label.to_vec()).ok()?);
        }
        let [k1, k0, 0, 1] = *wire.get(at..)? else { return None };
        let id = u16::from_be_bytes([wire[0], wire[1]]);
        let (name, kind) = (labels.join("."), u16::from_be_bytes([k1, k0]));
        Some(Self { transport, from, id, name, kind, wire: wire.to_vec(), index })
    }

    /// An answer without a record.
    pub fn reply(&self) -> DnsReply {
        let echo = self.wire[12..].to_vec();
        DnsReply {
            id: self.id,
            flags: 0x8180,
            questions: 1,
            echo,
            answer_count: None,
            records: Vec::new(),
        }
    }

    /// The answer with the address `ip`, or without a record if the question is not for [`A`].
    pub fn with_address(&self, ip: Ipv4Addr) -> DnsReply {
        match self.kind {
            A => self.reply().record(&QUESTION_NAME, A, 300, &ip.octets()),
            _ => self.reply(),
        }
    }
}

/// An answer that a test can change.
#[derive(Clone)]
pub struct DnsReply {
    /// The number in the header.
    pub id: u16,
    /// The flags in the header, response code included.
    pub flags: u16,
    /// The number of questions in the header.
    pub questions: u16,
    /// The question section.
    pub echo: Vec<u8>,
    /// The number of answers in the header, if it is wrong.
    pub answer_count: Option<u16>,
    records: Vec<Vec<u8>>,
}

impl DnsReply {
    /// Adds a record.
    pub fn record(mut self, owner: &[u8], kind: u16, ttl_s: u32, data: &[u8]) -> Self {
        let length = u16::try_from(data.len()).expect("short data");
        let head = [&kind.to_be_bytes()[..], &[0, 1], &ttl_s.to_be_bytes(), &length.to_be_bytes()];
        self.records.push([owner, &head.concat(), data].concat());
        self
    }

    /// Sets the response code: 2 SERVFAIL, 3 NXDOMAIN, 5 REFUSED.
    pub fn code(mut self, code: u16) -> Self {
        self.flags |= code;
        self
    }

    /// Sets the flag TC (truncated).
    pub fn truncated(mut self) -> Self {
        self.flags |= 0x0200;
        self
    }

    /// The packet.
    pub fn packet(&self) -> Vec<u8> {
        let count = u16::try_from(self.records.len()).expect("few records");
        let words = [self.id, self.flags, self.questions, self.answer_count.unwrap_or(count), 0, 0];
        let head: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
        [head, self.echo.clone(), self.records.concat()].concat()
    }

    /// The action that sends it.
    pub fn actions(&self) -> Vec<Action> {
        vec![Action::Send(self.packet())]
    }
}

/// A name in wire form.
pub fn wire(name: &str) -> Vec<u8> {
    let labels = name.split('.').flat_map(|label| {
        let length = u8::try_from(label.len()).expect("a short label");
        [&[length], label.as_bytes()].concat()
    });
    labels.chain([0]).collect()
}

/// A packet after its length.
pub fn framed(packet: &[u8]) -> Vec<u8> {
    let length = u16::try_from(packet.len()).expect("at most 65535 bytes");
    [&length.to_be_bytes(), packet].concat()
}

fn serve_datagrams(udp: &UdpSocket, history: &History, script: &Arc<Script>) {
    let mut packet = [0; 4096];
    while let Ok((count, from)) = udp.recv_from(&mut packet) {
        let Some(question) = history.note(Transport::Udp, from, &packet[..count]) else { continue };
        for action in script(&question) {
            // The client may have closed its port.
            let _ = match action {
                Action::Send(packet) => udp.send_to(&packet, from),
                Action::SendFromOtherPort(packet) => {
                    let other = UdpSocket::bind((IpAddr::V4(Ipv4Addr::LOCALHOST), 0));
                    other.expect("a port").send_to(&packet, from)
                }
                _ => panic!("only a stream can do that"),
            };
        }
    }
}

/// Answers questions on one stream until it ends or the script ends it.
fn serve_stream(
    mut stream: impl Read + Write,
    transport: Transport,
    from: SocketAddr,
    history: &History,
    script: &Arc<Script>,
) {
    while let Some(packet) = next_packet(&mut stream, transport) {
        let Some(question) = history.note(transport, from, &packet) else { return };
        for action in script(&question) {
            if !perform(&mut stream, transport, action) {
                return;
            }
        }
    }
}

/// `false` = the stream has ended.
fn perform(stream: &mut impl Write, transport: Transport, action: Action) -> bool {
    let wrapped = |packet: &[u8]| match transport {
        Transport::Https => response("200 OK", packet),
        _ => framed(packet),
    };
    let sent = match action {
        Action::Send(packet) => stream.write_all(&wrapped(&packet)),
        Action::SendByteByByte(packet) => {
            wrapped(&packet).chunks(1).try_for_each(|byte| stream.write_all(byte))
        }
        Action::SendRaw(bytes) => stream.write_all(&bytes),
        Action::SendChunked(packet) => {
            let chunks = packet.chunks(7).map(|chunk| {
                let size = format!("{:x};name=value\r\n", chunk.len()).into_bytes();
                [&size, chunk, b"\r\n"].concat()
            });
            let head = format!("HTTP/1.1 200 OK\r\n{KIND}Transfer-Encoding: chunked\r\n\r\n");
            let body: Vec<u8> = chunks.collect::<Vec<_>>().concat();
            stream.write_all(&[head.as_bytes(), &body, b"0\r\nTrailer: x\r\n\r\n"].concat())
        }
        Action::Close => return false,
        Action::SendFromOtherPort(_) => panic!("only a datagram can do that"),
    };
    sent.and_then(|()| stream.flush()).is_ok()
}

/// The next packet; `None` = the client has closed.
fn next_packet(stream: &mut impl Read, transport: Transport) -> Option<Vec<u8>> {
    let length = match transport {
        Transport::Https => {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).ok()?;
                head.extend(byte);
            }
            let head = String::from_utf8(head).expect("an HTTP head");
            assert!(head.starts_with("POST /dns-query HTTP/1.1\r\n"), "{head}");
            assert!(head.contains("\r\nContent-Type: application/dns-message\r\n"), "{head}");
            assert!(head.contains("\r\nHost: "), "{head}");
            let (_, rest) = head.split_once("Content-Length: ").expect("a length");
            rest.split_once('\r').and_then(|(digits, _)| digits.parse().ok()).expect("a number")
        }
        _ => {
            let mut length = [0; 2];
            stream.read_exact(&mut length).ok()?;
            usize::from(u16::from_be_bytes(length))
        }
    };
    let mut packet = vec![0; length];
    stream.read_exact(&mut packet).ok()?;
    Some(packet)
}

/// A response with a DNS message as its body.
pub fn response(status: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 {status}\r\n{KIND}Content-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

const KIND: &str = "Content-Type: application/dns-message\r\n";

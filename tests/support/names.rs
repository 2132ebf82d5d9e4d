//! A name server that follows a script: it answers over UDP and TCP, or inside TLS, tells the truth
//! or any lie, and keeps what it was asked. Its packets are made by hand, with faults where the
//! script wants.

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

/// A pointer to the name in the question.
pub const ASKED: [u8; 2] = [0xc0, 12];

/// The listener.
pub struct NameServer {
    /// Where it listens.
    pub addr: SocketAddr,
    over: Over,
    record: Arc<Record>,
    acceptor: Option<JoinHandle<()>>,
}

/// How a question came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// A datagram.
    Udp,
    /// A stream, each packet with its length before it.
    Tcp,
    /// The same inside TLS.
    Tls,
    /// Bodies of POSTs inside TLS.
    Https,
}

/// A question as it came.
#[derive(Debug, Clone)]
pub struct Question {
    /// How it came.
    pub over: Over,
    /// Who asked.
    pub from: SocketAddr,
    /// The number that the answer has to repeat.
    pub id: u16,
    /// With its capitals.
    pub name: String,
    /// [`A`] or [`AAAA`].
    pub kind: u16,
    /// The whole packet.
    pub wire: Vec<u8>,
    /// How many questions came before it.
    pub before: usize,
}

/// What the server does about a question.
pub enum Act {
    /// Sends a packet.
    Say(Vec<u8>),
    /// Sends a packet in a stream byte by byte, each on its own.
    Dribble(Vec<u8>),
    /// Sends bytes to a stream as they are.
    Raw(Vec<u8>),
    /// Sends a packet as a body of many chunks.
    Chunked(Vec<u8>),
    /// Sends a datagram from another port.
    Elsewhere(Vec<u8>),
    /// Closes the stream.
    Close,
}

/// What to do about each question.
pub type Script = dyn Fn(&Question) -> Vec<Act> + Send + Sync;

/// What happened so far.
#[derive(Default)]
pub struct Record {
    questions: Mutex<Vec<Question>>,
    connections: AtomicUsize,
    streams: Mutex<Vec<TcpStream>>,
    is_over: AtomicBool,
}

impl NameServer {
    /// Listens on 127.0.0.1.
    pub fn listen(script: impl Fn(&Question) -> Vec<Act> + Send + Sync + 'static) -> Self {
        loop {
            let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
            // The port may be taken for one of the protocols only.
            let Ok(udp) = UdpSocket::bind(addr) else { continue };
            let Ok(tcp) = TcpListener::bind(addr) else { continue };
            let record = Arc::new(Record::default());
            let script: Arc<Script> = Arc::new(script);
            let (record_udp, script_udp) = (Arc::clone(&record), Arc::clone(&script));
            thread::spawn(move || serve_datagrams(&udp, &record_udp, &script_udp));
            let record_tcp = Arc::clone(&record);
            thread::spawn(move || {
                for stream in tcp.incoming().flatten() {
                    record_tcp.connections.fetch_add(1, Ordering::SeqCst);
                    let (record, script) = (Arc::clone(&record_tcp), Arc::clone(&script));
                    thread::spawn(move || {
                        let from = stream.peer_addr().expect("a connected socket");
                        stream.set_nodelay(true).expect("no delay");
                        converse(stream, Over::Tcp, from, &record, &script);
                    });
                }
            });
            return Self { addr, over: Over::Udp, record, acceptor: None };
        }
    }

    /// Listens at `addr` on 127.0.0.1 for TLS or HTTPS, whatever name the certificate is for.
    pub fn secure(
        over: Over,
        addr: SocketAddr,
        tls: Arc<ServerConfig>,
        script: impl Fn(&Question) -> Vec<Act> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(addr).expect("the port");
        let addr = listener.local_addr().expect("an address");
        let record = Arc::new(Record::default());
        let (kept, script) = (Arc::clone(&record), Arc::new(script));
        let acceptor = thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if kept.is_over.load(Ordering::SeqCst) {
                    return;
                }
                kept.connections.fetch_add(1, Ordering::SeqCst);
                let twin = || stream.try_clone().expect("another descriptor");
                kept.streams.lock().expect("the streams").push(twin());
                let socket = twin();
                let (tls, record) = (Arc::clone(&tls), Arc::clone(&kept));
                let script: Arc<Script> = Arc::clone(&script) as Arc<Script>;
                thread::spawn(move || {
                    let from = stream.peer_addr().expect("a connected socket");
                    stream.set_nodelay(true).expect("no delay");
                    let tls = ServerConnection::new(tls).expect("a TLS server");
                    converse(StreamOwned::new(tls, stream), over, from, &record, &script);
                    // The other descriptors would keep it open.
                    let _ = socket.shutdown(Shutdown::Both);
                });
            }
        });
        Self { addr, over, record, acceptor: Some(acceptor) }
    }

    /// Closes the listener and all that it has accepted.
    pub fn close(mut self) {
        self.record.is_over.store(true, Ordering::SeqCst);
        // Wakes the acceptor, which leaves.
        let _ = TcpStream::connect(self.addr);
        if let Some(acceptor) = self.acceptor.take() {
            acceptor.join().expect("the acceptor");
        }
        for stream in self.record.streams.lock().expect("the streams").drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// As the key `network.dns` wants it.
    pub fn url(&self) -> String {
        let addr = self.addr;
        match self.over {
            Over::Udp | Over::Tcp => format!("\"udp://{addr}\""),
            Over::Tls => format!("\"tls://{addr}\""),
            Over::Https => format!("\"https://{addr}/dns-query\""),
        }
    }

    /// All questions so far.
    pub fn questions(&self) -> Vec<Question> {
        self.record.questions.lock().expect("the record").clone()
    }

    /// How many questions came so far.
    pub fn count(&self) -> usize {
        self.record.questions.lock().expect("the record").len()
    }

    /// How many streams were opened so far.
    pub fn connections(&self) -> usize {
        self.record.connections.load(Ordering::SeqCst)
    }
}

impl Record {
    /// Notes a packet; `None` = it is no question.
    pub fn note(&self, over: Over, from: SocketAddr, wire: &[u8]) -> Option<Question> {
        let mut questions = self.questions.lock().expect("the record");
        let question = Question::read(over, from, wire, questions.len())?;
        questions.push(question.clone());
        Some(question)
    }
}

impl Question {
    fn read(over: Over, from: SocketAddr, wire: &[u8], before: usize) -> Option<Self> {
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
        Some(Self { over, from, id, name, kind, wire: wire.to_vec(), before })
    }

    /// An answer that echoes the question and has no record yet.
    pub fn reply(&self) -> Reply {
        let echo = self.wire[12..].to_vec();
        Reply { id: self.id, flags: 0x8180, questions: 1, echo, claim: None, records: Vec::new() }
    }

    /// The answer that says where `ip` is, or that there is nothing of this kind.
    pub fn lead_to(&self, ip: Ipv4Addr) -> Reply {
        match self.kind {
            A => self.reply().record(&ASKED, A, 300, &ip.octets()),
            _ => self.reply(),
        }
    }
}

/// An answer in the making.
#[derive(Clone)]
pub struct Reply {
    /// The number in the header.
    pub id: u16,
    /// The flags in the header, response code included.
    pub flags: u16,
    /// How many questions the header says are echoed.
    pub questions: u16,
    /// The question section.
    pub echo: Vec<u8>,
    /// How many answers the header says there are, if that is a lie.
    pub claim: Option<u16>,
    records: Vec<Vec<u8>>,
}

impl Reply {
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

    /// Says that there is more than fits.
    pub fn truncated(mut self) -> Self {
        self.flags |= 0x0200;
        self
    }

    /// The packet.
    pub fn packet(&self) -> Vec<u8> {
        let count = u16::try_from(self.records.len()).expect("few records");
        let words = [self.id, self.flags, self.questions, self.claim.unwrap_or(count), 0, 0];
        let head: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
        [head, self.echo.clone(), self.records.concat()].concat()
    }

    /// Sends it.
    pub fn say(&self) -> Vec<Act> {
        vec![Act::Say(self.packet())]
    }
}

/// A name as it stands in a packet.
pub fn wire(name: &str) -> Vec<u8> {
    let labels = name.split('.').flat_map(|label| {
        let length = u8::try_from(label.len()).expect("a short label");
        [&[length], label.as_bytes()].concat()
    });
    labels.chain([0]).collect()
}

/// A packet with its length before it.
pub fn framed(packet: &[u8]) -> Vec<u8> {
    let length = u16::try_from(packet.len()).expect("at most 65535 bytes");
    [&length.to_be_bytes(), packet].concat()
}

fn serve_datagrams(udp: &UdpSocket, record: &Record, script: &Arc<Script>) {
    let mut packet = [0; 4096];
    while let Ok((count, from)) = udp.recv_from(&mut packet) {
        let Some(question) = record.note(Over::Udp, from, &packet[..count]) else { continue };
        for act in script(&question) {
            // Whoever has left his port wants no answer.
            let _ = match act {
                Act::Say(packet) => udp.send_to(&packet, from),
                Act::Elsewhere(packet) => {
                    let other = UdpSocket::bind((IpAddr::V4(Ipv4Addr::LOCALHOST), 0));
                    other.expect("a port").send_to(&packet, from)
                }
                _ => panic!("only a stream can do that"),
            };
        }
    }
}

/// Answers questions on one stream until it ends or the script ends it.
fn converse(
    mut stream: impl Read + Write,
    over: Over,
    from: SocketAddr,
    record: &Record,
    script: &Arc<Script>,
) {
    while let Some(packet) = next_packet(&mut stream, over) {
        let Some(question) = record.note(over, from, &packet) else { return };
        for act in script(&question) {
            if !perform(&mut stream, over, act) {
                return;
            }
        }
    }
}

/// `false` = the stream is over.
fn perform(stream: &mut impl Write, over: Over, act: Act) -> bool {
    let wrapped = |packet: &[u8]| match over {
        Over::Https => response("200 OK", packet),
        _ => framed(packet),
    };
    let sent = match act {
        Act::Say(packet) => stream.write_all(&wrapped(&packet)),
        Act::Dribble(packet) => {
            wrapped(&packet).chunks(1).try_for_each(|byte| stream.write_all(byte))
        }
        Act::Raw(bytes) => stream.write_all(&bytes),
        Act::Chunked(packet) => {
            let chunks = packet.chunks(7).map(|chunk| {
                let size = format!("{:x};name=value\r\n", chunk.len()).into_bytes();
                [&size, chunk, b"\r\n"].concat()
            });
            let head = format!("HTTP/1.1 200 OK\r\n{KIND}Transfer-Encoding: chunked\r\n\r\n");
            let body: Vec<u8> = chunks.collect::<Vec<_>>().concat();
            stream.write_all(&[head.as_bytes(), &body, b"0\r\nTrailer: x\r\n\r\n"].concat())
        }
        Act::Close => return false,
        Act::Elsewhere(_) => panic!("only a datagram can do that"),
    };
    sent.and_then(|()| stream.flush()).is_ok()
}

/// The next question as a packet; `None` = the asker has gone, or would not say it right.
fn next_packet(stream: &mut impl Read, over: Over) -> Option<Vec<u8>> {
    let length = match over {
        Over::Https => {
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

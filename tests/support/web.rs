//! A scripted web server for HTTP or HTTPS: one request per connection, answered by a script that
//! writes raw bytes.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::{TIMEOUT, eventually};

/// A script gets the head of the request and writes the response. A write fails when the client has
/// closed.
pub type Script = dyn Fn(&str, &mut dyn Write) -> std::io::Result<()> + Send + Sync;

/// The server.
pub struct WebServer {
    /// Where it listens.
    pub addr: SocketAddr,
    is_secure: bool,
    history: Arc<History>,
}

#[derive(Default)]
struct History {
    requests: Mutex<Vec<String>>,
    connections: AtomicUsize,
    is_closed: AtomicBool,
}

impl WebServer {
    /// Listens on 127.0.0.1 without TLS.
    pub fn http(
        script: impl Fn(&str, &mut dyn Write) -> std::io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        Self::listen(0, None, script)
    }

    /// Listens on a given port without TLS.
    pub fn http_on(
        port: u16,
        script: impl Fn(&str, &mut dyn Write) -> std::io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        Self::listen(port, None, script)
    }

    /// Listens on 127.0.0.1 with TLS.
    pub fn https(
        config: Arc<ServerConfig>,
        script: impl Fn(&str, &mut dyn Write) -> std::io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        Self::listen(0, Some(config), script)
    }

    fn listen(
        port: u16,
        config: Option<Arc<ServerConfig>>,
        script: impl Fn(&str, &mut dyn Write) -> std::io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("a port");
        let addr = listener.local_addr().expect("an address");
        let (history, script): (_, Arc<Script>) = (Arc::new(History::default()), Arc::new(script));
        let (shared, is_secure) = (Arc::clone(&history), config.is_some());
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if shared.is_closed.load(Ordering::SeqCst) {
                    return;
                }
                let (history, script) = (Arc::clone(&shared), Arc::clone(&script));
                let config = config.clone();
                thread::spawn(move || {
                    history.connections.fetch_add(1, Ordering::SeqCst);
                    serve(stream, config, &history, &script);
                });
            }
        });
        Self { addr, is_secure, history }
    }

    /// Closes the listener.
    pub fn close(self) {
        self.history.is_closed.store(true, Ordering::SeqCst);
        // Wakes the acceptor, which then ends.
        let _ = TcpStream::connect(self.addr);
        eventually("the listener is gone", || TcpStream::connect(self.addr).is_err());
    }

    /// The URL of `path`.
    pub fn url(&self, path: &str) -> String {
        let scheme = if self.is_secure { "https" } else { "http" };
        format!("{scheme}://{}{path}", self.addr)
    }

    /// The heads of all requests so far.
    pub fn requests(&self) -> Vec<String> {
        self.history.requests.lock().expect("the requests").clone()
    }

    /// Number of connections so far.
    pub fn connections(&self) -> usize {
        self.history.connections.load(Ordering::SeqCst)
    }
}

fn serve(
    stream: TcpStream,
    config: Option<Arc<ServerConfig>>,
    history: &History,
    script: &Arc<Script>,
) {
    stream.set_read_timeout(Some(TIMEOUT)).expect("a read timeout");
    stream.set_write_timeout(Some(TIMEOUT)).expect("a write timeout");
    match config {
        None => {
            let mut stream = stream;
            answer(&mut stream, history, script);
        }
        Some(config) => {
            let tls = ServerConnection::new(config).expect("a TLS server");
            let mut stream = StreamOwned::new(tls, stream);
            answer(&mut stream, history, script);
            stream.conn.send_close_notify();
            let _ = stream.flush();
        }
    }
}

fn answer(stream: &mut (impl Read + Write), history: &History, script: &Arc<Script>) {
    let (mut head, mut chunk) = (Vec::new(), [0; 1024]);
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut chunk) {
            Ok(count @ 1..) => head.extend_from_slice(&chunk[..count]),
            _ => return,
        }
    }
    let head = String::from_utf8(head).expect("an ASCII head");
    history.requests.lock().expect("the requests").push(head.clone());
    if script(&head, stream).is_ok() {
        let _ = stream.flush();
    }
}

/// A response with status 200 and this body.
pub fn page(body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// A redirect to `location`.
pub fn redirect(location: &str) -> Vec<u8> {
    format!("HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n").into_bytes()
}

/// The path in the head of a request.
pub fn path_of(head: &str) -> &str {
    head.split(' ').nth(1).expect("a path")
}

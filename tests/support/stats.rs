//! A small HTTP client for the stats listener. It keeps the raw text, whose order matters.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::Path;

use serde_json::Value;

use super::peer::{End, Peer};

/// An HTTP response.
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Status line and header lines.
    pub head: String,
    /// The body.
    pub body: String,
}

/// One GET on a new connection.
pub fn get(api: SocketAddr, path: &str) -> Response {
    request(api, format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes())
}

/// Sends raw bytes and reads the response.
pub fn request(api: SocketAddr, request: &[u8]) -> Response {
    let mut peer = Peer::connect("stats reader", api);
    peer.send(request);
    read_response(&mut peer)
}

/// Reads a response until the end of the connection.
pub fn read_response(peer: &mut Peer) -> Response {
    let (bytes, end) = peer.recv_rest();
    assert_eq!(end, End::Fin, "the stats listener ends with FIN");
    let text = String::from_utf8(bytes).expect("UTF-8");
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no head: {text:?}"));
    let status = head.split(' ').nth(1).and_then(|word| word.parse().ok());
    Response {
        status: status.unwrap_or_else(|| panic!("no status: {head:?}")),
        head: head.to_owned(),
        body: body.to_owned(),
    }
}

/// The response to one GET over a Unix socket, with its head.
pub fn get_unix(path: &Path, page: &str) -> String {
    let mut stream = UnixStream::connect(path).expect("a listener");
    stream.set_read_timeout(Some(super::TIMEOUT)).expect("a deadline");
    write!(stream, "GET {page} HTTP/1.0\r\n\r\n").expect("a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.0 200 "), "{answer}");
    answer
}

/// `/stats`, parsed.
pub fn read_stats(api: SocketAddr) -> Value {
    let reply = get(api, "/stats");
    assert_eq!(reply.status, 200, "{}", reply.head);
    serde_json::from_str(&reply.body).unwrap_or_else(|error| panic!("{error}: {}", reply.body))
}

impl Response {
    /// The value of a header; the case of the name does not matter.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

//! A tiny HTTP client for the stats listener: it keeps the raw text, whose order matters.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::Path;

use serde_json::Value;

use super::peer::{End, Peer};

/// One HTTP answer.
pub struct Reply {
    /// The number in the status line.
    pub status: u16,
    /// Status line and header lines.
    pub head: String,
    /// What follows them.
    pub body: String,
}

/// One GET over a connection of its own.
pub fn get(api: SocketAddr, path: &str) -> Reply {
    ask(api, format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes())
}

/// Sends `request` as it is and reads to the end.
pub fn ask(api: SocketAddr, request: &[u8]) -> Reply {
    let mut peer = Peer::connect("stats reader", api);
    peer.send(request);
    read_reply(&mut peer)
}

/// Reads one answer up to the end of the connection.
pub fn read_reply(peer: &mut Peer) -> Reply {
    let (bytes, end) = peer.recv_rest();
    assert_eq!(end, End::Fin, "the stats listener ends with FIN");
    let text = String::from_utf8(bytes).expect("UTF-8");
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no head: {text:?}"));
    let status = head.split(' ').nth(1).and_then(|word| word.parse().ok());
    Reply {
        status: status.unwrap_or_else(|| panic!("no status: {head:?}")),
        head: head.to_owned(),
        body: body.to_owned(),
    }
}

/// The whole answer of one GET over a Unix socket.
pub fn unix(path: &Path, page: &str) -> String {
    let mut stream = UnixStream::connect(path).expect("somebody listens");
    stream.set_read_timeout(Some(super::PATIENCE)).expect("a deadline");
    write!(stream, "GET {page} HTTP/1.0\r\n\r\n").expect("it takes a question");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.0 200 "), "{answer}");
    answer
}

/// `/stats` as a value.
pub fn snapshot(api: SocketAddr) -> Value {
    let reply = get(api, "/stats");
    assert_eq!(reply.status, 200, "{}", reply.head);
    serde_json::from_str(&reply.body).unwrap_or_else(|error| panic!("{error}: {}", reply.body))
}

impl Reply {
    /// The value of a header, names in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

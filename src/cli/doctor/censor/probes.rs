//! Ways to begin a connection that an active prober has thought of (spec: protocol 15.11, 15.12).
//! None needs a secret: what makes a hello ours is never in them.

use crate::proto::chrome_hello;
use crate::util::drbg::Drbg;

/// What a prober does, one thing after the other; then it watches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProbeStep {
    /// One write.
    Send(Vec<u8>),
    /// Waits for at least one byte, or the end.
    Listen,
    /// FIN.
    Finish,
}

/// One way to begin.
#[derive(Debug)]
pub struct ProbeScript {
    /// In words.
    pub name: &'static str,
    /// At most a few thousand.
    pub steps: Vec<ProbeStep>,
}

use ProbeStep::{Finish, Listen, Send};

/// All of them, for a site of this name.
pub fn all(host: &[u8], drbg: &mut Drbg) -> Vec<ProbeScript> {
    let mut list = Vec::new();
    let mut add = |name, steps| list.push(ProbeScript { name, steps });
    with_hellos(host, drbg, &mut add);
    without_hellos(drbg, &mut add);
    list
}

type Add<'a> = &'a mut dyn FnMut(&'static str, Vec<ProbeStep>);

fn with_hellos(host: &[u8], drbg: &mut Drbg, add: Add<'_>) {
    let hello = |host: &[u8], suites, drbg: &mut Drbg| {
        chrome_hello::write(host, suites, &mut |bytes| drbg.fill(bytes)).wire
    };
    let visit = hello(host, CHROME, drbg);
    let once = |bytes: &[u8]| vec![Send(bytes.to_vec())];
    add("a hello with the right name", once(&visit));
    add("a foreign name", once(&hello(b"elsewhere.example", CHROME, drbg)));
    add("suites in another order", once(&hello(host, [0x1302, 0x1303, 0x1301], drbg)));
    add("unknown suites", once(&hello(host, [0x1399, 0x5600, 0x5601], drbg)));
    add("a hello, then FIN", vec![Send(visit.clone()), Finish]);
    add("a hello, a look at the answer, FIN", vec![Send(visit.clone()), Listen, Finish]);
    add("a hello byte by byte", visit.iter().map(|byte| Send(vec![*byte])).collect());
    add("a hello in twenty segments", {
        visit.chunks(visit.len() / 20 + 1).map(|piece| Send(piece.to_vec())).collect()
    });
    add("a hello in five records", once(&in_records(&visit, 5)));
    add("a hello in twelve records", once(&in_records(&visit, 12)));
    add("the answer answered with garbage", {
        let finished = [&[0x14, 3, 3, 0, 1, 1, 0x17, 3, 3, 0, 53][..], &noise(53, drbg)].concat();
        vec![Send(visit.clone()), Listen, Send(finished)]
    });
    add("the answer answered with an alert", {
        vec![Send(visit.clone()), Listen, Send(vec![0x15, 3, 3, 0, 2, 2, 40])]
    });
    add("two hellos in one write", once(&[visit.as_slice(), &visit].concat()));
    add("a hello and early data", {
        once(&[visit.as_slice(), &[0x17, 3, 3, 0, 64], &noise(64, drbg)].concat())
    });
    add("a hello and a heartbeat", {
        once(&[visit.as_slice(), &[0x18, 3, 3, 0, 3, 1, 0x40, 0]].concat())
    });
    for (name, length) in [("one byte", 1), ("a header", 5), ("half a hello", visit.len() / 2)] {
        add(name, once(visit.get(..length).unwrap_or_default()));
    }
    for (name, length) in [("one byte and FIN", 1), ("half a hello and FIN", visit.len() / 2)] {
        add(name, vec![Send(visit.get(..length).unwrap_or_default().to_vec()), Finish]);
    }
    add("an empty record first", once(&[&[0x16, 3, 1, 0, 0], visit.as_slice()].concat()));
    for (name, at, byte) in EDITS {
        let mut wire = visit.clone();
        if let Some(slot) = wire.get_mut(*at) {
            *slot = *byte;
        }
        add(name, once(&wire));
    }
}

fn without_hellos(drbg: &mut Drbg, add: Add<'_>) {
    for (name, bytes) in FOREIGN {
        add(name, vec![Send(bytes.to_vec())]);
    }
    let data = [&[0x17, 3, 3, 0, 200][..], &noise(200, drbg)].concat();
    add("application data first", vec![Send(data)]);
    add("HTTP in the clear and FIN", vec![Send(b"GET / HTTP/1.0\r\n\r\n".to_vec()), Finish]);
    add("MTProto without TLS", vec![Send(noise(105, drbg))]);
    add("zeros", vec![Send(vec![0; 512])]);
    add("sixteen kilobytes of noise", vec![Send(noise(16_384, drbg))]);
    add("FIN and nothing else", vec![Finish]);
    add("silence", vec![]);
}

fn noise(count: usize, drbg: &mut Drbg) -> Vec<u8> {
    let mut bytes = vec![0; count];
    drbg.fill(&mut bytes);
    // Never by chance the type of a record.
    if let Some(first) = bytes.first_mut() {
        *first |= 0x80;
    }
    bytes
}

/// The message of a record, cut into several.
fn in_records(wire: &[u8], count: usize) -> Vec<u8> {
    let message = wire.get(5..).unwrap_or_default();
    let pieces = message.chunks(message.len().div_ceil(count).max(1));
    let mut cut = Vec::with_capacity(wire.len() + 5 * count);
    for piece in pieces {
        cut.extend([0x16, 3, 1]);
        cut.extend((piece.len() as u16).to_be_bytes());
        cut.extend(piece);
    }
    cut
}

const CHROME: [u16; 3] = [0x1301, 0x1302, 0x1303];

/// A byte of the hello that is changed: where, and to what.
const EDITS: &[(&str, usize, u8)] = &[
    ("record version 3.4", 2, 4),
    ("record version 2.0", 1, 2),
    ("an impossible record length", 3, 0xff),
    ("a ServerHello from a client", 5, 2),
    ("a handshake that does not exist", 5, 0x63),
    ("a handshake longer than its record", 6, 1),
    ("a session id of 255 bytes", 43, 255),
];

/// What speaks no TLS, or not as a client begins.
const FOREIGN: &[(&str, &[u8])] = &[
    ("an alert first", &[0x15, 3, 1, 0, 2, 2, 40]),
    ("ChangeCipherSpec first", &[0x14, 3, 3, 0, 1, 1]),
    ("SSLv2", &[0x80, 0x2e, 1, 0, 2, 0, 0x15, 0, 0, 0, 0x10, 1, 0, 0x80]),
    ("HTTP in the clear", b"GET / HTTP/1.1\r\nHost: front.example\r\n\r\n"),
    ("HTTP CONNECT", b"CONNECT example.org:443 HTTP/1.1\r\n\r\n"),
    ("the preface of HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    ("SSH", b"SSH-2.0-OpenSSH_9.6\r\n"),
    ("SMTP", b"EHLO probe.example\r\n"),
    ("SOCKS5", &[5, 1, 0]),
    ("abridged MTProto", &[0xef]),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_many_openings_and_no_two_are_called_the_same() {
        let all = all(b"example.org", &mut Drbg::new([7; 48]));
        assert!(all.len() >= 40, "{}", all.len());
        for (at, opening) in all.iter().enumerate() {
            assert!(all[..at].iter().all(|other| other.name != opening.name), "{}", opening.name);
        }
    }

    #[test]
    fn a_hello_in_records_is_the_same_message() {
        let wire = [&[0x16, 3, 1, 0, 10][..], b"0123456789"].concat();
        let cut = in_records(&wire, 3);
        let want =
            [&b"\x16\x03\x01\0\x040123"[..], b"\x16\x03\x01\0\x044567", b"\x16\x03\x01\0\x0289"];
        assert_eq!(cut, want.concat());
    }
}

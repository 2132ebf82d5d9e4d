//! The scripts of the probes that a censor may send (PROTOCOL 15.11, 15.12). None of them
//! contains the key of a secret.

use crate::proto::chrome_hello;
use crate::util::drbg::Drbg;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ProbeStep {
    /// In one write, if the socket takes it.
    Send(Vec<u8>),
    /// Waits for at least one byte.
    Listen,
    /// Sends FIN.
    Finish,
}

/// What a probe does after it has connected. After the last step it waits for a reaction.
#[derive(Debug)]
pub(super) struct ProbeScript {
    /// For the report; unique.
    pub(super) name: &'static str,
    /// At most one per byte of a hello.
    pub(super) steps: Vec<ProbeStep>,
}

use ProbeStep::{Finish, Listen, Send};

/// All scripts. `host` is the server name in the hellos.
pub(super) fn all(host: &[u8], drbg: &mut Drbg) -> Vec<ProbeScript> {
    let mut scripts = Vec::new();
    let mut add = |name, steps| scripts.push(ProbeScript { name, steps });
    with_hellos(host, drbg, &mut add);
    without_hellos(drbg, &mut add);
    scripts
}

type AddScript<'a> = &'a mut dyn FnMut(&'static str, Vec<ProbeStep>);

fn with_hellos(host: &[u8], drbg: &mut Drbg, add: AddScript<'_>) {
    let write = |host: &[u8], suites, drbg: &mut Drbg| {
        chrome_hello::write(host, suites, &mut |bytes| drbg.fill(bytes)).wire
    };
    let hello = write(host, CHROME, drbg);
    let once = |bytes: &[u8]| vec![Send(bytes.to_vec())];
    add("a hello with the right server name", once(&hello));
    add("another server name", once(&write(b"elsewhere.example", CHROME, drbg)));
    add("cipher suites in another order", once(&write(host, [0x1302, 0x1303, 0x1301], drbg)));
    add("unknown cipher suites", once(&write(host, [0x1399, 0x5600, 0x5601], drbg)));
    add("a hello, then FIN", vec![Send(hello.clone()), Finish]);
    add("a hello, then FIN after the answer", vec![Send(hello.clone()), Listen, Finish]);
    add("a hello byte by byte", hello.iter().map(|byte| Send(vec![*byte])).collect());
    add("a hello in twenty segments", {
        hello.chunks(hello.len() / 20 + 1).map(|piece| Send(piece.to_vec())).collect()
    });
    add("a hello in five records", once(&in_records(&hello, 5)));
    add("a hello in twelve records", once(&in_records(&hello, 12)));
    add("garbage after the answer", {
        let finished = [&[0x14, 3, 3, 0, 1, 1, 0x17, 3, 3, 0, 53][..], &random(53, drbg)].concat();
        vec![Send(hello.clone()), Listen, Send(finished)]
    });
    add("an alert after the answer", {
        vec![Send(hello.clone()), Listen, Send(vec![0x15, 3, 3, 0, 2, 2, 40])]
    });
    add("two hellos in one write", once(&[hello.as_slice(), &hello].concat()));
    add("a hello and early data", {
        once(&[hello.as_slice(), &[0x17, 3, 3, 0, 64], &random(64, drbg)].concat())
    });
    add("a hello and a heartbeat", {
        once(&[hello.as_slice(), &[0x18, 3, 3, 0, 3, 1, 0x40, 0]].concat())
    });
    for (name, length) in
        [("one byte", 1), ("a record header", 5), ("half a hello", hello.len() / 2)]
    {
        add(name, once(hello.get(..length).unwrap_or_default()));
    }
    for (name, length) in [("one byte and FIN", 1), ("half a hello and FIN", hello.len() / 2)] {
        add(name, vec![Send(hello.get(..length).unwrap_or_default().to_vec()), Finish]);
    }
    add("an empty record first", once(&[&[0x16, 3, 1, 0, 0], hello.as_slice()].concat()));
    for (name, at, byte) in EDITS {
        let mut wire = hello.clone();
        if let Some(slot) = wire.get_mut(*at) {
            *slot = *byte;
        }
        add(name, once(&wire));
    }
}

fn without_hellos(drbg: &mut Drbg, add: AddScript<'_>) {
    for (name, bytes) in FOREIGN {
        add(name, vec![Send(bytes.to_vec())]);
    }
    let data = [&[0x17, 3, 3, 0, 200][..], &random(200, drbg)].concat();
    add("application data first", vec![Send(data)]);
    add("plain HTTP and FIN", vec![Send(b"GET / HTTP/1.0\r\n\r\n".to_vec()), Finish]);
    add("MTProto without TLS", vec![Send(random(105, drbg))]);
    add("512 zero bytes", vec![Send(vec![0; 512])]);
    add("16 KiB of random bytes", vec![Send(random(16_384, drbg))]);
    add("FIN and nothing else", vec![Finish]);
    add("silence", vec![]);
}

fn random(count: usize, drbg: &mut Drbg) -> Vec<u8> {
    let mut bytes = vec![0; count];
    drbg.fill(&mut bytes);
    // No TLS record type, all of which are below 0x80.
    if let Some(first) = bytes.first_mut() {
        *first |= 0x80;
    }
    bytes
}

/// Splits the message of a record over `count` records.
fn in_records(wire: &[u8], count: usize) -> Vec<u8> {
    let message = wire.get(5..).unwrap_or_default();
    let pieces = message.chunks(message.len().div_ceil(count).max(1));
    let mut records = Vec::with_capacity(wire.len() + 5 * count);
    for piece in pieces {
        records.extend([0x16, 3, 1]);
        records.extend((piece.len() as u16).to_be_bytes());
        records.extend(piece);
    }
    records
}

const CHROME: [u16; 3] = [0x1301, 0x1302, 0x1303];

/// Names, each with one changed byte of the hello: offset and value.
const EDITS: &[(&str, usize, u8)] = &[
    ("record version 3.4", 2, 4),
    ("record version 2.0", 1, 2),
    ("an impossible record length", 3, 0xff),
    ("a ServerHello from a client", 5, 2),
    ("an unknown handshake type", 5, 0x63),
    ("a handshake longer than its record", 6, 1),
    ("a session id of 255 bytes", 43, 255),
];

/// First bytes of other protocols, and TLS records that no client sends first.
const FOREIGN: &[(&str, &[u8])] = &[
    ("an alert first", &[0x15, 3, 1, 0, 2, 2, 40]),
    ("ChangeCipherSpec first", &[0x14, 3, 3, 0, 1, 1]),
    ("SSLv2", &[0x80, 0x2e, 1, 0, 2, 0, 0x15, 0, 0, 0, 0x10, 1, 0, 0x80]),
    ("plain HTTP", b"GET / HTTP/1.1\r\nHost: front.example\r\n\r\n"),
    ("HTTP CONNECT", b"CONNECT example.org:443 HTTP/1.1\r\n\r\n"),
    ("the HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    ("SSH", b"SSH-2.0-OpenSSH_9.6\r\n"),
    ("SMTP", b"EHLO probe.example\r\n"),
    ("SOCKS5", &[5, 1, 0]),
    ("abridged MTProto", &[0xef]),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_many_scripts_and_their_names_are_unique() {
        let all = all(b"example.org", &mut Drbg::new([7; 48]));
        assert!(all.len() >= 40, "{}", all.len());
        for (at, script) in all.iter().enumerate() {
            assert!(all[..at].iter().all(|other| other.name != script.name), "{}", script.name);
        }
    }

    #[test]
    fn splitting_over_records_keeps_the_message() {
        let wire = [&[0x16, 3, 1, 0, 10][..], b"0123456789"].concat();
        let records = in_records(&wire, 3);
        let want =
            [&b"\x16\x03\x01\0\x040123"[..], b"\x16\x03\x01\0\x044567", b"\x16\x03\x01\0\x0289"];
        assert_eq!(records, want.concat());
    }
}

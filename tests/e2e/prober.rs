//! Openings of active probers, sent to a TLS site and to the proxy in front of it. An observer must
//! see the same (PROTOCOL 10, 15.11, 15.12).

use std::thread;

use crate::support::client::Handshake;
use crate::support::dc::Dc;
use crate::support::fixture::HOST;
use crate::support::hello::{App, Hello, HelloOptions, Secret, unix_now};
use crate::support::pattern;
use crate::support::peer::Peer;
use crate::support::prober::{Observation, Received, Site, Step, probe};
use crate::support::proxy::Config;

use Step::{Finish, Listen, Pieces, Reset, Send};

/// The beginning of a connection.
struct Opening {
    name: &'static str,
    steps: Vec<Step>,
}

#[test]
fn no_opening_distinguishes_the_proxy_from_the_site() {
    let (dc, secret) = (Dc::listen(), Secret::new(HOST));
    let site = Site::listen(&[HOST, "elsewhere.example"]);
    let config = Config::new(dc.addr, site.addr).user("alice", &secret);
    let proxy = config.set("network.timeout", "handshake", "\"2s\"").start();
    let files = proxy.files();

    // A hello that was used once: a censor may have recorded it.
    let spent = Hello::new(&secret, App::PostQuantum);
    Handshake::send_hello(Peer::connect("client", proxy.addr), &secret, &spent);

    let openings = openings(&secret, &spent);
    assert!(openings.len() >= 30, "{} openings", openings.len());
    thread::scope(|scope| {
        let runs: Vec<_> = openings
            .iter()
            .map(|opening| {
                let run = |addr| scope.spawn(move || probe(addr, &opening.steps));
                (opening.name, run(site.addr), run(proxy.addr))
            })
            .collect();
        let mut differences = Vec::new();
        for (name, direct, through) in runs {
            let direct = direct.join().expect("the site");
            let through = through.join().expect("the proxy");
            if !are_alike(&direct, &through) {
                differences.push(format!("{name}:\n  site  {direct:?}\n  proxy {through:?}"));
            }
        }
        assert!(
            differences.is_empty(),
            "{} openings differ:\n{}",
            differences.len(),
            differences.join("\n")
        );
    });
    proxy.wait_until_idle(files);
}

/// Equal, except for signatures, whose length differs by a few bytes.
fn are_alike(one: &Observation, other: &Observation) -> bool {
    let alike = |(one, other): (&Received, &Received)| match (one, other) {
        (Received::Record(0x17, one), Received::Record(0x17, other)) => one.abs_diff(*other) <= 8,
        (one, other) => one == other,
    };
    one.received.len() == other.received.len()
        && one.received.iter().zip(&other.received).all(alike)
        && (one.end, one.at_once) == (other.end, other.at_once)
}

fn openings(secret: &Secret, spent: &Hello) -> Vec<Opening> {
    let mut list = Vec::new();
    let mut add = |name, steps| list.push(Opening { name, steps });
    let once = |bytes: &[u8]| vec![Send(bytes.to_vec())];
    let unknown = Secret::new(HOST);
    let hello = Hello::new(&unknown, App::PostQuantum);
    let forged = |change: &dyn Fn(&mut HelloOptions)| {
        let mut options = HelloOptions::new(secret, App::PostQuantum);
        change(&mut options);
        Hello::build(secret, &options).wire
    };
    let edited = |at: usize, byte: u8| {
        let mut wire = hello.wire.clone();
        wire[at] = byte;
        wire
    };

    add("a hello with the right name", once(&hello.wire));
    add("a hello as apps of 2024 send it", once(&Hello::new(&unknown, App::Classic).wire));
    add("a foreign name", once(&forged(&|w| w.sni = Some("elsewhere.example".into()))));
    add("a name that the site does not know", once(&forged(&|w| w.sni = Some("x.test".into()))));
    let mut nameless = HelloOptions::new(&unknown, App::PostQuantum);
    nameless.sni = None;
    add("no name", once(&Hello::build(&unknown, &nameless).wire));
    add("a recorded hello again", once(&spent.wire));
    add("a recorded hello again, in three records", once(&spent.in_records(3)));
    add("a valid digest from an hour ago", once(&forged(&|w| w.clock = unix_now() - 3600)));
    add("a valid digest from tomorrow", once(&forged(&|w| w.clock = unix_now() + 86_400)));
    add("suites of TLS 1.2 only", once(&forged(&|w| w.suites = vec![0xc02b, 0xc02f])));
    add("no suite but GREASE", once(&forged(&|w| w.suites = vec![])));
    add("unknown suites", once(&forged(&|w| w.suites = vec![0x1399, 0x5600])));
    add("a hello, then FIN", vec![Send(hello.wire.clone()), Finish]);
    add("a hello, a wait for the answer, FIN", vec![Send(hello.wire.clone()), Listen, Finish]);
    add("a hello, then RST", vec![Send(hello.wire.clone()), Reset]);
    add("a hello byte by byte", vec![Pieces(1, hello.wire.clone())]);
    add("a hello in twenty segments", vec![Pieces(hello.wire.len() / 20 + 1, hello.wire.clone())]);
    add("a hello in five records", once(&hello.in_records(5)));
    add("a hello in twelve records", once(&hello.in_records(12)));
    add("the answer answered with garbage", {
        let finished = [&[0x14, 3, 3, 0, 1, 1, 0x17, 3, 3, 0, 53][..], &pattern(3, 53)].concat();
        vec![Send(hello.wire.clone()), Listen, Send(finished)]
    });
    add("the answer answered with an alert", {
        vec![Send(hello.wire.clone()), Listen, Send(vec![0x15, 3, 3, 0, 2, 2, 40])]
    });
    add("two hellos in one write", once(&[hello.wire.as_slice(), &hello.wire].concat()));
    add("a hello and early data", {
        let early = [&[0x17, 3, 3, 0, 64][..], &pattern(4, 64)].concat();
        once(&[hello.wire.as_slice(), &early].concat())
    });
    add("a hello and a heartbeat", {
        once(&[hello.wire.as_slice(), &[0x18, 3, 3, 0, 3, 1, 0x40, 0]].concat())
    });
    for (name, length) in [("one byte", 1), ("a header", 5), ("half a hello", 700)] {
        add(name, once(&hello.wire[..length]));
    }
    for (name, length) in [("one byte and FIN", 1), ("half a hello and FIN", 700)] {
        add(name, vec![Send(hello.wire[..length].to_vec()), Finish]);
    }
    add("the first bytes, and the rest later", {
        vec![Send(hello.wire[..3].to_vec()), Send(hello.wire[3..].to_vec())]
    });
    add("record version 3.4", once(&edited(2, 4)));
    add("record version 2.0", once(&edited(1, 2)));
    add("a ServerHello from a client", once(&edited(5, 2)));
    add("a handshake that does not exist", once(&edited(5, 0x63)));
    add("a session id of 255 bytes", once(&edited(43, 255)));
    add("an impossible record length", once(&edited(3, 0xff)));
    add("a handshake longer than its record", once(&edited(6, 1)));
    add("an empty record first", once(&[&[0x16, 3, 1, 0, 0][..], &hello.wire].concat()));
    add("an alert first", once(&[0x15, 3, 1, 0, 2, 2, 40]));
    add("ChangeCipherSpec first", once(&[0x14, 3, 3, 0, 1, 1]));
    add("application data first", {
        once(&[&[0x17, 3, 3, 0, 200][..], &pattern(5, 200)].concat())
    });
    add("SSLv2", once(&[0x80, 0x2e, 1, 0, 2, 0, 0x15, 0, 0, 0, 0x10, 1, 0, 0x80]));
    add("HTTP in the clear", once(b"GET / HTTP/1.1\r\nHost: front.example\r\n\r\n"));
    add("HTTP in the clear and FIN", vec![Send(b"GET / HTTP/1.0\r\n\r\n".to_vec()), Finish]);
    add("HTTP CONNECT", once(b"CONNECT example.org:443 HTTP/1.1\r\n\r\n"));
    add("the preface of HTTP/2", once(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"));
    add("SSH", once(b"SSH-2.0-OpenSSH_9.6\r\n"));
    add("SMTP", once(b"EHLO probe.example\r\n"));
    add("SOCKS5", once(&[5, 1, 0]));
    add("a PROXY header of version 1", once(b"PROXY TCP4 192.0.2.1 192.0.2.2 1 443\r\n"));
    add("a PROXY header of version 2", {
        once(b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x01\xc0\0\x02\x02\x12\x34\x01\xbb")
    });
    add("MTProto without TLS", once(&pattern(6, 105)));
    add("abridged MTProto", once(&[0xef]));
    add("zeros", once(&[0; 512]));
    add("sixteen kilobytes of noise", once(&pattern(7, 16_384)));
    add("FIN and nothing else", vec![Finish]);
    add("silence", vec![]);
    list
}

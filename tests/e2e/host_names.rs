//! Lookups of fronts with host names, with a name server that gives every kind of wrong answer
//! (COMPATIBILITY 5.7, B12, DECISIONS D13).

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use crate::support::dc::Dc;
use crate::support::eventually;
use crate::support::fixture::HOST;
use crate::support::front::Front;
use crate::support::hello::{App, Hello, Secret};
use crate::support::name_server::{
    A, AAAA, Action, CNAME, DnsReply, NameServer, QUESTION_NAME, Question, Transport, wire,
};
use crate::support::peer::Peer;
use crate::support::proxy::{Config, Proxy};
use crate::support::stats;

/// The correct address.
const FRONT_IP: Ipv4Addr = Ipv4Addr::LOCALHOST;
/// The address in wrong answers, without a listener.
const NOWHERE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 99);
/// Long, so that random upper case gives many names.
const FRONT: &str = "a-front-with-many-letters.example";
const HELLO: &[u8] = b"GET / HTTP/1.1\r\nHost: front.example\r\n\r\n";

/// A proxy whose front has a name, and the name server for it.
struct Rig {
    proxy: Proxy,
    names: NameServer,
    front: Front,
    _dc: Dc,
}

impl Rig {
    fn new(script: impl Fn(&Question) -> Vec<Action> + Send + Sync + 'static) -> Self {
        let (dc, front, names) = (Dc::listen(), Front::listen(), NameServer::listen(script));
        let proxy = Config::new(dc.addr, front.addr)
            .user("alice", &Secret::new(HOST))
            .set("domain-fronting", "host", &format!("{FRONT:?}"))
            .set("network", "dns", &names.url())
            .start();
        Self { proxy, names, front, _dc: dc }
    }

    /// A connection without a valid secret reaches the front.
    fn assert_reaches_front(&self, what: &str) {
        let mut prober = Peer::connect("prober", self.proxy.addr);
        prober.send(HELLO);
        assert_eq!(self.front.accept().first, HELLO, "{what}");
    }

    /// A connection without a valid secret is closed without a byte.
    fn assert_closed_silently(&self, what: &str) {
        let mut prober = Peer::connect("prober", self.proxy.addr);
        prober.send(HELLO);
        assert!(prober.recv_rest().0.is_empty(), "{what}");
        assert_eq!(self.front.connections(), 0, "{what}");
    }
}

fn correct_answer(question: &Question) -> Vec<Action> {
    question.with_address(FRONT_IP).actions()
}

/// An answer with a wrong address.
fn wrong_answer(question: &Question) -> DnsReply {
    question.with_address(NOWHERE)
}

/// A question is the first of its type.
fn is_first(question: &Question) -> bool {
    question.index < 2
}

#[test]
fn a_front_is_found_by_its_name_with_one_lookup() {
    let rig = Rig::new(correct_answer);
    for count in 0..5 {
        rig.assert_reaches_front(&format!("connection {count}"));
    }
    let questions = rig.names.questions();
    let mut kinds: Vec<u16> = questions.iter().map(|question| question.kind).collect();
    kinds.sort_unstable();
    assert_eq!(kinds, [A, AAAA]);
    assert!(questions.iter().all(|question| question.name.eq_ignore_ascii_case(FRONT)));
    assert!(questions.iter().all(|question| question.transport == Transport::Udp));
}

#[test]
fn a_lookup_that_finds_no_descriptor_is_tried_again() {
    let rig = Rig::new(correct_answer);
    if !rig.proxy.limit_files(4) {
        eprintln!("skipped: no prlimit");
        return;
    }
    let _silent: Vec<Peer> = (0..20)
        .map(|_| Peer::connect_from("silent", Ipv4Addr::new(127, 9, 0, 1), rig.proxy.addr))
        .collect();
    rig.assert_reaches_front("no descriptor was left");
}

#[test]
fn many_clients_at_once_cost_one_question_of_each_type() {
    let held: Arc<AtomicBool> = Arc::default();
    let seen = Arc::clone(&held);
    let rig = Rig::new(move |question| {
        eventually("all clients wait", || seen.load(Ordering::SeqCst));
        correct_answer(question)
    });
    let probers: Vec<Peer> = (0..20)
        .map(|_| {
            let mut prober = Peer::connect("prober", rig.proxy.addr);
            prober.send(HELLO);
            prober
        })
        .collect();
    eventually("a question is sent", || rig.names.count() > 0);
    held.store(true, Ordering::SeqCst);
    for _ in &probers {
        assert_eq!(rig.front.accept().first, HELLO);
    }
    assert_eq!(rig.names.count(), 2);
}

#[test]
fn each_try_has_a_new_port_new_ids_and_new_upper_case() {
    // The first try gets no answer.
    let rig =
        Rig::new(|question| if is_first(question) { Vec::new() } else { correct_answer(question) });
    rig.assert_reaches_front("the second try is answered");
    let questions = rig.names.questions();
    let (first, second) = (&questions[0], questions.last().expect("a second try"));
    assert_ne!(first.from.port(), second.from.port());
    assert_ne!(questions[0].id, questions[1].id);
    let capitals = |question: &Question| question.name != FRONT.to_lowercase();
    assert!(questions.iter().all(capitals), "{questions:?}");
    assert_ne!(first.name, second.name);
}

#[test]
fn answers_that_do_not_repeat_the_question_are_skipped() {
    let forge = |change: fn(&mut DnsReply)| {
        move |question: &Question| {
            let mut forged = wrong_answer(question);
            change(&mut forged);
            let mut actions = forged.actions();
            actions.extend(correct_answer(question));
            actions
        }
    };
    for (what, change) in [
        ("a wrong id", (|reply| reply.id ^= 1) as fn(&mut DnsReply)),
        ("a wrong name", |reply| reply.echo[1] ^= 3),
        ("a longer name", |reply| {
            let rest = reply.echo.split_off(0);
            reply.echo = [&[1, b'x'][..], &rest].concat();
        }),
        ("a wrong type", |reply| {
            let at = reply.echo.len() - 3;
            reply.echo[at] ^= 0x10;
        }),
        ("a question instead of an answer", |reply| reply.flags &= 0x7fff),
        ("no question", |reply| {
            reply.questions = 0;
            reply.echo.clear();
        }),
        ("two questions", |reply| reply.questions = 2),
    ] {
        let rig = Rig::new(forge(change));
        rig.assert_reaches_front(what);
        assert_eq!(rig.names.count(), 2, "{what}");
    }
}

#[test]
fn packets_without_our_id_or_from_another_port_are_ignored() {
    for (what, packet) in [
        ("nothing", Vec::new()),
        ("half an id", vec![0]),
        ("less than a header", vec![0xff; 11]),
        ("noise", vec![0xff; 700]),
        ("a header with another id", b"\xff\xfe\x81\x82\0\0\0\0\0\0\0\0".to_vec()),
    ] {
        let rig = Rig::new(move |question| {
            let mut actions = vec![
                Action::Send(packet.clone()),
                Action::SendFromOtherPort(wrong_answer(question).packet()),
            ];
            actions.extend(correct_answer(question));
            actions
        });
        rig.assert_reaches_front(what);
        assert_eq!(rig.names.count(), 2, "{what}");
    }
}

#[test]
fn guessed_ids_make_the_resolver_use_another_port() {
    // The correct answer follows more guesses than the resolver accepts on one port. On the next
    // port it is the only answer.
    let rig = Rig::new(|question| {
        let guesses = if is_first(question) { 0x1000..0x1040 } else { 0..0 };
        let forged = guesses.map(|guess| {
            let mut forged = wrong_answer(question);
            forged.id = question.id.wrapping_add(guess);
            Action::Send(forged.packet())
        });
        forged.chain(correct_answer(question)).collect()
    });
    rig.assert_reaches_front("the new port is answered");
    let questions = rig.names.questions();
    let last = questions.last().expect("a question");
    assert_ne!(questions[0].from.port(), last.from.port());
}

#[test]
fn a_server_that_loses_upper_case_is_asked_again_without_it() {
    let rig = Rig::new(|question| {
        let mut reply = question.with_address(FRONT_IP);
        reply.echo.make_ascii_lowercase();
        reply.actions()
    });
    rig.assert_reaches_front("lower case");
    let last = rig.names.questions().pop().expect("a question");
    assert_eq!(last.name, FRONT);
}

#[test]
fn a_forged_answer_without_the_right_upper_case_is_skipped() {
    let rig = Rig::new(|question| {
        let mut forged = wrong_answer(question);
        let end = forged.echo.len() - 4;
        let letters = forged.echo[..end].iter_mut();
        letters.filter(|byte| byte.is_ascii_alphabetic()).for_each(|byte| *byte ^= 0x20);
        let mut actions = if is_first(question) { forged.actions() } else { Vec::new() };
        actions.extend(correct_answer(question));
        actions
    });
    rig.assert_reaches_front("the correct_answer");
}

#[test]
fn answers_without_an_address_close_the_connection_and_are_cached() {
    type Make = fn(&Question) -> DnsReply;
    for (what, make) in [
        ("SERVFAIL", (|q| q.reply().code(2)) as Make),
        ("REFUSED", |q| q.reply().code(5)),
        ("NXDOMAIN", |q| q.reply().code(3)),
        ("no data", |q| q.reply()),
        ("a name that points to itself", |q| {
            let own = u16::try_from(q.wire.len()).expect("short") | 0xc000;
            q.reply().record(&own.to_be_bytes(), q.kind, 9, &FRONT_IP.octets())
        }),
        ("a name that points past the packet", |q| {
            q.reply().record(&[0xff, 0xff], q.kind, 9, &FRONT_IP.octets())
        }),
        ("a name that points ahead", |q| q.reply().record(&[0xc0, 200], A, 9, &FRONT_IP.octets())),
        ("65535 records that are not there", |q| {
            let mut reply = q.reply();
            reply.answer_count = Some(65_535);
            reply
        }),
        ("an address of three bytes", |q| q.reply().record(&QUESTION_NAME, A, 9, &[127, 0, 0])),
        ("data past the end", |q| {
            let mut reply = q.reply().record(&QUESTION_NAME, 16, 9, &[0; 9]);
            reply.answer_count = Some(2);
            reply
        }),
        ("an alias of itself", |q| q.reply().record(&QUESTION_NAME, CNAME, 9, &QUESTION_NAME)),
        ("aliases in a circle", |q| {
            let (a, b) = (wire("a.example"), wire("b.example"));
            let reply = q.reply().record(&QUESTION_NAME, CNAME, 9, &a).record(&a, CNAME, 9, &b);
            reply.record(&b, CNAME, 9, &a)
        }),
        ("an alias without an address", |q| {
            q.reply().record(&QUESTION_NAME, CNAME, 9, &wire("gone.example"))
        }),
        ("another name.s address", |q| {
            q.reply().record(&wire("x.example"), A, 9, &FRONT_IP.octets())
        }),
    ] {
        let rig = Rig::new(move |question| make(question).actions());
        rig.assert_closed_silently(what);
        let asked = rig.names.count();
        rig.assert_closed_silently(what);
        rig.assert_closed_silently(what);
        assert_eq!(rig.names.count(), asked, "{what}: asked once, then remembered");
    }
}

#[test]
fn aliases_are_followed_to_an_address() {
    let rig = Rig::new(|question| {
        let (mut reply, mut owner) = (question.reply(), QUESTION_NAME.to_vec());
        for step in 0..7 {
            let next = wire(&format!("step{step}.example"));
            reply = reply.record(&owner, CNAME, 60, &next);
            owner = next;
        }
        match question.kind {
            A => reply.record(&owner, A, 60, &FRONT_IP.octets()).actions(),
            _ => reply.actions(),
        }
    });
    rig.assert_reaches_front("seven aliases");
}

#[test]
fn a_time_to_live_of_zero_or_too_much_still_counts_for_a_moment() {
    for ttl_s in [0, 1, 1 << 31, u32::MAX] {
        let rig = Rig::new(move |question| match question.kind {
            A => question.reply().record(&QUESTION_NAME, A, ttl_s, &FRONT_IP.octets()).actions(),
            _ => question.reply().actions(),
        });
        for _ in 0..3 {
            rig.assert_reaches_front(&format!("a time to live of {ttl_s}"));
        }
        assert_eq!(rig.names.count(), 2, "{ttl_s}");
    }
}

#[test]
fn one_type_of_address_is_enough() {
    let mapped = FRONT_IP.to_ipv6_mapped().octets();
    type Make = fn(&Question) -> Vec<Action>;
    let others: [(&str, Make); 4] = [
        ("silence", |_| Vec::new()),
        ("SERVFAIL", |q| q.reply().code(2).actions()),
        ("NXDOMAIN", |q| q.reply().code(3).actions()),
        ("noise", |q| q.reply().record(&QUESTION_NAME, q.kind, 9, &[1]).actions()),
    ];
    for (what, other) in others {
        let rig = Rig::new(move |q| if q.kind == A { correct_answer(q) } else { other(q) });
        rig.assert_reaches_front(&format!("{what} about AAAA"));
        let rig = Rig::new(move |question| match question.kind {
            AAAA => question.reply().record(&QUESTION_NAME, AAAA, 60, &mapped).actions(),
            _ => other(question),
        });
        rig.assert_reaches_front(&format!("{what} about A"));
    }
}

#[test]
fn a_truncated_answer_is_asked_again_over_tcp() {
    let rig = Rig::new(|question| match question.transport {
        Transport::Udp => wrong_answer(question).truncated().actions(),
        _ => vec![Action::SendByteByByte(question.with_address(FRONT_IP).packet())],
    });
    rig.assert_reaches_front("byte by byte");
    assert_eq!(rig.names.connections(), 1, "both questions on one connection");
    assert_eq!(rig.names.count(), 4);
}

#[test]
fn one_type_over_tcp_does_not_affect_the_other_type() {
    let rig = Rig::new(|question| match (question.transport, question.kind) {
        (Transport::Udp, A) => question.reply().truncated().actions(),
        _ => correct_answer(question),
    });
    rig.assert_reaches_front("A over TCP");
    let over_tcp = rig.names.questions().iter().filter(|q| q.transport == Transport::Tcp).count();
    assert_eq!(over_tcp, 1);
}

#[test]
fn wrong_packets_on_a_stream_are_skipped() {
    let rig = Rig::new(|question| match question.transport {
        Transport::Udp => question.reply().truncated().actions(),
        _ => {
            let mut forged = wrong_answer(question);
            forged.id ^= 1;
            let mut actions = vec![Action::Send(Vec::new()), Action::Send(vec![0; 3])];
            actions.extend(forged.actions());
            actions.extend(correct_answer(question));
            actions
        }
    });
    rig.assert_reaches_front("the packet after them");
}

#[test]
fn a_stream_without_a_valid_answer_is_closed() {
    type Make = fn(&Question) -> Vec<Action>;
    let check = |what, over_tcp: Make| {
        let rig = Rig::new(move |question| match question.transport {
            Transport::Udp => question.reply().truncated().actions(),
            _ => over_tcp(question),
        });
        let files = rig.proxy.files();
        rig.assert_closed_silently(what);
        rig.proxy.wait_until_idle(files);
    };
    // In parallel, because most of them end with a timeout.
    thread::scope(|scope| {
        for (what, over_tcp) in [
            ("silence", (|_| Vec::new()) as Make),
            ("closed at once", |_| vec![Action::Close]),
            ("only a length", |_| vec![Action::SendRaw(vec![0xff, 0xff])]),
            ("less than the length says", |q| {
                let packet = q.with_address(FRONT_IP).packet();
                vec![Action::SendRaw([&[0x40, 0], &packet[..]].concat()), Action::Close]
            }),
            ("more than the length says", |q| {
                vec![
                    Action::SendRaw([&[0, 12], &q.with_address(FRONT_IP).packet()[..]].concat()),
                    Action::Close,
                ]
            }),
            ("truncated again", |q| wrong_answer(q).truncated().actions()),
            ("a megabyte of nothing", |_| vec![Action::SendRaw(vec![0; 1 << 20])]),
            ("a megabyte of long packets", |_| vec![Action::SendRaw(vec![0xff; 1 << 20])]),
        ] {
            scope.spawn(move || check(what, over_tcp));
        }
    });
}

#[test]
fn an_unreachable_server_closes_the_connection_until_it_is_back() {
    let (dc, front) = (Dc::listen(), Front::listen());
    // Bound, so that no other process takes the port, and closed later.
    let closed = std::net::UdpSocket::bind((FRONT_IP, 0)).expect("a port");
    let addr: SocketAddr = closed.local_addr().expect("an address");
    drop(closed);
    let proxy = Config::new(dc.addr, front.addr)
        .user("alice", &Secret::new(HOST))
        .set("domain-fronting", "host", &format!("{FRONT:?}"))
        .set("network", "dns", &format!("\"udp://{addr}\""))
        .start();
    let mut prober = Peer::connect("prober", proxy.addr);
    prober.send(HELLO);
    assert!(prober.recv_rest().0.is_empty());
    let udp = std::net::UdpSocket::bind(addr).expect("the port again");
    thread::spawn(move || {
        let mut packet = [0; 4096];
        while let Ok((count, from)) = udp.recv_from(&mut packet) {
            let mut reply = packet[..count].to_vec();
            (reply[2], reply[3]) = (0x81, 0x80);
            if reply[count - 3] == 1 {
                reply[7] = 1;
                reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 127, 0, 0, 1]);
            }
            udp.send_to(&reply, from).expect("an answer");
        }
    });
    eventually("the name is found", || {
        let mut prober = Peer::connect("prober", proxy.addr);
        prober.send(HELLO);
        let came = front.accept_within(std::time::Duration::from_millis(500));
        came.is_some_and(|conn| conn.first == HELLO)
    });
}

#[test]
fn silence_ends_in_time_and_leaves_nothing_behind() {
    let rig = Rig::new(|_| Vec::new());
    let files = rig.proxy.files();
    rig.assert_closed_silently("silence");
    assert!(rig.names.count() >= 4, "it was asked more than once");
    rig.proxy.wait_until_idle(files);
    let ticks = rig.proxy.ticks();
    assert!(ticks < 100, "{ticks} ticks of 10 ms for one name");
}

#[test]
fn late_answers_are_ignored() {
    let late: Arc<Mutex<Vec<Action>>> = Arc::default();
    let rig = Rig::new(move |question| {
        let mut late = late.lock().expect("the late answers");
        if question.index < 2 {
            // It is sent later, to the next port, where its id is unknown.
            late.extend(wrong_answer(question).actions());
            return Vec::new();
        }
        let mut actions: Vec<Action> = late.drain(..).collect();
        actions.extend(correct_answer(question));
        actions
    });
    rig.assert_reaches_front("the second try");
}

#[test]
fn each_host_is_looked_up_under_its_own_name() {
    let (dc, front) = (Dc::listen(), Front::listen());
    let names = NameServer::listen(correct_answer);
    let hosts = ["one.example", "two.example", "three.example"];
    let config = Config::new(dc.addr, front.addr).without("domain-fronting", "host").set(
        "network",
        "dns",
        &names.url(),
    );
    let config = hosts
        .iter()
        .fold(config, |config, host| config.user(&host.replace('.', ""), &Secret::new(host)));
    let mut proxy = config.clone().start();
    for (at, host) in hosts.into_iter().enumerate() {
        // An unknown key with the host of a user.
        let hello = Hello::new(&Secret::new(host), App::PostQuantum).wire;
        let send = |proxy: &Proxy| {
            let mut prober = Peer::connect("prober", proxy.addr);
            prober.send(&hello);
            prober
        };
        // The name alone must not lead to this machine.
        assert!(send(&proxy).recv_rest().0.is_empty(), "{host}");
        assert_eq!(front.connections(), at, "{host}");
        let asked = names.questions().pop().expect("a question");
        assert!(asked.name.eq_ignore_ascii_case(host), "{host}");
        // The config may.
        proxy.reload(&config.clone().set("domain-fronting", "host", &format!("{host:?}")));
        let _prober = send(&proxy);
        assert!(front.accept().first == hello, "{host}");
        proxy.reload(&config);
    }
    assert_eq!(names.count(), 6);
}

/// A hostile name server must not lead clients into services of this machine or of the LAN.
#[test]
fn a_name_of_a_secret_leads_neither_to_this_machine_nor_into_private_networks() {
    let mapped = FRONT_IP.to_ipv6_mapped();
    let nat64 = Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0x7f00, 1);
    for (v4, v6) in [
        (Some([127, 0, 0, 1]), None),
        (Some([0, 0, 0, 0]), None),
        (Some([192, 168, 1, 1]), Some(Ipv6Addr::LOCALHOST)),
        (None, Some(mapped)),
        (None, Some(nat64)),
        (None, Some(Ipv6Addr::UNSPECIFIED)),
    ] {
        let names = NameServer::listen(move |question| {
            let reply = question.reply();
            match (question.kind, v4, v6) {
                (A, Some(v4), _) => reply.record(&QUESTION_NAME, A, 60, &v4).actions(),
                (AAAA, _, Some(v6)) => {
                    reply.record(&QUESTION_NAME, AAAA, 60, &v6.octets()).actions()
                }
                _ => reply.actions(),
            }
        });
        let (dc, front) = (Dc::listen(), Front::listen());
        let proxy = Config::new(dc.addr, front.addr)
            .without("domain-fronting", "host")
            .set("domain-fronting", "scout", "true")
            .user("alice", &Secret::new(HOST))
            .set("network", "dns", &names.url())
            .start();
        let mut prober = Peer::connect("prober", proxy.addr);
        prober.send(HELLO);
        assert!(prober.recv_rest().0.is_empty(), "{v4:?} {v6:?}");
        let log = || proxy.log();
        eventually("the reason is logged", || log().contains("event=front-not-public"));
        eventually("the look at the front fails", || log().contains("event=front-probe-failed"));
        assert_eq!(front.connections(), 0, "{v4:?} {v6:?}");
        let explained = stats::get(proxy.api, "/explain").body;
        assert!(explained.contains("front-not-public"), "{explained}");
    }
}

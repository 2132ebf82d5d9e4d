//! Fronts that have names: the program asks a name server that lies in every way a server can
//! (spec: network 7, gotcha B12, decision D13).

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use crate::support::dc::Dc;
use crate::support::eventually;
use crate::support::hello::{Hello, Secret, Shape};
use crate::support::names::{A, AAAA, ASKED, Act, CNAME, NameServer, Over, Question, Reply, wire};
use crate::support::origin::Origin;
use crate::support::peer::Peer;
use crate::support::proxy::{Config, Proxy};
use crate::support::stage::HOST;

/// Where the truth leads.
const HOME: Ipv4Addr = Ipv4Addr::LOCALHOST;
/// Where lies lead: nobody listens there.
const NOWHERE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 99);
/// Long, so that its capitals are many.
const FRONT: &str = "a-front-with-many-letters.example";
const HELLO: &[u8] = b"GET / HTTP/1.1\r\nHost: somebody\r\n\r\n";

/// A proxy whose front has a name, and who knows the name.
struct Rig {
    proxy: Proxy,
    names: NameServer,
    origin: Origin,
    _dc: Dc,
}

impl Rig {
    fn new(script: impl Fn(&Question) -> Vec<Act> + Send + Sync + 'static) -> Self {
        let (dc, origin, names) = (Dc::listen(), Origin::listen(), NameServer::listen(script));
        let proxy = Config::new(dc.addr, origin.addr)
            .user("alice", &Secret::new(HOST))
            .set("domain-fronting", "host", &format!("{FRONT:?}"))
            .set("network", "dns", &names.url())
            .start();
        Self { proxy, names, origin, _dc: dc }
    }

    /// A stranger's bytes reach the origin.
    fn assert_led(&self, what: &str) {
        let mut prober = Peer::connect("prober", self.proxy.addr);
        prober.send(HELLO);
        assert_eq!(self.origin.visit().first, HELLO, "{what}");
    }

    /// A stranger is let go without a word.
    fn assert_lost(&self, what: &str) {
        let mut prober = Peer::connect("prober", self.proxy.addr);
        prober.send(HELLO);
        assert!(prober.recv_rest().0.is_empty(), "{what}");
        assert_eq!(self.origin.knocks(), 0, "{what}");
    }
}

fn truth(question: &Question) -> Vec<Act> {
    question.lead_to(HOME).say()
}

/// A lie that would lead elsewhere if it were believed.
fn lie(question: &Question) -> Reply {
    question.lead_to(NOWHERE)
}

/// Whether a question is the first one of its kind.
fn is_first(question: &Question) -> bool {
    question.before < 2
}

#[test]
fn a_front_is_found_by_its_name_and_asked_for_once() {
    let rig = Rig::new(truth);
    for visit in 0..5 {
        rig.assert_led(&format!("visit {visit}"));
    }
    let questions = rig.names.questions();
    let mut kinds: Vec<u16> = questions.iter().map(|question| question.kind).collect();
    kinds.sort_unstable();
    assert_eq!(kinds, [A, AAAA]);
    assert!(questions.iter().all(|question| question.name.eq_ignore_ascii_case(FRONT)));
    assert!(questions.iter().all(|question| question.over == Over::Udp));
}

#[test]
fn many_visitors_at_once_cost_one_question_of_each_kind() {
    let held: Arc<AtomicBool> = Arc::default();
    let seen = Arc::clone(&held);
    let rig = Rig::new(move |question| {
        eventually("all visitors wait", || seen.load(Ordering::SeqCst));
        truth(question)
    });
    let probers: Vec<Peer> = (0..20)
        .map(|_| {
            let mut prober = Peer::connect("prober", rig.proxy.addr);
            prober.send(HELLO);
            prober
        })
        .collect();
    eventually("the name is asked for", || rig.names.count() > 0);
    held.store(true, Ordering::SeqCst);
    for _ in &probers {
        assert_eq!(rig.origin.visit().first, HELLO);
    }
    assert_eq!(rig.names.count(), 2);
}

#[test]
fn each_try_has_a_fresh_port_fresh_ids_and_fresh_capitals() {
    // The first try gets no answer.
    let rig = Rig::new(|question| if is_first(question) { Vec::new() } else { truth(question) });
    rig.assert_led("the second try is answered");
    let questions = rig.names.questions();
    let (first, second) = (&questions[0], questions.last().expect("a second try"));
    assert_ne!(first.from.port(), second.from.port());
    assert_ne!(questions[0].id, questions[1].id);
    let capitals = |question: &Question| question.name != FRONT.to_lowercase();
    assert!(questions.iter().all(capitals), "{questions:?}");
    assert_ne!(first.name, second.name);
}

#[test]
fn lies_that_do_not_repeat_the_question_are_passed_over() {
    let forge = |change: fn(&mut Reply)| {
        move |question: &Question| {
            let mut forged = lie(question);
            change(&mut forged);
            let mut acts = forged.say();
            acts.extend(truth(question));
            acts
        }
    };
    for (what, change) in [
        ("a wrong id", (|reply| reply.id ^= 1) as fn(&mut Reply)),
        ("a wrong name", |reply| reply.echo[1] ^= 3),
        ("a longer name", |reply| {
            let rest = reply.echo.split_off(0);
            reply.echo = [&[1, b'x'][..], &rest].concat();
        }),
        ("a wrong kind", |reply| {
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
        rig.assert_led(what);
        assert_eq!(rig.names.count(), 2, "{what}");
    }
}

#[test]
fn packets_without_our_id_and_from_elsewhere_end_nothing() {
    for (what, packet) in [
        ("nothing", Vec::new()),
        ("half an id", vec![0]),
        ("less than a header", vec![0xff; 11]),
        ("noise", vec![0xff; 700]),
        ("a header of another", b"\xff\xfe\x81\x82\0\0\0\0\0\0\0\0".to_vec()),
    ] {
        let rig = Rig::new(move |question| {
            let mut acts = vec![Act::Say(packet.clone()), Act::Elsewhere(lie(question).packet())];
            acts.extend(truth(question));
            acts
        });
        rig.assert_led(what);
        assert_eq!(rig.names.count(), 2, "{what}");
    }
}

#[test]
fn a_guesser_makes_us_move_to_another_port() {
    // The truth comes behind too many guesses to be waited for; on the next port it comes alone.
    let rig = Rig::new(|question| {
        let guesses = if is_first(question) { 0x1000..0x1040 } else { 0..0 };
        let forged = guesses.map(|guess| {
            let mut forged = lie(question);
            forged.id = question.id.wrapping_add(guess);
            Act::Say(forged.packet())
        });
        forged.chain(truth(question)).collect()
    });
    rig.assert_led("the fresh port is answered");
    let questions = rig.names.questions();
    let last = questions.last().expect("a question");
    assert_ne!(questions[0].from.port(), last.from.port());
}

#[test]
fn a_server_that_loses_capitals_is_asked_again_without() {
    let rig = Rig::new(|question| {
        let mut reply = question.lead_to(HOME);
        reply.echo.make_ascii_lowercase();
        reply.say()
    });
    rig.assert_led("lower case");
    let last = rig.names.questions().pop().expect("a question");
    assert_eq!(last.name, FRONT);
}

#[test]
fn a_forger_who_guessed_all_but_the_capitals_is_not_believed() {
    let rig = Rig::new(|question| {
        let mut forged = lie(question);
        let end = forged.echo.len() - 4;
        let letters = forged.echo[..end].iter_mut();
        letters.filter(|byte| byte.is_ascii_alphabetic()).for_each(|byte| *byte ^= 0x20);
        let mut acts = if is_first(question) { forged.say() } else { Vec::new() };
        acts.extend(truth(question));
        acts
    });
    rig.assert_led("the truth");
}

#[test]
fn answers_that_say_nothing_let_the_visitor_go_and_are_remembered() {
    type Make = fn(&Question) -> Reply;
    for (what, make) in [
        ("SERVFAIL", (|q| q.reply().code(2)) as Make),
        ("REFUSED", |q| q.reply().code(5)),
        ("NXDOMAIN", |q| q.reply().code(3)),
        ("no data", |q| q.reply()),
        ("a name that is a loop", |q| {
            let own = u16::try_from(q.wire.len()).expect("short") | 0xc000;
            q.reply().record(&own.to_be_bytes(), q.kind, 9, &HOME.octets())
        }),
        ("a name that begins behind the packet", |q| {
            q.reply().record(&[0xff, 0xff], q.kind, 9, &HOME.octets())
        }),
        ("a name that points ahead", |q| q.reply().record(&[0xc0, 200], A, 9, &HOME.octets())),
        ("65535 records that are not there", |q| {
            let mut reply = q.reply();
            reply.claim = Some(65_535);
            reply
        }),
        ("an address of three bytes", |q| q.reply().record(&ASKED, A, 9, &[127, 0, 0])),
        ("data beyond the end", |q| {
            let mut reply = q.reply().record(&ASKED, 16, 9, &[0; 9]);
            reply.claim = Some(2);
            reply
        }),
        ("an alias of itself", |q| q.reply().record(&ASKED, CNAME, 9, &ASKED)),
        ("aliases in a circle", |q| {
            let (a, b) = (wire("a.example"), wire("b.example"));
            let reply = q.reply().record(&ASKED, CNAME, 9, &a).record(&a, CNAME, 9, &b);
            reply.record(&b, CNAME, 9, &a)
        }),
        ("an alias that leads nowhere", |q| {
            q.reply().record(&ASKED, CNAME, 9, &wire("gone.example"))
        }),
        ("another's address", |q| q.reply().record(&wire("x.example"), A, 9, &HOME.octets())),
    ] {
        let rig = Rig::new(move |question| make(question).say());
        rig.assert_lost(what);
        let asked = rig.names.count();
        rig.assert_lost(what);
        rig.assert_lost(what);
        assert_eq!(rig.names.count(), asked, "{what}: asked once, then remembered");
    }
}

#[test]
fn aliases_are_followed_to_an_address() {
    let rig = Rig::new(|question| {
        let (mut reply, mut owner) = (question.reply(), ASKED.to_vec());
        for step in 0..7 {
            let next = wire(&format!("step{step}.example"));
            reply = reply.record(&owner, CNAME, 60, &next);
            owner = next;
        }
        match question.kind {
            A => reply.record(&owner, A, 60, &HOME.octets()).say(),
            _ => reply.say(),
        }
    });
    rig.assert_led("seven aliases");
}

#[test]
fn times_to_live_of_nothing_and_of_too_much_still_count_for_a_moment() {
    for ttl_s in [0, 1, 1 << 31, u32::MAX] {
        let rig = Rig::new(move |question| match question.kind {
            A => question.reply().record(&ASKED, A, ttl_s, &HOME.octets()).say(),
            _ => question.reply().say(),
        });
        for _ in 0..3 {
            rig.assert_led(&format!("a time to live of {ttl_s}"));
        }
        assert_eq!(rig.names.count(), 2, "{ttl_s}");
    }
}

#[test]
fn one_kind_of_address_is_enough() {
    let mapped = HOME.to_ipv6_mapped().octets();
    type Make = fn(&Question) -> Vec<Act>;
    let others: [(&str, Make); 4] = [
        ("silence", |_| Vec::new()),
        ("SERVFAIL", |q| q.reply().code(2).say()),
        ("NXDOMAIN", |q| q.reply().code(3).say()),
        ("noise", |q| q.reply().record(&ASKED, q.kind, 9, &[1]).say()),
    ];
    for (what, other) in others {
        let rig = Rig::new(move |q| if q.kind == A { truth(q) } else { other(q) });
        rig.assert_led(&format!("{what} about AAAA"));
        let rig = Rig::new(move |question| match question.kind {
            AAAA => question.reply().record(&ASKED, AAAA, 60, &mapped).say(),
            _ => other(question),
        });
        rig.assert_led(&format!("{what} about A"));
    }
}

#[test]
fn what_does_not_fit_is_asked_again_over_tcp() {
    let rig = Rig::new(|question| match question.over {
        Over::Udp => lie(question).truncated().say(),
        _ => vec![Act::Dribble(question.lead_to(HOME).packet())],
    });
    rig.assert_led("byte by byte");
    assert_eq!(rig.names.connections(), 1, "both questions on one connection");
    assert_eq!(rig.names.count(), 4);
}

#[test]
fn one_kind_over_tcp_leaves_the_other_kind_alone() {
    let rig = Rig::new(|question| match (question.over, question.kind) {
        (Over::Udp, A) => question.reply().truncated().say(),
        _ => truth(question),
    });
    rig.assert_led("A over TCP");
    let over_tcp = rig.names.questions().iter().filter(|q| q.over == Over::Tcp).count();
    assert_eq!(over_tcp, 1);
}

#[test]
fn wrong_packets_on_a_stream_are_passed_over() {
    let rig = Rig::new(|question| match question.over {
        Over::Udp => question.reply().truncated().say(),
        _ => {
            let mut forged = lie(question);
            forged.id ^= 1;
            let mut acts = vec![Act::Say(Vec::new()), Act::Say(vec![0; 3])];
            acts.extend(forged.say());
            acts.extend(truth(question));
            acts
        }
    });
    rig.assert_led("the packet behind them");
}

#[test]
fn a_stream_that_answers_nothing_is_given_up() {
    type Make = fn(&Question) -> Vec<Act>;
    let judge = |what, over_tcp: Make| {
        let rig = Rig::new(move |question| match question.over {
            Over::Udp => question.reply().truncated().say(),
            _ => over_tcp(question),
        });
        let files = rig.proxy.files();
        rig.assert_lost(what);
        rig.proxy.wait_for_rest(files);
    };
    // Side by side, as most of them cost our patience.
    thread::scope(|scope| {
        for (what, over_tcp) in [
            ("silence", (|_| Vec::new()) as Make),
            ("closed at once", |_| vec![Act::Close]),
            ("a length and nothing else", |_| vec![Act::Raw(vec![0xff, 0xff])]),
            ("less than the length says", |q| {
                let packet = q.lead_to(HOME).packet();
                vec![Act::Raw([&[0x40, 0], &packet[..]].concat()), Act::Close]
            }),
            ("more than the length says", |q| {
                vec![Act::Raw([&[0, 12], &q.lead_to(HOME).packet()[..]].concat()), Act::Close]
            }),
            ("truncated again", |q| lie(q).truncated().say()),
            ("a megabyte of nothing", |_| vec![Act::Raw(vec![0; 1 << 20])]),
            ("a megabyte of long packets", |_| vec![Act::Raw(vec![0xff; 1 << 20])]),
        ] {
            scope.spawn(move || judge(what, over_tcp));
        }
    });
}

#[test]
fn a_server_that_is_not_there_lets_the_visitor_go_and_comes_back() {
    let (dc, origin) = (Dc::listen(), Origin::listen());
    // Bound, so that nobody else takes it, and closed later.
    let closed = std::net::UdpSocket::bind((HOME, 0)).expect("a port");
    let addr: SocketAddr = closed.local_addr().expect("an address");
    drop(closed);
    let proxy = Config::new(dc.addr, origin.addr)
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
        let came = origin.visit_within(std::time::Duration::from_millis(500));
        came.is_some_and(|visit| visit.first == HELLO)
    });
}

#[test]
fn silence_ends_in_time_and_leaves_nothing_behind() {
    let rig = Rig::new(|_| Vec::new());
    let files = rig.proxy.files();
    rig.assert_lost("silence");
    assert!(rig.names.count() >= 4, "it was asked more than once");
    rig.proxy.wait_for_rest(files);
    let ticks = rig.proxy.ticks();
    assert!(ticks < 100, "{ticks} ticks of 10 ms for one name");
}

#[test]
fn late_answers_are_nobodys() {
    let kept: Arc<Mutex<Vec<Act>>> = Arc::default();
    let rig = Rig::new(move |question| {
        let mut kept = kept.lock().expect("the kept answers");
        if question.before < 2 {
            // To the next port, where it answers no question.
            kept.extend(lie(question).say());
            return Vec::new();
        }
        let mut acts: Vec<Act> = kept.drain(..).collect();
        acts.extend(truth(question));
        acts
    });
    rig.assert_led("the second try");
}

#[test]
fn each_secret_leads_to_its_own_host() {
    let (dc, origin) = (Dc::listen(), Origin::listen());
    let names = NameServer::listen(truth);
    let hosts = ["one.example", "two.example", "three.example"];
    let config = Config::new(dc.addr, origin.addr).without("domain-fronting", "host").set(
        "network",
        "dns",
        &names.url(),
    );
    let proxy = hosts
        .iter()
        .fold(config, |config, host| config.user(&host.replace('.', ""), &Secret::new(host)))
        .start();
    for host in hosts {
        // A key that is nobody's, but a host that is somebody's.
        let hello = Hello::fresh(&Secret::new(host), Shape::PostQuantum).wire;
        let mut prober = Peer::connect("prober", proxy.addr);
        prober.send(&hello);
        assert!(origin.visit().first == hello, "{host}");
        let asked = names.questions().pop().expect("a question");
        assert!(asked.name.eq_ignore_ascii_case(host), "{host}");
    }
    assert_eq!(names.count(), 6);
}

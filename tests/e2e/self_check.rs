//! Tests of the test code: client, DC and captures must agree with each other without the product.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use crate::support::answer;
use crate::support::blackhole::BlackHole;
use crate::support::captured::{payloads, sessions};
use crate::support::client::{CCS, Client, record};
use crate::support::crypto::hmac;
use crate::support::curve::mlkem_score;
use crate::support::dc::Dc;
use crate::support::fixture::HOST;
use crate::support::hello::{App, Hello, Secret};
use crate::support::obfuscated2;
use crate::support::peer::{End, Peer};
use crate::support::tls::{PAGE, TlsFront};
use crate::support::{minimal_proxy, pattern, random};

#[test]
fn our_client_and_our_dc_understand_each_other_through_the_minimal_proxy() {
    let secret = Secret::new("proxy.example.org");
    let dc = Dc::listen();
    let mut client = Client::open(minimal_proxy::serve_once(&secret, dc.addr), &secret);
    let mut session = dc.accept();
    assert_eq!((session.tag, session.dc), (obfuscated2::DD, 2));

    let (question, reply) = (pattern(1, 100_000), pattern(2, 300_000));
    client.up.send(&question);
    client.up.send_raw(&CCS);
    client.up.send_raw(&record(0x17, &[]));
    assert!(session.from.recv(question.len()) == question);
    session.to.send(&reply);
    assert!(client.down.recv(reply.len()) == reply);
    client.up.send_fin();
    assert_eq!(session.from.recv_rest(), (Vec::new(), End::Fin));
    session.to.send_fin();
    assert_eq!(client.down.recv_rest(), (Vec::new(), End::Fin));
}

#[test]
fn captured_hellos_have_valid_digests() {
    for session in sessions() {
        let mut blank = session.hello.wire.clone();
        blank[11..43].fill(0);
        let digest = hmac(&session.secret.key, &[&blank]);
        assert_eq!(digest[..28], session.hello.random()[..28], "{}", session.name);
    }
}

#[test]
fn captured_answers_pass_our_checks() {
    for session in sessions() {
        answer::check(&session.answer, &session.hello, &session.secret);
    }
}

#[test]
fn captured_streams_decrypt_on_both_legs() {
    for session in sessions() {
        let sealed = payloads(&session.up);
        let header = sealed[..64].try_into().expect("a frame");
        let mut at_proxy = obfuscated2::read(header, Some(&session.secret.key));
        assert_eq!((at_proxy.tag, at_proxy.dc), (obfuscated2::DD, session.dc));
        assert!(
            at_proxy.to_receiver.transform(&sealed[64..]) == session.plain_up,
            "{}",
            session.name
        );
        let down = payloads(&session.down);
        assert!(at_proxy.to_sender.transform(&down) == session.plain_down, "{}", session.name);

        let header = session.up_at_dc[..64].try_into().expect("a frame");
        let mut at_dc = obfuscated2::read(header, None);
        assert!(at_dc.to_receiver.transform(&session.up_at_dc[64..]) == session.plain_up);
    }
}

#[test]
fn our_hellos_have_the_sizes_of_the_apps() {
    let secret = Secret::new("proxy.example.org");
    assert_eq!(Hello::new(&secret, App::Classic).wire.len(), 517);
    let modern = Hello::new(&secret, App::PostQuantum).wire.len();
    assert!((1500..2048).contains(&modern), "{modern}");
}

#[test]
fn genuine_ml_kem_ciphertexts_score_above_random_bytes() {
    let random: f64 = (0..20).map(|_| mlkem_score(&random::<1088>())).sum();
    assert!(random < -30.0, "{random}");
    // Coefficients as ML-KEM-768 compresses them: all residues in turn.
    let symbols = (0..768u64).map(|index| (((index * 13 % 3329) << 11) + 3329) / 6658 % 1024);
    let symbols: Vec<u64> = symbols.collect();
    let pack = |four: &[u64]| four.iter().rev().fold(0u64, |word, symbol| word << 10 | symbol);
    let packed: Vec<u8> =
        symbols.chunks(4).flat_map(|four| pack(four).to_le_bytes()[..5].to_vec()).collect();
    assert!(mlkem_score(&packed) > 0.0);
}

#[test]
fn our_front_serves_our_browser() {
    let site = TlsFront::listen(&[HOST]);
    assert_eq!(site.page_through(site.addr, HOST), PAGE);
}

#[test]
fn our_black_hole_answers_no_connect() {
    let hole = BlackHole::open();
    assert!(TcpStream::connect_timeout(&hole.addr, Duration::from_millis(300)).is_err());
}

#[test]
fn a_reset_is_distinguished_from_a_fin() {
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a port");
    let addr = listener.local_addr().expect("an address");
    for end in [End::Fin, End::Reset] {
        let mut near = Peer::connect("near end", addr);
        let far = Peer::new("far end", listener.accept().expect("the near end").0);
        match end {
            End::Fin => far.send_fin(),
            End::Reset => far.reset(),
        }
        assert_eq!(near.recv_rest(), (Vec::new(), end));
    }
}

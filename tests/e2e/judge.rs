//! The judge judged: client, DC and captures must agree with each other without the product.

use crate::support::answer;
use crate::support::captured::{payloads, sessions};
use crate::support::client::{CCS, Client, record};
use crate::support::crypto::hmac;
use crate::support::dc::Dc;
use crate::support::hello::{Hello, Secret, Shape};
use crate::support::obfuscated2;
use crate::support::peer::End;
use crate::support::{pattern, reference};

#[test]
fn our_client_and_our_dc_understand_each_other_through_the_reference() {
    let secret = Secret::new("proxy.example.org");
    let dc = Dc::listen();
    let mut client = Client::open(reference::serve_once(&secret, dc.addr), &secret);
    let mut session = dc.accept();
    assert_eq!((session.tag, session.dc), (obfuscated2::DD, 2));

    let (question, reply) = (pattern(1, 100_000), pattern(2, 300_000));
    client.up.send(&question);
    client.up.raw(&CCS);
    client.up.raw(&record(0x17, &[]));
    assert!(session.from.recv(question.len()) == question);
    session.to.send(&reply);
    assert!(client.down.recv(reply.len()) == reply);
    client.up.finish();
    assert_eq!(session.from.recv_rest(), (Vec::new(), End::Fin));
    session.to.finish();
    assert_eq!(client.down.recv_rest(), (Vec::new(), End::Fin));
}

#[test]
fn captured_hellos_prove_their_secrets_to_our_rules() {
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
        let header = sealed[..64].try_into().expect("a header");
        let mut at_proxy = obfuscated2::read(header, Some(&session.secret.key));
        assert_eq!((at_proxy.tag, at_proxy.dc), (obfuscated2::DD, session.dc));
        assert!(at_proxy.forth.turn(&sealed[64..]) == session.plain_up, "{}", session.name);
        let down = payloads(&session.down);
        assert!(at_proxy.back.turn(&down) == session.plain_down, "{}", session.name);

        let header = session.up_at_dc[..64].try_into().expect("a header");
        let mut at_dc = obfuscated2::read(header, None);
        assert!(at_dc.forth.turn(&session.up_at_dc[64..]) == session.plain_up);
    }
}

#[test]
fn our_hellos_have_the_sizes_of_the_apps() {
    let secret = Secret::new("proxy.example.org");
    assert_eq!(Hello::fresh(&secret, Shape::Classic).wire.len(), 517);
    let modern = Hello::fresh(&secret, Shape::PostQuantum).wire.len();
    assert!((1500..2048).contains(&modern), "{modern}");
}

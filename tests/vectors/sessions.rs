//! Complete sessions of unmodified clients, recorded on loopback: `real-client-hellos.json`.

use mtbox::proto::client_hello::{
    Assembly, HelloKey, X25519, X25519MLKEM768, assemble, check_clock, parse,
};
use mtbox::proto::obfuscated2::{ClientFrame, Tag, decrypt_client_frame};
use mtbox::proto::secret::Secret;
use mtbox::proto::server_hello::{ExtensionOrder, KeyShare, ServerHelloSpec, seal};
use serde_json::Value;

use super::read::{bytes, code, list, number, text};
use super::streams::deframed;

#[test]
fn every_recorded_hello_is_accepted_and_its_answer_reproduced() {
    for session in list("real-client-hellos.json", "sessions") {
        let secret = Secret::parse(text(&session, "secret")).unwrap();
        let wire = bytes(&session, "hello");
        let Assembly::Complete { hello, consumed } = assemble(&wire) else { panic!("incomplete") };
        assert_eq!((&hello, consumed), (&wire, wire.len()));
        let parsed = parse(&hello).unwrap();
        assert_eq!(parsed.server_names().collect::<Vec<_>>(), [secret.host()]);
        assert_eq!(secret.host(), text(&session, "host").as_bytes());
        assert_eq!(parsed.session_id(), bytes(&session, "session_id"));
        assert_eq!(parsed.preferred_suite(), Some(code(&session, "cipher_first_non_grease")));
        check_groups(&session, |group| parsed.offers_group(group));

        let key = HelloKey::new(secret.key());
        let stamp = key.verify(&hello, parsed.random()).unwrap();
        assert_eq!(check_clock(stamp.unix_s, number(&session, "timestamp") as u64, 0), Ok(()));
        check_answer(&session, &key, parsed.random());
    }
}

fn check_groups(session: &Value, offers: impl Fn(u16) -> bool) {
    let shares = session["key_shares"].as_array().unwrap();
    for (group, digits) in [(X25519, "001d"), (X25519MLKEM768, "11ec")] {
        assert_eq!(offers(group), shares.iter().any(|share| share[0] == digits));
    }
}

/// Parses the recorded answer and seals its parts again: the bytes and the digest must be equal.
fn check_answer(session: &Value, key: &HelloKey, client_random: &[u8; 32]) {
    let recorded = bytes(session, "answer");
    let hello_len = usize::from(u16::from_be_bytes([recorded[3], recorded[4]]));
    let (server_hello, flight) = recorded[5..].split_at(hello_len);
    let (head, extensions) = server_hello.split_at(4 + 2 + 32 + 1 + 32 + 2 + 1 + 2);
    let versions_first = extensions.starts_with(&[0x00, 0x2b]);
    let share = if versions_first { &extensions[6 + 8..] } else { &extensions[8..] };
    let share = match hello_len {
        122 => KeyShare::X25519(share.first_chunk().unwrap()),
        _ => KeyShare::MlKem(share.first_chunk().unwrap()),
    };
    let answer = ServerHelloSpec {
        session_id: &head[39..71],
        cipher: u16::from_be_bytes([head[71], head[72]]),
        share,
        noise: &flight[6 + 5..],
        order: if versions_first {
            ExtensionOrder::VersionsFirst
        } else {
            ExtensionOrder::ShareFirst
        },
    };
    let mut out = Vec::new();
    seal(&mut out, key, client_random, &answer);
    assert_eq!(out, recorded);
}

#[test]
fn every_recorded_stream_decrypts_to_its_plaintext() {
    let mut reused = 0;
    for session in list("real-client-hellos.json", "sessions") {
        let plain = &session["obfuscated2"];
        let mut up = deframed(&bytes(&session, "client_to_proxy_after_answer")).unwrap();
        let (frame, up) = up.split_first_chunk_mut::<64>().unwrap();
        let mut client = client_frame(&session, frame);
        assert_eq!(i64::from(client.dc), number(plain, "dc"));
        assert_eq!(client.tag, Tag::PaddedIntermediate);
        client.up.apply(up);
        assert_eq!(up, bytes(plain, "plain_up"));

        // The proxy wrote only data records, so the parser for client records works here too.
        let mut down = deframed(&bytes(&session, "proxy_to_client_after_answer")).unwrap();
        if session["key_reuse"] == true {
            reused += 1;
            assert_eq!(down, bytes(&session, "dc_to_proxy"));
            let iv: Vec<u8> = frame[8..24].to_vec();
            assert_eq!(bytes(&session, "proxy_to_dc")[8..24], iv);
        }
        client.down().apply(&mut down);
        assert_eq!(down, bytes(plain, "plain_down"));
    }
    assert!(reused > 0);
}

fn client_frame(session: &Value, frame: &[u8; 64]) -> ClientFrame {
    let secret = Secret::parse(text(session, "secret")).unwrap();
    assert_eq!(text(&session["obfuscated2"], "tag"), "dddddddd");
    decrypt_client_frame(frame, secret.key()).ok().unwrap()
}

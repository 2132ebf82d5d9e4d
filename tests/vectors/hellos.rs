//! ClientHello and ServerHello: `client_hello.json`, `server_hello.json`.

use std::collections::HashSet;

use mtbox::proto::client_hello::{
    Assembly, HelloKey, HelloStamp, Reject, X25519, X25519MLKEM768, assemble, check_clock, parse,
};
use mtbox::proto::secret::Secret;
use mtbox::proto::server_hello::{ExtensionOrder, KeyShare, ServerHelloSpec, seal};
use serde_json::Value;

use super::read::{array, bytes, code, list, name, number, text};

/// An accepted hello.
struct Accepted {
    secret: usize,
    sni: Vec<u8>,
    stamp: HelloStamp,
    hello: Vec<u8>,
    consumed: usize,
}

/// A rejected hello: the reason, and the secret whose front gets it.
struct Fronted {
    why: Reject,
    host: usize,
}

/// Authenticates the hello of a case; `None` = more bytes are needed.
fn check(case: &Value, seen_before: &mut HashSet<[u8; 28]>) -> Option<Result<Accepted, Fronted>> {
    let texts = case["secrets"].as_array().expect("secrets");
    let secrets: Vec<Secret> =
        texts.iter().map(|text| Secret::parse(text.as_str().unwrap()).unwrap()).collect();
    let first = |why| Some(Err(Fronted { why, host: 0 }));

    let (hello, consumed) = match assemble(&bytes(case, "wire")) {
        Assembly::Complete { hello, consumed } => (hello, consumed),
        Assembly::Rejected(why) => return first(why),
        Assembly::Incomplete if case["eof"] == true => return first(Reject::Truncated),
        Assembly::Incomplete => return None,
    };
    let parsed = match parse(&hello) {
        Ok(parsed) => parsed,
        Err(why) => return first(why),
    };
    let Some(sni) = parsed.server_names().next().map(<[u8]>::to_vec) else {
        return first(Reject::NoSni);
    };
    let Some(host) = secrets.iter().position(|secret| secret.host() == sni) else {
        return first(Reject::ForeignSni);
    };
    let front = |why| Some(Err(Fronted { why, host }));
    if parsed.preferred_suite().is_none() {
        return front(Reject::NoCipher);
    }
    let verify = |secret: &Secret| HelloKey::new(secret.key()).verify(&hello, parsed.random());
    let stamps: Vec<Option<HelloStamp>> = secrets.iter().map(verify).collect();
    let Some(secret) = stamps.iter().position(Option::is_some) else {
        return front(Reject::WrongKey);
    };
    let stamp = stamps[secret].unwrap();
    let (now, skew) = (number(case, "now") as u64, number(case, "skew_seconds") as u64);
    if let Err(off_s) = check_clock(stamp.unix_s, now, skew) {
        return front(Reject::ClockOff { off_s });
    }
    if !seen_before.insert(stamp.digest) {
        return front(Reject::Replay);
    }
    Some(Ok(Accepted { secret, sni, stamp, hello, consumed }))
}

#[test]
fn every_hello_gets_its_verdict() {
    let mut sequence = HashSet::new();
    for case in list("client_hello.json", "cases") {
        let mut separate = HashSet::new();
        let store = if case["sequence"].is_null() { &mut separate } else { &mut sequence };
        let expect = &case["expect"];
        match (text(expect, "result"), check(&case, store)) {
            ("wait", None) => {}
            ("accept", Some(Ok(accepted))) => check_accepted(&case, &accepted),
            ("front", Some(Err(fronted))) => check_fronted(&case, &fronted),
            (want, got) => {
                let got = got.map(|verdict| verdict.map(|_| "accept").map_err(|f| f.why));
                panic!("{}: want {want}, got {got:?}", name(&case));
            }
        }
    }
}

fn check_accepted(case: &Value, accepted: &Accepted) {
    let (expect, name) = (&case["expect"], name(case));
    let hello = parse(&accepted.hello).unwrap();
    assert_eq!(accepted.secret as i64, number(expect, "secret_index"), "{name}");
    assert_eq!(accepted.sni, text(expect, "sni").as_bytes(), "{name}");
    assert_eq!(i64::from(accepted.stamp.unix_s), number(expect, "timestamp"), "{name}");
    assert_eq!(accepted.consumed as i64, number(expect, "consumed"), "{name}");
    assert_eq!(hello.random(), &array(expect, "random"), "{name}");
    assert_eq!(hello.session_id(), bytes(expect, "session_id"), "{name}");
    assert_eq!(hello.preferred_suite(), Some(code(expect, "cipher")), "{name}");
    let groups = expect["client_key_shares"].as_array().unwrap();
    for (group, digits) in [(X25519, "001d"), (X25519MLKEM768, "11ec")] {
        let offered = groups.iter().any(|known| known == digits);
        assert_eq!(hello.offers_group(group), offered, "{name}: {digits}");
    }
}

fn check_fronted(case: &Value, fronted: &Fronted) {
    let (expect, name) = (&case["expect"], name(case));
    assert_eq!(fronted.host as i64, number(expect, "front_host_index"), "{name}");
    let why = fronted.why;
    let is_expected = match text(expect, "reason") {
        "too many fragments" => why == Reject::TooManyRecords,
        "record version" => why == Reject::Version,
        "record type" => why == Reject::NotTls,
        "handshake type" => why == Reject::NotHello,
        "digest" => why == Reject::WrongKey,
        "timestamp" => matches!(why, Reject::ClockOff { .. }),
        "sni" => matches!(why, Reject::NoSni | Reject::ForeignSni),
        "cipher" => why == Reject::NoCipher,
        // A length that is too short is detected before the peer closes.
        "truncated" => matches!(why, Reject::Truncated | Reject::Malformed),
        "oversized" => matches!(why, Reject::RecordTooLong | Reject::HelloTooLong),
        "replay" => why == Reject::Replay,
        "any" => true,
        other => panic!("{name}: unknown reason {other}"),
    };
    assert!(is_expected, "{name}: {why:?}");
}

#[test]
fn answers_are_equal_byte_for_byte() {
    for case in list("server_hello.json", "answers") {
        let share = bytes(&case, "key_share");
        let share = match code(&case, "group") {
            X25519 => KeyShare::X25519(share.as_slice().try_into().unwrap()),
            _ => KeyShare::MlKem(share.as_slice().try_into().unwrap()),
        };
        let order = match text(&case, "extension_order") {
            "versions-first" => ExtensionOrder::VersionsFirst,
            _ => ExtensionOrder::ShareFirst,
        };
        let (session_id, noise) = (bytes(&case, "session_id"), bytes(&case, "noise"));
        let cipher = code(&case, "cipher");
        let answer =
            ServerHelloSpec { session_id: &session_id, cipher, share, noise: &noise, order };
        let mut out = Vec::new();
        let key = HelloKey::new(&array(&case, "key"));
        seal(&mut out, &key, &array(&case, "client_random"), &answer);
        assert_eq!(out, bytes(&case, "answer"), "{}", name(&case));
        assert_eq!(out[11..43], bytes(&case, "digest"), "{}", name(&case));
    }
}

#[test]
fn a_client_distinguishes_valid_from_invalid_answers() {
    for case in list("server_hello.json", "verify") {
        let valid = answer_is_signed(
            &array(&case, "key"),
            &array(&case, "client_random"),
            &bytes(&case, "answer"),
        );
        assert_eq!(valid, case["valid"] == true, "{}", name(&case));
    }
}

/// Verifies the digest of an answer as clients do.
fn answer_is_signed(key: &[u8; 16], client_random: &[u8; 32], answer: &[u8]) -> bool {
    use hmac::{Hmac, KeyInit, Mac};
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(key).unwrap();
    for part in [client_random, &answer[..11], &[0; 32], &answer[43..]] {
        mac.update(part);
    }
    mac.verify_slice(&answer[11..43]).is_ok()
}

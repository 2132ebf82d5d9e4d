//! obfuscated2 and records: `obfuscated2.json`, `fast_path.json`, `records.json`.

use keystream::Keystream;
use mtbox::proto::obfuscated2::{
    FrameFault, Tag, build_dc_frame, decrypt_client_frame, is_allowed_prefix,
};
use mtbox::proto::tls::{Deframer, RecordFault};
use serde_json::Value;

use super::read::{array, bytes, list, name, number, text};

fn tag(case: &Value) -> Tag {
    match text(case, "tag") {
        "padded-intermediate" => Tag::PaddedIntermediate,
        "intermediate" => Tag::Intermediate,
        "abridged" => Tag::Abridged,
        other => panic!("{}: unknown tag {other}", name(case)),
    }
}

/// A random source with the given draws, which must be requested in this order and length.
fn draws(draws: Vec<Vec<u8>>) -> impl FnMut(&mut [u8]) {
    let mut draws = draws.into_iter();
    move |bytes| bytes.copy_from_slice(&draws.next().expect("another draw"))
}

/// Applies a cipher to consecutive chunks; each `from` must become its `to`.
fn run(cipher: &mut Keystream, case: &Value, chunks: &str, from: &str, to: &str) {
    for chunk in case[chunks].as_array().unwrap() {
        let mut bytes = bytes(chunk, from);
        cipher.apply(&mut bytes);
        assert_eq!(bytes, self::bytes(chunk, to), "{}: {chunks}", name(case));
    }
}

#[test]
fn handshakes_are_decrypted_and_both_streams_continue() {
    let (mut decrypted, mut built) = (0, 0);
    for case in list("obfuscated2.json", "handshakes") {
        let dc = i16::try_from(number(&case, "dc_raw")).unwrap();
        if case["secret_key"].is_null() {
            built += 1;
            let plain = bytes(&case, "plain_frame");
            let parts = [&plain[..8], &plain[8..56], &plain[62..]].map(<[u8]>::to_vec);
            let mut frame = build_dc_frame(tag(&case), dc, None, &mut draws(parts.to_vec()));
            assert_eq!(frame.wire, array(&case, "wire_frame"), "{}", name(&case));
            assert_eq!(frame.down_key, array(&case, "sender_in_key"), "{}", name(&case));
            assert_eq!(frame.down_iv, array(&case, "sender_in_iv"), "{}", name(&case));
            run(&mut frame.up, &case, "up", "plain", "cipher");
            run(&mut frame.down(), &case, "down", "cipher", "plain");
        } else {
            decrypted += 1;
            let (wire, key) = (array(&case, "wire_frame"), array(&case, "secret_key"));
            let mut frame = decrypt_client_frame(&wire, &key).ok().unwrap();
            assert_eq!((frame.dc, frame.tag), (dc, tag(&case)), "{}", name(&case));
            assert_eq!(frame.down_key, array(&case, "sender_in_key"), "{}", name(&case));
            assert_eq!(frame.down_iv, array(&case, "sender_in_iv"), "{}", name(&case));
            run(&mut frame.up, &case, "up", "cipher", "plain");
            run(&mut frame.down(), &case, "down", "plain", "cipher");
        }
    }
    assert!(decrypted > 0 && built > 0);
}

#[test]
fn forbidden_prefixes_are_known() {
    for case in list("obfuscated2.json", "nonce_rules") {
        let allowed = is_allowed_prefix(&array(&case, "first8"));
        assert_eq!(allowed, case["allowed_towards_dc"] == true, "{}", name(&case));
    }
}

#[test]
fn foreign_frames_are_refused() {
    for case in list("obfuscated2.json", "refused_from_client") {
        // A frame made without a secret matches none, so any key can be used.
        let key = if case["secret_key"].is_null() { [7; 16] } else { array(&case, "secret_key") };
        let refused = decrypt_client_frame(&array(&case, "wire_frame"), &key).err();
        assert_eq!(refused, Some(FrameFault::NotOurs), "{}", name(&case));
    }
}

#[test]
fn matched_keys_make_download_bytes_equal() {
    for case in list("fast_path.json", "cases") {
        let (wire, key) = (array(&case, "client_wire_frame"), array(&case, "secret_key"));
        let mut client = decrypt_client_frame(&wire, &key).ok().unwrap();
        assert_eq!(client.down_key, array(&case, "proxy_to_client_key"), "{}", name(&case));
        assert_eq!(client.down_iv, array(&case, "proxy_to_client_iv"), "{}", name(&case));

        let matched = Some((&client.down_key, &client.down_iv));
        let id = i16::try_from(number(&case, "dc_id_sent")).unwrap();
        let parts = vec![bytes(&case, "dc_frame_first8"), bytes(&case, "dc_frame_last2")];
        let mut dc = build_dc_frame(client.tag, id, matched, &mut draws(parts));
        assert_eq!(dc.wire[8..56], bytes(&case, "dc_frame_bytes_8_56"), "{}", name(&case));
        assert_eq!(dc.wire, array(&case, "dc_wire_frame"), "{}", name(&case));

        let plain = bytes(&case, "down_plain");
        let (mut from_dc, mut to_client) = (plain.clone(), plain);
        dc.down().apply(&mut from_dc);
        client.down().apply(&mut to_client);
        assert_eq!(from_dc, bytes(&case, "down_cipher_from_dc"), "{}", name(&case));
        assert_eq!(to_client, bytes(&case, "down_cipher_to_client"), "{}", name(&case));
        assert_eq!(from_dc, to_client, "{}", name(&case));

        let mut up = bytes(&case, "up_cipher_from_client");
        client.up.apply(&mut up);
        assert_eq!(up, bytes(&case, "up_plain"), "{}", name(&case));
        dc.up.apply(&mut up);
        assert_eq!(up, bytes(&case, "up_cipher_to_dc"), "{}", name(&case));
    }
}

/// The payload in a client's records.
pub fn deframed(wire: &[u8]) -> Result<Vec<u8>, RecordFault> {
    let mut bytes = wire.to_vec();
    let kept = Deframer::new().deframe(&mut bytes)?;
    bytes.truncate(kept);
    Ok(bytes)
}

#[test]
fn records_are_deframed_and_invalid_ones_are_refused() {
    for case in list("records.json", "accept") {
        if name(&case) == "empty data record" {
            // No client sends one, and no TLS server accepts it (PROTOCOL 15.13).
            assert_eq!(deframed(&bytes(&case, "wire")), Err(RecordFault::Length));
            continue;
        }
        let payload = deframed(&bytes(&case, "wire"));
        assert_eq!(payload, Ok(bytes(&case, "payload")), "{}", name(&case));
    }
    for case in list("records.json", "reject") {
        assert_eq!(deframed(&bytes(&case, "wire")), Err(RecordFault::Version), "{}", name(&case));
    }
    // Implementations differ in these cases; mtbox ends the session.
    let faults = list("records.json", "policy").into_iter();
    let faults: Vec<_> = faults.map(|case| deframed(&bytes(&case, "wire"))).collect();
    assert_eq!(faults, [Err(RecordFault::Alert), Err(RecordFault::Type(0x16))]);
}

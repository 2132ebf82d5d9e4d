//! Properties of the wire formats: results do not depend on how bytes are split, and no input makes
//! a parser panic.

mod props {
    mod proxy_header;
}

use mtbox::proto::client_hello::{Assembly, HelloKey, Reject, assemble, parse};
use mtbox::proto::doh::Responses;
use mtbox::proto::obfuscated2::{Tag, build_dc_frame, decrypt_client_frame};
use mtbox::proto::secret::{Secret, tg_link};
use mtbox::proto::server_hello::{ExtensionOrder, KeyShare, ServerHelloSpec, seal};
use mtbox::proto::tls::{
    APPLICATION_DATA, CHANGE_CIPHER_SPEC, Deframer, HEADER_LEN, RecordFault, header,
};
use mtbox::proto::{dc, dns};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

/// The hellos of all recorded clients.
fn recorded_hellos() -> Vec<Vec<u8>> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/real-client-hellos.json");
    let text = std::fs::read_to_string(path).expect("the recorded sessions");
    let file: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let sessions = file["sessions"].as_array().expect("sessions");
    sessions.iter().map(|session| unhex(session["hello"].as_str().expect("hello"))).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).expect("a hex digit") as u8;
    text.as_bytes().as_chunks().0.iter().map(|[a, b]| digit(*a) << 4 | digit(*b)).collect()
}

/// Splits a hello of one record into records that end at the given positions.
fn cut_into_records(hello: &[u8], cuts: &[Index]) -> Vec<u8> {
    let message = &hello[HEADER_LEN..];
    let mut ends: Vec<usize> = cuts.iter().map(|cut| cut.index(message.len() + 1)).collect();
    ends.sort_unstable();
    ends.push(message.len());
    let mut wire = Vec::new();
    let mut start = 0;
    for (index, end) in ends.iter().enumerate() {
        if start == message.len() && index > 0 {
            break; // An empty record after the hello would belong to the next stage.
        }
        wire.extend([0x16, 3, 1]);
        wire.extend(((end - start) as u16).to_be_bytes());
        wire.extend(&message[start..*end]);
        start = *end;
    }
    wire
}

/// Deframes the wire in pieces of the given lengths; the last length is repeated.
fn deframed(wire: &[u8], runs: &[usize]) -> Result<Vec<u8>, RecordFault> {
    let mut deframer = Deframer::new();
    let (mut payload, mut rest) = (Vec::new(), wire.to_vec());
    let mut runs = runs.iter().copied();
    let mut last = 1;
    while !rest.is_empty() {
        last = runs.next().unwrap_or(last);
        let after = rest.split_off(last.min(rest.len()));
        let kept = deframer.deframe(&mut rest)?;
        payload.extend(&rest[..kept]);
        rest = after;
    }
    Ok(payload)
}

/// Records of a client: type (true = application data) and payload, of at least one byte.
fn records() -> impl Strategy<Value = Vec<(bool, Vec<u8>)>> {
    let len = prop_oneof![4 => 1..40_usize, 1 => 1..5000_usize];
    let payload = len.prop_flat_map(|len| vec(any::<u8>(), len));
    vec((prop::bool::weighted(0.8), payload), 0..12)
}

/// Changes some bytes, then in some cases truncates the input.
fn mutated(valid: Vec<u8>) -> impl Strategy<Value = Vec<u8>> {
    let changes = vec((any::<Index>(), any::<u8>()), 0..6);
    let cut = prop::option::weighted(0.3, any::<Index>());
    (changes, cut).prop_map(move |(changes, cut)| {
        let mut bytes = valid.clone();
        for (place, byte) in changes {
            // The first 100 bytes have most of the lengths, so half of the changes are there.
            let reach = if byte & 1 == 0 { bytes.len().min(100) } else { bytes.len() };
            bytes[place.index(reach)] = byte;
        }
        bytes.truncate(cut.map_or(bytes.len(), |cut| cut.index(bytes.len())));
        bytes
    })
}

fn mutated_hello() -> impl Strategy<Value = Vec<u8>> {
    prop::sample::select(recorded_hellos()).prop_flat_map(mutated)
}

/// Calls all parsers of a hello.
fn read_hello(wire: &[u8]) {
    if let Assembly::Complete { hello, consumed } = assemble(wire) {
        assert!(consumed <= wire.len() && hello.len() <= consumed);
        if let Ok(parsed) = parse(&hello) {
            parsed.server_names().for_each(|name| assert!(name.len() < hello.len()));
            let _ =
                (parsed.preferred_suite(), parsed.offers_group(0x11ec), parsed.offers_group(0x1d));
            assert_eq!(HelloKey::new(&[1; 16]).verify(&hello, parsed.random()), None);
        }
    }
    let _ = parse(wire);
}

/// An answer with an alias and two addresses.
fn valid_dns_answer() -> Vec<u8> {
    let mut packet = Vec::new();
    dns::write_query(&mut packet, 7, "www.example.org", dns::RecordType::A).expect("a valid name");
    packet[2..4].copy_from_slice(&[0x81, 0x80]);
    packet[7] = 3;
    packet.extend(b"\xc0\x0c\0\x05\0\x01\0\0\0\x09\0\x04\x01a\xc0\x10");
    packet.extend(b"\xc0\x2d\0\x01\0\x01\0\0\0\x09\0\x04\xc0\0\x02\x01");
    packet.extend(b"\xc0\x2d\0\x01\0\x01\0\0\0\x08\0\x04\xc0\0\x02\x02");
    packet
}

#[test]
fn the_answer_to_mutate_is_valid() {
    let answer =
        dns::parse_answer(&valid_dns_answer(), 7, "www.example.org", dns::RecordType::A).unwrap();
    assert_eq!((answer.addrs.len(), answer.ttl_s), (2, 8));
}

#[test]
fn every_prefix_of_a_recorded_hello_is_incomplete() {
    for hello in recorded_hellos() {
        for end in 0..hello.len() {
            assert_eq!(assemble(&hello[..end]), Assembly::Incomplete);
        }
        let consumed = hello.len();
        assert_eq!(assemble(&hello), Assembly::Complete { hello, consumed });
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn records_are_deframed_equally_in_pieces_of_any_size(
        records in records(),
        runs in vec(1..700_usize, 1..40),
    ) {
        let (mut wire, mut payload) = (Vec::new(), Vec::new());
        for (is_data, content) in records {
            let kind = if is_data { APPLICATION_DATA } else { CHANGE_CIPHER_SPEC };
            let content = if is_data { content } else { vec![1] };
            wire.extend(header(kind, content.len() as u16));
            wire.extend(&content);
            if is_data {
                payload.extend(content);
            }
        }
        let whole = deframed(&wire, &[wire.len().max(1)]);
        prop_assert_eq!(whole.as_ref(), Ok(&payload));
        prop_assert_eq!(deframed(&wire, &runs), whole);
    }

    #[test]
    fn a_fault_is_found_in_pieces_of_any_size(
        wire in vec(prop_oneof![Just(0x17_u8), Just(0x03), Just(0), any::<u8>()], 0..200),
        runs in vec(1..20_usize, 1..40),
    ) {
        prop_assert_eq!(deframed(&wire, &runs), deframed(&wire, &[wire.len().max(1)]));
    }

    #[test]
    fn a_fragmented_hello_is_incomplete_at_every_prefix_and_then_equal(
        hello in prop::sample::select(recorded_hellos()),
        cuts in vec(any::<Index>(), 0..=10),
        trailing in vec(any::<u8>(), 0..20),
    ) {
        let mut wire = cut_into_records(&hello, &cuts);
        let consumed = wire.len();
        for end in 0..consumed {
            prop_assert_eq!(assemble(&wire[..end]), Assembly::Incomplete);
        }
        wire.extend(trailing);
        prop_assert_eq!(assemble(&wire), Assembly::Complete { hello, consumed });
    }

    #[test]
    fn a_verdict_on_a_hello_never_changes_with_more_bytes(wire in mutated_hello()) {
        let mut before = Assembly::Incomplete;
        for end in 0..=wire.len() {
            let now = assemble(&wire[..end]);
            prop_assert!(before == Assembly::Incomplete || now == before, "at {}", end);
            prop_assert!(now != Assembly::Rejected(Reject::Truncated));
            before = now;
        }
    }

    #[test]
    fn no_mutated_hello_makes_the_parser_panic(wire in mutated_hello()) {
        read_hello(&wire);
    }

    #[test]
    fn no_bytes_make_a_parser_panic(
        bytes in vec(any::<u8>(), 0..300),
        frame in prop::array::uniform32(any::<u8>()),
        text in any::<String>(),
        raw in any::<i16>(),
    ) {
        read_hello(&bytes);
        let as_record = [&header(0x16, bytes.len() as u16)[..], &bytes].concat();
        read_hello(&[&[0x16, 3, 1], &as_record[3..]].concat());
        let _ = deframed(&bytes, &[7]);
        let mut long = [0; 64];
        long[..32].copy_from_slice(&frame);
        let _ = decrypt_client_frame(&long, &[1; 16]);
        for kind in [dns::RecordType::A, dns::RecordType::Aaaa] {
            let _ = dns::parse_answer(&bytes, 7, "www.example.org", kind);
            let _ = dns::parse_answer(&bytes, 7, &text, kind);
            let _ = dns::write_query(&mut Vec::new(), 7, &text, kind);
        }
        let mut stream = bytes.clone();
        while dns::pop_frame(&mut stream).is_some() {}
        let _ = Secret::parse(&text);
        let _ = tg_link(&text, 443, &text);
        let _ = dc::builtin(dc::DcId::decode(raw).number);
    }

    #[test]
    fn no_mutated_dns_answer_makes_the_parser_panic(packet in mutated(valid_dns_answer())) {
        if let Ok(answer) = dns::parse_answer(&packet, 7, "www.example.org", dns::RecordType::A) {
            prop_assert!((1..=16).contains(&answer.addrs.len()));
        }
    }

    #[test]
    fn a_dns_response_over_http_is_parsed_equally_in_pieces_of_any_size(
        status in prop_oneof![Just("200 OK"), Just("103 Hint"), Just("500 Oops"), Just("204 No")],
        fields in vec(prop_oneof![
            Just("Content-Type: application/dns-message"),
            Just("Content-Length: 20"),
            Just("Transfer-Encoding: chunked"),
            Just("Connection: close"),
        ], 0..4),
        body in vec(any::<u8>(), 0..60),
        chunked in any::<bool>(),
        runs in vec(1..40_usize, 1..20),
    ) {
        let mut wire = format!("HTTP/1.1 {status}\r\n").into_bytes();
        fields.iter().for_each(|field| wire.extend(format!("{field}\r\n").as_bytes()));
        wire.extend(b"\r\n");
        if chunked {
            let chunks = body.chunks(9).map(|chunk| {
                [format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat()
            });
            wire.extend(chunks.collect::<Vec<_>>().concat());
            wire.extend(b"0\r\n\r\n");
        } else {
            wire.extend(&body);
        }
        let read = |runs: &mut dyn Iterator<Item = usize>| {
            let (mut responses, mut inbox) = (Responses::default(), Vec::new());
            let (mut all, mut rest) = (Vec::new(), &wire[..]);
            while !rest.is_empty() {
                let (now, later) = rest.split_at(runs.next().unwrap_or(1).min(rest.len()));
                inbox.extend_from_slice(now);
                rest = later;
                while all.len() < 99 {
                    match responses.pop_reply(&mut inbox, rest.is_empty()) {
                        Ok(Some(response)) => all.push(Ok(response)),
                        Ok(None) => break,
                        Err(fault) => {
                            all.push(Err(fault));
                            return all;
                        }
                    }
                }
            }
            all
        };
        let whole = read(&mut std::iter::once(wire.len()));
        prop_assert_eq!(read(&mut runs.into_iter().cycle()), whole);
    }

    #[test]
    fn every_secret_is_restored_from_both_text_forms(
        key in any::<[u8; 16]>(),
        host in vec(any::<u8>(), 1..200),
    ) {
        let secret = Secret::new(key, &host).unwrap();
        let (hex, base64) = (secret.to_hex(), secret.to_base64());
        for text in [hex.to_uppercase(), hex, base64] {
            let parsed = Secret::parse(&text);
            prop_assert_eq!(parsed.as_ref(), Ok(&secret), "{}", text);
        }
    }

    #[test]
    fn a_built_frame_avoids_the_forbidden_prefixes(seed in any::<u64>(), dc in any::<i16>()) {
        let mut rng = fastrand::Rng::with_seed(seed);
        let frame = build_dc_frame(Tag::PaddedIntermediate, dc, None, &mut |bytes| rng.fill(bytes));
        let first = frame.wire.first_chunk().unwrap();
        prop_assert!(mtbox::proto::obfuscated2::is_allowed_prefix(first));
    }

    #[test]
    fn an_answer_always_has_its_three_records(
        session_id in vec(any::<u8>(), 0..80),
        noise in vec(any::<u8>(), 1..12_000),
        first in any::<bool>(),
    ) {
        let order =
            if first { ExtensionOrder::VersionsFirst } else { ExtensionOrder::ShareFirst };
        let share = KeyShare::X25519(&[9; 32]);
        let (session_id, noise) = (&session_id[..], &noise[..]);
        let answer = ServerHelloSpec { session_id, cipher: 0x1301, share, noise, order };
        let mut out = Vec::new();
        seal(&mut out, &HelloKey::new(&[1; 16]), &[2; 32], &answer);
        let mut rest = &out[..];
        for kind in [0x16, 0x14, 0x17] {
            let (head, after) = rest.split_first_chunk::<HEADER_LEN>().unwrap();
            prop_assert_eq!(&head[..3], &[kind, 3, 3]);
            let len = usize::from(u16::from_be_bytes([head[3], head[4]]));
            prop_assert!((1..=10_240).contains(&len));
            rest = &after[len..];
        }
        prop_assert!(rest.is_empty());
    }
}

//! The ClientHello parser with hand-made hellos: fragments, lengths, names, digests.

use super::*;

/// Prefixes `content` with its length in two bytes.
fn block16(content: &[u8]) -> Vec<u8> {
    [&(content.len() as u16).to_be_bytes(), content].concat()
}

fn extension(kind: u16, content: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes(), block16(content).as_slice()].concat()
}

fn sni(entries: &[(u8, &[u8])]) -> Vec<u8> {
    let entries: Vec<u8> = entries
        .iter()
        .flat_map(|(kind, name)| [&[*kind], block16(name).as_slice()].concat())
        .collect();
    extension(SERVER_NAME, &block16(&entries))
}

fn shares(entries: &[(u16, usize)]) -> Vec<u8> {
    let entries: Vec<u8> =
        entries.iter().flat_map(|(group, len)| extension(*group, &vec![0; *len])).collect();
    extension(KEY_SHARE, &block16(&entries))
}

/// A hello of one record, with random bytes of 0xab and no session id.
fn hello(ciphers: &[u8], extensions: Option<&[u8]>) -> Vec<u8> {
    let mut body = [&[3, 3][..], &[0xab; 32], &[0], &block16(ciphers), &[1, 0]].concat();
    if let Some(extensions) = extensions {
        body.extend(block16(extensions));
    }
    in_one_record(&body)
}

fn in_one_record(body: &[u8]) -> Vec<u8> {
    let message = [&[1, 0][..], &block16(body)].concat();
    [&[0x16, 3, 1][..], &block16(&message)].concat()
}

#[test]
fn fields_are_found_at_any_position() {
    let extensions = [
        extension(0x1a1a, b""),
        shares(&[(0x2a2a, 1), (X25519MLKEM768, 1216), (X25519, 32)]),
        sni(&[(7, b"other kind"), (0, b"a.example"), (0, b"b.example")]),
    ]
    .concat();
    let ciphers = [0x1a, 0x1a, 0xc0, 0x2b, 0x13, 0x03, 0x13, 0x01, 0, 0, 0x13, 0x03, 0, 0];
    let hello = hello(&ciphers, Some(&extensions));
    let hello = parse(&hello).unwrap();
    assert_eq!(hello.random(), &[0xab; 32]);
    assert_eq!(hello.session_id(), b"");
    assert_eq!(hello.server_names().collect::<Vec<_>>(), [b"a.example", b"b.example"]);
    assert_eq!(hello.preferred_suite(), Some(0x1303));
    assert_eq!(hello.suites().collect::<Vec<_>>(), [0x1303, 0x1301], "each once");
    assert!(hello.offers_suite(0x1301) && !hello.offers_suite(0x1302));
    assert!(hello.offers_group(X25519) && hello.offers_group(X25519MLKEM768));
}

#[test]
fn a_key_share_of_the_wrong_length_is_ignored() {
    let wire = hello(&[0x13, 1], Some(&shares(&[(X25519MLKEM768, 1215), (X25519, 33)])));
    let hello = parse(&wire).unwrap();
    assert!(!hello.offers_group(X25519) && !hello.offers_group(X25519MLKEM768));
    assert!(!hello.offers_group(0x0017));
}

#[test]
fn a_hello_of_an_older_tls_parses_and_offers_nothing() {
    let wire = hello(&[0xc0, 0x2f], None);
    let hello = parse(&wire).unwrap();
    assert_eq!((hello.server_names().count(), hello.preferred_suite()), (0, None));
}

#[test]
fn inconsistent_lengths_are_malformed() {
    let bad = |extensions: &[u8]| parse(&hello(&[0x13, 1], Some(extensions))).map(|_| ());
    let malformed = Err(Reject::Malformed);
    assert_eq!(bad(&[0, 0, 0]), malformed);
    assert_eq!(bad(&extension(SERVER_NAME, b"")), malformed);
    assert_eq!(bad(&extension(SERVER_NAME, &[0, 0, 0])), malformed);
    assert_eq!(bad(&extension(SERVER_NAME, &block16(&[0, 0, 9, b'a']))), malformed);
    assert_eq!(bad(&[sni(&[(0, b"a.io")]), sni(&[(0, b"b.io")])].concat()), malformed);
    assert_eq!(bad(&[shares(&[]), shares(&[])].concat()), malformed);
    assert_eq!(bad(&extension(SERVER_NAME, &block16(b""))), Ok(()));

    assert_eq!(parse(&hello(&[0x13], None)).map(|_| ()), malformed);
    let mut trailing = hello(&[0x13, 1], Some(b""));
    trailing.push(0);
    assert_eq!(parse(&trailing).map(|_| ()), malformed);
    let long_id = in_one_record(&[&[3, 3][..], &[0; 32], &[33], &[0; 33], &[0, 0, 0]].concat());
    assert_eq!(parse(&long_id).map(|_| ()), malformed);
    assert_eq!(parse(b"").map(|_| ()), malformed);
    assert_eq!(parse(&in_one_record(&[3, 2, 0])).map(|_| ()), Err(Reject::Version));
}

#[test]
fn the_first_wrong_byte_rejects() {
    for (seen, suspicion) in [
        (&b"G"[..], Reject::NotTls),
        (b"\x16\x02", Reject::Version),
        (b"\x16\x03\x03", Reject::Version),
        (b"\x16\x03\x01\x41", Reject::RecordTooLong),
        (b"\x16\x03\x01\x40\x01", Reject::RecordTooLong),
        (b"\x16\x03\x01\x02\0\x02", Reject::NotHello),
        (b"\x16\x03\x01\x02\0\x01\x01", Reject::HelloTooLong),
        (b"\x16\x03\x01\x02\0\x01\0\x40", Reject::HelloTooLong),
        (b"\x16\x03\x01\x02\0\x01\0\x3f\xfd", Reject::HelloTooLong),
        (b"\x16\x03\x01\x02\0\x01\0\x01\xfb", Reject::Malformed),
        (b"\x16\x03\x01\0\x01\x01\x17", Reject::NotTls),
        (b"\x16\x03\x01\0\x01\x01\x16\x03\x01\0\x01\x01", Reject::HelloTooLong),
    ] {
        assert_eq!(assemble(seen), Assembly::Rejected(suspicion), "{seen:02x?}");
        let (_, before) = seen.split_last().unwrap();
        assert_eq!(assemble(before), Assembly::Incomplete, "{before:02x?}");
    }
}

#[test]
fn the_longest_hello_is_accepted_and_a_twelfth_record_is_not() {
    let body = vec![0; 16_380];
    let whole = in_one_record(&body);
    assert_eq!(whole.len(), tls::HEADER_LEN + tls::PLAIN_MAX);
    let Assembly::Complete { hello, consumed } = assemble(&whole) else { panic!("not whole") };
    assert_eq!((hello.len(), consumed), (whole.len(), whole.len()));

    let empty = b"\x16\x03\x01\0\0";
    let ten_empty = [&empty.repeat(10), whole.as_slice()].concat();
    let Assembly::Complete { hello, consumed } = assemble(&ten_empty) else { panic!("not whole") };
    assert_eq!((hello, consumed), (whole, ten_empty.len()));
    assert_eq!(assemble(&empty.repeat(11)), Assembly::Rejected(Reject::TooManyRecords));
}

#[test]
fn a_digest_matches_its_key_only() {
    let mut wire = hello(&[0x13, 1], Some(&sni(&[(0, b"a.example")])));
    wire[RANDOM_AT..RANDOM_AT + 32].fill(0);
    let key = HelloKey::new(&[7; 16]);
    let mut random = key.mac([&wire]);
    let stamp = HelloStamp { unix_s: 1_800_000_000, digest: *random.first_chunk().unwrap() };
    for (byte, clock) in random[28..].iter_mut().zip(stamp.unix_s.to_le_bytes()) {
        *byte ^= clock;
    }
    assert_eq!(key.verify(&wire, &random), Some(stamp));
    wire[RANDOM_AT..RANDOM_AT + 32].copy_from_slice(&random);
    assert_eq!(key.verify(&wire, &random), Some(stamp));
    assert_eq!(HelloKey::new(&[8; 16]).verify(&wire, &random), None);
    assert_eq!(key.verify(&wire[..42], &random), None);
    random[27] ^= 1;
    assert_eq!(key.verify(&wire, &random), None);
}

#[test]
fn the_clock_may_differ_by_the_tolerance_and_no_more() {
    assert_eq!(check_clock(1_000, 1_005, 5), Ok(()));
    assert_eq!(check_clock(1_005, 1_000, 5), Ok(()));
    assert_eq!(check_clock(1_000, 1_006, 5), Err(-6));
    assert_eq!(check_clock(1_006, 1_000, 5), Err(6));
    assert_eq!(check_clock(0, u64::MAX, 5), Err(i64::MIN));
    assert_eq!(check_clock(u32::MAX, 0, u64::MAX), Ok(()));
}

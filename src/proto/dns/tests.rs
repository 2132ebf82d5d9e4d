//! The DNS codec with hand-made messages: repeated questions, aliases, pointers, faults.

use super::*;

const NAME: &str = "a.example";
/// A pointer to the queried name, which is at the same offset in each answer.
const QUERIED: [u8; 2] = [0xc0, 12];

/// The result for an answer with these records to the query for `NAME` with id 7.
fn packet(flags: u16, kind: RecordType, records: &[Vec<u8>]) -> Vec<u8> {
    let mut out = Vec::new();
    write_query(&mut out, 7, NAME, kind).unwrap();
    out[2..4].copy_from_slice(&(0x8180 | flags).to_be_bytes());
    out[7] = records.len() as u8;
    out.extend(records.concat());
    out
}

fn record(owner: &[u8], kind: u16, ttl_s: u32, data: &[u8]) -> Vec<u8> {
    let (kind, len) = (kind.to_be_bytes(), (data.len() as u16).to_be_bytes());
    [owner, &kind, &[0, 1], &ttl_s.to_be_bytes(), &len, data].concat()
}

fn wire(name: &str) -> Vec<u8> {
    Name::from_text(name).unwrap().wire().to_vec()
}

fn answered(flags: u16, records: &[Vec<u8>]) -> Result<AddressAnswer, DnsFault> {
    parse_answer(&packet(flags, RecordType::A, records), 7, NAME, RecordType::A)
}

#[test]
fn a_question_is_written_as_rfc_1035_says() {
    let mut out = Vec::new();
    write_query(&mut out, 0x1234, "T.me.", RecordType::Aaaa).unwrap();
    assert_eq!(out, b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x01T\x02me\0\0\x1c\0\x01");
}

#[test]
fn names_that_no_packet_can_hold_are_refused() {
    let fault = |name: &str| write_query(&mut Vec::new(), 1, name, RecordType::A).err();
    let label = "a".repeat(63);
    let longest = format!("{label}.{label}.{label}.{}", "a".repeat(61));
    assert_eq!((longest.len(), fault(&longest)), (253, None));
    assert_eq!(fault(&format!("{longest}a")), Some(NameFault::TooLong));
    assert_eq!(fault(&format!("{label}a.example")), Some(NameFault::LabelTooLong));
    for name in ["", ".", "a..b", ".a", "a.."] {
        assert_eq!(fault(name), Some(NameFault::EmptyLabel), "{name}");
    }
    for name in ["a b", "ä.example", "a\0"] {
        assert_eq!(fault(name), Some(NameFault::NotPrintable), "{name}");
        assert!(!is_valid_name(name));
    }
}

#[test]
fn addresses_are_returned_in_order_and_once() {
    let records = [
        record(&QUERIED, 1, 300, &[192, 0, 2, 2]),
        record(&QUERIED, 1, 60, &[192, 0, 2, 1]),
        record(&QUERIED, 1, 90, &[192, 0, 2, 2]),
        record(&wire("b.example"), 1, 1, &[192, 0, 2, 9]),
        record(&QUERIED, 16, 1, b"\x04text"),
    ];
    let want =
        AddressAnswer { addrs: vec![[192, 0, 2, 2].into(), [192, 0, 2, 1].into()], ttl_s: 60 };
    assert_eq!(answered(0, &records), Ok(want));
}

#[test]
fn ipv6_addresses_are_taken_too() {
    let address = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    let packet = packet(0, RecordType::Aaaa, &[record(&QUERIED, 28, 5, &address)]);
    let answer = parse_answer(&packet, 7, NAME, RecordType::Aaaa).unwrap();
    assert_eq!(answer.addrs, [IpAddr::from(address)]);
}

#[test]
fn aliases_are_followed_in_any_order_and_the_least_ttl_counts() {
    let records = [
        record(&wire("C.example"), 1, 400, &[192, 0, 2, 3]),
        record(&wire("b.example"), 5, 20, &wire("c.EXAMPLE")),
        // A compressed name: "b", then a pointer to "example" in the question.
        record(&QUERIED, 5, 500, b"\x01b\xc0\x0e"),
    ];
    let want = AddressAnswer { addrs: vec![[192, 0, 2, 3].into()], ttl_s: 20 };
    assert_eq!(answered(0, &records), Ok(want));
}

#[test]
fn long_and_circular_aliases_end() {
    let circle = [record(&QUERIED, 5, 1, &QUERIED)];
    assert_eq!(answered(0, &circle), Err(DnsFault::TooManyAliases));
    let chain = |count: u32| {
        let name = |step: u32| if step == 0 { wire(NAME) } else { wire(&format!("n{step}.x")) };
        let mut records: Vec<_> =
            (0..count).map(|step| record(&name(step), 5, 9, &name(step + 1))).collect();
        records.push(record(&name(count), 1, 9, &[192, 0, 2, 1]));
        answered(0, &records)
    };
    assert!(chain(8).is_ok());
    assert_eq!(chain(9), Err(DnsFault::TooManyAliases));
}

#[test]
fn a_missing_name_and_a_missing_address_are_distinguished() {
    assert_eq!(answered(3, &[]), Err(DnsFault::NoSuchName));
    assert_eq!(answered(0, &[]), Err(DnsFault::NoData));
    let alias = record(&QUERIED, 5, 9, &wire("b.example"));
    assert_eq!(answered(0, &[alias]), Err(DnsFault::NoData));
    assert_eq!(answered(2, &[]), Err(DnsFault::Refused(2)));
    assert_eq!(answered(0x0200, &[]), Err(DnsFault::Truncated));
}

#[test]
fn only_an_answer_that_repeats_the_question_is_accepted() {
    let good = packet(0, RecordType::A, &[record(&QUERIED, 1, 9, &[192, 0, 2, 1])]);
    assert!(parse_answer(&good, 7, NAME, RecordType::A).is_ok());
    assert_eq!(parse_answer(&good, 8, NAME, RecordType::A), Err(DnsFault::Unrelated));
    assert_eq!(parse_answer(&good, 7, "b.example", RecordType::A), Err(DnsFault::Unrelated));
    assert_eq!(parse_answer(&good, 7, NAME, RecordType::Aaaa), Err(DnsFault::Unrelated));
    let mut query = good.clone();
    query[2] = 0x01;
    assert_eq!(parse_answer(&query, 7, NAME, RecordType::A), Err(DnsFault::Unrelated));
    // No question is repeated.
    let mut silent = packet(0, RecordType::A, &[record(&QUERIED, 1, 9, &[192, 0, 2, 1])]);
    (silent[5], silent[12]) = (0, 0xc0);
    assert_eq!(parse_answer(&silent, 7, NAME, RecordType::A), Err(DnsFault::Unrelated));
    // FORMERR with only a header is the one answer without a question.
    assert_eq!(
        parse_answer(b"\0\x07\x80\x01\0\0\0\0\0\0\0\0", 7, NAME, RecordType::A),
        Err(DnsFault::Refused(1))
    );
    // Too short for an id: an off-path forger can send that to any port.
    assert_eq!(parse_answer(&good[..11], 7, NAME, RecordType::A), Err(DnsFault::Unrelated));
}

#[test]
fn broken_records_are_malformed() {
    let address = [192, 0, 2, 1];
    for broken in [
        record(&QUERIED, 1, 9, &address[..3]),
        record(&QUERIED, 1, 9, &address)[..15].to_vec(),
        record(&[0x80, 0], 1, 9, &address),
        // The name at offset 27 points to itself, then forward.
        record(&[0xc0, 27], 1, 9, &address),
        record(&[0xc0, 40], 1, 9, &address),
        record(&QUERIED, 5, 9, b"\x01b"),
        record(&QUERIED, 5, 9, b"\x01b\xc0\x0e\0"),
    ] {
        let records = [broken];
        assert_eq!(answered(0, &records), Err(DnsFault::Malformed), "{records:02x?}");
    }
}

#[test]
fn names_of_many_pointers_or_many_bytes_end() {
    // Each pointer points to the one before it.
    let mut packet = b"\x01a\0".to_vec();
    for step in 0..200_u16 {
        let target = if step == 0 { 0 } else { 3 + 2 * (step - 1) };
        packet.extend((0xc000 | target).to_be_bytes());
    }
    assert_eq!(Name::read(&packet, 3).unwrap().1, 5);
    assert!(Name::read(&packet, packet.len() - 2).is_none());

    let label = [&[63][..], &[b'a'; 63]].concat();
    let packet = [label.repeat(4), vec![0]].concat();
    assert!(Name::read(&packet, 64).is_some());
    assert!(Name::read(&packet, 0).is_none());
}

#[test]
fn no_more_than_16_addresses_and_64_records_are_read() {
    let many: Vec<_> = (0..100).map(|n| record(&QUERIED, 1, 9, &[192, 0, 2, n])).collect();
    assert_eq!(answered(0, &many).unwrap().addrs.len(), 16);
    let mut late = vec![record(&wire("b.example"), 1, 9, &[192, 0, 2, 1]); 64];
    late.push(record(&QUERIED, 1, 9, &[192, 0, 2, 2]));
    assert_eq!(answered(0, &late), Err(DnsFault::NoData));
}

#[test]
fn a_ttl_with_the_highest_bit_counts_as_zero() {
    let records = [record(&QUERIED, 1, 0x8000_0000, &[192, 0, 2, 1])];
    assert_eq!(answered(0, &records).unwrap().ttl_s, 0);
}

#[test]
fn the_case_must_be_repeated_exactly() {
    let mut packet = Vec::new();
    write_query(&mut packet, 7, "a.eXAmple", RecordType::A).unwrap();
    packet[2..4].copy_from_slice(&[0x81, 0x80]);
    packet[7] = 1;
    packet.extend(record(&QUERIED, 1, 9, &[192, 0, 2, 1]));
    assert!(parse_answer(&packet, 7, "a.eXAmple", RecordType::A).is_ok());
    assert_eq!(parse_answer(&packet, 7, "a.ExamPLE", RecordType::A), Err(DnsFault::WrongCase));
    assert_eq!(parse_answer(&packet, 7, "a.eXAmplf", RecordType::A), Err(DnsFault::Unrelated));
    assert!(
        parse_answer(&packet, 7, "a.example", RecordType::A).is_ok(),
        "a query in lower case accepts any case"
    );
}

#[test]
fn random_bits_set_the_case() {
    assert_eq!(mix_case("A.Example", &[0; 32]), "a.example");
    assert_eq!(mix_case("A.Example", &[0xff; 32]), "A.EXAMPLE");
    let mut random = [0; 32];
    random[0] = 0b0000_0100;
    assert_eq!(mix_case("a.example", &random), "a.Example");
    let long = "a".repeat(300);
    assert_eq!(mix_case(&long, &[0xff; 32]), format!("{}{}", "A".repeat(256), "a".repeat(44)));
}

#[test]
fn messages_are_removed_from_a_stream_complete_and_in_order() {
    let (mut wire, mut stream, mut packets) = (Vec::new(), Vec::new(), Vec::new());
    for packet in [&b"one"[..], b"", &[7; 65_535]] {
        write_frame(&mut wire, packet);
    }
    assert_eq!(wire[..5], *b"\0\x03one");
    for byte in wire {
        stream.push(byte);
        packets.extend(pop_frame(&mut stream));
    }
    assert_eq!(packets, [b"one".to_vec(), Vec::new(), vec![7; 65_535]]);
    assert!(stream.is_empty());
}

#[test]
fn what_is_no_dns_message_says_what_to_do() {
    for (status, end) in [
        (200, "check the path of the URL"),
        (404, "check the path of the URL"),
        (505, "use its tls:// address"),
        (503, "HTTP status 503"),
    ] {
        let text = DnsFault::NotDns(status).to_string();
        assert!(text.ends_with(end), "{text}");
    }
}

//! The server flight parser with hand-made answers: those of common TLS stacks, and invalid ones.

use super::*;
use crate::proto::client_hello::HelloKey;
use crate::proto::server_hello::{self, KeyShare, ServerHelloSpec};

const ID: [u8; 32] = [7; 32];

fn record(kind: u8, payload: &[u8]) -> Vec<u8> {
    [&tls::header(kind, payload.len() as u16)[..], payload].concat()
}

fn extension(kind: u16, content: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &(content.len() as u16).to_be_bytes(), content].concat()
}

fn versions() -> Vec<u8> {
    extension(0x002b, &[3, 4])
}

fn share(group: u16, len: usize) -> Vec<u8> {
    extension(KEY_SHARE, &extension(group, &vec![1; len]))
}

/// A ServerHello message.
fn message(random: [u8; 32], id: &[u8], cipher: u16, extensions: Option<&[u8]>) -> Vec<u8> {
    let mut body = [&[3, 3][..], &random, &[id.len() as u8], id].concat();
    body.extend(cipher.to_be_bytes());
    body.push(0);
    if let Some(extensions) = extensions {
        body.extend((extensions.len() as u16).to_be_bytes());
        body.extend(extensions);
    }
    [&[2, 0][..], &(body.len() as u16).to_be_bytes(), &body].concat()
}

fn good() -> Vec<u8> {
    message([1; 32], &ID, 0x1302, Some(&[share(X25519, 32), versions()].concat()))
}

fn read(wire: &[u8]) -> (ServerFlight, Result<FlightProgress, FlightFault>) {
    let mut flight = ServerFlight::new(ID);
    let outcome = flight.push(wire);
    (flight, outcome)
}

fn fault(wire: &[u8]) -> FlightFault {
    read(wire).1.unwrap_err()
}

#[test]
fn an_answer_of_our_own_is_parsed() {
    for order in [ExtensionOrder::VersionsFirst, ExtensionOrder::ShareFirst] {
        for hybrid in [true, false] {
            let share =
                if hybrid { KeyShare::MlKem(&[1; 1120]) } else { KeyShare::X25519(&[1; 32]) };
            let answer =
                ServerHelloSpec { session_id: &ID, cipher: 0x1303, share, noise: &[2; 777], order };
            let mut wire = Vec::new();
            server_hello::seal(&mut wire, &HelloKey::new(&[4; 16]), &[5; 32], &answer);
            let (flight, outcome) = read(&wire);
            assert_eq!(outcome, Ok(FlightProgress::More));
            assert_eq!(flight.choice(), Some(Choice { cipher: 0x1303, hybrid, order }));
            assert!(
                flight.may_be_complete() && (flight.record_count(), flight.total_len()) == (1, 777)
            );
        }
    }
}

#[test]
fn four_records_of_openssl_are_counted_in_pieces_of_any_size() {
    let mut wire = record(0x16, &good());
    wire.extend(record(0x14, &[1]));
    for len in [38, 379, 95, 69] {
        wire.extend(record(0x17, &vec![9; len]));
    }
    for size in [1, 2, 5, 64, wire.len()] {
        let mut flight = ServerFlight::new(ID);
        for chunk in wire.chunks(size) {
            assert_eq!(flight.push(chunk), Ok(FlightProgress::More));
        }
        assert!(flight.may_be_complete());
        assert_eq!((flight.record_count(), flight.total_len()), (4, 581));
    }
    let (flight, _) = read(&wire[..wire.len() - 1]);
    assert!(!flight.may_be_complete(), "in the middle of a record");
    let (flight, _) = read(&record(0x16, &good()));
    assert!(!flight.may_be_complete(), "no certificate yet");
}

#[test]
fn a_server_hello_may_be_fragmented_and_without_change_cipher_spec() {
    let good = good();
    let (a, b) = good.split_at(3);
    let wire = [record(0x16, a), record(0x16, b), record(0x17, &[0; 17])].concat();
    assert!(read(&wire).0.may_be_complete());
}

#[test]
fn an_endless_flight_is_limited() {
    let mut wire = record(0x16, &good());
    for _ in 0..8 {
        assert_eq!(read(&wire).1, Ok(FlightProgress::More));
        wire.extend(record(0x17, &[0; 17]));
    }
    assert_eq!(read(&wire).1, Ok(FlightProgress::Enough));
    let mut wire = record(0x16, &good());
    wire.extend(record(0x17, &[0; 16_384]));
    assert_eq!(read(&wire).1, Ok(FlightProgress::More));
    wire.extend(record(0x17, &[0; 16_384]));
    assert_eq!(read(&wire).1, Ok(FlightProgress::Enough));
}

#[test]
fn an_unusable_answer_has_a_reason() {
    assert_eq!(fault(b"HTTP/1.1 400"), FlightFault::NotTls);
    assert_eq!(fault(b"\x15\x03\x03\0\x02\x02\x28"), FlightFault::Alert(40));
    assert_eq!(fault(b"\x15\x03\x03\0\x03\x02\x28\x01"), FlightFault::Malformed);
    assert_eq!(fault(&record(0x14, &[1])), FlightFault::Malformed);
    assert_eq!(fault(&record(0x17, &[1; 99])), FlightFault::Malformed);
    assert_eq!(fault(&record(0x16, &[11, 0, 0, 0])), FlightFault::Malformed);

    // TLS 1.2 as OpenSSL sends it: no extension, the certificate in the same record.
    let old = message([1; 32], &[], 0xc02f, None);
    assert_eq!(fault(&record(0x16, &old)), FlightFault::OldTls);
    assert_eq!(fault(&record(0x16, &[old, vec![11, 0, 0, 1, 0]].concat())), FlightFault::OldTls);

    let retry = [versions(), extension(KEY_SHARE, &[0, 0x17])].concat();
    let retry = message(RETRY_RANDOM, &ID, 0x1301, Some(&retry));
    assert_eq!(fault(&record(0x16, &retry)), FlightFault::Retry);

    let extensions = [versions(), share(X25519, 32)].concat();
    for wrong in [
        message([1; 32], &ID, 0xc02f, Some(&extensions)),
        message([1; 32], &[8; 32], 0x1301, Some(&extensions)),
        message([1; 32], &ID, 0x1301, Some(&versions())),
        message([1; 32], &ID, 0x1301, Some(&[versions(), share(0x17, 65)].concat())),
        message([1; 32], &ID, 0x1301, Some(&extensions[..extensions.len() - 1])),
        [good(), vec![8, 0, 0, 0]].concat(),
    ] {
        assert_eq!(fault(&record(0x16, &wrong)), FlightFault::Malformed);
    }
    let late = [record(0x16, &good()), record(0x16, &good())].concat();
    assert_eq!(fault(&late), FlightFault::Malformed);
    let short = [record(0x16, &good()), record(0x17, &[0; 16])].concat();
    assert_eq!(fault(&short), FlightFault::Malformed);
}

#[test]
fn an_endless_message_is_refused() {
    let mut flight = ServerFlight::new(ID);
    assert_eq!(
        flight.push(&record(0x16, &[&[2, 0xff, 0xff, 0xff][..], &[0; 16_000]].concat())),
        Ok(FlightProgress::More)
    );
    assert_eq!(flight.push(&record(0x16, &[0; 16_000])), Err(FlightFault::Malformed));
}

//! Secrets and data centres: `secrets.json`, `dc.json`.

use std::net::SocketAddr;

use mtbox::proto::dc::{DEFAULT_DC, DcId, PORT, builtin};
use mtbox::proto::secret::Secret;

use super::read::{array, list, load, name, number, text, unhex};

#[test]
fn secrets_parse_and_print() {
    for case in list("secrets.json", "accept") {
        let secret = Secret::parse(text(&case, "text")).unwrap();
        assert_eq!(secret.key(), &array(&case, "key"), "{}", name(&case));
        assert_eq!(secret.host(), text(&case, "host").as_bytes(), "{}", name(&case));
        assert_eq!(secret.to_hex(), text(&case, "canonical_hex"), "{}", name(&case));
        assert_eq!(secret.to_base64(), text(&case, "canonical_base64url"), "{}", name(&case));
        assert_eq!((secret.is_weak(), secret.host_fault()), (false, None), "{}", name(&case));
    }
    for case in list("secrets.json", "accept_if_lenient") {
        let secret = Secret::parse(text(&case, "text")).unwrap();
        assert_eq!(secret.key(), &array(&case, "key"), "{}", name(&case));
        assert_eq!(secret.host(), text(&case, "host").as_bytes(), "{}", name(&case));
    }
}

#[test]
fn invalid_secrets_are_refused() {
    for case in list("secrets.json", "reject") {
        assert!(Secret::parse(text(&case, "text")).is_err(), "{}", name(&case));
    }
    for case in list("secrets.json", "reject_as_config") {
        assert!(Secret::parse(text(&case, "text")).unwrap().is_weak(), "{}", name(&case));
    }
}

#[test]
fn dc_ids_are_decoded() {
    assert_eq!(load("dc.json")["default_dc"], DEFAULT_DC);
    for case in list("dc.json", "ids") {
        let raw = i16::try_from(number(&case, "raw")).unwrap();
        assert_eq!(raw.to_le_bytes(), unhex(text(&case, "wire_le16")).as_slice());
        let id = DcId::decode(raw);
        assert_eq!(i64::from(id.number), number(&case, "dc"), "{raw}");
        assert_eq!(id.media, case["media"] == true, "{raw}");
        assert_eq!(id.is_test(), case["test_environment"] == true, "{raw}");
        // mtg-multi does not support the test environment; mtbox does.
        let known = case["known"] == true || id.is_test();
        assert_eq!(!builtin(id.number).is_empty(), known, "{raw}");
    }
}

#[test]
fn the_built_in_addresses_are_those_of_the_table() {
    let file = load("dc.json");
    assert_eq!(file["port"], PORT);
    for (four, six) in [("ipv4", "ipv6"), ("test_ipv4", "test_ipv6")] {
        for (number, addresses) in file[four].as_object().unwrap() {
            let addresses = addresses.as_array().unwrap().iter();
            let expected: Vec<SocketAddr> = addresses
                .chain(file[six][number].as_array().unwrap())
                .map(|address| SocketAddr::new(address.as_str().unwrap().parse().unwrap(), PORT))
                .collect();
            assert_eq!(builtin(number.parse().unwrap()), expected, "{number}");
        }
    }
}

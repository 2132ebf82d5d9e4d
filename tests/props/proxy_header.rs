//! PROXY protocol headers, checked against the `ppp` crate.

use std::net::{IpAddr, SocketAddr};

use mtbox::proto::proxy_header::{HEADER_MAX, Preface, parse, write};
use ppp::{v1, v2};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

/// Client and listener address of one connection, both of the same family.
fn pairs() -> impl Strategy<Value = (SocketAddr, SocketAddr)> {
    let v4 = any::<([u8; 4], u16, [u8; 4], u16)>()
        .prop_map(|(a, b, c, d)| (SocketAddr::from((a, b)), SocketAddr::from((c, d))));
    let v6 = any::<([u16; 8], u16, [u16; 8], u16)>()
        .prop_map(|(a, b, c, d)| (SocketAddr::from((a, b)), SocketAddr::from((c, d))));
    prop_oneof![v4, v6]
}

/// A header of either version and the announced client.
fn headers() -> impl Strategy<Value = (Vec<u8>, SocketAddr)> {
    let text = pairs().prop_map(|pair| (v1::Addresses::from(pair).to_string().into(), pair.0));
    let extensions = vec((any::<u8>(), vec(any::<u8>(), 0..40)), 0..4);
    let binary = (pairs(), extensions, any::<bool>()).prop_map(|(pair, extensions, stream)| {
        let protocol = if stream { v2::Protocol::Stream } else { v2::Protocol::Datagram };
        let command = v2::Version::Two | v2::Command::Proxy;
        let builder = v2::Builder::with_addresses(command, protocol, pair);
        let built = extensions
            .iter()
            .try_fold(builder, |builder, (kind, value)| builder.write_tlv(*kind, value))
            .and_then(v2::Builder::build);
        (built.expect("a header"), pair.0)
    });
    prop_oneof![text, binary]
}

fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}

/// The client that the `ppp` crate reads from a header.
fn parse_with_ppp(seen: &[u8]) -> Option<SocketAddr> {
    if let Ok(header) = v1::Header::try_from(seen) {
        return match header.addresses {
            v1::Addresses::Tcp4(pair) => {
                Some((IpAddr::from(pair.source_address), pair.source_port).into())
            }
            v1::Addresses::Tcp6(pair) => {
                Some((IpAddr::from(pair.source_address), pair.source_port).into())
            }
            v1::Addresses::Unknown => None,
        };
    }
    match v2::Header::try_from(seen).ok()?.addresses {
        v2::Addresses::IPv4(pair) => {
            Some((IpAddr::from(pair.source_address), pair.source_port).into())
        }
        v2::Addresses::IPv6(pair) => {
            Some((IpAddr::from(pair.source_address), pair.source_port).into())
        }
        v2::Addresses::Unix(_) | v2::Addresses::Unspecified => None,
    }
}

proptest! {
    #[test]
    fn headers_of_the_ppp_crate_are_parsed(
        (header, source) in headers(),
        stream in vec(any::<u8>(), 0..200),
    ) {
        let seen = [&header[..], &stream].concat();
        let expected = Preface::Complete { len: header.len(), source: Some(canonical(source)) };
        prop_assert_eq!(parse(&seen), expected);
        for cut in 0..header.len() {
            let early = parse(&header[..cut]);
            let is_open = matches!(early, Preface::Ambiguous | Preface::Incomplete);
            prop_assert!(is_open, "{} bytes: {:?}", cut, early);
        }
    }

    #[test]
    fn our_headers_are_parsed_by_the_ppp_crate((one, two) in pairs(), (three, _) in pairs()) {
        for (source, destination) in [(one, two), (one, three), (three, two)] {
            let mut header = Vec::new();
            write(&mut header, source, destination);
            prop_assert_eq!(parse_with_ppp(&header).map(canonical), Some(canonical(source)));
            let expected = Preface::Complete { len: header.len(), source: Some(canonical(source)) };
            prop_assert_eq!(parse(&header), expected);
        }
    }

    #[test]
    fn a_damaged_header_yields_an_address_only_if_the_ppp_crate_agrees(
        (mut header, _) in headers(),
        changes in vec((any::<Index>(), any::<u8>()), 1..4),
    ) {
        for (at, byte) in changes {
            let at = at.index(header.len());
            header[at] = byte;
        }
        if let Preface::Complete { len, source: Some(source) } = parse(&header) {
            prop_assert_eq!(parse_with_ppp(&header[..len]).map(canonical), Some(source));
        }
    }

    #[test]
    fn a_result_does_not_change_with_more_bytes(
        mut bytes in prop_oneof![
            vec(any::<u8>(), 0..300),
            headers().prop_map(|(header, _)| header),
            vec(any::<u8>(), 0..200).prop_map(|tail| [b"\r\n\r\n\0\r\nQUIT\n", &tail[..]].concat()),
            vec(32_u8..127, 0..200).prop_map(|tail| [b"PROXY TCP6 ", &tail[..]].concat()),
        ],
        changes in vec((any::<Index>(), any::<u8>()), 0..3),
    ) {
        for (at, byte) in changes {
            if !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
        }
        let verdicts: Vec<Preface> = (0..=bytes.len()).map(|cut| parse(&bytes[..cut])).collect();
        let is_open = |verdict: &&Preface| {
            matches!(verdict, Preface::Ambiguous | Preface::Incomplete)
        };
        let decided = verdicts.iter().take_while(is_open).count();
        for (cut, verdict) in verdicts.iter().enumerate().skip(decided) {
            prop_assert_eq!(verdict, &verdicts[decided], "{} bytes", cut);
        }
        if let Some(Preface::Complete { len, .. }) = verdicts.get(decided) {
            prop_assert!(*len == decided && *len <= HEADER_MAX);
        }
    }
}

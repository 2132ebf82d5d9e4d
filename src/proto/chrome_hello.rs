//! A ClientHello like Chrome's (PROTOCOL 3.6), to probe how a front answers it. Its key
//! shares are well-formed, since servers would reject others, but their private keys are discarded:
//! the handshake is never completed.

use crate::proto::client_hello::{KEY_SHARE, SERVER_NAME, X25519, X25519MLKEM768};
use crate::proto::server_hello;
use crate::proto::tls;

/// A hello and the session id that the ServerHello must repeat.
#[derive(Debug, Clone)]
pub struct ChromeHello {
    /// The hello as one record.
    pub wire: Vec<u8>,
    /// Echoed by every server (RFC 8446 4.1.3).
    pub session_id: [u8; 32],
}

/// Writes a hello for `host`, which has at most 182 bytes as in a secret. `suites` are the TLS 1.3
/// cipher suites in the order of the offer. `fill` supplies about 5 kB of random bytes.
pub fn write(host: &[u8], suites: [u16; 3], fill: &mut dyn FnMut(&mut [u8])) -> ChromeHello {
    let (mut random, mut session_id) = ([0; 32], [0; 32]);
    fill(&mut random);
    fill(&mut session_id);
    let grease = Grease::draw(fill);

    let mut body = tls::VERSION.to_vec();
    body.extend(random);
    body.push(session_id.len() as u8);
    body.extend(session_id);
    let suites = [&[grease.suite], suites.as_slice(), &OLD_SUITES].concat();
    body.extend(block16(&words(&suites)));
    body.extend([1, 0]); // No compression.
    body.extend(block16(&extensions(host, &grease, fill)));

    let mut message = vec![CLIENT_HELLO, 0];
    message.extend(block16(&body));
    let mut wire = vec![tls::HANDSHAKE];
    wire.extend(tls::VERSION_HELLO);
    wire.extend(block16(&message));
    ChromeHello { wire, session_id }
}

/// GREASE values, which servers must ignore (RFC 8701).
struct Grease {
    suite: u16,
    group: u16,
    version: u16,
    first: u16,
    last: u16,
}

impl Grease {
    fn draw(fill: &mut dyn FnMut(&mut [u8])) -> Self {
        let mut seed = [0; 5];
        fill(&mut seed);
        let [suite, group, version, first, last] = seed.map(|byte| {
            let byte = byte & 0xf0 | 0x0a;
            u16::from_be_bytes([byte, byte])
        });
        // No extension may occur twice.
        let last = if last == first { last ^ 0x1010 } else { last };
        Self { suite, group, version, first, last }
    }
}

/// All extensions: GREASE first and last, the others in random order.
fn extensions(host: &[u8], grease: &Grease, fill: &mut dyn FnMut(&mut [u8])) -> Vec<u8> {
    let name = [&[HOST_NAME], block16(host).as_slice()].concat();
    let groups = words(&[grease.group, X25519MLKEM768, X25519, 0x0017, 0x0018]);
    let versions = words(&[grease.version, 0x0304, 0x0303]);
    let versions = [&[versions.len() as u8], versions.as_slice()].concat();
    let mut list = [
        extension(SERVER_NAME, &block16(&name)),
        extension(0x0017, &[]),               // extended_master_secret
        extension(0xff01, &[0]),              // renegotiation_info
        extension(0x000a, &block16(&groups)), // supported_groups
        extension(0x000b, &[1, 0]),           // ec_point_formats
        extension(0x0023, &[]),               // session_ticket
        extension(0x0010, &block16(b"\x02h2\x08http/1.1")), // ALPN
        extension(0x0005, &[1, 0, 0, 0, 0]),  // status_request
        extension(0x000d, &block16(&words(&SIGNATURE_ALGORITHMS))), // signature_algorithms
        extension(0x0012, &[]),               // signed_certificate_timestamp
        extension(KEY_SHARE, &block16(&shares(grease, fill))),
        extension(0x002d, &[1, 1]),             // psk_key_exchange_modes
        extension(0x002b, &versions),           // supported_versions
        extension(0x001b, &[2, 0, 2]),          // compress_certificate: brotli
        extension(0x44cd, &block16(b"\x02h2")), // application_settings
        extension(0xfe0d, &ech_grease(fill)),   // encrypted_client_hello
    ];
    for end in (1..list.len()).rev() {
        list.swap(end, below(end + 1, fill));
    }
    let mut out = extension(grease.first, &[]);
    list.iter().for_each(|one| out.extend(one));
    out.extend(extension(grease.last, &[0]));
    out
}

/// The entries of the key share list: GREASE, X25519MLKEM768, x25519.
fn shares(grease: &Grease, fill: &mut dyn FnMut(&mut [u8])) -> Vec<u8> {
    let mut hybrid = encapsulation_key(fill);
    hybrid.extend(point(fill));
    let mut out = extension(grease.group, &[0]);
    out.extend(extension(X25519MLKEM768, &hybrid));
    out.extend(extension(X25519, &point(fill)));
    out
}

/// An ML-KEM-768 encapsulation key (FIPS 203 7.2): 768 numbers below q of 12 bits each, and a seed.
/// Two numbers take three bytes, least significant bits first.
fn encapsulation_key(fill: &mut dyn FnMut(&mut [u8])) -> Vec<u8> {
    let mut out = Vec::with_capacity(KEY_LEN);
    for _ in 0..384 {
        let mut noise = [[0; 3]; 2];
        fill(noise.as_flattened_mut());
        let [low, high] = noise.map(server_hello::residue);
        let [a, b, c, _] = (low | high << 12).to_le_bytes();
        out.extend([a, b, c]);
    }
    let mut seed = [0; 32];
    fill(&mut seed);
    out.extend(seed);
    out
}

fn point(fill: &mut dyn FnMut(&mut [u8])) -> [u8; 32] {
    let mut scalar = [0; 32];
    fill(&mut scalar);
    server_hello::x25519_point(scalar)
}

/// The GREASE form of encrypted_client_hello, which a browser sends without an ECH configuration
/// (RFC 9849 6.2): random payload of one of four lengths.
fn ech_grease(fill: &mut dyn FnMut(&mut [u8])) -> Vec<u8> {
    let mut id = [0];
    fill(&mut id);
    let [id] = id;
    let mut payload = vec![0; 144 + 32 * below(4, fill)];
    fill(&mut payload);
    let mut out = vec![0, 0, 1, 0, 1, id]; // Outer, HKDF-SHA256, AES-128-GCM.
    out.extend(block16(&point(fill)));
    out.extend(block16(&payload));
    out
}

/// A random number below `bound`, which is small.
fn below(bound: usize, fill: &mut dyn FnMut(&mut [u8])) -> usize {
    let mut draw = [0; 4];
    fill(&mut draw);
    ((u64::from(u32::from_le_bytes(draw)) * bound as u64) >> 32) as usize
}

/// Type, length, content; a key share has the same layout.
fn extension(kind: u16, content: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes(), block16(content).as_slice()].concat()
}

/// Prefixes `content` with its length in two bytes.
fn block16(content: &[u8]) -> Vec<u8> {
    [&(content.len() as u16).to_be_bytes(), content].concat()
}

fn words(list: &[u16]) -> Vec<u8> {
    list.iter().flat_map(|word| word.to_be_bytes()).collect()
}

/// Handshake type of a ClientHello.
const CLIENT_HELLO: u8 = 0x01;
/// Name type host_name, the only one (RFC 6066 3).
const HOST_NAME: u8 = 0x00;
/// Length of an encapsulation key in bytes.
const KEY_LEN: usize = 1184;
/// Cipher suites for servers without TLS 1.3.
const OLD_SUITES: [u16; 12] = [
    0xc02b, 0xc02f, 0xc02c, 0xc030, 0xcca9, 0xcca8, 0xc013, 0xc014, 0x009c, 0x009d, 0x002f, 0x0035,
];
const SIGNATURE_ALGORITHMS: [u16; 8] =
    [0x0403, 0x0804, 0x0401, 0x0503, 0x0805, 0x0501, 0x0806, 0x0601];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::client_hello::{self, Assembly};

    fn hello(seed: u64) -> ChromeHello {
        let mut rng = fastrand::Rng::with_seed(seed);
        write(b"www.example", [0x1301, 0x1302, 0x1303], &mut |bytes| rng.fill(bytes))
    }

    /// The contents of the extensions, in order.
    fn extensions_of(wire: &[u8]) -> Vec<(u16, Vec<u8>)> {
        let suites = 76 + 2 + usize::from(u16::from_be_bytes([wire[76], wire[77]]));
        let mut rest = &wire[suites + 2 + 2..];
        let mut list = Vec::new();
        while let [k0, k1, l0, l1, after @ ..] = rest {
            let (content, after) = after.split_at(usize::from(u16::from_be_bytes([*l0, *l1])));
            list.push((u16::from_be_bytes([*k0, *k1]), content.to_vec()));
            rest = after;
        }
        assert!(rest.is_empty());
        list
    }

    #[test]
    fn our_parser_finds_the_offer_of_chrome() {
        let ChromeHello { wire, session_id } = hello(1);
        let Assembly::Complete { hello, consumed } = client_hello::assemble(&wire) else {
            panic!("not one complete record");
        };
        assert_eq!(consumed, wire.len());
        let parsed = client_hello::parse(&hello).unwrap();
        assert_eq!(parsed.server_names().collect::<Vec<_>>(), [b"www.example"]);
        assert_eq!(parsed.session_id(), session_id);
        assert_eq!(parsed.preferred_suite(), Some(0x1301));
        assert!(parsed.offers_group(X25519) && parsed.offers_group(X25519MLKEM768));
    }

    #[test]
    fn lengths_are_those_of_the_apps() {
        // The apps' hello is 1566 bytes + host + ECH payload (PROTOCOL 3.6).
        let mut seen = [false; 4];
        for seed in 0..64 {
            let extra = hello(seed).wire.len() - 1566 - b"www.example".len();
            assert!(extra >= 144 && (extra - 144).is_multiple_of(32), "{extra}");
            seen[(extra - 144) / 32] = true;
        }
        assert_eq!(seen, [true; 4]);
    }

    #[test]
    fn extensions_are_those_of_chrome_in_random_order_between_grease() {
        let mut expected = vec![
            0, 5, 0xa, 0xb, 0xd, 0x10, 0x12, 0x17, 0x1b, 0x23, 0x2b, 0x2d, 0x33, 0x44cd, 0xfe0d,
            0xff01,
        ];
        expected.sort_unstable();
        let is_grease = |kind: u16| kind & 0x0f0f == 0x0a0a && kind >> 8 == kind & 0xff;
        let mut orders = Vec::new();
        for seed in 0..32 {
            let kinds: Vec<u16> =
                extensions_of(&hello(seed).wire).iter().map(|(kind, _)| *kind).collect();
            let [first, middle @ .., last] = kinds.as_slice() else { panic!("{kinds:?}") };
            assert!(is_grease(*first) && is_grease(*last) && first != last);
            let mut sorted = middle.to_vec();
            sorted.sort_unstable();
            assert_eq!(sorted, expected);
            orders.push(middle.to_vec());
        }
        orders.sort();
        orders.dedup();
        assert_eq!(orders.len(), 32, "all orders differ");
    }

    #[test]
    fn the_encapsulation_key_passes_the_check_of_fips_203() {
        for seed in 0..8 {
            let extensions = extensions_of(&hello(seed).wire);
            let (_, list) = extensions.iter().find(|(kind, _)| *kind == KEY_SHARE).unwrap();
            assert_eq!(list.len(), 1263);
            let hybrid = &list[2 + 5 + 4..][..1216];
            let (key, _x25519) = hybrid.split_at(KEY_LEN);
            let mut largest = 0;
            for three in key[..1152].as_chunks::<3>().0 {
                let pair = u32::from_le_bytes([three[0], three[1], three[2], 0]);
                assert!(pair & 0xfff < 3329 && pair >> 12 < 3329);
                largest = largest.max(pair >> 12);
            }
            assert!(largest > 3000, "numbers from the whole range");
        }
    }
}

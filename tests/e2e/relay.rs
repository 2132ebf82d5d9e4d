//! Payload in both directions, byte for byte, at all sizes and speeds (PROTOCOL 5, 6, 14).

use std::thread;

use crate::support::client::{APP_RECORD, Client};
use crate::support::dc::{Dc, DcSession};
use crate::support::fixture::Fixture;
use crate::support::front::Front;
use crate::support::hello::Secret;
use crate::support::peer::End;
use crate::support::proxy::Config;
use crate::support::{Pattern, QUIET, holds_within, pattern};

const MIB: usize = 1 << 20;

/// Chunk sizes around every limit that a relay may have.
const ODD_SIZES: [usize; 16] =
    [1, 2, 17, 18, 63, 64, 65, 1000, 2878, 4096, 16_383, 16_384, 16_401, 16_402, 65_535, 131_073];

#[test]
fn every_size_arrives_with_matched_keys() {
    every_size_arrives(&Fixture::new());
}

#[test]
fn every_size_arrives_with_re_encryption() {
    every_size_arrives(&Fixture::with(|config| config.set("network", "re-encrypt", "true")));
}

#[test]
fn every_size_arrives_with_little_memory() {
    every_size_arrives(&Fixture::with(|config| config.set("memory", "buffers", "\"1mib\"")));
}

#[test]
fn every_size_arrives_without_moderation() {
    every_size_arrives(&Fixture::with(|config| config.set("network", "moderation", "\"off\"")));
}

/// Sends one message of each size in both directions, in order, over one session.
fn every_size_arrives(fixture: &Fixture) {
    let (mut client, mut session) = fixture.session();
    let (mut up, mut down) = (Pattern::new(1), Pattern::new(2));
    for size in ODD_SIZES {
        let question = up.take(size);
        client.up.send(&question);
        assert!(session.from.recv(size) == question, "{size} bytes up");
        let answer = down.take(size);
        session.to.send(&answer);
        assert!(client.down.recv(size) == answer, "{size} bytes down");
    }
}

#[test]
fn sixty_four_mebibytes_go_up() {
    let fixture = Fixture::new();
    let (client, session) = fixture.session();
    both_ways(client, session, &Load { up: 64 * MIB, down: 0, ..Load::usual() });
}

#[test]
fn sixty_four_mebibytes_come_down() {
    let fixture = Fixture::new();
    let (client, session) = fixture.session();
    both_ways(client, session, &Load { up: 0, down: 64 * MIB, ..Load::usual() });
}

#[test]
fn several_users_load_both_directions_at_once() {
    several_users(|config| config);
}

#[test]
fn several_users_load_both_directions_with_re_encryption() {
    several_users(|config| config.set("network", "re-encrypt", "true"));
}

#[test]
fn several_users_load_both_directions_with_little_memory() {
    several_users(|config| config.set("memory", "buffers", "\"1mib\""));
}

#[test]
fn a_client_that_waits_gets_everything_where_sockets_fill_the_memory() {
    let fixture = Fixture::with(|config| config.set("memory", "limit", "\"32mib\""));
    let (mut client, mut session) = fixture.session();
    let answer = pattern(1, 32 * MIB);
    thread::scope(|scope| {
        scope.spawn(|| session.to.send(&answer));
        // Meanwhile the program asks the sockets for their memory.
        assert!(!holds_within(QUIET * 4, || fixture.proxy.connections("alice") == 0));
        assert!(client.down.recv(answer.len()) == answer);
    });
}

fn several_users(change: impl FnOnce(Config) -> Config) {
    let (dc, front) = (Dc::listen(), Front::listen());
    let users = ["alice", "bob", "carol"].map(|name| (name, Secret::new(&format!("{name}.test"))));
    let config = Config::new(dc.addr, front.addr);
    let config = users.iter().fold(config, |config, (name, secret)| config.user(name, secret));
    let proxy = change(config).start();
    let load = Load { up: 2 * MIB + 7, down: 3 * MIB + 13, ..Load::usual() };
    thread::scope(|scope| {
        for (_, secret) in [&users[..], &users[..]].concat() {
            // Opened in order, because only the order identifies the sessions at the DC.
            let client = Client::open(proxy.addr, &secret);
            let session = dc.accept();
            let load = &load;
            scope.spawn(move || both_ways(client, session, load));
        }
    });
    for (name, _) in &users {
        proxy.wait_for_connections(name, 0);
        assert_eq!(proxy.number(name, "bytes_in"), 2 * load.up as u64);
        assert_eq!(proxy.number(name, "bytes_out"), 2 * load.down as u64);
    }
}

#[test]
fn a_client_that_sends_single_bytes_is_relayed() {
    let fixture = Fixture::new();
    let (client, session) = fixture.session();
    let load = Load { up: 3000, down: 3000, up_chunk: 1, down_chunk: 1, up_record: 1 };
    both_ways(client, session, &load);
}

#[test]
fn the_longest_records_of_tls_are_relayed() {
    let fixture = Fixture::new();
    for up_record in [16_384, 16_401, 16_640] {
        let (client, session) = fixture.session();
        let load = Load { up: MIB, up_record, up_chunk: 3 * 65_535, ..Load::usual() };
        both_ways(client, session, &load);
    }
}

#[test]
fn tiny_records_in_large_writes_are_relayed() {
    let fixture = Fixture::new();
    for up_record in [1, 3, 17] {
        let (client, session) = fixture.session();
        let load = Load { up: 100_000, up_record, up_chunk: 10_000, ..Load::usual() };
        both_ways(client, session, &load);
    }
}

#[test]
fn downloads_are_copied_unchanged_unless_re_encryption_is_configured() {
    for (setting, is_equal) in [("false", true), ("true", false)] {
        let fixture = Fixture::with(|config| config.set("network", "re-encrypt", setting));
        let (mut client, mut session) = fixture.session();
        let plain = pattern(3, 5000);
        let sealed_by_dc = session.to.try_send(&plain).expect("a running proxy");
        let (mut sealed, mut opened) = (Vec::new(), Vec::new());
        while sealed.len() < plain.len() {
            let payload = client.down.next_record().expect("a record");
            opened.extend(client.down.decrypt(&payload));
            sealed.extend(payload);
        }
        assert!(opened == plain);
        assert_eq!(sealed == sealed_by_dc, is_equal, "re-encrypt = {setting}");
    }
}

/// The traffic of one session.
struct Load {
    up: usize,
    down: usize,
    /// Bytes per write of the client.
    up_chunk: usize,
    /// Bytes per write of the DC.
    down_chunk: usize,
    /// Bytes per record of the client.
    up_record: usize,
}

impl Load {
    /// Like apps and data centres, in chunks of odd sizes.
    fn usual() -> Self {
        Self { up: 0, down: 0, up_chunk: 50_021, down_chunk: 100_003, up_record: APP_RECORD }
    }
}

/// Transfers in both directions at once, each with its own two threads; then both ends close.
fn both_ways(client: Client, session: DcSession, load: &Load) {
    let Client { mut up, mut down } = client;
    let DcSession { mut from, mut to, .. } = session;
    thread::scope(|scope| {
        scope.spawn(move || {
            let mut data = Pattern::new(11);
            for size in pieces(load.up, load.up_chunk) {
                up.send_records(&data.take(size), load.up_record);
            }
            up.send_fin();
        });
        scope.spawn(move || {
            let mut data = Pattern::new(12);
            for size in pieces(load.down, load.down_chunk) {
                to.send(&data.take(size));
            }
            to.send_fin();
        });
        scope.spawn(move || {
            let mut data = Pattern::new(11);
            for size in pieces(load.up, MIB) {
                assert!(from.recv(size) == data.take(size), "other bytes at the DC");
            }
            assert_eq!(from.recv_rest(), (Vec::new(), End::Fin));
        });
        let mut data = Pattern::new(12);
        for size in pieces(load.down, MIB) {
            assert!(down.recv(size) == data.take(size), "other bytes at the client");
        }
        assert_eq!(down.recv_rest(), (Vec::new(), End::Fin));
    });
}

/// `total` in pieces of `size`, the last one smaller.
fn pieces(total: usize, size: usize) -> impl Iterator<Item = usize> {
    (0..total).step_by(size).map(move |at| size.min(total - at))
}

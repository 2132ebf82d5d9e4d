//! How hellos are attributed to users: many users of one host, clocks with a small difference,
//! server names that are almost right (PROTOCOL 3.3 and 3.4, DECISIONS D4 and D6).

use std::time::Duration;

use crate::support::client::{Client, Handshake};
use crate::support::dc::Dc;
use crate::support::fixture::{Fixture, HOST};
use crate::support::front::Front;
use crate::support::hello::{App, Hello, HelloOptions, Secret, unix_now};
use crate::support::obfuscated2::DD;
use crate::support::peer::Peer;
use crate::support::proxy::Config;

#[test]
fn each_of_a_hundred_users_of_one_host_is_told_from_the_others() {
    let (dc, front) = (Dc::echoing(), Front::listen());
    let users: Vec<_> = (0..100).map(|n| (format!("user{n}"), Secret::new(HOST))).collect();
    let config = Config::new(dc, front.addr);
    let config = users.iter().fold(config, |config, (name, secret)| config.user(name, secret));
    let proxy = config.start();
    for (number, (name, secret)) in users.iter().enumerate() {
        let mut client = Client::open(proxy.addr, secret);
        client.up.send(&vec![1; number + 1]);
        client.down.recv(number + 1);
        assert_eq!(proxy.number(name, "bytes_in"), number as u64 + 1, "{name}");
    }
    let unknown = Hello::new(&Secret::new(HOST), App::PostQuantum);
    let mut prober = Peer::connect("prober", proxy.addr);
    prober.send(&unknown.wire);
    assert!(front.accept().first == unknown.wire);
}

#[test]
fn users_of_several_hosts_are_served_side_by_side() {
    let (dc, front) = (Dc::echoing(), Front::listen());
    let hosts = ["a.io", "b.example", "c.very.long.name.of.a.host.example"];
    let users = hosts.map(|host| (host, Secret::new(host)));
    let config = Config::new(dc, front.addr);
    let config = users.iter().fold(config, |config, (name, secret)| config.user(name, secret));
    let proxy = config.start();
    for (name, secret) in users.iter().rev() {
        let _client = Client::open(proxy.addr, secret);
        proxy.wait_for_connections(name, 1);
    }
}

#[test]
fn a_clock_that_is_a_minute_off_is_accepted() {
    let fixture = Fixture::new();
    for clock in [unix_now() - 60, unix_now() + 60] {
        assert!(is_admitted(&fixture, clock));
    }
}

#[test]
fn the_config_sets_the_tolerance() {
    let fixture = Fixture::with(|config| config.set("", "tolerate-time-skewness", "\"10m\""));
    assert!(is_admitted(&fixture, unix_now() - 500));
    assert!(!is_admitted(&fixture, unix_now() - 700));
    assert!(!is_admitted(&fixture, unix_now() + 700));
}

fn is_admitted(fixture: &Fixture, clock: u32) -> bool {
    let mut options = HelloOptions::new(&fixture.secret, App::PostQuantum);
    options.clock = clock;
    let hello = Hello::build(&fixture.secret, &options);
    let mut peer = Peer::connect("client", fixture.proxy.addr);
    peer.send(&hello.wire);
    if fixture.front.accept_within(Duration::from_millis(300)).is_some() {
        return false;
    }
    Handshake::read_answer(peer, &fixture.secret, &hello);
    true
}

#[test]
fn a_name_that_is_almost_right_is_wrong() {
    let fixture = Fixture::new();
    for name in ["Front.example", "front.example.", "front.exampl", "xfront.example", ""] {
        let mut options = HelloOptions::new(&fixture.secret, App::PostQuantum);
        options.sni = Some(name.to_owned());
        let hello = Hello::build(&fixture.secret, &options);
        let mut prober = Peer::connect("prober", fixture.proxy.addr);
        prober.send(&hello.wire);
        assert!(fixture.front.accept().first == hello.wire, "{name}");
    }
}

/// The apps for iOS and macOS 12.2 to 12.6.1 name no server.
#[test]
fn a_hello_without_a_server_name_is_admitted_by_its_key() {
    let (dc, front) = (Dc::echoing(), Front::listen());
    let users = ["a.example", "b.example", "b.example"].map(Secret::new);
    let config = Config::new(dc, front.addr);
    let config = users
        .iter()
        .enumerate()
        .fold(config, |config, (number, secret)| config.user(&format!("user{number}"), secret));
    let proxy = config.start();
    let nameless = |secret: &Secret| {
        let options = HelloOptions { sni: None, ..HelloOptions::new(secret, App::PostQuantum) };
        Hello::build(secret, &options)
    };
    for (number, secret) in users.iter().enumerate() {
        let hello = nameless(secret);
        let peer = Peer::connect("an old app", proxy.addr);
        let mut client = Handshake::send_hello(peer, secret, &hello).send_frame(DD, 2);
        client.up.send(b"ping");
        assert_eq!(client.down.recv(4), b"ping");
        assert_eq!(proxy.number(&format!("user{number}"), "bytes_in"), 4);
    }
    let hello = nameless(&Secret::new("a.example"));
    let mut prober = Peer::connect("prober", proxy.addr);
    prober.send(&hello.wire);
    assert!(front.accept().first == hello.wire);
}

//! Several listeners, and IPv6 (COMPATIBILITY 5.1).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener};

use crate::support::client::Client;
use crate::support::fixture::Fixture;

const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

#[test]
fn every_listener_serves() {
    let fixture = Fixture::with(|config| config.binds(&[V4, V4, V4]));
    assert_every_bind_serves(&fixture);
}

#[test]
fn ipv6_listeners_serve() {
    if TcpListener::bind((V6, 0)).is_err() {
        eprintln!("skipped: this machine has no ::1");
        return;
    }
    let fixture = Fixture::with(|config| config.binds(&[V6, V4]));
    assert_every_bind_serves(&fixture);
}

#[test]
fn the_unspecified_address_serves() {
    let any = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    let mut fixture = Fixture::with(|config| config.binds(&[any]));
    fixture.proxy.binds[0].set_ip(V4);
    assert_every_bind_serves(&fixture);
}

fn assert_every_bind_serves(fixture: &Fixture) {
    for bind in &fixture.proxy.binds {
        let mut client = Client::open(*bind, &fixture.secret);
        let mut session = fixture.dc.accept();
        client.up.send(b"ping");
        assert_eq!(session.from.recv(4), b"ping", "{bind}");
        session.to.send(b"pong");
        assert_eq!(client.down.recv(4), b"pong", "{bind}");
    }
}

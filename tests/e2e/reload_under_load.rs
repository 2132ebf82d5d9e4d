//! Two hundred sessions transfer while the config changes fifty times: no byte is lost or counted
//! wrongly, and nothing is left over.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::support::client::Client;
use crate::support::dc::Dc;
use crate::support::fixture::HOST;
use crate::support::front::Front;
use crate::support::hello::Secret;
use crate::support::proxy::{Config, free_port};
use crate::support::{Pattern, eventually};

const SESSIONS: usize = 200;
const USERS: usize = 10;
const CHANGES: usize = 50;
const PIECE: usize = 4_096;

#[test]
fn no_session_of_a_remaining_user_loses_a_byte_over_fifty_changes() {
    let front = Front::listen();
    let secrets: Vec<Secret> = (0..USERS).map(|_| Secret::new(HOST)).collect();
    let mut config = Config::new(Dc::echoing(), front.addr).set("", "concurrency", "1000");
    for (at, secret) in secrets.iter().enumerate() {
        config = config.user(&format!("u{at}"), secret);
    }
    let mut proxy = config.clone().start();
    let files = proxy.files();
    let clients: Vec<Client> =
        (0..SESSIONS).map(|at| Client::open(proxy.addr, &secrets[at % USERS])).collect();
    eventually("all are connected", || proxy.stats()["total_connections"] == SESSIONS);

    let is_over = AtomicBool::new(false);
    let sent = thread::scope(|scope| {
        let stream = |(at, mut client): (usize, Client)| {
            let is_over = &is_over;
            scope.spawn(move || {
                let (mut line, mut expected) = (Pattern::new(at as u64), Pattern::new(at as u64));
                let mut count = 0;
                while !is_over.load(Ordering::Relaxed) || count == 0 {
                    client.up.send(&line.take(PIECE));
                    assert!(client.down.recv(PIECE) == expected.take(PIECE), "session {at}");
                    count += PIECE as u64;
                }
                (at % USERS, count, client)
            })
        };
        let streams: Vec<_> = clients.into_iter().enumerate().map(stream).collect();
        let addr = proxy.addr;
        let extra = Secret::new("extra.example");
        for change in 0..CHANGES {
            let mut now = config.clone().user("zz-extra", &extra);
            let mut binds = vec![addr];
            match change % 5 {
                0 => now = now.user(&format!("x{change}"), &Secret::new("new.example")),
                1 => binds.push(SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()))),
                2 => binds = vec![SocketAddr::from(([0, 0, 0, 0], addr.port()))],
                3 => {
                    let line = proxy.reload_text("bind-to = 7\n");
                    assert!(line.contains("event=reload-refused"), "{line}");
                    continue;
                }
                _ => now = now.set("", "disabled-users", "[\"zz-extra\"]"),
            }
            proxy.set_binds(&binds);
            let line = proxy.reload(&now);
            assert!(line.contains("event=reloaded"), "{line}");
            if change % 5 == 0 {
                // A user that the next changes remove.
                let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, addr.port()));
                let mut client = Client::open(addr, &extra);
                client.up.send(b"hello");
                assert_eq!(client.down.recv(5), b"hello");
            }
        }
        proxy.set_binds(&[addr]);
        proxy.reload(&config);
        is_over.store(true, Ordering::Relaxed);
        streams.into_iter().map(|stream| stream.join().expect("a whole stream")).collect::<Vec<_>>()
    });
    for user in 0..USERS {
        let wanted: u64 =
            sent.iter().filter(|(of, ..)| *of == user).map(|(_, count, _)| count).sum();
        let name = format!("u{user}");
        eventually("all is counted", || proxy.number(&name, "bytes_out") == wanted);
        assert_eq!(proxy.number(&name, "bytes_in"), wanted);
        assert_eq!(proxy.connections(&name), (SESSIONS / USERS) as u64);
    }
    drop(sent);
    proxy.wait_until_idle(files);
    assert_eq!(proxy.stats()["users"].as_object().map(|users| users.len()), Some(USERS));
}

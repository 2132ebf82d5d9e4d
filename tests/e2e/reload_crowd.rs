//! Two hundred sessions stream while the file changes fifty times: not a byte is lost, nothing is
//! counted wrongly, and nothing is left over.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::support::client::Client;
use crate::support::dc::Dc;
use crate::support::hello::Secret;
use crate::support::origin::Origin;
use crate::support::proxy::{Config, free_port};
use crate::support::stage::HOST;
use crate::support::{Pattern, eventually};

const SESSIONS: usize = 200;
const USERS: usize = 10;
const CHANGES: usize = 50;
const PIECE: usize = 4_096;

#[test]
fn nobody_who_stays_loses_a_byte_over_fifty_changes() {
    let origin = Origin::listen();
    let secrets: Vec<Secret> = (0..USERS).map(|_| Secret::new(HOST)).collect();
    let mut config = Config::new(Dc::echoing(), origin.addr).set("", "concurrency", "1000");
    for (at, secret) in secrets.iter().enumerate() {
        config = config.user(&format!("u{at}"), secret);
    }
    let mut proxy = config.clone().start();
    let files = proxy.files();
    let clients: Vec<Client> =
        (0..SESSIONS).map(|at| Client::open(proxy.addr, &secrets[at % USERS])).collect();
    eventually("all are there", || proxy.stats()["total_connections"] == SESSIONS);

    let is_over = AtomicBool::new(false);
    let sent = thread::scope(|scope| {
        let stream = |(at, mut client): (usize, Client)| {
            let is_over = &is_over;
            scope.spawn(move || {
                let (mut said, mut heard) = (Pattern::new(at as u64), Pattern::new(at as u64));
                let mut count = 0;
                while !is_over.load(Ordering::Relaxed) || count == 0 {
                    client.up.send(&said.take(PIECE));
                    assert!(client.down.recv(PIECE) == heard.take(PIECE), "session {at}");
                    count += PIECE as u64;
                }
                (at % USERS, count, client)
            })
        };
        let streams: Vec<_> = clients.into_iter().enumerate().map(stream).collect();
        let home = proxy.addr;
        let guest = Secret::new("guest.example");
        for change in 0..CHANGES {
            let mut now = config.clone().user("zz-guest", &guest);
            let mut binds = vec![home];
            match change % 5 {
                0 => now = now.user(&format!("x{change}"), &Secret::new("new.example")),
                1 => binds.push(SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()))),
                2 => binds = vec![SocketAddr::from(([0, 0, 0, 0], home.port()))],
                3 => {
                    let said = proxy.reload_text("bind-to = 7\n");
                    assert!(said.contains("event=reload-refused"), "{said}");
                    continue;
                }
                _ => now = now.set("", "disabled-users", "[\"zz-guest\"]"),
            }
            proxy.move_to(&binds);
            let said = proxy.reload(&now);
            assert!(said.contains("event=reloaded"), "{said}");
            if change % 5 == 0 {
                // Somebody who will not be there after the next changes.
                let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, home.port()));
                let mut client = Client::open(addr, &guest);
                client.up.send(b"hello");
                assert_eq!(client.down.recv(5), b"hello");
            }
        }
        proxy.move_to(&[home]);
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
    proxy.wait_for_rest(files);
    assert_eq!(proxy.stats()["users"].as_object().map(|users| users.len()), Some(USERS));
}

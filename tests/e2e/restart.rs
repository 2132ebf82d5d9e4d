//! A recorded hello is a replay after a restart too (PROTOCOL 11, DECISIONS D200).

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::support::client::{Client, Handshake};
use crate::support::dc::Dc;
use crate::support::eventually;
use crate::support::fixture::HOST;
use crate::support::front::Front;
use crate::support::hello::{App, Hello, HelloOptions, Secret, unix_now};
use crate::support::lists::Folder;
use crate::support::peer::Peer;
use crate::support::proxy::{Config, Proxy};

/// The files and peers that remain between two runs of the program.
struct Rig {
    dc: SocketAddr,
    front: Front,
    alice: Secret,
    folder: Folder,
}

impl Rig {
    fn new() -> Self {
        let (dc, front) = (Dc::echoing(), Front::listen());
        Self { dc, front, alice: Secret::new(HOST), folder: Folder::new() }
    }

    fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    fn stateless(&self) -> Config {
        Config::new(self.dc, self.front.addr).user("alice", &self.alice)
    }

    fn start(&self) -> Proxy {
        let config = self.stateless().set("", "state-interval", "\"1s\"");
        config.set("", "state-file", &format!("{:?}", self.state())).start()
    }

    /// A hello of a client whose clock is `behind` seconds slow.
    fn hello(&self, behind: u32) -> Hello {
        let mut options = HelloOptions::new(&self.alice, App::PostQuantum);
        options.clock = unix_now() - behind;
        Hello::build(&self.alice, &options)
    }

    /// Whether a hello is answered as that of a user; the others reach the front.
    fn is_admitted(&self, proxy: &Proxy, hello: &Hello) -> bool {
        let mut peer = Peer::connect("client", proxy.addr);
        peer.send(&hello.wire);
        if let Some(conn) = self.front.accept_within(Duration::from_millis(500)) {
            assert!(conn.first == hello.wire);
            return false;
        }
        Handshake::read_answer(peer, &self.alice, hello);
        true
    }
}

fn end(mut proxy: Proxy, signal: Signal) {
    proxy.signal(signal);
    assert_eq!(proxy.wait_for_exit().success(), signal == Signal::SIGTERM);
}

#[test]
fn digests_survive_an_orderly_end_and_slow_clocks_get_in() {
    let rig = Rig::new();
    let mut proxy = rig.start();
    assert!(!rig.is_admitted(&proxy, &rig.hello(2)), "the digests before are unknown");
    let mut recorded = vec![rig.hello(0)];
    assert!(rig.is_admitted(&proxy, &recorded[0]));
    for _ in 0..3 {
        end(proxy, Signal::SIGTERM);
        thread::sleep(Duration::from_millis(1_100));
        proxy = rig.start();
        assert!(recorded.iter().all(|hello| !rig.is_admitted(&proxy, hello)));
        recorded.push(rig.hello(1));
        assert!(rig.is_admitted(&proxy, &recorded[recorded.len() - 1]), "a slow clock");
    }
    let _client = Client::open(proxy.addr, &rig.alice);
}

#[test]
fn without_its_digests_a_process_takes_no_hello_from_before_its_start() {
    let rig = Rig::new();
    for (what, signal, damage) in [
        ("killed", Signal::SIGKILL, None),
        ("damaged", Signal::SIGTERM, Some(&b"mtbox state 1\n\0\0"[..])),
        ("another file", Signal::SIGTERM, Some(b"something else")),
        ("empty", Signal::SIGTERM, Some(b"")),
    ] {
        // The first one leaves an orderly end, which must not count twice.
        end(rig.start(), Signal::SIGTERM);
        let proxy = rig.start();
        let recorded = rig.hello(0);
        assert!(rig.is_admitted(&proxy, &recorded), "{what}");
        end(proxy, signal);
        if let Some(bytes) = damage {
            fs::write(rig.state(), bytes).unwrap();
        }
        thread::sleep(Duration::from_millis(1_100));
        for _ in 0..2 {
            let proxy = rig.start();
            assert!(!rig.is_admitted(&proxy, &recorded), "{what}");
            assert!(!rig.is_admitted(&proxy, &rig.hello(20)), "{what}: a slow clock has to wait");
            let _client = Client::open(proxy.addr, &rig.alice);
            // The next one knows that these digests are lost.
            end(proxy, Signal::SIGTERM);
        }
    }
}

#[test]
fn without_a_state_file_a_hello_of_the_same_second_is_a_replay_too() {
    let rig = Rig::new();
    let mut proxy = rig.stateless().start();
    for _ in 0..3 {
        let recorded = rig.hello(0);
        assert!(rig.is_admitted(&proxy, &recorded));
        end(proxy, Signal::SIGTERM);
        proxy = rig.stateless().start();
        assert!(!rig.is_admitted(&proxy, &recorded));
    }
    assert!(rig.is_admitted(&proxy, &rig.hello(60)), "the config is younger than this hello");
}

#[test]
fn a_process_that_takes_over_from_another_gets_its_digests() {
    let rig = Rig::new();
    let old = rig.start();
    let new = rig.start();
    let recorded = rig.hello(0);
    assert!(rig.is_admitted(&old, &recorded));
    end(old, Signal::SIGTERM);
    let mut client = Client::open(new.addr, &rig.alice);
    eventually("the new process has the file", || {
        client.up.send(b"x");
        client.down.recv(1);
        new.log().contains("event=state-file path=")
    });
    assert!(!rig.is_admitted(&new, &recorded));
}

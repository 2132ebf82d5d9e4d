//! Several processes behind a real HAProxy, with the config that
//! docs/more-than-one-core-or-machine.md gives (D64).

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::support::client::Handshake;
use crate::support::dc::Dc;
use crate::support::eventually;
use crate::support::fixture::HOST;
use crate::support::front::Front;
use crate::support::hello::{App, Hello, Secret};
use crate::support::peer::Peer;
use crate::support::proxy::{Config, Proxy, free_port, is_listening};

/// Each hello is sent twice in a row, so that a balancer that takes turns fails.
const HELLOS: usize = 12;

#[test]
fn a_recorded_hello_reaches_the_process_that_knows_it() {
    let (dc, front, secret) = (Dc::listen(), Front::listen(), Secret::new(HOST));
    let start = || {
        let config = Config::new(dc.addr, front.addr).user("alice", &secret);
        let config = config.set("", "proxy-protocol-listener", "true");
        config.set("", "proxy-protocol-trusted", "[\"127.0.0.1\"]").start()
    };
    let processes = [start(), start(), start()];
    let Some(haproxy) = Haproxy::start(&processes) else { return };
    for _ in 0..HELLOS {
        let hello = Hello::new(&secret, App::PostQuantum);
        Handshake::send_hello(Peer::connect("client", haproxy.addr), &secret, &hello);
        let mut censor = Peer::connect("censor", haproxy.addr);
        censor.send(&hello.wire);
        assert_eq!(front.accept().first, hello.wire, "the site sees the second one");
    }
    let is_replay = |line: &&str| line.contains("event=fronted") && line.contains("why=replay");
    let replays = |proxy: &Proxy| proxy.log().lines().filter(is_replay).count();
    assert_eq!(processes.iter().map(replays).sum::<usize>(), HELLOS);
    let share = processes.iter().filter(|process| replays(process) > 0).count();
    assert!(share >= 2, "one process served all");
}

#[test]
fn openings_that_are_no_hello_reach_the_site_through_the_balancer() {
    let (dc, front, secret) = (Dc::listen(), Front::listen(), Secret::new(HOST));
    let config = Config::new(dc.addr, front.addr).user("alice", &secret);
    let config = config.set("", "proxy-protocol-listener", "true");
    let processes = [config.start()];
    let Some(haproxy) = Haproxy::start(&processes) else { return };
    for opening in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"\x16\x03\x01", b"\x16"] {
        let mut prober = Peer::connect("prober", haproxy.addr);
        prober.send(opening);
        prober.send_fin();
        assert_eq!(front.accept().first, opening);
    }
}

struct Haproxy {
    child: Child,
    addr: SocketAddr,
    file: PathBuf,
}

impl Haproxy {
    /// Starts it with the documented config. `None` if it is not installed.
    fn start(processes: &[Proxy]) -> Option<Self> {
        let is_installed = Command::new("haproxy").arg("-v").stdout(Stdio::null()).status().is_ok();
        if !is_installed {
            eprintln!("passed over: haproxy is not installed");
            return None;
        }
        let page =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/more-than-one-core-or-machine.md");
        let page = fs::read_to_string(page).expect("the page");
        let config = page.split("```haproxy\n").nth(1).and_then(|rest| rest.split("```").next());
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let config = config.expect("a config").replace("bind :443", &format!("bind {addr}"));
        let (head, _) = config.split_once("    server one").expect("the servers are last");
        let servers = processes.iter().enumerate().map(|(index, process)| {
            format!("    server s{index} {} send-proxy-v2\n", process.addr)
        });
        let text = [head.to_owned()].into_iter().chain(servers).collect::<String>();
        let file = std::env::temp_dir().join(format!("mtbox-haproxy-{}.cfg", addr.port()));
        fs::write(&file, text).expect("a file");
        let child = Command::new("haproxy").arg("-db").arg("-f").arg(&file).spawn();
        let haproxy = Self { child: child.expect("haproxy"), addr, file };
        eventually("haproxy listens", || is_listening(addr.port()));
        Some(haproxy)
    }
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_file(&self.file);
    }
}

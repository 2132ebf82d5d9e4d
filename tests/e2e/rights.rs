//! `run --user`: the program is somebody else before it listens, and a reload still moves it to a
//! port that is root's.

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;

use crate::support::client::Client;
use crate::support::dc::Dc;
use crate::support::hello::Secret;
use crate::support::lists::Folder;
use crate::support::origin::Origin;
use crate::support::program;
use crate::support::proxy::Config;
use crate::support::stage::{HOST, Stage};

/// Ports below 1024 need a right on this machine, and we have it.
fn is_root() -> bool {
    let status = fs::read_to_string("/proc/self/status").expect("our status");
    let is_root = field(&status, "Uid") == "0 0 0 0";
    if !is_root {
        eprintln!("skipped: only root can become somebody else");
    }
    is_root
}

fn field(status: &str, name: &str) -> String {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.expect("the field").split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn the_program_becomes_the_user_and_keeps_the_right_to_low_ports() {
    if !is_root() {
        return;
    }
    let stage = Stage::with(|config| config.flags(&["--user", "65534:65533"]));
    let status = fs::read_to_string(format!("/proc/{}/status", stage.proxy.pid())).expect("status");
    assert_eq!(field(&status, "Uid"), "65534 65534 65534 65534");
    assert_eq!(field(&status, "Gid"), "65533 65533 65533 65533");
    assert_eq!(
        (field(&status, "Groups"), field(&status, "NoNewPrivs")),
        (String::new(), "1".into())
    );
    for set in ["CapEff", "CapPrm"] {
        assert_eq!(field(&status, set), "0000000000000400", "CAP_NET_BIND_SERVICE alone in {set}");
    }
    if !is_open(stage.proxy.file()) {
        eprintln!("skipped: others may not enter the folder of the tests");
        return;
    }
    fs::set_permissions(stage.proxy.file(), Permissions::from_mode(0o644)).expect("chmod");
    let (mut client, mut session) = stage.session();
    let low = SocketAddr::from((Ipv4Addr::new(127, 0, 0, 9), low_port()));
    let old = format!("\"{}\"", stage.proxy.addr);
    let text = fs::read_to_string(stage.proxy.file()).expect("the config");
    assert!(text.contains(&old), "{text}");
    let said = stage.proxy.reload_text(&text.replace(&old, &format!("\"{low}\"")));
    assert!(said.contains("event=reloaded"), "{said}");
    client.up.send(b"still here");
    assert_eq!(session.from.recv(10), b"still here");
    let mut second = Client::open(low, &stage.secret);
    let mut session = stage.dc.accept();
    second.up.send(b"ping");
    assert_eq!(session.from.recv(4), b"ping");
    assert_eq!(stage.proxy.connections("alice"), 2);
}

#[test]
fn a_config_that_the_user_cannot_read_again_is_warned_of() {
    if !is_root() {
        return;
    }
    let secret_folder = Folder::new();
    let stage = Stage::plain();
    let text = fs::read_to_string(stage.proxy.file()).expect("the config");
    drop(stage);
    let config = secret_folder.write("mtbox.toml", &text).replace('"', "");
    fs::set_permissions(&config, Permissions::from_mode(0o600)).expect("chmod");
    let mut child = program::command()
        .args(["run", "--user", "65534:65534", &config])
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program");
    let mut lines = BufReader::new(child.stderr.take().expect("a pipe")).lines();
    let warned = lines.any(|line| line.expect("text").contains("a reload will fail"));
    child.kill().and_then(|()| child.wait()).expect("it ends");
    assert!(warned);
}

#[test]
fn who_is_not_known_is_refused_with_a_way_out() {
    let dc = Dc::listen();
    let origin = Origin::listen();
    let config = Config::new(dc.addr, origin.addr).user("alice", &Secret::new(HOST));
    let said = config.flags(&["--user", "no-such-user"]).give_up();
    assert!(said.contains("no user \"no-such-user\" in /etc/passwd; add it"), "{said}");
}

/// May others reach the file?
fn is_open(file: &Path) -> bool {
    let enters = |folder: &Path| {
        fs::metadata(folder).is_ok_and(|found| found.permissions().mode() & 0o001 != 0)
    };
    file.ancestors().skip(1).all(enters)
}

/// A port below 1024 on which nobody listens.
fn low_port() -> u16 {
    let is_free = |port: &u16| TcpListener::bind((Ipv4Addr::new(127, 0, 0, 9), *port)).is_ok();
    (700..1024).find(is_free).expect("a free port below 1024")
}

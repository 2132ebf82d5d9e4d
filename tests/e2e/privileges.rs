//! `run --user`: the program changes its user before it listens, and a reload can still move it to
//! a privileged port.

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;

use crate::support::client::Client;
use crate::support::dc::Dc;
use crate::support::fixture::{Fixture, HOST};
use crate::support::front::Front;
use crate::support::hello::Secret;
use crate::support::lists::Folder;
use crate::support::program;
use crate::support::proxy::Config;

/// Ports below 1024 need a privilege on this machine, and this process has it.
fn is_root() -> bool {
    let status = fs::read_to_string("/proc/self/status").expect("our status");
    let is_root = field(&status, "Uid") == "0 0 0 0";
    if !is_root {
        eprintln!("skipped: only root can change the user");
    }
    is_root
}

fn field(status: &str, name: &str) -> String {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.expect("the field").split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn a_crash_leaves_no_core_dump_with_secrets() {
    let fixture = Fixture::new();
    let limits = format!("/proc/{}/limits", fixture.proxy.pid());
    let limits = fs::read_to_string(limits).expect("its limits");
    let core = limits.lines().find_map(|line| line.strip_prefix("Max core file size"));
    let core: Vec<_> = core.expect("the limit").split_whitespace().take(2).collect();
    assert_eq!(core, ["0", "0"], "soft and hard");
}

#[test]
fn the_program_becomes_the_user_and_keeps_the_privilege_for_low_ports() {
    if !is_root() {
        return;
    }
    let fixture = Fixture::with(|config| config.flags(&["--user", "65534:65533"]));
    let status =
        fs::read_to_string(format!("/proc/{}/status", fixture.proxy.pid())).expect("status");
    assert_eq!(field(&status, "Uid"), "65534 65534 65534 65534");
    assert_eq!(field(&status, "Gid"), "65533 65533 65533 65533");
    assert_eq!(
        (field(&status, "Groups"), field(&status, "NoNewPrivs")),
        (String::new(), "1".into())
    );
    for set in ["CapEff", "CapPrm"] {
        assert_eq!(field(&status, set), "0000000000000400", "CAP_NET_BIND_SERVICE alone in {set}");
    }
    if !is_open(fixture.proxy.file()) {
        eprintln!("skipped: other users cannot open the folder of the tests");
        return;
    }
    fs::set_permissions(fixture.proxy.file(), Permissions::from_mode(0o644)).expect("chmod");
    let (mut client, mut session) = fixture.session();
    let low = SocketAddr::from((Ipv4Addr::new(127, 0, 0, 9), low_port()));
    let old = format!("\"{}\"", fixture.proxy.addr);
    let text = fs::read_to_string(fixture.proxy.file()).expect("the config");
    assert!(text.contains(&old), "{text}");
    let line = fixture.proxy.reload_text(&text.replace(&old, &format!("\"{low}\"")));
    assert!(line.contains("event=reloaded"), "{line}");
    client.up.send(b"still here");
    assert_eq!(session.from.recv(10), b"still here");
    let mut second = Client::open(low, &fixture.secret);
    let mut session = fixture.dc.accept();
    second.up.send(b"ping");
    assert_eq!(session.from.recv(4), b"ping");
    assert_eq!(fixture.proxy.connections("alice"), 2);
}

#[test]
fn a_config_that_the_user_cannot_read_gives_a_warning() {
    if !is_root() {
        return;
    }
    let secret_folder = Folder::new();
    let fixture = Fixture::new();
    let text = fs::read_to_string(fixture.proxy.file()).expect("the config");
    drop(fixture);
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
fn an_unknown_user_is_refused_with_a_remedy() {
    let dc = Dc::listen();
    let front = Front::listen();
    let config = Config::new(dc.addr, front.addr).user("alice", &Secret::new(HOST));
    let line = config.flags(&["--user", "no-such-user"]).run_until_exit();
    assert!(line.contains("no user \"no-such-user\" in /etc/passwd; add it"), "{line}");
}

/// Other users can read the file.
fn is_open(file: &Path) -> bool {
    let enters = |folder: &Path| {
        fs::metadata(folder).is_ok_and(|found| found.permissions().mode() & 0o001 != 0)
    };
    file.ancestors().skip(1).all(enters)
}

/// A free port below 1024.
fn low_port() -> u16 {
    let is_free = |port: &u16| TcpListener::bind((Ipv4Addr::new(127, 0, 0, 9), *port)).is_ok();
    (700..1024).find(is_free).expect("a free port below 1024")
}

//! `mtbox user …` with a running proxy: one line of the file changes, and the proxy reloads. Also
//! the output of links: JSON, plain text, and QR codes that an independent reader decodes.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

use base64ct::{Base64UrlUnpadded, Encoding};

use crate::support::client::Client;
use crate::support::dc::Dc;
use crate::support::fixture::{Fixture, HOST};
use crate::support::front::Front;
use crate::support::hello::Secret;
use crate::support::lists::Folder;
use crate::support::proxy::Config;
use crate::support::{eventually, program};

/// Runs the command in this folder. Returns exit code, stdout and stderr.
fn mtbox(folder: &Path, arguments: &[&str]) -> (i32, String, String) {
    let output = program::command()
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .expect("a run");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    (output.status.code().expect("a code"), text(output.stdout), text(output.stderr))
}

/// Runs a command that must succeed. Returns its output.
fn succeed(folder: &Path, arguments: &[&str]) -> String {
    let (code, out, stderr) = mtbox(folder, arguments);
    assert_eq!(code, 0, "{arguments:?}: {stderr}");
    out
}

/// The secret in a `tg://` link.
fn secret_of(out: &str) -> Secret {
    let link = out.lines().find(|line| line.starts_with("tg://")).expect("a link");
    let secret = link.split("secret=").nth(1).and_then(|rest| rest.split('&').next());
    let bytes = Base64UrlUnpadded::decode_vec(secret.expect("a secret")).expect("base64");
    let (head, host) = bytes.split_at(17);
    let key = head.strip_prefix(&[0xee]).expect("a FakeTLS secret").try_into().expect("16 bytes");
    Secret { key, host: String::from_utf8(host.to_vec()).expect("a host") }
}

#[test]
fn users_are_added_rotated_and_removed_while_others_are_connected() {
    let folder = Folder::new();
    let pid = folder.path().join("pid");
    let fixture = Fixture::with(|config| {
        config.set("", "pid-file", &format!("{pid:?}")).set("", "public-ipv4", "\"192.0.2.1\"")
    });
    let file = fixture.proxy.file().to_str().expect("a path").to_owned();
    let run =
        |arguments: &[&str]| succeed(folder.path(), &[arguments, &["--config", &file]].concat());
    let reloads = || fixture.proxy.log().matches("event=reloaded").count();
    let (mut client, mut session) = fixture.session();

    let out = run(&["user", "add", "bob"]);
    assert!(
        out.contains("Added bob.\n") && out.ends_with("Reloaded the running proxy.\n"),
        "{out}"
    );
    let bob = secret_of(&out);
    assert_eq!(bob.host, HOST, "as the other users");
    eventually("the file is reloaded", || reloads() == 1);
    let mut bob_client = Client::open(fixture.proxy.addr, &bob);
    bob_client.up.send(b"hello");
    assert_eq!(fixture.dc.accept().from.recv(5), b"hello");

    let rotated = secret_of(&run(&["user", "rotate", "bob"]));
    assert!(rotated.key != bob.key && rotated.host == bob.host);
    assert!(bob_client.down.recv_rest().0.is_empty(), "the old secret's sessions end");
    eventually("the file is reloaded", || reloads() == 2);
    let mut bob_client = Client::open(fixture.proxy.addr, &rotated);
    bob_client.up.send(b"again");
    assert_eq!(fixture.dc.accept().from.recv(5), b"again");

    assert!(run(&["user", "disable", "bob"]).starts_with("Disabled bob.\n"));
    assert!(bob_client.down.recv_rest().0.is_empty());
    assert_eq!(run(&["user", "list"]), format!("alice  {HOST}\nbob    {HOST}  disabled\n"));
    let listed: serde_json::Value =
        serde_json::from_str(&run(&["user", "list", "--json"])).expect("JSON");
    assert_eq!(listed[1], serde_json::json!({"name": "bob", "host": HOST, "enabled": false}));
    assert!(run(&["user", "enable", "bob"]).starts_with("Enabled bob.\n"));
    eventually("the file is reloaded", || reloads() == 4);
    assert_eq!(run(&["user", "remove", "bob"]), "Removed bob.\nReloaded the running proxy.\n");
    eventually("the file is reloaded", || reloads() == 5);
    assert!(fixture.proxy.stats()["users"].get("bob").is_none());
    client.up.send(b"still");
    assert_eq!(session.from.recv(5), b"still");
    assert_eq!(fixture.proxy.log().matches("event=reload-refused").count(), 0);
}

#[test]
fn the_largest_commented_config_changes_by_one_line() {
    let folder = Folder::new();
    let example = succeed(folder.path(), &["example-config"]);
    let file = folder.path().join("mtbox.toml");
    fs::write(&file, &example).unwrap();
    let (code, out, stderr) =
        mtbox(folder.path(), &["user", "add", "zoé", "--host", "www.example.com"]);
    assert_eq!(code, 0, "{stderr}");
    assert!(stderr.contains("cannot be used yet: bind-to: missing"), "{stderr}");
    let after = fs::read_to_string(&file).unwrap();
    let lines: Vec<&str> =
        after.lines().filter(|line| !example.lines().any(|l| l == *line)).collect();
    assert!(lines.len() == 1 && lines[0].starts_with("\"zoé\" = \""), "{lines:?} {out}");
    let without: Vec<&str> = after.lines().filter(|line| !lines.contains(line)).collect();
    assert_eq!(without, example.lines().collect::<Vec<&str>>());
    // A complete config of the reference, with a comment on every second line.
    let maximal = include_str!("../data/config/maximal.toml");
    fs::write(&file, maximal).unwrap();
    if cfg!(feature = "tls") {
        for (verb, changed) in [("disable", 1), ("enable", 0)] {
            succeed(folder.path(), &["user", verb, "alice"]);
            let after = fs::read_to_string(&file).unwrap();
            let new = after.lines().filter(|line| !maximal.lines().any(|l| l == *line));
            assert_eq!(new.filter(|line| *line != "disabled-users = []").count(), changed);
        }
    }
}

#[test]
fn the_file_keeps_its_mode_and_its_link_and_survives_failures() {
    let folder = Folder::new();
    let (dc, front) = (Dc::listen(), Front::listen());
    let config = Config::new(dc.addr, front.addr).user("alice", &Secret::new(HOST));
    let text = config.text();
    let (real, link) = (folder.path().join("real.toml"), folder.path().join("mtbox.toml"));
    fs::write(&real, &text).unwrap();
    fs::set_permissions(&real, fs::Permissions::from_mode(0o640)).unwrap();
    symlink(&real, &link).unwrap();
    // The temporary file of an interrupted edit.
    fs::write(folder.path().join(".real.toml.1.new"), "half").unwrap();
    let owner = fs::metadata(&real).unwrap().uid();
    let out = succeed(folder.path(), &["user", "add", "bob"]);
    assert!(out.contains("If mtbox is running, reload it: "), "{out}");
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    let found = fs::metadata(&real).unwrap();
    assert_eq!((found.mode() & 0o7777, found.uid()), (0o640, owner));
    let left: Vec<_> = fs::read_dir(folder.path()).unwrap().flatten().collect();
    assert_eq!(left.len(), 3, "no temporary file is left: {left:?}");

    let before = fs::read(&real).unwrap();
    for (arguments, wanted) in [
        (&["user", "add", "bob"][..], "user \"bob\" already exists"),
        (&["user", "add", ""], "a name must have 1 to 64 bytes"),
        (&["user", "remove", "carol"], "no user is called \"carol\""),
        (&["user", "rotate", "carol"], "no user is called \"carol\""),
        (&["user", "enable", "bob"], "\"bob\" is not disabled"),
    ] {
        let (code, _, stderr) = mtbox(folder.path(), arguments);
        assert_eq!(code, 1, "{arguments:?}");
        assert!(stderr.contains(wanted), "{arguments:?}: {stderr}");
        assert_eq!(fs::read(&real).unwrap(), before);
    }
    for (arguments, wanted) in [
        (&["user"][..], "user what? Write one of add, remove, rotate, disable, enable, list"),
        (&["user", "ad"], "unknown command \"user ad\"; did you mean user add?"),
        (&["user", "add"], "NAME is missing"),
        (&["user", "add", "x", "--host", "a b"], "host"),
        (&["user", "list", "--config", "none.toml"], "none.toml"),
    ] {
        let (code, _, stderr) = mtbox(folder.path(), arguments);
        assert_ne!(code, 0, "{arguments:?}");
        assert!(stderr.contains(wanted), "{arguments:?}: {stderr}");
    }
    let empty = Folder::new();
    let (code, _, stderr) = mtbox(empty.path(), &["user", "list"]);
    assert_eq!(code, 80);
    assert!(stderr.contains("name the file with --config PATH"), "{stderr}");
}

#[test]
fn a_pid_of_another_program_gets_no_signal() {
    let folder = Folder::new();
    let mut other = Command::new("sleep").arg("60").spawn().expect("a program");
    let pid = folder.path().join("pid");
    fs::write(&pid, format!("{}\n", other.id())).unwrap();
    let (dc, front) = (Dc::listen(), Front::listen());
    let config = Config::new(dc.addr, front.addr).user("alice", &Secret::new(HOST));
    let config = config.set("", "pid-file", &format!("{pid:?}"));
    fs::write(folder.path().join("mtbox.toml"), config.text()).unwrap();
    let out = succeed(folder.path(), &["user", "add", "bob"]);
    assert!(
        out.ends_with("The proxy is not running; it reads the config when it starts.\n"),
        "{out}"
    );
    assert!(other.try_wait().unwrap().is_none(), "HUP would have ended it");
    other.kill().unwrap();
    other.wait().unwrap();
}

fn links_config(folder: &Path) -> (Secret, Secret) {
    let (dc, front) = (Dc::listen(), Front::listen());
    let (alice, bob) = (Secret::new("www.example.com"), Secret::new("www.example.com"));
    let config = Config::new(dc.addr, front.addr)
        .user("alice", &alice)
        .user("bob", &bob)
        .user("carol", &Secret::new("www.example.com"))
        .set("", "disabled-users", "[\"carol\"]")
        .set("", "public-ipv4", "\"203.0.113.77\"")
        .set("", "public-ipv6", "\"2001:db8:1234:5678:9abc:def0:1234:5678\"")
        .set("", "bind-to", "\"127.0.0.1:443\"");
    fs::write(folder.join("mtbox.toml"), config.text()).unwrap();
    (alice, bob)
}

#[test]
fn plain_links_are_one_per_line() {
    let folder = Folder::new();
    let (alice, bob) = links_config(folder.path());
    let out = succeed(folder.path(), &["access", "mtbox.toml", "--plain"]);
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines.len(), 4, "both families of both users: {out}");
    for (line, (name, secret)) in
        lines.iter().zip([("alice", &alice), ("alice", &alice), ("bob", &bob), ("bob", &bob)])
    {
        let link = line.strip_prefix(&format!("{name}\t")).expect("the name");
        assert_eq!(secret_of(link).key, secret.key);
    }
    let out = succeed(folder.path(), &["access", "mtbox.toml", "--plain", "--user", "bob", "-x"]);
    assert!(out.starts_with("tg://proxy?port=443&secret=ee"), "{out}");
    assert_eq!(out.lines().count(), 2);
    let all = succeed(folder.path(), &["access", "mtbox.toml"]);
    assert!(!all.contains("carol"), "a user without a working link has none");
}

#[test]
#[cfg(feature = "qr")]
fn qr_codes_are_decoded_by_an_independent_reader_and_fit_a_terminal() {
    let folder = Folder::new();
    links_config(folder.path());
    let out = succeed(folder.path(), &["access", "mtbox.toml", "--qr"]);
    let mut seen = 0;
    for part in out.split_inclusive("tg://").collect::<Vec<_>>().windows(2) {
        let picture: Vec<&str> = part[0]
            .lines()
            .filter(|line| line.contains(['\u{2588}', '\u{2580}', '\u{2584}']))
            .collect();
        assert!(picture.len() < 24, "{} lines", picture.len());
        assert!(picture.iter().all(|line| line.chars().count() <= 80));
        let link = format!("tg://{}", part[1].lines().next().expect("the rest"));
        assert_eq!(read_picture(&picture), link);
        seen += 1;
    }
    assert_eq!(seen, 2, "{out}");
    let long = format!("{}.example.com", "a".repeat(50));
    let out = succeed(folder.path(), &["user", "add", "dora", "--qr", "--host", &long]);
    let picture: Vec<&str> =
        out.lines().filter(|line| line.contains(['\u{2588}', '\u{2580}', '\u{2584}'])).collect();
    assert_eq!(secret_of(&read_picture(&picture)).host, long);
}

/// Converts the characters to pixels and decodes them. Set pixels are light: the code is for a
/// terminal with a dark background.
#[cfg(feature = "qr")]
fn read_picture(lines: &[&str]) -> String {
    const SCALE: usize = 4;
    let rows: Vec<Vec<bool>> = lines
        .iter()
        .flat_map(|line| {
            let upper = line.chars().map(|c| matches!(c, '\u{2588}' | '\u{2580}')).collect();
            let lower = line.chars().map(|c| matches!(c, '\u{2588}' | '\u{2584}')).collect();
            [upper, lower]
        })
        .collect();
    let (width, height) = (rows[0].len() * SCALE, rows.len() * SCALE);
    let mut image = rqrr::PreparedImage::prepare_from_greyscale(width, height, |x, y| {
        if rows[y / SCALE][x / SCALE] { 255 } else { 0 }
    });
    let grids = image.detect_grids();
    assert_eq!(grids.len(), 1, "one code");
    grids[0].decode().expect("a code that can be read").1
}

//! `state-file`: totals survive every end of the program, and an invalid file does not end it
//! (COMPATIBILITY D8).

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::support::client::Client;
use crate::support::dc::Dc;
use crate::support::fixture::HOST;
use crate::support::front::Front;
use crate::support::hello::Secret;
use crate::support::lists::Folder;
use crate::support::proxy::{Config, Proxy};
use crate::support::{QUIET, eventually, holds_within};

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

    fn file(&self) -> PathBuf {
        self.folder.path().join("in/here/state")
    }

    /// A config with one user that writes the file at this interval.
    fn config(&self, every: &str) -> Config {
        Config::new(self.dc, self.front.addr)
            .user("alice", &self.alice)
            .set("", "state-file", &format!("{:?}", self.file()))
            .set("", "state-interval", &format!("{every:?}"))
    }

    fn start(&self, every: &str) -> Proxy {
        self.config(every).start()
    }

    /// Transfers `count` bytes in each direction.
    fn transfer(&self, proxy: &Proxy, secret: &Secret, count: usize) {
        let mut client = Client::open(proxy.addr, secret);
        client.up.send(&vec![7; count]);
        client.down.recv(count);
    }

    /// The name of the file after it was renamed as invalid.
    fn renamed_file(&self) -> PathBuf {
        self.file().with_extension("bad")
    }
}

fn stop(mut proxy: Proxy) {
    proxy.signal(Signal::SIGTERM);
    assert!(proxy.wait_for_exit().success());
}

/// Kills the program, like a power failure.
fn kill(mut proxy: Proxy) {
    proxy.signal(Signal::SIGKILL);
    proxy.wait_for_exit();
}

fn totals(proxy: &Proxy, name: &str) -> (u64, u64) {
    (proxy.number(name, "total_bytes_in"), proxy.number(name, "total_bytes_out"))
}

fn last_seen(proxy: &Proxy, name: &str) -> Value {
    proxy.stats()["users"][name]["last_seen"].clone()
}

/// Waits until the file is larger than `before`.
fn wait_for_growth(file: &Path, before: u64) {
    eventually("a batch is written", || length(file) > before);
}

fn length(file: &Path) -> u64 {
    fs::metadata(file).map_or(0, |found| found.len())
}

fn inode(file: &Path) -> u64 {
    fs::metadata(file).expect("a file").ino()
}

#[test]
fn totals_and_last_seen_survive_a_restart_and_counters_begin_at_zero() {
    let rig = Rig::new();
    let proxy = rig.start("10m");
    assert_eq!(totals(&proxy, "alice"), (0, 0));
    rig.transfer(&proxy, &rig.alice, 1000);
    assert_eq!(totals(&proxy, "alice"), (1000, 1000));
    let seen = last_seen(&proxy, "alice");
    stop(proxy);
    assert_eq!(fs::metadata(rig.file()).expect("a file").permissions().mode() & 0o777, 0o600);

    let proxy = rig.start("10m");
    assert_eq!(totals(&proxy, "alice"), (1000, 1000));
    assert_eq!(proxy.number("alice", "bytes_in"), 0);
    let kept = last_seen(&proxy, "alice");
    let second = |time: &Value| time.as_str().expect("a time")[..19].to_owned();
    assert_eq!(second(&kept), second(&seen));
    rig.transfer(&proxy, &rig.alice, 50);
    assert_eq!(totals(&proxy, "alice"), (1050, 1050));
    assert_eq!(proxy.number("alice", "bytes_in"), 50);
    assert!(last_seen(&proxy, "alice").as_str() > kept.as_str());
}

#[test]
fn fields_are_added_after_bytes_out_and_only_on_request() {
    let rig = Rig::new();
    let body = |proxy: &Proxy| crate::support::stats::get(proxy.api, "/stats").body;
    let proxy = rig.start("10m");
    let part = r#""bytes_out":0,"total_bytes_in":0,"total_bytes_out":0,"last_seen":null}"#;
    assert!(body(&proxy).contains(part), "{}", body(&proxy));
    let plain = rig.config("10m").without("", "state-file").start();
    assert!(!body(&plain).contains("total_bytes"), "{}", body(&plain));
}

#[test]
fn a_power_cut_costs_at_most_the_last_interval() {
    let rig = Rig::new();
    let proxy = rig.start("1s");
    let before = length(&rig.file());
    let mut client = Client::open(proxy.addr, &rig.alice);
    for round in 1..=3u64 {
        let before = length(&rig.file());
        client.up.send(&[7; 100]);
        client.down.recv(100);
        wait_for_growth(&rig.file(), before);
        assert_eq!(totals(&proxy, "alice"), (round * 100, round * 100));
    }
    assert!(length(&rig.file()) < before + 200, "batches of a few bytes");
    kill(proxy);
    let proxy = rig.start("1s");
    let (up, down) = totals(&proxy, "alice");
    assert!((200..=300).contains(&up) && (200..=300).contains(&down), "{up} {down}");
    assert!(!proxy.log().contains("level=warn"), "{}", proxy.log());
}

#[test]
fn nothing_is_written_and_the_program_sleeps_while_nothing_changes() {
    let rig = Rig::new();
    let proxy = rig.start("1s");
    let _client = Client::open(proxy.addr, &rig.alice);
    eventually("it sleeps", || {
        let (wakes, length) = (proxy.wake_ups(), length(&rig.file()));
        let wakes_or_writes = || proxy.wake_ups() > wakes || self::length(&rig.file()) > length;
        !holds_within(QUIET * 6, wakes_or_writes)
    });
}

#[test]
fn a_truncated_file_loses_its_end_and_is_used() {
    let rig = Rig::new();
    let mut proxy = rig.start("10m");
    // Each reload writes the file.
    for count in [100, 11] {
        rig.transfer(&proxy, &rig.alice, count);
        proxy.reload(&rig.config("10m"));
    }
    kill(proxy);
    let file = fs::OpenOptions::new().write(true).open(rig.file()).expect("the file");
    file.set_len(length(&rig.file()) - 1).expect("a shorter file");

    let proxy = rig.start("1s");
    assert!(proxy.log().contains("event=state-file-damaged"), "{}", proxy.log());
    assert_eq!(totals(&proxy, "alice"), (100, 100));
    rig.transfer(&proxy, &rig.alice, 1);
    stop(proxy);
    let proxy = rig.start("1s");
    assert_eq!(totals(&proxy, "alice"), (101, 101));
    assert!(!proxy.log().contains("event=state-file-damaged"), "{}", proxy.log());
    assert!(!rig.renamed_file().exists(), "a truncated end is not kept");
}

#[test]
fn a_file_that_is_not_a_totals_file_is_renamed() {
    let rig = Rig::new();
    let file = rig.file();
    fs::create_dir_all(file.parent().expect("a folder")).expect("a folder");
    for content in [&b"certainly something else"[..], &[0; 100], &vec![0xff; 9 << 20]] {
        fs::write(&file, content).expect("a file");
        let proxy = rig.start("10m");
        assert_eq!(proxy.log().matches("event=state-file-unusable").count(), 1, "{}", proxy.log());
        assert_eq!(totals(&proxy, "alice"), (0, 0));
        assert!(fs::read(rig.renamed_file()).expect("a copy") == content);
        rig.transfer(&proxy, &rig.alice, 9);
        stop(proxy);
        assert_eq!(totals(&rig.start("10m"), "alice"), (9, 9));
    }
}

#[test]
fn a_file_damaged_in_the_middle_is_renamed_and_kept() {
    let rig = Rig::new();
    let proxy = rig.start("10m");
    rig.transfer(&proxy, &rig.alice, 9);
    stop(proxy);
    let mut bytes = fs::read(rig.file()).expect("a file");
    bytes.extend_from_slice(&[5; 5000]);
    fs::write(rig.file(), &bytes).expect("a file");
    let proxy = rig.start("10m");
    assert_eq!(totals(&proxy, "alice"), (9, 9));
    assert!(proxy.log().contains("lost_bytes=5000"), "{}", proxy.log());
    assert!(fs::read(rig.renamed_file()).expect("a copy") == bytes);
    assert!(length(&rig.file()) < 100);
}

#[test]
fn a_folder_that_cannot_be_written_gives_a_warning_until_it_can() {
    let rig = Rig::new();
    let folder = rig.folder.path().join("in");
    fs::write(&folder, "a file").expect("a file");
    let proxy = rig.start("1s");
    assert!(proxy.log().contains("level=warn event=state-file-failed"), "{}", proxy.log());
    assert!(proxy.stats()["users"]["alice"].get("total_bytes_in").is_none(), "they are unknown");
    rig.transfer(&proxy, &rig.alice, 500);
    let _client = Client::open(proxy.addr, &rig.alice);
    fs::remove_file(&folder).expect("removed");
    eventually("the next interval writes it", || length(&rig.file()) > 14);
    assert_eq!(totals(&proxy, "alice"), (500, 500));
    stop(proxy);
    assert_eq!(totals(&rig.start("1s"), "alice"), (500, 500));
}

#[test]
fn a_read_only_file_is_still_read() {
    let rig = Rig::new();
    let proxy = rig.start("1s");
    rig.transfer(&proxy, &rig.alice, 500);
    stop(proxy);
    let set_mode = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("a mode");
    };
    let (file, folder) = (rig.file(), rig.folder.path().join("in/here"));
    set_mode(&file, 0o400);
    set_mode(&folder, 0o500);
    let proxy = rig.config("1s").unprivileged().start();
    assert!(proxy.log().contains("event=state-file-failed"), "{}", proxy.log());
    assert_eq!(totals(&proxy, "alice"), (500, 500));
    rig.transfer(&proxy, &rig.alice, 30);
    assert_eq!(totals(&proxy, "alice"), (530, 530));
    set_mode(&folder, 0o700);
    set_mode(&file, 0o600);
    let before = inode(&file);
    // Bytes that could not be written are kept after the session.
    eventually("it is written later", || inode(&file) != before);
    stop(proxy);
    assert_eq!(totals(&rig.start("1s"), "alice"), (530, 530));
}

#[test]
fn a_batch_that_does_not_fit_leaves_no_partial_data() {
    let rig = Rig::new();
    let long = "b".repeat(600);
    let proxy = rig.config("1s").user(&long, &Secret::new(HOST)).start();
    rig.transfer(&proxy, &rig.alice, 100);
    stop(proxy);
    // Each start compacts the file.
    stop(rig.config("1s").user(&long, &Secret::new(HOST)).start());
    let before = fs::read(rig.file()).expect("a file");

    let bob = Secret::new(HOST);
    let proxy = rig.config("1s").user(&long, &bob).full_disk(1).start();
    rig.transfer(&proxy, &bob, 20);
    eventually("it does not fit", || proxy.log().contains("event=state-file-failed"));
    // Only the digests of the last run are cut off.
    let now = fs::read(rig.file()).expect("a file");
    assert!(now.len() > 14 && before.starts_with(&now), "{now:?} {before:?}");
    proxy.clear_disk();
    eventually("it fits", || length(&rig.file()) > 600);
    assert_eq!(totals(&proxy, &long), (20, 20));
    stop(proxy);
    let proxy = rig.config("1s").user(&long, &bob).start();
    assert_eq!((totals(&proxy, &long), totals(&proxy, "alice")), ((20, 20), (100, 100)));
    assert!(!proxy.log().contains("event=state-file-damaged"), "{}", proxy.log());
}

#[test]
fn bytes_written_by_other_programs_are_cut_off() {
    let rig = Rig::new();
    let proxy = rig.start("1s");
    rig.transfer(&proxy, &rig.alice, 100);
    wait_for_growth(&rig.file(), 14);
    let mut bytes = fs::read(rig.file()).expect("a file");
    bytes.extend_from_slice(b"junk");
    fs::write(rig.file(), &bytes).expect("a file");
    let before = inode(&rig.file());
    rig.transfer(&proxy, &rig.alice, 1);
    eventually("the file is rewritten", || inode(&rig.file()) != before);
    fs::remove_file(rig.file()).expect("removed");
    rig.transfer(&proxy, &rig.alice, 1);
    eventually("the file is created again", || rig.file().exists());
    stop(proxy);
    assert_eq!(totals(&rig.start("1s"), "alice"), (102, 102));
}

#[test]
fn two_programs_do_not_share_a_file_and_the_second_continues_it() {
    let rig = Rig::new();
    let first = rig.start("1s");
    rig.transfer(&first, &rig.alice, 100);
    let second = rig.start("1s");
    assert!(second.log().contains("event=state-file-locked"), "{}", second.log());
    assert!(second.stats()["users"]["alice"].get("total_bytes_in").is_none());
    rig.transfer(&second, &rig.alice, 10);
    stop(first);
    let _client = Client::open(second.addr, &rig.alice);
    eventually("the second one uses the file", || {
        second.stats()["users"]["alice"].get("total_bytes_in").is_some()
    });
    assert_eq!(totals(&second, "alice"), (110, 110));
}

#[test]
fn a_user_who_is_removed_and_added_again_keeps_the_totals() {
    let rig = Rig::new();
    let bob = Secret::new(HOST);
    let mut proxy = rig.config("10m").user("bob", &bob).start();
    rig.transfer(&proxy, &bob, 40);
    rig.transfer(&proxy, &rig.alice, 7);
    proxy.reload(&rig.config("10m"));
    let at = length(&rig.file());
    assert!(at > 14, "a reload writes the file");
    proxy.reload(&rig.config("10m").user("bob", &bob));
    assert_eq!(totals(&proxy, "bob"), (40, 40));
    assert_eq!(proxy.number("bob", "bytes_in"), 0);
    proxy.reload(&rig.config("10m").user("bob", &bob).set("", "disabled-users", "[\"bob\"]"));
    proxy.reload(&rig.config("10m"));
    kill(proxy);

    let mut proxy = rig.start("10m");
    assert!(proxy.stats()["users"].get("bob").is_none());
    proxy.reload(&rig.config("10m").user("bob", &bob));
    assert_eq!(totals(&proxy, "bob"), (40, 40));
    assert!(last_seen(&proxy, "bob").is_string());
    rig.transfer(&proxy, &bob, 2);
    assert_eq!((totals(&proxy, "bob"), totals(&proxy, "alice")), ((42, 42), (7, 7)));
}

#[test]
fn a_reload_can_enable_move_and_disable_totals() {
    let rig = Rig::new();
    let off = rig.config("10m").without("", "state-file");
    let other = rig.folder.path().join("other");
    let elsewhere = rig.config("10m").set("", "state-file", &format!("{other:?}"));
    let mut proxy = off.clone().start();
    rig.transfer(&proxy, &rig.alice, 3);
    proxy.reload(&rig.config("10m"));
    assert_eq!(totals(&proxy, "alice"), (3, 3));
    rig.transfer(&proxy, &rig.alice, 4);
    proxy.reload(&elsewhere);
    assert_eq!(totals(&proxy, "alice"), (7, 7));
    // That file was used before; missing totals are added.
    rig.transfer(&proxy, &rig.alice, 1);
    proxy.reload(&rig.config("10m"));
    assert_eq!(totals(&proxy, "alice"), (7, 7));
    proxy.reload(&off);
    assert!(proxy.stats()["users"]["alice"].get("total_bytes_in").is_none());
    kill(proxy);
    assert_eq!(totals(&elsewhere.start(), "alice"), (8, 8));
}

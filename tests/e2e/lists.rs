//! Who may connect at all: block and allow lists, from files and from the web, good and bad.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};

use crate::support::authority::Authority;
use crate::support::client::Visitor;
use crate::support::eventually;
use crate::support::hello::{Hello, Shape};
use crate::support::obfuscated2::DD;
use crate::support::peer::{End, Peer};
use crate::support::proxy::{Config, Proxy, free_port};
use crate::support::stage::Stage;
use crate::support::web::{Web, page, redirect};

const LISTED: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const OTHER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);

/// A folder that is gone with the test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::SeqCst);
        let name = format!("lists-{}-{number}", std::process::id());
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        fs::write(&path, text).expect("a file");
        format!("{:?}", path.to_str().expect("UTF-8"))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn with_list(config: Config, name: &str, sources: &str) -> Config {
    let table = format!("defense.{name}");
    config.set(&table, "enabled", "true").set(&table, "urls", &format!("[{sources}]"))
}

fn quoted(web: &Web, path: &str) -> String {
    format!("{:?}", web.url(path))
}

/// Alice comes from this address and is served.
fn assert_served(stage: &Stage, from: Ipv4Addr) {
    let peer = Peer::connect_from("client", from, stage.proxy.addr);
    let hello = Hello::fresh(&stage.secret, Shape::PostQuantum);
    let mut client = Visitor::greet(peer, &stage.secret, &hello).begin(DD, 2);
    client.up.send(b"hello");
    assert_eq!(stage.dc.accept().from.recv(5), b"hello");
}

/// Alice comes from this address and is turned away with FIN, without a byte and without a word
/// to the origin.
fn assert_refused(stage: &Stage, from: Ipv4Addr) {
    let knocks = stage.origin.knocks();
    let mut peer = Peer::connect_from("client", from, stage.proxy.addr);
    assert_eq!(peer.recv_rest(), (Vec::new(), End::Fin), "{from}");
    assert_eq!(stage.origin.knocks(), knocks);
}

fn loaded(proxy: &Proxy, list: &str) {
    let word = format!("event=list name={list}");
    eventually("the list is loaded", || proxy.log().contains(&word));
}

#[test]
fn a_bad_line_costs_nothing_but_itself() {
    let folder = Folder::new();
    let file = folder.write("a", "# head\nno network\n192.0.2.0/24\n1.2.3.4/99\n127.0.0.2 # x\n");
    let stage = Stage::with(|config| with_list(config, "blocklist", &file));
    assert_refused(&stage, LISTED);
    assert_served(&stage, OTHER);
    let stats = &stage.proxy.stats()["lists"]["blocklist"];
    assert_eq!(
        (&stats["entries"], &stats["bad_lines"], &stats["refused"]),
        (&2.into(), &2.into(), &1.into())
    );
    assert!(stats["updated"].is_string());
    let log = stage.proxy.log();
    assert!(log.contains("event=refused list=blocklist source=") && log.contains("home networks"));
    assert!(!log.contains("127.0.0.2"), "client addresses are cut");
}

#[test]
fn a_refresh_that_fails_keeps_the_last_good_list() {
    for failure in [
        b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n".to_vec(),
        b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n10.0.0.0/8\n".to_vec(),
        redirect("/again"),
        b"nonsense\r\n\r\n".to_vec(),
    ] {
        let broken = Arc::new(AtomicBool::new(false));
        let is_broken = Arc::clone(&broken);
        let web = Web::plain(move |_, out| match is_broken.load(Ordering::SeqCst) {
            true => out.write_all(&failure),
            false => out.write_all(&page("127.0.0.2\n")),
        });
        let stage = Stage::with(|config| {
            let config = config.set("defense.blocklist", "update-each", "\"1s\"");
            with_list(config, "blocklist", &quoted(&web, "/"))
        });
        loaded(&stage.proxy, "blocklist");
        broken.store(true, Ordering::SeqCst);
        eventually("a refresh fails", || {
            stage.proxy.log().contains("event=list-failed name=blocklist")
        });
        assert!(stage.proxy.log().contains("kept=\"the last good copy\""));
        assert_refused(&stage, LISTED);
        assert_served(&stage, OTHER);
        broken.store(false, Ordering::SeqCst);
    }
}

#[test]
fn an_allowlist_that_never_came_lets_nobody_in_and_says_so() {
    let source = format!("\"http://127.0.0.1:{}/\"", free_port());
    let stage = Stage::with(|config| with_list(config, "allowlist", &source));
    for _ in 0..3 {
        assert_refused(&stage, LISTED);
    }
    let log = stage.proxy.log();
    assert_eq!(log.matches("event=allowlist-empty").count(), 1, "once a minute:\n{log}");
}

#[test]
fn an_allowlist_outlives_its_server() {
    let broken = Arc::new(AtomicBool::new(false));
    let is_broken = Arc::clone(&broken);
    let web = Web::plain(move |_, out| match is_broken.load(Ordering::SeqCst) {
        true => Err(std::io::ErrorKind::ConnectionReset.into()),
        false => out.write_all(&page("127.0.0.2\n")),
    });
    let stage = Stage::with(|config| {
        let config = config.set("defense.allowlist", "update-each", "\"1s\"");
        with_list(config, "allowlist", &quoted(&web, "/"))
    });
    loaded(&stage.proxy, "allowlist");
    broken.store(true, Ordering::SeqCst);
    eventually("a refresh fails", || stage.proxy.log().contains("event=list-failed"));
    assert_served(&stage, LISTED);
    assert_refused(&stage, OTHER);
}

#[test]
fn who_is_on_both_lists_is_refused() {
    let folder = Folder::new();
    let (allow, block) =
        (folder.write("allow", "127.0.0.0/30\n"), folder.write("block", "127.0.0.2\n"));
    let stage = Stage::with(|config| {
        with_list(with_list(config, "allowlist", &allow), "blocklist", &block)
    });
    assert_refused(&stage, LISTED);
    assert_refused(&stage, Ipv4Addr::new(127, 0, 0, 9));
    assert_served(&stage, OTHER);
}

#[test]
fn a_file_that_changes_is_read_again() {
    let folder = Folder::new();
    let file = folder.write("a", "192.0.2.1\n");
    let stage = Stage::with(|config| {
        let config = config.set("defense.blocklist", "update-each", "\"1s\"");
        with_list(config, "blocklist", &file)
    });
    assert_served(&stage, LISTED);
    folder.write("a", "192.0.2.1\n127.0.0.2\n");
    eventually("the file is read again", || stage.proxy.log().contains("entries=2"));
    assert_refused(&stage, LISTED);
    fs::remove_file(folder.0.join("a")).expect("a file");
    eventually("it is missed", || stage.proxy.log().contains("event=list-failed"));
    assert_refused(&stage, LISTED);
}

#[test]
fn no_more_are_fetched_at_once_than_allowed() {
    let pair = Arc::new(Barrier::new(2));
    let web = Web::plain(move |_, out| {
        // Two must come together, or neither gets on.
        pair.wait();
        out.write_all(&page("127.0.0.2\n"))
    });
    let sources = ["/a", "/b", "/c", "/d", "/e", "/f"].map(|path| quoted(&web, path)).join(", ");
    let stage = Stage::with(|config| {
        let config = config.set("defense.blocklist", "download-concurrency", "2");
        with_list(config, "blocklist", &sources)
    });
    eventually("all have come", || {
        stage.proxy.log().matches("event=list name=blocklist").count() == 6
    });
    assert_eq!(web.most_open(), 2);
    assert_refused(&stage, LISTED);
}

#[test]
fn what_has_not_changed_is_not_sent_again() {
    let web = Web::plain(|head, out| match head.contains("If-None-Match: \"v1\"\r\n") {
        true => out.write_all(b"HTTP/1.1 304 Not Modified\r\n\r\n"),
        false => out
            .write_all(b"HTTP/1.1 200 OK\r\nETag: \"v1\"\r\nContent-Length: 10\r\n\r\n127.0.0.2\n"),
    });
    let stage = Stage::with(|config| {
        let config = config.set("defense.blocklist", "update-each", "\"1s\"");
        with_list(config, "blocklist", &quoted(&web, "/"))
    });
    eventually("it is asked for three times", || web.requests().len() >= 3);
    assert_refused(&stage, LISTED);
    assert_eq!(stage.proxy.log().matches("event=list name=blocklist").count(), 1);
}

#[test]
fn an_endless_list_is_cut_off() {
    let web = Web::plain(|_, out| {
        out.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
        let block = "# nothing\n".repeat(100_000);
        for _ in 0..1024 {
            out.write_all(block.as_bytes())?;
        }
        Ok(())
    });
    let stage = Stage::with(|config| with_list(config, "blocklist", &quoted(&web, "/")));
    let before = stage.proxy.resident_kib();
    eventually("it is refused", || stage.proxy.log().contains("larger than 16777216 bytes"));
    assert!(stage.proxy.resident_kib() < before + 2048);
    assert_served(&stage, LISTED);
}

/// Gotcha A7 for lists: a server that hangs delays no client.
#[test]
fn a_list_that_does_not_come_delays_nobody() {
    let web = Web::plain(|_, _| {
        std::thread::park();
        Ok(())
    });
    let stage = Stage::with(|config| with_list(config, "blocklist", &quoted(&web, "/")));
    eventually("it is asked", || web.connections() == 1);
    assert_served(&stage, LISTED);
}

/// Starts with a cache folder and one source; `None` = a server that is not there.
fn cached(folder: &Folder, addr: SocketAddr) -> Stage {
    Stage::with(|config| {
        let config = config.set("defense", "cache-dir", &format!("{:?}", folder.0));
        with_list(config, "blocklist", &format!("\"http://{addr}/list\""))
    })
}

#[test]
fn a_copy_on_disk_protects_a_start_without_a_network() {
    let folder = Folder::new();
    let port = free_port();
    let addr = SocketAddr::from(([127, 0, 0, 1], port));
    {
        let web = Web::plain_at(port, |_, out| out.write_all(&page("127.0.0.2\n")));
        let stage = cached(&folder, web.addr);
        loaded(&stage.proxy, "blocklist");
        eventually("the copy is in place", || {
            let names = fs::read_dir(&folder.0).expect("a folder");
            let names: Vec<_> = names.map(|entry| entry.expect("an entry").file_name()).collect();
            names.len() == 1 && names[0].to_string_lossy().ends_with(".ranges")
        });
        web.close();
    }
    let stage = cached(&folder, addr);
    assert!(stage.proxy.log().contains("from=cache"));
    assert_refused(&stage, LISTED);
    assert_served(&stage, OTHER);
    drop(stage);

    // A torn copy is no copy.
    let copy = fs::read_dir(&folder.0).expect("a folder").next().expect("a copy").expect("it");
    let bytes = fs::read(copy.path()).expect("bytes");
    fs::write(copy.path(), &bytes[..bytes.len() - 1]).expect("a write");
    assert_served(&cached(&folder, addr), LISTED);
}

#[test]
fn lists_over_https_are_believed_only_with_a_certificate() {
    let authority = Authority::new();
    let good =
        Web::secure(authority.server(&["127.0.0.1"]), |_, out| out.write_all(&page("127.0.0.2\n")));
    let bad = Web::secure(authority.server(&["elsewhere.example"]), |_, out| {
        out.write_all(&page("127.0.0.3\n"))
    });
    let sources = format!("{}, {}", quoted(&good, "/"), quoted(&bad, "/"));
    let stage = Stage::with(|config| {
        let config = config.set("network", "ca-file", &authority.quoted());
        with_list(config, "blocklist", &sources)
    });
    loaded(&stage.proxy, "blocklist");
    eventually("the other is refused", || stage.proxy.log().contains("invalid peer certificate"));
    assert_refused(&stage, LISTED);
    assert_served(&stage, OTHER);
}

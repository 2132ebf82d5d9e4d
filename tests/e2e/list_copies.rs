//! Copies of fetched lists on disk: a router that starts without a network is still protected, and
//! an invalid copy does no harm.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use crate::support::eventually;
use crate::support::fixture::Fixture;
use crate::support::lists::{Folder, LISTED, OTHER, assert_refused, assert_served, with_list};
use crate::support::proxy::free_port;
use crate::support::web::{WebServer, page, path_of};

/// A fixture with a cache and a blocklist of two pages that is updated every second.
fn fixture(folder: &Folder, server: SocketAddr) -> Fixture {
    Fixture::with(|config| {
        let config = config
            .set("defense", "cache-dir", &format!("{:?}", folder.path().join("in/here")))
            .set("defense.blocklist", "update-each", "\"1s\"");
        let sources = format!("\"http://{server}/a\", \"http://{server}/b?secret\"");
        with_list(config, "blocklist", &sources)
    })
}

/// A server of both pages: one names [`LISTED`], the other [`OTHER`].
fn web(port: u16) -> WebServer {
    WebServer::http_on(port, |head, out| match path_of(head) {
        "/a" => out.write_all(&page("127.0.0.2\n2001:db8::/32\n")),
        _ => out.write_all(&page("127.0.0.3\n")),
    })
}

/// Runs once with the server until both copies are written.
fn fill(folder: &Folder) -> (SocketAddr, Vec<std::path::PathBuf>) {
    let web = web(free_port());
    let fixture = fixture(folder, web.addr);
    let copies = || {
        let entries = fs::read_dir(folder.path().join("in/here")).into_iter().flatten();
        let mut all: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
        all.sort();
        all
    };
    let is_copy = |path: &std::path::PathBuf| path.extension().is_some_and(|end| end == "networks");
    eventually("both copies are written", || {
        let all = copies();
        all.len() == 2 && all.iter().all(is_copy)
    });
    assert_refused(&fixture, LISTED);
    let addr = web.addr;
    web.close();
    (addr, copies())
}

#[test]
fn a_start_without_a_network_is_protected_by_the_copies() {
    let folder = Folder::new();
    let (addr, copies) = fill(&folder);
    for copy in &copies {
        assert!(!copy.to_string_lossy().contains("secret"));
        assert_eq!(fs::metadata(copy).expect("a copy").permissions().mode() & 0o777, 0o600);
    }
    let parent = copies[0].parent().expect("a folder");
    assert_eq!(fs::metadata(parent).expect("a folder").permissions().mode() & 0o777, 0o700);

    let fixture = fixture(&folder, addr);
    assert_refused(&fixture, LISTED);
    assert_refused(&fixture, OTHER);
    assert_served(&fixture, std::net::Ipv4Addr::LOCALHOST);
    let state = &fixture.proxy.stats()["lists"]["blocklist"];
    assert_eq!((&state["entries"], state["updated"].is_null()), (&3.into(), true));
}

#[test]
fn an_invalid_copy_counts_as_none() {
    let folder = Folder::new();
    let (addr, copies) = fill(&folder);
    let good = fs::read(&copies[0]).expect("a copy");
    let mut greedy = good.clone();
    greedy[13..21].fill(0xff);
    let mut flipped = good.clone();
    *flipped.last_mut().expect("a byte") ^= 1;
    let garbage: Vec<u8> = (0..5_000_u32).map(|n| (n * 7 % 251) as u8).collect();
    for bad in
        [&good[..good.len() - 1], &good[..20], b"", b"127.0.0.2\n", &greedy, &flipped, &garbage]
    {
        for copy in &copies {
            fs::write(copy, bad).expect("a write");
        }
        let fixture = fixture(&folder, addr);
        assert_served(&fixture, LISTED);
        eventually("both are reported", || {
            fixture.proxy.log().matches("level=warn event=list-cache-unusable").count() == 2
        });
    }
    let web = web(addr.port());
    let fixture = fixture(&folder, addr);
    eventually("good copies replace them", || {
        copies.iter().any(|copy| fs::read(copy).expect("a copy") == good)
    });
    assert_refused(&fixture, LISTED);
    drop(web);
}

/// Writes wear out flash memory.
#[test]
fn a_copy_is_not_written_again_for_the_same_networks() {
    let folder = Folder::new();
    let (addr, copies) = fill(&folder);
    let inodes = || {
        let all = copies.iter().map(|copy| fs::metadata(copy).expect("a copy"));
        all.map(|found| (found.ino(), found.mtime(), found.mtime_nsec())).collect::<Vec<_>>()
    };
    let before = inodes();
    let web = web(addr.port());
    let fixture = fixture(&folder, addr);
    eventually("each is fetched three times", || web.requests().len() >= 6);
    assert!(!fixture.proxy.log().contains("event=list-failed"));
    assert_eq!(inodes(), before);
}

#[test]
fn a_cache_that_cannot_be_written_costs_only_a_warning() {
    let folder = Folder::new();
    folder.write("in", "a file where a folder should be\n");
    let web = web(free_port());
    let fixture = fixture(&folder, web.addr);
    eventually("it is logged", || {
        fixture.proxy.log().contains("level=warn event=list-cache-failed")
    });
    assert_refused(&fixture, LISTED);
    // When the folder can be made again, the next update writes the copies.
    fs::remove_file(folder.path().join("in")).expect("a file");
    eventually("the copies are written", || {
        let entries = fs::read_dir(folder.path().join("in/here")).into_iter().flatten();
        entries.flatten().filter(|e| e.path().extension().is_some_and(|x| x == "networks")).count()
            == 2
    });
}

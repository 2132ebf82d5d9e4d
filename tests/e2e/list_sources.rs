//! Sources of IP lists: sources that change, fail, disappear or never end.

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use crate::support::authority::Authority;
use crate::support::eventually;
use crate::support::fixture::Fixture;
use crate::support::lists::{
    Folder, LISTED, OTHER, assert_refused, assert_served, fixture, quoted, wait_until_loaded,
    with_list,
};
use crate::support::web::{WebServer, page, redirect};

/// Waits for the log line of a failed source with the reason `why`.
fn wait_for_failure(fixture: &Fixture, why: &str) {
    eventually(why, || {
        fixture.proxy.log().lines().any(|l| l.contains("event=list-failed") && l.contains(why))
    });
}

/// COMPATIBILITY F2: the reference drops a list that it cannot refresh.
#[test]
fn a_refresh_that_fails_keeps_the_last_good_list() {
    for (failure, why) in [
        (b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n".to_vec(), "answered 503"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n10.0.0.0/8\n".to_vec(), "cut off"),
        (redirect("/again"), "too many redirects"),
        (b"nonsense\r\n\r\n".to_vec(), "not an HTTP response"),
        (page("<html>\n<p>Welcome to our hotel</p>\n"), "no network in it"),
        (page(""), "no network in it"),
    ] {
        let broken = Arc::new(AtomicBool::new(false));
        let is_broken = Arc::clone(&broken);
        let web = WebServer::http(move |_, out| match is_broken.load(Ordering::SeqCst) {
            true => out.write_all(&failure),
            false => out.write_all(&page("127.0.0.2\n")),
        });
        let fixture = fixture("blocklist", &quoted(&web, "/"));
        wait_until_loaded(&fixture.proxy, "blocklist");
        broken.store(true, Ordering::SeqCst);
        wait_for_failure(&fixture, why);
        assert!(fixture.proxy.log().contains("kept=\"the last good copy\""));
        assert_refused(&fixture, LISTED);
        assert_served(&fixture, OTHER);
    }
}

/// COMPATIBILITY F3: the reference then refuses all clients.
#[test]
fn an_allowlist_outlives_its_server() {
    let web = WebServer::http_on(0, |_, out| out.write_all(&page("127.0.0.2\n")));
    let fixture = fixture("allowlist", &quoted(&web, "/"));
    wait_until_loaded(&fixture.proxy, "allowlist");
    web.close();
    wait_for_failure(&fixture, "refused");
    assert_served(&fixture, LISTED);
    assert_refused(&fixture, OTHER);
}

#[test]
fn a_source_that_fails_does_not_affect_the_others() {
    let folder = Folder::new();
    let web = WebServer::http(|_, out| out.write_all(b"HTTP/1.1 404 Gone\r\n\r\n"));
    let sources = format!("{}, {}", quoted(&web, "/"), folder.write("a", "127.0.0.2\n"));
    let fixture = fixture("blocklist", &sources);
    wait_for_failure(&fixture, "answered 404");
    assert_refused(&fixture, LISTED);
    assert!(fixture.proxy.stats()["lists"]["blocklist"]["updated"].is_null(), "not all are loaded");
}

#[test]
fn a_file_that_changes_is_read_again() {
    let folder = Folder::new();
    let fixture = fixture("blocklist", &folder.write("a", "192.0.2.1\n"));
    assert_served(&fixture, LISTED);
    folder.write("a", "192.0.2.1\n127.0.0.2\n");
    eventually("the file is read again", || fixture.proxy.log().contains("entries=2"));
    assert_refused(&fixture, LISTED);
    fs::remove_file(folder.path().join("a")).expect("a file");
    wait_for_failure(&fixture, "No such file");
    assert_refused(&fixture, LISTED);
    folder.write("a", "# an empty list is allowed here\n");
    eventually("the file is read again", || fixture.proxy.log().contains("entries=0"));
    assert_served(&fixture, LISTED);
}

#[test]
fn a_pipe_is_not_a_list_and_blocks_no_client() {
    let folder = Folder::new();
    let pipe = folder.path().join("pipe");
    mkfifo(&pipe, Mode::S_IRWXU).expect("a pipe");
    let fixture = fixture("blocklist", &format!("{pipe:?}"));
    wait_for_failure(&fixture, "not a regular file");
    assert_served(&fixture, LISTED);
}

#[test]
fn an_endless_file_is_refused_as_a_whole() {
    let folder = Folder::new();
    let endless = format!("127.0.0.2\n{}", "# nothing\n".repeat((16 << 20) / 10 + 1));
    let fixture = fixture("blocklist", &folder.write("a", &endless));
    wait_for_failure(&fixture, "larger than 16777216 bytes");
    assert_served(&fixture, LISTED);
}

#[test]
fn an_endless_page_is_cut_off_and_costs_no_memory() {
    let web = WebServer::http(|_, out| {
        out.write_all(b"HTTP/1.1 200 OK\r\n\r\n127.0.0.2\n")?;
        let block = "# nothing\n".repeat(100_000);
        for _ in 0..1024 {
            out.write_all(block.as_bytes())?;
        }
        Ok(())
    });
    let fixture = fixture("blocklist", &quoted(&web, "/"));
    let before = fixture.proxy.resident_kib();
    wait_for_failure(&fixture, "larger than 16777216 bytes");
    assert!(fixture.proxy.resident_kib() < before + 2048, "{before}");
    assert_served(&fixture, LISTED);
}

/// COMPATIBILITY F4: the reference fetches all at once and ignores its setting.
#[test]
fn no_more_are_fetched_at_once_than_allowed() {
    let (pair, busy) = (Arc::new(Barrier::new(2)), Arc::new(AtomicUsize::new(0)));
    let most = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&most);
    let web = WebServer::http(move |_, out| {
        seen.fetch_max(busy.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        // Each request waits until a second one arrives.
        pair.wait();
        // Before the answer; otherwise the next request could be counted together with this one.
        busy.fetch_sub(1, Ordering::SeqCst);
        pair.wait();
        out.write_all(&page("127.0.0.2\n"))
    });
    let sources = ["/a", "/b", "/c", "/d", "/e", "/f"].map(|path| quoted(&web, path)).join(", ");
    let fixture = Fixture::with(|config| {
        let config = config.set("defense.blocklist", "download-concurrency", "2");
        with_list(config, "blocklist", &sources)
    });
    eventually("all are loaded", || {
        fixture.proxy.log().matches("event=list name=blocklist").count() == 6
    });
    assert_eq!(most.load(Ordering::SeqCst), 2);
    assert_refused(&fixture, LISTED);
}

/// More sources than fetch tasks that can wait.
#[test]
fn many_sources_wait_for_each_other() {
    let web = WebServer::http(|_, out| out.write_all(&page("127.0.0.2\n")));
    let sources: Vec<String> = (0..60).map(|n| quoted(&web, &format!("/{n}"))).collect();
    let fixture = Fixture::with(|config| {
        let config = config.set("defense.blocklist", "download-concurrency", "1000");
        with_list(config, "blocklist", &sources.join(", "))
    });
    eventually("all are loaded", || {
        fixture.proxy.log().matches("event=list name=blocklist").count() == 60
    });
    assert!(!fixture.proxy.log().contains("event=list-failed"));
}

#[test]
fn an_unchanged_list_is_not_sent_again() {
    let web = WebServer::http(|head, out| match head.contains("If-None-Match: \"v1\"\r\n") {
        true => out.write_all(b"HTTP/1.1 304 Not Modified\r\n\r\n"),
        false => out
            .write_all(b"HTTP/1.1 200 OK\r\nETag: \"v1\"\r\nContent-Length: 10\r\n\r\n127.0.0.2\n"),
    });
    let fixture = fixture("blocklist", &quoted(&web, "/"));
    eventually("it is fetched three times", || web.requests().len() >= 3);
    assert_refused(&fixture, LISTED);
    assert_eq!(fixture.proxy.log().matches("event=list name=blocklist").count(), 1);
}

#[test]
fn not_modified_is_an_error_if_nothing_was_loaded() {
    let web = WebServer::http(|_, out| out.write_all(b"HTTP/1.1 304 Not Modified\r\n\r\n"));
    let fixture = fixture("allowlist", &quoted(&web, "/"));
    wait_for_failure(&fixture, "there is no copy");
    assert!(fixture.proxy.stats()["lists"]["allowlist"]["updated"].is_null());
}

#[test]
fn lists_over_https_need_a_valid_certificate() {
    let authority = Authority::new();
    let good = WebServer::https(authority.server(&["127.0.0.1"]), |_, out| {
        out.write_all(&page("127.0.0.2\n"))
    });
    let bad = WebServer::https(authority.server(&["elsewhere.example"]), |_, out| {
        out.write_all(&page("127.0.0.3\n"))
    });
    let sources = format!("{}, {}", quoted(&good, "/"), quoted(&bad, "/"));
    let fixture = Fixture::with(|config| {
        let config = config.set("network", "ca-file", &authority.quoted());
        with_list(config, "blocklist", &sources)
    });
    wait_until_loaded(&fixture.proxy, "blocklist");
    wait_for_failure(&fixture, "invalid peer certificate");
    assert_refused(&fixture, LISTED);
    assert_served(&fixture, OTHER);
}

#[test]
fn secret_parts_of_a_url_are_not_logged() {
    let web = WebServer::http(|_, out| out.write_all(&page("127.0.0.2\n")));
    let web_addr = web.addr;
    let source = format!("\"http://me:hunter2@{web_addr}/list?token=hunter3\"");
    let fixture = fixture("blocklist", &source);
    wait_until_loaded(&fixture.proxy, "blocklist");
    web.close();
    wait_for_failure(&fixture, "refused");
    let log = fixture.proxy.log();
    let source = format!("source=\"http://{web_addr}/list\"");
    assert!(log.contains(&source) && !log.contains("hunter"), "{log}");
}

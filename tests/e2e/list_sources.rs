//! Where lists come from: sources that change, lie, vanish or never end.

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use crate::support::authority::Authority;
use crate::support::eventually;
use crate::support::lists::{
    Folder, LISTED, OTHER, assert_refused, assert_served, loaded, quoted, stage, with_list,
};
use crate::support::stage::Stage;
use crate::support::web::{Web, page, redirect};

/// Waits for the line that says why a source could not be had.
fn failed(stage: &Stage, why: &str) {
    eventually(why, || {
        stage.proxy.log().lines().any(|l| l.contains("event=list-failed") && l.contains(why))
    });
}

/// Gotcha F: the reference forgets a list that it cannot refresh.
#[test]
fn a_refresh_that_fails_keeps_the_last_good_list() {
    for (failure, why) in [
        (b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n".to_vec(), "says 503"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n10.0.0.0/8\n".to_vec(), "cut off"),
        (redirect("/again"), "too many redirects"),
        (b"nonsense\r\n\r\n".to_vec(), "not an HTTP response"),
        (page("<html>\n<p>Welcome to our hotel</p>\n"), "no network in it"),
        (page(""), "no network in it"),
    ] {
        let broken = Arc::new(AtomicBool::new(false));
        let is_broken = Arc::clone(&broken);
        let web = Web::plain(move |_, out| match is_broken.load(Ordering::SeqCst) {
            true => out.write_all(&failure),
            false => out.write_all(&page("127.0.0.2\n")),
        });
        let stage = stage("blocklist", &quoted(&web, "/"));
        loaded(&stage.proxy, "blocklist");
        broken.store(true, Ordering::SeqCst);
        failed(&stage, why);
        assert!(stage.proxy.log().contains("kept=\"the last good copy\""));
        assert_refused(&stage, LISTED);
        assert_served(&stage, OTHER);
    }
}

/// Gotcha F: the reference locks everybody out.
#[test]
fn an_allowlist_outlives_its_server() {
    let web = Web::plain_at(0, |_, out| out.write_all(&page("127.0.0.2\n")));
    let stage = stage("allowlist", &quoted(&web, "/"));
    loaded(&stage.proxy, "allowlist");
    web.close();
    failed(&stage, "refused");
    assert_served(&stage, LISTED);
    assert_refused(&stage, OTHER);
}

#[test]
fn a_source_that_fails_takes_nothing_from_the_others() {
    let folder = Folder::new();
    let web = Web::plain(|_, out| out.write_all(b"HTTP/1.1 404 Gone\r\n\r\n"));
    let sources = format!("{}, {}", quoted(&web, "/"), folder.write("a", "127.0.0.2\n"));
    let stage = stage("blocklist", &sources);
    failed(&stage, "says 404");
    assert_refused(&stage, LISTED);
    assert!(stage.proxy.stats()["lists"]["blocklist"]["updated"].is_null(), "not all have come");
}

#[test]
fn a_file_that_changes_is_read_again() {
    let folder = Folder::new();
    let stage = stage("blocklist", &folder.write("a", "192.0.2.1\n"));
    assert_served(&stage, LISTED);
    folder.write("a", "192.0.2.1\n127.0.0.2\n");
    eventually("the file is read again", || stage.proxy.log().contains("entries=2"));
    assert_refused(&stage, LISTED);
    fs::remove_file(folder.path().join("a")).expect("a file");
    failed(&stage, "No such file");
    assert_refused(&stage, LISTED);
    folder.write("a", "# whoever runs this may empty it\n");
    eventually("the file is read again", || stage.proxy.log().contains("entries=0"));
    assert_served(&stage, LISTED);
}

#[test]
fn a_pipe_is_no_list_and_stops_nobody() {
    let folder = Folder::new();
    let pipe = folder.path().join("pipe");
    mkfifo(&pipe, Mode::S_IRWXU).expect("a pipe");
    let stage = stage("blocklist", &format!("{pipe:?}"));
    failed(&stage, "not a regular file");
    assert_served(&stage, LISTED);
}

#[test]
fn a_file_without_an_end_is_refused_whole() {
    let folder = Folder::new();
    let endless = format!("127.0.0.2\n{}", "# nothing\n".repeat((16 << 20) / 10 + 1));
    let stage = stage("blocklist", &folder.write("a", &endless));
    failed(&stage, "larger than 16777216 bytes");
    assert_served(&stage, LISTED);
}

#[test]
fn a_page_without_an_end_is_cut_off_and_costs_no_memory() {
    let web = Web::plain(|_, out| {
        out.write_all(b"HTTP/1.1 200 OK\r\n\r\n127.0.0.2\n")?;
        let block = "# nothing\n".repeat(100_000);
        for _ in 0..1024 {
            out.write_all(block.as_bytes())?;
        }
        Ok(())
    });
    let stage = stage("blocklist", &quoted(&web, "/"));
    let before = stage.proxy.resident_kib();
    failed(&stage, "larger than 16777216 bytes");
    assert!(stage.proxy.resident_kib() < before + 2048, "{before}");
    assert_served(&stage, LISTED);
}

/// Gotcha F: the reference fetches all at once, whatever the file says.
#[test]
fn no_more_are_fetched_at_once_than_allowed() {
    let (pair, busy) = (Arc::new(Barrier::new(2)), Arc::new(AtomicUsize::new(0)));
    let most = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&most);
    let web = Web::plain(move |_, out| {
        seen.fetch_max(busy.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        // Two must come together, or neither gets on.
        pair.wait();
        // Before the answer, or the next might be counted beside this one.
        busy.fetch_sub(1, Ordering::SeqCst);
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
    assert_eq!(most.load(Ordering::SeqCst), 2);
    assert_refused(&stage, LISTED);
}

/// More than all errands that may wait.
#[test]
fn many_sources_wait_for_each_other() {
    let web = Web::plain(|_, out| out.write_all(&page("127.0.0.2\n")));
    let sources: Vec<String> = (0..60).map(|n| quoted(&web, &format!("/{n}"))).collect();
    let stage = Stage::with(|config| {
        let config = config.set("defense.blocklist", "download-concurrency", "1000");
        with_list(config, "blocklist", &sources.join(", "))
    });
    eventually("all have come", || {
        stage.proxy.log().matches("event=list name=blocklist").count() == 60
    });
    assert!(!stage.proxy.log().contains("event=list-failed"));
}

#[test]
fn what_has_not_changed_is_not_sent_again() {
    let web = Web::plain(|head, out| match head.contains("If-None-Match: \"v1\"\r\n") {
        true => out.write_all(b"HTTP/1.1 304 Not Modified\r\n\r\n"),
        false => out
            .write_all(b"HTTP/1.1 200 OK\r\nETag: \"v1\"\r\nContent-Length: 10\r\n\r\n127.0.0.2\n"),
    });
    let stage = stage("blocklist", &quoted(&web, "/"));
    eventually("it is asked for three times", || web.requests().len() >= 3);
    assert_refused(&stage, LISTED);
    assert_eq!(stage.proxy.log().matches("event=list name=blocklist").count(), 1);
}

#[test]
fn a_server_cannot_say_unchanged_of_what_it_never_sent() {
    let web = Web::plain(|_, out| out.write_all(b"HTTP/1.1 304 Not Modified\r\n\r\n"));
    let stage = stage("allowlist", &quoted(&web, "/"));
    failed(&stage, "it never came");
    assert!(stage.proxy.stats()["lists"]["allowlist"]["updated"].is_null());
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
    failed(&stage, "invalid peer certificate");
    assert_refused(&stage, LISTED);
    assert_served(&stage, OTHER);
}

#[test]
fn what_may_be_secret_in_a_url_stays_out_of_the_log() {
    let web = Web::plain(|_, out| out.write_all(&page("127.0.0.2\n")));
    let source = format!("\"http://me:hunter2@{}/list?token=hunter3\"", web.addr);
    let stage = stage("blocklist", &source);
    loaded(&stage.proxy, "blocklist");
    web.close();
    failed(&stage, "refused");
    let log = stage.proxy.log();
    assert!(log.contains("source=\"http://127.0.0.1/list\"") && !log.contains("hunter"), "{log}");
}

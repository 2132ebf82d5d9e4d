//! What the daemon fetches from the web, told by Telegram's list of addresses: the good, the bad
//! and the endless. Nothing of it may delay a client, leak, or leave this machine.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::authority::Authority;
use crate::support::client::Visitor;
use crate::support::dc::Dc;
use crate::support::eventually;
use crate::support::hello::Shape;
use crate::support::obfuscated2::DD;
use crate::support::proxy::free_port;
use crate::support::stage::Stage;
use crate::support::web::{Web, page, path_of, redirect};

/// A stage whose DC 203 has one address, where nobody listens, and one page that may name more.
fn stage(url: &str, more: &[(&str, &str, &str)]) -> Stage {
    Stage::with(|config| {
        let dead = format!("[\"127.0.0.1:{}\"]", free_port());
        let config = config
            .set("telegram.dc-overrides", "203", &dead)
            .set("telegram", "dc-list-urls", &format!("[{url:?}]"))
            .set("", "auto-update", "true");
        more.iter().fold(config, |config, (table, key, value)| config.set(table, key, value))
    })
}

fn list(dc: SocketAddr) -> String {
    format!("# comment\nproxy_for 2 192.0.2.1:8888;\nproxy_for 203 {dc};\ndefault 2;\n")
}

/// A session with DC 203 comes to be.
fn reaches_203(stage: &Stage, listed: &Dc) {
    eventually("the list arrives", || stage.proxy.log().contains("event=dc-list page=0 dc=203"));
    let visitor = Visitor::knock(stage.proxy.addr, &stage.secret, Shape::PostQuantum);
    let mut client = visitor.begin(DD, 203);
    let mut session = listed.accept();
    assert_eq!(session.dc, 203);
    client.up.send(b"hello");
    assert_eq!(session.from.recv(5), b"hello");
}

/// The fetch fails with this in the log, and clients are served all the while.
fn assert_refused(stage: &Stage, why: &str) {
    eventually(why, || {
        let log = stage.proxy.log();
        log.contains("event=dc-list-failed") && log.contains(why)
    });
    let (_client, session) = stage.session();
    assert_eq!(session.dc, 2);
}

#[test]
fn the_list_of_addresses_is_fetched_and_used() {
    let listed = Dc::listen();
    let text = list(listed.addr);
    let web = Web::plain(move |_, out| out.write_all(&page(&text)));
    let stage = stage(&web.url("/getProxyConfig"), &[]);
    reaches_203(&stage, &listed);
    let requests = web.requests();
    assert_eq!(requests.len(), 1);
    assert!(requests[0].starts_with("GET /getProxyConfig HTTP/1.1\r\n"), "{requests:?}");
    assert!(!requests[0].to_lowercase().contains("gzip"));
}

#[test]
fn the_list_may_come_over_https_in_chunks_and_behind_redirects() {
    let (listed, authority) = (Dc::listen(), Authority::new());
    let text = list(listed.addr);
    let web = Web::secure(authority.server(&["127.0.0.1"]), move |head, out| match path_of(head) {
        "/a" => out.write_all(&redirect("/b")),
        "/b" => out.write_all(&redirect("b/c?d")),
        "/b/c?d" => {
            out.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
            for piece in text.as_bytes().chunks(7) {
                write!(out, "{:x}\r\n", piece.len())?;
                out.write_all(piece)?;
                out.write_all(b"\r\n")?;
            }
            out.write_all(b"0\r\n\r\n")
        }
        other => panic!("{other}"),
    });
    let stage = stage(&web.url("/a"), &[("network", "ca-file", &authority.quoted())]);
    reaches_203(&stage, &listed);
}

#[test]
fn a_wrong_certificate_is_refused() {
    let authority = Authority::new();
    let trust = authority.quoted();
    for config in [
        authority.server(&["elsewhere.example"]),
        authority.server_until(&["127.0.0.1"], 2020),
        Authority::new().server(&["127.0.0.1"]),
    ] {
        let web = Web::secure(config, |_, out| out.write_all(&page("proxy_for 203 127.0.0.1:1;")));
        let stage = stage(&web.url("/"), &[("network", "ca-file", &trust)]);
        assert_refused(&stage, "invalid peer certificate");
        assert!(web.requests().is_empty(), "nothing was asked of a stranger");
    }
}

#[test]
fn redirects_end_and_https_stays_https() {
    let authority = Authority::new();
    let secure = Web::secure(authority.server(&["127.0.0.1"]), |head, out| {
        let to = head.split("to=").nth(1).and_then(|rest| rest.split(' ').next());
        out.write_all(&redirect(&format!("http://127.0.0.1:{}/", to.expect("a port"))))
    });
    let plain = Web::plain(|_, out| out.write_all(&redirect("/again")));
    let url = format!("{}?to={}", secure.url("/"), plain.addr.port());
    let downgraded = stage(&url, &[("network", "ca-file", &authority.quoted())]);
    assert_refused(&downgraded, "from https to http");
    assert_eq!(plain.connections(), 0);

    let endless = stage(&plain.url("/"), &[]);
    assert_refused(&endless, "too many redirects");
    assert_eq!(plain.connections(), 4);
}

#[test]
fn what_is_no_list_changes_nothing() {
    for (answer, why) in [
        (
            &b"HTTP/1.1 500 No\r\nContent-Length: 27\r\n\r\nproxy_for 203 127.0.0.1:1;\n"[..],
            "says 500",
        ),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nproxy_for 203 127.0.0.1:1;\n", "cut off"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "no address"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n<html", "no address"),
        (b"SSH-2.0-OpenSSH\r\n", "not an HTTP response"),
        (b"", "cut off"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", "invalid HTTP body"),
    ] {
        let web = Web::plain(move |_, out| out.write_all(answer));
        assert_refused(&stage(&web.url("/"), &[]), why);
    }
}

#[test]
fn a_gigabyte_is_cut_off_and_costs_no_memory() {
    let (sent_all, flag) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let done = Arc::clone(&sent_all);
    let begun = Arc::clone(&flag);
    let web = Web::plain(move |_, out| {
        begun.store(true, Ordering::SeqCst);
        out.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
        let block = vec![b'#'; 1 << 20];
        for _ in 0..1024 {
            out.write_all(&block)?;
        }
        done.store(true, Ordering::SeqCst);
        Ok(())
    });
    let stage = stage(&web.url("/"), &[]);
    let before = stage.proxy.resident_kib();
    assert_refused(&stage, "larger than 65536 bytes");
    assert!(flag.load(Ordering::SeqCst) && !sent_all.load(Ordering::SeqCst));
    assert!(stage.proxy.resident_kib() < before + 2048, "{before}");
}

/// Gotcha A7: a fetch that hangs delays nobody, and ends.
#[test]
fn a_server_that_says_nothing_delays_nobody() {
    let web = Web::plain(|_, _| {
        std::thread::park();
        Ok(())
    });
    let stage = stage(&web.url("/"), &[("network.timeout", "http", "\"1s\"")]);
    eventually("it is asked", || web.connections() == 1);
    let files = stage.proxy.files();
    {
        let (_client, session) = stage.session();
        assert_eq!(session.dc, 2);
    }
    assert_refused(&stage, "too slow");
    eventually("its descriptor is given back", || stage.proxy.files() < files);
}

#[test]
fn a_server_that_is_not_there_is_tried_again_later() {
    let port = free_port();
    let stage = stage(&format!("http://127.0.0.1:{port}/"), &[]);
    assert_refused(&stage, "refused");
}

//! Downloads of the daemon, tested with Telegram's list of DC addresses: valid, invalid and endless
//! ones. None may delay a client or leak memory or descriptors.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::authority::Authority;
use crate::support::client::Handshake;
use crate::support::dc::Dc;
use crate::support::eventually;
use crate::support::fixture::Fixture;
use crate::support::hello::App;
use crate::support::name_server::NameServer;
use crate::support::obfuscated2::DD;
use crate::support::proxy::free_port;
use crate::support::web::{WebServer, page, path_of, redirect};

/// A fixture whose DC 203 has one address without a listener; the page at `url` may name more.
fn fixture(url: &str, more: &[(&str, &str, &str)]) -> Fixture {
    Fixture::with(|config| {
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

/// A session reaches DC 203 at a listed address.
fn reaches_203(fixture: &Fixture, listed: &Dc) {
    eventually("the list is loaded", || {
        fixture.proxy.log().contains("event=dc-list page=0 dc=203")
    });
    let handshake = Handshake::connect(fixture.proxy.addr, &fixture.secret, App::PostQuantum);
    let mut client = handshake.send_frame(DD, 203);
    let mut session = listed.accept();
    assert_eq!(session.dc, 203);
    client.up.send(b"hello");
    assert_eq!(session.from.recv(5), b"hello");
}

/// The fetch fails with this reason in the log, and clients are served meanwhile.
fn assert_refused(fixture: &Fixture, why: &str) {
    eventually(why, || {
        let log = fixture.proxy.log();
        log.contains("event=dc-list-failed") && log.contains(why)
    });
    let (_client, session) = fixture.session();
    assert_eq!(session.dc, 2);
}

#[test]
fn the_list_of_addresses_is_fetched_and_used() {
    let listed = Dc::listen();
    let text = list(listed.addr);
    let web = WebServer::http(move |_, out| out.write_all(&page(&text)));
    let fixture = fixture(&web.url("/getProxyConfig"), &[]);
    reaches_203(&fixture, &listed);
    let requests = web.requests();
    assert_eq!(requests.len(), 1);
    assert!(requests[0].starts_with("GET /getProxyConfig HTTP/1.1\r\n"), "{requests:?}");
    assert!(!requests[0].to_lowercase().contains("gzip"));
}

#[test]
fn the_list_may_come_over_https_in_chunks_and_after_redirects() {
    let (listed, authority) = (Dc::listen(), Authority::new());
    let text = list(listed.addr);
    let web =
        WebServer::https(authority.server(&["127.0.0.1"]), move |head, out| match path_of(head) {
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
    let fixture = fixture(&web.url("/a"), &[("network", "ca-file", &authority.quoted())]);
    reaches_203(&fixture, &listed);
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
        let web =
            WebServer::https(config, |_, out| out.write_all(&page("proxy_for 203 127.0.0.1:1;")));
        let fixture = fixture(&web.url("/"), &[("network", "ca-file", &trust)]);
        assert_refused(&fixture, "invalid peer certificate");
        assert!(web.requests().is_empty(), "no request to an untrusted server");
    }
}

#[test]
fn redirects_end_and_https_stays_https() {
    let authority = Authority::new();
    let secure = WebServer::https(authority.server(&["127.0.0.1"]), |head, out| {
        let to = head.split("to=").nth(1).and_then(|rest| rest.split(' ').next());
        out.write_all(&redirect(&format!("http://127.0.0.1:{}/", to.expect("a port"))))
    });
    let plain = WebServer::http(|_, out| out.write_all(&redirect("/again")));
    let url = format!("{}?to={}", secure.url("/"), plain.addr.port());
    let downgraded = fixture(&url, &[("network", "ca-file", &authority.quoted())]);
    assert_refused(&downgraded, "from https to http");
    assert_eq!(plain.connections(), 0);

    let endless = fixture(&plain.url("/"), &[]);
    assert_refused(&endless, "too many redirects");
    assert_eq!(plain.connections(), 4);
}

/// A hostile name server or web page must not lead fetches into services of this machine.
#[test]
fn neither_a_public_name_nor_a_redirect_leads_to_this_machine() {
    let names = NameServer::listen(|question| question.with_address(Ipv4Addr::LOCALHOST).actions());
    let dns = names.url();
    let dns = [("network", "dns", dns.as_str())];
    let inside = WebServer::http(|_, out| out.write_all(&page("proxy_for 203 127.0.0.1:1;")));
    let port = inside.addr.port();
    let by_name = fixture(&format!("http://lists.example:{port}/"), &dns);
    assert_refused(&by_name, "leads to 127.0.0.1");
    for host in ["127.0.0.2", "localhost", "lists.example", "nas.lan", "[::1]", "[::ffff:7f00:1]"] {
        let location = format!("http://{host}:{port}/");
        let web = WebServer::http(move |_, out| out.write_all(&redirect(&location)));
        let redirected = fixture(&web.url("/"), &dns);
        assert_refused(&redirected, "leads to");
        assert_eq!(web.connections(), 1, "{host}");
    }
    assert_eq!(inside.connections(), 0);
    // The operator has written a name of the local network.
    let by_name = fixture(&format!("http://lists.internal:{port}/"), &dns);
    eventually("the list is loaded", || by_name.proxy.log().contains("event=dc-list-failed"));
    assert_eq!(inside.connections(), 1);
}

#[test]
fn a_response_that_is_not_a_list_changes_nothing() {
    for (answer, why) in [
        (
            &b"HTTP/1.1 500 No\r\nContent-Length: 27\r\n\r\nproxy_for 203 127.0.0.1:1;\n"[..],
            "answered 500",
        ),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nproxy_for 203 127.0.0.1:1;\n", "cut off"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "no address"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n<html", "no address"),
        (b"SSH-2.0-OpenSSH\r\n", "not an HTTP response"),
        (b"", "cut off"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", "invalid HTTP body"),
    ] {
        let web = WebServer::http(move |_, out| out.write_all(answer));
        assert_refused(&fixture(&web.url("/"), &[]), why);
    }
}

#[test]
fn a_gigabyte_is_cut_off_and_costs_no_memory() {
    let (sent_all, flag) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let done = Arc::clone(&sent_all);
    let begun = Arc::clone(&flag);
    let web = WebServer::http(move |_, out| {
        begun.store(true, Ordering::SeqCst);
        out.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
        let block = vec![b'#'; 1 << 20];
        for _ in 0..1024 {
            out.write_all(&block)?;
        }
        done.store(true, Ordering::SeqCst);
        Ok(())
    });
    let fixture = fixture(&web.url("/"), &[]);
    let before = fixture.proxy.resident_kib();
    assert_refused(&fixture, "larger than 65536 bytes");
    assert!(flag.load(Ordering::SeqCst) && !sent_all.load(Ordering::SeqCst));
    assert!(fixture.proxy.resident_kib() < before + 2048, "{before}");
}

/// COMPATIBILITY A7: a fetch that hangs delays no client, and ends.
#[test]
fn a_server_that_sends_nothing_delays_no_client() {
    let web = WebServer::http(|_, _| {
        std::thread::park();
        Ok(())
    });
    let fixture = fixture(&web.url("/"), &[("network.timeout", "http", "\"1s\"")]);
    eventually("it is connected", || web.connections() == 1);
    let files = fixture.proxy.files();
    {
        let (_client, session) = fixture.session();
        assert_eq!(session.dc, 2);
    }
    assert_refused(&fixture, "too slow");
    eventually("its descriptor is closed", || fixture.proxy.files() < files);
}

#[test]
fn an_unreachable_server_is_tried_again_later() {
    let port = free_port();
    let fixture = fixture(&format!("http://127.0.0.1:{port}/"), &[]);
    assert_refused(&fixture, "refused");
}

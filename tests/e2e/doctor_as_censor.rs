//! `mtbox doctor --as-censor`: the prober finds nothing at the proxy, and something at whatever
//! else stands in front of the site.

use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::thread;

use crate::support::dc::Dc;
use crate::support::doctor::{examine, examine_file};
use crate::support::fixture::HOST;
use crate::support::hello::Secret;
use crate::support::prober::Site;
use crate::support::proxy::{Config, free_port};
use crate::support::web::WebServer;

const FLAGS: &[&str] = &["--as-censor"];

fn config(site: SocketAddr) -> Config {
    let config = Config::new(Dc::listen().addr, site).user("alice", &Secret::new(HOST));
    config.set("network.timeout", "handshake", "\"2s\"").set("network", "public-ip-url", "\"\"")
}

#[test]
fn nothing_tells_the_proxy_from_its_site() {
    let site = Site::listen(&[HOST, "elsewhere.example"]);
    let proxy = config(site.addr).start();
    let files = proxy.files();
    let report = examine_file(proxy.file(), FLAGS);
    assert_eq!(report.code, 0, "{}", report.json);
    let [only] = report.results("as-censor").try_into().expect("one line");
    assert!(only["openings"].as_u64().is_some_and(|count| count >= 40), "{only}");
    assert!(
        only["remedy"].is_null(),
        "the site is another machine as far as anybody knows: {only}"
    );
    assert_eq!(report.json["checks"].as_array().map(Vec::len), Some(1), "nothing else is done");
    proxy.wait_until_idle(files);
}

/// Behind a router that translates addresses, only the outside knows that the site's name leads
/// back here. Compared with itself the proxy would always be well.
#[test]
fn a_site_that_is_the_proxy_itself_is_no_measure_though_only_the_outside_knows() {
    let web = WebServer::http(|_, out| {
        out.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n127.0.0.2")
    });
    let proxy = config(SocketAddr::from(([127, 0, 0, 2], 1)))
        .set("domain-fronting", "port", "{port}")
        .set("network", "public-ip-url", &format!("{:?}", web.url("/")))
        .start();
    let target = proxy.addr.to_string();
    let report = examine_file(proxy.file(), &["--as-censor", "--target", &target]);
    report.has("as-censor", "could-not-run", "it is this proxy itself");
    assert_eq!((report.code, report.results("as-censor").len()), (1, 1), "{}", report.json);
}

/// A port that a router forwards looks like a site on another port, and nothing here shows it.
#[test]
fn a_likeness_to_our_own_address_is_told_with_a_caution() {
    let site = Site::listen(&[HOST, "elsewhere.example"]);
    let proxy = config(site.addr).set("", "public-ipv4", "\"127.0.0.1\"").start();
    let report = examine_file(proxy.file(), FLAGS);
    let [only] = report.results("as-censor").try_into().expect("one line");
    assert_eq!((report.code, &only["verdict"]), (0, &"ok".into()), "{only}");
    assert!(only["remedy"].as_str().is_some_and(|text| text.contains("our own address")), "{only}");
}

/// A server that greets everybody, and one that hangs up on everybody.
#[test]
fn whoever_answers_otherwise_is_told_from_the_site_with_what_was_seen() {
    let site = Site::listen(&[HOST, "elsewhere.example"]);
    let other = TcpListener::bind("127.0.0.1:0").expect("a port");
    let target = other.local_addr().expect("an address").to_string();
    thread::spawn(move || {
        for mut stream in other.incoming().flatten() {
            let _ = stream.write_all(b"SSH-2.0-OpenSSH_9.6\r\n");
        }
    });
    let report = examine(&config(site.addr), &["--as-censor", "--target", &target]);
    assert_eq!(report.code, 1);
    report.has("as-censor", "failed", "front.example: silence: the site: waits; the proxy: 21 byt");
    report.has("as-censor", "failed", "a hello with the right name: the site: handshake(");
    let results = report.results("as-censor");
    assert!(results.len() >= 40, "{}", results.len());
    assert!(results.iter().all(|r| r["remedy"].is_string() && r["opening"].is_string()));
}

#[test]
fn a_port_where_nobody_listens_cannot_be_compared() {
    let report = examine(&config(SocketAddr::from(([127, 0, 0, 1], free_port()))), FLAGS);
    assert_eq!(report.code, 1);
    let lines = report.lines("as-censor");
    assert!(lines[0].ends_with(": nobody answers there") && lines.len() == 1, "{lines:?}");
}

//! `mtbox doctor --as-censor`: finds no difference between the proxy and its front, and finds the
//! differences of other servers.

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

fn config(front: SocketAddr) -> Config {
    let config = Config::new(Dc::listen().addr, front).user("alice", &Secret::new(HOST));
    config.set("network.timeout", "handshake", "\"2s\"").set("network", "public-ip-url", "\"\"")
}

#[test]
fn the_proxy_does_not_differ_from_its_front() {
    let front = Site::listen(&[HOST, "elsewhere.example"]);
    let proxy = config(front.addr).start();
    let files = proxy.files();
    let report = examine_file(proxy.file(), FLAGS);
    assert_eq!(report.code, 0, "{}", report.json);
    let [only] = report.results("as-censor").try_into().expect("one line");
    assert!(only["openings"].as_u64().is_some_and(|count| count >= 40), "{only}");
    assert!(only["remedy"].is_null(), "the front seems to be another machine: {only}");
    assert_eq!(report.json["checks"].as_array().map(Vec::len), Some(1), "no other check runs");
    proxy.wait_until_idle(files);
}

/// Behind NAT, only the public address shows that the front is this proxy. Compared with itself the
/// proxy would always pass.
#[test]
fn a_front_behind_nat_that_is_the_proxy_itself_is_not_compared() {
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

/// A forwarded port of the router may lead to the proxy, and nothing on this machine shows it.
#[test]
fn a_front_with_our_public_address_passes_with_a_remedy() {
    let front = Site::listen(&[HOST, "elsewhere.example"]);
    let proxy = config(front.addr).set("", "public-ipv4", "\"127.0.0.1\"").start();
    let report = examine_file(proxy.file(), FLAGS);
    let [only] = report.results("as-censor").try_into().expect("one line");
    assert_eq!((report.code, &only["verdict"]), (0, &"ok".into()), "{only}");
    assert!(
        only["remedy"].as_str().is_some_and(|text| text.contains("public address of this machine")),
        "{only}"
    );
}

/// The other server sends a banner to every client.
#[test]
fn the_differences_of_another_server_are_reported_with_the_observations() {
    let front = Site::listen(&[HOST, "elsewhere.example"]);
    let other = TcpListener::bind("127.0.0.1:0").expect("a port");
    let target = other.local_addr().expect("an address").to_string();
    thread::spawn(move || {
        for mut stream in other.incoming().flatten() {
            let _ = stream.write_all(b"SSH-2.0-OpenSSH_9.6\r\n");
        }
    });
    let report = examine(&config(front.addr), &["--as-censor", "--target", &target]);
    assert_eq!(report.code, 1);
    report.has("as-censor", "failed", "front.example: silence: the front: waits; the proxy: 21 by");
    report.has("as-censor", "failed", "a hello with the right server name: the front: handshake(");
    let results = report.results("as-censor");
    assert!(results.len() >= 40, "{}", results.len());
    assert!(results.iter().all(|r| r["remedy"].is_string() && r["opening"].is_string()));
}

#[test]
fn a_port_without_a_listener_cannot_be_compared() {
    let report = examine(&config(SocketAddr::from(([127, 0, 0, 1], free_port()))), FLAGS);
    assert_eq!(report.code, 1);
    let lines = report.lines("as-censor");
    assert!(lines[0].ends_with(": no connection") && lines.len() == 1, "{lines:?}");
}

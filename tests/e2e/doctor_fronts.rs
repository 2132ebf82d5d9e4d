//! `mtbox doctor` and the fronts: reachable, no loop, easy to imitate, a valid certificate, a name
//! that resolves to this machine; and how it and `mtbox access` find the public address.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::process::Output;

#[cfg(feature = "tls")]
use crate::support::authority::Authority;
#[cfg(feature = "tls")]
use crate::support::doctor::hybrid_server;
use crate::support::doctor::{Report, examine, examine_file};
use crate::support::fixture::HOST;
use crate::support::hello::Secret;
use crate::support::name_server::NameServer;
use crate::support::program;
use crate::support::proxy::{Config, free_port};
use crate::support::scripted_front::{AnswerShape, ScriptedFront, retry_answer, tls12_answer};
use crate::support::web::WebServer;

const NATIVE: &[&str] = &["--skip-native-check"];

fn nowhere() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], free_port()))
}

fn names() -> NameServer {
    NameServer::listen(|question| match question.name.to_ascii_lowercase().as_str() {
        "gone.example" => question.reply().code(3).actions(),
        _ => question.with_address(Ipv4Addr::LOCALHOST).actions(),
    })
}

fn config(front: SocketAddr, names: &NameServer) -> Config {
    Config::new(nowhere(), front)
        .user("alice", &Secret::new(HOST))
        .set("", "public-ipv4", "\"127.0.0.1\"")
        .set("network", "dns", &names.url())
        .set("network", "public-ip-url", "\"\"")
}

#[test]
fn fronts_are_told_apart_by_their_answers() {
    let names = names();
    let refuse = |_: &_, _| vec![0x15, 3, 3, 0, 2, 2, 112];
    for (front, verdict, words) in [
        (nowhere(), "failed", "Connection refused"),
        (ScriptedFront::listen(refuse).addr, "failed", "the front refuses with TLS alert 112"),
        (
            ScriptedFront::listen(|hello, _| tls12_answer(hello)).addr,
            "failed",
            "not support TLS 1.3",
        ),
        (ScriptedFront::listen(|hello, _| retry_answer(hello)).addr, "failed", "neither X25519MLK"),
        (
            ScriptedFront::listen(|_, _| b"SSH-2.0-x\r\n".to_vec()).addr,
            "failed",
            "not a TLS server",
        ),
        (ScriptedFront::listen(|_, _| Vec::new()).addr, "failed", "no answer to a TLS hello"),
        (
            ScriptedFront::of(AnswerShape::openssl()).addr,
            "warning",
            "TLS 1.3, no X25519MLKEM768, x25519, suite 1302, flight",
        ),
        (
            ScriptedFront::of(AnswerShape::boringssl()).addr,
            "ok",
            "X25519MLKEM768, suite 1301, flight of 1",
        ),
    ] {
        let report = examine(&config(front, &names), NATIVE);
        report.has("fronting", verdict, words);
    }
    let records = ScriptedFront::of(AnswerShape { group: 0x11ec, ..AnswerShape::openssl() });
    let report = examine(&config(records.addr, &names), NATIVE);
    report.has("fronting", "ok", "flight of 4 records (38 + 379 + 95 + 69 bytes)");
    let results = report.results("fronting");
    let finding = results.iter().find(|r| r["group"] == "X25519MLKEM768").expect("a finding");
    assert_eq!(finding["record_bytes"], serde_json::json!([38, 379, 95, 69]));
    let remedy = finding["remedy"].as_str().expect("a remedy");
    assert!(remedy.contains("one record"), "{remedy}");
}

/// COMPATIBILITY E10: mtg-multi does not see that the front is itself.
#[test]
fn a_front_that_is_the_proxy_itself_is_named_whether_it_runs_or_not() {
    let names = names();
    let own = config(nowhere(), &names).set("domain-fronting", "port", "{port}");
    examine(&own, NATIVE).has("fronting", "failed", "is this proxy itself");
    // The host in the secret resolves to our public address.
    let by_name = own.clone().without("domain-fronting", "host");
    let by_name = by_name.binds(&[IpAddr::from(Ipv4Addr::UNSPECIFIED)]);
    examine(&by_name, NATIVE).has("fronting", "failed", "front.example:");
    examine(&by_name, NATIVE).has("fronting", "failed", "is this proxy itself");
    let proxy = own.start();
    let report = examine_file(proxy.file(), NATIVE);
    report.has("fronting", "failed", "is this proxy itself");
}

/// COMPATIBILITY C4: mtg-multi checks one random host.
#[test]
fn every_distinct_host_is_checked() {
    let names = names();
    let config = config(nowhere(), &names)
        .without("domain-fronting", "host")
        .user("bob", &Secret::new("other.example"))
        .user("carol", &Secret::new("other.example"))
        .user("dave", &Secret::new("gone.example"));
    let report = examine(&config, NATIVE);
    for check in ["fronting", "sni-dns"] {
        let hosts: Vec<String> =
            report.results(check).iter().map(|r| r["host"].to_string()).collect();
        for host in ["front.example", "gone.example", "other.example"] {
            let count = hosts.iter().filter(|seen| seen.contains(host)).count();
            assert_eq!(count, 1, "{host} in {hosts:?}");
        }
    }
    report.has("fronting", "failed", "gone.example:");
    report.has("fronting", "failed", "its name cannot be resolved");
    report.has("sni-dns", "could-not-run", "gone.example: the name cannot be resolved");
    report.has("sni-dns", "ok", "other.example resolves to 127.0.0.1");
}

#[test]
fn a_host_that_leads_to_a_private_address_is_named_and_not_connected() {
    let names =
        NameServer::listen(|question| question.with_address([127, 0, 0, 3].into()).actions());
    let front = TcpListener::bind(("127.0.0.3", 0)).expect("a port");
    front.set_nonblocking(true).expect("a flag");
    let addr = front.local_addr().expect("an address");
    let config = config(addr, &names).without("domain-fronting", "host");
    let report = examine(&config, NATIVE);
    report.has("fronting", "failed", "leads to 127.0.0.3");
    let results = report.results("fronting");
    let remedy = results[0]["remedy"].as_str().expect("a remedy");
    assert!(remedy.contains("[domain-fronting] host"), "{remedy}");
    assert!(front.accept().is_err(), "no connection");
}

#[cfg(feature = "tls")]
#[test]
fn a_certificate_must_be_valid_for_the_name() {
    let (names, authority) = (names(), Authority::new());
    let with = |tls| {
        let config = config(hybrid_server(tls), &names);
        examine(&config.set("network", "ca-file", &authority.quoted()), NATIVE)
    };
    with(authority.server(&[HOST])).has("fronting", "ok", "the certificate is valid");
    let other = with(authority.server(&["other.example"]));
    other.has("fronting", "failed", "front.example: TLS handshake: invalid peer certificate");
    let old = with(authority.server_until(&[HOST], 2020));
    old.has("fronting", "failed", "front.example: TLS handshake: invalid peer certificate");
    let unknown = examine(&config(hybrid_server(authority.server(&[HOST])), &names), NATIVE);
    unknown.has("fronting", "failed", "UnknownIssuer");
}

#[test]
fn a_front_that_expects_a_proxy_header_gets_one() {
    let names = names();
    let front = ScriptedFront::of(AnswerShape::boringssl());
    let config = config(front.addr, &names).set("domain-fronting", "proxy-protocol", "true");
    examine(&config, NATIVE).has("fronting", "ok", "X25519MLKEM768");
    let hellos = front.hellos();
    let ours = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0".to_vec();
    assert!(hellos.iter().all(|hello| hello.prefix == ours && hello.sni == HOST), "{hellos:?}");
    assert!(!hellos.is_empty());
}

#[test]
fn a_host_must_resolve_to_a_public_address_of_this_machine() {
    let names = names();
    let config = config(nowhere(), &names);
    let elsewhere = config.clone().set("", "public-ipv4", "\"192.0.2.1\"");
    examine(&elsewhere, NATIVE).has(
        "sni-dns",
        "failed",
        "resolves to 127.0.0.1, but this machine is",
    );
    let both = elsewhere.set("", "public-ipv6", "\"::1\"");
    examine(&both, NATIVE).has("sni-dns", "failed", "192.0.2.1, ::1");
    let unknown = config.without("", "public-ipv4");
    let report = examine(&unknown, NATIVE);
    report.has(
        "sni-dns",
        "could-not-run",
        "front.example: the public address of this machine is unknown",
    );
    assert_eq!(report.code, 1);
}

/// A web service that reports the client's address.
fn ip_service(answer: &'static str) -> WebServer {
    WebServer::http(move |head, out| {
        assert!(head.starts_with("GET /ip HTTP/1.1\r\n"), "{head}");
        out.write_all(answer.as_bytes())
    })
}

fn examine_with(names: &NameServer, url: &str) -> Report {
    let config = config(nowhere(), names).without("", "public-ipv4");
    examine(&config.set("network", "public-ip-url", &format!("{url:?}")), NATIVE)
}

#[test]
fn the_public_address_is_queried_unless_the_config_sets_it() {
    let names = names();
    let web = ip_service("HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n 127.0.0.1\n");
    examine_with(&names, &web.url("/ip")).has("sni-dns", "ok", "resolves to 127.0.0.1");
    assert!(web.connections() > 0);
    let web = ip_service("HTTP/1.0 200 OK\r\n\r\n192.0.2.9");
    examine_with(&names, &web.url("/ip")).has("sni-dns", "failed", "this machine is 192.0.2.9");
    let stated = config(nowhere(), &names);
    let before = web.connections();
    let url = format!("{:?}", web.url("/ip"));
    examine(&stated.set("network", "public-ip-url", &url), NATIVE).has("sni-dns", "ok", HOST);
    assert_eq!(web.connections(), before, "the config sets it");
    for (answer, words) in [
        ("HTTP/1.1 203 Perhaps\r\nContent-Length: 9\r\n\r\n127.0.0.1", "the server answered 203"),
        ("HTTP/1.1 500 No\r\nContent-Length: 9\r\n\r\n127.0.0.1", "the server answered 500"),
        (
            "HTTP/1.1 302 There\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n",
            "the server answered 302",
        ),
        ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n::1", "the response is not an IPv4 address"),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n<html",
            "the response is not an IPv4 address",
        ),
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "the response is not an IPv4 address"),
        ("nonsense", "not an HTTP response"),
    ] {
        let web = ip_service(answer);
        examine_with(&names, &web.url("/ip")).has("sni-dns", "could-not-run", words);
    }
    let endless = WebServer::http(|_, out| {
        out.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
        loop {
            out.write_all(&[b' '; 64])?;
        }
    });
    let report = examine_with(&names, &endless.url("/ip"));
    report.has("sni-dns", "could-not-run", "the response is too long");
}

#[cfg(not(feature = "tls"))]
#[test]
fn a_build_without_tls_reports_that_it_cannot_use_https() {
    let report = examine_with(&names(), "https://127.0.0.1:9/ip");
    report.has("sni-dns", "could-not-run", "this build has no https");
}

fn access(config: &Config, flags: &[&str]) -> (serde_json::Value, String) {
    let file = config.write();
    let mut command = program::command();
    let Output { status, stdout, stderr } =
        command.arg("access").arg(&file).args(flags).output().expect("the built binary");
    let _ = fs::remove_file(file);
    assert!(status.success());
    let json = serde_json::from_slice(&stdout).expect("JSON");
    (json, String::from_utf8(stderr).expect("UTF-8"))
}

#[test]
fn access_queries_the_public_address_only_if_it_is_unknown() {
    let names = names();
    let web = ip_service("HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n203.0.113.9\n");
    let url = format!("{:?}", web.url("/ip"));
    let config = config(nowhere(), &names).without("", "public-ipv4");
    let config = config.set("network", "public-ip-url", &url).set("", "public-port", "443");
    let (json, errors) = access(&config, &[]);
    assert_eq!((&json["ipv4"]["ip"], errors.as_str()), (&"203.0.113.9".into(), ""));
    assert_eq!(json["ipv6"], serde_json::Value::Null);
    assert_eq!(web.connections(), 1);
    let (json, _) = access(&config, &["-i", "198.51.100.1"]);
    assert_eq!(json["ipv4"]["ip"], "198.51.100.1");
    let stated = config.clone().set("", "public-ipv4", "\"198.51.100.2\"");
    assert_eq!(access(&stated, &[]).0["ipv4"]["ip"], "198.51.100.2");
    assert_eq!(
        access(&config.set("network", "public-ip-url", "\"\""), &[]).0["ipv4"],
        serde_json::Value::Null
    );
    assert_eq!(web.connections(), 1, "no query if the address is known or the service is off");
}

/// COMPATIBILITY A7: mtg-multi waits for a silent service without a limit.
#[test]
fn a_silent_service_does_not_delay_access() {
    let names = names();
    // The kernel completes the TCP handshake, but no process accepts the connection.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = silent.local_addr().expect("an address");
    let url = format!("\"http://{addr}/ip\"");
    let config = config(nowhere(), &names).without("", "public-ipv4");
    let config = config.set("network", "public-ip-url", &url);
    let (json, errors) = access(&config, &[]);
    assert_eq!(json["ipv4"], serde_json::Value::Null);
    assert!(errors.contains("no public address from 127.0.0.1: "), "{errors}");
    assert!(errors.contains("no public address is known"), "{errors}");
}

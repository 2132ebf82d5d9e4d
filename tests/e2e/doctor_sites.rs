//! `mtbox doctor` about the sites in the secrets: reachable, no loop, a good model, a certificate
//! that holds, a name that leads here; and how it and `mtbox access` learn our own address.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::process::Output;

#[cfg(feature = "tls")]
use crate::support::authority::Authority;
#[cfg(feature = "tls")]
use crate::support::doctor::modern_site;
use crate::support::doctor::{Report, examine, examine_file};
use crate::support::hello::Secret;
use crate::support::names::NameServer;
use crate::support::origins::{ScriptedSite, Shape, old_answer, retry_answer};
use crate::support::program;
use crate::support::proxy::{Config, free_port};
use crate::support::stage::HOST;
use crate::support::web::Web;

const NATIVE: &[&str] = &["--skip-native-check"];

fn nowhere() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], free_port()))
}

fn names() -> NameServer {
    NameServer::listen(|question| match question.name.to_ascii_lowercase().as_str() {
        "gone.example" => question.reply().code(3).say(),
        _ => question.lead_to(Ipv4Addr::LOCALHOST).say(),
    })
}

fn config(site: SocketAddr, names: &NameServer) -> Config {
    Config::new(nowhere(), site)
        .user("alice", &Secret::new(HOST))
        .set("", "public-ipv4", "\"127.0.0.1\"")
        .set("network", "dns", &names.url())
        .set("network", "public-ip-url", "\"\"")
}

#[test]
fn a_site_is_told_by_how_it_answers() {
    let names = names();
    let refuse = |_: &_, _| vec![0x15, 3, 3, 0, 2, 2, 112];
    for (site, verdict, words) in [
        (nowhere(), "failed", "Connection refused"),
        (ScriptedSite::listen(refuse).addr, "failed", "the site refuses with TLS alert 112"),
        (ScriptedSite::listen(|hello, _| old_answer(hello)).addr, "failed", "not speak TLS 1.3"),
        (ScriptedSite::listen(|hello, _| retry_answer(hello)).addr, "failed", "neither X25519MLK"),
        (ScriptedSite::listen(|_, _| b"SSH-2.0-x\r\n".to_vec()).addr, "failed", "no TLS server"),
        (ScriptedSite::listen(|_, _| Vec::new()).addr, "failed", "no answer to a TLS hello"),
        (ScriptedSite::of(Shape::openssl()).addr, "warning", "TLS 1.3, x25519, suite 1302, flight"),
        (ScriptedSite::of(Shape::boring()).addr, "ok", "X25519MLKEM768, suite 1301, flight of 1"),
    ] {
        let report = examine(&config(site, &names), NATIVE);
        report.has("fronting", verdict, words);
    }
    let records = ScriptedSite::of(Shape { group: 0x11ec, ..Shape::openssl() });
    let report = examine(&config(records.addr, &names), NATIVE);
    report.has("fronting", "ok", "flight of 4 records (38 + 379 + 95 + 69 bytes)");
    let results = report.results("fronting");
    let look = results.iter().find(|r| r["group"] == "X25519MLKEM768").expect("a look");
    assert_eq!(look["record_bytes"], serde_json::json!([38, 379, 95, 69]));
    assert!(look["remedy"].as_str().is_some_and(|text| text.contains("one record")), "{look}");
}

/// Gotcha E10: the reference does not see that the front is itself.
#[test]
fn a_front_that_is_the_proxy_itself_is_named_whether_it_runs_or_not() {
    let names = names();
    let own = config(nowhere(), &names).set("domain-fronting", "port", "{port}");
    examine(&own, NATIVE).has("fronting", "failed", "is this proxy itself");
    // By the name in the secret, which leads to our public address.
    let by_name = own.clone().without("domain-fronting", "host");
    let by_name = by_name.binds(&[IpAddr::from(Ipv4Addr::UNSPECIFIED)]);
    examine(&by_name, NATIVE).has("fronting", "failed", "front.example:");
    examine(&by_name, NATIVE).has("fronting", "failed", "is this proxy itself");
    let proxy = own.start();
    let report = examine_file(proxy.file(), NATIVE);
    report.has("fronting", "failed", "is this proxy itself");
}

/// Gotcha C4: the reference looks at one host, chosen by chance.
#[test]
fn every_distinct_host_is_looked_at() {
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
    report.has("fronting", "failed", "its name cannot be found");
    report.has("sni-dns", "could-not-run", "gone.example: its name cannot be found");
    report.has("sni-dns", "ok", "other.example leads to 127.0.0.1");
}

#[cfg(feature = "tls")]
#[test]
fn a_certificate_must_be_valid_for_the_name() {
    let (names, authority) = (names(), Authority::new());
    let with = |tls| {
        let config = config(modern_site(tls), &names);
        examine(&config.set("network", "ca-file", &authority.quoted()), NATIVE)
    };
    with(authority.server(&[HOST])).has("fronting", "ok", "the certificate is valid");
    let other = with(authority.server(&["other.example"]));
    other.has("fronting", "failed", "front.example: TLS handshake: invalid peer certificate");
    let old = with(authority.server_until(&[HOST], 2020));
    old.has("fronting", "failed", "front.example: TLS handshake: invalid peer certificate");
    let unknown = examine(&config(modern_site(authority.server(&[HOST])), &names), NATIVE);
    unknown.has("fronting", "failed", "UnknownIssuer");
}

/// The site wants to be told who comes, and closes on whoever does not say it.
#[test]
fn a_site_that_expects_a_proxy_header_gets_one() {
    let names = names();
    let site = ScriptedSite::of(Shape::boring());
    let config = config(site.addr, &names).set("domain-fronting", "proxy-protocol", "true");
    examine(&config, NATIVE).has("fronting", "ok", "X25519MLKEM768");
    let hellos = site.hellos();
    let ours = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0".to_vec();
    assert!(hellos.iter().all(|hello| hello.before == ours && hello.sni == HOST), "{hellos:?}");
    assert!(!hellos.is_empty());
}

#[test]
fn a_name_must_lead_to_one_of_our_addresses() {
    let names = names();
    let config = config(nowhere(), &names);
    let elsewhere = config.clone().set("", "public-ipv4", "\"192.0.2.1\"");
    examine(&elsewhere, NATIVE).has("sni-dns", "failed", "leads to 127.0.0.1, and this machine is");
    let both = elsewhere.set("", "public-ipv6", "\"::1\"");
    examine(&both, NATIVE).has("sni-dns", "failed", "192.0.2.1, ::1");
    let unknown = config.without("", "public-ipv4");
    let report = examine(&unknown, NATIVE);
    report.has("sni-dns", "could-not-run", "front.example: our public address is not known");
    assert_eq!(report.code, 1);
}

/// A page that tells the visitor's address.
fn teller(answer: &'static str) -> Web {
    Web::plain(move |head, out| {
        assert!(head.starts_with("GET /ip HTTP/1.1\r\n"), "{head}");
        out.write_all(answer.as_bytes())
    })
}

fn asking(names: &NameServer, url: &str) -> Report {
    let config = config(nowhere(), names).without("", "public-ipv4");
    examine(&config.set("network", "public-ip-url", &format!("{url:?}")), NATIVE)
}

#[test]
fn our_address_is_asked_for_where_nobody_has_stated_it() {
    let names = names();
    let web = teller("HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n 127.0.0.1\n");
    asking(&names, &web.url("/ip")).has("sni-dns", "ok", "leads to 127.0.0.1");
    assert!(web.connections() > 0);
    let web = teller("HTTP/1.0 200 OK\r\n\r\n192.0.2.9");
    asking(&names, &web.url("/ip")).has("sni-dns", "failed", "this machine is 192.0.2.9");
    let stated = config(nowhere(), &names);
    let before = web.connections();
    let url = format!("{:?}", web.url("/ip"));
    examine(&stated.set("network", "public-ip-url", &url), NATIVE).has("sni-dns", "ok", HOST);
    assert_eq!(web.connections(), before, "it was stated");
    for (answer, words) in [
        ("HTTP/1.1 203 Perhaps\r\nContent-Length: 9\r\n\r\n127.0.0.1", "the server says 203"),
        ("HTTP/1.1 500 No\r\nContent-Length: 9\r\n\r\n127.0.0.1", "the server says 500"),
        ("HTTP/1.1 302 There\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n", "server says 302"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n::1", "no address of this kind"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n<html", "no address of this kind"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "no address of this kind"),
        ("nonsense", "not an HTTP response"),
    ] {
        let web = teller(answer);
        asking(&names, &web.url("/ip")).has("sni-dns", "could-not-run", words);
    }
    let endless = Web::plain(|_, out| {
        out.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
        loop {
            out.write_all(&[b' '; 64])?;
        }
    });
    let report = asking(&names, &endless.url("/ip"));
    report.has("sni-dns", "could-not-run", "the answer is too long");
}

#[cfg(not(feature = "tls"))]
#[test]
fn a_build_without_tls_says_that_it_cannot_ask_over_https() {
    let report = asking(&names(), "https://127.0.0.1:9/ip");
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
fn access_asks_for_the_address_only_where_it_is_neither_stated_nor_found() {
    let names = names();
    let web = teller("HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n203.0.113.9\n");
    let url = format!("{:?}", web.url("/ip"));
    let config = config(nowhere(), &names).without("", "public-ipv4");
    let config = config.set("network", "public-ip-url", &url);
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
    assert_eq!(web.connections(), 1, "nobody is asked for what is known, or at all");
}

/// Gotcha A7: a service that says nothing held the reference up without a limit.
#[test]
fn a_service_that_says_nothing_does_not_hold_access_up() {
    let names = names();
    // The kernel takes the connection, and nobody ever reads it.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = silent.local_addr().expect("an address");
    let url = format!("\"http://{addr}/ip\"");
    let config = config(nowhere(), &names).without("", "public-ipv4");
    let config = config.set("network", "public-ip-url", &url);
    let (json, errors) = access(&config, &[]);
    assert_eq!(json["ipv4"], serde_json::Value::Null);
    assert!(errors.contains("did not tell our address: "), "{errors}");
    assert!(errors.contains("no public address is known"), "{errors}");
}

//! `mtbox doctor`, the log and `explain` about names: which name server fails and why, apart from
//! names that do not exist, and which addresses of a name lead to another machine.

#[cfg(feature = "tls")]
use std::io::{Read, Write};
#[cfg(feature = "tls")]
use std::net::TcpListener;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
#[cfg(feature = "tls")]
use std::sync::Arc;
#[cfg(feature = "tls")]
use std::thread;

#[cfg(feature = "tls")]
use crate::support::authority::Authority;
use crate::support::dc::Dc;
use crate::support::doctor::{Report, examine};
use crate::support::eventually;
use crate::support::fixture::HOST;
use crate::support::front::Front;
use crate::support::hello::Secret;
#[cfg(feature = "tls")]
use crate::support::name_server::Transport;
use crate::support::name_server::{A, AAAA, Action, NameServer, QUESTION_NAME, Question};
use crate::support::peer::Peer;
#[cfg(feature = "tls")]
use crate::support::program;
use crate::support::proxy::{Config, free_port};
use crate::support::stats;

const NATIVE: &[&str] = &["--skip-native-check"];

fn nowhere() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], free_port()))
}

/// One user whose front has a name, and this name server.
fn config(dns: &str) -> Config {
    Config::new(nowhere(), nowhere())
        .user("alice", &Secret::new(HOST))
        .without("domain-fronting", "host")
        .set("", "public-ipv4", "\"192.0.2.1\"")
        .set("network", "dns", dns)
        .set("network", "public-ip-url", "\"\"")
}

fn remedy_of(report: &Report, check: &str) -> String {
    report.results(check)[0]["remedy"].to_string()
}

fn answers(code: u16) -> impl Fn(&Question) -> Vec<Action> {
    move |question| question.reply().code(code).actions()
}

#[test]
fn a_name_server_that_fails_is_named_and_no_name_is_blamed() {
    let closed = nowhere();
    // Bound, but it never answers.
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let silent = socket.local_addr().expect("an address");
    let (refusing, failing) = (NameServer::listen(answers(5)), NameServer::listen(answers(2)));
    let (start, access) = ("start the server", "let the server answer this machine");
    for (dns, why, remedy) in [
        (closed, "Connection refused", start),
        (silent, "no answer", start),
        (refusing.addr, "it answers REFUSED", access),
        (failing.addr, "it answers SERVFAIL", access),
    ] {
        let report = examine(&config(&format!("\"udp://{dns}\"")), NATIVE);
        report.has("dns", "failed", &format!("name server udp://{dns}: {why}"));
        assert!(remedy_of(&report, "dns").contains(remedy), "{}", remedy_of(&report, "dns"));
        report.has("fronting", "failed", &format!("cannot be resolved: name server {dns}: {why}"));
        report.has("sni-dns", "could-not-run", &format!("name server {dns}: {why}"));
        for check in ["fronting", "sni-dns"] {
            let remedy = remedy_of(&report, check);
            assert!(remedy.contains("the name server fails, not the name"), "{remedy}");
        }
    }
}

#[test]
fn a_name_server_that_works_is_told_with_its_time_and_the_name_is_blamed() {
    for (code, why) in
        [(3, "the name does not exist (NXDOMAIN)"), (0, "the name exists, but has no address")]
    {
        let names = NameServer::listen(answers(code));
        let report = examine(&config(&names.url()), NATIVE);
        report.has("dns", "ok", &format!("name server udp://{} answers in ", names.addr));
        report.has("fronting", "failed", &format!("its name cannot be resolved: {why}"));
        report.has("sni-dns", "could-not-run", why);
    }
    let literal = Config::new(nowhere(), nowhere()).user("bob", &Secret::new("127.0.0.1")).set(
        "",
        "public-ipv4",
        "\"127.0.0.1\"",
    );
    let report = examine(&literal, NATIVE);
    report.has("dns", "skipped", "no name that needs a name server");
}

#[cfg(feature = "tls")]
#[test]
fn an_encrypted_name_server_is_examined_as_well() {
    let authority = Authority::new();
    let script = |question: &Question| question.with_address(Ipv4Addr::LOCALHOST).actions();
    let here = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let good = authority.server(&["127.0.0.1"]);
    let mut http2 = (*good).clone();
    http2.alpn_protocols = vec![b"h2".to_vec()];
    let http2 = Arc::new(http2);
    for transport in [Transport::Tls, Transport::Https] {
        let names = NameServer::secure(transport, here, Arc::clone(&good), script);
        let trusting = config(&names.url()).set("network", "ca-file", &authority.quoted());
        examine(&trusting, NATIVE).has("dns", "ok", " answers in ");
        let report = examine(&config(&names.url()), NATIVE);
        report.has("dns", "failed", "invalid peer certificate");
        assert!(remedy_of(&report, "dns").contains("network.ca-file; check the clock"));
        report.has("fronting", "failed", "invalid peer certificate");
        let closed = names.url();
        names.close();
        let report = examine(&trusting.clone().set("network", "dns", &closed), NATIVE);
        report.has("dns", "failed", "Connection refused");
    }
    let names = NameServer::secure(Transport::Https, here, http2, script);
    let trusting = config(&names.url()).set("network", "ca-file", &authority.quoted());
    let report = examine(&trusting, NATIVE);
    report.has("dns", "failed", "the server speaks HTTP/2 only");
    assert!(remedy_of(&report, "dns").contains("write tls://"));
    report.has("sni-dns", "could-not-run", "the server speaks HTTP/2 only");
    let page = |_: &Question| {
        vec![Action::SendRaw(b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n".into())]
    };
    let names = NameServer::secure(Transport::Https, here, Arc::clone(&good), page);
    let trusting = config(&names.url()).set("network", "ca-file", &authority.quoted());
    let report = examine(&trusting, NATIVE);
    report.has("dns", "failed", "HTTP status 404");
    assert!(remedy_of(&report, "dns").contains("correct the path in network.dns"));
}

#[cfg(feature = "tls")]
#[test]
fn a_port_without_tls_and_a_ca_file_without_a_certificate_are_told_as_such() {
    let mut dns = String::new();
    for answer in [&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], b""] {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        dns = format!("\"tls://{}\"", listener.local_addr().expect("an address"));
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let _ = stream.read(&mut [0; 4_096]);
                let _ = stream.write_all(answer);
            }
        });
        let report = examine(&config(&dns), NATIVE);
        report.has("dns", "failed", "no TLS at this port");
        assert!(remedy_of(&report, "dns").contains("853"), "{}", remedy_of(&report, "dns"));
    }
    let config = config(&dns).set("network", "ca-file", "\"/etc/hosts\"");
    let (report, why) = (examine(&config, NATIVE), "no certificate in the file");
    report.has("dns", "failed", why);
    assert!(remedy_of(&report, "dns").contains("let network.ca-file be a PEM file"));
    report.has("files", "failed", why);
    let file = config.write();
    let output = program::command().arg("check").arg(&file).output().expect("the built binary");
    let _ = std::fs::remove_file(file);
    assert!(String::from_utf8_lossy(&output.stdout).contains(why), "{output:?}");
}

/// What the log and `explain` say about a front whose name was looked up in vain.
#[test]
fn the_log_and_explain_say_why_the_name_of_the_front_was_not_found() {
    let closed = nowhere();
    let [gone, empty, refusing] = [3, 0, 5].map(|code| NameServer::listen(answers(code)));
    for (dns, why) in [
        (closed, format!("name server {closed}: Connection refused")),
        (gone.addr, "the name does not exist (NXDOMAIN)".to_owned()),
        (empty.addr, "the name exists, but has no address".to_owned()),
        (refusing.addr, format!("name server {}: it answers REFUSED", refusing.addr)),
    ] {
        let (dc, front) = (Dc::listen(), Front::listen());
        let proxy = Config::new(dc.addr, front.addr)
            .user("alice", &Secret::new(HOST))
            .set("domain-fronting", "host", "\"a.example\"")
            .set("network", "dns", &format!("\"udp://{dns}\""))
            .start();
        let mut prober = Peer::connect("prober", proxy.addr);
        prober.send(b"GET / HTTP/1.1\r\n\r\n");
        assert!(prober.recv_rest().0.is_empty());
        let wanted = format!("event=front-unresolved host=\"a.example\" error=\"{why}");
        eventually("the log says why", || proxy.log().contains(&wanted));
        let explained = stats::get(proxy.api, "/explain?text").body;
        let cause = explained.contains("front-unknown");
        let is_server = why.starts_with("name server");
        assert_eq!(explained.contains("the name server fails, not the name"), is_server);
        assert!(cause && explained.contains(&format!("a.example: {why}")), "{explained}");
    }
}

#[test]
fn each_address_that_leads_elsewhere_is_named_and_a_family_that_is_unknown() {
    let v6 = "2001:db8::7".parse::<std::net::Ipv6Addr>().expect("an address");
    let names = NameServer::listen(move |question| {
        let reply = question.reply();
        match question.kind {
            A => reply.record(&QUESTION_NAME, A, 300, &[192, 0, 2, 1]).record(
                &QUESTION_NAME,
                A,
                300,
                &[192, 0, 2, 9],
            ),
            AAAA => reply.record(&QUESTION_NAME, AAAA, 300, &v6.octets()),
            _ => reply,
        }
        .actions()
    });
    let only_v4 = config(&names.url());
    let report = examine(&only_v4, NATIVE);
    let words = "also resolves to 192.0.2.9, which does not lead here: this machine is 192.0.2.1; \
                 whether 2001:db8::7 leads here is unknown, since the IPv6 address of this machine \
                 is unknown: set public-ipv6";
    report.has("sni-dns", "failed", words);
    let both = only_v4.set("", "public-ipv6", &format!("\"{}\"", IpAddr::V6(v6)));
    let report = examine(&both, NATIVE);
    let words = "also resolves to 192.0.2.9, which does not lead here: this machine is 192.0.2.1, \
                 2001:db8::7";
    report.has("sni-dns", "failed", words);
    assert!(!report.lines("sni-dns")[0].contains("unknown"));

    let mixed = NameServer::listen(move |question| {
        let reply = question.reply();
        match question.kind {
            A => reply.record(&QUESTION_NAME, A, 300, &[192, 0, 2, 1]),
            _ => reply.record(&QUESTION_NAME, AAAA, 300, &v6.octets()),
        }
        .actions()
    });
    let report = examine(&config(&mixed.url()), NATIVE);
    report.has("sni-dns", "warning", "whether 2001:db8::7 leads here is unknown, since the IPv6");
    let only_v6 = NameServer::listen(move |question| {
        let reply = question.reply();
        match question.kind {
            AAAA => reply.record(&QUESTION_NAME, AAAA, 300, &v6.octets()),
            _ => reply,
        }
        .actions()
    });
    let report = examine(&config(&only_v6.url()), NATIVE);
    report.has("sni-dns", "warning", "whether 2001:db8::7 leads here is unknown, since the IPv6");
}

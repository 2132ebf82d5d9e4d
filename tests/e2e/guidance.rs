//! Advice about the host in each secret: one line of the log after the start, in `/stats`, and in
//! `mtbox check`.

use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::support::dc::Dc;
use crate::support::doctor::examine;
use crate::support::eventually;
use crate::support::fixture::HOST;
use crate::support::hello::Secret;
use crate::support::name_server::{A, AAAA, NameServer, QUESTION_NAME};
use crate::support::program;
use crate::support::proxy::Config;
use crate::support::scripted_front::{AnswerShape, ScriptedFront};

/// A name server that gives the host these addresses.
fn names(v4: Ipv4Addr, v6: Option<Ipv6Addr>) -> NameServer {
    NameServer::listen(move |question| {
        let reply = question.reply();
        match (question.kind, v6) {
            (A, _) => reply.record(&QUESTION_NAME, A, 300, &v4.octets()),
            (AAAA, Some(v6)) => reply.record(&QUESTION_NAME, AAAA, 300, &v6.octets()),
            _ => reply,
        }
        .actions()
    })
}

/// The front is the host itself, at 127.0.0.1, which is the public address of this machine.
fn config(front: SocketAddr, names: &NameServer) -> Config {
    Config::new(Dc::honest(), front)
        .user("alice", &Secret::new(HOST))
        .set("", "public-ipv4", "\"127.0.0.1\"")
        .set("domain-fronting", "host", &format!("{HOST:?}"))
        .set("domain-fronting", "scout", "true")
        .set("network", "dns", &names.url())
        .set("network", "public-ip-url", "\"\"")
}

fn check(config: &Config) -> String {
    let file = config.write();
    let output = program::command().arg("check").arg(&file).output().expect("the built binary");
    let _ = fs::remove_file(file);
    assert!(output.status.success());
    String::from_utf8(output.stdout).expect("UTF-8")
}

const NO_HYBRID: &str =
    "does not offer X25519MLKEM768: clients behind such a site are blocked more";

#[test]
fn one_line_tells_what_is_wrong_with_the_names_and_the_sites() {
    let front = ScriptedFront::of(AnswerShape::openssl());
    // The front listens on 127.0.0.1 only.
    let names = names(Ipv4Addr::LOCALHOST, Some(Ipv6Addr::LOCALHOST));
    let config = config(front.addr, &names);
    let unknown = "the IPv6 address of this machine is unknown";
    let text = check(&config);
    let advice = text.lines().find(|line| line.starts_with("advice: ")).expect("advice");
    let words = ["whether ::1 leads here is unknown, since", unknown, "not answer at its IPv6"];
    assert!(words.iter().all(|words| advice.contains(words)), "{advice}");
    assert!(advice.contains("TLS 1.3, no X25519MLKEM768, x25519, suite 1302"), "{advice}");
    let report = examine(&config, &["--skip-native-check"]);
    report.has("sni-dns", "warning", "the site does not answer at its IPv6 address ([::1]:");
    report.has("sni-dns", "warning", unknown);
    let remedies = format!("{:?}", report.results("fronting"));
    assert!(remedies.contains(NO_HYBRID), "{remedies}");

    let proxy = config.start();
    let lines = || proxy.log().matches("event=guidance").count();
    eventually("the line", || lines() > 0);
    let log = proxy.log();
    let line = log.lines().find(|line| line.contains("event=guidance")).expect("the line");
    let words = [
        "level=warn",
        "front.example: not every address of the name in the secret can be compared with this",
        "(whether ::1 leads here is unknown, since the IPv6 address of this machine is unknown: ",
        "front.example: the site does not answer at its IPv6 address",
        NO_HYBRID,
    ];
    assert!(words.iter().all(|words| line.contains(words)), "{line}");
    let stats = proxy.stats();
    let advice = stats["advice"].as_array().expect("a list");
    assert_eq!(advice.len(), 3);
    assert!(advice.iter().all(|one| one["host"] == HOST), "{advice:?}");
    assert_eq!(lines(), 1);
}

#[test]
fn where_all_is_well_no_line_is_said() {
    let front = ScriptedFront::of(AnswerShape::boringssl());
    let names = names(Ipv4Addr::LOCALHOST, None);
    let config = config(front.addr, &names);
    assert!(!check(&config).contains("advice:"));
    let proxy = config.start();
    eventually("the front was probed", || proxy.log().contains("event=front-probe "));
    assert!(!proxy.log().contains("event=guidance"), "{}", proxy.log());
    assert!(proxy.stats()["advice"].is_null());
}

#[test]
fn a_name_of_another_machine_is_told_although_the_front_has_an_address() {
    let front = ScriptedFront::of(AnswerShape::boringssl());
    let names = names(Ipv4Addr::new(192, 0, 2, 9), None);
    let config = config(front.addr, &names).set("domain-fronting", "host", "\"127.0.0.1\"");
    let text = check(&config);
    assert!(text.contains("resolves to 192.0.2.9, but this machine is 127.0.0.1"), "{text}");
    let proxy = config.start();
    eventually("the line", || proxy.log().contains("(192.0.2.9; this machine is 127.0.0.1)\""));
}

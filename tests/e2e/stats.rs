//! The stats listener: its exact text, its counters, and its limits (COMPATIBILITY 6.1 and 6.2).

use std::time::{Duration, Instant};

use crate::support::fixture::{Fixture, HOST};
use crate::support::hello::Secret;
use crate::support::peer::Peer;
use crate::support::stats::{get, read_response, request};
use crate::support::{TIMEOUT, eventually, pattern, program};

/// The text with every number as `0` and every string value as `"s"`.
fn form(json: &str) -> String {
    let mut out = String::new();
    let mut rest = json;
    while let Some(next) = rest.chars().next() {
        let length = match next {
            '"' => rest[1..].find('"').expect("the end of a string") + 2,
            '0'..='9' => rest.find(|c: char| !c.is_ascii_digit()).expect("an end"),
            _ => next.len_utf8(),
        };
        match next {
            '"' if out.ends_with(':') => out.push_str("\"s\""),
            '0'..='9' => out.push('0'),
            _ => out.push_str(&rest[..length]),
        }
        rest = &rest[length..];
    }
    out
}

#[test]
fn the_body_has_the_fields_in_their_order() {
    let fixture = Fixture::with(|config| config.user("bob", &Secret::new(HOST)));
    let idle = r#"{"connections":0,"bytes_in":0,"bytes_out":0,"last_seen":null}"#;
    let seen = idle.replace("null", r#""s""#);
    let head = r#"{"started_at":"s","uptime_seconds":0,"total_connections":0,"users":"#;
    let tail = concat!(
        r#","memory":{"level":"s","limit":0,"resident":0,"kernel":0,"buffers_limit":0,"#,
        r#""buffers":{"unauthenticated":0,"users":0,"operator":0,"fetches":0}}}"#,
        "\n"
    );

    let reply = get(fixture.proxy.api, "/stats");
    assert_eq!(reply.status, 200);
    assert_eq!(reply.header("content-type"), Some("application/json"));
    assert_eq!(form(&reply.body), format!("{head}{{\"alice\":{idle},\"bob\":{idle}}}{tail}"));

    let _session = fixture.session();
    let reply = get(fixture.proxy.api, "/stats?pretty=1");
    assert_eq!(form(&reply.body), format!("{head}{{\"alice\":{seen},\"bob\":{idle}}}{tail}"));
}

#[test]
fn the_throttle_is_shown_if_it_is_configured() {
    let fixture = Fixture::with(|config| config.set("throttle", "max-connections", "10"));
    let body = get(fixture.proxy.api, "/stats").body;
    let part = r#""total_connections":0,"throttle":{"active":false,"limit":10},"users":{"#;
    assert!(body.contains(part), "{body}");
}

#[test]
fn counters_count_payload_and_nothing_else() {
    let fixture = Fixture::new();
    let (mut client, mut session) = fixture.session();
    fixture.proxy.wait_for_connections("alice", 1);
    assert_eq!(fixture.proxy.stats()["total_connections"], 1);
    client.up.send(&pattern(1, 1000));
    session.from.recv(1000);
    session.to.send(&pattern(2, 1000));
    client.down.recv(1000);
    assert_eq!(fixture.proxy.number("alice", "bytes_in"), 1000);
    assert_eq!(fixture.proxy.number("alice", "bytes_out"), 1000);

    let (second, _second_session) = fixture.session();
    fixture.proxy.wait_for_connections("alice", 2);
    drop((client, session));
    fixture.proxy.wait_for_connections("alice", 1);
    second.reset();
    fixture.proxy.wait_for_connections("alice", 0);
    assert_eq!(fixture.proxy.number("alice", "bytes_in"), 1000);
}

#[test]
fn last_seen_is_null_then_a_time_that_moves_with_traffic() {
    let fixture = Fixture::new();
    let last_seen = || fixture.proxy.stats()["users"]["alice"]["last_seen"].clone();
    assert!(last_seen().is_null());
    let (mut client, mut session) = fixture.session();
    let first = last_seen().as_str().expect("a time").to_owned();
    assert_is_rfc_3339(&first);
    assert_is_rfc_3339(fixture.proxy.stats()["started_at"].as_str().expect("a time"));
    eventually("traffic moves last_seen", || {
        client.up.send(b"tick");
        session.from.recv(4);
        last_seen().as_str().expect("a time") != first
    });
}

/// `2026-11-23T05:32:40.123456789Z`, perhaps with an offset at the end or without a fraction.
fn assert_is_rfc_3339(text: &str) {
    let form: String =
        text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).take(19).collect();
    assert_eq!(form, "0000-00-00T00:00:00", "{text}");
    let tail = text[19..].trim_start_matches(|c: char| c == '.' || c.is_ascii_digit());
    let is_offset = tail.len() == 6 && tail.starts_with(['+', '-']) && &tail[3..4] == ":";
    assert!(tail == "Z" || is_offset, "{text}");
}

#[test]
fn uptime_counts_whole_seconds() {
    let fixture = Fixture::new();
    eventually("a second passes", || {
        let uptime = &fixture.proxy.stats()["uptime_seconds"];
        uptime.as_u64().expect("an integer") >= 1
    });
}

#[test]
fn names_are_escaped_for_html() {
    let fixture = Fixture::with(|config| config.user("a<b>&c", &Secret::new(HOST)));
    let body = get(fixture.proxy.api, "/stats").body;
    assert!(body.contains(r#""a\u003cb\u003e\u0026c":{"connections":0"#), "{body}");
}

#[test]
fn only_get_and_head_of_stats_are_served() {
    let fixture = Fixture::new();
    let api = fixture.proxy.api;
    let whole = get(api, "/stats");
    let head = request(api, b"HEAD /stats HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    assert_eq!(head.header("content-type"), whole.header("content-type"));

    for path in ["/", "/stats/", "/stat", "/metrics", "/stats/alice", "//stats"] {
        let reply = get(api, path);
        assert_eq!((reply.status, reply.body.as_str()), (404, "404 page not found\n"), "{path}");
        assert_eq!(reply.header("content-type"), Some("text/plain; charset=utf-8"));
    }
    let post = request(api, b"POST /stats HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(post.status, 405);
    assert_eq!(request(api, b"complete nonsense\r\n\r\n").status, 400);
}

#[test]
fn a_head_without_end_is_refused() {
    let fixture = Fixture::new();
    let long = [b"GET /stats HTTP/1.1\r\nX: ", &[b'a'; 3000][..]].concat();
    assert_eq!(request(fixture.proxy.api, &long).status, 431);
}

#[test]
fn a_head_that_arrives_too_slowly_is_cut_off() {
    let fixture = Fixture::new();
    let mut silent = Peer::connect("slow reader", fixture.proxy.api);
    silent.send(b"GET /stats HT");
    let mut trickle = Peer::connect("slow reader", fixture.proxy.api);
    let start = Instant::now();
    while trickle.try_send(b"G").is_ok() && !trickle.receives_within(Duration::from_millis(50)) {
        assert!(start.elapsed() < TIMEOUT, "a slow sender keeps the connection open");
    }
    assert_eq!(read_response(&mut silent).status, 408);
}

#[test]
fn slow_readers_do_not_block_others_for_ever() {
    let fixture = Fixture::new();
    let mut slow: Vec<_> =
        (0..8).map(|_| Peer::connect("slow reader", fixture.proxy.api)).collect();
    for peer in &mut slow {
        peer.send(b"GET /st");
    }
    assert_eq!(get(fixture.proxy.api, "/stats").status, 200);
}

#[test]
fn a_long_body_reaches_a_reader_with_a_small_window() {
    let fixture = Fixture::with(|config| {
        let secret = Secret::new(HOST);
        (0..3000).fold(config, |config, n| config.user(&format!("user number {n}"), &secret))
    });
    let mut peer =
        Peer::connect("slow reader", fixture.proxy.api).with_small_receive_buffer(16_384);
    peer.send(b"GET /stats HTTP/1.0\r\n\r\n");
    let reply = read_response(&mut peer);
    assert_eq!(reply.header("content-length"), Some(reply.body.len().to_string().as_str()));
    let stats: serde_json::Value = serde_json::from_str(&reply.body).expect("JSON");
    assert_eq!(stats["users"].as_object().map(|users| users.len()), Some(3001));
}

#[test]
fn a_reader_that_sends_fin_after_the_request_is_answered() {
    let fixture = Fixture::new();
    let mut peer = Peer::connect("stats reader", fixture.proxy.api);
    peer.send(b"GET /stats HTTP/1.0\r\n\r\n");
    peer.send_fin();
    assert_eq!(read_response(&mut peer).status, 200);
}

#[test]
fn a_request_that_arrives_byte_by_byte_is_answered() {
    let fixture = Fixture::new();
    let mut peer = Peer::connect("stats reader", fixture.proxy.api);
    for byte in b"GET /stats HTTP/1.1\r\nHost: x\r\n\r\n" {
        peer.send(&[*byte]);
    }
    assert_eq!(read_response(&mut peer).status, 200);
}

#[test]
fn the_command_shows_a_table_and_the_same_json() {
    let bob = Secret::new(HOST);
    let fixture =
        Fixture::with(|config| config.user("bob", &bob).set("", "disabled-users", "[\"bob\"]"));
    let (mut client, mut session) = fixture.session();
    client.up.send(&[7; 2_000]);
    assert_eq!(session.from.recv(2_000), [7; 2_000]);
    fixture.proxy.wait_for_connections("alice", 1);
    let stats = |flags: &[&str]| {
        let output = program::command().arg("stats").arg(fixture.proxy.file()).args(flags).output();
        let output = output.expect("the program");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).expect("text")
    };
    let table = stats(&[]);
    let lines: Vec<Vec<&str>> =
        table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["USER", "CONNECTIONS", "IN", "OUT", "LAST", "SEEN", "REFUSED"]);
    assert_eq!((lines[1][0], lines[1][1], lines[1][3]), ("alice", "1", "KB"), "{table}");
    assert_eq!(lines[2], ["bob", "(off)", "0", "0", "0", "never", "0"], "{table}");
    let json: serde_json::Value = serde_json::from_str(&stats(&["--json"])).expect("JSON");
    assert_eq!(json["users"]["alice"]["connections"], 1);
    let file = fixture.proxy.file().to_owned();
    let text = fixture.proxy.stats();
    assert!(text["users"]["bob"]["disabled"] == true && file.exists());
}

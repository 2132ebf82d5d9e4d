//! DNS over HTTPS with hand-made responses, complete and split at every byte.

use super::*;

const GOOD: &str = "HTTP/1.1 200 OK\r\nContent-Type: application/dns-message\r\n";

fn read(wire: &str) -> Result<Option<Reply>, DohFault> {
    let mut inbox = wire.as_bytes().to_vec();
    Responses::default().pop_reply(&mut inbox, false)
}

fn packet(text: &str) -> Result<Option<Reply>, DohFault> {
    Ok(Some(Reply::Packet(text.as_bytes().to_vec())))
}

#[test]
fn a_request_has_the_form_of_rfc_8484() {
    let written = |url: &str| {
        let mut out = Vec::new();
        Requests::new(&Url::parse(url).unwrap()).write(&mut out, b"abc");
        String::from_utf8(out).unwrap()
    };
    assert_eq!(
        written("https://dns.example/dns-query"),
        "POST /dns-query HTTP/1.1\r\nHost: dns.example\r\nAccept: application/dns-message\r\n\
         Content-Type: application/dns-message\r\nContent-Length: 3\r\n\r\nabc"
    );
    assert!(
        written("https://[::1]:8443?a=b")
            .starts_with("POST /?a=b HTTP/1.1\r\nHost: [::1]:8443\r\n")
    );
    assert!(written("https://1.1.1.1/").contains("\r\nHost: 1.1.1.1\r\n"));
}

#[test]
fn bodies_of_every_framing_are_parsed_in_pieces_of_any_size() {
    let chunks = "3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nTrailer: z\r\n\r\n";
    let wire = format!(
        "HTTP/1.1 103 Early Hints\r\n\r\n{GOOD}Content-Length: 5\r\n\r\nabcde\
         {GOOD}Transfer-Encoding: chunked\r\n\r\n{chunks}{GOOD}Content-Length: 0\r\n\r\n\
         {GOOD}\r\nabcde"
    );
    for cut in 1..wire.len() {
        let (mut responses, mut inbox, mut read) = (Responses::default(), Vec::new(), Vec::new());
        for part in wire.as_bytes().chunks(cut) {
            inbox.extend_from_slice(part);
            while let Some(response) = responses.pop_reply(&mut inbox, false).unwrap() {
                read.push(response);
            }
        }
        read.extend(responses.pop_reply(&mut inbox, true).unwrap());
        let bodies = ["abcde", "abcde", "", "abcde"];
        let bodies = bodies.map(|body| Reply::Packet(body.as_bytes().to_vec()));
        assert_eq!(read, bodies, "{cut}");
        assert_eq!(responses.pop_reply(&mut inbox, true), Err(DohFault::Closed));
    }
}

#[test]
fn other_responses_are_refusals_and_keep_the_connection_usable() {
    for (status, head) in [
        (500, "500 Oops\r\nContent-Type: application/dns-message\r\nContent-Length: 2\r\n\r\n"),
        (200, "200 OK\r\nContent-Type: text/html\r\nContent-Length: 2\r\n\r\n"),
        (200, "200 OK\r\nContent-Length: 2\r\n\r\n"),
        (302, "302 Found\r\nLocation: http://elsewhere/\r\nContent-Length: 2\r\n\r\n"),
    ] {
        let refusal = Ok(Some(Reply::Refusal(status)));
        let mut inbox = format!("HTTP/1.1 {head}xx{GOOD}Content-Length: 1\r\n\r\ny").into_bytes();
        let mut responses = Responses::default();
        assert_eq!(responses.pop_reply(&mut inbox, false), refusal, "{head}");
        assert_eq!(responses.pop_reply(&mut inbox, false), packet("y"), "{head}");
    }
    let parameter = "HTTP/1.1 200 OK\r\ncontent-type: Application/DNS-Message; x=y\r\n";
    assert_eq!(read(&format!("{parameter}Content-Length: 1\r\n\r\ny")), packet("y"));
}

#[test]
fn a_response_may_be_the_last_one() {
    for (head, is_last) in [
        ("HTTP/1.1 200 OK\r\nConnection: close\r\n", true),
        ("HTTP/1.1 200 OK\r\nConnection: x, CLOSE\r\n", true),
        ("HTTP/1.0 200 OK\r\n", true),
        ("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n", false),
        ("HTTP/1.1 200 OK\r\n", false),
    ] {
        let mut inbox = format!("{head}Content-Length: 1\r\n\r\ny").into_bytes();
        let mut responses = Responses::default();
        assert_eq!(responses.pop_reply(&mut inbox, false), Ok(Some(Reply::Refusal(200))), "{head}");
        let next = responses.pop_reply(&mut inbox, false);
        assert_eq!(next, if is_last { Err(DohFault::Closed) } else { Ok(None) }, "{head}");
    }
}

#[test]
fn invalid_responses_are_reported_at_once() {
    let chunked = format!("{GOOD}Transfer-Encoding: chunked\r\n\r\n");
    let (head, body) = (DohFault::Http(HttpFault::Head), DohFault::Http(HttpFault::Body));
    let long = "x".repeat(65_536);
    for (wire, fault) in [
        ("SSH-2.0-x\r\n".to_owned(), head),
        ("<html>".to_owned(), head),
        (format!("{GOOD}Content-Length: -1\r\n\r\n"), body),
        (format!("{GOOD}Content-Length: 1, 1\r\n\r\n"), body),
        (format!("{GOOD}Transfer-Encoding: gzip\r\n\r\n"), body),
        (format!("{chunked}x\r\n"), body),
        (format!("{chunked}1\r\nab\r\n"), body),
        (format!("{chunked}0;{long}"), body),
        (format!("{chunked}0\r\n{long}"), body),
        (format!("{chunked}10000\r\n{long}"), DohFault::TooLong),
        (format!("{GOOD}Content-Length: 65536\r\n\r\n{long}"), DohFault::TooLong),
        (format!("{GOOD}\r\n{long}"), DohFault::TooLong),
        (format!("{GOOD}A: {long}"), head),
        (format!("{GOOD}{}\r\n", "A: b\r\n".repeat(70)), head),
    ] {
        assert_eq!(read(&wire), Err(fault), "{}", &wire[..wire.len().min(100)]);
    }
}

#[test]
fn an_end_inside_a_response_is_a_fault() {
    let wire = format!("{GOOD}Content-Length: 5\r\n\r\nabcd");
    for end in 0..wire.len() {
        let mut inbox = wire.as_bytes()[..end].to_vec();
        let fault = if end == 0 { DohFault::Closed } else { DohFault::Http(HttpFault::CutOff) };
        assert_eq!(Responses::default().pop_reply(&mut inbox, true), Err(fault), "{end}");
    }
}

/// unbound, BIND and Quad9 send their settings first (RFC 9113 3.4).
#[test]
fn a_server_that_speaks_http_2_only_is_told_apart() {
    let settings = [0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 100];
    for cut in 1..settings.len() {
        let mut inbox = settings[..cut].to_vec();
        let outcome = Responses::default().pop_reply(&mut inbox, false);
        assert!(cut < 4 || outcome == Err(DohFault::Http2), "{cut}: {outcome:?}");
    }
    assert_eq!(read("HTTP/1.0"), Ok(None));
}

//! The server side of HTTP/1.0 as far as an operator's `curl` needs it: one request head in, one
//! response out (RFC 9110, RFC 9112; COMPATIBILITY 6.1).

/// What a client asks for, judged from all bytes so far.
#[derive(Debug, PartialEq, Eq)]
pub enum RequestHead<'a> {
    /// The head is not complete yet.
    Incomplete,
    /// A GET or HEAD.
    Page {
        /// The path without its query.
        path: &'a str,
        /// What stands behind the question mark; empty without one.
        query: &'a str,
        /// HEAD: the response has no body.
        head: bool,
    },
    /// Another method on this path.
    OtherMethod {
        /// The path without its query.
        path: &'a str,
    },
    /// Not HTTP.
    Invalid,
    /// The head is longer than [`HEAD_MAX`] or has too many fields.
    TooLarge,
}

/// Judges a request head.
pub fn parse_request(seen: &[u8]) -> RequestHead<'_> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut request = httparse::Request::new(&mut fields);
    match request.parse(seen) {
        Ok(httparse::Status::Complete(len)) if len > HEAD_MAX => RequestHead::TooLarge,
        Ok(httparse::Status::Complete(_)) => {
            let (Some(method), Some(target)) = (request.method, request.path) else {
                return RequestHead::Invalid;
            };
            let (path, query) = target.split_once('?').unwrap_or((target, ""));
            match method {
                "GET" => RequestHead::Page { path, query, head: false },
                "HEAD" => RequestHead::Page { path, query, head: true },
                _ => RequestHead::OtherMethod { path },
            }
        }
        Ok(httparse::Status::Partial) if seen.len() >= HEAD_MAX => RequestHead::TooLarge,
        Ok(httparse::Status::Partial) => RequestHead::Incomplete,
        Err(httparse::Error::TooManyHeaders) => RequestHead::TooLarge,
        Err(_) => RequestHead::Invalid,
    }
}

/// The status line's code and reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status(pub u16, pub &'static str);

/// 200.
pub const OK: Status = Status(200, "OK");
/// 400.
pub const BAD_REQUEST: Status = Status(400, "Bad Request");
/// 404.
pub const NOT_FOUND: Status = Status(404, "Not Found");
/// 405.
pub const METHOD_NOT_ALLOWED: Status = Status(405, "Method Not Allowed");
/// 408.
pub const REQUEST_TIMEOUT: Status = Status(408, "Request Timeout");
/// 431.
pub const HEAD_TOO_LARGE: Status = Status(431, "Request Header Fields Too Large");

/// A whole response; with `head` the body is announced but not sent.
pub fn response(status: Status, kind: &str, body: &str, head: bool) -> Vec<u8> {
    let Status(code, reason) = status;
    let allow = if status == METHOD_NOT_ALLOWED { "Allow: GET, HEAD\r\n" } else { "" };
    let mut out = format!(
        "HTTP/1.0 {code} {reason}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n{allow}\
         Connection: close\r\n\r\n",
        body.len()
    );
    if !head {
        out.push_str(body);
    }
    out.into_bytes()
}

/// Most bytes of a request head.
pub const HEAD_MAX: usize = 2048;
const FIELDS_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_comes_without_its_query() {
        let seen = b"GET /stats?pretty HTTP/1.1\r\nHost: x\r\n\r\n";
        assert_eq!(
            parse_request(seen),
            RequestHead::Page { path: "/stats", query: "pretty", head: false }
        );
        let head = RequestHead::Page { path: "/", query: "", head: true };
        assert_eq!(parse_request(b"HEAD / HTTP/1.0\r\n\r\n"), head);
        assert_eq!(
            parse_request(b"POST /stats HTTP/1.0\r\n\r\n"),
            RequestHead::OtherMethod { path: "/stats" }
        );
    }

    #[test]
    fn every_prefix_of_a_head_asks_for_more() {
        let seen = b"GET /stats HTTP/1.1\r\nHost: x\r\n\r\n";
        for end in 0..seen.len() {
            assert_eq!(parse_request(&seen[..end]), RequestHead::Incomplete, "{end}");
        }
    }

    #[test]
    fn long_heads_and_noise_are_refused() {
        let mut long = b"GET / HTTP/1.1\r\nA: ".to_vec();
        long.resize(HEAD_MAX, b'a');
        assert_eq!(parse_request(&long), RequestHead::TooLarge);
        long.extend_from_slice(b"\r\n\r\n");
        assert_eq!(parse_request(&long), RequestHead::TooLarge);
        let fields = "A: b\r\n".repeat(FIELDS_MAX + 1);
        let many = format!("GET / HTTP/1.1\r\n{fields}\r\n");
        assert_eq!(parse_request(many.as_bytes()), RequestHead::TooLarge);
        assert_eq!(parse_request(b"\x16\x03\x01\x02\x00"), RequestHead::Invalid);
    }

    #[test]
    fn a_response_to_head_announces_the_body_only() {
        let text = String::from_utf8(response(OK, "application/json", "{}\n", true)).unwrap();
        assert!(text.starts_with("HTTP/1.0 200 OK\r\n"));
        assert!(text.contains("Content-Length: 3\r\n"));
        assert!(text.ends_with("\r\n\r\n"));
    }
}

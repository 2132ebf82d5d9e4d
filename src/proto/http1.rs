//! A minimal HTTP/1.0 server for the admin interface: one request head, one response (RFC 9110, RFC
//! 9112; COMPATIBILITY 6.1).

/// Result of [`parse_request`].
#[derive(Debug, PartialEq, Eq)]
pub enum RequestHead<'a> {
    /// The head is incomplete.
    Incomplete,
    /// A GET or HEAD request.
    Page {
        /// The path without the query.
        path: &'a str,
        /// The query without the question mark; empty if there is none.
        query: &'a str,
        /// Whether it is HEAD, so that the response has no body.
        head: bool,
    },
    /// A request with another method.
    OtherMethod {
        /// The path without the query.
        path: &'a str,
    },
    /// Not HTTP.
    Invalid,
    /// The head has more than [`HEAD_MAX`] bytes or too many fields.
    TooLarge,
}

/// Parses a request head from all bytes received so far.
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

/// Status code and reason phrase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status(pub u16, pub &'static str);

/// The requested page.
pub const OK: Status = Status(200, "OK");
/// The request is not HTTP.
pub const BAD_REQUEST: Status = Status(400, "Bad Request");
/// No such page.
pub const NOT_FOUND: Status = Status(404, "Not Found");
/// Another method than GET or HEAD.
pub const METHOD_NOT_ALLOWED: Status = Status(405, "Method Not Allowed");
/// The request did not arrive in time.
pub const REQUEST_TIMEOUT: Status = Status(408, "Request Timeout");
/// The request head is too large.
pub const HEAD_TOO_LARGE: Status = Status(431, "Request Header Fields Too Large");

/// A complete response. With `head`, Content-Length counts the body, but the body is not included.
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

/// Longest request head in bytes.
pub const HEAD_MAX: usize = 2048;
const FIELDS_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_is_split_from_its_query() {
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
    fn every_prefix_of_a_head_is_incomplete() {
        let seen = b"GET /stats HTTP/1.1\r\nHost: x\r\n\r\n";
        for end in 0..seen.len() {
            assert_eq!(parse_request(&seen[..end]), RequestHead::Incomplete, "{end}");
        }
    }

    #[test]
    fn long_heads_and_other_bytes_are_refused() {
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

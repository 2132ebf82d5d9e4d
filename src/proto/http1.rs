//! Heads of HTTP/1 requests and responses, and a minimal HTTP/1.0 server for the admin interface:
//! one request head, one response (RFC 9110, RFC 9112; COMPATIBILITY 6.1).

/// Why there is no head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeadFault {
    /// The head is incomplete.
    Incomplete,
    /// Not HTTP.
    Invalid,
    /// The head has too many bytes or fields.
    TooLarge,
}

/// The fields of a head while it is parsed.
pub(super) const NO_FIELDS: [httparse::Header<'_>; 64] = [httparse::EMPTY_HEADER; 64];

/// The length of a head of at most `max` bytes, from what httparse says about the `seen` bytes that
/// were received so far.
pub(super) fn head_len(
    parsed: httparse::Result<usize>,
    seen: usize,
    max: usize,
) -> Result<usize, HeadFault> {
    match parsed {
        Ok(httparse::Status::Complete(len)) if len <= max => Ok(len),
        Ok(httparse::Status::Partial) if seen < max => Err(HeadFault::Incomplete),
        Ok(_) | Err(httparse::Error::TooManyHeaders) => Err(HeadFault::TooLarge),
        Err(_) => Err(HeadFault::Invalid),
    }
}

/// The request line of a request.
#[derive(Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// `GET`, `HEAD` or another method.
    pub method: &'a str,
    /// The path without the query.
    pub path: &'a str,
    /// The query without the question mark; empty if there is none.
    pub query: &'a str,
}

/// Parses a request head from all bytes received so far.
///
/// # Errors
/// There is no head of at most [`REQUEST_HEAD_MAX`] bytes.
pub fn parse_request(seen: &[u8]) -> Result<Request<'_>, HeadFault> {
    let mut fields = NO_FIELDS;
    let mut request = httparse::Request::new(&mut fields);
    head_len(request.parse(seen), seen.len(), REQUEST_HEAD_MAX)?;
    let (method, target) = request.method.zip(request.path).ok_or(HeadFault::Invalid)?;
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    Ok(Request { method, path, query })
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
/// There is no memory for the response.
pub const UNAVAILABLE: Status = Status(503, "Service Unavailable");

/// The head of a response with a body of `len` bytes.
pub fn response_head(status: Status, kind: &str, len: usize) -> String {
    let Status(code, reason) = status;
    let allow = if status == METHOD_NOT_ALLOWED { "Allow: GET, HEAD\r\n" } else { "" };
    format!(
        "HTTP/1.0 {code} {reason}\r\nContent-Type: {kind}\r\nContent-Length: {len}\r\n{allow}\
         Connection: close\r\n\r\n"
    )
}

/// Longest request head in bytes.
pub const REQUEST_HEAD_MAX: usize = 2048;
/// Longest response head in bytes.
pub(super) const RESPONSE_HEAD_MAX: usize = 8192;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_is_split_from_its_query() {
        for (seen, method, path, query) in [
            ("GET /stats?pretty HTTP/1.1\r\nHost: x\r\n\r\n", "GET", "/stats", "pretty"),
            ("HEAD / HTTP/1.0\r\n\r\n", "HEAD", "/", ""),
            ("POST /stats HTTP/1.0\r\n\r\n", "POST", "/stats", ""),
        ] {
            assert_eq!(parse_request(seen.as_bytes()), Ok(Request { method, path, query }));
        }
    }

    #[test]
    fn every_prefix_of_a_head_is_incomplete() {
        let seen = b"GET /stats HTTP/1.1\r\nHost: x\r\n\r\n";
        for end in 0..seen.len() {
            assert_eq!(parse_request(&seen[..end]), Err(HeadFault::Incomplete), "{end}");
        }
    }

    #[test]
    fn long_heads_and_other_bytes_are_refused() {
        let mut long = b"GET / HTTP/1.1\r\nA: ".to_vec();
        long.resize(REQUEST_HEAD_MAX, b'a');
        assert_eq!(parse_request(&long), Err(HeadFault::TooLarge));
        long.extend_from_slice(b"\r\n\r\n");
        assert_eq!(parse_request(&long), Err(HeadFault::TooLarge));
        let fields = "A: b\r\n".repeat(NO_FIELDS.len() + 1);
        let many = format!("GET / HTTP/1.1\r\n{fields}\r\n");
        assert_eq!(parse_request(many.as_bytes()), Err(HeadFault::TooLarge));
        assert_eq!(parse_request(b"\x16\x03\x01\x02\x00"), Err(HeadFault::Invalid));
    }

    #[test]
    fn a_response_head_announces_the_body() {
        let text = response_head(OK, "application/json", 3);
        assert!(text.starts_with("HTTP/1.0 200 OK\r\n"));
        assert!(text.contains("Content-Length: 3\r\n"));
        assert!(text.ends_with("\r\n\r\n") && !text.contains("Allow"));
        assert!(response_head(METHOD_NOT_ALLOWED, "", 0).contains("\r\nAllow: GET, HEAD\r\n"));
    }
}

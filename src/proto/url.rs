//! Parser for the URLs of configuration and redirects (RFC 3986 3, RFC 9110 4.2). There is no
//! `Display`, since a URL may contain a password.

use std::net::Ipv6Addr;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::util::host_port::{self, HostPort};

/// An absolute URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    /// The scheme in lower case, such as `https`.
    pub scheme: String,
    /// User name and password, not percent-decoded.
    pub user: Option<(String, String)>,
    /// A host name, or an IP address without brackets; may be empty.
    pub host: String,
    /// The port, if the URL has one.
    pub port: Option<u16>,
    /// Path and query without the fragment; empty, or starts with `/` or `?`.
    pub path: String,
}

impl Url {
    /// Parses an absolute URL; `None` if it has no scheme, an invalid character, or a port outside
    /// 1 to 65535.
    pub fn parse(text: &str) -> Option<Self> {
        if text.chars().any(|c| c.is_ascii_control() || c == ' ') {
            return None;
        }
        let (scheme, rest) = text.split_once("://")?;
        let mut letters = scheme.bytes();
        let is_first_valid = letters.next().is_some_and(|byte| byte.is_ascii_alphabetic());
        let is_valid = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
        if !is_first_valid || !letters.all(is_valid) {
            return None;
        }
        let (rest, _fragment) = rest.split_once('#').unwrap_or((rest, ""));
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at_checked(end)?;
        let (user, authority) = match authority.rsplit_once('@') {
            Some((userinfo, authority)) => {
                let (name, password) = userinfo.split_once(':').unwrap_or((userinfo, ""));
                (Some((name.to_owned(), password.to_owned())), authority)
            }
            None => (None, authority),
        };
        let (host, port) = host_port::split(authority)?;
        if authority.starts_with('[') && host.parse::<Ipv6Addr>().is_err() {
            return None;
        }
        Some(Self {
            scheme: scheme.to_ascii_lowercase(),
            user,
            host: host.to_owned(),
            port,
            path: path.to_owned(),
        })
    }

    /// The port of the URL, else the default of the scheme (`http` 80, `https` 443), else `other`.
    pub fn port_or(&self, other: u16) -> u16 {
        self.port.unwrap_or(match self.scheme.as_str() {
            "http" => 80,
            "https" => 443,
            _ => other,
        })
    }

    /// The host and the port, see [`Url::port_or`].
    pub fn server(&self, other: u16) -> HostPort {
        HostPort::new(&self.host, self.port_or(other))
    }

    /// Resolves a `Location` against this URL: an absolute URL, `//host/path`, `/path`, `?query` or
    /// a relative path (RFC 3986 5.2, without dot segments). `None` = it is not valid.
    pub fn join(&self, location: &str) -> Option<Self> {
        if location.contains("://") {
            return Self::parse(location);
        }
        if location.starts_with("//") {
            return Self::parse(&format!("{}:{location}", self.scheme));
        }
        if location.chars().any(|c| c.is_ascii_control() || c == ' ') {
            return None;
        }
        let (location, _fragment) = location.split_once('#').unwrap_or((location, ""));
        let (own, _query) = self.path.split_once('?').unwrap_or((&self.path, ""));
        let path = if location.starts_with('/') {
            location.to_owned()
        } else if location.is_empty() || location.starts_with('?') {
            format!("{own}{location}")
        } else {
            let folder = own.rfind('/').and_then(|at| own.get(..=at)).unwrap_or("/");
            format!("{folder}{location}")
        };
        Some(Self { path, ..self.clone() })
    }
}

/// Percent-encodes all but the unreserved characters of RFC 3986 2.3.
pub fn percent_encoded(text: &str) -> String {
    utf8_percent_encode(text, RESERVED).to_string()
}

/// Decodes percent-encoding (RFC 3986 2.1); `None` if a `%` is not followed by two hex digits.
pub fn percent_decoded(text: &str) -> Option<Vec<u8>> {
    let is_byte = |hex: &[u8; 2]| hex.iter().all(u8::is_ascii_hexdigit);
    let is_valid = |rest: &str| rest.as_bytes().first_chunk().is_some_and(is_byte);
    text.split('%').skip(1).all(is_valid).then(|| percent_decode_str(text).collect())
}

const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_split_into_its_parts() {
        let url = Url::parse("HTTPS://me:s%3Ct@Example.org:8443/a/b?c=d#e").unwrap();
        assert_eq!(url.scheme, "https");
        assert_eq!(url.user, Some(("me".to_owned(), "s%3Ct".to_owned())));
        assert_eq!((url.host.as_str(), url.port), ("Example.org", Some(8443)));
        assert_eq!(url.path, "/a/b?c=d");
        let v6 = Url::parse("socks5://[2001:db8::1]").unwrap();
        assert_eq!((v6.host.as_str(), v6.port_or(1080)), ("2001:db8::1", 1080));
        assert_eq!(Url::parse("http://h?q").unwrap().path, "?q");
    }

    #[test]
    fn an_invalid_url_is_refused() {
        for text in ["", "h", "://h", "1a://h", "a://[::1", "a://[x]", "a://h:0", "a://h:65536"] {
            assert_eq!(Url::parse(text), None, "{text}");
        }
        for text in ["a://h:1x", "a://2001:db8::1", "a://h h", "a://h\n", "a://a\"b"] {
            assert_eq!(Url::parse(text), None, "{text}");
        }
    }

    #[test]
    fn percent_encoding_is_decoded() {
        assert_eq!(percent_decoded("a%40%3ab%fF").as_deref(), Some(&b"a@:b\xff"[..]));
        for text in ["%", "%4", "%4x", "a%", "%\u{e9}0"] {
            assert_eq!(percent_decoded(text), None, "{text}");
        }
    }

    #[test]
    fn a_location_is_resolved_against_its_base() {
        let base = Url::parse("https://h:444/a/b?q").unwrap();
        for (location, want) in [
            ("http://other/x", "http://other/x"),
            ("//other/x", "https://other/x"),
            ("/x?y#z", "https://h:444/x?y"),
            ("?y", "https://h:444/a/b?y"),
            ("x", "https://h:444/a/x"),
        ] {
            assert_eq!(base.join(location), Url::parse(want), "{location}");
        }
        assert_eq!(base.join("/a b"), None);
        assert_eq!(base.join("gopher"), Url::parse("https://h:444/a/gopher"));
    }
}

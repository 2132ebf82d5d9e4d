//! URLs, as far as a config or a redirect needs them (RFC 3986 3, RFC 9110 4.2). Never printed
//! whole: a URL may carry a password.

use std::net::Ipv6Addr;

/// An absolute URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    /// In lower case, such as `https`.
    pub scheme: String,
    /// Name and password before the host, as they stand there.
    pub user: Option<(String, String)>,
    /// A name or a literal address, without brackets; may be empty.
    pub host: String,
    /// The port, when one is given.
    pub port: Option<u16>,
    /// Path and query, without the fragment; empty or starting with `/` or `?`.
    pub path: String,
}

impl Url {
    /// Reads an absolute URL. `None` = it is none: no scheme, stray characters, a port that is no
    /// number from 1 to 65535.
    pub fn parse(text: &str) -> Option<Self> {
        if text.chars().any(|c| c.is_ascii_control() || c == ' ') {
            return None;
        }
        let (scheme, rest) = text.split_once("://")?;
        let mut letters = scheme.bytes();
        let first_fits = letters.next().is_some_and(|byte| byte.is_ascii_alphabetic());
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
        if !first_fits || !letters.all(fits) {
            return None;
        }
        let (rest, _fragment) = rest.split_once('#').unwrap_or((rest, ""));
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at_checked(end)?;
        let (user, place) = match authority.rsplit_once('@') {
            Some((who, place)) => {
                let (name, password) = who.split_once(':').unwrap_or((who, ""));
                (Some((name.to_owned(), password.to_owned())), place)
            }
            None => (None, authority),
        };
        let (host, port) = split_place(place)?;
        Some(Self {
            scheme: scheme.to_ascii_lowercase(),
            user,
            host: host.to_owned(),
            port,
            path: path.to_owned(),
        })
    }

    /// The port that is given, or that the scheme has (`http` 80, `https` 443, else `other`).
    pub fn port_or(&self, other: u16) -> u16 {
        self.port.unwrap_or(match self.scheme.as_str() {
            "http" => 80,
            "https" => 443,
            _ => other,
        })
    }

    /// Where a `Location` leads from here: an absolute URL, `//host/path`, `/path`, `?query`, or a
    /// name beside this one (RFC 3986 5.2, without dot segments). `None` = it is no URL.
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

/// Keeps what RFC 3986 2.3 calls unreserved; the inverse of [`percent_decoded`].
pub fn percent_encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// Undoes `%41` and the like (RFC 3986 2.1). `None` = two digits are missing behind a `%`.
pub fn percent_decoded(text: &str) -> Option<Vec<u8>> {
    let mut bytes = text.bytes();
    let mut out = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let mut digit = || bytes.next().and_then(|byte| char::from(byte).to_digit(16));
        let (high, low) = (digit()?, digit()?);
        out.push((high * 16 + low) as u8);
    }
    Some(out)
}

fn split_place(place: &str) -> Option<(&str, Option<u16>)> {
    let (host, port) = match place.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']')?;
            host.parse::<Ipv6Addr>().ok()?;
            (host, if after.is_empty() { "" } else { after.strip_prefix(':')? })
        }
        None => place.rsplit_once(':').unwrap_or((place, "")),
    };
    let stray = |c: char| matches!(c, ' ' | '"' | '<' | '>' | '[' | ']' | '\\');
    if host.contains(stray) || (!place.starts_with('[') && host.contains(':')) {
        return None;
    }
    if port.is_empty() {
        return Some((host, None));
    }
    if !port.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    port.parse().ok().filter(|port| *port > 0).map(|port| (host, Some(port)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_stand_where_they_belong() {
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
    fn what_is_no_url_is_none() {
        for text in ["", "h", "://h", "1a://h", "a://[::1", "a://[x]", "a://h:0", "a://h:65536"] {
            assert_eq!(Url::parse(text), None, "{text}");
        }
        for text in ["a://h:1x", "a://2001:db8::1", "a://h h", "a://h\n", "a://a\"b"] {
            assert_eq!(Url::parse(text), None, "{text}");
        }
    }

    #[test]
    fn percent_signs_stand_for_bytes() {
        assert_eq!(percent_decoded("a%40%3ab%fF").as_deref(), Some(&b"a@:b\xff"[..]));
        for text in ["%", "%4", "%4x", "a%", "%\u{e9}0"] {
            assert_eq!(percent_decoded(text), None, "{text}");
        }
    }

    #[test]
    fn a_location_is_read_from_where_it_was_said() {
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

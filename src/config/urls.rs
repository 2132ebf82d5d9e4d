//! The few kinds of URL that the file may hold (spec: config 2.8 to 2.11), and list sources,
//! which may also be files. A fault never repeats the text, since a URL may carry a password.

use std::fs;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;

use super::addresses;

/// What `network.dns` names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameServer {
    /// Plain DNS over UDP.
    Udp(SocketAddr),
    /// DNS over TLS.
    Tls,
    /// DNS over HTTPS.
    Https,
}

/// Reads a bare IPv4 address, `udp://IP[:port]`, `tls://host[:port]` or
/// `https://host[:port][/path]`.
pub fn name_server(text: &str) -> Result<NameServer, &'static str> {
    if !text.contains("://") {
        let (bare, _query) = text.split_once('?').unwrap_or((text, ""));
        let ip = bare.parse().map_err(|_| NOT_DNS)?;
        return Ok(NameServer::Udp(SocketAddr::new(IpAddr::V4(ip), DNS_PORT)));
    }
    let url = Url::parse(text).ok_or(NOT_DNS)?;
    if url.has_user || url.host.is_empty() {
        return Err(NOT_DNS);
    }
    let port = match url.port {
        "" => None,
        digits => Some(addresses::port_number(digits).ok_or(NOT_DNS)?),
    };
    match url.scheme.as_str() {
        "https" => Ok(NameServer::Https),
        "tls" if url.path.is_empty() => Ok(NameServer::Tls),
        "udp" if url.path.is_empty() => {
            let ip = addresses::ip(url.host).map_err(|_| NOT_DNS)?;
            Ok(NameServer::Udp(SocketAddr::new(ip, port.unwrap_or(DNS_PORT))))
        }
        _ => Err(NOT_DNS),
    }
}

/// Checks `socks5://[user[:password]@]host[:port]`; `true` = a real proxy, `false` = the empty
/// text or `direct`, which mean none.
pub fn proxy(text: &str) -> Result<bool, &'static str> {
    if text.is_empty() || text.eq_ignore_ascii_case("direct") {
        return Ok(false);
    }
    let url = Url::parse(text).ok_or(NOT_A_PROXY)?;
    let is_socks = matches!(url.scheme.as_str(), "socks5" | "socks5h");
    if is_socks && !url.host.is_empty() { Ok(true) } else { Err(NOT_A_PROXY) }
}

/// Checks an absolute `https` URL with a host.
pub fn https(text: &str) -> Result<(), &'static str> {
    let url = Url::parse(text).filter(|url| url.scheme == "https" && !url.host.is_empty());
    url.map(|_| ()).ok_or(NOT_HTTPS)
}

/// Checks a list source: a file that its owner may read, else an `http` or `https` URL. Asks the
/// file system, as relative names count from the working directory.
pub fn list_source(text: &str) -> Result<(), &'static str> {
    if let Ok(found) = fs::metadata(text) {
        return match found {
            _ if found.is_dir() => Err("this is a directory; name a file in it"),
            _ if found.permissions().mode() & OWNER_READ == 0 => {
                Err("this file's owner may not read it; chmod u+r it")
            }
            _ => Ok(()),
        };
    }
    let url = Url::parse(text).filter(|url| matches!(url.scheme.as_str(), "http" | "https"));
    url.filter(|url| !url.host.is_empty()).map(|_| ()).ok_or(NOT_A_SOURCE)
}

/// The parts of an absolute URL (RFC 3986 3) that decide here.
struct Url<'a> {
    /// In lower case.
    scheme: String,
    has_user: bool,
    /// Without brackets; may be empty.
    host: &'a str,
    /// Digits, or empty.
    port: &'a str,
    path: &'a str,
}

impl<'a> Url<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        if text.chars().any(|c| c.is_ascii_control()) {
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
        let (rest, _query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_at_checked(rest.find('/').unwrap_or(rest.len()))?;
        let (has_user, place) = match authority.rsplit_once('@') {
            Some((_, place)) => (true, place),
            None => (false, authority),
        };
        let (host, port) = Self::split_place(place)?;
        Some(Self { scheme: scheme.to_ascii_lowercase(), has_user, host, port, path })
    }

    fn split_place(place: &str) -> Option<(&str, &str)> {
        let (host, port) = match place.strip_prefix('[') {
            Some(rest) => {
                let (host, after) = rest.split_once(']')?;
                host.parse::<Ipv6Addr>().ok()?;
                (host, if after.is_empty() { "" } else { after.strip_prefix(':')? })
            }
            None => place.rsplit_once(':').unwrap_or((place, "")),
        };
        let stray = |c: char| matches!(c, ' ' | '"' | '<' | '>' | '[' | ']');
        let clean = !host.contains(stray) && port.bytes().all(|byte| byte.is_ascii_digit());
        (clean && (place.starts_with('[') || !host.contains(':'))).then_some((host, port))
    }
}

const DNS_PORT: u16 = 53;
const OWNER_READ: u32 = 0o400;
const NOT_DNS: &str =
    "not a name server; write 1.1.1.1, udp://IP:port, tls://host or https://host/path";
const NOT_A_PROXY: &str = "not a SOCKS5 proxy; write socks5://user:password@host:1080";
const NOT_HTTPS: &str = "not a web page; write a whole https:// URL";
const NOT_A_SOURCE: &str = "neither an existing file nor an http(s):// URL; check the path";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_servers_have_four_forms() {
        let udp = |text: &str| Ok(NameServer::Udp(text.parse().unwrap()));
        for (text, want) in [
            ("1.1.1.1", udp("1.1.1.1:53")),
            ("udp://1.1.1.1", udp("1.1.1.1:53")),
            ("UDP://1.1.1.1:5353", udp("1.1.1.1:5353")),
            ("udp://[2606:4700::1111]", udp("[2606:4700::1111]:53")),
            ("udp://[::1]:54?x=y", udp("[::1]:54")),
            ("tls://dns.google", Ok(NameServer::Tls)),
            ("tls://1.1.1.1:8853", Ok(NameServer::Tls)),
            ("https://1.1.1.1", Ok(NameServer::Https)),
            ("https://dns.google:8443/dns-query", Ok(NameServer::Https)),
        ] {
            assert_eq!(name_server(text), want, "{text}");
        }
        for text in [
            "",
            "1.1.1.1:53",
            "::1",
            "dns.google",
            "tcp://1.1.1.1",
            "udp://dns.google",
            "udp://1.1.1.1/path",
            "1.1.1.1/path",
            "tls://dns.google/path",
            "tls://",
            "https://user:pw@1.1.1.1",
            "tls://user@1.1.1.1",
            "udp://u:p@1.1.1.1",
            "udp://::1",
            "udp://1.1.1.1:0",
            "udp://1.1.1.1:99999",
            "tls://a:b",
            "https:///dns-query",
        ] {
            assert_eq!(name_server(text), Err(NOT_DNS), "{text}");
        }
    }

    #[test]
    fn proxies_are_socks5_or_none_at_all() {
        for text in [
            "socks5://127.0.0.1:1080",
            "SOCKS5H://user:pw@proxy",
            "socks5://[::1]",
            "socks5://[::1]:1081/path?x=y",
            "socks5://u:p@ss@host",
            "socks5://host:99999",
        ] {
            assert_eq!(proxy(text), Ok(true), "{text}");
        }
        assert_eq!((proxy(""), proxy("direct")), (Ok(false), Ok(false)));
        for text in ["socks5://", "socks5://:1080", "http://host", "host:1080", "socks5://h:x"] {
            assert_eq!(proxy(text), Err(NOT_A_PROXY), "{text}");
        }
    }

    #[test]
    fn pages_are_whole_https_urls() {
        for text in ["https://a.example", "HTTPS://u:p@a.example:8443/x?y#z", "https://[::1]/"] {
            assert_eq!(https(text), Ok(()), "{text}");
        }
        for text in ["", "http://a.example", "https://", "https:///x", "a.example", "https:a.b"] {
            assert_eq!(https(text), Err(NOT_HTTPS), "{text}");
        }
    }

    #[test]
    fn list_sources_are_readable_files_or_web_addresses() {
        let here = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
        for text in [here, "Cargo.toml", "http://a.example/list", "https://a.example/list"] {
            assert_eq!(list_source(text), Ok(()), "{text}");
        }
        assert_eq!(list_source("src"), Err("this is a directory; name a file in it"));
        for text in ["", "no-such-file.netset", "ftp://a.example/list", "https://"] {
            assert_eq!(list_source(text), Err(NOT_A_SOURCE), "{text}");
        }
    }
}

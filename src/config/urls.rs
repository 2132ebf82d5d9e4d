//! Parsers for the URLs and paths in the file (COMPATIBILITY 3.2.8 to 3.2.11). An error never
//! repeats the text, since a URL may contain a password.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use crate::config::features::HAS_TLS;
use crate::config::settings::{ListSource, NameServer, ProxySettings, UpstreamSettings};
use crate::config::{addresses, units};
use crate::proto::url::{Url, percent_decoded};
use crate::util::host_port::Bracketed;

/// Parses an IPv4 address, `udp://IP[:port]`, `tls://host[:port]` or
/// `https://host[:port][/path]`.
pub fn name_server(text: &str) -> Result<NameServer, &'static str> {
    if !text.contains("://") {
        let (bare, _query) = text.split_once('?').unwrap_or((text, ""));
        let ip = bare.parse().map_err(|_| NOT_DNS)?;
        return Ok(NameServer::Udp(SocketAddr::new(IpAddr::V4(ip), DNS_PORT)));
    }
    let mut url = Url::parse(text).ok_or(NOT_DNS)?;
    if url.user.is_some() || url.host.is_empty() {
        return Err(NOT_DNS);
    }
    let is_bare = url.path.is_empty() || url.path.starts_with('?');
    match url.scheme.as_str() {
        "https" | "tls" if !HAS_TLS => Err(DNS_WITHOUT_TLS),
        "https" => {
            if is_bare {
                url.path = format!("{DOH_PATH}{}", url.path);
            }
            Ok(NameServer::Https(url))
        }
        "tls" if is_bare => Ok(NameServer::Tls(url.server(DOT_PORT))),
        "udp" if is_bare => {
            let ip = addresses::ip(&url.host).map_err(|_| NOT_DNS)?;
            Ok(NameServer::Udp(SocketAddr::new(ip, url.port_or(DNS_PORT))))
        }
        _ => Err(NOT_DNS),
    }
}

/// The DNS over HTTPS server at an address, for `doh-ip`.
///
/// # Errors
/// In a build without TLS.
pub fn doh_at(ip: IpAddr) -> Result<NameServer, &'static str> {
    name_server(&format!("https://{}", Bracketed(&ip.to_string())))
}

/// Parses `socks5://[user[:password]@]host[:port][?open_threshold=5&half_open_timeout=1m
/// &reset_failures_timeout=10s]`; the empty string and `direct` mean no proxy.
pub fn proxy(text: &str) -> Result<UpstreamSettings, &'static str> {
    if text.is_empty() || text.eq_ignore_ascii_case("direct") {
        return Ok(UpstreamSettings::Direct);
    }
    let url = Url::parse(text).ok_or(NOT_A_PROXY)?;
    if !matches!(url.scheme.as_str(), "socks5" | "socks5h") || url.host.is_empty() {
        return Err(NOT_A_PROXY);
    }
    let mut proxy = ProxySettings {
        server: url.server(SOCKS_PORT),
        user: url.user.as_ref().map_or(Ok(None), credentials)?,
        open_threshold: 5,
        half_open_timeout: Duration::from_secs(60),
        reset_failures_timeout: Duration::from_secs(10),
    };
    let (_path, query) = url.path.split_once('?').unwrap_or_default();
    for pair in query.split('&') {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        match name {
            "open_threshold" => {
                let count = value.parse().ok().filter(|count| (1..=65_535).contains(count));
                proxy.open_threshold = count.ok_or(BAD_THRESHOLD)?;
            }
            "half_open_timeout" => {
                proxy.half_open_timeout = positive(value).ok_or(BAD_HALF_OPEN)?;
            }
            "reset_failures_timeout" => {
                proxy.reset_failures_timeout = positive(value).ok_or(BAD_RESET)?;
            }
            _ => {}
        }
    }
    Ok(UpstreamSettings::Socks5(proxy))
}

/// User name and password.
type Credentials = (Vec<u8>, Vec<u8>);

/// User name and password, within the limits of RFC 1929; `None` if both are empty.
fn credentials(given: &(String, String)) -> Result<Option<Credentials>, &'static str> {
    let decoded = |text| percent_decoded(text).ok_or(BAD_USER);
    let (name, password) = (decoded(&given.0)?, decoded(&given.1)?);
    if name.is_empty() && password.is_empty() {
        return Ok(None);
    }
    let fits = (1..=255).contains(&name.len()) && password.len() <= 255;
    if fits { Ok(Some((name, password))) } else { Err(BAD_USER) }
}

fn positive(text: &str) -> Option<Duration> {
    units::duration(text).ok().filter(|time| !time.is_zero())
}

/// Parses an absolute `https` URL with a host.
pub(super) fn https_url(text: &str) -> Result<Url, &'static str> {
    http_url(text).ok().filter(|url| url.scheme == "https").ok_or(NOT_HTTPS)
}

/// Parses an absolute `http` or `https` URL with a host.
pub(super) fn http_url(text: &str) -> Result<Url, &'static str> {
    let is_page = |url: &Url| !url.host.is_empty() && ["http", "https"].contains(&&*url.scheme);
    Url::parse(text).filter(is_page).ok_or(NOT_A_PAGE)
}

/// Parses a list source: an existing file that its owner can read, or an `http` or `https` URL. A
/// relative path is relative to the working directory.
pub fn list_source(text: &str) -> Result<ListSource, &'static str> {
    if let Ok(found) = fs::metadata(text) {
        return match found {
            _ if found.is_dir() => Err("this is a directory; name a file in it"),
            _ if found.permissions().mode() & OWNER_READ == 0 => {
                Err("the owner of this file cannot read it; run chmod u+r on it")
            }
            _ => Ok(ListSource::File(absolute(text))),
        };
    }
    http_url(text).map(ListSource::Web).map_err(|_| NOT_A_SOURCE)
}

/// Parses the path of an existing file.
pub(super) fn existing_file(text: &str) -> Result<PathBuf, &'static str> {
    match fs::metadata(text) {
        Ok(found) if found.is_dir() => Err("this is a directory; name a file in it"),
        Ok(_) => Ok(absolute(text)),
        Err(_) => Err("no such file; check the path"),
    }
}

/// Parses the path of a file that we write; it need not exist.
pub(super) fn writable_file(text: &str) -> Result<PathBuf, &'static str> {
    let is_directory = text.ends_with('/') || fs::metadata(text).is_ok_and(|found| found.is_dir());
    if is_directory { Err("this is a directory; name a file in it") } else { Ok(absolute(text)) }
}

/// Parses the path of a directory. A missing one is created when it is needed: the proxy must start
/// even if a disk is mounted later.
pub(super) fn directory(text: &str) -> Result<PathBuf, &'static str> {
    let is_other = fs::metadata(text).is_ok_and(|found| !found.is_dir());
    if text.is_empty() || is_other {
        Err("not a directory; write the path of one")
    } else {
        Ok(absolute(text))
    }
}

fn absolute(text: &str) -> PathBuf {
    std::path::absolute(text).unwrap_or_else(|_| PathBuf::from(text))
}

const DNS_PORT: u16 = 53;
const DOT_PORT: u16 = 853;
const DOH_PATH: &str = "/dns-query";
const SOCKS_PORT: u16 = 1080;
const OWNER_READ: u32 = 0o400;
const NOT_DNS: &str =
    "not a name server; write 1.1.1.1, udp://IP:port, tls://host or https://host/path";
const NOT_A_PROXY: &str = "not a SOCKS5 proxy; write socks5://user:password@host:1080";
const BAD_USER: &str =
    "the user must have 1 to 255 bytes, the password at most 255; write % as %25";
const BAD_THRESHOLD: &str = "open_threshold must be a number from 1 to 65535";
const BAD_HALF_OPEN: &str = "half_open_timeout must be a duration, such as 1m";
const BAD_RESET: &str = "reset_failures_timeout must be a duration, such as 10s";
const NOT_HTTPS: &str = "not a web page; write a complete https:// URL";
const NOT_A_PAGE: &str = "not a web page; write a complete http:// or https:// URL";
const NOT_A_SOURCE: &str = "neither an existing file nor an http(s):// URL; check the path";
const DNS_WITHOUT_TLS: &str =
    "this build has no TLS; use udp://IP, or install the full mtbox instead of mtbox-mini";

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::util::host_port::HostPort;

    #[test]
    fn name_servers_have_four_forms() {
        let udp = |text: &str| Ok(NameServer::Udp(text.parse().unwrap()));
        let secure = |server: NameServer| if HAS_TLS { Ok(server) } else { Err(DNS_WITHOUT_TLS) };
        let tls = |host: &str, port| secure(NameServer::Tls(HostPort::new(host, port)));
        let https = |text: &str| secure(NameServer::Https(Url::parse(text).unwrap()));
        for (text, want) in [
            ("1.1.1.1", udp("1.1.1.1:53")),
            ("udp://1.1.1.1", udp("1.1.1.1:53")),
            ("UDP://1.1.1.1:5353", udp("1.1.1.1:5353")),
            ("udp://[2606:4700::1111]", udp("[2606:4700::1111]:53")),
            ("udp://[::1]:54?x=y", udp("[::1]:54")),
            ("tls://dns.google", tls("dns.google", 853)),
            ("tls://1.1.1.1:8853", tls("1.1.1.1", 8853)),
            ("tls://[2606:4700::1111]", tls("2606:4700::1111", 853)),
            ("https://1.1.1.1", https("https://1.1.1.1/dns-query")),
            ("https://dns.google:8443/q?a", https("https://dns.google:8443/q?a")),
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

    fn socks(text: &str) -> ProxySettings {
        match proxy(text) {
            Ok(UpstreamSettings::Socks5(proxy)) => proxy,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn proxies_are_socks5_or_direct() {
        for text in ["", "direct", "DIRECT"] {
            assert!(matches!(proxy(text), Ok(UpstreamSettings::Direct)), "{text}");
        }
        let plain = socks("socks5://127.0.0.1");
        assert_eq!((plain.server, plain.user), (HostPort::new("127.0.0.1", 1080), None));
        assert_eq!(plain.open_threshold, 5);
        assert_eq!(plain.half_open_timeout, Duration::from_secs(60));
        assert_eq!(plain.reset_failures_timeout, Duration::from_secs(10));
        // mtg-multi makes `[[::1]]:1080` of it.
        let v6 =
            socks("SOCKS5H://u%40x:p%3As@[::1]/path?open_threshold=2&half_open_timeout=5s&x=y");
        assert_eq!((v6.server, v6.open_threshold), (HostPort::new("::1", 1080), 2));
        assert_eq!(v6.user, Some((b"u@x".to_vec(), b"p:s".to_vec())));
        assert_eq!(v6.half_open_timeout, Duration::from_secs(5));
        for text in ["socks5://", "socks5://:1080", "http://host", "host:1080", "socks5://h:x"] {
            assert_eq!(proxy(text).err(), Some(NOT_A_PROXY), "{text}");
        }
        for (text, fault) in [
            ("socks5://h?open_threshold=0", BAD_THRESHOLD),
            ("socks5://h?half_open_timeout=5", BAD_HALF_OPEN),
            ("socks5://h?reset_failures_timeout=0s", BAD_RESET),
            ("socks5://%zz@h", BAD_USER),
            ("socks5://:password@h", BAD_USER),
            (&format!("socks5://{}@h", "u".repeat(256)), BAD_USER),
            (&format!("socks5://u:{}@h", "p".repeat(256)), BAD_USER),
        ] {
            assert_eq!(proxy(text).err(), Some(fault), "{text}");
        }
        let longest = socks(&format!("socks5://{0}:{0}@h", "%41".repeat(255)));
        assert_eq!(longest.user, Some((vec![b'A'; 255], vec![b'A'; 255])));
        for text in ["socks5://@h", "socks5://:@h"] {
            assert_eq!(socks(text).user, None, "{text}");
        }
    }

    #[test]
    fn pages_are_complete_urls() {
        for text in ["https://a.example", "HTTPS://u:p@a.example:8443/x?y#z", "https://[::1]/"] {
            let want = Ok(Url::parse(text).unwrap());
            assert_eq!(https_url(text), want, "{text}");
            assert_eq!(http_url(text), want, "{text}");
        }
        for text in ["", "http://a.example", "https://", "https:///x", "a.example", "https:a.b"] {
            assert_eq!(https_url(text), Err(NOT_HTTPS), "{text}");
        }
        assert!(http_url("http://a.example/x").is_ok());
        assert_eq!(http_url("ftp://a.example/x"), Err(NOT_A_PAGE));
    }

    #[test]
    fn files_must_exist_and_directories_need_not() {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        assert_eq!(existing_file("Cargo.toml"), Ok(here.join("Cargo.toml")));
        assert_eq!(directory("src"), Ok(here.join("src")));
        assert!(existing_file("src").is_err() && existing_file("no-such").is_err());
        assert_eq!(directory("no/such"), Ok(here.join("no/such")), "created when it is needed");
        assert!(directory("Cargo.toml").is_err() && directory("").is_err());
    }

    #[test]
    fn list_sources_are_readable_files_or_urls() {
        let here = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
        for text in [here, "Cargo.toml"] {
            assert_eq!(list_source(text), Ok(ListSource::File(PathBuf::from(here))), "{text}");
        }
        for web in ["http://a.example/list", "https://a.example/list"] {
            assert_eq!(list_source(web), Ok(ListSource::Web(Url::parse(web).unwrap())));
        }
        assert_eq!(list_source("src"), Err("this is a directory; name a file in it"));
        for text in ["", "no-such-file.netset", "ftp://a.example/list", "https://"] {
            assert_eq!(list_source(text), Err(NOT_A_SOURCE), "{text}");
        }
    }
}

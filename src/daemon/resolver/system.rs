//! The resolver files of the system: resolv.conf(5) and hosts(5), read again when they change.
//! `getaddrinfo` is never used, as it blocks.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, SystemTime};

/// The two files.
pub struct SystemFiles {
    servers: WatchedFile<Servers>,
    hosts: WatchedFile<Vec<(String, IpAddr)>>,
}

/// The name servers and how they are asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Servers {
    /// In the order to ask; never empty.
    pub list: Vec<SocketAddr>,
    /// How long one may take to answer (`options timeout:`, 1 to 5 s).
    pub timeout: Duration,
    /// How often each is asked (`options attempts:`, 1 to 5).
    pub attempts: usize,
}

impl SystemFiles {
    /// The files of this machine, not read yet.
    pub fn new() -> Self {
        Self {
            servers: WatchedFile::new("/etc/resolv.conf", Servers::parse),
            hosts: WatchedFile::new("/etc/hosts", hosts),
        }
    }

    /// The name servers of the system.
    pub fn servers(&mut self) -> &Servers {
        self.servers.get()
    }

    /// The addresses that need no query: a literal address, or those of the hosts file.
    pub fn known(&mut self, name: &str) -> Vec<IpAddr> {
        if let Ok(ip) = name.parse() {
            return vec![ip];
        }
        let known = self.hosts.get().iter().filter(|(host, _)| host.eq_ignore_ascii_case(name));
        known.map(|(_, ip)| *ip).collect()
    }
}

impl Servers {
    /// One server with the default options.
    pub fn one(server: SocketAddr) -> Self {
        Self { list: vec![server], timeout: TIMEOUT, attempts: ATTEMPTS }
    }

    /// Parses resolv.conf(5): at most three servers, as there; the last of equal options applies.
    fn parse(text: &str) -> Self {
        let mut servers = Self { list: Vec::new(), timeout: TIMEOUT, attempts: ATTEMPTS };
        for line in text.lines() {
            let mut words = line.split_ascii_whitespace();
            match words.next() {
                Some("nameserver") if servers.list.len() < SERVERS_MAX => {
                    let ip = words.next().and_then(|word| word.parse::<IpAddr>().ok());
                    servers.list.extend(ip.map(|ip| SocketAddr::new(ip, PORT)));
                }
                Some("options") => words.for_each(|word| servers.option(word)),
                _ => {}
            }
        }
        if servers.list.is_empty() {
            servers.list.push(SocketAddr::from(([127, 0, 0, 1], PORT)));
        }
        servers
    }

    fn option(&mut self, word: &str) {
        let Some((key, value)) = word.split_once(':') else { return };
        let Ok(value) = value.parse::<u8>() else { return };
        match key {
            "timeout" => self.timeout = Duration::from_secs(value.clamp(1, 5).into()),
            "attempts" => self.attempts = usize::from(value.clamp(1, 5)),
            _ => {}
        }
    }
}

/// A file of the system, read again when it has changed.
struct WatchedFile<T> {
    path: &'static str,
    parse: fn(&str) -> T,
    changed: Option<SystemTime>,
    value: T,
}

impl<T> WatchedFile<T> {
    fn new(path: &'static str, parse: fn(&str) -> T) -> Self {
        Self { path, parse, changed: None, value: parse("") }
    }

    fn get(&mut self) -> &T {
        if let Some(text) = read_changed(self.path, &mut self.changed) {
            self.value = (self.parse)(&String::from_utf8_lossy(&text));
        }
        &self.value
    }
}

/// The content of a file, if it has changed since the time in `changed`, which is set; empty if the
/// file is gone. Without a descriptor to read it by, the old content stays until the next call.
fn read_changed(path: &str, changed: &mut Option<SystemTime>) -> Option<Vec<u8>> {
    let meta = fs::metadata(path).ok().filter(|m| m.is_file() && m.len() <= FILE_MAX);
    let now = meta.and_then(|m| m.modified().ok());
    if now == *changed {
        return None;
    }
    let text = now.map_or(Ok(Vec::new()), |_| fs::read(path)).ok()?;
    *changed = now;
    Some(text)
}

/// Parses hosts(5); `localhost` is always known.
fn hosts(text: &str) -> Vec<(String, IpAddr)> {
    let mut list = Vec::new();
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default();
        let mut words = line.split_ascii_whitespace();
        let Some(ip) = words.next().and_then(|word| word.parse::<IpAddr>().ok()) else { continue };
        list.extend(words.map(|name| (name.to_owned(), ip)));
    }
    if !list.iter().any(|(name, _)| name.eq_ignore_ascii_case("localhost")) {
        list.push(("localhost".to_owned(), IpAddr::from([127, 0, 0, 1])));
    }
    list
}

const PORT: u16 = 53;
/// As in resolv.conf(5).
const SERVERS_MAX: usize = 3;
/// Less than the 5 s of resolv.conf(5): a client is waiting.
const TIMEOUT: Duration = Duration::from_secs(2);
const ATTEMPTS: usize = 3;
const FILE_MAX: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolv_conf_lines_become_servers() {
        let text = "# x\nsearch lan\nnameserver 192.0.2.1\nnameserver fe80::1%eth0\n\
                    nameserver 2001:db8::1 # y\n";
        let expected: Vec<SocketAddr> =
            vec!["192.0.2.1:53".parse().unwrap(), "[2001:db8::1]:53".parse().unwrap()];
        assert_eq!(Servers::parse(text).list, expected);
        assert_eq!(Servers::parse(""), Servers::one("127.0.0.1:53".parse().unwrap()));
        assert_eq!(Servers::parse(&"nameserver 192.0.2.1\n".repeat(9)).list.len(), 3);
    }

    #[test]
    fn options_are_honoured_within_bounds() {
        let options = |text| {
            let servers = Servers::parse(text);
            (servers.timeout, servers.attempts)
        };
        assert_eq!(options("options rotate timeout:1 attempts:2\n"), (Duration::from_secs(1), 2));
        assert_eq!(options("options timeout:30 attempts:0\n"), (Duration::from_secs(5), 1));
        assert_eq!(options("options timeout:x attempts:-1\n"), (TIMEOUT, ATTEMPTS));
    }

    #[test]
    fn hosts_lines_become_host_names_and_localhost_is_always_known() {
        let list = hosts("192.0.2.7 a b # c\nnonsense d\n::1 e\n");
        let names: Vec<&str> = list.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["a", "b", "e", "localhost"]);
    }
}

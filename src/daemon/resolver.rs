//! Finds the addresses of a name without blocking: `/etc/hosts`, then UDP to the configured
//! server or to those in `/etc/resolv.conf` (spec: network 7; RFC 1035).
//!
//! Names are asked as they stand; search domains are not applied, since a front is a full name.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::time::SystemTime;

use mio::net::UdpSocket;
use mio::{Interest, Registry, Token};

use crate::daemon::addresses::put_last;
use crate::io::clock::Tick;
use crate::policy::drbg::Drbg;
use crate::proto::dns::{self, DnsFault, Kind};

/// The names being asked for.
pub struct Resolver {
    fixed: Option<SocketAddr>,
    servers: Watched<Vec<SocketAddr>>,
    hosts: Watched<Vec<(String, IpAddr)>>,
    quests: [Option<Quest>; MOST_QUESTS],
}

/// One name, asked for both kinds of address at once.
struct Quest {
    name: String,
    socket: UdpSocket,
    open: Vec<(u16, Kind)>,
    found: Vec<IpAddr>,
    ttl_s: u32,
    tries: usize,
    until: Tick,
}

/// A name and what was found; empty = nothing.
pub struct Finding {
    /// The name as it was asked for.
    pub name: String,
    /// Its addresses, IPv4 before IPv6.
    pub addrs: Vec<IpAddr>,
    /// For how long they may be kept.
    pub ttl_s: u32,
}

impl Resolver {
    /// `fixed` replaces the servers of the system.
    pub fn new(fixed: Option<SocketAddr>) -> Self {
        Self {
            fixed,
            servers: Watched::new("/etc/resolv.conf", servers),
            hosts: Watched::new("/etc/hosts", hosts),
            quests: Default::default(),
        }
    }

    /// Whether another name may be asked for.
    pub fn has_room(&self) -> bool {
        self.quests.iter().any(Option::is_none)
    }

    /// Starts to look for a name; answers at once when the hosts file knows it or when nothing
    /// can be asked. `base` is the token of the first place.
    pub fn seek(
        &mut self,
        name: String,
        registry: &Registry,
        base: usize,
        drbg: &mut Drbg,
        now: Tick,
    ) -> Option<Finding> {
        let known = self.hosts.get().iter().filter(|(host, _)| host.eq_ignore_ascii_case(&name));
        let addrs: Vec<IpAddr> = known.map(|(_, ip)| *ip).collect();
        let place = self.quests.iter().position(Option::is_none);
        let (true, Some(place)) = (addrs.is_empty(), place) else {
            return Some(Finding { name, addrs, ttl_s: HOSTS_TTL_S });
        };
        match self.ask(&name, 0, registry, base + place, drbg) {
            Some((socket, open)) => {
                let until = Tick(now.0 + PATIENCE_MS);
                let (found, ttl_s) = (Vec::new(), u32::MAX);
                let quest = Quest { name, socket, open, found, ttl_s, tries: 1, until };
                self.quests[place] = Some(quest);
                None
            }
            None => Some(Finding { name, addrs, ttl_s: 0 }),
        }
    }

    /// Reads what came for a place.
    pub fn step(&mut self, place: usize) -> Option<Finding> {
        let quest = self.quests.get_mut(place)?.as_mut()?;
        let mut packet = [0; PACKET_MAX];
        // The socket is connected, so only the asked server is heard; the ids do the rest.
        for _ in 0..READS_PER_STEP {
            let Ok(len) = quest.socket.recv(&mut packet) else { break };
            let heard = quest.open.iter().position(|(id, kind)| {
                match dns::answer(&packet[..len], *id, &quest.name, *kind) {
                    Ok(answer) => {
                        quest.found.extend_from_slice(&answer.addrs);
                        quest.ttl_s = quest.ttl_s.min(answer.ttl_s);
                        true
                    }
                    // The server knows the name and has nothing, or will not tell: both end it.
                    Err(fault) => fault != DnsFault::NotOurs,
                }
            });
            if let Some(at) = heard {
                quest.open.swap_remove(at);
            }
        }
        let over = quest.open.is_empty();
        over.then(|| self.finish(place)).flatten()
    }

    /// The earliest deadline.
    pub fn due(&self) -> Option<Tick> {
        self.quests.iter().flatten().map(|quest| quest.until).min()
    }

    /// Asks the next server where one kept silent, or gives up.
    pub fn expire(
        &mut self,
        registry: &Registry,
        base: usize,
        drbg: &mut Drbg,
        now: Tick,
    ) -> Vec<Finding> {
        let mut findings = Vec::new();
        for place in 0..self.quests.len() {
            let Some(quest) = &mut self.quests[place] else { continue };
            if now < quest.until {
                continue;
            }
            let (name, tries) = (quest.name.clone(), quest.tries);
            let settled = tries >= MOST_TRIES || !quest.found.is_empty();
            let asked = (!settled).then(|| self.ask(&name, tries, registry, base + place, drbg));
            match (asked.flatten(), &mut self.quests[place]) {
                (Some((socket, open)), Some(quest)) => {
                    (quest.socket, quest.open) = (socket, open);
                    quest.tries += 1;
                    quest.until = Tick(now.0 + PATIENCE_MS);
                }
                _ => findings.extend(self.finish(place)),
            }
        }
        findings
    }

    fn finish(&mut self, place: usize) -> Option<Finding> {
        let quest = self.quests.get_mut(place)?.take()?;
        let mut addrs = quest.found;
        put_last(&mut addrs, IpAddr::is_ipv6);
        addrs.dedup();
        Some(Finding { name: quest.name, addrs, ttl_s: quest.ttl_s })
    }

    /// A fresh socket on a fresh port, and both questions sent.
    fn ask(
        &mut self,
        name: &str,
        tries: usize,
        registry: &Registry,
        token: usize,
        drbg: &mut Drbg,
    ) -> Option<(UdpSocket, Vec<(u16, Kind)>)> {
        let listed = self.servers.get();
        let server =
            self.fixed.or_else(|| listed.get(tries.checked_rem(listed.len())?).copied())?;
        let any: IpAddr = match server {
            SocketAddr::V4(_) => IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED),
            SocketAddr::V6(_) => IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED),
        };
        let mut socket = UdpSocket::bind(SocketAddr::new(any, 0)).ok()?;
        socket.connect(server).ok()?;
        registry.register(&mut socket, Token(token), Interest::READABLE).ok()?;
        let first = drbg.u32_below(0xffff) as u16;
        let open = vec![(first, Kind::A), (first.wrapping_add(1), Kind::Aaaa)];
        for (id, kind) in &open {
            let mut packet = Vec::with_capacity(64 + name.len());
            dns::question(&mut packet, *id, name, *kind).ok()?;
            socket.send(&packet).ok()?;
        }
        Some((socket, open))
    }
}

/// A file of the system, read again when it has changed.
struct Watched<T> {
    path: &'static str,
    parse: fn(&str) -> T,
    changed: Option<SystemTime>,
    value: T,
}

impl<T> Watched<T> {
    fn new(path: &'static str, parse: fn(&str) -> T) -> Self {
        Self { path, parse, changed: None, value: parse("") }
    }

    fn get(&mut self) -> &T {
        let meta = fs::metadata(self.path).ok().filter(|m| m.is_file() && m.len() <= FILE_MAX);
        let changed = meta.and_then(|m| m.modified().ok());
        if changed != self.changed {
            self.changed = changed;
            let text = changed.and_then(|_| fs::read(self.path).ok()).unwrap_or_default();
            self.value = (self.parse)(&String::from_utf8_lossy(&text));
        }
        &self.value
    }
}

/// `nameserver` lines of resolv.conf(5), at most three as there.
fn servers(text: &str) -> Vec<SocketAddr> {
    let ips = text.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        (words.next() == Some("nameserver")).then(|| words.next()?.parse::<IpAddr>().ok())?
    });
    let mut list: Vec<SocketAddr> = ips.take(3).map(|ip| SocketAddr::new(ip, 53)).collect();
    if list.is_empty() {
        list.push(SocketAddr::from(([127, 0, 0, 1], 53)));
    }
    list
}

/// Lines of hosts(5); `localhost` is always known.
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

/// Names asked for at the same time.
pub const MOST_QUESTS: usize = 8;
const MOST_TRIES: usize = 4;
const PATIENCE_MS: u64 = 2_000;
const HOSTS_TTL_S: u32 = 30;
const PACKET_MAX: usize = 1_500;
const READS_PER_STEP: usize = 8;
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
        assert_eq!(servers(text), expected);
        assert_eq!(servers(""), ["127.0.0.1:53".parse().unwrap()]);
    }

    #[test]
    fn hosts_lines_become_names_and_localhost_is_always_known() {
        let list = hosts("192.0.2.7 a b # c\nnonsense d\n::1 e\n");
        let names: Vec<&str> = list.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["a", "b", "e", "localhost"]);
    }
}

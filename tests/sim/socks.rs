//! SOCKS5 proxies (RFC 1928) that connect, refuse, stall, close, or say yes and lead nowhere.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use fastrand::Rng;
use mtbox::config::settings::{ProxySettings, Settings, UpstreamSettings};
use mtbox::util::host_port::HostPort;

use crate::network::Network;
use crate::part::{Part, Tunnel};
use crate::peer::{Behaviour, Ending, Peer};
use crate::script::Script;
use crate::server::FRONTS;

/// The proxies, each with its own manner.
pub struct Proxies {
    /// The manner of the proxies after the first, which always connects.
    manners: Vec<Manner>,
    handshakes: Vec<SocksServer>,
    tunnels: Vec<Tunnel>,
}

/// One connection to a proxy.
struct SocksServer {
    peer: Peer,
    manner: Manner,
    /// The message in progress.
    message: Vec<u8>,
    /// The first message, with the methods, was answered.
    has_method: bool,
    destination: Option<SocketAddr>,
}

/// What a proxy does with connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    Connects,
    /// General failure.
    Refuses,
    /// Connection refused by the destination.
    Unreachable,
    /// Nothing more after this number of bytes.
    Stalls(usize),
    /// FIN after this number of bytes.
    Closes(usize),
    Resets(usize),
    /// Another protocol.
    Garbles,
    /// Says yes, and sends nothing more.
    Nowhere,
}

impl Proxies {
    /// Takes part if the settings name a proxy.
    pub fn part(script: &Script) -> Option<Box<dyn Part>> {
        let is_used = script.settings.upstreams.iter().any(|one| *one != UpstreamSettings::Direct);
        let mut rng = Rng::with_seed(script.seed ^ 0x50c5);
        let mut manner = || {
            let bytes = rng.usize(0..12);
            let all = [
                Manner::Refuses,
                Manner::Unreachable,
                Manner::Stalls(bytes),
                Manner::Closes(bytes),
                Manner::Resets(bytes),
                Manner::Garbles,
                Manner::Nowhere,
            ];
            all[rng.usize(0..if script.proxies_lie { 7 } else { 6 })]
        };
        let manners = (1..PROXIES).map(|_| manner()).collect();
        let (handshakes, tunnels) = (Vec::new(), Vec::new());
        is_used.then(|| Box::new(Self { manners, handshakes, tunnels }) as Box<dyn Part>)
    }
}

impl SocksServer {
    /// Reads at most one message, so that no byte for the destination is lost.
    fn act(&mut self, network: &mut Network) -> bool {
        let missing = self.wanted().saturating_sub(self.message.len());
        let mut received = Vec::new();
        if missing > 0 && self.destination.is_none() {
            received = network.peer_read(self.peer.link, missing);
            self.message.extend(&received);
        }
        if self.wanted() == self.message.len() && self.destination.is_none() {
            self.answer();
        }
        let acted = !received.is_empty() | !self.peer.send(network).is_empty();
        acted | self.peer.finish(network, self.is_refused())
    }

    /// The length of the message that its first bytes announce.
    fn wanted(&self) -> usize {
        match (self.has_method, &self.message[..]) {
            (false, [_, methods, ..]) => 2 + usize::from(*methods),
            (false, _) => 2,
            (true, [_, _, _, 1, ..]) => 10,
            (true, [_, _, _, 4, ..]) => 22,
            (true, [_, _, _, 3, len, ..]) => 7 + usize::from(*len),
            (true, _) => 5,
        }
    }

    fn answer(&mut self) {
        let message = std::mem::take(&mut self.message);
        if self.manner == Manner::Garbles {
            self.peer.out.extend(b"HTTP/1.1 400 Bad Request\r\n\r\n");
            return;
        }
        if !std::mem::replace(&mut self.has_method, true) {
            self.peer.out.extend([5, 0]);
            return;
        }
        let code = match self.manner {
            Manner::Refuses => 1,
            Manner::Unreachable => 5,
            _ => 0,
        };
        self.destination = Some(destination(&message));
        self.peer.out.extend([5, code, 0, 1, 0, 0, 0, 0, 0, 0]);
    }

    fn is_refused(&self) -> bool {
        let is_answered = self.destination.is_some();
        is_answered && matches!(self.manner, Manner::Refuses | Manner::Unreachable)
    }

    /// The destination, once the daemon has read that it is connected.
    fn connected(&self, network: &Network) -> Option<SocketAddr> {
        let is_read = network.links[self.peer.link].to_daemon.is_empty();
        let is_yes = matches!(self.manner, Manner::Connects | Manner::Nowhere);
        self.destination.filter(|_| is_yes && self.peer.out.is_empty() && is_read)
    }
}

impl Part for Proxies {
    fn serves(&self, addr: SocketAddr, _is_session: bool) -> bool {
        (0..PROXIES).any(|at| addr == proxy_addr(at))
    }

    fn attach(&mut self, network: &mut Network, link: usize) {
        let at = (0..PROXIES).find(|at| network.links[link].dialled == Some(proxy_addr(*at)));
        let at = at.unwrap_or_default();
        let manner =
            at.checked_sub(1).map_or(Manner::Connects, |manner| self.manners[usize::from(manner)]);
        let (ending, send_limit) = match manner {
            Manner::Stalls(most) => (Ending::Stall, Some(most)),
            Manner::Closes(most) => (Ending::Fin, Some(most)),
            Manner::Resets(most) => (Ending::Reset, Some(most)),
            _ => (Ending::Fin, None),
        };
        let behaviour = Behaviour {
            write_chunk: if network.rng.bool() { 1 } else { 20 },
            read_chunk: 1,
            write_pause: if manner == Manner::Connects { (20, 60) } else { (30, 300) },
            read_pause: (0, 0),
            ending,
            send_limit,
        };
        network.links[link].to_peer.is_in_handshake = true;
        network.links[link].reads_eagerly = false;
        let (peer, message) = (Peer::new(link, behaviour), Vec::new());
        let (has_method, destination) = (false, None);
        self.handshakes.push(SocksServer { peer, manner, message, has_method, destination });
    }

    fn act(&mut self, network: &mut Network) -> Result<bool, String> {
        let mut acted = false;
        self.handshakes.retain(|one| !network.links[one.peer.link].closed);
        for one in &mut self.handshakes {
            acted |= one.act(network);
            if let Some(destination) = one.connected(network) {
                network.links[one.peer.link].to_peer.is_in_handshake = false;
                let leads = one.manner == Manner::Connects;
                let tunnel = Tunnel { link: one.peer.link, destination };
                self.tunnels.extend(leads.then_some(tunnel));
            }
        }
        self.handshakes.retain(|one| one.connected(network).is_none());
        Ok(acted)
    }

    fn due(&self, now: u64) -> Option<u64> {
        self.handshakes.iter().filter_map(|one| one.peer.due(now)).min()
    }

    fn take_tunnels(&mut self) -> Vec<Tunnel> {
        std::mem::take(&mut self.tunnels)
    }
}

/// The destination of a request; every name is that of a front.
fn destination(message: &[u8]) -> SocketAddr {
    let (addr, port) = message[3..].split_at(message.len() - 5);
    let ip = match addr {
        [1, a, b, c, d] => Ipv4Addr::new(*a, *b, *c, *d),
        _ => Ipv4Addr::new(203, FRONTS, 0, 1),
    };
    SocketAddr::from((ip, u16::from_be_bytes([port[0], port[1]])))
}

/// Uses some of the proxies, the first one among them.
pub fn draw(rng: &mut Rng) -> Vec<UpstreamSettings> {
    let count = rng.u8(1..=PROXIES);
    let mut all: Vec<UpstreamSettings> = (0..count).map(upstream).collect();
    rng.shuffle(&mut all);
    all
}

/// Adds or removes a proxy, but never the first one.
pub fn vary(rng: &mut Rng, settings: &mut Settings) {
    if !settings.upstreams.is_empty() {
        settings.upstreams = draw(rng);
    }
}

fn upstream(at: u8) -> UpstreamSettings {
    UpstreamSettings::Socks5(ProxySettings {
        server: HostPort::new(proxy_addr(at).ip().to_string(), proxy_addr(at).port()),
        user: None,
        open_threshold: 3,
        half_open_timeout: Duration::from_secs(4),
        reset_failures_timeout: Duration::from_secs(20),
    })
}

fn proxy_addr(at: u8) -> SocketAddr {
    // Addresses that end in 1 are always reachable.
    SocketAddr::from(([10, 77, at, 1], 1_080))
}

const PROXIES: u8 = 3;

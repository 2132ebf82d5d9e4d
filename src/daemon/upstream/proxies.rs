//! The ways to Telegram (`network.proxies`): which proxy to ask next, and how each has fared.
//! The dialler and the errands walk them; neither may go around them.

use std::net::{IpAddr, SocketAddr};

use crate::config::settings::{ProxySettings, Settings, UpstreamSettings};
use crate::daemon::resolver::dns_cache::{CachedAddrs, DnsCache};
use crate::io::clock::Tick;
use crate::limits::circuit_breaker::{CircuitBreaker, CircuitChange, CircuitState};
use crate::proto::socks5::{Destination, Negotiation};
use crate::util::drbg::Drbg;

/// All ways; none = there are no proxies, and everything goes straight. A way is known by a number
/// that no other way ever gets.
#[derive(Default)]
pub struct Upstreams {
    ways: Vec<Upstream>,
    next: usize,
}

/// One of them.
pub struct Upstream {
    number: usize,
    /// The config does not name it any more: connections that are on this way go on, until then.
    until: Option<Tick>,
    /// `None` = straight from this machine.
    proxy: Option<ProxySettings>,
    breaker: CircuitBreaker,
    /// Connections that were asked of it.
    pub dials: u64,
    /// Those that came to nothing through its own fault.
    pub failures: u64,
    /// Why the last one did.
    pub last_error: Option<String>,
}

/// Where a way begins.
#[derive(Debug, PartialEq, Eq)]
pub enum FirstHop {
    /// Straight to the goal.
    Direct,
    /// At the proxy.
    Proxy(SocketAddr),
    /// The proxy's name is being looked up; the caller's token will be woken.
    Pending,
    /// The proxy's name cannot be found.
    Unknown,
}

impl Upstreams {
    /// As the settings name them.
    pub fn new(settings: &Settings) -> Self {
        let mut routes = Self::default();
        routes.reload(&settings.upstreams, Tick(0));
        routes
    }

    /// As new settings name them. A way that was there before keeps what is known of it.
    pub fn reload(&mut self, wanted: &[UpstreamSettings], now: Tick) {
        let mut before = std::mem::take(&mut self.ways);
        for route in wanted {
            let known = before.iter().position(|way| way.until.is_none() && way.is(route));
            let way = known.map(|at| before.remove(at)).unwrap_or_else(|| {
                self.next += 1;
                Upstream::new(self.next - 1, route)
            });
            self.ways.push(way);
        }
        before.retain(|way| way.until.is_none_or(|until| now < until));
        for way in &mut before {
            way.until.get_or_insert(Tick(now.0 + FAREWELL_MS));
        }
        before.truncate(MOST_FAREWELLS);
        self.ways.append(&mut before);
    }

    fn named(&self) -> impl Iterator<Item = &Upstream> {
        self.ways.iter().filter(|way| way.until.is_none())
    }

    fn get(&self, number: usize) -> Option<&Upstream> {
        self.ways.iter().find(|way| way.number == number)
    }

    fn get_mut(&mut self, number: usize) -> Option<&mut Upstream> {
        self.ways.iter_mut().find(|way| way.number == number)
    }

    /// Whether there are no proxies.
    pub fn is_empty(&self) -> bool {
        self.named().next().is_none()
    }

    /// All ways in random order, for one connection.
    pub fn shuffled(&self, drbg: &mut Drbg) -> Vec<usize> {
        let mut order: Vec<usize> = self.named().map(|way| way.number).collect();
        drbg.shuffle(&mut order);
        order
    }

    /// Whether a way may be tried now; asking counts as trying when it is half open.
    pub fn admit(&mut self, way: usize, now: Tick) -> bool {
        self.get_mut(way).is_some_and(|way| way.breaker.admit(now.0))
    }

    /// Where a way begins.
    pub fn entry(&self, way: usize, names: &mut DnsCache, token: usize, now: Tick) -> FirstHop {
        let Some(way) = self.get(way) else { return FirstHop::Unknown };
        let Some(proxy) = &way.proxy else { return FirstHop::Direct };
        if let Ok(ip) = proxy.host.parse::<IpAddr>() {
            return FirstHop::Proxy(SocketAddr::new(ip, proxy.port));
        }
        match names.lookup(&proxy.host, token, now) {
            CachedAddrs::Found([ip, ..]) => FirstHop::Proxy(SocketAddr::new(*ip, proxy.port)),
            CachedAddrs::Pending => FirstHop::Pending,
            CachedAddrs::Found([]) | CachedAddrs::Failed => FirstHop::Unknown,
        }
    }

    /// Begins to negotiate with the proxy of a way: the state and the first bytes.
    pub fn negotiate(&self, way: usize, goal: Destination) -> Option<(Negotiation, Vec<u8>)> {
        let user = self.get(way)?.proxy.as_ref()?.user.clone();
        Some(Negotiation::new(goal, user))
    }

    /// A way is being tried.
    pub fn tried(&mut self, way: usize) {
        if let Some(way) = self.get_mut(way) {
            way.dials += 1;
        }
    }

    /// A way has led to its goal, or its proxy said truly that the goal cannot be reached.
    pub fn succeeded(&mut self, way: usize) {
        if let Some(way) = self.get_mut(way)
            && way.breaker.record_success() == CircuitChange::Closed
        {
            log::info!("event=upstream-circuit-closed proxy={}", way.name());
        }
    }

    /// A proxy did not do its work.
    pub fn failed(&mut self, way: usize, why: &str, now: Tick) {
        let Some(way) = self.get_mut(way) else { return };
        way.failures += 1;
        way.last_error = Some(why.to_owned());
        if way.breaker.record_failure(now.0) == CircuitChange::Opened {
            log::warn!("event=upstream-circuit-open proxy={} error={why:?}", way.name());
        }
    }

    /// How a way has fared lately: its name and its last error.
    pub fn told(&self, number: usize) -> Option<(String, Option<&str>)> {
        self.get(number).map(|way| (way.name(), way.last_error.as_deref()))
    }

    /// The proxies, for `/stats`.
    pub fn proxies(&self, now: Tick) -> impl Iterator<Item = (String, CircuitState, &Upstream)> {
        let proxies = self.named().filter(|way| way.proxy.is_some());
        proxies.map(move |way| (way.name(), way.breaker.state(now.0), way))
    }
}

impl Upstream {
    fn new(number: usize, route: &UpstreamSettings) -> Self {
        let (proxy, breaker) = match route {
            UpstreamSettings::Direct => (None, CircuitBreaker::new(u32::MAX, 0, 0)),
            UpstreamSettings::Socks5(proxy) => {
                let half_open = proxy.half_open_timeout.as_millis() as u64;
                let reset = proxy.reset_failures_timeout.as_millis() as u64;
                let breaker = CircuitBreaker::new(proxy.open_threshold, half_open, reset);
                (Some(proxy.clone()), breaker)
            }
        };
        Self { number, until: None, proxy, breaker, dials: 0, failures: 0, last_error: None }
    }

    fn is(&self, route: &UpstreamSettings) -> bool {
        match (&self.proxy, route) {
            (None, UpstreamSettings::Direct) => true,
            (Some(own), UpstreamSettings::Socks5(proxy)) => own == proxy,
            _ => false,
        }
    }

    /// `host:port`, never the user.
    fn name(&self) -> String {
        match &self.proxy {
            None => "direct".to_owned(),
            Some(proxy) if proxy.host.contains(':') => format!("[{}]:{}", proxy.host, proxy.port),
            Some(proxy) => format!("{}:{}", proxy.host, proxy.port),
        }
    }
}

/// Longer than anybody takes to connect by a way.
const FAREWELL_MS: u64 = 120_000;
/// Ways that the config does not name any more and that are still kept.
const MOST_FAREWELLS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load;

    fn routes(list: &str) -> Vec<UpstreamSettings> {
        let secret = "ee00112233445566778899aabbccddeeff6578616d706c652e6f7267";
        let text = format!(
            "secret = \"{secret}\"\nbind-to = \"[::]:443\"\n[network]\nproxies = [{list}]\n"
        );
        load::load(text.as_bytes(), "a.toml").unwrap().settings.upstreams
    }

    #[test]
    fn a_way_keeps_its_number_and_who_is_on_an_old_one_arrives() {
        let (one, two) = ("\"socks5://127.0.0.1:1\"", "\"socks5://u:p@127.0.0.1:2\"");
        let mut ways = Upstreams::default();
        ways.reload(&routes(one), Tick(0));
        ways.failed(0, "no", Tick(0));
        ways.reload(&routes(&format!("{two}, {one}")), Tick(1));
        let seen: Vec<u64> = ways.proxies(Tick(1)).map(|(_, _, way)| way.failures).collect();
        assert_eq!(seen, [0, 1]);
        assert_eq!(ways.shuffled(&mut Drbg::new([7; 48])).len(), 2);
        ways.reload(&routes(two), Tick(2));
        let entry = |ways: &Upstreams| ways.entry(0, &mut DnsCache::default(), 1, Tick(3));
        assert_eq!(entry(&ways), FirstHop::Proxy("127.0.0.1:1".parse().unwrap()));
        assert_eq!(ways.shuffled(&mut Drbg::new([7; 48])), [1]);
        ways.reload(&routes(one), Tick(4));
        assert_eq!(ways.shuffled(&mut Drbg::new([7; 48])), [2], "it is a new one");
        ways.reload(&routes(one), Tick(2 + FAREWELL_MS));
        assert_eq!(entry(&ways), FirstHop::Unknown);
        ways.reload(&[], Tick(3 + FAREWELL_MS));
        assert!(ways.is_empty());
        for at in 0..200 {
            ways.reload(&routes(&format!("\"socks5://127.0.0.1:{}\"", at + 10)), Tick(0));
        }
        assert!(ways.ways.len() <= MOST_FAREWELLS + 1);
    }
}

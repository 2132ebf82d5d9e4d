//! The ways to Telegram (`network.proxies`): which proxy to ask next, and how each has fared.
//! The dialler and the errands walk them; neither may go around them.

use std::net::{IpAddr, SocketAddr};

use crate::config::settings::{ProxySettings, Route, Settings};
use crate::daemon::names::{Lookup, Names};
use crate::io::clock::Tick;
use crate::policy::breaker::{Breaker, Circuit};
use crate::policy::drbg::Drbg;
use crate::proto::socks5::{Goal, Negotiation};

/// All ways; empty = there are no proxies, and everything goes straight.
#[derive(Default)]
pub struct Routes {
    ways: Vec<Way>,
}

/// One of them.
pub struct Way {
    /// `None` = straight from this machine.
    proxy: Option<ProxySettings>,
    breaker: Breaker,
    /// Connections that were asked of it.
    pub dials: u64,
    /// Those that came to nothing through its own fault.
    pub failures: u64,
    /// Why the last one did.
    pub last_error: Option<String>,
}

/// Where a way begins.
#[derive(Debug, PartialEq, Eq)]
pub enum Entry {
    /// Straight to the goal.
    Direct,
    /// At the proxy.
    Proxy(SocketAddr),
    /// The proxy's name is being looked up; the caller's token will be woken.
    Pending,
    /// The proxy's name cannot be found.
    Unknown,
}

impl Routes {
    /// As the settings name them.
    pub fn new(settings: &Settings) -> Self {
        let way = |route: &Route| match route {
            Route::Direct => Way::new(None, Breaker::new(u32::MAX, 0, 0)),
            Route::Socks5(proxy) => {
                let half_open = proxy.half_open_timeout.as_millis() as u64;
                let reset = proxy.reset_failures_timeout.as_millis() as u64;
                let breaker = Breaker::new(proxy.open_threshold, half_open, reset);
                Way::new(Some(proxy.clone()), breaker)
            }
        };
        Self { ways: settings.routes.iter().map(way).collect() }
    }

    /// Whether there are no proxies.
    pub fn is_empty(&self) -> bool {
        self.ways.is_empty()
    }

    /// All ways in random order, for one connection.
    pub fn shuffled(&self, drbg: &mut Drbg) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.ways.len()).collect();
        drbg.shuffle(&mut order);
        order
    }

    /// Whether a way may be tried now; asking counts as trying when it is half open.
    pub fn admit(&mut self, way: usize, now: Tick) -> bool {
        self.ways.get_mut(way).is_some_and(|way| way.breaker.admit(now.0))
    }

    /// Where a way begins.
    pub fn entry(&self, way: usize, names: &mut Names, token: usize, now: Tick) -> Entry {
        let Some(way) = self.ways.get(way) else { return Entry::Unknown };
        let Some(proxy) = &way.proxy else { return Entry::Direct };
        if let Ok(ip) = proxy.host.parse::<IpAddr>() {
            return Entry::Proxy(SocketAddr::new(ip, proxy.port));
        }
        match names.lookup(&proxy.host, token, now) {
            Lookup::Found([ip, ..]) => Entry::Proxy(SocketAddr::new(*ip, proxy.port)),
            Lookup::Pending => Entry::Pending,
            Lookup::Found([]) | Lookup::Failed => Entry::Unknown,
        }
    }

    /// Begins to negotiate with the proxy of a way: the state and the first bytes.
    pub fn negotiate(&self, way: usize, goal: Goal) -> Option<(Negotiation, Vec<u8>)> {
        let user = self.ways.get(way)?.proxy.as_ref()?.user.clone();
        Some(Negotiation::new(goal, user))
    }

    /// A way is being tried.
    pub fn tried(&mut self, way: usize) {
        if let Some(way) = self.ways.get_mut(way) {
            way.dials += 1;
        }
    }

    /// A way has led to its goal, or its proxy said truly that the goal cannot be reached.
    pub fn succeeded(&mut self, way: usize) {
        if let Some(way) = self.ways.get_mut(way)
            && way.breaker.succeeded()
        {
            log::info!("event=proxy-back proxy={}", way.name());
        }
    }

    /// A proxy did not do its work.
    pub fn failed(&mut self, way: usize, why: &str, now: Tick) {
        let Some(way) = self.ways.get_mut(way) else { return };
        way.failures += 1;
        way.last_error = Some(why.to_owned());
        if way.breaker.failed(now.0) {
            log::warn!("event=proxy-rests proxy={} error={why:?}", way.name());
        }
    }

    /// The proxies, for `/stats`.
    pub fn proxies(&self, now: Tick) -> impl Iterator<Item = (String, Circuit, &Way)> {
        let proxies = self.ways.iter().filter(|way| way.proxy.is_some());
        proxies.map(move |way| (way.name(), way.breaker.circuit(now.0), way))
    }
}

impl Way {
    fn new(proxy: Option<ProxySettings>, breaker: Breaker) -> Self {
        Self { proxy, breaker, dials: 0, failures: 0, last_error: None }
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

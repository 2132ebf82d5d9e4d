//! The upstreams of `network.proxies`: their order, and the circuit breaker of each. Sessions and
//! fetch tasks that use upstreams never connect directly instead.

use std::time::Duration;

use crate::config::settings::{ProxySettings, Settings, UpstreamSettings};
use crate::daemon::upstream::addresses::put_last;
use crate::io::clock::Tick;
use crate::io::logger::event;
use crate::limits::circuit_breaker::{CircuitBreaker, CircuitChange, CircuitState};
use crate::proto::socks5::{Destination, Negotiation};
use crate::util::drbg::Drbg;
use crate::util::host_port::HostPort;

/// Identifies an upstream for the life of the process; a number is never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UpstreamId(pub u32);

/// All upstreams. Empty when no proxies are configured; connections are direct then.
#[derive(Default)]
pub struct Upstreams {
    list: Vec<Upstream>,
    next_id: u32,
}

/// One entry of `network.proxies`.
pub struct Upstream {
    id: UpstreamId,
    /// Set when a reload has removed the upstream. It is kept until then for the connection
    /// attempts in progress.
    kept_until: Option<Tick>,
    /// `None` = a direct connection from this machine.
    proxy: Option<ProxySettings>,
    breaker: CircuitBreaker,
    /// Until when it comes last, after a failure.
    rests_until: Tick,
    /// How long it rests after the next failure.
    rest: Duration,
    /// Connection attempts through it.
    pub dials: u64,
    /// Attempts that failed because of the upstream itself.
    pub failures: u64,
    /// The error of the last attempt that failed or that the upstream refused.
    pub last_error: Option<String>,
}

impl Upstreams {
    /// The upstreams of the settings.
    pub fn new(settings: &Settings) -> Self {
        let mut upstreams = Self::default();
        upstreams.reload(&settings.upstreams, Tick(0));
        upstreams
    }

    /// Applies new settings. An upstream that is still configured keeps its number and circuit.
    pub fn reload(&mut self, configured: &[UpstreamSettings], now: Tick) {
        let mut before = std::mem::take(&mut self.list);
        for route in configured {
            let known =
                before.iter().position(|one| one.kept_until.is_none() && one.matches(route));
            let upstream = known.map(|at| before.remove(at)).unwrap_or_else(|| {
                self.next_id += 1;
                Upstream::new(UpstreamId(self.next_id - 1), route)
            });
            self.list.push(upstream);
        }
        before.retain(|one| one.kept_until.is_none_or(|until| now < until));
        for upstream in &mut before {
            upstream.kept_until.get_or_insert(now + KEEP_REMOVED);
        }
        before.truncate(MAX_REMOVED);
        self.list.append(&mut before);
    }

    fn configured(&self) -> impl Iterator<Item = &Upstream> {
        self.list.iter().filter(|upstream| upstream.kept_until.is_none())
    }

    fn get(&self, id: UpstreamId) -> Option<&Upstream> {
        self.list.iter().find(|upstream| upstream.id == id)
    }

    fn get_mut(&mut self, id: UpstreamId) -> Option<&mut Upstream> {
        self.list.iter_mut().find(|upstream| upstream.id == id)
    }

    /// Whether no upstreams are configured.
    pub fn is_empty(&self) -> bool {
        self.configured().next().is_none()
    }

    /// All configured upstreams in random order, for one connection; those that rest come last.
    /// Without a proxy = directly.
    pub fn ordered(&self, drbg: &mut Drbg, now: Tick) -> Vec<(UpstreamId, Option<HostPort>)> {
        let mut order: Vec<&Upstream> = self.configured().collect();
        drbg.shuffle(&mut order);
        put_last(&mut order, |one| now < one.rests_until);
        let server = |proxy: &ProxySettings| proxy.server.clone();
        order.into_iter().map(|one| (one.id, one.proxy.as_ref().map(server))).collect()
    }

    /// Whether the circuit lets a connection through now. In the half-open state this call uses
    /// up the one attempt that is allowed.
    pub fn admit(&mut self, id: UpstreamId, now: Tick) -> bool {
        self.get_mut(id).is_some_and(|upstream| upstream.breaker.admit(now.0))
    }

    /// Starts a SOCKS5 negotiation: its state and the first bytes. `None` = a direct connection.
    pub fn negotiate(
        &self,
        id: UpstreamId,
        destination: Destination,
    ) -> Option<(Negotiation, Vec<u8>)> {
        let user = self.get(id)?.proxy.as_ref()?.user.clone();
        Some(Negotiation::new(destination, user))
    }

    /// Counts a connection attempt.
    pub fn record_dial(&mut self, id: UpstreamId) {
        if let Some(upstream) = self.get_mut(id) {
            upstream.dials += 1;
        }
    }

    /// Records that the upstream works, but refuses a destination.
    pub fn record_refusal(&mut self, id: UpstreamId, why: &str) {
        self.record_success(id);
        if let Some(upstream) = self.get_mut(id) {
            upstream.last_error = Some(why.to_owned());
        }
    }

    /// Records that the upstream works: the destination has sent a byte through it.
    pub fn record_success(&mut self, id: UpstreamId) {
        let Some(upstream) = self.get_mut(id) else { return };
        (upstream.rest, upstream.rests_until) = (FIRST_REST, Tick(0));
        if upstream.breaker.record_success() == CircuitChange::Closed {
            event!(Info, "upstream-circuit-closed", proxy = %upstream.name());
        }
    }

    /// Records that a connection through the upstream ended before it showed anything.
    pub fn record_abandoned(&mut self, id: UpstreamId) {
        if let Some(upstream) = self.get_mut(id) {
            upstream.breaker.record_abandoned();
        }
    }

    /// Records that the upstream itself failed, or leads nowhere.
    pub fn record_failure(&mut self, id: UpstreamId, why: &str, now: Tick) {
        let Some(upstream) = self.get_mut(id) else { return };
        upstream.failures += 1;
        upstream.last_error = Some(why.to_owned());
        if now >= upstream.rests_until {
            upstream.rests_until = now + upstream.rest;
            upstream.rest = (upstream.rest * 2).min(LONGEST_REST);
        }
        if upstream.breaker.record_failure(now.0) == CircuitChange::Opened {
            event!(Warn, "upstream-circuit-open", proxy = %upstream.name(), error = ?why);
        }
    }

    /// The configured upstream that is a direct connection.
    pub fn direct(&self) -> Option<UpstreamId> {
        self.configured().find(|one| one.proxy.is_none()).map(|one| one.id)
    }

    /// The name of an upstream and its last error. `None` = it has been removed.
    pub fn last_error(&self, id: UpstreamId) -> Option<(String, Option<&str>)> {
        self.get(id).map(|upstream| (upstream.name(), upstream.last_error.as_deref()))
    }

    /// The configured proxies with their names and circuits, for `/stats`.
    pub fn proxies(&self, now: Tick) -> impl Iterator<Item = (String, CircuitState, &Upstream)> {
        let proxies = self.configured().filter(|upstream| upstream.proxy.is_some());
        proxies.map(move |proxy| (proxy.name(), proxy.breaker.state(now.0), proxy))
    }
}

impl Upstream {
    fn new(id: UpstreamId, route: &UpstreamSettings) -> Self {
        let (proxy, breaker) = match route {
            UpstreamSettings::Direct => (None, CircuitBreaker::new(u32::MAX, 0, 0)),
            UpstreamSettings::Socks5(proxy) => {
                let half_open = proxy.half_open_timeout.as_millis() as u64;
                let reset = proxy.reset_failures_timeout.as_millis() as u64;
                let breaker = CircuitBreaker::new(proxy.open_threshold, half_open, reset);
                (Some(proxy.clone()), breaker)
            }
        };
        Self {
            id,
            kept_until: None,
            proxy,
            breaker,
            rests_until: Tick(0),
            rest: FIRST_REST,
            dials: 0,
            failures: 0,
            last_error: None,
        }
    }

    fn matches(&self, route: &UpstreamSettings) -> bool {
        match (&self.proxy, route) {
            (None, UpstreamSettings::Direct) => true,
            (Some(own), UpstreamSettings::Socks5(proxy)) => own == proxy,
            _ => false,
        }
    }

    /// `host:port` without the user name, or `direct`.
    fn name(&self) -> String {
        match &self.proxy {
            None => "direct".to_owned(),
            Some(proxy) => proxy.server.to_string(),
        }
    }
}

/// The error of a proxy that said yes, and closed before the first byte of the destination.
pub const CLOSED_UNPROVEN: &str = "closed before the first byte of the destination";
/// The error of a proxy that said yes, and passed on no answer to a request.
pub const SILENT: &str = "no byte of the destination";

/// How long an upstream comes last after its first failure; each further one doubles the time.
const FIRST_REST: Duration = Duration::from_secs(120);
const LONGEST_REST: Duration = Duration::from_secs(3_600);
/// Longer than any connection attempt takes.
const KEEP_REMOVED: Duration = Duration::from_secs(120);
/// Removed upstreams that are kept at once.
const MAX_REMOVED: usize = 64;

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
    fn an_upstream_keeps_its_number_and_a_removed_one_lasts_for_open_attempts() {
        let (one, two) = ("\"socks5://127.0.0.1:1\"", "\"socks5://u:p@127.0.0.1:2\"");
        let mut upstreams = Upstreams::default();
        upstreams.reload(&routes(one), Tick(0));
        upstreams.record_failure(UpstreamId(0), "no", Tick(0));
        upstreams.reload(&routes(&format!("{two}, {one}")), Tick(1));
        let seen: Vec<u64> =
            upstreams.proxies(Tick(1)).map(|(_, _, proxy)| proxy.failures).collect();
        assert_eq!(seen, [0, 1]);
        assert_eq!(upstreams.ordered(&mut Drbg::new([7; 48]), Tick(2)).len(), 2);
        upstreams.reload(&routes(two), Tick(2));
        let to = || Destination::Name("a.example".to_owned(), 1);
        assert!(upstreams.negotiate(UpstreamId(0), to()).is_some());
        let order = |upstreams: &Upstreams| upstreams.ordered(&mut Drbg::new([7; 48]), Tick(4));
        assert_eq!(order(&upstreams), [(UpstreamId(1), Some(HostPort::new("127.0.0.1", 2)))]);
        upstreams.reload(&routes(one), Tick(4));
        assert_eq!(order(&upstreams)[0].0, UpstreamId(2), "a new upstream");
        upstreams.reload(&routes(one), Tick(2) + KEEP_REMOVED);
        assert!(upstreams.negotiate(UpstreamId(0), to()).is_none());
        upstreams.reload(&[], Tick(3) + KEEP_REMOVED);
        assert!(upstreams.is_empty());
        for at in 0..200 {
            upstreams.reload(&routes(&format!("\"socks5://127.0.0.1:{}\"", at + 10)), Tick(0));
        }
        assert!(upstreams.list.len() <= MAX_REMOVED + 1);
    }

    #[test]
    fn an_upstream_that_fails_comes_last_for_a_time_that_grows_until_it_works() {
        let mut upstreams = Upstreams::default();
        upstreams.reload(&routes("\"socks5://127.0.0.1:1\", \"socks5://127.0.0.1:2\""), Tick(0));
        let (one, mut drbg) = (UpstreamId(0), Drbg::new([7; 48]));
        let mut is_first = |upstreams: &Upstreams, s: u64| {
            let now = Tick(s * 1_000);
            (0..32).any(|_| upstreams.ordered(&mut drbg, now)[0].0 == one)
        };
        assert!(is_first(&upstreams, 0));
        upstreams.record_failure(one, CLOSED_UNPROVEN, Tick(0));
        upstreams.record_failure(one, CLOSED_UNPROVEN, Tick(100_000));
        assert!(!is_first(&upstreams, 119) && is_first(&upstreams, 120));
        upstreams.record_failure(one, CLOSED_UNPROVEN, Tick(120_000));
        assert!(!is_first(&upstreams, 359) && is_first(&upstreams, 360));
        upstreams.record_failure(one, CLOSED_UNPROVEN, Tick(360_000));
        upstreams.record_failure(UpstreamId(1), CLOSED_UNPROVEN, Tick(360_000));
        assert!(is_first(&upstreams, 361), "all of them rest");
        upstreams.record_success(one);
        assert!(is_first(&upstreams, 361));
    }
}

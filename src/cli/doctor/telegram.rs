//! Is Telegram reachable, directly and through each proxy? Sends `req_pq_multi` to every address of
//! every data centre at the same time. A data centre is reachable if one of its addresses answers.

use std::net::SocketAddr;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use crate::cli::doctor::context::{CheckContext, format_us};
use crate::cli::doctor::findings::Section;
use crate::config::settings::{PreferIp, ProxySettings, Settings, UpstreamSettings};
use crate::daemon::fetch::standalone::{Standalone, since_1970};
use crate::daemon::fetch::task::{FetchError, FetchTarget, FetchTask, TaskStep, WireEvent};
use crate::daemon::upstream::connect::target::{HostOrAddrs, Route};
use crate::proto::dc;
use crate::proto::mtproto::{self, NONCE_LEN, PADDING_MAX, RESPONSE_MAX};
use crate::proto::obfuscated2::{self, Tag};
use crate::util::drbg::Drbg;
use crate::util::json::Json;
use keystream::Keystream;

/// Without the proxies.
pub(super) fn check_native(context: &mut CheckContext) -> Vec<Section> {
    let mut section = Section::new("native", "Validate native network connectivity");
    if context.options.skip_native {
        section.skip("turned off by --skip-native-check");
        return vec![section];
    }
    let remedy = match context.settings.upstreams.is_empty() {
        true => {
            "this machine cannot reach Telegram: check its firewall and routes, or add a SOCKS5 \
             proxy to network.proxies"
        }
        false => {
            "if Telegram is reachable through the proxies only, skip this check with \
             --skip-native-check"
        }
    };
    probe_all(&mut context.standalone, Route::Native, remedy, &mut section);
    vec![section]
}

/// Through each proxy separately.
pub(super) fn check_proxies(context: &mut CheckContext) -> Vec<Section> {
    let settings = &context.settings;
    let proxies = settings.upstreams.iter().filter_map(|upstream| match upstream {
        UpstreamSettings::Socks5(proxy) => Some(proxy),
        UpstreamSettings::Direct => None,
    });
    proxies.map(|proxy| check_proxy(proxy, settings)).collect()
}

fn check_proxy(proxy: &ProxySettings, settings: &Rc<Settings>) -> Section {
    let server = proxy.server.to_string();
    let title = format!("Validate network connectivity with proxy socks5://{server}");
    let mut section = Section::new("proxy", title);
    // An open circuit would end the probes of the other addresses without a result.
    let proxy = ProxySettings { open_threshold: u32::MAX, ..proxy.clone() };
    match Standalone::new(Rc::clone(settings)) {
        Ok(mut standalone) => {
            standalone.use_upstreams(&[UpstreamSettings::Socks5(proxy)]);
            probe_all(&mut standalone, Route::Upstreams, PROXY_REMEDY, &mut section);
        }
        Err(e) => {
            section
                .unknown(&server, &e.to_string())
                .remedy("close other programs or raise the limit of open files, and try again");
        }
    }
    section
}

fn probe_all(standalone: &mut Standalone, route: Route, remedy: &str, section: &mut Section) {
    let targets = targets(&standalone.settings);
    let drbg = &mut standalone.drbg;
    let mut probes: Vec<DcProbe> = Vec::new();
    for (dc, addrs) in &targets {
        probes.extend(addrs.iter().map(|addr| DcProbe::new(*dc, *addr, route, drbg)));
    }
    let mut tasks: Vec<&mut dyn FetchTask> = Vec::new();
    probes.iter_mut().for_each(|probe| tasks.push(probe));
    let outcomes = standalone.run(&mut tasks, LIMIT);
    for (dc, _) in &targets {
        let probed = probes.iter().zip(&outcomes).filter(|(probe, _)| probe.dc == *dc);
        report(*dc, &probed.collect::<Vec<_>>(), remedy, section);
    }
}

type ProbedAddr<'a> = (&'a DcProbe, &'a Result<(), FetchError>);

fn report(dc: u16, probed: &[ProbedAddr<'_>], remedy: &str, section: &mut Section) {
    let first = probed.iter().find_map(|(probe, outcome)| outcome.is_ok().then_some(probe));
    let finding = match (first, probed.last()) {
        (Some(probe), _) => {
            section.ok(format!("DC {dc} (rpc {})", format_us(probe.round_trip_us())))
        }
        (None, Some((probe, outcome))) => {
            let error = outcome.as_ref().err().map(ToString::to_string).unwrap_or_default();
            let addr = probe.addr;
            let step = match (outcome, probe.is_connected) {
                (Err(FetchError::Proxy(_)), _) => String::new(),
                (_, true) => format!("MTProto handshake with {addr}: "),
                (_, false) if probe.route == Route::Upstreams => {
                    format!("connection to the proxy, or through it to {addr}: ")
                }
                (_, false) => format!("TCP connection to {addr}: "),
            };
            section.fail(format!("DC {dc}: {step}{error}")).remedy(remedy)
        }
        (None, None) => section
            .fail(format!("DC {dc}: no address of the family that prefer-ip allows"))
            .remedy("change prefer-ip, or add addresses to [telegram.dc-overrides]"),
    };
    let addresses = probed.iter().map(|(probe, outcome)| {
        let result = match outcome {
            Ok(()) => ("rpc_us", Json::Number(probe.round_trip_us())),
            Err(error) => ("error", Json::text(error)),
        };
        Json::Object(vec![("address", Json::text(probe.addr)), result])
    });
    finding.fact("dc", Json::Number(dc.into()));
    finding.fact("addresses", Json::List(addresses.collect()));
}

/// The public data centres and those of `[telegram.dc-overrides]`, in ascending order, with the
/// addresses that the proxy would dial.
fn targets(settings: &Settings) -> Vec<(u16, Vec<SocketAddr>)> {
    let mut numbers: Vec<u16> = PUBLIC.to_vec();
    for (number, _) in &settings.dc_overrides {
        if let Err(at) = numbers.binary_search(number) {
            numbers.insert(at, *number);
        }
    }
    numbers.into_iter().map(|number| (number, addresses(settings, number))).collect()
}

/// The addresses that the proxy would dial for a data centre: those of `[telegram.dc-overrides]`,
/// or the built-in ones that `prefer-ip` allows.
pub(super) fn addresses(settings: &Settings, dc: u16) -> Vec<SocketAddr> {
    let overrides = settings.dc_overrides.iter().find(|(number, _)| *number == dc);
    let mut addrs = match overrides {
        Some((_, addrs)) => addrs.clone(),
        None => {
            let builtin = dc::builtin(dc).iter().copied();
            builtin.filter(|addr| is_allowed(settings.prefer_ip, addr)).collect()
        }
    };
    addrs.truncate(ADDRESSES_MAX);
    addrs
}

fn is_allowed(prefer: PreferIp, addr: &SocketAddr) -> bool {
    match prefer {
        PreferIp::OnlyIpv4 => addr.is_ipv4(),
        PreferIp::OnlyIpv6 => addr.is_ipv6(),
        PreferIp::PreferIpv4 | PreferIp::PreferIpv6 => true,
    }
}

/// Sends a `req_pq_multi` to one address and waits for the `resPQ`.
struct DcProbe {
    dc: u16,
    addr: SocketAddr,
    route: Route,
    nonce: [u8; NONCE_LEN],
    /// The obfuscated2 frame and the encrypted request.
    request: Vec<u8>,
    down: Keystream,
    /// Decrypted.
    response: Vec<u8>,
    is_connected: bool,
    sent_us: Option<u64>,
    /// The time of the last bytes.
    received_us: u64,
}

impl DcProbe {
    fn new(dc: u16, addr: SocketAddr, route: Route, drbg: &mut Drbg) -> Self {
        let (mut nonce, mut padding) = ([0; NONCE_LEN], [0; PADDING_MAX]);
        drbg.fill(&mut nonce);
        drbg.fill(&mut padding);
        let tag = Tag::PaddedIntermediate;
        let field = dc.cast_signed();
        let mut frame =
            obfuscated2::build_dc_frame(tag, field, None, &mut |bytes| drbg.fill(bytes));
        let mut message = mtproto::req_pq_multi(&nonce, since_1970(), &padding);
        frame.up.apply(&mut message);
        Self {
            dc,
            addr,
            route,
            nonce,
            request: [frame.wire.as_slice(), &message].concat(),
            down: frame.down(),
            response: Vec::new(),
            is_connected: false,
            sent_us: None,
            received_us: 0,
        }
    }

    fn round_trip_us(&self) -> u64 {
        self.received_us.saturating_sub(self.sent_us.unwrap_or(self.received_us))
    }
}

impl FetchTask for DcProbe {
    fn target(&self) -> FetchTarget {
        FetchTarget { server: HostOrAddrs::Addrs(vec![self.addr]), tls: None, route: self.route }
    }

    fn request(&mut self) -> Vec<u8> {
        self.is_connected = true;
        std::mem::take(&mut self.request)
    }

    fn observe(&mut self, event: WireEvent<'_>, at_us: u64) {
        match event {
            WireEvent::Start => {}
            WireEvent::Sent => self.sent_us = Some(at_us),
            WireEvent::Bytes(_) => self.received_us = at_us,
        }
    }

    fn push_bytes(&mut self, bytes: &[u8]) -> TaskStep {
        let room = RESPONSE_MAX.saturating_sub(self.response.len()).min(bytes.len());
        let mut plain = bytes.get(..room).unwrap_or_default().to_vec();
        self.down.apply(&mut plain);
        self.response.extend(plain);
        match mtproto::read_res_pq(&self.response, &self.nonce) {
            Poll::Ready(Ok(())) => TaskStep::Done,
            Poll::Pending => TaskStep::More,
            Poll::Ready(Err(fault)) => TaskStep::Failed(FetchError::response(fault.describe())),
        }
    }

    fn finish(&mut self) -> TaskStep {
        TaskStep::Failed(FetchError::response("the connection closed without an answer"))
    }

    fn idle_timeout(&self) -> Option<Duration> {
        Some(LIMIT)
    }
}

/// For a proxy that fails.
pub(super) const PROXY_REMEDY: &str = "check that the proxy is running, accepts the user name and \
password in network.proxies, and reaches Telegram";
/// The data centres of user accounts, and the one for media.
const PUBLIC: [u16; 6] = [1, 2, 3, 4, 5, 203];
/// For all data centres together, directly or through one proxy.
const LIMIT: Duration = Duration::from_secs(10);
/// As many as a session tries.
const ADDRESSES_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load;

    fn targets_with(more: &str) -> Vec<(u16, Vec<SocketAddr>)> {
        let secret = "ee00112233445566778899aabbccddeeff6578616d706c652e6f7267";
        let text = format!("secret = \"{secret}\"\nbind-to = \"127.0.0.1:1\"\n{more}");
        targets(&load::load(text.as_bytes(), "a.toml").unwrap().settings)
    }

    #[test]
    fn public_and_named_data_centres_are_probed_in_ascending_order() {
        let all = targets_with("");
        assert_eq!(all.iter().map(|(dc, _)| *dc).collect::<Vec<_>>(), PUBLIC);
        assert_eq!(all[1].1, dc::builtin(2));
        let only = targets_with("prefer-ip = \"only-ipv6\"\n");
        assert!(only.iter().all(|(_, addrs)| addrs.len() == 1 && addrs[0].is_ipv6()));
        let named = targets_with(
            "prefer-ip = \"only-ipv6\"\n[telegram.dc-overrides]\n10002 = [\"127.0.0.1:7\"]\n\
             2 = [\"127.0.0.1:5\", \"127.0.0.1:6\"]\n",
        );
        assert_eq!(
            named.iter().map(|(dc, _)| *dc).collect::<Vec<_>>(),
            [1, 2, 3, 4, 5, 203, 10_002]
        );
        assert_eq!(named[1].1, ["127.0.0.1:5", "127.0.0.1:6"].map(|a| a.parse().unwrap()));
    }
}

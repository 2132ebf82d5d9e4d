//! Can Telegram be reached, directly and through each proxy? Every address of every data centre is
//! asked for a `resPQ` at once; a data centre is well when one of its addresses answers.

use std::net::SocketAddr;
use std::time::Duration;

use crate::cli::doctor::context::{CheckContext, joined, spoken_us};
use crate::cli::doctor::findings::Section;
use crate::cli::json::Json;
use crate::config::settings::{PreferIp, ProxySettings, Route, Settings};
use crate::daemon::fetch::standalone::{Standalone, since_1970};
use crate::daemon::fetch::task::{
    FetchError, FetchRoute, FetchTarget, FetchTask, HostOrAddrs, TaskStep, WireEvent,
};
use crate::proto::dc;
use crate::proto::mtproto::{self, ANSWER_MAX, NONCE_LEN, PADDING_MAX};
use crate::proto::obfuscated2::{self, Tag};
use crate::util::drbg::Drbg;
use keystream::Keystream;

/// Without the proxies.
pub fn check_native(patient: &mut CheckContext) -> Vec<Section> {
    let mut section = Section::new("native", "Validate native network connectivity");
    if patient.wishes.skip_native {
        section.skip("not wanted (--skip-native-check)");
        return vec![section];
    }
    let remedy = match patient.settings.routes.is_empty() {
        true => {
            "this machine does not reach Telegram: look at its firewall and routes, or name a \
             SOCKS5 proxy in network.proxies"
        }
        false => {
            "where Telegram is reached through the proxies only, skip this with \
             --skip-native-check"
        }
    };
    probe_all(&mut patient.alone, FetchRoute::Native, remedy, &mut section);
    vec![section]
}

/// Through each proxy alone.
pub fn check_proxies(patient: &mut CheckContext) -> Vec<Section> {
    let settings = &patient.settings;
    let proxies = settings.routes.iter().filter_map(|route| match route {
        Route::Socks5(proxy) => Some(proxy),
        Route::Direct => None,
    });
    proxies.map(|proxy| through(proxy, settings)).collect()
}

fn through(proxy: &ProxySettings, settings: &Settings) -> Section {
    let place = joined(&proxy.host, proxy.port);
    let title = format!("Validate network connectivity with proxy socks5://{place}");
    let mut section = Section::new("proxy", title);
    // A breaker would hide what the other addresses say.
    let proxy = ProxySettings { open_threshold: u32::MAX, ..proxy.clone() };
    let settings = Settings { routes: vec![Route::Socks5(proxy)], ..settings.clone() };
    match Standalone::new(settings) {
        Ok(mut alone) => {
            let remedy = "see whether the proxy runs, takes the name and password in \
                 network.proxies, and reaches Telegram itself";
            probe_all(&mut alone, FetchRoute::Upstreams, remedy, &mut section);
        }
        Err(e) => {
            section.unknown(&place, &e.to_string()).remedy("free some descriptors and try again");
        }
    }
    section
}

fn probe_all(alone: &mut Standalone, via: FetchRoute, remedy: &str, section: &mut Section) {
    let plan = plan(&alone.settings);
    let mut probes: Vec<DcProbe> = Vec::new();
    for (dc, addrs) in &plan {
        probes.extend(addrs.iter().map(|addr| DcProbe::new(*dc, *addr, via, &mut alone.drbg)));
    }
    let mut errands: Vec<&mut dyn FetchTask> = Vec::new();
    probes.iter_mut().for_each(|probe| errands.push(probe));
    let outcomes = alone.run(&mut errands, LIMIT);
    for (dc, _) in &plan {
        let tried = probes.iter().zip(&outcomes).filter(|(probe, _)| probe.dc == *dc);
        report(*dc, &tried.collect::<Vec<_>>(), remedy, section);
    }
}

type ProbedAddr<'a> = (&'a DcProbe, &'a Result<(), FetchError>);

fn report(dc: u16, tried: &[ProbedAddr<'_>], remedy: &str, section: &mut Section) {
    let first = tried.iter().find_map(|(probe, outcome)| outcome.is_ok().then_some(probe));
    let finding = match (first, tried.last()) {
        (Some(probe), _) => {
            section.ok(format!("DC {dc} (rpc {})", spoken_us(probe.round_trip_us())))
        }
        (None, Some((probe, outcome))) => {
            let why = outcome.as_ref().err().map(ToString::to_string).unwrap_or_default();
            let addr = probe.addr;
            let step = match probe.stands {
                true => format!("the first words to {addr}"),
                false => format!("TCP connection to {addr}"),
            };
            section.fail(format!("DC {dc}: {step}: {why}")).remedy(remedy)
        }
        (None, None) => section
            .fail(format!("DC {dc}: no address of the family that prefer-ip allows"))
            .remedy("choose another prefer-ip, or name addresses in [telegram.dc-overrides]"),
    };
    let addresses = tried.iter().map(|(probe, outcome)| {
        let told = match outcome {
            Ok(()) => ("rpc_us", Json::Number(probe.round_trip_us())),
            Err(why) => ("error", Json::text(why)),
        };
        Json::object([("address", Json::text(probe.addr)), told])
    });
    finding.fact("dc", Json::Number(dc.into()));
    finding.fact("addresses", Json::List(addresses.collect()));
}

/// The public data centres and those that the operator names, in ascending order, with what would
/// be dialled.
fn plan(settings: &Settings) -> Vec<(u16, Vec<SocketAddr>)> {
    let mut numbers: Vec<u16> = PUBLIC.to_vec();
    for (number, _) in &settings.dc_overrides {
        if let Err(at) = numbers.binary_search(number) {
            numbers.insert(at, *number);
        }
    }
    numbers.into_iter().map(|number| (number, addresses(settings, number))).collect()
}

/// What would be dialled for a data centre: what the operator names, or the built-in addresses
/// that `prefer-ip` allows.
pub fn addresses(settings: &Settings, dc: u16) -> Vec<SocketAddr> {
    let named = settings.dc_overrides.iter().find(|(named, _)| *named == dc);
    let mut addrs = match named {
        Some((_, addrs)) => addrs.clone(),
        None => {
            let builtin = dc::builtin(dc).iter().copied();
            builtin.filter(|addr| is_allowed(settings.prefer_ip, addr)).collect()
        }
    };
    addrs.truncate(MOST_ADDRESSES);
    addrs
}

fn is_allowed(prefer: PreferIp, addr: &SocketAddr) -> bool {
    match prefer {
        PreferIp::OnlyIpv4 => addr.is_ipv4(),
        PreferIp::OnlyIpv6 => addr.is_ipv6(),
        PreferIp::PreferIpv4 | PreferIp::PreferIpv6 => true,
    }
}

/// One question to one address.
struct DcProbe {
    dc: u16,
    addr: SocketAddr,
    via: FetchRoute,
    nonce: [u8; NONCE_LEN],
    opening: Vec<u8>,
    down: Keystream,
    heard: Vec<u8>,
    stands: bool,
    /// When the question left and when the last bytes came.
    sent_us: Option<u64>,
    heard_us: u64,
}

impl DcProbe {
    fn new(dc: u16, addr: SocketAddr, via: FetchRoute, drbg: &mut Drbg) -> Self {
        let (mut nonce, mut padding) = ([0; NONCE_LEN], [0; PADDING_MAX]);
        drbg.fill(&mut nonce);
        drbg.fill(&mut padding);
        let tag = Tag::PaddedIntermediate;
        let field = dc.cast_signed();
        let mut frame = obfuscated2::forge_dc(tag, field, None, &mut |bytes| drbg.fill(bytes));
        let mut question = mtproto::req_pq_multi(&nonce, since_1970(), &padding);
        frame.up.apply(&mut question);
        let opening = [frame.wire.as_slice(), &question].concat();
        let (down, heard) = (frame.down(), Vec::new());
        Self {
            dc,
            addr,
            via,
            nonce,
            opening,
            down,
            heard,
            stands: false,
            sent_us: None,
            heard_us: 0,
        }
    }

    fn round_trip_us(&self) -> u64 {
        self.heard_us.saturating_sub(self.sent_us.unwrap_or(self.heard_us))
    }
}

impl FetchTask for DcProbe {
    fn target(&self) -> FetchTarget {
        FetchTarget { place: HostOrAddrs::Addrs(vec![self.addr]), tls: None, route: self.via }
    }

    fn request(&mut self) -> Vec<u8> {
        self.stands = true;
        std::mem::take(&mut self.opening)
    }

    fn observe(&mut self, event: WireEvent<'_>, at_us: u64) {
        match event {
            WireEvent::Start => {}
            WireEvent::Sent => self.sent_us = Some(at_us),
            WireEvent::Bytes(_) => self.heard_us = at_us,
        }
    }

    fn push_bytes(&mut self, bytes: &[u8]) -> TaskStep {
        let room = ANSWER_MAX.saturating_sub(self.heard.len()).min(bytes.len());
        let mut plain = bytes.get(..room).unwrap_or_default().to_vec();
        self.down.apply(&mut plain);
        self.heard.extend(plain);
        match mtproto::read_res_pq(&self.heard, &self.nonce) {
            Ok(true) => TaskStep::Done,
            Ok(false) => TaskStep::More,
            Err(fault) => TaskStep::Failed(FetchError::response(fault.describe())),
        }
    }

    fn finish(&mut self) -> TaskStep {
        TaskStep::Failed(FetchError::response("closed without an answer"))
    }

    fn idle_timeout(&self) -> Option<Duration> {
        Some(LIMIT)
    }
}

/// Where the accounts of people live, and the one for media.
const PUBLIC: [u16; 6] = [1, 2, 3, 4, 5, 203];
/// For all data centres together by one way.
const LIMIT: Duration = Duration::from_secs(10);
/// As many as the dialler tries.
const MOST_ADDRESSES: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load;

    fn planned(more: &str) -> Vec<(u16, Vec<SocketAddr>)> {
        let secret = "ee00112233445566778899aabbccddeeff6578616d706c652e6f7267";
        let text = format!("secret = \"{secret}\"\nbind-to = \"127.0.0.1:1\"\n{more}");
        plan(&load::load(text.as_bytes(), "a.toml").unwrap().settings)
    }

    #[test]
    fn public_and_named_data_centres_are_asked_in_ascending_order() {
        let all = planned("");
        assert_eq!(all.iter().map(|(dc, _)| *dc).collect::<Vec<_>>(), PUBLIC);
        assert_eq!(all[1].1, dc::builtin(2));
        let only = planned("prefer-ip = \"only-ipv6\"\n");
        assert!(only.iter().all(|(_, addrs)| addrs.len() == 1 && addrs[0].is_ipv6()));
        let named = planned(
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

//! The settings of a run with every part in play, and their changes at a reload.

use std::net::SocketAddr;
use std::time::Duration;

use fastrand::Rng;
use mtbox::config::settings::{NameServer, Settings, StatsdSettings, TagFormat};

use crate::script::Script;
use crate::{admin, dns, http, socks, statsd};

/// Puts every part into play. Some runs have lies, proxies or a drain; the rest must complete.
pub fn apply(rng: &mut Rng, script: &mut Script) {
    let settings = &mut script.settings;
    settings.binds = binds(rng);
    settings.timeouts.http = Duration::from_millis(rng.u64(1_000..6_000));
    settings.coalesce_reads = rng.bool();
    settings.front.probe = rng.bool();
    settings.page_timing.interval = Duration::from_secs(rng.u64(5..60));
    if rng.bool() {
        settings.upstreams = socks::draw(rng);
    }
    if rng.u32(0..4) > 0 {
        settings.statsd = Some(statsd_settings(rng));
    }
    http::apply(settings, Duration::from_secs(rng.u64(2..40)));
    admin::apply(settings);
    script.proxies_lie = rng.u32(0..4) == 0;
    script.dns.lies = if rng.bool() { rng.u32(5..60) } else { 0 };
    script.faults.accept_errors = if rng.bool() { 25 } else { 0 };
    script.faults.slow_us = if rng.bool() { rng.u64(1..4_000) } else { 0 };
    script.drain_at = (rng.u32(0..4) == 0).then(|| rng.u64(1..20_000));
    script.lasts_ms = if rng.u32(0..8) == 0 { 700_000 } else { rng.u64(5_000..60_000) };
}

/// Changes settings of every part for a reload. `may_move` = the listeners for clients too.
pub fn vary(rng: &mut Rng, settings: &mut Settings, may_move: bool) {
    if may_move {
        settings.binds = binds(rng);
    }
    let servers = [dns::server_addr(), dns::second_server_addr()];
    settings.dns.server = NameServer::Udp(servers[rng.usize(0..2)]);
    settings.coalesce_reads = rng.bool();
    settings.statsd = rng.bool().then(|| statsd_settings(rng));
    settings.front.probe = rng.bool();
    match rng.u32(0..4) {
        0 => settings.blocklist = None,
        1 => settings.prometheus = None,
        _ => {}
    }
    socks::vary(rng, settings);
}

/// One to three listeners for clients.
fn binds(rng: &mut Rng) -> Vec<SocketAddr> {
    let mut all = [([192, 0, 2, 1], 443), ([192, 0, 2, 1], 8_443), ([192, 0, 2, 2], 443)];
    rng.shuffle(&mut all);
    all[..rng.usize(1..=3)].iter().copied().map(SocketAddr::from).collect()
}

fn statsd_settings(rng: &mut Rng) -> StatsdSettings {
    let tags = [TagFormat::Datadog, TagFormat::Influxdb, TagFormat::Graphite];
    let tags = tags[rng.usize(0..tags.len())];
    StatsdSettings { address: statsd::server_addr(), prefix: "sim".to_owned(), tags }
}

//! Looks at the sites that our answers imitate: a hello of a Chrome is sent to each, as a visitor
//! would, and how the site answers goes to `policy/profile.rs`. The handshake is never finished,
//! so no TLS library is needed and nothing secret is said.

use std::time::Duration;

use crate::accounts::users::{HostId, ReloadChange};
use crate::daemon::fetch::connection::{FetchRoute, HostOrAddr};
use crate::daemon::fetch::schedule::Job;
use crate::daemon::fetch::{FetchTarget, FetchTask, TaskStep, WireEvent};
use crate::daemon::shared::World;
use crate::io::clock::Tick;
use crate::mimicry::profile::FrontSample;
use crate::proto::chrome_hello::{self, ChromeHello};
use crate::proto::proxy_header;
use crate::proto::server_flight::{FlightFault, FlightProgress, ServerFlight};

/// How far the looks have come, per host.
pub struct FrontProbes {
    states: Vec<ProbeState>,
}

#[derive(Clone, Default)]
struct ProbeState {
    /// Looks of the present round so far.
    looks: u32,
    /// What the log has said of this host already.
    told: Vec<FrontAdvice>,
}

impl FrontProbes {
    /// No look has been taken yet.
    pub fn new(hosts: usize) -> Self {
        Self { states: vec![ProbeState::default(); hosts] }
    }

    /// Begins anew with a host, which may be one more than before.
    fn renew(&mut self, host: HostId) {
        let hosts = self.states.len().max(host.index() + 1);
        self.states.resize(hosts, ProbeState::default());
        if let Some(state) = self.states.get_mut(host.index()) {
            *state = ProbeState::default();
        }
    }

    /// `true` = this has not been said before.
    fn tell(&mut self, host: HostId, advice: FrontAdvice) -> bool {
        let Some(state) = self.states.get_mut(host.index()) else { return false };
        let is_news = !state.told.contains(&advice);
        if is_news {
            state.told.push(advice);
        }
        is_news
    }
}

/// Puts a look at each host on the agenda, one after another.
pub fn plan(world: &mut World) {
    let hosts: Vec<HostId> = world.accounts.users.hosts().collect();
    plan_for(&hosts, world);
}

fn plan_for(hosts: &[HostId], world: &mut World) {
    if !world.settings.front.probe {
        return;
    }
    for (place, host) in hosts.iter().enumerate() {
        let wait = place as u64 * APART_MS + u64::from(world.drbg.u32_below(CHANCE_MS));
        world.fetch.schedule.add(Job::Look(*host), Tick(world.time.now.0 + wait));
    }
}

/// Looks anew: at every host when strangers are led elsewhere now, otherwise at those that are
/// new. Returns the jobs that are not there any more.
pub fn reload(is_elsewhere: bool, change: &ReloadChange, world: &mut World) -> Vec<Job> {
    let new: Vec<HostId> = match is_elsewhere {
        true => world.accounts.users.hosts().collect(),
        false => change.new_hosts.clone(),
    };
    let is_gone = |job| match job {
        Job::Look(host) => {
            is_elsewhere || new.contains(&host) || change.removed_hosts.contains(&host)
        }
        _ => false,
    };
    let gone = world.fetch.schedule.forget(is_gone);
    for host in &new {
        world.mimicry.profiles.reset(*host, &mut world.drbg);
        world.fetch.front_probes.renew(*host);
    }
    plan_for(&new, world);
    gone.into_iter().map(|(job, _)| job).collect()
}

/// Starts a look.
pub fn look(host: HostId, world: &mut World) {
    let round = world.fetch.front_probes.states.get(host.index()).map_or(0, |state| state.looks);
    let offered = ORDERS[round as usize % ORDERS.len()];
    let drbg = &mut world.drbg;
    let name = world.accounts.users.host_name(host);
    let hello = chrome_hello::write(name, offered, &mut |bytes| drbg.fill(bytes));
    let (site, port) = world.site(host);
    let errand = FrontProbeTask {
        host,
        place: HostOrAddr::Named { host: site, port },
        has_header: world.settings.front.proxy_protocol,
        offered,
        flight: ServerFlight::new(hello.session_id),
        hello,
        answered_us: None,
        outcome: Ok(FlightProgress::More),
    };
    world.order(Box::new(errand));
}

struct FrontProbeTask {
    host: HostId,
    place: HostOrAddr,
    /// The site expects a PROXY protocol header.
    has_header: bool,
    offered: [u16; 3],
    hello: ChromeHello,
    flight: ServerFlight,
    /// When the ServerHello was whole.
    answered_us: Option<u64>,
    outcome: Result<FlightProgress, FlightFault>,
}

impl FetchTask for FrontProbeTask {
    fn target(&self) -> FetchTarget {
        FetchTarget { place: self.place.clone(), tls: None, via: FetchRoute::Front }
    }

    fn open(&mut self) -> Vec<u8> {
        let header = if self.has_header { &proxy_header::LOCAL_HEADER[..] } else { &[] };
        [header, &self.hello.wire].concat()
    }

    fn watch(&mut self, sight: WireEvent<'_>, at_us: u64) {
        let WireEvent::Bytes(bytes) = sight else { return };
        if self.outcome == Ok(FlightProgress::More) {
            self.outcome = self.flight.push(bytes);
        }
        if self.answered_us.is_none() && self.flight.choice().is_some() {
            self.answered_us = Some(at_us);
        }
        if at_us > LOOK_MAX_US && !self.flight.may_be_complete() {
            // However steadily it trickles.
            self.outcome = self.outcome.and(Ok(FlightProgress::Enough));
        }
    }

    fn take(&mut self, _bytes: &[u8]) -> TaskStep {
        match self.outcome {
            Ok(FlightProgress::More) => TaskStep::More,
            Ok(FlightProgress::Enough) => TaskStep::Done,
            Err(oddity) => TaskStep::Failed(describe(oddity)),
        }
    }

    fn end(&mut self) -> TaskStep {
        TaskStep::Done
    }

    fn patience_ms(&self) -> Option<u64> {
        Some(if self.flight.may_be_complete() { SILENCE_MS } else { LOOK_MS })
    }

    fn job(&self) -> Option<Job> {
        Some(Job::Look(self.host))
    }

    fn settle(self: Box<Self>, outcome: Result<(), String>, world: &mut World) {
        let host = self.host;
        let is_well = self.outcome.is_ok() && self.flight.may_be_complete();
        match (self.flight.choice(), self.answered_us) {
            (Some(choice), Some(delay_us)) if is_well => {
                let (offered, flight) = (self.offered, self.flight.total_len());
                report(
                    world,
                    host,
                    FrontSample { offered, choice, flight, delay_us },
                    self.flight.record_count(),
                );
            }
            _ => {
                if let Err(oddity) = self.outcome {
                    warn(world, host, oddity);
                }
                let why = outcome.err().unwrap_or_else(|| "it ended too early".to_owned());
                let name = shown(world, host);
                let line = format!("event=front-probe-failed host={name} error={why:?}");
                world.telemetry.info(format_args!("{line}"));
            }
        }
        let mut period = world.settings.page_timing.interval;
        if let Some(state) = world.fetch.front_probes.states.get_mut(host.index()) {
            state.looks = if is_well { (state.looks + 1) % LOOKS } else { 0 };
            if is_well && state.looks > 0 {
                period = period.min(BETWEEN);
            }
        }
        world.done(Job::Look(host), is_well, period);
    }
}

/// Keeps a look, and says so when it changes our answers.
fn report(world: &mut World, host: HostId, look: FrontSample, records: usize) {
    let name = shown(world, host);
    let profile = world.mimicry.profiles.get_mut(host);
    let is_news = profile.latest().is_none_or(|latest| latest.choice != look.choice);
    profile.learn(look);
    let group = if look.choice.hybrid { "X25519MLKEM768" } else { "x25519" };
    let line = format!(
        "event=front-probe host={name} cipher={:04x} group={group} order={:?} flight={} \
         records={records} ms={}",
        look.choice.cipher,
        look.choice.order,
        look.flight,
        look.delay_us / 1_000,
    );
    if is_news {
        log::info!("{line}");
    } else {
        log::debug!("{line}");
    }
    if !look.choice.hybrid && world.fetch.front_probes.tell(host, FrontAdvice::NoHybrid) {
        log::info!(
            "event=front-advice host={name} hint=\"the site does not speak X25519MLKEM768, so our \
             answers do not either; censors suspect such sites more: prefer one that does\""
        );
    }
    if records > 1 && world.fetch.front_probes.tell(host, FrontAdvice::ManyRecords) {
        log::info!(
            "event=front-advice host={name} hint=\"the site sends its certificate in {records} \
             records, and clients bear only one: a site that sends one is a better likeness\""
        );
    }
}

/// Tells the operator once what is wrong with a site.
fn warn(world: &mut World, host: HostId, oddity: FlightFault) {
    let (advice, hint) = match oddity {
        FlightFault::OldTls => {
            (FrontAdvice::OldTls, "does not speak TLS 1.3, and every answer of ours does")
        }
        FlightFault::Retry => (FrontAdvice::Retry, "speaks neither X25519MLKEM768 nor x25519"),
        _ => return,
    };
    if world.fetch.front_probes.tell(host, advice) {
        let name = shown(world, host);
        log::warn!("event=front-mismatch host={name} hint=\"the site {hint}: choose another one\"");
    }
}

/// In words.
pub fn describe(oddity: FlightFault) -> String {
    match oddity {
        FlightFault::NotTls => "this is no TLS server".to_owned(),
        FlightFault::Alert(code) => format!("the site refuses with TLS alert {code}"),
        FlightFault::OldTls => "the site does not speak TLS 1.3".to_owned(),
        FlightFault::Retry => "the site speaks neither X25519MLKEM768 nor x25519".to_owned(),
        FlightFault::Malformed => "the site says what no TLS 1.3 server says".to_owned(),
    }
}

/// A host's name for the log, quoted.
fn shown(world: &World, host: HostId) -> String {
    format!("{:?}", String::from_utf8_lossy(world.accounts.users.host_name(host)))
}

/// What an operator should know about a site.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FrontAdvice {
    OldTls,
    Retry,
    NoHybrid,
    ManyRecords,
}

/// The orders in which suites are offered: Chrome's, that of Apple's, Chrome's again. From the
/// first two it shows whether the site chooses or the client.
const ORDERS: [[u16; 3]; LOOKS as usize] =
    [[0x1301, 0x1302, 0x1303], [0x1302, 0x1301, 0x1303], [0x1301, 0x1302, 0x1303]];
/// Looks per round: flights vary.
const LOOKS: u32 = 3;
const BETWEEN: Duration = Duration::from_secs(4);
/// Between the first looks at two hosts; more of them at once would crowd out other errands.
const APART_MS: u64 = 2_000;
const CHANCE_MS: u32 = 500;
/// For one look. A site takes milliseconds.
const LOOK_MS: u64 = 10_000;
const LOOK_MAX_US: u64 = 10_000_000;
/// A flight that has begun is over after this silence; every record of it is sent at once.
const SILENCE_MS: u64 = 1_000;

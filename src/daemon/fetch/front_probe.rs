//! Probes of the fronts that our answers imitate. A probe sends Chrome's ClientHello to a front and
//! adds the answer to the front's profile (`mimicry/profile.rs`). The handshake is never finished,
//! so no TLS library is needed.

use std::net::SocketAddr;
use std::time::Duration;

use crate::accounts::users::{HostId, ReloadChange, Users};
use crate::config::settings::Settings;
use crate::daemon::admin::telemetry::Telemetry;
use crate::daemon::fetch::guidance::Advice;
use crate::daemon::fetch::schedule::{Job, JobResult, Schedule};
use crate::daemon::fetch::task::{FetchError, FetchTarget, FetchTask, TaskStep, WireEvent};
use crate::daemon::upstream::connect::target::{HostOrAddrs, Route};
use crate::daemon::upstream::front;
use crate::io::clock::Tick;
use crate::io::logger::{event, fields};
use crate::limits::front_loops::Sender;
use crate::mimicry::profile::{FrontSample, Profiles};
use crate::proto::chrome_hello::{self, ChromeHello};
use crate::proto::proxy_header;
use crate::proto::server_flight::{FlightFault, FlightProgress, ServerFlight};
use crate::util::drbg::Drbg;
use crate::util::log_settings::LogLevel;

/// The state of the probes, per host.
pub struct FrontProbes {
    states: Vec<ProbeState>,
    /// What is wrong with the hosts; `None` = not all have been looked at.
    pub advice: Option<Vec<Advice>>,
}

#[derive(Clone, Default)]
struct ProbeState {
    /// Successful probes of the current round.
    probes: u32,
    /// Advice about this front that was logged.
    logged: Vec<FrontAdvice>,
    /// Whether the first probe has succeeded.
    first: Option<bool>,
    /// Whether the IPv6 address takes connections.
    v6: Option<bool>,
    /// The next probe is for the IPv6 address.
    awaits_v6: bool,
}

impl FrontProbes {
    /// No front has been probed yet.
    pub fn new(hosts: usize) -> Self {
        Self { states: vec![ProbeState::default(); hosts], advice: None }
    }

    /// Whether the IPv6 address of the host may be looked at now: after the first probe, once.
    pub fn may_look_at_v6(&self, host: HostId) -> bool {
        let state = self.states.get(host.index());
        state.is_some_and(|state| state.first == Some(true) && state.v6.is_none())
    }

    /// Whether the host was looked at and its IPv6 address did not answer; `None` = not yet.
    pub fn is_v6_silent(&self, host: HostId) -> Option<bool> {
        let state = self.states.get(host.index())?;
        state.first.filter(|_| !state.awaits_v6).map(|_| state.v6 == Some(false))
    }

    /// Whether the next probe is for the IPv6 address.
    pub fn set_awaits_v6(&mut self, host: HostId, awaits_v6: bool) {
        if let Some(state) = self.states.get_mut(host.index()) {
            state.awaits_v6 = awaits_v6;
        }
    }

    /// Resets the state of a host, which may be new.
    fn reset(&mut self, host: HostId) {
        let hosts = self.states.len().max(host.index() + 1);
        self.states.resize(hosts, ProbeState::default());
        if let Some(state) = self.states.get_mut(host.index()) {
            *state = ProbeState::default();
        }
    }

    /// Marks this advice as logged for the host. Returns whether it was not logged before.
    fn is_new(&mut self, host: HostId, advice: FrontAdvice) -> bool {
        let Some(state) = self.states.get_mut(host.index()) else { return false };
        let is_new = !state.logged.contains(&advice);
        if is_new {
            state.logged.push(advice);
        }
        is_new
    }

    /// Counts a probe. Returns whether more probes of this round follow.
    fn count(&mut self, host: HostId, is_ok: bool) -> bool {
        let Some(state) = self.states.get_mut(host.index()) else { return false };
        state.probes = if is_ok { (state.probes + 1) % PROBES_PER_ROUND } else { 0 };
        state.probes > 0
    }
}

/// Schedules a probe of each host, one after another.
pub fn plan(
    hosts: &[HostId],
    settings: &Settings,
    schedule: &mut Schedule,
    drbg: &mut Drbg,
    now: Tick,
) {
    if !settings.front.probe {
        return;
    }
    for (at, host) in hosts.iter().enumerate() {
        let random = Duration::from_millis(drbg.u32_below(RANDOM_MS).into());
        schedule.add(Job::FrontProbe(*host), now + APART * at as u32 + random);
    }
}

/// Restarts the probes of hosts with a new front. `has_moved` = the address of all fronts has
/// changed. Returns these hosts, and the jobs that were removed.
pub fn reload(
    has_moved: bool,
    change: &ReloadChange,
    users: &Users,
    probes: &mut FrontProbes,
    schedule: &mut Schedule,
) -> (Vec<HostId>, Vec<Job>) {
    let new: Vec<HostId> = match has_moved {
        true => users.hosts().collect(),
        false => change.new_hosts.clone(),
    };
    let is_removed = |job| match job {
        Job::FrontProbe(host) => {
            has_moved || new.contains(&host) || change.removed_hosts.contains(&host)
        }
        _ => false,
    };
    let removed = schedule.remove(&is_removed);
    new.iter().for_each(|host| probes.reset(*host));
    if !new.is_empty() {
        probes.advice = None;
    }
    (new, removed.into_iter().map(|(job, _)| job).collect())
}

const PROBE_HINT: &str = "mtbox doctor examines the front; a web server that expects a PROXY \
    header, or none, needs the same in [domain-fronting] proxy-protocol";

/// Probes one front.
pub struct FrontProbeTask {
    host: HostId,
    front: HostOrAddrs,
    /// The front expects a PROXY protocol header.
    has_header: bool,
    offered: [u16; 3],
    hello: ChromeHello,
    flight: ServerFlight,
    /// When the ServerHello was complete.
    answered_us: Option<u64>,
    outcome: Result<FlightProgress, FlightFault>,
    /// The IPv6 addresses that are looked at; empty = a usual probe.
    v6: Vec<SocketAddr>,
    is_connected: bool,
}

impl FrontProbeTask {
    /// The next probe of a host.
    pub fn new(
        host: HostId,
        probes: &FrontProbes,
        settings: &Settings,
        users: &Users,
        drbg: &mut Drbg,
    ) -> Self {
        let probe = probes.states.get(host.index()).map_or(0, |state| state.probes);
        let offered = SUITE_ORDERS[probe as usize % SUITE_ORDERS.len()];
        let name = users.host_name(host);
        let hello = chrome_hello::write(name, offered, &mut |bytes| drbg.fill(bytes));
        Self {
            host,
            front: front::front_of(settings, users, host),
            has_header: settings.front.proxy_protocol,
            offered,
            flight: ServerFlight::new(hello.session_id),
            hello,
            answered_us: None,
            outcome: Ok(FlightProgress::More),
            v6: Vec::new(),
            is_connected: false,
        }
    }

    /// The probe among the senders of hellos, and its hello.
    pub fn on_the_way(&self) -> (Sender, &[u8]) {
        (Sender::Look(self.host), &self.hello.wire)
    }

    /// Whether the front has answered.
    pub fn is_answered(&self) -> bool {
        self.answered_us.is_some()
    }

    /// Looks whether these IPv6 addresses of the front answer, instead of a usual probe.
    pub fn only_to(mut self, v6: Vec<SocketAddr>) -> Self {
        self.v6 = v6;
        self
    }

    /// The job that the task belongs to.
    pub fn job(&self) -> Job {
        Job::FrontProbe(self.host)
    }

    /// The host whose front is probed.
    pub fn host(&self) -> HostId {
        self.host
    }

    /// Adds the sample to the front's profile and logs advice for the operator.
    pub fn apply(
        self,
        outcome: Result<(), FetchError>,
        probes: &mut FrontProbes,
        profiles: &mut Profiles,
        telemetry: &mut Telemetry,
        context: &ProbeContext<'_>,
    ) -> JobResult {
        let (job, host) = (self.job(), self.host);
        let is_ok = self.outcome.is_ok() && self.flight.may_be_complete();
        if let Some(state) = probes.states.get_mut(host.index()) {
            if !self.v6.is_empty() {
                (state.v6, state.awaits_v6) = (Some(self.is_connected), false);
                return JobResult { job, is_ok: true, period: BETWEEN };
            }
            state.first.get_or_insert(is_ok);
        }
        // Quoted, for the log.
        let name = format!("{:?}", String::from_utf8_lossy(context.users.host_name(host)));
        match (self.flight.choice(), self.answered_us) {
            (Some(choice), Some(delay_us)) if is_ok => {
                let flight = self.flight.total_len();
                let sample = FrontSample { offered: self.offered, choice, flight, delay_us };
                add_sample(sample, self.flight.record_count(), &name, host, probes, profiles);
            }
            _ => {
                if let Err(fault) = self.outcome {
                    warn(fault, &name, host, probes);
                }
                let ended = || "the connection ended too early".to_owned();
                let why = outcome.err().map_or_else(ended, |why| why.to_string());
                telemetry.info(fields!(
                    "front-probe-failed", host = %name, error = ?why, hint = ?PROBE_HINT
                ));
            }
        }
        let period = context.settings.page_timing.interval;
        let period = if probes.count(host, is_ok) { period.min(BETWEEN) } else { period };
        JobResult { job, is_ok, period }
    }
}

/// The settings and users that the outcome of a probe refers to.
pub struct ProbeContext<'a> {
    /// The period of the rounds.
    pub settings: &'a Settings,
    /// The names of the hosts.
    pub users: &'a Users,
}

impl FetchTask for FrontProbeTask {
    fn target(&self) -> FetchTarget {
        let server = match self.v6.is_empty() {
            true => self.front.clone(),
            false => HostOrAddrs::Addrs(self.v6.clone()),
        };
        FetchTarget { server, tls: None, route: Route::Front }
    }

    fn request(&mut self) -> Vec<u8> {
        self.is_connected = true;
        let header = if self.has_header { &proxy_header::LOCAL_HEADER[..] } else { &[] };
        [header, &self.hello.wire].concat()
    }

    fn observe(&mut self, event: WireEvent<'_>, at_us: u64) {
        let WireEvent::Bytes(bytes) = event else { return };
        if self.outcome == Ok(FlightProgress::More) {
            self.outcome = self.flight.push(bytes);
        }
        if self.answered_us.is_none() && self.flight.choice().is_some() {
            self.answered_us = Some(at_us);
        }
        if at_us > PROBE_MAX.as_micros() as u64 && !self.flight.may_be_complete() {
            // The idle timeout does not end a flight that trickles in.
            self.outcome = self.outcome.and(Ok(FlightProgress::Enough));
        }
    }

    fn push_bytes(&mut self, _bytes: &[u8]) -> TaskStep {
        match self.outcome {
            Ok(FlightProgress::More) => TaskStep::More,
            Ok(FlightProgress::Enough) => TaskStep::Done,
            Err(fault) => TaskStep::Failed(FetchError::response(describe(fault))),
        }
    }

    fn finish(&mut self) -> TaskStep {
        TaskStep::Done
    }

    fn idle_timeout(&self) -> Option<Duration> {
        Some(if self.flight.may_be_complete() { SILENCE } else { PROBE_MAX })
    }
}

/// Adds a sample to the profile. Logs at level info if it changes our answers.
fn add_sample(
    sample: FrontSample,
    records: usize,
    name: &str,
    host: HostId,
    probes: &mut FrontProbes,
    profiles: &mut Profiles,
) {
    let profile = profiles.get_mut(host);
    let has_changed = profile.latest().is_none_or(|latest| latest.choice != sample.choice);
    profile.learn(sample);
    let level = if has_changed { LogLevel::Info } else { LogLevel::Debug };
    let choice = &sample.choice;
    event!(
        (level), "front-probe", host = %name,
        cipher = format_args!("{:04x}", choice.cipher),
        group = %if choice.hybrid { "X25519MLKEM768" } else { "x25519" },
        order = %format_args!("{:?}", choice.order), flight = sample.flight, records = records,
        ms = sample.delay_us / 1_000
    );
    if records > 1 && probes.is_new(host, FrontAdvice::ManyRecords) {
        event!(
            Info, "front-advice", host = %name,
            hint = ?format_args!("the front sends its certificate in {records} records, but apps \
                accept only one: a front that sends one record is imitated better")
        );
    }
}

/// Warns once about each reason why a front cannot be imitated.
fn warn(fault: FlightFault, name: &str, host: HostId, probes: &mut FrontProbes) {
    let (advice, hint) = match fault {
        FlightFault::OldTls => {
            (FrontAdvice::OldTls, "does not support TLS 1.3, but all our answers are TLS 1.3")
        }
        FlightFault::Retry => (FrontAdvice::Retry, "supports neither X25519MLKEM768 nor x25519"),
        _ => return,
    };
    if probes.is_new(host, advice) {
        event!(
            Warn, "front-mismatch", host = %name,
            hint = ?format_args!("the front {hint}: choose another one")
        );
    }
}

/// A diagnostic for the operator.
pub fn describe(fault: FlightFault) -> String {
    match fault {
        FlightFault::NotTls => "the front is not a TLS server".to_owned(),
        FlightFault::Alert(code) => format!("the front refuses with TLS alert {code}"),
        FlightFault::OldTls => "the front does not support TLS 1.3".to_owned(),
        FlightFault::Retry => "the front supports neither X25519MLKEM768 nor x25519".to_owned(),
        FlightFault::Malformed => "the front's answer is not valid TLS 1.3".to_owned(),
    }
}

/// Advice about a front, each logged once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FrontAdvice {
    OldTls,
    Retry,
    ManyRecords,
}

/// The orders in which suites are offered: Chrome's, Apple's, Chrome's again. The first two show
/// whether the front or the client chooses.
const SUITE_ORDERS: [[u16; 3]; PROBES_PER_ROUND as usize] =
    [[0x1301, 0x1302, 0x1303], [0x1302, 0x1301, 0x1303], [0x1301, 0x1302, 0x1303]];
/// Several, since flights vary.
const PROBES_PER_ROUND: u32 = 3;
const BETWEEN: Duration = Duration::from_secs(4);
/// Between the first probes of two hosts, so that they do not fill the task queue.
const APART: Duration = Duration::from_secs(2);
const RANDOM_MS: u32 = 500;
/// The limit for one probe. A front answers within milliseconds.
const PROBE_MAX: Duration = Duration::from_secs(10);
/// A flight that has begun is complete after this silence: a server sends all its records at once.
const SILENCE: Duration = Duration::from_secs(1);

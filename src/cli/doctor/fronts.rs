//! Are the fronts reachable, and does mtbox imitate them well? For every distinct host: name
//! resolution, no loop to this proxy, TCP, the answer to a ClientHello of Chrome, the certificate.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::cli::doctor::context::CheckContext;
use crate::cli::doctor::dns;
use crate::cli::doctor::findings::Section;
#[cfg(feature = "tls")]
use crate::cli::doctor::open_probe::OpenProbe;
use crate::daemon::fetch::front_probe;
use crate::daemon::fetch::guidance::NO_HYBRID;
use crate::daemon::fetch::task::{FetchError, FetchTarget, FetchTask, TaskStep, WireEvent};
use crate::daemon::resolver::lookup::LookupFault;
use crate::daemon::upstream::connect::target::{HostOrAddrs, Route};
use crate::proto::chrome_hello::{self, ChromeHello};
use crate::proto::client_hello::HelloKey;
use crate::proto::proxy_header;
use crate::proto::secret::Secret;
use crate::proto::server_flight::{Choice, FlightFault, FlightProgress, ServerFlight};
use crate::util::drbg::Drbg;
use crate::util::host_port::HostPort;
use crate::util::json::Json;

pub(super) fn check(context: &mut CheckContext) -> Vec<Section> {
    let mut section = Section::new("fronting", "Validate fronting domain connectivity");
    // 1. Resolve all fronts and leave out those that need no connection.
    let mut probes = resolve(context, &mut section);
    // 2. Send a ClientHello to each, all at the same time.
    let limit = context.limit(limit(probes.len()));
    let mut tasks: Vec<&mut dyn FetchTask> = Vec::new();
    probes.iter_mut().for_each(|probe| tasks.push(probe));
    let outcomes = context.standalone.run(&mut tasks, limit);
    // 3. Look for a way back to this proxy where there was no answer.
    find_loops(context, &mut probes);
    // 4. Check the certificates over connections of their own: they need a complete handshake.
    let certificates = certificates(context, &probes);
    for ((probe, outcome), certificate) in probes.iter().zip(outcomes).zip(certificates) {
        if let Reachability::Tls = report_answer(probe, outcome.err(), &mut section) {
            report_certificate(probe, &certificate, &mut section);
        }
    }
    vec![section]
}

/// One probe per front that has an address and is not this proxy. Reports the other fronts.
fn resolve(context: &mut CheckContext, section: &mut Section) -> Vec<HelloProbe> {
    // `is_own_listener` knows the public addresses only after this.
    let public = context.own_addrs().addrs.public();
    let hosts = context.hosts();
    let fronts: Vec<HostPort> = hosts.iter().map(|host| context.front(host)).collect();
    let names: Vec<String> = fronts.iter().map(|front| front.host.clone()).collect();
    let limit = context.limit(LIMIT);
    let found = context.standalone.lookup(&names, limit);
    let header: &'static [u8] = match context.settings.front.proxy_protocol {
        true => proxy_header::LOCAL_HEADER,
        false => &[],
    };
    let mut probes = Vec::new();
    for ((host, front), found) in hosts.into_iter().zip(fronts).zip(found) {
        let ips = match found {
            Ok(ips) => ips,
            Err(fault) => {
                section
                    .fail(format!("{front}: its name cannot be resolved: {fault}"))
                    .fact("host", Json::text(&host))
                    .remedy(match fault {
                        LookupFault::Server(_) => dns::SERVER_REMEDY,
                        _ => {
                            "correct the name, check network.dns, or set [domain-fronting] host \
                             to the web server"
                        }
                    });
                continue;
            }
        };
        let mut addrs: Vec<SocketAddr> =
            ips.iter().map(|ip: &IpAddr| SocketAddr::new(*ip, front.port)).collect();
        if addrs.iter().any(|addr| context.standalone.is_own_listener(*addr)) {
            section
                .fail(format!("{front} is this proxy itself, so fronted connections would loop"))
                .fact("host", Json::text(&host))
                .remedy(
                    "set [domain-fronting] host and port to the web server, such as 127.0.0.1 and \
                     8443",
                );
        } else {
            if let Some(refusal) = context.retain_allowed(&front, &mut addrs) {
                let finding = match addrs.is_empty() {
                    true => section.fail(format!("{front}: {refusal}")),
                    false => section.warn(format!("{front}: {refusal}; it is not used")),
                };
                finding.fact("host", Json::text(&host)).remedy(
                    "mtbox does not connect clients there: if your web server is there, set \
                     [domain-fronting] host and port to it, otherwise check network.dns",
                );
            }
            if addrs.is_empty() {
                continue;
            }
            let is_public_addr = ips.iter().any(|ip| public.contains(ip));
            let drbg = &mut context.standalone.drbg;
            let probe = HelloProbe::new(host, front, addrs, header, drbg);
            probes.push(HelloProbe { is_public_addr, ..probe });
        }
    }
    probes
}

/// Finds the fronts that lead back to this proxy, as over a router or a forwarded port does: no
/// other server answers a hello with the key of a user.
fn find_loops(context: &mut CheckContext, probes: &mut [HelloProbe]) {
    context.standalone.deadline_after(Duration::ZERO); // Reads the clock.
    let unix_s = context.standalone.time.wall.unix_s as u32;
    let (users, drbg) = (&context.settings.users, &mut context.standalone.drbg);
    let signed = |(at, probe): (usize, &HelloProbe)| {
        let is_of_host = |secret: &Secret| secret.host() == probe.host.as_bytes();
        let user = users.iter().find(|user| user.enabled && is_of_host(&user.secret))?;
        let (host, front, addrs) = (probe.host.clone(), probe.front.clone(), probe.addrs.clone());
        let mut signed = HelloProbe::new(host, front, addrs, probe.header, drbg);
        HelloKey::new(user.secret.key()).sign(&mut signed.hello.wire, unix_s);
        Some((at, signed))
    };
    let silent = |probe: &HelloProbe| probe.is_connected && probe.flight.choice().is_none();
    let silent = probes.iter().enumerate().filter(|(_, probe)| silent(probe));
    let mut again: Vec<(usize, HelloProbe)> = silent.filter_map(signed).collect();
    let mut tasks: Vec<&mut dyn FetchTask> = Vec::new();
    again.iter_mut().for_each(|(_, probe)| tasks.push(probe));
    let limit = limit(tasks.len());
    context.standalone.run(&mut tasks, limit);
    for (at, signed) in again {
        if let Some(probe) = probes.get_mut(at) {
            probe.leads_back = signed.flight.choice().is_some();
        }
    }
}

/// What answers at the front.
enum Reachability {
    /// A TLS server, though perhaps not of version 1.3.
    Tls,
    Nothing,
}

/// Reports how the front answered the hello. `error`: why the task failed.
fn report_answer(
    probe: &HelloProbe,
    error: Option<FetchError>,
    section: &mut Section,
) -> Reachability {
    let (host, front) = (&probe.host, &probe.front);
    if !probe.is_connected {
        section
            .fail(format!("{front}: {}", error.unwrap_or(FetchError::TooSlow)))
            .fact("host", Json::text(host))
            .remedy(
                "unauthenticated clients get no answer: start the web server, open its port, or \
                 choose a web site that this machine can reach",
            );
        return Reachability::Nothing;
    }
    if probe.leads_back {
        section
            .fail(format!("{front} leads back to this proxy, so fronted connections would loop"))
            .fact("host", Json::text(host))
            .remedy(
                "a router in front of mtbox or a forwarded port leads here: set [domain-fronting] \
                 host and port to the web server itself, and reload",
            );
        return Reachability::Nothing;
    }
    let finding = section.ok(format!("{front} is reachable"));
    finding.fact("host", Json::text(host));
    if probe.is_public_addr {
        // A forwarded port leads back to this proxy without being one of its listeners.
        finding.remedy(
            "this is the public address of this machine: make sure that a web server listens \
             there, not a forwarded port that leads to mtbox",
        );
    }
    match (probe.outcome, probe.flight.choice()) {
        (Err(fault), _) => {
            section
                .fail(format!("{host}: {}", front_probe::describe(fault)))
                .fact("host", Json::text(host))
                .remedy(remedy(fault));
            match fault {
                FlightFault::OldTls | FlightFault::Retry => Reachability::Tls,
                _ => Reachability::Nothing,
            }
        }
        (Ok(_), Some(choice)) if probe.flight.may_be_complete() => {
            report_flight(probe, choice, section);
            Reachability::Tls
        }
        (Ok(_), _) => {
            let closed = FetchError::response("the connection closed too early");
            let error = error.unwrap_or(closed);
            section
                .fail(format!("{host}: no answer to a TLS hello: {error}"))
                .fact("host", Json::text(host))
                .remedy(
                    "the front must be a TLS server, and must expect a PROXY header if and only \
                     if [domain-fronting] proxy-protocol is on",
                );
            Reachability::Nothing
        }
    }
}

fn report_flight(probe: &HelloProbe, choice: Choice, section: &mut Section) {
    let host = &probe.host;
    let group = if choice.hybrid { "X25519MLKEM768" } else { "no X25519MLKEM768, x25519" };
    let lens = probe.flight.record_lens();
    let sizes: Vec<String> = lens.iter().map(u16::to_string).collect();
    let records = if lens.len() == 1 { "record" } else { "records" };
    let text = format!(
        "{host}: TLS 1.3, {group}, suite {:04x}, flight of {} {records} ({} bytes)",
        choice.cipher,
        lens.len(),
        sizes.join(" + "),
    );
    let finding = match choice.hybrid {
        true => section.ok(text),
        false => section.warn(text),
    };
    if !choice.hybrid {
        finding.remedy(NO_HYBRID);
    } else if probe.flight.total_len() > FLIGHT_MAX {
        finding.remedy(
            "Telegram apps accept at most 10,240 bytes, so the flights of mtbox are shorter: a \
             front with a smaller certificate is imitated better",
        );
    } else if lens.len() > 1 {
        finding.remedy(
            "Telegram apps accept only one record, so mtbox sends one: a front that sends one \
             record is imitated better",
        );
    }
    finding.fact("host", Json::text(host)).fact("group", Json::text(group));
    finding.fact("suite", Json::text(format!("{:04x}", choice.cipher)));
    let lens = lens.iter().map(|len| Json::Number((*len).into()));
    finding.fact("record_bytes", Json::List(lens.collect()));
}

fn remedy(fault: FlightFault) -> &'static str {
    match fault {
        FlightFault::OldTls | FlightFault::Retry => {
            "mtbox always answers with TLS 1.3 and one of these groups: choose another web site, \
             or update this one"
        }
        FlightFault::Alert(_) => "check whether the front serves this name, or choose another one",
        FlightFault::NotTls | FlightFault::Malformed => {
            "the front must be a TLS server: check [domain-fronting] host, port and proxy-protocol"
        }
    }
}

/// The outcome of a TLS handshake; `None` = this build cannot make one.
type Certificate = Option<Result<(), FetchError>>;

fn report_certificate(probe: &HelloProbe, certificate: &Certificate, section: &mut Section) {
    let host = &probe.host;
    let finding = match certificate {
        None => section.skip(format!("{host}: certificate not checked: this build has no TLS")),
        Some(Ok(())) => section.ok(format!("{host}: the certificate is valid")),
        Some(Err(error)) => section.fail(format!("{host}: TLS handshake: {error}")).remedy(
            "browsers would show a warning: renew the certificate or correct its names; for a \
             private certificate authority set network.ca-file",
        ),
    };
    finding.fact("host", Json::text(host));
}

#[cfg(not(feature = "tls"))]
fn certificates(_context: &mut CheckContext, probes: &[HelloProbe]) -> Vec<Certificate> {
    probes.iter().map(|_| None).collect()
}

#[cfg(feature = "tls")]
fn certificates(context: &mut CheckContext, probes: &[HelloProbe]) -> Vec<Certificate> {
    if context.options.is_quick {
        return probes.iter().map(|_| None).collect();
    }
    let mut handshakes = Vec::new();
    for HelloProbe { host, addrs, header, .. } in probes {
        handshakes.push(OpenProbe {
            addrs: addrs.clone(),
            tls: Some(host),
            preface: header,
            limit: ANSWER_LIMIT,
            is_open: false,
        });
    }
    let mut tasks: Vec<&mut dyn FetchTask> = Vec::new();
    handshakes.iter_mut().for_each(|handshake| tasks.push(handshake));
    let outcomes = context.standalone.run(&mut tasks, limit(probes.len()));
    let certificates = handshakes.iter().zip(outcomes).map(|(handshake, outcome)| {
        // What happens to the connection after the handshake does not matter.
        Some(if handshake.is_open { Ok(()) } else { outcome })
    });
    certificates.collect()
}

/// Sends a ClientHello and reads the answer. Does not complete the handshake.
struct HelloProbe {
    host: String,
    front: HostPort,
    addrs: Vec<SocketAddr>,
    /// The PROXY header that the front expects; may be empty.
    header: &'static [u8],
    hello: ChromeHello,
    flight: ServerFlight,
    outcome: Result<FlightProgress, FlightFault>,
    is_connected: bool,
    /// The front has a public address of this machine.
    is_public_addr: bool,
    /// This proxy answers there.
    leads_back: bool,
}

impl HelloProbe {
    fn new(
        host: String,
        front: HostPort,
        addrs: Vec<SocketAddr>,
        header: &'static [u8],
        drbg: &mut Drbg,
    ) -> Self {
        let hello = chrome_hello::write(host.as_bytes(), SUITES, &mut |bytes| drbg.fill(bytes));
        Self {
            flight: ServerFlight::new(hello.session_id),
            host,
            front,
            addrs,
            header,
            hello,
            outcome: Ok(FlightProgress::More),
            is_connected: false,
            is_public_addr: false,
            leads_back: false,
        }
    }
}

impl FetchTask for HelloProbe {
    fn target(&self) -> FetchTarget {
        FetchTarget {
            server: HostOrAddrs::Addrs(self.addrs.clone()),
            tls: None,
            route: Route::Native,
        }
    }

    fn preface(&self) -> Vec<u8> {
        self.header.to_vec()
    }

    fn request(&mut self) -> Vec<u8> {
        self.is_connected = true;
        self.hello.wire.clone()
    }

    fn observe(&mut self, event: WireEvent<'_>, _at_us: u64) {
        if let (WireEvent::Bytes(bytes), Ok(FlightProgress::More)) = (event, self.outcome) {
            self.outcome = self.flight.push(bytes);
        }
    }

    fn push_bytes(&mut self, _bytes: &[u8]) -> TaskStep {
        match self.outcome {
            Ok(FlightProgress::More) => TaskStep::More,
            Ok(FlightProgress::Enough) | Err(_) => TaskStep::Done,
        }
    }

    fn finish(&mut self) -> TaskStep {
        TaskStep::Done
    }

    fn idle_timeout(&self) -> Option<Duration> {
        Some(if self.flight.may_be_complete() { SILENCE } else { ANSWER_LIMIT })
    }
}

/// The time limit for probing this number of fronts, of which 32 run at the same time.
fn limit(fronts: usize) -> Duration {
    LIMIT * (1 + fronts as u32 / 32).min(ROUNDS_MAX)
}

/// In the order of Chrome.
const SUITES: [u16; 3] = [0x1301, 0x1302, 0x1303];
const LIMIT: Duration = Duration::from_secs(10);
const ROUNDS_MAX: u32 = 6;
const ANSWER_LIMIT: Duration = Duration::from_secs(8);
/// A flight has no end mark: after this silence it counts as complete.
const SILENCE: Duration = Duration::from_secs(1);
/// In bytes. The longest flight that every app accepts (PROTOCOL 4.1).
const FLIGHT_MAX: u32 = 10_240;

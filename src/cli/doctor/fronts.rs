//! Can the sites that strangers see be reached, and are they good models? Each host of a secret is
//! looked at by itself: name, loop, TCP, how it answers the hello of a Chrome, certificate.

use std::net::SocketAddr;
use std::time::Duration;

use crate::cli::doctor::context::{CheckContext, joined};
use crate::cli::doctor::findings::Section;
use crate::cli::json::Json;
use crate::daemon::fetch::front_probe;
#[cfg(feature = "tls")]
use crate::daemon::fetch::standalone::Standalone;
use crate::daemon::fetch::task::{
    FetchRoute, FetchTarget, FetchTask, HostOrAddrs, TaskStep, WireEvent,
};
use crate::proto::chrome_hello::{self, ChromeHello};
use crate::proto::proxy_header;
use crate::proto::server_flight::{Choice, FlightFault, FlightProgress, ServerFlight};
use crate::util::drbg::Drbg;

/// Looks at every distinct host.
pub fn check(patient: &mut CheckContext) -> Vec<Section> {
    let mut section = Section::new("fronting", "Validate fronting domain connectivity");
    // Only who knows his own addresses sees that a name leads back here.
    let public = patient.reach().0.public();
    let hosts = patient.hosts();
    let sites: Vec<(String, u16)> = hosts.iter().map(|host| patient.site(host)).collect();
    let names: Vec<String> = sites.iter().map(|(name, _)| name.clone()).collect();
    let found = patient.alone.lookup(&names, LIMIT);
    let mut looks = Vec::new();
    for ((host, (name, port)), ips) in hosts.into_iter().zip(sites).zip(found) {
        let addrs: Vec<SocketAddr> = ips.iter().map(|ip| SocketAddr::new(*ip, port)).collect();
        let place = joined(&name, port);
        if addrs.is_empty() {
            unfound(&host, &place, &mut section);
        } else if addrs.iter().any(|addr| patient.alone.is_own_listener(*addr)) {
            looped(&host, &place, &mut section);
        } else {
            let header = match patient.settings.front.proxy_protocol {
                true => proxy_header::OURS.to_vec(),
                false => Vec::new(),
            };
            let mut look = HelloProbe::new(host, place, addrs, header, &mut patient.alone.drbg);
            look.is_here = ips.iter().any(|ip| public.contains(ip));
            looks.push(look);
        }
    }
    let limit = limit(looks.len());
    let mut errands: Vec<&mut dyn FetchTask> = Vec::new();
    looks.iter_mut().for_each(|look| errands.push(look));
    let outcomes = patient.alone.run(&mut errands, limit);
    let certificates = certificates(patient, &looks);
    for ((look, outcome), certificate) in looks.iter().zip(outcomes).zip(certificates) {
        if report(look, outcome.err().map(|why| why.to_string()), &mut section) {
            vouch(look, &certificate, &mut section);
        }
    }
    vec![section]
}

fn unfound(host: &str, place: &str, section: &mut Section) {
    let finding = section.fail(format!("{place}: its name cannot be found"));
    finding.fact("host", Json::text(host));
    finding.remedy(
        "correct the name, look at network.dns, or name the web server in [domain-fronting] host",
    );
}

fn looped(host: &str, place: &str, section: &mut Section) {
    let finding =
        section.fail(format!("{place} is this proxy itself: strangers would go in circles"));
    finding.fact("host", Json::text(host));
    finding.remedy(
        "set [domain-fronting] host and port to the web server, such as 127.0.0.1 and 8443",
    );
}

/// Says how the site answers; `false` = there is nobody to ask for a certificate.
fn report(look: &HelloProbe, fault: Option<String>, section: &mut Section) -> bool {
    let (host, place) = (&look.host, &look.label);
    if !look.stands {
        let why = fault.unwrap_or_default();
        let finding = section.fail(format!("{place}: {why}"));
        finding.fact("host", Json::text(host));
        finding.remedy(
            "strangers get no answer now: start the web server, open its port, or choose a site \
             that can be reached from here",
        );
        return false;
    }
    let finding = section.ok(format!("{place} is reachable"));
    finding.fact("host", Json::text(host));
    if look.is_here {
        finding.remedy(
            "this is our own address: see that a web server listens there, not a forwarded port \
             that ends at mtbox",
        );
    }
    match (look.outcome, look.flight.choice()) {
        (Err(oddity), _) => {
            let finding = section.fail(format!("{host}: {}", front_probe::describe(oddity)));
            finding.fact("host", Json::text(host));
            finding.remedy(advice(oddity));
            matches!(oddity, FlightFault::OldTls | FlightFault::Retry)
        }
        (Ok(_), Some(choice)) if look.flight.may_end() => {
            describe(look, choice, section);
            true
        }
        (Ok(_), _) => {
            let why = fault.unwrap_or_else(|| "it ended too early".to_owned());
            let finding = section.fail(format!("{host}: no answer to a TLS hello: {why}"));
            finding.fact("host", Json::text(host));
            finding.remedy(
                "whatever listens there must speak TLS; with [domain-fronting] proxy-protocol it \
                 must expect a PROXY header, and without it must not",
            );
            false
        }
    }
}

fn describe(look: &HelloProbe, choice: Choice, section: &mut Section) {
    let host = &look.host;
    let group = if choice.hybrid { "X25519MLKEM768" } else { "x25519" };
    let lens = look.flight.record_lens();
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
        finding.remedy(
            "the site does not speak X25519MLKEM768, as nearly all sites do by now, and censors \
             look at those that do not: update its TLS library, or choose another site",
        );
    } else if look.flight.len() > FLIGHT_BORNE {
        finding.remedy(
            "apps bear 10,240 bytes at most, so our flights are shorter than the site's: one with \
             a smaller certificate is a better likeness",
        );
    } else if lens.len() > 1 {
        finding.remedy(
            "apps bear one record only, so our answers have one: a site that sends one is an even \
             better likeness",
        );
    }
    finding.fact("host", Json::text(host)).fact("group", Json::text(group));
    finding.fact("suite", Json::text(format!("{:04x}", choice.cipher)));
    let lens = lens.iter().map(|len| Json::Number((*len).into()));
    finding.fact("record_bytes", Json::List(lens.collect()));
}

fn advice(oddity: FlightFault) -> &'static str {
    match oddity {
        FlightFault::OldTls | FlightFault::Retry => {
            "our answers are always TLS 1.3 with one of these groups: choose another site, or \
             update this one"
        }
        FlightFault::Alert(_) => "see whether the site knows this name, or choose another one",
        FlightFault::NotTls | FlightFault::Malformed => {
            "whatever listens there must be a TLS server: look at [domain-fronting] host, port and \
             proxy-protocol"
        }
    }
}

/// What is to be said of a certificate; `None` = this build cannot tell.
type Certificate = Option<Result<(), String>>;

fn vouch(look: &HelloProbe, certificate: &Certificate, section: &mut Section) {
    let host = &look.host;
    let finding = match certificate {
        None => {
            section.skip(format!("{host}: certificate not looked at, as this build has no TLS"))
        }
        Some(Ok(())) => section.ok(format!("{host}: the certificate is valid")),
        Some(Err(why)) => section.fail(format!("{host}: TLS handshake: {why}")).remedy(
            "a visitor with a browser would be warned: renew the certificate or correct its names; \
             for an authority of your own, see network.ca-file",
        ),
    };
    finding.fact("host", Json::text(host));
}

#[cfg(not(feature = "tls"))]
fn certificates(_patient: &mut CheckContext, looks: &[HelloProbe]) -> Vec<Certificate> {
    looks.iter().map(|_| None).collect()
}

#[cfg(feature = "tls")]
fn certificates(patient: &mut CheckContext, looks: &[HelloProbe]) -> Vec<Certificate> {
    let alone: &mut Standalone = &mut patient.alone;
    let mut visits: Vec<Handshake<'_>> =
        looks.iter().map(|look| Handshake { look, stands: false }).collect();
    let mut errands: Vec<&mut dyn FetchTask> = Vec::new();
    visits.iter_mut().for_each(|visit| errands.push(visit));
    let outcomes = alone.run(&mut errands, limit(looks.len()));
    let told = visits.iter().zip(outcomes).map(|(visit, outcome)| match (visit.stands, outcome) {
        (true, _) => Some(Ok(())),
        (false, outcome) => Some(outcome.map_err(|why| why.to_string())),
    });
    told.collect()
}

/// A whole handshake, as a browser would do it, and not a word after it.
#[cfg(feature = "tls")]
struct Handshake<'a> {
    look: &'a HelloProbe,
    stands: bool,
}

#[cfg(feature = "tls")]
impl FetchTask for Handshake<'_> {
    fn target(&self) -> FetchTarget {
        FetchTarget { tls: Some(self.look.host.clone()), ..self.look.target() }
    }

    fn preface(&self) -> Vec<u8> {
        self.look.header.clone()
    }

    fn request(&mut self) -> Vec<u8> {
        self.stands = true;
        Vec::new()
    }

    fn push_bytes(&mut self, _bytes: &[u8]) -> TaskStep {
        TaskStep::Done
    }

    fn finish(&mut self) -> TaskStep {
        TaskStep::Done
    }

    /// Nothing more is wanted once it stands.
    fn idle_timeout(&self) -> Option<Duration> {
        Some(if self.stands { Duration::ZERO } else { PATIENCE })
    }
}

/// A look at how a site answers a hello; the handshake is never finished.
struct HelloProbe {
    host: String,
    /// What the operator calls it.
    label: String,
    addrs: Vec<SocketAddr>,
    /// The PROXY header that the site expects.
    header: Vec<u8>,
    hello: ChromeHello,
    flight: ServerFlight,
    outcome: Result<FlightProgress, FlightFault>,
    stands: bool,
    /// Its name leads to our public address.
    is_here: bool,
}

impl HelloProbe {
    fn new(
        host: String,
        label: String,
        addrs: Vec<SocketAddr>,
        header: Vec<u8>,
        drbg: &mut Drbg,
    ) -> Self {
        let hello = chrome_hello::write(host.as_bytes(), SUITES, &mut |bytes| drbg.fill(bytes));
        let flight = ServerFlight::new(hello.session_id);
        let (outcome, stands, is_here) = (Ok(FlightProgress::More), false, false);
        Self { host, label, addrs, header, hello, flight, outcome, stands, is_here }
    }
}

impl FetchTask for HelloProbe {
    fn target(&self) -> FetchTarget {
        FetchTarget {
            place: HostOrAddrs::Addrs(self.addrs.clone()),
            tls: None,
            route: FetchRoute::Native,
        }
    }

    fn preface(&self) -> Vec<u8> {
        self.header.clone()
    }

    fn request(&mut self) -> Vec<u8> {
        self.stands = true;
        self.hello.wire.clone()
    }

    fn observe(&mut self, event: WireEvent<'_>, _at_us: u64) {
        if let (WireEvent::Bytes(bytes), Ok(FlightProgress::More)) = (event, self.outcome) {
            self.outcome = self.flight.take(bytes);
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
        Some(if self.flight.may_end() { SILENCE } else { PATIENCE })
    }
}

/// For so many sites, of which a few are looked at at a time.
fn limit(sites: usize) -> Duration {
    LIMIT * (1 + sites as u32 / 32).min(MOST_ROUNDS)
}

/// Chrome's order.
const SUITES: [u16; 3] = [0x1301, 0x1302, 0x1303];
const LIMIT: Duration = Duration::from_secs(10);
const MOST_ROUNDS: u32 = 6;
const PATIENCE: Duration = Duration::from_secs(8);
/// A flight that has begun is over after this silence.
const SILENCE: Duration = Duration::from_secs(1);
/// The longest flight that every app takes (spec: protocol 4.1).
const FLIGHT_BORNE: u32 = 10_240;

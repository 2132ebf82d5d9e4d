//! `doctor --as-censor`: plays an active prober against the proxy's port and against the site,
//! side by side, and says where the two can be told apart. It uses no secret, so it sees what any
//! stranger sees. What is seen once may be chance; a difference is one that is seen twice.

mod observation;
mod probe_run;
mod probes;

use std::net::SocketAddr;
use std::time::Duration;

use crate::cli::doctor::context::{CheckContext, joined, near};
use crate::cli::doctor::findings::Section;
use crate::cli::json::Json;
use crate::proto::proxy_header;
use observation::{ConnectionEnd, Observation};
use probe_run::{ProbeRun, play};
use probes::{ProbeScript, ProbeStep};

/// Compares the port with the site of every distinct host, as far as there is time.
pub fn check(patient: &mut CheckContext) -> Vec<Section> {
    let mut section = Section::new("as-censor", "Compare with the site as an active prober");
    let Some((target, addrs)) = target(patient, &mut section) else { return vec![section] };
    // Behind a router only this shows that a site is the proxy, which would be like itself.
    patient.reach();
    let hosts = patient.hosts();
    for host in hosts.iter().take(MOST_HOSTS) {
        if let Some(site) = site(host, patient, &mut section) {
            compare(
                host,
                &ProbeTarget { label: &target, addrs: &addrs },
                &site,
                patient,
                &mut section,
            );
        }
    }
    if let Some(more) = hosts.len().checked_sub(MOST_HOSTS).filter(|more| *more > 0) {
        section.skip(format!("{more} more hosts: there is no time for so many"));
    }
    vec![section]
}

/// Whom to play against.
struct ProbeTarget<'a> {
    label: &'a str,
    addrs: &'a [SocketAddr],
}

/// Where the proxy is, if anybody is there.
fn target(patient: &mut CheckContext, section: &mut Section) -> Option<(String, Vec<SocketAddr>)> {
    let (label, addrs) = match patient.wishes.target.clone() {
        Some((host, port)) => (joined(&host, port), resolved(&host, port, patient)),
        None => {
            let bind = patient.settings.binds.first().copied()?;
            (bind.to_string(), vec![near(bind)])
        }
    };
    let mut knock = [ProbeRun::new(&addrs, &[ProbeStep::Finish], &[])];
    play(&mut knock, 1, KNOCK, &mut patient.alone);
    let is_there = knock
        .iter()
        .any(|visit| visit.sight().is_some_and(|s| s.end != ConnectionEnd::NoConnection));
    if !is_there {
        section
            .unknown(&label, "nobody answers there")
            .remedy("start the proxy first, or name it with --target HOST:PORT");
    }
    is_there.then_some((label, addrs))
}

fn site(
    host: &str,
    patient: &mut CheckContext,
    section: &mut Section,
) -> Option<(String, Vec<SocketAddr>)> {
    let (name, port) = patient.site(host);
    let label = joined(&name, port);
    let addrs = resolved(&name, port, patient);
    let fault = if addrs.is_empty() {
        "its name cannot be found"
    } else if addrs.iter().any(|addr| patient.alone.is_own_listener(*addr)) {
        "it is this proxy itself"
    } else {
        return Some((label, addrs));
    };
    section
        .unknown(&label, fault)
        .remedy("set [domain-fronting] host and port to the web server")
        .fact("host", Json::text(host));
    None
}

fn resolved(host: &str, port: u16, patient: &mut CheckContext) -> Vec<SocketAddr> {
    let ips = patient.alone.lookup(&[host.to_owned()], LOOKUP).pop().unwrap_or_default();
    ips.into_iter().map(|ip| SocketAddr::new(ip, port)).collect()
}

fn compare(
    host: &str,
    proxy: &ProbeTarget<'_>,
    (label, addrs): &(String, Vec<SocketAddr>),
    patient: &mut CheckContext,
    section: &mut Section,
) {
    let site = ProbeTarget { label, addrs };
    let openings = probes::all(host.as_bytes(), &mut patient.alone.drbg);
    let all: Vec<&ProbeScript> = openings.iter().collect();
    let first = round(&all, &site, proxy, FIRST, patient);
    let is_told = |(_, pair): &(&ProbeScript, ProbePair)| pair.are_alike() == Some(false);
    let doubtful: Vec<(&ProbeScript, ProbePair)> = all.into_iter().zip(first).collect();
    let late = doubtful.iter().filter(|(_, pair)| pair.are_alike().is_none()).count();
    let doubtful: Vec<(&ProbeScript, ProbePair)> = doubtful.into_iter().filter(is_told).collect();
    let again: Vec<&ProbeScript> = doubtful.iter().map(|(opening, _)| *opening).collect();
    let second = round(&again, &site, proxy, SECOND, patient);
    let mut told = 0;
    for ((opening, before), now) in doubtful.iter().zip(&second) {
        if before.confirms(now) {
            told += 1;
            tell(host, opening, before, section);
        }
    }
    if late > 0 {
        section
            .unknown(host, &format!("{late} openings were not played to their end"))
            .remedy("try again when there is less to do")
            .fact("host", Json::text(host));
    }
    if told == 0 && late == 0 {
        let finding = section.ok(format!(
            "{host}: {} openings, and nothing tells {} from {}",
            openings.len(),
            proxy.label,
            site.label
        ));
        finding.fact("host", Json::text(host));
        finding.fact("openings", Json::Number(openings.len() as u64));
        let public = patient.reach().0.public();
        if addrs.iter().any(|addr| public.contains(&addr.ip())) {
            finding.remedy(
                "the site has our own address: this counts only if a web server listens there, \
                 not a forwarded port that ends at mtbox",
            );
        }
    }
}

fn tell(host: &str, opening: &ProbeScript, pair: &ProbePair, section: &mut Section) {
    let words =
        |sight: &Option<Observation>| sight.as_ref().map_or(String::new(), Observation::describe);
    let (site, proxy) = (words(&pair.site), words(&pair.proxy));
    let is_gone = |sight: &Option<Observation>| {
        sight.as_ref().is_some_and(|sight| sight.end == ConnectionEnd::NoConnection)
    };
    let remedy = if is_gone(&pair.site) {
        "the site does not answer: start the web server, or choose another site"
    } else if is_gone(&pair.proxy) {
        "the proxy turns connections away: look at concurrency and the lists in its log"
    } else {
        "see that strangers of this name are led to this very site, without another server in \
         between, and that the proxy is the newest"
    };
    section
        .fail(format!("{host}: {}: the site: {site}; the proxy: {proxy}", opening.name))
        .remedy(remedy)
        .fact("host", Json::text(host))
        .fact("opening", Json::text(opening.name))
        .fact("site", Json::Text(site))
        .fact("proxy", Json::Text(proxy));
}

/// What an opening has shown on either side; `None` = there was no time.
struct ProbePair {
    site: Option<Observation>,
    proxy: Option<Observation>,
}

impl ProbePair {
    /// `None` = not both are known.
    fn are_alike(&self) -> Option<bool> {
        Some(self.proxy.as_ref()?.is_like(self.site.as_ref()?))
    }

    /// A second look has shown no likeness either, not even to what the site was like before.
    fn confirms(&self, again: &Self) -> bool {
        let sites = || [&self.site, &again.site].into_iter().flatten();
        let mut proxies = [&self.proxy, &again.proxy].into_iter().flatten();
        !proxies.any(|proxy| sites().any(|site| proxy.is_like(site)))
    }
}

/// Plays openings on both sides.
fn round(
    openings: &[&ProbeScript],
    site: &ProbeTarget<'_>,
    proxy: &ProbeTarget<'_>,
    limit: Duration,
    patient: &mut CheckContext,
) -> Vec<ProbePair> {
    // The site may want to be told who comes; the proxy tells it.
    let header: &[u8] =
        if patient.settings.front.proxy_protocol { proxy_header::OURS } else { &[] };
    let mut visits: Vec<ProbeRun> = Vec::with_capacity(2 * openings.len());
    for opening in openings {
        visits.push(ProbeRun::new(site.addrs, &opening.steps, header));
        visits.push(ProbeRun::new(proxy.addrs, &opening.steps, &[]));
    }
    // Strangers have half of all sessions, and real ones may be there.
    let at_once = (patient.settings.concurrency / 4).clamp(2, MOST_AT_ONCE);
    play(&mut visits, at_once as usize, limit, &mut patient.alone);
    let pairs = visits.chunks(2).map(|pair| {
        let sight = |at: usize| pair.get(at).and_then(ProbeRun::sight).cloned();
        ProbePair { site: sight(0), proxy: sight(1) }
    });
    pairs.collect()
}

const MOST_HOSTS: usize = 4;
const MOST_AT_ONCE: u32 = 24;
const LOOKUP: Duration = Duration::from_secs(5);
const KNOCK: Duration = Duration::from_secs(6);
/// For all openings to one site, and for those that told a difference.
const FIRST: Duration = Duration::from_secs(60);
const SECOND: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(site: &[u8], proxy: &[u8]) -> ProbePair {
        let sight = |bytes| Some(Observation::new(bytes, ConnectionEnd::Fin));
        ProbePair { site: sight(site), proxy: sight(proxy) }
    }

    #[test]
    fn only_a_difference_that_is_seen_twice_counts() {
        assert!(pair(b"a", b"b").confirms(&pair(b"a", b"b")));
        assert!(!pair(b"a", b"b").confirms(&pair(b"a", b"a")), "it was chance");
        assert!(!pair(b"a", b"b").confirms(&pair(b"b", b"a")), "the site is not like itself");
        assert_eq!(pair(b"a", b"a").are_alike(), Some(true));
        assert_eq!(ProbePair { site: None, ..pair(b"a", b"a") }.are_alike(), None);
    }
}

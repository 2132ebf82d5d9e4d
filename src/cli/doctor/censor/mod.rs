//! `doctor --as-censor`: probes the proxy and the front with the same bytes, as a censor does, and
//! reports where their answers differ. The probes contain no secret, so the proxy treats them as
//! unauthenticated clients. Answers vary by chance, so only a difference in two rounds counts.

mod observation;
mod probe_run;
mod probes;

use std::net::SocketAddr;
use std::time::Duration;

use crate::cli::doctor::context::CheckContext;
use crate::cli::doctor::findings::Section;
use crate::cli::local_addr;
use crate::proto::proxy_header;
use crate::util::host_port::HostPort;
use crate::util::json::Json;
use observation::{ConnectionEnd, Observation};
use probe_run::{ProbeRun, run_all};
use probes::{ProbeScript, ProbeStep};

/// Compares the proxy with the front of every distinct host, up to [`HOSTS_MAX`].
pub(super) fn check(context: &mut CheckContext) -> Vec<Section> {
    let mut section = Section::new("as-censor", "Compare with the front as an active prober");
    let Some(proxy) = find_proxy(context, &mut section) else { return vec![section] };
    // A front behind NAT may be this proxy. Only the public address shows it, and a comparison of
    // the proxy with itself would always succeed.
    context.own_addrs();
    let hosts = context.hosts();
    for host in hosts.iter().take(HOSTS_MAX) {
        if let Some(front) = find_front(host, context, &mut section) {
            compare(host, &proxy, &front, context, &mut section);
        }
    }
    if let Some(more) = hosts.len().checked_sub(HOSTS_MAX).filter(|more| *more > 0) {
        section.skip(format!("{more} more hosts: only the first {HOSTS_MAX} are compared"));
    }
    vec![section]
}

/// A server to probe.
struct ProbeTarget {
    /// As the operator wrote it.
    label: String,
    addrs: Vec<SocketAddr>,
}

/// The proxy: `--target`, or the first listener. `None` = no connection, which is reported.
fn find_proxy(context: &mut CheckContext, section: &mut Section) -> Option<ProbeTarget> {
    let (label, addrs) = match context.options.target.clone() {
        Some(target) => (target.to_string(), resolve(&target, context)),
        None => {
            let bind = context.settings.binds.first().copied()?;
            (bind.to_string(), vec![local_addr::of_listener(bind)])
        }
    };
    let mut runs = [ProbeRun::new(&addrs, &[ProbeStep::Finish], &[])];
    run_all(&mut runs, 1, CONNECT_LIMIT, &mut context.standalone);
    let is_up = runs
        .iter()
        .filter_map(ProbeRun::observation)
        .any(|seen| seen.end != ConnectionEnd::NoConnection);
    if !is_up {
        section
            .unknown(&label, "no connection")
            .remedy("start the proxy first, or give its address with --target HOST:PORT");
    }
    is_up.then_some(ProbeTarget { label, addrs })
}

/// The front for a host. `None` = it cannot be compared, which is reported.
fn find_front(
    host: &str,
    context: &mut CheckContext,
    section: &mut Section,
) -> Option<ProbeTarget> {
    let front = context.front(host);
    let mut addrs = resolve(&front, context);
    let label = front.to_string();
    let fault = if addrs.is_empty() {
        "its name cannot be resolved".to_owned()
    } else if addrs.iter().any(|addr| context.standalone.is_own_listener(*addr)) {
        "it is this proxy itself".to_owned()
    } else {
        match context.retain_allowed(&front, &mut addrs) {
            Some(refusal) if addrs.is_empty() => refusal.to_string(),
            _ => return Some(ProbeTarget { label, addrs }),
        }
    };
    section
        .unknown(&label, &fault)
        .remedy("set [domain-fronting] host and port to the web server")
        .fact("host", Json::text(host));
    None
}

fn resolve(server: &HostPort, context: &mut CheckContext) -> Vec<SocketAddr> {
    let host = std::slice::from_ref(&server.host);
    let found = context.standalone.lookup(host, LOOKUP_LIMIT).pop();
    let ips = found.and_then(Result::ok).unwrap_or_default();
    ips.into_iter().map(|ip| SocketAddr::new(ip, server.port)).collect()
}

fn compare(
    host: &str,
    proxy: &ProbeTarget,
    front: &ProbeTarget,
    context: &mut CheckContext,
    section: &mut Section,
) {
    let scripts = probes::all(host.as_bytes(), &mut context.standalone.drbg);
    let all: Vec<&ProbeScript> = scripts.iter().collect();

    // First round: every script against both servers.
    let first = run_round(&all, front, proxy, FIRST_LIMIT, context);
    let unfinished = first.iter().filter(|pair| pair.is_alike().is_none()).count();
    let differing: Vec<(&ProbeScript, ProbePair)> =
        all.into_iter().zip(first).filter(|(_, pair)| pair.is_alike() == Some(false)).collect();

    // Second round: only the scripts whose answers differed.
    let again: Vec<&ProbeScript> = differing.iter().map(|(script, _)| *script).collect();
    let second = run_round(&again, front, proxy, SECOND_LIMIT, context);
    let mut differences = 0;
    for ((script, before), now) in differing.iter().zip(&second) {
        if before.is_confirmed_by(now) {
            differences += 1;
            report_difference(host, script, before, section);
        }
    }

    if unfinished > 0 {
        section
            .unknown(host, &format!("{unfinished} probes did not finish in time"))
            .remedy("try again when the machine is less busy")
            .fact("host", Json::text(host));
    }
    if differences == 0 && unfinished == 0 {
        let count = scripts.len();
        let finding = section.ok(format!(
            "{host}: no difference between {} and {} in {count} probes",
            proxy.label, front.label
        ));
        finding.fact("host", Json::text(host));
        finding.fact("openings", Json::Number(count as u64));
        let public = context.own_addrs().addrs.public();
        if front.addrs.iter().any(|addr| public.contains(&addr.ip())) {
            finding.remedy(
                "the front has the public address of this machine: the result is valid only if a \
                 web server listens there, not a forwarded port that leads to mtbox",
            );
        }
    }
}

fn report_difference(host: &str, script: &ProbeScript, pair: &ProbePair, section: &mut Section) {
    let describe =
        |seen: &Option<Observation>| seen.as_ref().map_or(String::new(), Observation::describe);
    let (front, proxy) = (describe(&pair.front), describe(&pair.proxy));
    let is_down = |seen: &Option<Observation>| {
        seen.as_ref().is_some_and(|seen| seen.end == ConnectionEnd::NoConnection)
    };
    let remedy = if is_down(&pair.front) {
        "the front does not answer: start the web server, or choose another web site"
    } else if is_down(&pair.proxy) {
        "the proxy refuses connections: check concurrency, the IP lists and the log"
    } else {
        "check that the proxy connects unauthenticated clients to this front, without another \
         server in between, and that the proxy is up to date"
    };
    section
        .fail(format!("{host}: {}: the front: {front}; the proxy: {proxy}", script.name))
        .remedy(remedy)
        .fact("host", Json::text(host))
        .fact("opening", script.name.into())
        .fact("site", front.into())
        .fact("proxy", proxy.into());
}

/// The observations of one script on both servers. `None` = the run did not finish in time.
struct ProbePair {
    front: Option<Observation>,
    proxy: Option<Observation>,
}

impl ProbePair {
    /// `None` = unknown.
    fn is_alike(&self) -> Option<bool> {
        Some(self.proxy.as_ref()?.is_like(self.front.as_ref()?))
    }

    /// Whether no observation of the proxy in either round is like one of the front. A front that
    /// varies by itself is thus no difference.
    fn is_confirmed_by(&self, again: &Self) -> bool {
        let fronts = || [&self.front, &again.front].into_iter().flatten();
        let mut proxies = [&self.proxy, &again.proxy].into_iter().flatten();
        !proxies.any(|proxy| fronts().any(|front| proxy.is_like(front)))
    }
}

/// Runs the scripts against both servers, each script at about the same time on both.
fn run_round(
    scripts: &[&ProbeScript],
    front: &ProbeTarget,
    proxy: &ProbeTarget,
    limit: Duration,
    context: &mut CheckContext,
) -> Vec<ProbePair> {
    // The proxy adds the PROXY header that the front expects; a direct connection must add it too.
    let header: &[u8] =
        if context.settings.front.proxy_protocol { proxy_header::LOCAL_HEADER } else { &[] };
    let mut runs: Vec<ProbeRun> = Vec::with_capacity(2 * scripts.len());
    for script in scripts {
        runs.push(ProbeRun::new(&front.addrs, &script.steps, header));
        runs.push(ProbeRun::new(&proxy.addrs, &script.steps, &[]));
    }
    // Unauthenticated clients may use half of all sessions. A quarter leaves room for real ones.
    let parallel = (context.settings.concurrency / 4).clamp(2, PARALLEL_MAX);
    run_all(&mut runs, parallel as usize, limit, &mut context.standalone);
    let pairs = runs.chunks(2).map(|pair| {
        let seen = |at: usize| pair.get(at).and_then(ProbeRun::observation).cloned();
        ProbePair { front: seen(0), proxy: seen(1) }
    });
    pairs.collect()
}

const HOSTS_MAX: usize = 4;
const PARALLEL_MAX: u32 = 24;
const LOOKUP_LIMIT: Duration = Duration::from_secs(5);
const CONNECT_LIMIT: Duration = Duration::from_secs(6);
const FIRST_LIMIT: Duration = Duration::from_secs(60);
const SECOND_LIMIT: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(front: &[u8], proxy: &[u8]) -> ProbePair {
        let seen = |bytes| Some(Observation::new(bytes, ConnectionEnd::Fin));
        ProbePair { front: seen(front), proxy: seen(proxy) }
    }

    #[test]
    fn only_a_difference_that_is_seen_twice_counts() {
        assert!(pair(b"a", b"b").is_confirmed_by(&pair(b"a", b"b")));
        assert!(!pair(b"a", b"b").is_confirmed_by(&pair(b"a", b"a")), "it was chance");
        assert!(!pair(b"a", b"b").is_confirmed_by(&pair(b"b", b"a")), "the front varies");
        assert_eq!(pair(b"a", b"a").is_alike(), Some(true));
        assert_eq!(ProbePair { front: None, ..pair(b"a", b"a") }.is_alike(), None);
    }
}

//! Asks `network.public-ip-url` under which address the outside sees this machine, over IPv4 and
//! IPv6 at once. Only for commands, only where nothing else tells, and never for longer than five
//! seconds (spec: cli 5).

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::cli::public_addrs::{AddressFlags, PublicAddrs};
use crate::config::HAS_TLS;
use crate::config::settings::Settings;
use crate::daemon::fetch::standalone::Standalone;
use crate::daemon::fetch::task::{
    FetchError, FetchRoute, FetchTarget, FetchTask, HostOrAddrs, TaskStep,
};
use crate::proto::http1_client::{self, BodyProgress, Response};
use crate::proto::url::Url;

/// Fills in what neither the operator nor the machine tells. An operator who has stated one
/// address has said what there is to say.
///
/// # Errors
/// Why no address is known even now, if somebody was asked; one line.
pub fn complete(
    reach: &mut PublicAddrs,
    stated: AddressFlags,
    alone: &mut Standalone,
) -> Result<(), String> {
    let Some(url) = whom_to_ask(reach, stated, &alone.settings) else { return Ok(()) };
    let told = ask(&url, reach.ipv4.is_none(), reach.ipv6.is_none(), alone);
    let faults = [&told.v4, &told.v6].into_iter().filter_map(|told| told.as_ref().err());
    let mut faults = faults.filter(|why| *why != NOT_ASKED);
    let why = faults.next().map_or("it has no address", String::as_str);
    let complaint = format!("{} did not tell our address: {why}", url.host);
    reach.ipv4 = reach.ipv4.or(told.v4.as_ref().ok().copied());
    reach.ipv6 = reach.ipv6.or(told.v6.as_ref().ok().copied());
    if reach.public().is_empty() { Err(complaint) } else { Ok(()) }
}

/// The same for a command that has nothing else to ask.
pub fn completed(
    mut reach: PublicAddrs,
    stated: AddressFlags,
    settings: &Settings,
) -> (PublicAddrs, Result<(), String>) {
    if whom_to_ask(&reach, stated, settings).is_none() {
        return (reach, Ok(()));
    }
    let outcome = Standalone::new(settings.clone())
        .map_err(|e| e.to_string())
        .and_then(|mut alone| complete(&mut reach, stated, &mut alone));
    (reach, outcome)
}

/// `None` = nobody: all is known, or stated, or nobody may be asked.
fn whom_to_ask(reach: &PublicAddrs, stated: AddressFlags, settings: &Settings) -> Option<Url> {
    let words = [stated.ipv4, stated.ipv6, settings.public_ipv4, settings.public_ipv6];
    let is_said = words.iter().any(Option::is_some);
    let is_known = reach.ipv4.is_some() && reach.ipv6.is_some();
    settings.public_ip_url.clone().filter(|_| !is_said && !is_known)
}

/// What was told over each family.
struct ReportedAddrs {
    v4: Result<IpAddr, String>,
    v6: Result<IpAddr, String>,
}

impl ReportedAddrs {
    fn nothing(why: &str) -> Self {
        Self { v4: Err(why.to_owned()), v6: Err(why.to_owned()) }
    }
}

fn ask(url: &Url, wants_v4: bool, wants_v6: bool, alone: &mut Standalone) -> ReportedAddrs {
    if url.scheme == "https" && !HAS_TLS {
        return ReportedAddrs::nothing(
            "this build has no https; set network.public-ip-url to an http page",
        );
    }
    let until = alone.from_now(LIMIT);
    let ips = alone.lookup(std::slice::from_ref(&url.host), LIMIT).pop().unwrap_or_default();
    if ips.is_empty() {
        return ReportedAddrs::nothing("its name cannot be found");
    }
    let question = |is_v4: bool| {
        let ips = ips.iter().filter(|ip| ip.is_ipv4() == is_v4);
        let addrs = ips.map(|ip| SocketAddr::new(*ip, url.port_or(HTTP_PORT))).collect();
        AddressQuery { url, addrs, response: Response::default(), body: Vec::new(), is_v4 }
    };
    let (mut v4, mut v6) = (question(true), question(false));
    let mut both = [(wants_v4, &mut v4), (wants_v6, &mut v6)];
    let asked = both.iter_mut().filter(|(wanted, question)| *wanted && !question.addrs.is_empty());
    let mut errands: Vec<&mut dyn FetchTask> = Vec::new();
    asked.for_each(|(_, question)| errands.push(&mut **question));
    let left = Duration::from_millis(until.0.saturating_sub(alone.time.now.0));
    let mut outcomes = alone.run(&mut errands, left).into_iter();
    let mut told = |wanted: bool, question: &AddressQuery<'_>| {
        let was_asked = wanted && !question.addrs.is_empty();
        let outcome = was_asked.then(|| outcomes.next()).flatten();
        let outcome = outcome.map(|outcome| outcome.map_err(|why| why.to_string()));
        outcome.unwrap_or_else(|| Err(NOT_ASKED.to_owned())).and_then(|()| question.answer())
    };
    ReportedAddrs { v4: told(wants_v4, &v4), v6: told(wants_v6, &v6) }
}

/// One request, over one family.
struct AddressQuery<'a> {
    url: &'a Url,
    addrs: Vec<SocketAddr>,
    response: Response,
    body: Vec<u8>,
    is_v4: bool,
}

impl AddressQuery<'_> {
    fn answer(&self) -> Result<IpAddr, String> {
        match self.response.head().status {
            200 => {}
            status => return Err(format!("the server says {status}")),
        }
        let text = str::from_utf8(&self.body).unwrap_or_default();
        let ip = text.trim().parse::<IpAddr>().ok();
        ip.filter(|ip| ip.is_ipv4() == self.is_v4)
            .ok_or_else(|| "the answer is no address of this kind".to_owned())
    }

    fn over(&self) -> TaskStep {
        if self.body.len() > ANSWER_MAX {
            return TaskStep::Failed(FetchError::response("the answer is too long"));
        }
        TaskStep::Done
    }
}

impl FetchTask for AddressQuery<'_> {
    fn target(&self) -> FetchTarget {
        let tls = (self.url.scheme == "https").then(|| self.url.host.clone());
        FetchTarget {
            place: HostOrAddrs::Addrs(self.addrs.clone()),
            tls,
            route: FetchRoute::Native,
        }
    }

    fn request(&mut self) -> Vec<u8> {
        http1_client::get(self.url, "")
    }

    fn push_bytes(&mut self, bytes: &[u8]) -> TaskStep {
        let body = &mut self.body;
        let mut keep = |_: &_, piece: &[u8]| {
            if body.len() <= ANSWER_MAX {
                body.extend_from_slice(piece);
            }
        };
        match self.response.take(bytes, &mut keep) {
            Ok(BodyProgress::More) if self.body.len() <= ANSWER_MAX => TaskStep::More,
            Ok(_) => self.over(),
            Err(fault) => TaskStep::Failed(FetchError::response(fault.as_str())),
        }
    }

    fn finish(&mut self) -> TaskStep {
        match self.response.end() {
            Ok(()) => self.over(),
            Err(fault) => TaskStep::Failed(FetchError::response(fault.as_str())),
        }
    }
}

const NOT_ASKED: &str = "not asked";
/// For all of it.
const LIMIT: Duration = Duration::from_secs(5);
/// More than any address has, in bytes.
const ANSWER_MAX: usize = 64;
const HTTP_PORT: u16 = 80;

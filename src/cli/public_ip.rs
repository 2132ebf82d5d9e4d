//! Asks `network.public-ip-url` under which address the outside sees this machine, over IPv4 and
//! IPv6 at once. Only for commands, only where nothing else tells, and never for longer than five
//! seconds (spec: cli 5).

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::cli::public_addrs::{Reach, Stated};
use crate::config::HAS_TLS;
use crate::config::settings::Settings;
use crate::daemon::fetch::connection::{Place, Via};
use crate::daemon::fetch::standalone::Alone;
use crate::daemon::fetch::{Errand, Step, Target};
use crate::proto::http1_client::{self, Progress, Response};
use crate::proto::url::Url;

/// Fills in what neither the operator nor the machine tells. An operator who has stated one
/// address has said what there is to say.
///
/// # Errors
/// Why no address is known even now, if somebody was asked; one line.
pub fn complete(reach: &mut Reach, stated: Stated, alone: &mut Alone) -> Result<(), String> {
    let Some(url) = whom_to_ask(reach, stated, &alone.world.settings) else { return Ok(()) };
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
    mut reach: Reach,
    stated: Stated,
    settings: &Settings,
) -> (Reach, Result<(), String>) {
    if whom_to_ask(&reach, stated, settings).is_none() {
        return (reach, Ok(()));
    }
    let outcome = Alone::new(settings.clone())
        .map_err(|e| e.to_string())
        .and_then(|mut alone| complete(&mut reach, stated, &mut alone));
    (reach, outcome)
}

/// `None` = nobody: all is known, or stated, or nobody may be asked.
fn whom_to_ask(reach: &Reach, stated: Stated, settings: &Settings) -> Option<Url> {
    let words = [stated.ipv4, stated.ipv6, settings.public_ipv4, settings.public_ipv6];
    let is_said = words.iter().any(Option::is_some);
    let is_known = reach.ipv4.is_some() && reach.ipv6.is_some();
    settings.public_ip_url.clone().filter(|_| !is_said && !is_known)
}

/// What was told over each family.
struct Told {
    v4: Result<IpAddr, String>,
    v6: Result<IpAddr, String>,
}

impl Told {
    fn nothing(why: &str) -> Self {
        Self { v4: Err(why.to_owned()), v6: Err(why.to_owned()) }
    }
}

fn ask(url: &Url, wants_v4: bool, wants_v6: bool, alone: &mut Alone) -> Told {
    if url.scheme == "https" && !HAS_TLS {
        return Told::nothing("this build has no https; set network.public-ip-url to an http page");
    }
    let until = alone.from_now(LIMIT);
    let ips = alone.lookup(std::slice::from_ref(&url.host), LIMIT).pop().unwrap_or_default();
    if ips.is_empty() {
        return Told::nothing("its name cannot be found");
    }
    let question = |is_v4: bool| {
        let ips = ips.iter().filter(|ip| ip.is_ipv4() == is_v4);
        let addrs = ips.map(|ip| SocketAddr::new(*ip, url.port_or(HTTP_PORT))).collect();
        Question { url, addrs, response: Response::default(), body: Vec::new(), is_v4 }
    };
    let (mut v4, mut v6) = (question(true), question(false));
    let mut both = [(wants_v4, &mut v4), (wants_v6, &mut v6)];
    let asked = both.iter_mut().filter(|(wanted, question)| *wanted && !question.addrs.is_empty());
    let mut errands: Vec<&mut dyn Errand> = Vec::new();
    asked.for_each(|(_, question)| errands.push(&mut **question));
    let left = Duration::from_millis(until.0.saturating_sub(alone.world.now.0));
    let mut outcomes = alone.run(&mut errands, left).into_iter();
    let mut told = |wanted: bool, question: &Question<'_>| {
        let was_asked = wanted && !question.addrs.is_empty();
        let outcome = was_asked.then(|| outcomes.next()).flatten();
        outcome.unwrap_or_else(|| Err(NOT_ASKED.to_owned())).and_then(|()| question.answer())
    };
    Told { v4: told(wants_v4, &v4), v6: told(wants_v6, &v6) }
}

/// One request, over one family.
struct Question<'a> {
    url: &'a Url,
    addrs: Vec<SocketAddr>,
    response: Response,
    body: Vec<u8>,
    is_v4: bool,
}

impl Question<'_> {
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

    fn over(&self) -> Step {
        if self.body.len() > ANSWER_MAX {
            return Step::Failed("the answer is too long".to_owned());
        }
        Step::Done
    }
}

impl Errand for Question<'_> {
    fn target(&self) -> Target {
        let tls = (self.url.scheme == "https").then(|| self.url.host.clone());
        Target { place: Place::Known(self.addrs.clone()), tls, via: Via::Native }
    }

    fn open(&mut self) -> Vec<u8> {
        http1_client::get(self.url, "")
    }

    fn take(&mut self, bytes: &[u8]) -> Step {
        let body = &mut self.body;
        let mut keep = |_: &_, piece: &[u8]| {
            if body.len() <= ANSWER_MAX {
                body.extend_from_slice(piece);
            }
        };
        match self.response.take(bytes, &mut keep) {
            Ok(Progress::More) if self.body.len() <= ANSWER_MAX => Step::More,
            Ok(_) => self.over(),
            Err(fault) => Step::Failed(fault.as_str().to_owned()),
        }
    }

    fn end(&mut self) -> Step {
        match self.response.end() {
            Ok(()) => self.over(),
            Err(fault) => Step::Failed(fault.as_str().to_owned()),
        }
    }
}

const NOT_ASKED: &str = "not asked";
/// For all of it.
const LIMIT: Duration = Duration::from_secs(5);
/// More than any address has, in bytes.
const ANSWER_MAX: usize = 64;
const HTTP_PORT: u16 = 80;

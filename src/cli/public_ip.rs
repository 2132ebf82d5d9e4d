//! Queries the web service `network.public-ip-url` for the public address of this machine, over
//! IPv4 and IPv6 at the same time. Used by commands only, if no other source gives an address, for
//! at most five seconds (COMPATIBILITY 4.5).

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use crate::cli::public_addrs::{AddressFlags, PublicAddrs};
use crate::config::HAS_TLS;
use crate::config::settings::Settings;
use crate::daemon::fetch::standalone::Standalone;
use crate::daemon::fetch::task::{FetchError, FetchTarget, FetchTask, TaskStep};
use crate::daemon::resolver::lookup::LookupFault;
use crate::daemon::upstream::connect::target::{HostOrAddrs, Reach, Route};
use crate::proto::http1_client::{self, BodyProgress, Response};
use crate::proto::url::Url;

/// Why the public address is still unknown after a query.
#[derive(Debug)]
pub(super) enum PublicIpError {
    /// No sockets or no random bytes.
    Setup(io::Error),
    /// The service `host` gave no address.
    Service { host: String, cause: FetchError },
}

impl fmt::Display for PublicIpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Setup(e) => e.fmt(f),
            Self::Service { host, cause } => write!(f, "no public address from {host}: {cause}"),
        }
    }
}

impl From<io::Error> for PublicIpError {
    fn from(e: io::Error) -> Self {
        Self::Setup(e)
    }
}

/// Adds the addresses that the service reports. Does nothing if both are known, or if the operator
/// gave one of them: then the other does not exist.
pub(super) fn complete(
    addrs: &mut PublicAddrs,
    flags: AddressFlags,
    settings: &Rc<Settings>,
) -> Result<(), PublicIpError> {
    match service_url(addrs, flags, settings) {
        Some(url) => query(&url, addrs, &mut Standalone::new(Rc::clone(settings))?),
        None => Ok(()),
    }
}

/// As [`complete`], for a command that already has a [`Standalone`].
pub(super) fn complete_with(
    addrs: &mut PublicAddrs,
    flags: AddressFlags,
    standalone: &mut Standalone,
) -> Result<(), PublicIpError> {
    match service_url(addrs, flags, &standalone.settings) {
        Some(url) => query(&url, addrs, standalone),
        None => Ok(()),
    }
}

/// The service to query; `None` = no query is needed or allowed.
fn service_url(addrs: &PublicAddrs, flags: AddressFlags, settings: &Settings) -> Option<Url> {
    let given = [flags.ipv4, flags.ipv6, settings.public_ipv4, settings.public_ipv6];
    let is_given = given.iter().any(Option::is_some) || addrs.host.is_some();
    let is_known = addrs.ipv4.is_some() && addrs.ipv6.is_some();
    settings.public_ip_url.clone().filter(|_| !is_given && !is_known)
}

fn query(
    url: &Url,
    addrs: &mut PublicAddrs,
    standalone: &mut Standalone,
) -> Result<(), PublicIpError> {
    let failed = |cause| PublicIpError::Service { host: url.host.clone(), cause };
    if url.scheme == "https" && !HAS_TLS {
        let cause = "this build has no https; set network.public-ip-url to an http page";
        return ignore_if_known(addrs, failed(FetchError::response(cause)));
    }
    let deadline = standalone.deadline_after(LIMIT);
    let host = std::slice::from_ref(&url.host);
    let found = standalone.lookup(host, LIMIT).pop().unwrap_or(Err(LookupFault::NoAddress));
    let ips = match found {
        Ok(ips) => ips,
        Err(fault) => {
            let why = format!("no address for its host name: {fault}");
            return ignore_if_known(addrs, failed(FetchError::Connection(why)));
        }
    };

    // One query per family that is unknown and that the service has an address for.
    let mut queries = Vec::new();
    for (is_v4, is_known) in [(true, addrs.ipv4.is_some()), (false, addrs.ipv6.is_some())] {
        let ips = ips.iter().filter(|ip| ip.is_ipv4() == is_v4);
        let server = url.server(HTTP_PORT);
        let mut targets: Vec<SocketAddr> =
            ips.map(|ip| SocketAddr::new(*ip, server.port)).collect();
        let target = HostOrAddrs::Host(server, Reach::of_configured(&url.host));
        targets.retain(|addr| standalone.refusal_of(*addr, &target, Route::Native).is_none());
        if !is_known && !targets.is_empty() {
            queries.push(AddressQuery::new(url, targets, is_v4));
        }
    }
    let mut tasks: Vec<&mut dyn FetchTask> = Vec::new();
    queries.iter_mut().for_each(|query| tasks.push(query));
    let left = Duration::from_millis(deadline.0.saturating_sub(standalone.time.now.0));
    let outcomes = standalone.run(&mut tasks, left);

    let mut first_error = None;
    for (query, outcome) in queries.iter().zip(outcomes) {
        match outcome.and_then(|()| query.address()) {
            Ok(ip) if query.is_v4 => addrs.ipv4 = Some(ip),
            Ok(ip) => addrs.ipv6 = Some(ip),
            Err(e) => first_error = first_error.or(Some(e)),
        }
    }
    let cause = first_error.unwrap_or_else(|| FetchError::response("no address of the family"));
    ignore_if_known(addrs, failed(cause))
}

/// One public address is enough: many machines have no IPv6.
fn ignore_if_known(addrs: &PublicAddrs, error: PublicIpError) -> Result<(), PublicIpError> {
    if addrs.public().is_empty() { Err(error) } else { Ok(()) }
}

/// A request over one address family.
struct AddressQuery<'a> {
    url: &'a Url,
    targets: Vec<SocketAddr>,
    response: Response,
    body: Vec<u8>,
    is_v4: bool,
}

impl<'a> AddressQuery<'a> {
    fn new(url: &'a Url, targets: Vec<SocketAddr>, is_v4: bool) -> Self {
        Self { url, targets, response: Response::default(), body: Vec::new(), is_v4 }
    }

    /// The address in a complete response.
    fn address(&self) -> Result<IpAddr, FetchError> {
        match self.response.head().status {
            200 => {}
            status => return Err(FetchError::Status(status)),
        }
        let text = str::from_utf8(&self.body).unwrap_or_default();
        let ip = text.trim().parse::<IpAddr>().ok();
        let family = if self.is_v4 { "IPv4" } else { "IPv6" };
        ip.filter(|ip| ip.is_ipv4() == self.is_v4)
            .ok_or_else(|| FetchError::response(format!("the response is not an {family} address")))
    }

    fn complete(&self) -> TaskStep {
        if self.body.len() > RESPONSE_MAX {
            return TaskStep::Failed(FetchError::response("the response is too long"));
        }
        TaskStep::Done
    }
}

impl FetchTask for AddressQuery<'_> {
    fn target(&self) -> FetchTarget {
        let tls = (self.url.scheme == "https").then(|| self.url.host.clone());
        let server = HostOrAddrs::Addrs(self.targets.clone());
        FetchTarget { server, tls, route: Route::Native }
    }

    fn request(&mut self) -> Vec<u8> {
        http1_client::get_request(self.url, "")
    }

    fn push_bytes(&mut self, bytes: &[u8]) -> TaskStep {
        let body = &mut self.body;
        let mut keep = |_: &_, piece: &[u8]| {
            if body.len() <= RESPONSE_MAX {
                body.extend_from_slice(piece);
            }
        };
        match self.response.push(bytes, &mut keep) {
            Ok((BodyProgress::Incomplete, _)) if self.body.len() <= RESPONSE_MAX => TaskStep::More,
            Ok(_) => self.complete(),
            Err(fault) => TaskStep::Failed(FetchError::response(fault.as_str())),
        }
    }

    fn finish(&mut self) -> TaskStep {
        match self.response.finish() {
            Ok(()) => self.complete(),
            Err(fault) => TaskStep::Failed(FetchError::response(fault.as_str())),
        }
    }
}

/// For name resolution and both queries together.
const LIMIT: Duration = Duration::from_secs(5);
/// In bytes. Longer than any address.
const RESPONSE_MAX: usize = 64;
const HTTP_PORT: u16 = 80;

//! What the checks share: the loaded config, the options, and network access.

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use crate::cli::public_addrs::{AddressFlags, PublicAddrs};
use crate::cli::public_ip::{self, PublicIpError};
use crate::config::load::Loaded;
use crate::config::report::Diagnostic;
use crate::config::settings::Settings;
use crate::daemon::fetch::standalone::Standalone;
use crate::daemon::upstream::connect::error::ConnectError;
use crate::daemon::upstream::connect::target::{HostOrAddrs, Route};
use crate::daemon::upstream::front;
use crate::io::ifaces;
use crate::util::host_port::HostPort;

pub(super) struct CheckContext {
    pub(super) settings: Rc<Settings>,
    /// The loader's warnings about the config file.
    pub(super) warnings: Vec<Diagnostic>,
    /// The config file.
    pub(super) path: PathBuf,
    pub(super) options: DoctorOptions,
    /// Network access with the egress, name servers and proxies of the config.
    pub(super) standalone: Standalone,
    own_addrs: Option<OwnAddrs>,
}

/// The flags.
pub(super) struct DoctorOptions {
    /// Do not connect to Telegram without the proxies.
    pub(super) skip_native: bool,
    /// The time server; `None` = the clock is not compared.
    pub(super) ntp: Option<HostPort>,
    /// What the censor check probes instead of the first listener.
    pub(super) target: Option<HostPort>,
    /// For `mtbox check`: short time limits, no query of a web service, no TLS handshakes.
    pub(super) is_quick: bool,
}

/// The addresses of this machine.
pub(super) struct OwnAddrs {
    pub(super) addrs: PublicAddrs,
    /// Why no public address is known, if the query for it failed.
    pub(super) error: Option<PublicIpError>,
}

impl CheckContext {
    /// Errors: see [`Standalone::new`].
    pub(super) fn new(loaded: Loaded, path: PathBuf, options: DoctorOptions) -> io::Result<Self> {
        let Loaded { settings, warnings } = loaded;
        let settings = Rc::new(settings);
        let standalone = Standalone::new(Rc::clone(&settings))?;
        Ok(Self { settings, warnings, path, options, standalone, own_addrs: None })
    }

    /// The addresses of this machine. The first call may query a web service, and registers the
    /// public addresses, so that `is_own_listener` recognizes them.
    pub(super) fn own_addrs(&mut self) -> &OwnAddrs {
        let Self { settings, standalone, own_addrs, options, .. } = self;
        own_addrs.get_or_insert_with(|| {
            let flags = AddressFlags::default();
            let mut addrs = PublicAddrs::of(settings, flags, &ifaces::addresses());
            let error = match options.is_quick {
                true => None,
                false => public_ip::complete_with(&mut addrs, flags, standalone).err(),
            };
            addrs.public().into_iter().for_each(|ip| standalone.add_own_address(ip));
            OwnAddrs { addrs, error }
        })
    }

    /// The time limit of a step that usually has this one.
    pub(super) fn limit(&self, usual: Duration) -> Duration {
        if self.options.is_quick { usual.min(QUICK) } else { usual }
    }

    /// The distinct hosts of all secrets, sorted.
    pub(super) fn hosts(&self) -> Vec<String> {
        let hosts = self.settings.users.iter().map(|user| user.secret.host());
        let hosts: BTreeSet<String> =
            hosts.map(|host| String::from_utf8_lossy(host).into_owned()).collect();
        hosts.into_iter().collect()
    }

    /// Removes the addresses that the daemon would not dial for a front, and returns why the first
    /// of them is refused.
    pub(super) fn retain_allowed(
        &mut self,
        front: &HostPort,
        addrs: &mut Vec<SocketAddr>,
    ) -> Option<ConnectError> {
        let target = HostOrAddrs::Host(front.clone(), front::reach(&self.settings));
        let mut refusal = None;
        addrs.retain(|addr| {
            let refused = self.standalone.refusal_of(*addr, &target, Route::Front);
            let is_allowed = refused.is_none();
            refusal = refusal.take().or(refused);
            is_allowed
        });
        refusal
    }

    /// The front for a host: where unauthenticated clients are connected to.
    pub(super) fn front(&self, host: &str) -> HostPort {
        let front = &self.settings.front;
        HostPort::new(front.host.as_deref().unwrap_or(host), front.port)
    }
}

/// For each step of `mtbox check`.
const QUICK: Duration = Duration::from_secs(3);

/// A time in microseconds, in the largest unit in which it is at least one: `812µs`, `23.1ms`.
pub(super) fn format_us(us: u64) -> String {
    let (whole, part, unit) = match us {
        0..1_000 => return format!("{us}µs"),
        1_000..1_000_000 => (us / 1_000, us % 1_000, "ms"),
        _ => (us / 1_000_000, us / 1_000 % 1_000, "s"),
    };
    let number = format!("{whole}.{part:03}");
    format!("{}{unit}", number.trim_end_matches('0').trim_end_matches('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_the_unit_that_fits() {
        for (us, want) in [
            (0, "0µs"),
            (999, "999µs"),
            (1_000, "1ms"),
            (23_112, "23.112ms"),
            (23_100, "23.1ms"),
            (999_999, "999.999ms"),
            (1_000_000, "1s"),
            (61_520_900, "61.52s"),
        ] {
            assert_eq!(format_us(us), want);
        }
    }
}

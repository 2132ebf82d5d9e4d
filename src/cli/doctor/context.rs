//! What the checks look at: the loaded file, what the operator wants to know, and the means to
//! ask the outside. What several checks need is found out once.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::rc::Rc;

use crate::cli::public_addrs::{AddressFlags, PublicAddrs};
use crate::cli::public_ip;
use crate::config::load::Loaded;
use crate::config::report::Diagnostic;
use crate::config::settings::Settings;
use crate::daemon::fetch::standalone::Standalone;
use crate::io::ifaces;

/// The config and everything around it.
pub struct CheckContext {
    /// What the file says.
    pub settings: Rc<Settings>,
    /// What is to be said about the file.
    pub warnings: Vec<Diagnostic>,
    /// The file.
    pub path: PathBuf,
    /// What the flags ask for.
    pub wishes: DoctorOptions,
    /// The way to the outside, straight or through the proxies.
    pub alone: Standalone,
    reach: Option<(PublicAddrs, Result<(), String>)>,
}

/// What the flags ask for.
pub struct DoctorOptions {
    /// Telegram is not tried directly.
    pub skip_native: bool,
    /// The time server to ask.
    pub ntp: Option<(String, u16)>,
    /// What to probe instead of the first listener.
    pub target: Option<(String, u16)>,
}

impl CheckContext {
    /// Nothing has been looked at yet.
    ///
    /// # Errors
    /// See [`Standalone::new`].
    pub fn new(loaded: Loaded, path: PathBuf, wishes: DoctorOptions) -> io::Result<Self> {
        let Loaded { settings, warnings } = loaded;
        let alone = Standalone::new(settings)?;
        let settings = Rc::clone(&alone.settings);
        Ok(Self { settings, warnings, path, wishes, alone, reach: None })
    }

    /// Under which addresses the outside sees us, and why none is known. They count as our own
    /// from then on.
    pub fn reach(&mut self) -> &(PublicAddrs, Result<(), String>) {
        let Self { settings, alone, reach, .. } = self;
        reach.get_or_insert_with(|| {
            let stated = AddressFlags::default();
            let mut reach = PublicAddrs::of(settings, stated, &ifaces::addresses());
            let outcome = public_ip::complete(&mut reach, stated, alone);
            reach.public().into_iter().for_each(|ip| alone.add_own_address(ip));
            (reach, outcome)
        })
    }

    /// The hosts of all secrets, each once, in order.
    pub fn hosts(&self) -> Vec<String> {
        let hosts = self.settings.users.iter().map(|user| user.secret.host());
        let hosts: BTreeSet<String> =
            hosts.map(|host| String::from_utf8_lossy(host).into_owned()).collect();
        hosts.into_iter().collect()
    }

    /// Where the strangers of a host are led.
    pub fn site(&self, host: &str) -> (String, u16) {
        let front = &self.settings.front;
        (front.host.clone().unwrap_or_else(|| host.to_owned()), front.port)
    }
}

/// Where an unspecified address is reached from this machine.
pub fn near(bind: SocketAddr) -> SocketAddr {
    let ip: IpAddr = match bind.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, bind.port())
}

/// `host:port`, with brackets where they are needed.
pub fn joined(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// A time in the largest unit that keeps it above one: `812µs`, `23.1ms`, `1.52s`.
pub fn spoken_us(us: u64) -> String {
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
            assert_eq!(spoken_us(us), want);
        }
    }
}

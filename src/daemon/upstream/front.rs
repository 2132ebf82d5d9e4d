//! The address of the front of a host.

use crate::accounts::users::{HostId, Users};
use crate::config::settings::Settings;
use crate::daemon::upstream::connect::target::{HostOrAddrs, Reach};
use crate::util::host_port::HostPort;

/// The front of a host: the configured one, which may be anywhere, or the host itself.
pub fn front_of(settings: &Settings, users: &Users, host: HostId) -> HostOrAddrs {
    let own_name = || String::from_utf8_lossy(users.host_name(host)).into_owned();
    let name = settings.front.host.clone().unwrap_or_else(own_name);
    HostOrAddrs::Host(HostPort::new(name, settings.front.port), reach(settings))
}

/// The addresses that the front of any host may have.
pub fn reach(settings: &Settings) -> Reach {
    if settings.front.host.is_some() { Reach::Any } else { Reach::Elsewhere }
}

//! The address of the front of a host.

use crate::accounts::users::{HostId, Users};
use crate::config::settings::Settings;
use crate::util::host_port::HostPort;

/// The front of a host: the configured one, or the host itself.
pub fn front_of(settings: &Settings, users: &Users, host: HostId) -> HostPort {
    let front = &settings.front;
    let own_name = || String::from_utf8_lossy(users.host_name(host)).into_owned();
    HostPort::new(front.host.clone().unwrap_or_else(own_name), front.port)
}

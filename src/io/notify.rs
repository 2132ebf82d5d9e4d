//! State notifications for the service manager (sd_notify(3)): one datagram to the socket that
//! `NOTIFY_SOCKET` names. Does nothing without that variable, which only systemd sets.

use std::env;
use std::ffi::OsString;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// Client of the service manager's notification socket.
pub struct Notify {
    to: Option<(UnixDatagram, SocketAddr)>,
    /// Half of the longest interval that the service manager allows between two [`Notify::alive`].
    watchdog: Option<Duration>,
}

impl Notify {
    /// Reads `NOTIFY_SOCKET`, `WATCHDOG_PID` and `WATCHDOG_USEC`.
    pub fn from_env() -> Self {
        let to = env::var_os("NOTIFY_SOCKET").and_then(|path| open(&path));
        let is_ours = match env::var("WATCHDOG_PID") {
            Ok(pid) => pid == std::process::id().to_string(),
            Err(_) => true,
        };
        let limit_us = env::var("WATCHDOG_USEC").ok().and_then(|text| text.parse::<u64>().ok());
        let watchdog = limit_us.filter(|us| *us > 1 && is_ours && to.is_some());
        Self { to, watchdog: watchdog.map(|us| Duration::from_micros(us / 2)) }
    }

    /// Interval at which to call [`Notify::alive`]; `None` = the watchdog is off.
    pub fn watchdog(&self) -> Option<Duration> {
        self.watchdog
    }

    /// The daemon is ready. `status` is shown by `systemctl status`.
    pub fn ready(&self, status: &str) {
        self.send(&format!("READY=1\nSTATUS={status}"));
    }

    /// A reload of the configuration starts; [`Notify::ready`] ends it.
    pub fn reloading(&self) {
        // The timestamp lets the manager match the notification to its request.
        let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from).unwrap_or_default();
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={}", now.as_micros() as u64));
    }

    /// The daemon stops.
    pub fn stopping(&self) {
        self.send("STOPPING=1");
    }

    /// The loop still runs.
    pub fn alive(&self) {
        self.send("WATCHDOG=1");
    }

    fn send(&self, text: &str) {
        if let Some((socket, to)) = &self.to {
            // A lost notification must not disturb the service.
            let _ = socket.send_to_addr(text.as_bytes(), to);
        }
    }
}

/// Opens a socket for a path, or for an abstract name after `@` (unix(7)).
fn open(name: &OsString) -> Option<(UnixDatagram, SocketAddr)> {
    let to = match name.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
        _ => SocketAddr::from_pathname(name),
    };
    let socket = UnixDatagram::unbound().ok()?;
    socket.set_nonblocking(true).ok()?;
    Some((socket, to.ok()?))
}

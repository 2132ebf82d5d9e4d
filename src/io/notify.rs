//! Tells the service manager how we are (sd_notify(3)): one datagram to the socket that
//! `NOTIFY_SOCKET` names. Without one, as everywhere but under systemd, nothing is done.

use std::env;
use std::ffi::OsString;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// The way to the service manager.
pub struct Notify {
    to: Option<(UnixDatagram, SocketAddr)>,
    /// Half of what the service manager allows between two signs of life.
    watchdog: Option<Duration>,
}

impl Notify {
    /// As the environment says.
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

    /// How often [`Notify::alive`] has to be said; `None` = nobody waits for it.
    pub fn watchdog(&self) -> Option<Duration> {
        self.watchdog
    }

    /// We listen.
    pub fn ready(&self, status: &str) {
        self.say(&format!("READY=1\nSTATUS={status}"));
    }

    /// The config is being read anew, until [`Notify::ready`].
    pub fn reloading(&self) {
        // The manager has to know that this is later than its wish.
        let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from).unwrap_or_default();
        self.say(&format!("RELOADING=1\nMONOTONIC_USEC={}", now.as_micros() as u64));
    }

    /// We leave.
    pub fn stopping(&self) {
        self.say("STOPPING=1");
    }

    /// The loop still turns.
    pub fn alive(&self) {
        self.say("WATCHDOG=1");
    }

    fn say(&self, text: &str) {
        if let Some((socket, to)) = &self.to {
            // A manager that does not listen is no reason to do anything else.
            let _ = socket.send_to_addr(text.as_bytes(), to);
        }
    }
}

/// A path, or an abstract name behind `@` (unix(7)).
fn open(name: &OsString) -> Option<(UnixDatagram, SocketAddr)> {
    let to = match name.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
        _ => SocketAddr::from_pathname(name),
    };
    let socket = UnixDatagram::unbound().ok()?;
    socket.set_nonblocking(true).ok()?;
    Some((socket, to.ok()?))
}

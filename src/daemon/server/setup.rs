//! Settings of listeners and of the pid file, applied at start and after a reload.

use std::io;
use std::net::SocketAddr;
use std::path::Path;

use crate::config::settings::Settings;
use crate::daemon::server::listeners::ClientListeners;
use crate::io::listen::{self, Bind, ListenOptions};
use crate::io::pid_file::PidFile;
use crate::io::sockopt::SocketOptions;

/// The addresses to listen on for clients, with their socket options.
pub(super) fn binds(settings: &Settings) -> Vec<Bind> {
    let options = ListenOptions {
        max_segment: settings.max_segment,
        multipath: settings.multipath,
        reuse_port: settings.reuse_port,
    };
    listen::plan(&settings.binds, options)
}

/// Sets the options that accepted sockets inherit. A congestion control that the kernel refuses is
/// logged.
pub(super) fn set_client_options(listeners: &ClientListeners, options: &SocketOptions) {
    let outcomes = listeners.iter().map(|one| one.listener().set_client_options(options));
    if let Some(Err(e)) = outcomes.reduce(|all, one| all.and(one)) {
        warn_congestion_refused(options, &e);
    }
}

fn warn_congestion_refused(options: &SocketOptions, error: &io::Error) {
    let name = options.congestion.as_deref().unwrap_or_default();
    log::warn!(
        "event=congestion-refused name={name:?} error={:?} hint=\"using the default of the system; \
         for allowed names see net.ipv4.tcp_available_congestion_control, other names need root\"",
        error.to_string()
    );
}

/// The addresses of the proxy itself: the listeners, and their ports at the public addresses.
pub(super) fn own_addrs(listeners: &ClientListeners, settings: &Settings) -> Vec<SocketAddr> {
    let mut addrs: Vec<SocketAddr> =
        listeners.iter().map(|one| one.listener().local_addr()).collect();
    for ip in [settings.public_ipv4, settings.public_ipv6].into_iter().flatten() {
        let ports = settings.binds.iter().map(SocketAddr::port);
        addrs.extend(ports.map(|port| SocketAddr::new(ip, port)));
    }
    addrs
}

/// Writes the pid file. The proxy runs without one if that fails.
pub(super) fn write_pid_file(path: &Path) -> Option<PidFile> {
    let outcome = PidFile::write(path);
    outcome
        .inspect_err(|e| {
            log::warn!("event=pid-file-failed path={path:?} error={:?}", e.to_string());
        })
        .ok()
}

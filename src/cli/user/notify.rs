//! Reloads the running proxy after a change of its config: sends SIGHUP to the process in the pid
//! file. If that is impossible, prints the command that reloads the proxy.

use std::fs;
use std::path::Path;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::cli::output::print;
use crate::config::settings::Settings;
use crate::io::pid_file;

/// `settings` = `None`: the config has errors, so a reload would be refused.
pub(super) fn reload(settings: Option<&Settings>) {
    let Some(settings) = settings else { return };
    let Some(path) = &settings.pid_file else {
        return print(&format!("If mtbox is running, reload it: {}\n", reload_command()));
    };
    match send_hup(path) {
        Ok(()) => print("Reloaded the running proxy.\n"),
        Err(NotifyFailure::NotRunning) => {
            print("The proxy is not running; it reads the config when it starts.\n");
        }
        Err(NotifyFailure::NotPermitted) => {
            let command = reload_command();
            print(&format!("No permission to reload the proxy; run as root: {command}\n"));
        }
    }
}

enum NotifyFailure {
    /// No process, or a process of another program, has the process ID.
    NotRunning,
    NotPermitted,
}

fn send_hup(path: &Path) -> Result<(), NotifyFailure> {
    let pid = pid_file::read(path).and_then(|pid| i32::try_from(pid).ok());
    let pid = pid.filter(|pid| *pid > 1).ok_or(NotifyFailure::NotRunning)?;
    // After a crash the process ID may belong to another program, which SIGHUP usually ends.
    let name =
        fs::read_to_string(format!("/proc/{pid}/comm")).map_err(|_| NotifyFailure::NotRunning)?;
    if !name.starts_with("mtbox") {
        return Err(NotifyFailure::NotRunning);
    }
    kill(Pid::from_raw(pid), Signal::SIGHUP).map_err(|errno| match errno {
        Errno::EPERM => NotifyFailure::NotPermitted,
        _ => NotifyFailure::NotRunning,
    })
}

/// The command that reloads the proxy under the service manager of this machine.
fn reload_command() -> &'static str {
    if Path::new("/etc/init.d/mtbox").exists() {
        "/etc/init.d/mtbox reload"
    } else if Path::new("/run/systemd/system").exists() {
        "systemctl reload mtbox"
    } else {
        "kill -HUP $(pidof mtbox)"
    }
}

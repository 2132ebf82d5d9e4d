//! Tells the running proxy that its config has changed: HUP to the process in the pid file, if that
//! is really one of ours; otherwise how a person can do it.

use std::fs;
use std::path::Path;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::cli::output::print;
use crate::config::settings::Settings;

/// Tells it, or says how.
pub fn tell(settings: Option<&Settings>) {
    let Some(settings) = settings else { return };
    let Some(path) = &settings.pid_file else {
        return print(&format!("If mtbox is running, tell it: {}\n", by_hand()));
    };
    match hang_up(path) {
        Ok(()) => print("The running proxy was told.\n"),
        Err(NotifyFailure::NotRunning) => {
            print("The proxy is not running; it reads this at its start.\n")
        }
        Err(NotifyFailure::Refused) => {
            print(&format!("You may not tell the running proxy; ask root to: {}\n", by_hand()));
        }
    }
}

enum NotifyFailure {
    /// Nobody, or somebody else by now, has the number.
    NotRunning,
    /// It is another user's.
    Refused,
}

fn hang_up(pid_file: &Path) -> Result<(), NotifyFailure> {
    let text = fs::read_to_string(pid_file).map_err(|_| NotifyFailure::NotRunning)?;
    let pid: i32 =
        text.trim().parse().ok().filter(|pid| *pid > 1).ok_or(NotifyFailure::NotRunning)?;
    // A number may have gone to another program after a crash, and HUP ends most of them.
    let name =
        fs::read_to_string(format!("/proc/{pid}/comm")).map_err(|_| NotifyFailure::NotRunning)?;
    if !name.starts_with("mtbox") {
        return Err(NotifyFailure::NotRunning);
    }
    kill(Pid::from_raw(pid), Signal::SIGHUP).map_err(|errno| match errno {
        Errno::EPERM => NotifyFailure::Refused,
        _ => NotifyFailure::NotRunning,
    })
}

/// What to type on this machine.
fn by_hand() -> &'static str {
    if Path::new("/etc/init.d/mtbox").exists() {
        "/etc/init.d/mtbox reload"
    } else if Path::new("/run/systemd/system").exists() {
        "systemctl reload mtbox"
    } else {
        "kill -HUP $(pidof mtbox)"
    }
}

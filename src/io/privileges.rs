//! Change from root to another user (credentials(7)). Keeps the capabilities that the proxy needs
//! (capabilities(7)): ports below 1024, also after a reload, and marks or devices if configured.

use std::io;

use capctl::caps::{Cap, CapSet, CapState};
use nix::sys::prctl;
use nix::unistd::{Gid, Uid, geteuid, setgroups, setresgid, setresuid};

/// Capabilities to keep in addition to `CAP_NET_BIND_SERVICE`.
#[derive(Debug, Clone, Copy, Default)]
pub struct ExtraCapabilities {
    /// `CAP_NET_ADMIN`, for `SO_MARK`.
    pub mark: bool,
    /// `CAP_NET_RAW`, for `SO_BINDTODEVICE` on kernels before 5.7.
    pub device: bool,
}

/// Changes to the user `name` of /etc/passwd, or to `UID:GID`. Drops all supplementary groups, and
/// prevents child processes from gaining privileges (`PR_SET_NO_NEW_PRIVS`). If the process runs as
/// that user already, only the latter is done.
///
/// # Errors
/// One line of text with a remedy.
pub fn become_user(name: &str, extra: ExtraCapabilities) -> Result<(), String> {
    let (uid, gid) = account(name)?;
    if geteuid().is_root() {
        let kept = kept(extra).map_err(|e| format!("cannot become {name}: {e}"))?;
        prctl::set_keepcaps(true)
            .and_then(|()| setgroups(&[]))
            .and_then(|()| setresgid(gid, gid, gid))
            .and_then(|()| setresuid(uid, uid, uid))
            .and_then(|()| prctl::set_keepcaps(false))
            .map_err(|e| format!("cannot become {name}: {}", io::Error::from(e)))?;
        CapState { effective: kept, permitted: kept, inheritable: CapSet::empty() }
            .set_current()
            .map_err(|e| format!("cannot become {name}: {e}"))?;
        if uid.is_root() {
            return Ok(());
        }
    } else if geteuid() != uid {
        return Err(format!("only root can become {name}; start it as root or without --user"));
    }
    prctl::set_no_new_privs().map_err(|e| format!("no new privileges: {}", io::Error::from(e)))
}

/// The capabilities to keep: only those that the process has, which a container may restrict.
fn kept(extra: ExtraCapabilities) -> capctl::Result<CapSet> {
    let mut wanted = CapSet::empty();
    wanted.add(Cap::NET_BIND_SERVICE);
    wanted.set_state(Cap::NET_ADMIN, extra.mark);
    wanted.set_state(Cap::NET_RAW, extra.device);
    Ok(wanted & CapState::get_current()?.permitted)
}

/// Parses `UID:GID`, or looks a user name up.
fn account(name: &str) -> Result<(Uid, Gid), String> {
    if let Some((uid, gid)) = name.split_once(':')
        && let (Ok(uid), Ok(gid)) = (uid.parse(), gid.parse())
    {
        return Ok((Uid::from_raw(uid), Gid::from_raw(gid)));
    }
    match std::fs::read_to_string(ACCOUNTS) {
        Ok(text) => text
            .lines()
            .find_map(|line| entry(line, name))
            .ok_or_else(|| format!("no user {name:?} in {ACCOUNTS}; add it, or write UID:GID")),
        Err(e) => Err(format!("cannot read {ACCOUNTS}: {e}; write UID:GID")),
    }
}

/// User and group id of a line of passwd(5), if it is the line of `name`.
fn entry(line: &str, name: &str) -> Option<(Uid, Gid)> {
    let mut fields = line.split(':');
    let is_named = fields.next()? == name && !name.is_empty();
    let (uid, gid) = (fields.nth(1)?, fields.next()?);
    is_named.then_some(())?;
    Some((Uid::from_raw(uid.parse().ok()?), Gid::from_raw(gid.parse().ok()?)))
}

/// Parsed here, since the C library's functions for it add more code than this whole file has.
const ACCOUNTS: &str = "/etc/passwd";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_found_by_name_and_number() {
        assert_eq!(account("12:34"), Ok((Uid::from_raw(12), Gid::from_raw(34))));
        assert_eq!(account("root"), Ok((Uid::from_raw(0), Gid::from_raw(0))));
        assert_eq!(entry("a:x:7:8:", "a"), Some((Uid::from_raw(7), Gid::from_raw(8))));
        for line in ["", "#a:x:7:8:", "a:x:7", "a:x:y:8:", "aa:x:7:8:", "::7:8:"] {
            assert_eq!(entry(line, "a"), None, "{line:?}");
        }
        for wrong in ["", "no-such-user", "12:", ":", "-1:0", "1:2:3"] {
            assert!(account(wrong).unwrap_err().contains("write UID:GID"), "{wrong:?}");
        }
    }

    #[test]
    fn a_process_that_is_not_root_cannot_change_its_user() {
        if geteuid().is_root() {
            return;
        }
        assert!(
            become_user("0:0", ExtraCapabilities::default()).unwrap_err().contains("only root")
        );
    }
}

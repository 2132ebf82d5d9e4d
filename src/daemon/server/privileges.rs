//! `run --user`: changes the user before the first socket is opened. A file that the new user
//! cannot open fails at start, and not only at the next reload.

use std::fs::File;
use std::path::Path;

use crate::config::settings::Settings;
use crate::daemon::server::error::RunError;
use crate::io::logger::event;
use crate::io::privileges;
use crate::io::rlimit;

/// Changes the user of the process to `user`, a name or `UID:GID`.
///
/// # Errors
/// [`RunError::User`].
pub(super) fn drop_to(
    user: &str,
    settings: &Settings,
    config: Option<&Path>,
) -> Result<(), RunError> {
    // Only root can raise the limit on some systems.
    rlimit::raise_nofile();
    let egress = &settings.egress;
    let extra = privileges::ExtraCapabilities {
        mark: egress.mark.is_some(),
        device: egress.device.is_some(),
    };
    privileges::become_user(user, extra).map_err(RunError::User)?;
    if let Some(path) = config
        && let Err(e) = File::open(path)
    {
        event!(
            Warn, "user", name = %user,
            hint = ?format_args!("{user} cannot read {path:?} ({e}), so a reload will fail; make \
                the file readable for {user}")
        );
    }
    Ok(())
}

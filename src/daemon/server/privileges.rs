//! `run --user`: another user from before the first socket on. What cannot be opened then could not
//! be opened after a reload either.

use std::fs::File;
use std::path::Path;

use crate::config::settings::Settings;
use crate::io::privileges;
use crate::io::rlimit;

/// Becomes `user`.
///
/// # Errors
/// One line that says what to do.
pub fn settle(user: &str, settings: &Settings, config: Option<&Path>) -> Result<(), String> {
    // Where root alone may read it, the limit is root's to raise.
    rlimit::raise_nofile();
    let egress = &settings.egress;
    let extra = privileges::ExtraCapabilities {
        mark: egress.mark.is_some(),
        device: egress.device.is_some(),
    };
    privileges::become_user(user, extra)?;
    if let Some(path) = config
        && let Err(e) = File::open(path)
    {
        log::warn!(
            "event=user name={user} hint=\"cannot read {path:?} again ({e}): a reload will fail; \
             let {user} read it\""
        );
    }
    Ok(())
}

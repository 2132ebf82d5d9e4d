//! `mtbox run CONFIG`, and how commands find and load their config file.

use std::path::PathBuf;

use crate::cli::args::{Flag, ParsedArgs};
use crate::cli::failure::Failure;
use crate::cli::{config_file, log_flags};
use crate::config::load::Loaded;
use crate::config::report::Diagnostic;
use crate::config::settings::{LogChoice, SettingsSource};

/// `--user`.
pub const USER: Flag =
    Flag::with_value(None, "user", "ACCOUNT", "who to be when started as root: a name or UID:GID");

/// Runs the proxy until a signal ends it.
pub fn run(given: &ParsedArgs) -> Result<(), Failure> {
    let path = config_file::path(given)?;
    let log = log_flags::read(given)?;
    let loaded = config_file::load(&path)?;
    let user = given.text("user")?.map(str::to_owned);
    serve(loaded, path, log, user)
}

/// Runs the proxy by a loaded file; the log begins with what there is to say about the file.
pub fn serve(
    loaded: Loaded,
    path: PathBuf,
    log: LogChoice,
    user: Option<String>,
) -> Result<(), Failure> {
    let warnings = loaded.warnings.iter().map(Diagnostic::plain).collect();
    let origin = SettingsSource { config_path: Some(path), warnings, log, user };
    crate::daemon::server::run(loaded.settings, origin).map_err(Failure::error)
}

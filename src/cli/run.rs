//! `mtbox run CONFIG`.

use std::path::PathBuf;

use crate::cli::args::{Flag, ParsedArgs};
use crate::cli::failure::Failure;
use crate::cli::{config_file, log_flags};
use crate::config::load::Loaded;
use crate::config::report::Diagnostic;
use crate::config::settings::{LogChoice, SettingsSource};

pub(super) const USER: Flag = Flag::with_value(
    None,
    "user",
    "ACCOUNT",
    "account to switch to after a start as root: a name or UID:GID",
);

/// Runs the proxy until a signal ends it.
pub(super) fn run(args: &ParsedArgs) -> Result<(), Failure> {
    let path = config_file::path(args)?;
    let log = log_flags::read(args)?;
    let loaded = config_file::load(&path)?;
    let user = args.text("user")?.map(str::to_owned);
    serve(loaded, path, log, user)
}

/// Runs the proxy with a loaded config file. The log starts with the warnings of the file.
pub(super) fn serve(
    loaded: Loaded,
    path: PathBuf,
    log: LogChoice,
    user: Option<String>,
) -> Result<(), Failure> {
    let warnings = loaded.warnings.iter().map(Diagnostic::without_severity).collect();
    let source = SettingsSource { config_path: Some(path), warnings, log, user };
    crate::daemon::server::run(loaded.settings, source).map_err(|e| Failure::error(e.to_string()))
}

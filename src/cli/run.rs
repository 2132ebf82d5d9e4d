//! `mtbox run CONFIG`, and how commands find and load their config file.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::{Failure, log_flags};
use crate::cli::args::{Flag, ParsedArgs};
use crate::config::load::{self, Loaded};
use crate::config::report::{Diagnostic, Severity};
use crate::config::settings::{LogChoice, SettingsSource};

/// `--user`.
pub const USER: Flag =
    Flag::with_value(None, "user", "ACCOUNT", "who to be when started as root: a name or UID:GID");

/// Runs the proxy until a signal ends it.
pub fn run(given: &ParsedArgs) -> Result<(), Failure> {
    let path = config_path(given)?;
    let log = log_flags::read(given)?;
    let loaded = load(&path)?;
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
    let warnings = loaded.warnings.iter().map(Diagnostic::without_severity).collect();
    let origin = SettingsSource { config_path: Some(path), warnings, log, user };
    crate::daemon::run(loaded.settings, origin).map_err(Failure::trouble)
}

/// The CONFIG argument, which stands first: it must exist and not be a directory.
pub fn config_path(given: &ParsedArgs) -> Result<PathBuf, Failure> {
    let path = expanded(given.positional(0));
    match path.metadata() {
        Ok(found) if found.is_dir() => {
            Err(Failure::Usage(format!("{path:?} is a directory; name the config file in it")))
        }
        Ok(_) => Ok(path),
        Err(fault) => Err(Failure::Usage(format!("no config file {path:?}: {fault}"))),
    }
}

/// `~` and `~/..` are what HOME says, for callers that are no shell.
pub fn expanded(path: &OsStr) -> PathBuf {
    let path = Path::new(path);
    match (path.strip_prefix("~"), std::env::var_os("HOME")) {
        (Ok(rest), Some(home)) => Path::new(&home).join(rest),
        _ => path.to_path_buf(),
    }
}

/// Reads and loads; each error of the file is a line of the failure.
pub fn load(path: &Path) -> Result<Loaded, Failure> {
    let bytes = load::read(path)
        .map_err(|fault| Failure::trouble(format!("cannot read config file {path:?}: {fault}")))?;
    load::load(&bytes, &path.to_string_lossy()).map_err(|complaints| {
        let errors = complaints.iter().filter(|one| one.severity == Severity::Error);
        Failure::Trouble(errors.map(Diagnostic::without_severity).collect())
    })
}

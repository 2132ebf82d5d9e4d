//! Finds and loads the config file of a command.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crate::cli::args::ParsedArgs;
use crate::cli::failure::Failure;
use crate::config::load::{self, Loaded};
use crate::config::report::{Diagnostic, Severity};

/// The CONFIG argument, which stands first: it must exist and not be a directory.
pub fn path(given: &ParsedArgs) -> Result<PathBuf, Failure> {
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
        .map_err(|fault| Failure::error(format!("cannot read config file {path:?}: {fault}")))?;
    load::load(&bytes, &path.to_string_lossy()).map_err(|complaints| {
        let errors = complaints.iter().filter(|one| one.severity == Severity::Error);
        Failure::Errors(errors.map(Diagnostic::plain).collect())
    })
}

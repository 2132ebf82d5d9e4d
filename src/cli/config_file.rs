//! Finds and loads the config file of a command.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

use crate::cli::args::ParsedArgs;
use crate::cli::failure::Failure;
use crate::config::load::{self, Loaded};
use crate::config::report::{Diagnostic, Severity};

/// The path in the first argument. It must exist and must not be a directory.
pub(super) fn path(args: &ParsedArgs) -> Result<PathBuf, Failure> {
    let path = expand_home(args.positional(0));
    match path.metadata() {
        Ok(found) if found.is_dir() => {
            Err(Failure::Usage(format!("{path:?} is a directory; name the config file in it")))
        }
        Ok(_) => Ok(path),
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
            let e = load::with_account(&e);
            Err(Failure::Usage(format!("cannot reach the config file {path:?}: {e}")))
        }
        Err(e) => Err(Failure::Usage(format!("no config file {path:?}: {e}"))),
    }
}

/// Replaces a leading `~` by $HOME, for callers that use no shell.
pub(super) fn expand_home(path: &OsStr) -> PathBuf {
    let path = Path::new(path);
    match (path.strip_prefix("~"), std::env::var_os("HOME")) {
        (Ok(rest), Some(home)) => Path::new(&home).join(rest),
        _ => path.to_path_buf(),
    }
}

/// Loads a config file. On failure, each error of the file is one line.
pub(super) fn load(path: &Path) -> Result<Loaded, Failure> {
    let bytes = load::read(path)
        .map_err(|e| Failure::error(format!("cannot read config file {path:?}: {e}")))?;
    load::load(&bytes, &path.to_string_lossy()).map_err(|diagnostics| {
        let errors = diagnostics.iter().filter(|one| one.severity == Severity::Error);
        Failure::Errors(errors.map(Diagnostic::without_severity).collect())
    })
}

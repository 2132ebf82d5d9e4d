//! Reads the config file again, for a reload. A file with an error changes nothing.

use std::io;
use std::path::{Path, PathBuf};

use crate::config::load::{self, Loaded};
use crate::config::report::{Diagnostic, Severity};

/// Why a reload was refused.
#[derive(Debug)]
pub(super) enum ReloadError {
    /// The proxy was started without a config file.
    NoFile,
    /// The config is a pipe or a device: reading it again would block.
    NotRegular(PathBuf),
    /// The config file cannot be read.
    Read(PathBuf, io::Error),
    /// The config has errors.
    Config(Vec<Diagnostic>),
    /// A new listener cannot be opened.
    Listener(io::Error),
}

impl ReloadError {
    /// One line for each error.
    pub(super) fn lines(&self) -> Vec<String> {
        match self {
            Self::NoFile => {
                vec!["the proxy has no config file; start it with `mtbox run`".to_owned()]
            }
            Self::NotRegular(path) => {
                vec![format!("{}: not a regular file, so it is read only once", path.display())]
            }
            Self::Read(path, e) => vec![format!("{}: {e}", path.display())],
            Self::Config(errors) => errors.iter().map(Diagnostic::without_severity).collect(),
            Self::Listener(e) => vec![e.to_string()],
        }
    }
}

/// Reads and checks the config file.
pub(super) fn read(path: Option<&Path>) -> Result<Loaded, ReloadError> {
    let path = path.ok_or(ReloadError::NoFile)?;
    let read_error = |e| ReloadError::Read(path.to_owned(), e);
    if !path.metadata().map_err(read_error)?.is_file() {
        return Err(ReloadError::NotRegular(path.to_owned()));
    }
    let bytes = load::read(path).map_err(read_error)?;
    load::load(&bytes, &path.to_string_lossy()).map_err(|mut diagnostics| {
        diagnostics.retain(|one| one.severity == Severity::Error);
        ReloadError::Config(diagnostics)
    })
}

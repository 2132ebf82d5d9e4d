//! `mtbox check CONFIG`: every complaint about a file on stderr, and a verdict.

use crate::cli::args::ParsedArgs;
use crate::cli::failure::Failure;
use crate::cli::output::{print, report_bare};
use crate::cli::{config_file, egress_summary};
use crate::config::load;
use crate::config::report::Severity;

/// Prints `ok: ..` if the file can be used, and what it makes the program ask of the outside. A
/// file that cannot be read is a usage error.
pub fn check(given: &ParsedArgs) -> Result<(), Failure> {
    let path = config_file::path(given)?;
    let bytes = load::read(&path)
        .map_err(|fault| Failure::Usage(format!("cannot read config file {path:?}: {fault}")))?;
    let outcome = load::load(&bytes, &path.to_string_lossy());
    let complaints = match &outcome {
        Ok(loaded) => &loaded.warnings,
        Err(complaints) => complaints,
    };
    complaints.iter().for_each(|complaint| report_bare(&complaint.to_string()));
    match &outcome {
        Ok(loaded) if loaded.warnings.is_empty() || !given.is_on("strict") => {
            let settings = &loaded.settings;
            let users = counted(settings.users.len(), "user");
            let listeners = counted(settings.binds.len(), "listener");
            let warnings = counted(complaints.len(), Severity::Warning);
            print(&format!("ok: {users}, {listeners}, {warnings}\n"));
            egress_summary::lines(settings).iter().for_each(|line| print(line));
            Ok(())
        }
        _ => Err(Failure::Reported),
    }
}

fn counted(count: usize, what: impl std::fmt::Display) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

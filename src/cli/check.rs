//! `mtbox check CONFIG`: prints the diagnostics of a config to stderr and a summary to stdout.

use crate::cli::args::ParsedArgs;
use crate::cli::failure::Failure;
use crate::cli::output::{print, report_bare};
use crate::cli::{config_file, doctor, egress_summary};
use crate::config::load;
use crate::config::report::Severity;

/// Prints `ok: ..` and the outgoing connections that the config causes, if the file is valid, then
/// what looks at the names and sites show. A file that cannot be read is a usage error.
pub(super) fn check(args: &ParsedArgs) -> Result<(), Failure> {
    let path = config_file::path(args)?;
    let bytes = load::read(&path)
        .map_err(|e| Failure::Usage(format!("cannot read config file {path:?}: {e}")))?;
    let outcome = load::load(&bytes, &path.to_string_lossy());
    let diagnostics = match &outcome {
        Ok(loaded) => &loaded.warnings,
        Err(diagnostics) => diagnostics,
    };
    diagnostics.iter().for_each(|diagnostic| report_bare(&diagnostic.to_string()));
    match &outcome {
        Ok(loaded) if loaded.warnings.is_empty() || !args.is_on("strict") => {
            let settings = &loaded.settings;
            let users = counted(settings.users.len(), "user");
            let listeners = counted(settings.binds.len(), "listener");
            let warnings = counted(diagnostics.len(), Severity::Warning);
            print(&format!("ok: {users}, {listeners}, {warnings}\n"));
            egress_summary::lines(settings).iter().for_each(|line| print(line));
        }
        _ => return Err(Failure::Reported),
    }
    if cfg!(feature = "doctor")
        && let Some(advice) = outcome.ok().and_then(|loaded| doctor::advice(loaded, path))
    {
        print(&format!("advice: {advice} (see mtbox doctor)\n"));
    }
    Ok(())
}

fn counted(count: usize, unit: impl std::fmt::Display) -> String {
    format!("{count} {unit}{}", if count == 1 { "" } else { "s" })
}

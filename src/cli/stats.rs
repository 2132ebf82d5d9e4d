//! `mtbox stats CONFIG`: asks the running proxy who uses what.

use super::{Failure, admin_client, run, say};
use crate::cli::args::ParsedArgs;

/// Prints the answer.
pub fn stats(given: &ParsedArgs) -> Result<(), Failure> {
    let path = run::config_path(given)?;
    let settings = run::load(&path)?.settings;
    let page = if given.is_on("json") { "/stats" } else { "/stats?text" };
    let answer = admin_client::proxy(&settings, page).map_err(Failure::trouble)?;
    if answer.status != 200 {
        let status = answer.status;
        return Err(Failure::trouble(format!("the proxy answers {status}; ask again")));
    }
    say(&answer.body);
    Ok(())
}

//! `mtbox stats CONFIG`: asks the running proxy who uses what.

use crate::cli::args::ParsedArgs;
use crate::cli::failure::Failure;
use crate::cli::output::print;
use crate::cli::{admin_client, config_file};

/// Prints the answer.
pub fn stats(given: &ParsedArgs) -> Result<(), Failure> {
    let path = config_file::path(given)?;
    let settings = config_file::load(&path)?.settings;
    let page = if given.is_on("json") { "/stats" } else { "/stats?text" };
    let answer = admin_client::proxy(&settings, page).map_err(Failure::error)?;
    if answer.status != 200 {
        let status = answer.status;
        return Err(Failure::error(format!("the proxy answers {status}; ask again")));
    }
    print(&answer.body);
    Ok(())
}

//! `mtbox explain CONFIG [NAME]`: asks the running proxy why somebody was refused.

use crate::cli::args::ParsedArgs;
use crate::cli::failure::Failure;
use crate::cli::output::print;
use crate::cli::{admin_client, config_file};

/// Prints the answer.
pub fn explain(given: &ParsedArgs) -> Result<(), Failure> {
    let name = match given.count() {
        0 | 1 => "",
        _ => given.text_at(1, "NAME")?,
    };
    let path = config_file::path(given)?;
    let settings = config_file::load(&path)?.settings;
    let form = if given.is_on("json") { "" } else { "?text" };
    let page = format!("/explain/{}{form}", admin_client::quoted(name));
    let answer = admin_client::proxy(&settings, &page).map_err(Failure::error)?;
    match answer.status {
        200 => print(&answer.body),
        404 if answer.body.starts_with("no user is called ") => {
            return Err(Failure::error(answer.body.trim_end()));
        }
        404 => {
            return Err(Failure::error("the proxy that runs is too old to explain; restart it"));
        }
        other => return Err(Failure::error(format!("the proxy answers {other}; ask again"))),
    }
    Ok(())
}

//! `mtbox explain CONFIG [NAME]`: asks the running proxy why somebody was refused.

use super::{Failure, admin_client, run, say};
use crate::cli::args::ParsedArgs;

/// Prints the answer.
pub fn explain(given: &ParsedArgs) -> Result<(), Failure> {
    let name = match given.count() {
        0 | 1 => "",
        _ => given.text_at(1, "NAME")?,
    };
    let path = run::config_path(given)?;
    let settings = run::load(&path)?.settings;
    let form = if given.is_on("json") { "" } else { "?text" };
    let page = format!("/explain/{}{form}", admin_client::quoted(name));
    let answer = admin_client::proxy(&settings, &page).map_err(Failure::trouble)?;
    match answer.status {
        200 => say(&answer.body),
        404 if answer.body.starts_with("no user is called ") => {
            return Err(Failure::trouble(answer.body.trim_end()));
        }
        404 => {
            return Err(Failure::trouble("the proxy that runs is too old to explain; restart it"));
        }
        other => return Err(Failure::trouble(format!("the proxy answers {other}; ask again"))),
    }
    Ok(())
}

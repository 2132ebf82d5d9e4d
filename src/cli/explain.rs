//! `mtbox explain CONFIG [NAME]`: prints why the running proxy refused users.

use crate::cli::admin_client::{self, AdminError};
use crate::cli::args::ParsedArgs;
use crate::cli::config_file;
use crate::cli::failure::Failure;
use crate::cli::output::print;

pub(super) fn explain(args: &ParsedArgs) -> Result<(), Failure> {
    let name = match args.count() {
        0 | 1 => "",
        _ => args.text_at(1, "NAME")?,
    };
    let settings = config_file::load(&config_file::path(args)?)?.settings;
    let query = if args.is_on("json") { "" } else { "?text" };
    let page = format!("/explain/{}{query}", admin_client::path_segment(name));
    let reply = admin_client::get(&settings, &page).map_err(|e| Failure::error(e.to_string()))?;
    match reply.status {
        200 => print(&reply.body),
        // A proxy that knows this page names the unknown user; an older one has no such page.
        404 if reply.body.starts_with("no user is called ") => {
            return Err(Failure::error(reply.body.trim_end()));
        }
        404 => {
            return Err(Failure::error(
                "the running proxy is too old for this command; restart it",
            ));
        }
        status => return Err(Failure::error(AdminError::Status(status).to_string())),
    }
    Ok(())
}

//! `mtbox stats CONFIG`: prints the connections and the traffic of the users of the running proxy.

use crate::cli::admin_client::{self, AdminError};
use crate::cli::args::ParsedArgs;
use crate::cli::config_file;
use crate::cli::failure::Failure;
use crate::cli::output::print;

pub(super) fn stats(args: &ParsedArgs) -> Result<(), Failure> {
    let settings = config_file::load(&config_file::path(args)?)?.settings;
    let page = if args.is_on("json") { "/stats" } else { "/stats?text" };
    let reply = admin_client::get(&settings, page).map_err(|e| Failure::error(e.to_string()))?;
    if reply.status != 200 {
        return Err(Failure::error(AdminError::Status(reply.status).to_string()));
    }
    print(&reply.body);
    Ok(())
}

//! Can the daemon write its files, and is the config private? Nothing is written.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::cli::doctor::context::CheckContext;
use crate::cli::doctor::findings::Section;
#[cfg(feature = "tls")]
use crate::daemon::upstream::tls_roots::TlsRoots;
use crate::io::{folder, pid_file};
use crate::util::json::Json;

pub(super) fn check(context: &mut CheckContext) -> Vec<Section> {
    let mut section = Section::new("files", "Validate files");
    let settings = &context.settings;
    let state = settings.state.as_ref().map(|state| state.path.as_path());
    let pid = settings.pid_file.as_deref();
    for (key, path, test_access) in [
        (
            "defense.cache-dir",
            settings.cache_dir.as_deref(),
            folder::check_folder_writable as AccessTest,
        ),
        ("state-file", state, folder::check_file_writable as AccessTest),
        ("pid-file", pid, pid_file::check_writable as AccessTest),
    ] {
        let Some(path) = path else { continue };
        let shown = path.display();
        let finding = match test_access(path) {
            Ok(()) => section.ok(format!("{key}: {shown} is writable")),
            Err(e) => section.fail(format!("{key}: {shown}: {e}")).remedy(
                "create the directory, and let the account of mtbox write there; run the doctor \
                 with that account",
            ),
        };
        finding.fact("key", Json::text(key)).fact("path", Json::text(shown));
    }
    check_ca_file(context, &mut section);
    check_config_mode(&context.path, &mut section);
    vec![section]
}

/// Reads `network.ca-file`, if it is set.
pub(super) fn check_ca_file(context: &CheckContext, section: &mut Section) {
    #[cfg(feature = "tls")]
    if let Some(path) = context.settings.ca_file.as_deref() {
        let shown = path.display();
        let finding = match TlsRoots::default().config(Some(path)) {
            Ok(_) => section.ok(format!("network.ca-file: {shown} has certificates")),
            Err(why) => section.fail(format!("{why} ({shown})")).remedy(
                "write the path of a PEM file with certificates, and let the account of mtbox read \
                 it; run the doctor with that account",
            ),
        };
        finding.fact("key", Json::text("network.ca-file")).fact("path", Json::text(shown));
    }
    #[cfg(not(feature = "tls"))]
    let _ = (context, section);
}

type AccessTest = fn(&Path) -> io::Result<()>;

fn check_config_mode(path: &Path, section: &mut Section) {
    let shown = path.display();
    let finding = match path.metadata() {
        Ok(found) if found.mode() & 0o007 != 0 => section
            .warn(format!(
                "every account of this machine can read {shown}, and the secrets of all users in it"
            ))
            .remedy(format!(
                "chmod 600 {shown}; if the service reads it as a member of its group, chmod 640"
            )),
        // Not a warning: packages install it with mode 640 for the group of the service.
        Ok(found) if found.mode() & 0o070 != 0 => section
            .ok(format!("only its owner and its group can read {shown}"))
            .remedy(format!("if the group is not that of the service: chmod 600 {shown}")),
        Ok(_) => section.ok(format!("only its owner can read {shown}")),
        Err(e) => section.unknown(&shown.to_string(), &e.to_string()),
    };
    finding.fact("key", Json::text("config")).fact("path", Json::text(shown));
}

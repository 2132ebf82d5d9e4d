//! Can the daemon write what it has to write, and can only those read the config who should?

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::cli::doctor::context::CheckContext;
use crate::cli::doctor::findings::Section;
use crate::cli::json::Json;
use crate::io::folder;

/// Looks at the folders of the cache, the state file and the pid file, and at the config's mode.
/// Nothing is written.
pub fn check(patient: &mut CheckContext) -> Vec<Section> {
    let mut section = Section::new("files", "Validate files");
    let settings = &patient.settings;
    let state = settings.state.as_ref().map(|state| state.path.as_path());
    let pid = settings.pid_file.as_deref();
    for (key, path, may) in [
        ("defense.cache-dir", settings.cache_dir.as_deref(), folder::check_folder_writable as May),
        ("state-file", state, folder::check_file_writable as May),
        ("pid-file", pid, folder::check_file_writable as May),
    ] {
        let Some(path) = path else { continue };
        let shown = path.display();
        let finding = match may(path) {
            Ok(()) => section.ok(format!("{key}: {shown} can be written")),
            Err(e) => section.fail(format!("{key}: {shown}: {e}")).remedy(
                "make the folder, and let the user that mtbox runs as write there; run the doctor \
                 as that user",
            ),
        };
        finding.fact("key", Json::text(key)).fact("path", Json::text(shown));
    }
    look_at_config(&patient.path, &mut section);
    vec![section]
}

type May = fn(&Path) -> io::Result<()>;

/// The file holds all keys.
fn look_at_config(path: &Path, section: &mut Section) {
    let shown = path.display();
    let finding = match path.metadata() {
        Ok(found) if found.mode() & 0o077 != 0 => section
            .ok(format!("{shown} can be read by other users of this machine"))
            .remedy(format!("it holds the keys of everybody: chmod 600 {shown}")),
        Ok(_) => section.ok(format!("{shown} can be read by its owner only")),
        Err(e) => section.unknown(&shown.to_string(), &e.to_string()),
    };
    finding.fact("key", Json::text("config")).fact("path", Json::text(shown));
}

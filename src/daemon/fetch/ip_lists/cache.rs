//! Copies of fetched lists on disk, so that a router that starts without a network is protected.
//! Written in parts, only when the networks have changed (flash wears out), and renamed into place.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use sha2::{Digest, Sha256};

use crate::config::settings::ListSource;
use crate::daemon::admin::telemetry::Telemetry;
use crate::daemon::fetch::ip_lists::cache_format::{self, CacheEncoder};
use crate::daemon::fetch::ip_lists::kind::SourceId;
use crate::daemon::fetch::ip_lists::lists::IpLists;
use crate::daemon::fetch::ip_lists::work::CacheWriting;
use crate::io::logger::{event, fields};

/// Loads the copy of a source, if there is a valid one.
pub fn restore(lists: &mut IpLists, id: SourceId) {
    let Some(path) = path_of(lists, id) else { return };
    let (name, found) = (id.list.as_str(), cache_format::read(&path));
    let Some(source) = lists.source(id) else { return };
    match found {
        Ok(networks) => {
            let (label, entries) = (source.label(), networks.len());
            event!(Info, "list", name = %name, source = ?label, entries = entries, from = %"cache");
            source.networks = Some(Rc::new(networks));
            source.is_saved = true;
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => {
            event!(Warn, "list-cache-unusable", path = ?path.display(), error = ?e);
        }
    }
}

/// Starts to write the copy of a source.
pub fn open(
    lists: &mut IpLists,
    id: SourceId,
    telemetry: &mut Telemetry,
) -> Option<Box<CacheWriting>> {
    let path = path_of(lists, id)?;
    let networks = lists.source(id)?.networks.clone()?;
    let temporary = path.with_extension("new");
    match create(&temporary) {
        Ok(file) => {
            let encoder = CacheEncoder::new(networks);
            Some(Box::new(CacheWriting { source: id, file, temporary, path, encoder }))
        }
        Err(e) => {
            report(&e, telemetry);
            None
        }
    }
}

/// Writes the next part, or renames the complete copy into place.
pub fn write_part(
    lists: &mut IpLists,
    mut writing: Box<CacheWriting>,
    telemetry: &mut Telemetry,
) -> Option<Box<CacheWriting>> {
    let part = writing.encoder.next();
    let outcome = match part.is_empty() {
        false => writing.file.write_all(&part),
        true => fs::rename(&writing.temporary, &writing.path),
    };
    match outcome {
        Ok(()) if !part.is_empty() => return Some(writing),
        Ok(()) => {
            // Newer networks may have been loaded meanwhile; their copy follows.
            let source = lists.source(writing.source)?;
            let networks = source.networks.as_ref();
            source.is_saved = networks.is_some_and(|n| Rc::ptr_eq(n, writing.encoder.networks()));
        }
        Err(e) => {
            // If even this fails, the next copy replaces the file.
            let _ = fs::remove_file(&writing.temporary);
            report(&e, telemetry);
        }
    }
    None
}

/// A new file with mode 0600, in a folder that is created if it is missing.
fn create(path: &Path) -> io::Result<File> {
    if let Some(folder) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => OpenOptions::new().write(true).create_new(true).mode(0o600).open(path),
    }
}

fn report(error: &io::Error, telemetry: &mut Telemetry) {
    let error = error.to_string();
    telemetry.warn(fields!("list-cache-failed", error = ?error, hint = ?"see defense.cache-dir"));
}

/// The path of the copy of a source from the web; `None` for files. The name does not show the
/// URL, which may contain a secret.
fn path_of(lists: &mut IpLists, id: SourceId) -> Option<PathBuf> {
    let folder = lists.cache_dir.clone()?;
    let ListSource::Web(url) = &lists.source(id)?.origin else { return None };
    let digest = Sha256::new()
        .chain_update(url.scheme.as_bytes())
        .chain_update([0])
        .chain_update(url.host.as_bytes())
        .chain_update(url.port_or(0).to_be_bytes())
        .chain_update(url.path.as_bytes())
        .finalize();
    let name: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    Some(folder.join(format!("{}-{name}.networks", id.list.as_str())))
}

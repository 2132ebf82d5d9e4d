//! The config file, read and replaced: at every moment there is a whole file under its name, with
//! the owner and the mode that it had.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::unistd::{Gid, Uid, fchown};

use crate::config::load;

/// The text of the file.
///
/// # Errors
/// What the system says, or that it is no text.
pub fn read(path: &Path) -> Result<String, String> {
    let found = fs::metadata(path).map_err(|e| e.to_string())?;
    if !found.is_file() {
        return Err("not a regular file, so it cannot be changed".to_owned());
    }
    let bytes = load::read(path).map_err(|e| e.to_string())?;
    String::from_utf8(bytes).map_err(|_| "not UTF-8; save the file as UTF-8".to_owned())
}

/// Puts `after` in place of `before`. A symbolic link stays one: what it leads to is replaced.
///
/// # Errors
/// What the system says, or that somebody else has changed the file meanwhile.
pub fn replace(path: &Path, before: &str, after: &str) -> Result<(), String> {
    let path = fs::canonicalize(path).map_err(|e| e.to_string())?;
    let draft = draft_beside(&path);
    let old = fs::metadata(&path).map_err(|e| e.to_string())?;
    let owner = Some((old.uid(), old.gid()));
    let written = write(&draft, owner, old.mode() & 0o7777, after).and_then(|()| {
        match read(&path)? == before {
            true => fs::rename(&draft, &path).map_err(|e| e.to_string()),
            false => Err("somebody else has just changed the file; try again".to_owned()),
        }
    });
    if written.is_err() {
        // Another draft would have another name: this one is nobody's.
        let _ = fs::remove_file(&draft);
    } else if let Some(Ok(folder)) = path.parent().map(File::open) {
        // The new name must outlive a power cut as well.
        let _ = folder.sync_all();
    }
    written
}

/// Puts a file with secrets where there may be none yet, and leaves one alone that says the same
/// already. What root writes belongs to whom the old file or else the folder belongs to: the
/// proxy that reads it may have dropped its rights.
///
/// # Errors
/// What the system says, or that something other than a file is there.
pub fn put(path: &Path, text: &str) -> Result<(), String> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let (model, mode) = match fs::symlink_metadata(path) {
        Ok(old) if old.is_file() => {
            let mode = old.mode() & 0o640 | 0o600;
            let is_same = load::read(path).is_ok_and(|bytes| bytes == text.as_bytes());
            if is_same && old.mode() & 0o777 == mode {
                return Ok(());
            }
            (Ok(old), mode)
        }
        Ok(_) => return Err("not a regular file, so it is not replaced".to_owned()),
        Err(_) => (fs::metadata(folder.unwrap_or(Path::new("."))), 0o600),
    };
    let model = model.map_err(|e| e.to_string())?;
    let owner = Uid::effective().is_root().then_some((model.uid(), model.gid()));
    let draft = draft_beside(path);
    // Of a process that had our number and was killed.
    let _ = fs::remove_file(&draft);
    let written = write(&draft, owner, mode, text)
        .and_then(|()| fs::rename(&draft, path).map_err(|e| e.to_string()));
    if written.is_err() {
        let _ = fs::remove_file(&draft);
    }
    written
}

/// Writes a new file. `owner` is user and group, if they matter.
fn write(draft: &Path, owner: Option<(u32, u32)>, mode: u32, text: &str) -> Result<(), String> {
    let told = |e: std::io::Error| format!("cannot write {}: {e}", draft.display());
    // Secrets: nobody else may read it, not even for a moment.
    let options = OpenOptions::new().write(true).create_new(true).mode(0o600).open(draft);
    let mut file = options.map_err(told)?;
    let new = file.metadata().map_err(told)?;
    if let Some((uid, gid)) = owner.filter(|owner| *owner != (new.uid(), new.gid())) {
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
        fchown(&file, Some(uid), Some(gid))
            .map_err(std::io::Error::from)
            .map_err(|e| format!("cannot keep the owner of the file: {e}; run it as root"))?;
    }
    file.set_permissions(fs::Permissions::from_mode(mode)).map_err(told)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(told)
}

/// A name of our own in the same folder, so that it can be renamed.
fn draft_beside(path: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}.new", std::process::id()));
    path.with_file_name(name)
}

//! Replaces files that contain secrets. At every moment the path names a complete file: the new
//! text is written to a temporary file beside it, which is then renamed.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::unistd::{Gid, Uid, fchown};

use crate::config::load;

/// Why a file was not read or replaced.
#[derive(Debug)]
pub(super) enum FileError {
    Io(io::Error),
    NotRegular,
    NotUtf8,
    /// The file has changed since it was read.
    Changed,
    /// The temporary file cannot be written.
    Write(PathBuf, io::Error),
    /// The file is a mount point and cannot be written over. The path has the new text.
    InPlace(PathBuf, io::Error),
    /// The new file cannot get the owner of the old one.
    Owner(io::Error),
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(e) => e.fmt(f),
            Self::NotRegular => f.write_str("not a regular file, so it cannot be replaced"),
            Self::NotUtf8 => f.write_str("not UTF-8; save the file as UTF-8"),
            Self::Changed => {
                f.write_str("another program changed the file in the meantime; try again")
            }
            Self::Write(path, e) => {
                write!(f, "cannot write {}: {e}", path.display())?;
                match e.kind() {
                    io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => f
                        .write_str(
                            "; run the command as the owner of the folder. In a container, mount \
                             the folder of the file, writable, instead of the file alone",
                        ),
                    _ => Ok(()),
                }
            }
            Self::InPlace(copy, e) => write!(
                f,
                "mounted on its own, and cannot be written: {e}; the new text is in {}: copy it \
                 on the host, or mount the folder of the file, writable",
                copy.display()
            ),
            Self::Owner(e) => {
                write!(f, "cannot keep the owner of the file: {e}; run the command as root")
            }
        }
    }
}

impl From<io::Error> for FileError {
    fn from(e: io::Error) -> Self {
        Self::Io(e)
    }
}

/// The text of a regular file.
pub(super) fn read(path: &Path) -> Result<String, FileError> {
    if !fs::metadata(path)?.is_file() {
        return Err(FileError::NotRegular);
    }
    String::from_utf8(load::read(path)?).map_err(|_| FileError::NotUtf8)
}

/// Replaces the text `before` of a file by `after`, and keeps owner and mode. A symbolic link
/// remains; its target is replaced.
pub(super) fn replace(path: &Path, before: &str, after: &str) -> Result<(), FileError> {
    let path = fs::canonicalize(path)?;
    let temporary = temporary_beside(&path);
    let old = fs::metadata(&path)?;
    let owner = Some((old.uid(), old.gid()));
    let outcome = write(&temporary, owner, old.mode() & 0o7777, after).and_then(|()| {
        // Narrows the window in which a concurrent edit is lost; without a lock it cannot close.
        match read(&path)? == before {
            true => match fs::rename(&temporary, &path) {
                // A file that is a mount point, as in a container, cannot be replaced.
                Err(e) if e.kind() == io::ErrorKind::ResourceBusy => {
                    write_in_place(&path, &temporary, after)
                }
                renamed => renamed.map_err(FileError::Io),
            },
            false => Err(FileError::Changed),
        }
    });
    match &outcome {
        // Without this the rename may be lost in a power failure.
        Ok(()) => drop(path.parent().map(|directory| File::open(directory)?.sync_all())),
        // The temporary file is all that is left of the edit.
        Err(FileError::InPlace(..)) => {}
        Err(_) => drop(fs::remove_file(&temporary)),
    }
    outcome
}

/// Writes over a file that cannot be replaced. `copy` has the new text until the write is complete.
fn write_in_place(path: &Path, copy: &Path, text: &str) -> Result<(), FileError> {
    let write = || {
        let mut file = OpenOptions::new().write(true).open(path)?;
        file.write_all(text.as_bytes())?;
        file.set_len(text.len() as u64)?;
        file.sync_all()
    };
    write().map_err(|e| FileError::InPlace(copy.to_path_buf(), e))?;
    let _ = fs::remove_file(copy);
    Ok(())
}

/// Creates a file, or replaces it unless it already has this text. Others cannot read it, its group
/// can if it could before. Run by root, the file gets the owner of the old file or of the
/// directory: the proxy that reads it may have dropped its privileges.
pub(super) fn put(path: &Path, text: &str) -> Result<(), FileError> {
    let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty());
    let (owner_of, mode) = match fs::symlink_metadata(path) {
        Ok(old) if old.is_file() => {
            let mode = old.mode() & 0o640 | 0o600;
            let is_same = load::read(path).is_ok_and(|bytes| bytes == text.as_bytes());
            if is_same && old.mode() & 0o777 == mode {
                return Ok(());
            }
            (old, mode)
        }
        Ok(_) => return Err(FileError::NotRegular),
        Err(_) => (fs::metadata(directory.unwrap_or(Path::new(".")))?, 0o600),
    };
    let owner = Uid::effective().is_root().then_some((owner_of.uid(), owner_of.gid()));
    let temporary = temporary_beside(path);
    // Left by a killed process that had our process ID.
    let _ = fs::remove_file(&temporary);
    let outcome = write(&temporary, owner, mode, text)
        .and_then(|()| fs::rename(&temporary, path).map_err(FileError::Io));
    if outcome.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    outcome
}

/// Writes a new file. `owner` is (uid, gid); `None` keeps that of the process.
fn write(path: &Path, owner: Option<(u32, u32)>, mode: u32, text: &str) -> Result<(), FileError> {
    let failed = |e: io::Error| FileError::Write(path.to_path_buf(), e);
    // Private from the first moment: `mode` is set only after the owner is right.
    let options = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let mut file = options.map_err(failed)?;
    let new = file.metadata().map_err(failed)?;
    if let Some((uid, gid)) = owner.filter(|owner| *owner != (new.uid(), new.gid())) {
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
        fchown(&file, Some(uid), Some(gid)).map_err(|e| FileError::Owner(e.into()))?;
    }
    file.set_permissions(fs::Permissions::from_mode(mode)).map_err(failed)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)
}

/// In the same directory, since a rename cannot cross file systems.
fn temporary_beside(path: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}.new", std::process::id()));
    path.with_file_name(name)
}

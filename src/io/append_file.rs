//! A small file that is only appended to. It is locked against other processes, an append that
//! fails leaves no partial data, and a replacement is atomic.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, Metadata, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;

/// An open, locked file and its length.
pub struct AppendFile {
    file: File,
    path: PathBuf,
    length: u64,
}

impl AppendFile {
    /// Opens a file of at most `max` bytes and returns its contents. Creates the file (mode 0600)
    /// and its directories (mode 0700) if they do not exist.
    ///
    /// # Errors
    /// `WouldBlock` if another process has locked it, `FileTooLarge`, `InvalidInput` if it is not a
    /// regular file, or the system's error.
    pub fn open(path: &Path, max: u64) -> io::Result<(Self, Vec<u8>)> {
        // `replace` must replace the target of a symbolic link, not the link.
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        if let Some(folder) = path.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        for _ in 0..LOCK_TRIES {
            let file = options().read(true).append(true).create(true).mode(0o600).open(&path)?;
            lock(&file)?;
            let found = file.metadata()?;
            // The process that held the lock may have replaced the file meanwhile.
            if fs::metadata(&path).is_ok_and(|there| is_same(&there, &found)) {
                let bytes = read(&file, &found, max)?;
                let length = bytes.len() as u64;
                return Ok((Self { file, path, length }, bytes));
            }
        }
        Err(ErrorKind::WouldBlock.into())
    }

    /// Reads a file as [`AppendFile::open`] does, but creates and keeps nothing.
    ///
    /// # Errors
    /// As [`AppendFile::open`].
    pub fn read(path: &Path, max: u64) -> io::Result<Vec<u8>> {
        let file = options().read(true).open(path)?;
        lock(&file)?;
        let found = file.metadata()?;
        read(&file, &found, max)
    }

    /// Length of the file in bytes.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Whether the path still refers to this file, and its length is the expected one.
    pub fn is_in_place(&self) -> bool {
        let (there, own) = (fs::metadata(&self.path), self.file.metadata());
        let (Ok(there), Ok(own)) = (there, own) else { return false };
        is_same(&there, &own) && own.len() == self.length
    }

    /// Appends bytes with one write(2). After a partial write, removes what was written.
    ///
    /// Does not wait for the disk: on flash a sync may take a second, during which no connection
    /// would be served. A power cut loses at most the unsynced bytes.
    ///
    /// # Errors
    /// `StorageFull` after a partial write, or the system's error.
    pub fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self.file.write(bytes) {
            Ok(count) if count == bytes.len() => {
                self.length += count as u64;
                Ok(())
            }
            outcome => {
                self.truncate(self.length)?;
                Err(outcome.err().unwrap_or_else(|| ErrorKind::StorageFull.into()))
            }
        }
    }

    /// Truncates the file to `length` bytes.
    ///
    /// # Errors
    /// The system's error.
    pub fn truncate(&mut self, length: u64) -> io::Result<()> {
        self.file.set_len(length)?;
        self.length = length;
        Ok(())
    }

    /// Replaces the contents atomically: writes a new file in the same directory, syncs it and
    /// renames it.
    ///
    /// # Errors
    /// The system's error; the old file is unchanged then.
    pub fn replace(&mut self, bytes: &[u8]) -> io::Result<()> {
        let temporary = with_suffix(&self.path, ".new");
        let outcome = write_temporary(&temporary, bytes).and_then(|file| {
            fs::rename(&temporary, &self.path)?;
            Ok(file)
        });
        if outcome.is_err() {
            // Best effort: the next replacement removes the file too.
            let _ = fs::remove_file(&temporary);
        }
        self.file = outcome?;
        self.length = bytes.len() as u64;
        Ok(())
    }

    /// Waits until the contents are on the disk.
    ///
    /// # Errors
    /// The system's error.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

/// Renames a damaged file by appending `.bad`; returns the new path.
///
/// # Errors
/// The system's error.
pub fn set_aside(path: &Path) -> io::Result<PathBuf> {
    let path = fs::canonicalize(path)?;
    let aside = with_suffix(&path, ".bad");
    fs::rename(&path, &aside)?;
    Ok(aside)
}

/// Writes a new file and locks it before it gets its final name.
fn write_temporary(path: &Path, bytes: &[u8]) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let mut file = options().read(true).append(true).create_new(true).mode(0o600).open(path)?;
    lock(&file)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    Ok(file)
}

fn lock(file: &File) -> io::Result<()> {
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => Err(ErrorKind::WouldBlock.into()),
        // On a file system without locks, only the operator can prevent a second process.
        Ok(()) | Err(TryLockError::Error(_)) => Ok(()),
    }
}

fn read(file: &File, found: &Metadata, max: u64) -> io::Result<Vec<u8>> {
    if !found.is_file() {
        return Err(ErrorKind::InvalidInput.into());
    }
    let mut bytes = Vec::new();
    file.take(max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max { Err(ErrorKind::FileTooLarge.into()) } else { Ok(bytes) }
}

/// Non-blocking, since opening a FIFO without a writer would block.
fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.custom_flags(OFlag::O_NONBLOCK.bits());
    options
}

fn is_same(one: &Metadata, other: &Metadata) -> bool {
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

/// The path with more characters at its end.
pub(super) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

/// The holder of the lock replaces the file once in days, so more tries are not needed.
const LOCK_TRIES: usize = 3;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir();
            let path = path.join(format!("mtbox-append-{}-{name}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_file_is_created_appended_truncated_and_replaced() {
        let folder = Folder::new("grows");
        let path = folder.0.join("deeper/state");
        let (mut file, bytes) = AppendFile::open(&path, 100).unwrap();
        assert!(bytes.is_empty() && file.is_in_place());
        file.append(b"one").unwrap();
        file.append(b"two").unwrap();
        file.truncate(4).unwrap();
        file.append(b"hree").unwrap();
        assert_eq!((fs::read(&path).unwrap().as_slice(), file.length()), (&b"onethree"[..], 8));
        file.replace(b"new").unwrap();
        file.append(b"er").unwrap();
        file.sync().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"newer");
        assert!(file.is_in_place());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(
            fs::read_dir(path.parent().unwrap()).unwrap().count(),
            1,
            "no temporary file is left"
        );
        drop(file);
        assert_eq!(AppendFile::open(&path, 5).unwrap().1, b"newer");
        let too_large = AppendFile::open(&path, 4).err().unwrap();
        assert_eq!(too_large.kind(), ErrorKind::FileTooLarge);
    }

    #[test]
    fn the_lock_holds_before_and_after_a_replacement() {
        let folder = Folder::new("lock");
        let path = folder.0.join("state");
        let refused = || {
            let kinds = [
                AppendFile::open(&path, 100).err().map(|e| e.kind()),
                AppendFile::read(&path, 100).err().map(|e| e.kind()),
            ];
            kinds == [Some(ErrorKind::WouldBlock); 2]
        };
        let (mut file, _) = AppendFile::open(&path, 100).unwrap();
        assert!(refused());
        file.replace(b"new").unwrap();
        assert!(refused());
        drop(file);
        assert_eq!(AppendFile::read(&path, 100).unwrap(), b"new");
        assert!(AppendFile::open(&path, 100).is_ok());
    }

    #[test]
    fn a_file_changed_by_another_process_is_detected() {
        let folder = Folder::new("touched");
        let path = folder.0.join("state");
        let (mut file, _) = AppendFile::open(&path, 100).unwrap();
        file.append(b"ours").unwrap();
        fs::write(&path, b"theirs, too").unwrap();
        assert!(!file.is_in_place(), "another length");
        file.truncate(4).unwrap();
        assert!(file.is_in_place());
        assert_eq!(set_aside(&path).unwrap(), folder.0.join("state.bad"));
        assert!(!file.is_in_place(), "gone");
        fs::write(&path, b"four").unwrap();
        assert!(!file.is_in_place(), "another file");
    }

    #[test]
    fn links_are_followed_and_other_file_types_are_refused() {
        let folder = Folder::new("links");
        let (path, link) = (folder.0.join("state"), folder.0.join("link"));
        fs::write(&path, b"old").unwrap();
        symlink(&path, &link).unwrap();
        let (mut file, _) = AppendFile::open(&link, 100).unwrap();
        file.replace(b"new").unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert!(AppendFile::open(&folder.0, 100).is_err(), "a folder");
        assert!(AppendFile::open(Path::new("/dev/null"), 100).is_err(), "a device");
        assert!(AppendFile::open(&path.join("deeper"), 100).is_err(), "below a file");
    }
}

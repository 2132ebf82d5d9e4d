//! A small file of our own that grows at its end: locked, so that nobody else writes to it, never
//! left with a torn middle, and replaced whole or not at all.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, Metadata, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;

/// An open file and how long it is.
pub struct AppendFile {
    file: File,
    path: PathBuf,
    length: u64,
}

impl AppendFile {
    /// Opens a file of at most `most` bytes and gives back what is in it. One that is not there is
    /// made, readable by us alone, and so are folders on the way to it.
    ///
    /// # Errors
    /// `WouldBlock` when another process has it, `FileTooLarge`, `InvalidInput` when it is no
    /// ordinary file; what the system says.
    pub fn open(path: &Path, most: u64) -> io::Result<(Self, Vec<u8>)> {
        // A link stays what it is: the file that it leads to is replaced.
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        if let Some(folder) = path.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        for _ in 0..LOCK_TRIES {
            let file = options().read(true).append(true).create(true).mode(0o600).open(&path)?;
            lock(&file)?;
            let found = file.metadata()?;
            // Who had it until now may have put another file in its place.
            if fs::metadata(&path).is_ok_and(|there| is_same(&there, &found)) {
                let bytes = read(&file, &found, most)?;
                let length = bytes.len() as u64;
                return Ok((Self { file, path, length }, bytes));
            }
        }
        Err(ErrorKind::WouldBlock.into())
    }

    /// Only reads a file, as [`AppendFile::open`] does, where it cannot be written to.
    ///
    /// # Errors
    /// The same.
    pub fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
        let file = options().read(true).open(path)?;
        lock(&file)?;
        let found = file.metadata()?;
        read(&file, &found, most)
    }

    /// Bytes in it.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Whether the path still leads to this file, and nobody else has written to it.
    pub fn is_in_place(&self) -> bool {
        let (there, own) = (fs::metadata(&self.path), self.file.metadata());
        let (Ok(there), Ok(own)) = (there, own) else { return false };
        is_same(&there, &own) && own.len() == self.length
    }

    /// Adds bytes with one call. When not all of them find a place, none stays.
    ///
    /// It is not waited until they are on the disk: that may take a second on flash, during which
    /// nobody would be served, and a power cut costs no more than what was not written yet.
    ///
    /// # Errors
    /// `StorageFull` when only some fit; what the system says.
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

    /// Shortens it.
    ///
    /// # Errors
    /// What the system says.
    pub fn truncate(&mut self, length: u64) -> io::Result<()> {
        self.file.set_len(length)?;
        self.length = length;
        Ok(())
    }

    /// Writes another file beside it, waits until it is on the disk, and puts it in its place.
    ///
    /// # Errors
    /// What the system says; the file is as it was.
    pub fn replace(&mut self, bytes: &[u8]) -> io::Result<()> {
        let draft = beside(&self.path, ".new");
        let outcome = write_draft(&draft, bytes).and_then(|file| {
            fs::rename(&draft, &self.path)?;
            Ok(file)
        });
        if outcome.is_err() {
            // It is nobody else's; if it cannot even be removed there is no more to do.
            let _ = fs::remove_file(&draft);
        }
        self.file = outcome?;
        self.length = bytes.len() as u64;
        Ok(())
    }

    /// Waits until all of it is on the disk.
    ///
    /// # Errors
    /// What the system says.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

/// Renames a file that is of no use to us, with `.bad` at the end, and says how it is called then.
///
/// # Errors
/// What the system says.
pub fn set_aside(path: &Path) -> io::Result<PathBuf> {
    let path = fs::canonicalize(path)?;
    let aside = beside(&path, ".bad");
    fs::rename(&path, &aside)?;
    Ok(aside)
}

/// A new file, which is ours before anybody can find it under the old name.
fn write_draft(draft: &Path, bytes: &[u8]) -> io::Result<File> {
    match fs::remove_file(draft) {
        Err(e) if e.kind() != ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let mut file = options().read(true).append(true).create_new(true).mode(0o600).open(draft)?;
    lock(&file)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    Ok(file)
}

fn lock(file: &File) -> io::Result<()> {
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => Err(ErrorKind::WouldBlock.into()),
        // A filesystem without locks: it is up to the operator not to start two of us.
        Ok(()) | Err(TryLockError::Error(_)) => Ok(()),
    }
}

fn read(file: &File, found: &Metadata, most: u64) -> io::Result<Vec<u8>> {
    if !found.is_file() {
        return Err(ErrorKind::InvalidInput.into());
    }
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most { Err(ErrorKind::FileTooLarge.into()) } else { Ok(bytes) }
}

/// A pipe without a writer must not hold us up.
fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.custom_flags(OFlag::O_NONBLOCK.bits());
    options
}

fn is_same(one: &Metadata, other: &Metadata) -> bool {
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(end);
    name.into()
}

/// Whoever has the file puts another one in its place once in days.
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
    fn a_file_is_made_grows_is_cut_and_replaced() {
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
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "no draft is left");
        drop(file);
        assert_eq!(AppendFile::open(&path, 5).unwrap().1, b"newer");
        let too_large = AppendFile::open(&path, 4).err().unwrap();
        assert_eq!(too_large.kind(), ErrorKind::FileTooLarge);
    }

    #[test]
    fn nobody_else_gets_it_before_or_after_it_was_replaced() {
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
    fn a_file_that_others_touched_is_noticed() {
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
    fn links_stay_and_what_is_no_file_is_refused() {
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

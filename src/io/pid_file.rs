//! The file with the process id, for other programs. It is written atomically, never through a
//! symbolic link, and removed only if it still has our process id.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process;

use nix::fcntl::OFlag;

use crate::io::append_file::with_suffix;
use crate::io::folder;

/// A file with the process id. Removes the file when it is dropped.
pub struct PidFile(PathBuf);

impl PidFile {
    /// Writes the file; replaces an existing one.
    ///
    /// # Errors
    /// The path is a symbolic link or another thing than a file; or the system's error.
    pub fn write(path: &Path) -> io::Result<Self> {
        check_is_file(path)?;
        let temporary = with_suffix(path, ".new");
        match fs::remove_file(&temporary) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).open(&temporary)?;
        let written = file.write_all(format!("{}\n", process::id()).as_bytes());
        written.and_then(|()| fs::rename(&temporary, path)).inspect_err(|_| {
            let _ = fs::remove_file(&temporary);
        })?;
        Ok(Self(path.to_owned()))
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        if read(&self.0) == Some(process::id()) {
            // Best effort: a stale file names a process that does not exist.
            let _ = fs::remove_file(&self.0);
        }
    }
}

/// The process id in a file that [`PidFile::write`] has written.
pub fn read(path: &Path) -> Option<u32> {
    // Another account may own the folder: a link is not followed, and a FIFO does not block.
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let mut file = OpenOptions::new().read(true).custom_flags(flags.bits()).open(path).ok()?;
    let mut text = [0; LENGTH_MAX];
    let length = file.read(&mut text).ok()?;
    std::str::from_utf8(text.get(..length)?).ok()?.trim().parse().ok()
}

/// Checks that this process can write the file, without writing it.
///
/// # Errors
/// As [`PidFile::write`].
pub fn check_writable(path: &Path) -> io::Result<()> {
    check_is_file(path).and_then(|()| folder::check_file_writable(path))
}

fn check_is_file(path: &Path) -> io::Result<()> {
    let why = match fs::symlink_metadata(path) {
        Ok(found) if found.is_symlink() => {
            "a symbolic link, which is not followed; remove it, or name the file that it leads to"
        }
        Ok(found) if !found.is_file() => "not a regular file",
        Ok(found) if found.len() > 0 && read(path).is_none() => {
            "a file without a process id, which is not overwritten; name another path"
        }
        _ => return Ok(()),
    };
    Err(io::Error::new(io::ErrorKind::InvalidInput, why))
}

/// Bytes that are read of a file, more than any process id has.
const LENGTH_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use nix::sys::stat::Mode;
    use nix::unistd::mkfifo;

    use super::*;

    #[test]
    fn links_and_other_things_than_files_are_refused_and_keep_their_content() {
        let folder = std::env::temp_dir().join(format!("mtbox-pid-links-{}", process::id()));
        fs::create_dir_all(&folder).unwrap();
        let (path, target) = (folder.join("mtbox.pid"), folder.join("precious"));
        fs::write(&target, "precious").unwrap();
        let error = || PidFile::write(&path).err().unwrap().to_string();
        for leads_to in [&target, &folder.join("none"), &folder] {
            symlink(leads_to, &path).unwrap();
            assert!(error().starts_with("a symbolic link"), "{}", error());
            assert!(check_writable(&path).is_err());
            fs::remove_file(&path).unwrap();
        }
        mkfifo(&path, Mode::S_IRWXU).unwrap();
        assert_eq!((error().as_str(), read(&path)), ("not a regular file", None));
        fs::remove_file(&path).unwrap();
        // A link in place of the temporary file.
        symlink(&target, folder.join("mtbox.pid.new")).unwrap();
        let file = PidFile::write(&path).unwrap();
        assert_eq!(read(&path), Some(process::id()));
        fs::remove_file(&path).unwrap();
        fs::write(&target, process::id().to_string()).unwrap();
        symlink(&target, &path).unwrap();
        drop(file);
        assert!(fs::symlink_metadata(&path).unwrap().is_symlink(), "not the file that was written");
        assert_eq!(fs::read_to_string(&target).unwrap(), process::id().to_string());
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 2, "no temporary file is left");
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn the_file_has_our_process_id_and_is_removed_unless_it_was_replaced() {
        let folder = std::env::temp_dir().join(format!("mtbox-pid-{}", process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("mtbox.pid");
        fs::write(&path, "1\n").unwrap();
        let file = PidFile::write(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{}\n", process::id()));
        drop(file);
        assert!(!path.exists());
        let file = PidFile::write(&path).unwrap();
        fs::write(&path, "1\n").unwrap();
        drop(file);
        assert_eq!(fs::read_to_string(&path).unwrap(), "1\n", "it belongs to another process");
        assert!(PidFile::write(&folder.join("none/mtbox.pid")).is_err());
        fs::remove_dir_all(&folder).unwrap();
    }
}

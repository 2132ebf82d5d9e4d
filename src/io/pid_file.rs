//! The file with the process id, for other programs. It is written atomically, and removed only if
//! it still has our process id.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process;

/// A file with the process id. Removes the file when it is dropped.
pub struct PidFile(PathBuf);

impl PidFile {
    /// Writes the file; replaces an existing one.
    ///
    /// # Errors
    /// The system's error.
    pub fn write(path: &Path) -> io::Result<Self> {
        let temporary = path.with_extension("new");
        fs::write(&temporary, format!("{}\n", process::id()))?;
        fs::rename(&temporary, path).inspect_err(|_| {
            let _ = fs::remove_file(&temporary);
        })?;
        Ok(Self(path.to_owned()))
    }

    /// The path of the file.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        let is_ours = fs::read_to_string(&self.0).is_ok_and(|text| is_own(&text));
        if is_ours {
            // Best effort: a stale file names a process that does not exist.
            let _ = fs::remove_file(&self.0);
        }
    }
}

fn is_own(text: &str) -> bool {
    text.trim().parse() == Ok(process::id())
}

#[cfg(test)]
mod tests {
    use super::*;

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

//! The file with our process number, by which other programs find us. Written whole or not at
//! all, and removed only while it is still ours.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process;

/// A file that holds our number until it is dropped.
pub struct PidFile(PathBuf);

impl PidFile {
    /// Writes the file, over that of a process that is gone.
    ///
    /// # Errors
    /// What the system says.
    pub fn write(path: &Path) -> io::Result<Self> {
        let draft = path.with_extension("new");
        fs::write(&draft, format!("{}\n", process::id()))?;
        fs::rename(&draft, path).inspect_err(|_| {
            let _ = fs::remove_file(&draft);
        })?;
        Ok(Self(path.to_owned()))
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        let is_ours = fs::read_to_string(&self.0).is_ok_and(|text| is_own(&text));
        if is_ours {
            // Whoever finds it later sees that nobody has the number.
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
    fn the_file_holds_our_number_and_goes_with_us_unless_another_took_it() {
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
        assert_eq!(fs::read_to_string(&path).unwrap(), "1\n", "it is another's");
        assert!(PidFile::write(&folder.join("none/mtbox.pid")).is_err());
        fs::remove_dir_all(&folder).unwrap();
    }
}

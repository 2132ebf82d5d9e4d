//! Permission checks for files and directories that change nothing.

use std::io;
use std::path::Path;

use nix::unistd::{AccessFlags, access};

/// Checks that this process can create files in a directory, or create the directory if it does not
/// exist.
///
/// # Errors
/// No permission, a read-only file system, or a path that is not a directory.
pub fn check_folder_writable(folder: &Path) -> io::Result<()> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let existing = folder.ancestors().find(|path| path.symlink_metadata().is_ok());
    let existing = existing.filter(|path| !path.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !existing.is_dir() {
        return Err(io::Error::new(io::ErrorKind::NotADirectory, "not a directory"));
    }
    access(existing, AccessFlags::W_OK | AccessFlags::X_OK).map_err(io::Error::from)
}

/// Checks that this process can write a file in an existing directory. If the file exists, it must
/// be writable.
///
/// # Errors
/// As [`check_folder_writable`]; also if the directory does not exist.
pub fn check_file_writable(file: &Path) -> io::Result<()> {
    if file.is_dir() {
        return Err(io::Error::new(io::ErrorKind::IsADirectory, "a directory, not a file"));
    }
    if file.exists() {
        access(file, AccessFlags::W_OK)?;
    }
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    folder.metadata()?;
    check_folder_writable(folder)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_missing_folder_is_checked_by_its_nearest_existing_parent() {
        let home = std::env::temp_dir().join(format!("mtbox-folder-{}", std::process::id()));
        fs::create_dir_all(&home).unwrap();
        check_folder_writable(&home).unwrap();
        check_folder_writable(&home.join("a/b/c")).unwrap();
        check_folder_writable(Path::new("")).unwrap();
        check_file_writable(&home.join("new")).unwrap();
        check_file_writable(Path::new("new")).unwrap();
        fs::write(home.join("file"), "x").unwrap();
        check_file_writable(&home.join("file")).unwrap();
        assert!(
            check_folder_writable(&home.join("file")).is_err()
                && check_folder_writable(&home.join("file/x")).is_err()
        );
        assert!(
            check_file_writable(&home).is_err()
                && check_file_writable(&home.join("none/new")).is_err()
        );
        fs::remove_dir_all(&home).unwrap();
    }
}

//! What may be done with files and folders, found out without changing any.

use std::io;
use std::path::Path;

use nix::unistd::{AccessFlags, access};

/// Whether this process could make files in a folder, or make the folder itself where it is not
/// there yet.
///
/// # Errors
/// Why not: no permission, a read-only file system, something that is no folder.
pub fn check_folder_writable(folder: &Path) -> io::Result<()> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let there = folder.ancestors().find(|path| path.symlink_metadata().is_ok());
    let there = there.filter(|path| !path.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !there.is_dir() {
        return Err(io::Error::new(io::ErrorKind::NotADirectory, "not a folder"));
    }
    access(there, AccessFlags::W_OK | AccessFlags::X_OK).map_err(io::Error::from)
}

/// Whether this process could write one file, in a folder that is there. If the file is there
/// too, it must be one that can be written.
///
/// # Errors
/// As [`check_folder_writable`]; the folder is missing.
pub fn check_file_writable(file: &Path) -> io::Result<()> {
    if file.is_dir() {
        return Err(io::Error::new(io::ErrorKind::IsADirectory, "a folder, not a file"));
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
    fn a_folder_that_is_not_there_is_judged_by_the_one_around_it() {
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

//! Listening Unix sockets, for the admin pages.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use mio::net::{UnixListener, UnixStream};

use crate::io::listen::{self, AcceptError};

/// A Unix listener. Removes its socket file when it is dropped.
pub struct UnixSocketListener {
    inner: UnixListener,
    path: PathBuf,
    /// Inode of the socket file, to remove only our own.
    inode: u64,
}

impl UnixSocketListener {
    /// Listens with mode 0660 (owner and group). Replaces the socket file of a dead process, and
    /// nothing else.
    ///
    /// # Errors
    /// Another process listens on the path, the path is not a socket, or the directory is not
    /// writable. The text names the path.
    pub fn bind(path: &Path) -> io::Result<Self> {
        let named = |e: io::Error| {
            io::Error::new(e.kind(), format!("cannot listen on unix:{}: {e}", path.display()))
        };
        remove_stale_socket(path).map_err(named)?;
        let inner = UnixListener::bind(path).map_err(named)?;
        fs::set_permissions(path, fs::Permissions::from_mode(MODE)).map_err(named)?;
        let inode = fs::symlink_metadata(path).map_err(named)?.ino();
        Ok(Self { inner, path: path.to_owned(), inode })
    }

    /// The socket, for a poller.
    pub(super) fn source(&mut self) -> &mut UnixListener {
        &mut self.inner
    }

    /// Accepts the next connection; `None` = no connection is pending.
    ///
    /// # Errors
    /// See [`AcceptError`].
    pub fn accept(&mut self) -> Result<Option<UnixStream>, AcceptError> {
        match self.inner.accept() {
            Ok((stream, _)) => Ok(Some(stream)),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(e) => Err(listen::accept_error(e)),
        }
    }
}

impl Drop for UnixSocketListener {
    fn drop(&mut self) {
        let is_ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|found| found.file_type().is_socket() && found.ino() == self.inode);
        if is_ours {
            // If this fails, the next process that listens on the path removes the file.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Removes a socket file that no process listens on.
fn remove_stale_socket(path: &Path) -> io::Result<()> {
    let found = match fs::symlink_metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => found?,
    };
    if !found.file_type().is_socket() {
        return Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "the file exists and is not a socket",
        ));
    }
    match UnixStream::connect(path) {
        Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(e) if e.kind() != io::ErrorKind::WouldBlock => Err(e),
        _ => Err(io::Error::new(io::ErrorKind::AddrInUse, "another program listens there")),
    }
}

/// Access for the owner and the group.
const MODE: u32 = 0o660;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_socket_is_replaced_and_nothing_else_is() {
        let folder = std::env::temp_dir().join(format!("mtbox-admin-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("s");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "the standard library does not remove the file");
        let first = UnixSocketListener::bind(&path).unwrap();
        let mode = fs::metadata(&path).unwrap().mode() & 0o777;
        assert_eq!(mode, MODE);
        let second = UnixSocketListener::bind(&path).err().unwrap();
        assert_eq!(second.kind(), io::ErrorKind::AddrInUse);
        drop(first);
        assert!(!path.exists());
        fs::write(&path, "precious").unwrap();
        assert_eq!(
            UnixSocketListener::bind(&path).err().unwrap().kind(),
            io::ErrorKind::AlreadyExists
        );
        assert_eq!(fs::read(&path).unwrap(), b"precious");
        assert!(UnixSocketListener::bind(&folder.join("none/s")).is_err());
        fs::remove_dir_all(&folder).unwrap();
    }
}

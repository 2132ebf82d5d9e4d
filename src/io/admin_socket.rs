//! Listening sockets for the admin interface: a TCP address or a Unix socket, and the connections
//! accepted on them.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use mio::net::{TcpStream, UnixListener, UnixStream};
use mio::{Interest, Registry, Token};

use crate::io::listen::{self, AcceptError, ListenOptions, Listener};

/// A listening socket of either kind.
pub enum AdminSocket {
    /// A TCP listener.
    Tcp(Listener),
    /// A Unix socket in the file system.
    Unix(UnixAdminSocket),
}

/// A Unix listener. Removes its socket file when it is dropped.
pub struct UnixAdminSocket {
    inner: UnixListener,
    path: PathBuf,
    /// Inode of the socket file, to remove only our own.
    inode: u64,
}

impl AdminSocket {
    /// Listens on a TCP address.
    ///
    /// # Errors
    /// The system's error; its text names the address.
    pub fn tcp(addr: SocketAddr) -> io::Result<Self> {
        let binds = listen::plan(&[addr], ListenOptions::default());
        let listener = binds.into_iter().map(Listener::bind).next();
        listener.unwrap_or(Err(io::ErrorKind::InvalidInput.into())).map(Self::Tcp)
    }

    /// Listens on a Unix socket with mode 0660 (owner and group). Replaces the socket file of a
    /// dead process, and nothing else.
    ///
    /// # Errors
    /// Another process listens on the path, the path is not a socket, or the directory is not
    /// writable. The text names the path.
    pub fn unix(path: &Path) -> io::Result<Self> {
        let named = |e: io::Error| {
            io::Error::new(e.kind(), format!("cannot listen on unix:{}: {e}", path.display()))
        };
        remove_stale_socket(path).map_err(named)?;
        let inner = UnixListener::bind(path).map_err(named)?;
        fs::set_permissions(path, fs::Permissions::from_mode(MODE)).map_err(named)?;
        let inode = fs::symlink_metadata(path).map_err(named)?.ino();
        Ok(Self::Unix(UnixAdminSocket { inner, path: path.to_owned(), inode }))
    }

    /// Registers for readiness events with `token`.
    ///
    /// # Errors
    /// The poller's error.
    pub fn register(&mut self, registry: &Registry, token: usize) -> io::Result<()> {
        match self {
            Self::Tcp(listener) => listener.register(registry, token),
            Self::Unix(socket) => {
                registry.register(&mut socket.inner, Token(token), Interest::READABLE)
            }
        }
    }

    /// Accepts the next connection; `None` = no connection is pending.
    ///
    /// # Errors
    /// See [`AcceptError`].
    pub fn accept(&mut self) -> Result<Option<AdminStream>, AcceptError> {
        match self {
            Self::Tcp(listener) => {
                Ok(listener.accept()?.map(|(wire, _)| AdminStream::Tcp(wire.into_stream())))
            }
            Self::Unix(socket) => match socket.inner.accept() {
                Ok((stream, _)) => Ok(Some(AdminStream::Unix(stream))),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(None),
                Err(e) => Err(listen::accept_error(e)),
            },
        }
    }
}

impl Drop for UnixAdminSocket {
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

/// A connection of either kind.
pub enum AdminStream {
    /// Over TCP.
    Tcp(TcpStream),
    /// Over a Unix socket.
    Unix(UnixStream),
}

impl AdminStream {
    /// Registers for readiness events with `token`.
    ///
    /// # Errors
    /// The poller's error.
    pub fn register(&mut self, registry: &Registry, token: usize) -> io::Result<()> {
        let interest = Interest::READABLE | Interest::WRITABLE;
        match self {
            Self::Tcp(stream) => registry.register(stream, Token(token), interest),
            Self::Unix(stream) => registry.register(stream, Token(token), interest),
        }
    }

    /// Shuts the sending direction down (shutdown(2)).
    ///
    /// # Errors
    /// The connection is closed already.
    pub fn shutdown_write(&self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Self::Unix(stream) => stream.shutdown(Shutdown::Write),
        }
    }
}

impl Read for AdminStream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(into),
            Self::Unix(stream) => stream.read(into),
        }
    }
}

impl Write for AdminStream {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(from),
            Self::Unix(stream) => stream.write(from),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
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
        let first = AdminSocket::unix(&path).unwrap();
        let mode = fs::metadata(&path).unwrap().mode() & 0o777;
        assert_eq!(mode, MODE);
        let second = AdminSocket::unix(&path).err().unwrap();
        assert_eq!(second.kind(), io::ErrorKind::AddrInUse);
        drop(first);
        assert!(!path.exists());
        fs::write(&path, "precious").unwrap();
        assert_eq!(AdminSocket::unix(&path).err().unwrap().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"precious");
        assert!(AdminSocket::unix(&folder.join("none/s")).is_err());
        fs::remove_dir_all(&folder).unwrap();
    }
}

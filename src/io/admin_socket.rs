//! Where the operator's own programs knock: an address or a Unix socket, and the connections that
//! come of either. What is said there is no concern of this file.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use mio::net::{TcpStream, UnixListener, UnixStream};
use mio::{Interest, Registry, Token};

use crate::io::listen::{self, AcceptError, ListenOptions, Listener};

/// A listener of either kind.
pub enum AdminSocket {
    /// An address.
    Tcp(Listener),
    /// A path in the file system.
    Unix(UnixAdminSocket),
}

/// A Unix socket, whose file goes with it.
pub struct UnixAdminSocket {
    inner: UnixListener,
    path: PathBuf,
    /// By which we know our own file again.
    inode: u64,
}

impl AdminSocket {
    /// Listens on an address.
    ///
    /// # Errors
    /// The system's error, with the address in its text.
    pub fn tcp(addr: SocketAddr) -> io::Result<Self> {
        let binds = listen::plan(&[addr], ListenOptions::default());
        let listener = binds.into_iter().map(Listener::bind).next();
        listener.unwrap_or(Err(io::ErrorKind::InvalidInput.into())).map(Self::Tcp)
    }

    /// Listens on a Unix socket, for the owner and the group (mode 0660). A socket that a dead
    /// process has left there is replaced; anything else that is there stays.
    ///
    /// # Errors
    /// Somebody listens there, something else lies there, or the folder is not ours to write.
    pub fn unix(path: &Path) -> io::Result<Self> {
        let told = |e: io::Error| {
            io::Error::new(e.kind(), format!("cannot listen on unix:{}: {e}", path.display()))
        };
        make_room(path).map_err(told)?;
        let inner = UnixListener::bind(path).map_err(told)?;
        fs::set_permissions(path, fs::Permissions::from_mode(MODE)).map_err(told)?;
        let inode = fs::symlink_metadata(path).map_err(told)?.ino();
        Ok(Self::Unix(UnixAdminSocket { inner, path: path.to_owned(), inode }))
    }

    /// Events come with `token`.
    ///
    /// # Errors
    /// When the poller refuses it.
    pub fn register(&mut self, registry: &Registry, token: usize) -> io::Result<()> {
        match self {
            Self::Tcp(listener) => listener.register(registry, token),
            Self::Unix(desk) => {
                registry.register(&mut desk.inner, Token(token), Interest::READABLE)
            }
        }
    }

    /// The next visitor; `None` = nobody waits.
    ///
    /// # Errors
    /// See [`AcceptError`].
    pub fn accept(&mut self) -> Result<Option<AdminStream>, AcceptError> {
        match self {
            Self::Tcp(listener) => {
                Ok(listener.accept()?.map(|(wire, _)| AdminStream::Tcp(wire.into_stream())))
            }
            Self::Unix(desk) => match desk.inner.accept() {
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
            // The next one to listen there removes what is left.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Removes a socket that nobody listens on.
fn make_room(path: &Path) -> io::Result<()> {
    let found = match fs::symlink_metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => found?,
    };
    if !found.file_type().is_socket() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is a file of that name"));
    }
    match UnixStream::connect(path) {
        Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(e) if e.kind() != io::ErrorKind::WouldBlock => Err(e),
        _ => Err(io::Error::new(io::ErrorKind::AddrInUse, "another program listens there")),
    }
}

/// A connection of either kind.
pub enum AdminStream {
    /// Over an address.
    Tcp(TcpStream),
    /// Over a Unix socket.
    Unix(UnixStream),
}

impl AdminStream {
    /// Events come with `token`.
    ///
    /// # Errors
    /// When the poller refuses it.
    pub fn register(&mut self, registry: &Registry, token: usize) -> io::Result<()> {
        let interest = Interest::READABLE | Interest::WRITABLE;
        match self {
            Self::Tcp(stream) => registry.register(stream, Token(token), interest),
            Self::Unix(stream) => registry.register(stream, Token(token), interest),
        }
    }

    /// Sends our FIN.
    ///
    /// # Errors
    /// When the connection is gone already.
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

/// The owner and the group may ask.
const MODE: u32 = 0o660;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_left_socket_is_replaced_and_nothing_else_is() {
        let folder = std::env::temp_dir().join(format!("mtbox-desk-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("s");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "a listener of the standard library leaves its file");
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

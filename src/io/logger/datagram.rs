//! Client of a log daemon's Unix datagram socket. Sending never blocks. After a restart of the
//! daemon, which creates another socket at the same path, the next message reconnects.

use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;

/// Connection to a log daemon.
pub struct Datagram {
    path: PathBuf,
    socket: Option<UnixDatagram>,
}

impl Datagram {
    /// A client for the socket at `path`, which need not exist yet.
    pub fn new(path: PathBuf) -> Self {
        Self { path, socket: None }
    }

    /// Connects unless connected already.
    ///
    /// # Errors
    /// The system's error, mostly that no daemon listens at the path.
    pub fn connect(&mut self) -> io::Result<()> {
        if self.socket.is_none() {
            let socket = UnixDatagram::unbound()?;
            socket.set_nonblocking(true)?;
            socket.connect(&self.path)?;
            self.socket = Some(socket);
        }
        Ok(())
    }

    /// Sends one message, completely or not at all.
    ///
    /// # Errors
    /// `WouldBlock` if the daemon does not keep up; otherwise as [`Datagram::connect`].
    pub fn send(&mut self, message: &[u8]) -> io::Result<()> {
        for is_last in [false, true] {
            self.connect()?;
            let sent = self.socket.as_ref().map_or(Ok(0), |socket| socket.send(message));
            match sent {
                Ok(_) => return Ok(()),
                Err(e) if is_last || e.kind() == io::ErrorKind::WouldBlock => return Err(e),
                // The daemon has closed its socket: reconnect once.
                Err(_) => self.socket = None,
            }
        }
        Ok(())
    }

    /// The path of the socket.
    pub fn path(&self) -> &std::path::Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_restarted_daemon_is_reconnected_and_a_stopped_one_does_not_block() {
        let path = std::env::temp_dir().join(format!("mtbox-datagram-{}", std::process::id()));
        let _ = fs::remove_file(&path);
        let mut client = Datagram::new(path.clone());
        assert_eq!(client.send(b"lost").unwrap_err().kind(), io::ErrorKind::NotFound);
        for round in [b"one", b"two"] {
            let daemon = UnixDatagram::bind(&path).unwrap();
            client.send(round).unwrap();
            let mut seen = [0; 9];
            assert_eq!(daemon.recv(&mut seen).unwrap(), 3);
            assert_eq!(&seen[..3], round);
            drop(daemon);
            assert_eq!(client.send(b"lost").unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
            fs::remove_file(&path).unwrap();
        }
        let daemon = UnixDatagram::bind(&path).unwrap();
        let full = (0..100_000).find_map(|_| client.send(&[7; 1000]).err()).unwrap();
        assert_eq!(full.kind(), io::ErrorKind::WouldBlock);
        drop(daemon);
        fs::remove_file(&path).unwrap();
    }
}

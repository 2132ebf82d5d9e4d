//! The socket of a log daemon. Sending never waits, and a daemon that was restarted, and so has
//! another socket under the same name, is found again with the next line.

use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;

/// The way to a log daemon.
pub struct Datagram {
    path: PathBuf,
    socket: Option<UnixDatagram>,
}

impl Datagram {
    /// The daemon that listens at `path`, now or later.
    pub fn new(path: PathBuf) -> Self {
        Self { path, socket: None }
    }

    /// Connects, if that has not been done yet.
    ///
    /// # Errors
    /// The system's, mostly that nobody listens there.
    pub fn reach(&mut self) -> io::Result<()> {
        if self.socket.is_none() {
            let socket = UnixDatagram::unbound()?;
            socket.set_nonblocking(true)?;
            socket.connect(&self.path)?;
            self.socket = Some(socket);
        }
        Ok(())
    }

    /// Sends one message whole or not at all.
    ///
    /// # Errors
    /// `WouldBlock` from a daemon that does not keep up; otherwise as [`Datagram::reach`].
    pub fn send(&mut self, message: &[u8]) -> io::Result<()> {
        for is_last in [false, true] {
            self.reach()?;
            let sent = self.socket.as_ref().map_or(Ok(0), |socket| socket.send(message));
            match sent {
                Ok(_) => return Ok(()),
                Err(e) if is_last || e.kind() == io::ErrorKind::WouldBlock => return Err(e),
                // The one that we knew is gone.
                Err(_) => self.socket = None,
            }
        }
        Ok(())
    }

    /// Where it is.
    pub fn path(&self) -> &std::path::Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_daemon_that_is_restarted_is_found_again_and_one_that_sleeps_is_not_waited_for() {
        let path = std::env::temp_dir().join(format!("mtbox-datagram-{}", std::process::id()));
        let _ = fs::remove_file(&path);
        let mut way = Datagram::new(path.clone());
        assert_eq!(way.send(b"lost").unwrap_err().kind(), io::ErrorKind::NotFound);
        for round in [b"one", b"two"] {
            let daemon = UnixDatagram::bind(&path).unwrap();
            way.send(round).unwrap();
            let mut seen = [0; 9];
            assert_eq!(daemon.recv(&mut seen).unwrap(), 3);
            assert_eq!(&seen[..3], round);
            drop(daemon);
            assert_eq!(way.send(b"lost").unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
            fs::remove_file(&path).unwrap();
        }
        let daemon = UnixDatagram::bind(&path).unwrap();
        let full = (0..100_000).find_map(|_| way.send(&[7; 1000]).err()).unwrap();
        assert_eq!(full.kind(), io::ErrorKind::WouldBlock);
        drop(daemon);
        fs::remove_file(&path).unwrap();
    }
}

//! TLS as a client: one connection, driven by its owner. The certificate is always checked, for a
//! name or for a literal address.

use std::io::{self, Read, Write};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};

use crate::daemon::fetch::connection::Socket;

/// One TLS connection.
pub struct TlsClient(ClientConnection);

impl TlsClient {
    /// A connection that has said nothing; `host` is what the certificate must be for. With
    /// `is_http` its hello says that HTTP follows.
    ///
    /// # Errors
    /// `host` is neither a name nor an address.
    pub fn new(host: &str, config: Arc<ClientConfig>, is_http: bool) -> Result<Self, String> {
        let name = ServerName::try_from(host.to_owned()).map_err(|e| e.to_string())?;
        let protocols = if is_http { vec![b"http/1.1".to_vec()] } else { Vec::new() };
        let tls = ClientConnection::new_with_alpn(config, name, protocols);
        tls.map(Self).map_err(|e| e.to_string())
    }

    /// Whether the handshake is still going on.
    pub fn is_shaking_hands(&self) -> bool {
        self.0.is_handshaking()
    }

    /// Sends what waits and reads what is there. `true` = the peer has ended.
    ///
    /// # Errors
    /// The connection broke, or the peer is not who it should be.
    pub fn exchange(
        &mut self,
        socket: &mut Socket<'_>,
        outbox: &mut Vec<u8>,
        heard: &mut Vec<u8>,
    ) -> io::Result<bool> {
        let tls = &mut self.0;
        loop {
            if !tls.is_handshaking() && !outbox.is_empty() {
                let taken = tls.writer().write(outbox)?;
                outbox.drain(..taken.min(outbox.len()));
            }
            while tls.wants_write() {
                match tls.write_tls(socket) {
                    Ok(_) => {}
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                    Err(e) => return Err(e),
                }
            }
            let mut ended = match tls.read_tls(socket) {
                Ok(count) => count == 0,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(e) => return Err(e),
            };
            if let Err(fault) = tls.process_new_packets() {
                // The alert that tells the server why; if it does not fit, it is not worth more.
                let _ = tls.write_tls(socket);
                return Err(io::Error::other(fault));
            }
            let mut chunk = [0; CHUNK];
            loop {
                match tls.reader().read(&mut chunk) {
                    Ok(0) => ended = true,
                    Ok(len) => {
                        heard.extend_from_slice(chunk.get(..len).unwrap_or_default());
                        continue;
                    }
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                    // Ended without a word, as many servers do: what was heard counts.
                    Err(_) => ended = true,
                }
                break;
            }
            if ended {
                return Ok(true);
            }
        }
    }
}

const CHUNK: usize = 4_096;

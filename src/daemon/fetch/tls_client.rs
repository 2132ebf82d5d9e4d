//! TLS as a client: one connection, driven by its owner. The certificate is always verified, for a
//! host name or for a literal address.

use std::io::{self, Read, Write};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{AlertDescription, ClientConfig, ClientConnection, InvalidMessage};

use crate::daemon::fetch::socket::PeerState;

/// One TLS connection.
pub struct TlsClient(ClientConnection);

impl TlsClient {
    /// A connection before its hello; the certificate must be valid for `host`. The hello
    /// offers `alpn`.
    ///
    /// # Errors
    /// `host` is neither a host name nor an address.
    pub fn new(host: &str, config: Arc<ClientConfig>, alpn: Option<&str>) -> Result<Self, String> {
        let name = ServerName::try_from(host.to_owned()).map_err(|e| e.to_string())?;
        let protocols = alpn.into_iter().map(Into::into).collect();
        let tls = ClientConnection::new_with_alpn(config, name, protocols);
        tls.map(Self).map_err(|e| e.to_string())
    }

    /// Whether the handshake has not finished.
    pub fn is_handshaking(&self) -> bool {
        self.0.is_handshaking()
    }

    /// Whether the server has accepted the protocol that was offered.
    pub fn has_alpn(&self) -> bool {
        self.0.alpn_protocol().is_some()
    }

    /// Sends `outbox` as far as the socket takes it, and appends received plain bytes to `inbox`.
    ///
    /// # Errors
    /// The connection is broken, or the certificate is not valid.
    pub fn exchange(
        &mut self,
        socket: &mut (impl Read + Write),
        outbox: &mut Vec<u8>,
        inbox: &mut Vec<u8>,
    ) -> io::Result<PeerState> {
        let tls = &mut self.0;
        // Bytes may have arrived before a reset; they are read first.
        let mut broken = None;
        loop {
            if !tls.is_handshaking() && !outbox.is_empty() {
                let taken = tls.writer().write(outbox)?;
                outbox.drain(..taken.min(outbox.len()));
            }
            while tls.wants_write() {
                match tls.write_tls(socket) {
                    Ok(_) => {}
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                    Err(e) => {
                        broken = Some(e);
                        break;
                    }
                }
            }
            let mut ended = match tls.read_tls(socket) {
                Ok(count) => count == 0,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    return broken.map_or(Ok(PeerState::Open), Err);
                }
                Err(e) => return Err(e),
            };
            if let Err(fault) = tls.process_new_packets() {
                // Send the alert; if the socket does not take it now, the server gets none.
                let _ = tls.write_tls(socket);
                let text = match fault {
                    rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol) => {
                        HTTP2_ONLY.to_owned()
                    }
                    rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
                        "no TLS at this port".to_owned()
                    }
                    fault => fault.to_string(),
                };
                return Err(io::Error::other(text));
            }
            let mut chunk = [0; CHUNK];
            loop {
                match tls.reader().read(&mut chunk) {
                    Ok(0) => ended = true,
                    Ok(len) => {
                        inbox.extend_from_slice(chunk.get(..len).unwrap_or_default());
                        continue;
                    }
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                    // Closed without close_notify, as many servers do: the received bytes count.
                    Err(_) => ended = true,
                }
                break;
            }
            if ended {
                return Ok(PeerState::Closed);
            }
        }
    }
}

/// Said by a server that takes no HTTP/1.1 (`no_application_protocol`, RFC 7301).
const HTTP2_ONLY: &str = "the server speaks HTTP/2 only; for a name server, use its tls:// address";
const CHUNK: usize = 4_096;

//! A TLS connection to the first of some addresses that takes one, moved by readiness alone. The
//! certificate is always checked, for a name or for a literal address.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use crate::daemon::dialer;
use crate::daemon::world::World;
use crate::io::clock::Tick;
use crate::io::wire::{MioNet, MioWire, Net, Wire};

/// One connection, from the first SYN to the last byte.
pub struct Link {
    addrs: std::vec::IntoIter<SocketAddr>,
    token: usize,
    wire: Option<MioWire>,
    connected: bool,
    tls: ClientConnection,
    /// The present address has until then, and so has the handshake.
    until: Tick,
    /// Why the last address failed.
    trouble: String,
}

/// Where a link stands.
#[derive(Debug, PartialEq, Eq)]
pub enum State {
    /// Connecting, or shaking hands.
    Opening,
    /// Bytes may go both ways.
    Open,
    /// The peer has said its last byte.
    Ended,
    /// It never came to be, or broke.
    Failed(String),
}

impl Link {
    /// A link that has not begun. `host` is what the certificate must be for.
    ///
    /// # Errors
    /// `host` is neither a name nor an address.
    pub fn new(
        addrs: Vec<SocketAddr>,
        host: &str,
        config: Arc<ClientConfig>,
        token: usize,
    ) -> Result<Self, String> {
        let name = ServerName::try_from(host.to_owned()).map_err(|e| e.to_string())?;
        let tls = ClientConnection::new(config, name).map_err(|e| e.to_string())?;
        let (addrs, trouble) = (addrs.into_iter(), "no address".to_owned());
        Ok(Self { addrs, token, wire: None, connected: false, tls, until: Tick(0), trouble })
    }

    /// Goes as far as it can without waiting: connects, reads what is there into `inbox`, writes
    /// what was said.
    pub fn step(&mut self, world: &World, net: &mut MioNet, inbox: &mut Vec<u8>) -> State {
        if !self.connected && !self.connect(world, net) {
            return match self.wire {
                Some(_) => State::Opening,
                None => State::Failed(std::mem::take(&mut self.trouble)),
            };
        }
        match self.exchange(inbox) {
            Ok(true) => State::Ended,
            Ok(false) if !self.tls.is_handshaking() => State::Open,
            Ok(false) if world.now < self.until => State::Opening,
            Ok(false) => State::Failed("no answer to the TLS hello".to_owned()),
            Err(e) => State::Failed(e.to_string()),
        }
    }

    /// Takes bytes to be sent; the next step sends them.
    ///
    /// # Errors
    /// There is no room for them.
    pub fn say(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.tls.writer().write_all(bytes)
    }

    /// When it must be stepped even if nothing comes.
    pub fn due(&self) -> Option<Tick> {
        (!self.connected || self.tls.is_handshaking()).then_some(self.until)
    }

    /// `true` = connected. `false` and no wire = no address is left.
    fn connect(&mut self, world: &World, net: &mut MioNet) -> bool {
        let patience_ms = world.settings.timeouts.tcp.as_millis() as u64;
        loop {
            match self.wire.as_mut().map(MioWire::outcome) {
                Some(Ok(true)) => {
                    self.connected = true;
                    self.until = Tick(world.now.0 + patience_ms);
                    return true;
                }
                Some(Ok(false)) if world.now < self.until => return false,
                Some(Ok(false)) => self.trouble = "timeout".to_owned(),
                Some(Err(e)) => self.trouble = e.to_string(),
                None => {}
            }
            self.wire = None;
            let Some(addr) = self.addrs.next() else { return false };
            match net.dial(addr, &dialer::options(world), self.token) {
                Ok(wire) => {
                    self.wire = Some(wire);
                    self.until = Tick(world.now.0 + patience_ms);
                    return false;
                }
                Err(e) => self.trouble = e.to_string(),
            }
        }
    }

    /// `true` = the peer has ended.
    fn exchange(&mut self, inbox: &mut Vec<u8>) -> io::Result<bool> {
        let Some(wire) = &mut self.wire else { return Ok(true) };
        let mut ended = false;
        loop {
            while self.tls.wants_write() {
                match self.tls.write_tls(&mut Plain(wire)) {
                    Ok(_) => {}
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                    Err(e) => return Err(e),
                }
            }
            match self.tls.read_tls(&mut Plain(wire)) {
                Ok(0) => ended = true,
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(ended),
                Err(e) => return Err(e),
            }
            if let Err(fault) = self.tls.process_new_packets() {
                // The alert that tells the server why; if it does not fit, it is not worth more.
                let _ = self.tls.write_tls(&mut Plain(wire));
                return Err(io::Error::other(fault));
            }
            let mut chunk = [0; CHUNK];
            loop {
                match self.tls.reader().read(&mut chunk) {
                    Ok(0) => ended = true,
                    Ok(len) => {
                        inbox.extend_from_slice(chunk.get(..len).unwrap_or_default());
                        continue;
                    }
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                    // Ended without a word, as many servers do: what was heard counts.
                    Err(_) => ended = true,
                }
                break;
            }
            if inbox.len() > INBOX_MAX {
                return Err(io::Error::other("more than was asked for"));
            }
            if ended {
                return Ok(true);
            }
        }
    }
}

/// A socket as the TLS library wants it.
struct Plain<'a>(&'a mut MioWire);

impl Read for Plain<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.read(&mut [IoSliceMut::new(into)])
    }
}

impl Write for Plain<'_> {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        self.0.write(&[IoSlice::new(from)])
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What every link is checked against: the built-in roots and those of a PEM file.
///
/// # Errors
/// The file cannot be read, or has something else in it.
pub fn client_config(ca_file: Option<&Path>) -> Result<Arc<ClientConfig>, String> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    if let Some(path) = ca_file {
        let certificates = CertificateDer::pem_file_iter(path).map_err(|e| e.to_string())?;
        for certificate in certificates {
            let certificate = certificate.map_err(|e| e.to_string())?;
            roots.add(certificate).map_err(|e| e.to_string())?;
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?;
    Ok(Arc::new(builder.with_root_certificates(roots).with_no_client_auth()))
}

const CHUNK: usize = 4_096;
/// Most plain bytes that may lie here at once: some answers of the longest kind.
const INBOX_MAX: usize = 4 * 65_537;

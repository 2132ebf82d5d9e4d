//! A TLS front and a TLS client, both rustls.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread;

use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, Stream,
};

use super::peer::Peer;

/// The response to every request.
pub const PAGE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello";

/// The front.
pub struct TlsFront {
    /// Where it listens.
    pub addr: SocketAddr,
    certificate: CertificateDer<'static>,
}

impl TlsFront {
    /// Listens on 127.0.0.1 with a new certificate for `names`.
    pub fn listen(names: &[&str]) -> Self {
        let (config, certificate) = self_signed(names);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let addr = listener.local_addr().expect("an address");
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let config = Arc::clone(&config);
                thread::spawn(move || serve(&Peer::new("TLS front", stream), config));
            }
        });
        Self { addr, certificate }
    }

    /// Fetches the page through `proxy`, with a verified handshake for `sni`.
    pub fn page_through(&self, proxy: SocketAddr, sni: &str) -> Vec<u8> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).expect("a root");
        let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        let name = ServerName::try_from(sni.to_owned()).expect("a name");
        let mut tls = ClientConnection::new(Arc::new(config), name).expect("a TLS client");
        let peer = Peer::connect("browser", proxy);
        let mut socket = peer.stream();
        let mut stream = Stream::new(&mut tls, &mut socket);
        stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").expect("a TLS handshake");
        let mut page = Vec::new();
        stream.read_to_end(&mut page).expect("a page ended by close_notify");
        let seen = tls.peer_certificates().and_then(|chain| chain.first());
        assert_eq!(seen, Some(&self.certificate), "the front's own certificate");
        page
    }
}

/// A server with a new self-signed certificate for `names`, and that certificate.
pub fn self_signed(names: &[&str]) -> (Arc<ServerConfig>, CertificateDer<'static>) {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let made = rcgen::generate_simple_self_signed(names).expect("a certificate");
    let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let certificate = made.cert.der().clone();
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .expect("a server configuration");
    (Arc::new(config), certificate)
}

/// Answers one request. A client may close early.
fn serve(peer: &Peer, config: Arc<ServerConfig>) {
    let mut tls = ServerConnection::new(config).expect("a TLS server");
    let mut socket = peer.stream();
    let mut stream = Stream::new(&mut tls, &mut socket);
    if matches!(stream.read(&mut [0; 1024]), Ok(count) if count > 0) {
        let _ = stream.write_all(PAGE);
        tls.send_close_notify();
        let _ = tls.complete_io(&mut socket);
    }
}

//! Helpers of the tests about IP lists: files, sources, and checks of service and refusal.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use super::client::Handshake;
use super::eventually;
use super::fixture::Fixture;
use super::hello::{App, Hello};
use super::obfuscated2::DD;
use super::peer::{End, Peer};
use super::proxy::{Config, Proxy};
use super::web::WebServer;

/// The address that most tests put into a list.
pub const LISTED: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// An address that is in no list.
pub const OTHER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);

/// A folder that is removed when it is dropped.
pub struct Folder(PathBuf);

impl Folder {
    /// Makes an empty folder.
    pub fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::SeqCst);
        let name = format!("lists-{}-{number}", std::process::id());
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Replaces a file atomically. Returns its path as a TOML string.
    pub fn write(&self, name: &str, text: &str) -> String {
        let (path, temporary) = (self.0.join(name), self.0.join("temporary"));
        fs::write(&temporary, text).expect("a file");
        fs::rename(&temporary, &path).expect("a name");
        format!("{path:?}")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Enables a list; `sources` are TOML strings, separated by commas.
pub fn with_list(config: Config, name: &str, sources: &str) -> Config {
    let table = format!("defense.{name}");
    config.set(&table, "enabled", "true").set(&table, "urls", &format!("[{sources}]"))
}

/// A fixture with one list that is updated every second.
pub fn fixture(name: &str, sources: &str) -> Fixture {
    Fixture::with(|config| {
        let config = config.set(&format!("defense.{name}"), "update-each", "\"1s\"");
        with_list(config, name, sources)
    })
}

/// The URL of a page as a TOML string.
pub fn quoted(web: &WebServer, path: &str) -> String {
    format!("{:?}", web.url(path))
}

/// A user who connects from this address is served.
pub fn assert_served(fixture: &Fixture, from: Ipv4Addr) {
    let peer = Peer::connect_from("client", from, fixture.proxy.addr);
    let hello = Hello::new(&fixture.secret, App::PostQuantum);
    let mut client = Handshake::send_hello(peer, &fixture.secret, &hello).send_frame(DD, 2);
    client.up.send(b"hello");
    assert_eq!(fixture.dc.accept().from.recv(5), b"hello");
}

/// A connection from this address is closed with FIN, without a byte, and the front gets none.
pub fn assert_refused(fixture: &Fixture, from: Ipv4Addr) {
    let before = fixture.front.connections();
    let mut peer = Peer::connect_from("client", from, fixture.proxy.addr);
    assert_eq!(peer.recv_rest(), (Vec::new(), End::Fin), "{from}");
    assert_eq!(fixture.front.connections(), before);
}

/// Waits until the log reports that a list is loaded.
pub fn wait_until_loaded(proxy: &Proxy, list: &str) {
    let word = format!("event=list name={list}");
    eventually("the list is loaded", || proxy.log().contains(&word));
}

//! What scenarios about lists share: files, sources, and who is served or turned away.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use super::client::Visitor;
use super::eventually;
use super::hello::{Hello, Shape};
use super::obfuscated2::DD;
use super::peer::{End, Peer};
use super::proxy::{Config, Proxy};
use super::stage::Stage;
use super::web::Web;

/// Whom the lists of most scenarios name.
pub const LISTED: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// Whom they do not.
pub const OTHER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);

/// A folder that is gone with the test.
pub struct Folder(PathBuf);

impl Folder {
    /// An empty one.
    pub fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::SeqCst);
        let name = format!("lists-{}-{number}", std::process::id());
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Puts a file in place at once, and returns its path as TOML.
    pub fn write(&self, name: &str, text: &str) -> String {
        let (path, draft) = (self.0.join(name), self.0.join("draft"));
        fs::write(&draft, text).expect("a file");
        fs::rename(&draft, &path).expect("a name");
        format!("{path:?}")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Turns a list on; `sources` are TOML, with commas between them.
pub fn with_list(config: Config, name: &str, sources: &str) -> Config {
    let table = format!("defense.{name}");
    config.set(&table, "enabled", "true").set(&table, "urls", &format!("[{sources}]"))
}

/// A stage with one list that is looked at every second.
pub fn stage(name: &str, sources: &str) -> Stage {
    Stage::with(|config| {
        let config = config.set(&format!("defense.{name}"), "update-each", "\"1s\"");
        with_list(config, name, sources)
    })
}

/// A page's URL as TOML.
pub fn quoted(web: &Web, path: &str) -> String {
    format!("{:?}", web.url(path))
}

/// Alice comes from this address and is served.
pub fn assert_served(stage: &Stage, from: Ipv4Addr) {
    let peer = Peer::connect_from("client", from, stage.proxy.addr);
    let hello = Hello::fresh(&stage.secret, Shape::PostQuantum);
    let mut client = Visitor::greet(peer, &stage.secret, &hello).begin(DD, 2);
    client.up.send(b"hello");
    assert_eq!(stage.dc.accept().from.recv(5), b"hello");
}

/// Alice comes from this address and is turned away with FIN, without a byte and without a word
/// to the origin.
pub fn assert_refused(stage: &Stage, from: Ipv4Addr) {
    let knocks = stage.origin.knocks();
    let mut peer = Peer::connect_from("client", from, stage.proxy.addr);
    assert_eq!(peer.recv_rest(), (Vec::new(), End::Fin), "{from}");
    assert_eq!(stage.origin.knocks(), knocks);
}

/// Waits until the log says that a list has come.
pub fn loaded(proxy: &Proxy, list: &str) {
    let word = format!("event=list name={list}");
    eventually("the list is loaded", || proxy.log().contains(&word));
}

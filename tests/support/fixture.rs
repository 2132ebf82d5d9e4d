//! The usual fixture: one proxy, one DC, one recording front, one user called alice.

use super::client::Client;
use super::dc::{Dc, DcSession};
use super::front::Front;
use super::hello::Secret;
use super::proxy::{Config, Proxy};

/// The host in alice's secret.
pub const HOST: &str = "front.example";

/// Fields drop in order: the proxy first, so that its end is checked while its peers still exist.
pub struct Fixture {
    /// The program under test.
    pub proxy: Proxy,
    /// The DC for every DC id.
    pub dc: Dc,
    /// The front.
    pub front: Front,
    /// Alice's secret.
    pub secret: Secret,
}

impl Fixture {
    /// With the usual configuration.
    pub fn new() -> Self {
        Self::with(|config| config)
    }

    /// With a changed configuration.
    pub fn with(change: impl FnOnce(Config) -> Config) -> Self {
        let (dc, front, secret) = (Dc::listen(), Front::listen(), Secret::new(HOST));
        let config = Config::new(dc.addr, front.addr).user("alice", &secret);
        Self { proxy: change(config).start(), dc, front, secret }
    }

    /// Opens a session of alice. Returns both ends.
    pub fn session(&self) -> (Client, DcSession) {
        let client = Client::open(self.proxy.addr, &self.secret);
        (client, self.dc.accept())
    }
}

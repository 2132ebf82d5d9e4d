//! The usual cast: one proxy, one DC, one recording origin, one user called alice.

use super::client::Client;
use super::dc::{Dc, DcSession};
use super::hello::Secret;
use super::origin::Origin;
use super::proxy::{Config, Proxy};

/// The name in alice's secret.
pub const HOST: &str = "front.example";

/// Fields drop in order: the proxy first, so that it is judged while its world still stands.
pub struct Stage {
    /// The program under test.
    pub proxy: Proxy,
    /// Every data centre.
    pub dc: Dc,
    /// The web site behind the name.
    pub origin: Origin,
    /// Alice's secret.
    pub secret: Secret,
}

impl Stage {
    /// The ordinary configuration.
    pub fn plain() -> Self {
        Self::with(|config| config)
    }

    /// The ordinary configuration with changes.
    pub fn with(change: impl FnOnce(Config) -> Config) -> Self {
        let (dc, origin, secret) = (Dc::listen(), Origin::listen(), Secret::new(HOST));
        let config = Config::new(dc.addr, origin.addr).user("alice", &secret);
        Self { proxy: change(config).start(), dc, origin, secret }
    }

    /// A session of alice, seen from both ends.
    pub fn session(&self) -> (Client, DcSession) {
        let client = Client::open(self.proxy.addr, &self.secret);
        (client, self.dc.accept())
    }
}

//! The parts of the world around the daemon beside its clients and their servers. A new part is a
//! file and a row in [`PARTS`].

use std::net::SocketAddr;

use mtbox::daemon::Daemon;

use crate::admin::Operators;
use crate::dns::DnsServer;
use crate::fronts::ProbedFronts;
use crate::http::WebServer;
use crate::net::SimNet;
use crate::network::Network;
use crate::script::Script;
use crate::socks::Proxies;
use crate::statsd::StatsdServer;

/// A part of the world: servers that the daemon uses, or operators.
pub trait Part {
    /// Whether connections to this address belong to it. `is_session` = it is dialled for a client.
    fn serves(&self, _addr: SocketAddr, _is_session: bool) -> bool {
        false
    }

    /// Takes a connection of the daemon to it.
    fn attach(&mut self, _network: &mut Network, _link: usize) {}

    /// Acts once; `true` = something happened.
    ///
    /// # Errors
    /// The daemon has done what it must not do.
    fn act(&mut self, network: &mut Network) -> Result<bool, String>;

    /// When it acts next by itself, in virtual milliseconds.
    fn due(&self, now: u64) -> Option<u64>;

    /// Connections that another server has to take now.
    fn take_tunnels(&mut self) -> Vec<Tunnel> {
        Vec::new()
    }

    /// Whether it has done everything that it wants to do.
    fn is_done(&self) -> bool {
        true
    }

    /// Invariants while nothing can move before `until`.
    ///
    /// # Errors
    /// What does not hold.
    fn check(&self, _: &Daemon<SimNet>, _: &Network, _until: u64) -> Result<(), String> {
        Ok(())
    }
}

/// A connection that a proxy has opened.
pub struct Tunnel {
    /// The link to the daemon.
    pub link: usize,
    /// Where it leads.
    pub destination: SocketAddr,
}

/// Every part, made from the script of a run; `None` = it does not take part.
type MakePart = fn(&Script) -> Option<Box<dyn Part>>;

/// All parts.
pub const PARTS: &[MakePart] = &[
    DnsServer::part,
    WebServer::part,
    Proxies::part,
    ProbedFronts::part,
    Operators::part,
    StatsdServer::part,
];

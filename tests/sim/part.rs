//! The parts of the world around the daemon beside its clients and their servers. A new part is a
//! file and a row in [`PARTS`].

use std::net::SocketAddr;

use mtbox::daemon::Daemon;

use crate::dns::DnsServer;
use crate::net::SimNet;
use crate::network::Network;
use crate::script::Script;

/// A part of the world: servers that the daemon uses, or an operator.
pub trait Part {
    /// Whether connections to this address belong to it.
    fn serves(&self, _addr: SocketAddr) -> bool {
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

    /// Invariants while nothing can move before `until`.
    ///
    /// # Errors
    /// What does not hold.
    fn check(
        &self,
        _daemon: &Daemon<SimNet>,
        _network: &Network,
        _until: u64,
    ) -> Result<(), String> {
        Ok(())
    }
}

/// Every part, made from the script of a run; `None` = it does not take part.
type MakePart = fn(&Script) -> Option<Box<dyn Part>>;

/// All parts.
pub const PARTS: &[MakePart] = &[DnsServer::part];

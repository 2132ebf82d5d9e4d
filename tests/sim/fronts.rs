//! Fronts as the probes of the daemon see them: they answer with TLS records, with something else,
//! or not at all. Connections of sessions to a front belong to the servers of clients.

use std::net::{IpAddr, SocketAddr};

use mtbox::daemon::Daemon;

use crate::net::SimNet;
use crate::network::Network;
use crate::part::Part;
use crate::peer::{Behaviour, Ending, Peer};
use crate::protocol;
use crate::script::Script;
use crate::server::FRONTS;

/// The fronts.
#[derive(Default)]
pub struct ProbedFronts {
    visits: Vec<(Peer, bool)>,
}

impl ProbedFronts {
    /// Takes part if the settings turn probes on.
    pub fn part(script: &Script) -> Option<Box<dyn Part>> {
        script.settings.front.probe.then(|| Box::new(Self::default()) as Box<dyn Part>)
    }
}

impl Part for ProbedFronts {
    fn serves(&self, addr: SocketAddr, is_session: bool) -> bool {
        let is_front = matches!(addr.ip(), IpAddr::V4(ip) if ip.octets()[1] == FRONTS);
        is_front && !is_session
    }

    fn attach(&mut self, network: &mut Network, link: usize) {
        let endings = [Ending::Fin, Ending::Stall, Ending::Reset, Ending::Close, Ending::AwaitFin];
        let behaviour = Behaviour {
            write_chunk: 900,
            read_chunk: 2_000,
            write_pause: (30, 200),
            read_pause: (0, 0),
            ending: endings[network.rng.usize(0..endings.len())],
            send_limit: network.rng.bool().then(|| network.rng.usize(0..3_000)),
        };
        self.visits.push((Peer::new(link, behaviour), false));
    }

    fn act(&mut self, network: &mut Network) -> Result<bool, String> {
        self.visits.retain(|(peer, _)| !network.links[peer.link].closed);
        let mut acted = false;
        for (peer, has_answered) in &mut self.visits {
            let received = peer.receive(network);
            if !received.is_empty() && !std::mem::replace(has_answered, true) {
                let mut payload = vec![0; network.rng.usize(1..3_000)];
                network.rng.fill(&mut payload);
                let kinds = [0x16, 0x14, 0x17, 0x15];
                for _ in 0..network.rng.usize(1..4) {
                    let kind = kinds[network.rng.usize(0..kinds.len())];
                    peer.out.extend(protocol::record(kind, &payload));
                }
            }
            acted |= !received.is_empty() | !peer.send(network).is_empty();
            acted |= peer.finish(network, *has_answered);
        }
        Ok(acted)
    }

    fn due(&self, now: u64) -> Option<u64> {
        self.visits.iter().filter_map(|(peer, _)| peer.due(now)).min()
    }

    fn check(&self, _: &Daemon<SimNet>, network: &Network, until: u64) -> Result<(), String> {
        for (peer, _) in &self.visits {
            let link = &network.links[peer.link];
            let over = link.last_io.max(link.opened_at) + PROBE_MS;
            if !link.closed && until > over {
                return Err(format!("a probe of a front outlives its deadline at {over} ms"));
            }
        }
        Ok(())
    }
}

/// A probe waits this long for the next byte.
const PROBE_MS: u64 = 10_000 + 1_000;

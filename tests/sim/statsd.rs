//! A statsd server: reads every datagram, and knows when the next one is due.

use std::net::SocketAddr;

use mtbox::daemon::Daemon;

use crate::net::SimNet;
use crate::network::Network;
use crate::part::Part;
use crate::script::Script;

/// The server.
#[derive(Default)]
pub struct StatsdServer {
    /// When the latest datagram arrived.
    last_at: Option<u64>,
}

impl StatsdServer {
    /// Takes part if the settings name it at the start.
    pub fn part(script: &Script) -> Option<Box<dyn Part>> {
        script.settings.statsd.is_some().then(|| Box::new(Self::default()) as Box<dyn Part>)
    }
}

impl Part for StatsdServer {
    fn act(&mut self, network: &mut Network) -> Result<bool, String> {
        let now = network.now;
        let mut acted = false;
        for port in network.datagrams.iter_mut().filter(|port| port.to == server_addr()) {
            for packet in port.sent.drain(..) {
                (acted, self.last_at) = (true, Some(now));
                let text = String::from_utf8(packet).map_err(|e| e.to_string())?;
                if let Some(line) = text.lines().find(|line| !is_line(line)) {
                    return Err(format!("statsd got the line {line:?}"));
                }
            }
        }
        Ok(acted)
    }

    fn due(&self, _now: u64) -> Option<u64> {
        None
    }

    fn check(&self, daemon: &Daemon<SimNet>, network: &Network, until: u64) -> Result<(), String> {
        let is_on = daemon.shared.settings.statsd.is_some();
        match network.last_event_at {
            Some(at) if is_on && self.last_at.is_none_or(|last| last < at) => {
                let latest = at + DELAY_MS + SLACK_MS;
                let why = || format!("no datagram for statsd since the event at {at} ms");
                if until > latest { Err(why()) } else { Ok(()) }
            }
            _ => Ok(()),
        }
    }
}

/// `name:value|type`, with tags before or after.
fn is_line(line: &str) -> bool {
    let Some((name, rest)) = line.split_once(':') else { return false };
    let mut fields = rest.split('|');
    let is_number = fields.next().is_some_and(|value| value.parse::<u64>().is_ok());
    let is_kind = matches!(fields.next(), Some("c" | "g"));
    !name.is_empty() && is_number && is_kind
}

/// The address of the server.
pub fn server_addr() -> SocketAddr {
    SocketAddr::from(([10, 81, 0, 1], 8_125))
}

const DELAY_MS: u64 = 1_000;
/// Rounds take some time.
const SLACK_MS: u64 = 20;

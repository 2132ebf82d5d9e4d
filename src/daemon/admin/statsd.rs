//! Metrics to statsd, one second after something has happened and never while nothing does. What
//! the socket does not take at once is dropped and counted: the growth of its counters goes with
//! the next datagram, and gauges are whole each time.

use std::collections::BTreeMap;
use std::io::ErrorKind;

use mio::net::UdpSocket;

use crate::config::settings::{StatsdSettings, TagFormat};
use crate::daemon::admin::metrics;
use crate::daemon::shared::World;
use crate::io::clock::Tick;
use crate::io::wire::MioNet;
use crate::proto::metrics::statsd::{self, Dialect};

/// A counter and its number, once statsd has been told.
type SentCounter = Option<(String, u64)>;

/// The way to statsd.
pub struct Statsd {
    settings: StatsdSettings,
    socket: Option<UdpSocket>,
    /// What statsd has been told of each counter, by its line's name and labels.
    told: BTreeMap<String, u64>,
    due: Option<Tick>,
}

impl Statsd {
    /// Tells of all gauges at the next turn, and of counters what comes from now on: to a
    /// collector that is new, what was before would be a leap.
    pub fn new(settings: StatsdSettings, world: &World) -> Self {
        let told = BTreeMap::new();
        let mut statsd = Self { settings, socket: None, told, due: Some(world.time.now) };
        statsd.told = statsd.lines(world).into_iter().filter_map(|(_, told)| told).collect();
        statsd
    }

    /// Where it goes.
    pub fn settings(&self) -> &StatsdSettings {
        &self.settings
    }

    /// Something has happened: the numbers may have changed.
    pub fn note(&mut self, now: Tick) {
        self.due.get_or_insert(Tick(now.0 + GATHER_MS));
    }

    /// When there is something to send.
    pub fn due(&self) -> Option<Tick> {
        self.due
    }

    /// Sends what is due.
    pub fn turn(&mut self, world: &mut World, net: &MioNet) {
        if self.due.is_some_and(|due| world.time.now >= due) {
            self.tell(world, net);
        }
    }

    /// Sends the numbers as they are now.
    pub fn tell(&mut self, world: &mut World, net: &MioNet) {
        self.due = None;
        if self.socket.is_none() {
            // Waits for no route: the next change tries again.
            self.socket = net.udp_sender(self.settings.address).ok();
        }
        let Some(socket) = &self.socket else { return };
        let (mut lost, mut is_broken) = (0, false);
        let datagrams = statsd::pack(self.lines(world));
        for (text, counters) in datagrams {
            let mut outcome = socket.send(text.as_bytes());
            if outcome.as_ref().is_err_and(|e| e.kind() == ErrorKind::ConnectionRefused) {
                // That is the answer to an earlier one. The collector may be there by now.
                lost += 1;
                outcome = socket.send(text.as_bytes());
            }
            match outcome {
                Ok(_) => self.told.extend(counters.into_iter().flatten()),
                Err(e) => {
                    lost += 1;
                    is_broken |= e.kind() != ErrorKind::WouldBlock;
                }
            }
        }
        if is_broken {
            self.socket = None;
        }
        if lost > 0 {
            world.telemetry.counters.statsd_lost += lost;
            log::debug!("event=statsd-send-failed datagrams={lost}");
        }
    }

    /// Every gauge and every counter that has grown, this one with what statsd then knows of it.
    fn lines(&self, world: &World) -> Vec<(String, SentCounter)> {
        let dialect = match self.settings.tags {
            TagFormat::Datadog => Dialect::Datadog,
            TagFormat::Influxdb => Dialect::Influxdb,
            TagFormat::Graphite => Dialect::Graphite,
        };
        let prefix = &self.settings.prefix;
        let mut lines = Vec::new();
        for family in metrics::shared(world) {
            for sample in &family.samples {
                if !family.kind.is_counter() {
                    let line = statsd::line(dialect, prefix, &family, sample, sample.value);
                    lines.push((line, None));
                    continue;
                }
                let key = statsd::line(Dialect::Datadog, "", &family, sample, 0);
                let told = self.told.get(&key).copied().unwrap_or(0);
                // A counter of a list that was taken anew begins again.
                let grown = sample.value.checked_sub(told).unwrap_or(sample.value);
                if grown > 0 {
                    let line = statsd::line(dialect, prefix, &family, sample, grown);
                    lines.push((line, Some((key, sample.value))));
                }
            }
        }
        lines
    }
}

/// Changes of this long leave together.
const GATHER_MS: u64 = 1_000;

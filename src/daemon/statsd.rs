//! Metrics to statsd, one second after something has happened and never while nothing does. What
//! the socket does not take at once is dropped: it costs a moment of a counter, and gauges are
//! whole each time.

use std::collections::BTreeMap;

use mio::net::UdpSocket;

use crate::config::settings::{StatsdSettings, TagFormat};
use crate::daemon::metrics;
use crate::daemon::world::World;
use crate::io::clock::Tick;
use crate::io::wire::MioNet;
use crate::proto::metrics::statsd::{self, Dialect};

/// The way to statsd.
pub struct Statsd {
    settings: StatsdSettings,
    socket: Option<UdpSocket>,
    /// What statsd has been told of each counter, by its line's name and labels.
    told: BTreeMap<String, u64>,
    due: Option<Tick>,
}

impl Statsd {
    /// Tells everything once, at the first turn after `now`.
    pub fn new(settings: StatsdSettings, now: Tick) -> Self {
        Self { settings, socket: None, told: BTreeMap::new(), due: Some(now) }
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
        if self.due.is_none_or(|due| world.now < due) {
            return;
        }
        self.due = None;
        if self.socket.is_none() {
            // Waits for no route: the next change tries again.
            self.socket = net.one_way(self.settings.address).ok();
        }
        let Some(socket) = &self.socket else { return };
        let dialect = match self.settings.tags {
            TagFormat::Datadog => Dialect::Datadog,
            TagFormat::Influxdb => Dialect::Influxdb,
            TagFormat::Graphite => Dialect::Graphite,
        };
        let mut lines = Vec::new();
        for family in metrics::shared(world) {
            for sample in &family.samples {
                let prefix = &self.settings.prefix;
                if !family.kind.is_counter() {
                    lines.push(statsd::line(dialect, prefix, &family, sample, sample.value));
                    continue;
                }
                let key = statsd::line(Dialect::Datadog, "", &family, sample, 0);
                let told = self.told.entry(key).or_insert(0);
                // A counter of a list that was taken anew begins again.
                let grown = sample.value.checked_sub(*told).unwrap_or(sample.value);
                *told = sample.value;
                if grown > 0 {
                    lines.push(statsd::line(dialect, prefix, &family, sample, grown));
                }
            }
        }
        let datagrams = statsd::pack(lines);
        let lost = datagrams.iter().filter(|one| socket.send(one.as_bytes()).is_err()).count();
        if lost > 0 {
            log::debug!("event=statsd-lost datagrams={lost}");
            self.socket = None;
        }
    }
}

/// Changes of this long leave together.
const GATHER_MS: u64 = 1_000;

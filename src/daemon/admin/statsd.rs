//! Metrics for statsd: sent one second after a change, and never while the proxy is idle. Datagrams
//! that the socket does not accept at once are dropped and counted. The next datagram contains the
//! whole increase of a counter since the last datagram that was sent, and gauges as they are then.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::time::Duration;

use crate::config::settings::{StatsdSettings, TagFormat};
use crate::daemon::admin::metrics;
use crate::daemon::admin::view::View;
use crate::io::clock::Tick;
use crate::io::logger::event;
use crate::io::wire::{DatagramSocket, Net};
use crate::proto::metrics::statsd::{self, Dialect};

/// A counter, by its line's name and labels, and the value that statsd knows once the line is sent.
type SentCounter = Option<(String, u64)>;

/// The sender of metrics to one statsd server.
pub struct Statsd<D> {
    settings: StatsdSettings,
    socket: Option<D>,
    /// The values that statsd knows, by name and labels.
    sent: BTreeMap<String, u64>,
    due: Option<Tick>,
}

impl<D: DatagramSocket> Statsd<D> {
    /// The first datagrams are due at once. They contain all gauges, but no counters: statsd adds
    /// up increases, and those before its start would appear as one jump.
    pub fn new(settings: StatsdSettings, view: &View<'_>) -> Self {
        let sent = BTreeMap::new();
        let mut statsd = Self { settings, socket: None, sent, due: Some(view.time.now) };
        statsd.sent = statsd.lines(view).into_iter().filter_map(|(_, counter)| counter).collect();
        statsd
    }

    /// The server and the format.
    pub fn settings(&self) -> &StatsdSettings {
        &self.settings
    }

    /// Schedules a datagram, because metrics may have changed.
    pub fn schedule(&mut self, now: Tick) {
        self.due.get_or_insert(now + DELAY);
    }

    /// The time of the next datagram.
    pub fn due(&self) -> Option<Tick> {
        self.due
    }

    /// Sends the metrics if they are due. Returns the number of datagrams that were lost.
    pub fn send_due(&mut self, view: &View<'_>, net: &mut impl Net<Datagram = D>) -> u64 {
        match self.due {
            Some(due) if view.time.now >= due => self.send(view, net),
            _ => 0,
        }
    }

    /// Sends the metrics now. Returns the number of datagrams that were lost.
    pub fn send(&mut self, view: &View<'_>, net: &mut impl Net<Datagram = D>) -> u64 {
        self.due = None;
        if self.socket.is_none() {
            // There may be no route yet: the next change tries again.
            self.socket = net.datagram_sender(self.settings.address).ok();
        }
        let datagrams = statsd::pack(self.lines(view));
        let Some(socket) = &mut self.socket else { return 0 };
        let (mut lost, mut is_broken) = (0, false);
        for (text, counters) in datagrams {
            let mut outcome = socket.send(text.as_bytes());
            if outcome.as_ref().is_err_and(|e| e.kind() == ErrorKind::ConnectionRefused) {
                // This error belongs to an earlier datagram; the server may listen by now.
                lost += 1;
                outcome = socket.send(text.as_bytes());
            }
            match outcome {
                Ok(_) => self.sent.extend(counters.into_iter().flatten()),
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
            event!(Debug, "statsd-send-failed", datagrams = lost);
        }
        lost
    }

    /// One line for each gauge and for each counter that has increased. Lines of counters come with
    /// the value that statsd knows once they are sent.
    fn lines(&self, view: &View<'_>) -> Vec<(String, SentCounter)> {
        let dialect = match self.settings.tags {
            TagFormat::Datadog => Dialect::Datadog,
            TagFormat::Influxdb => Dialect::Influxdb,
            TagFormat::Graphite => Dialect::Graphite,
        };
        let prefix = &self.settings.prefix;
        let mut lines = Vec::new();
        for family in metrics::shared(view) {
            for sample in &family.samples {
                if !family.kind.is_counter() {
                    let line = statsd::line(dialect, prefix, &family, sample, sample.value);
                    lines.push((line, None));
                    continue;
                }
                let key = statsd::line(Dialect::Datadog, "", &family, sample, 0);
                let sent = self.sent.get(&key).copied().unwrap_or(0);
                // A reload of the lists resets their counters.
                let increase = sample.value.checked_sub(sent).unwrap_or(sample.value);
                if increase > 0 {
                    let line = statsd::line(dialect, prefix, &family, sample, increase);
                    lines.push((line, Some((key, sample.value))));
                }
            }
        }
        lines
    }
}

/// Changes within this time are sent together.
const DELAY: Duration = Duration::from_secs(1);

//! Counts probes for one line of the log per minute. A minute begins with the first probe, so an
//! idle daemon has no timer for it.

use std::net::IpAddr;
use std::time::Duration;

use crate::io::clock::Tick;
use crate::io::logger::{self, FieldKind, Record, fields, is_enabled};
use crate::util::client_prefix::ClientPrefix;
use crate::util::log_settings::LogLevel;

/// The counts of the current minute, if one has begun.
#[derive(Default)]
pub struct ProbeSummary {
    /// The end of the minute.
    due: Option<Tick>,
    counts: [u32; BUCKETS.len()],
    /// The networks of the clients ([`ClientPrefix::to_bits`]) in ascending order, at most
    /// [`NETWORKS_MAX`].
    networks: Vec<u64>,
    has_more_networks: bool,
}

impl ProbeSummary {
    /// Counts a probe; the first one begins the minute. `bucket` names a field of the line.
    pub fn count(&mut self, bucket: &str, addr: IpAddr, now: Tick) {
        self.due.get_or_insert(now + MINUTE);
        if let Some((count, _)) = self.counts.iter_mut().zip(BUCKETS).find(|(_, b)| *b == bucket) {
            *count = count.saturating_add(1);
        }
        let network = ClientPrefix::of(addr).to_bits();
        match self.networks.binary_search(&network) {
            Err(at) if self.networks.len() < NETWORKS_MAX => self.networks.insert(at, network),
            Err(_) => self.has_more_networks = true,
            Ok(_) => {}
        }
    }

    /// The end of the minute, if one has begun.
    pub fn due(&self) -> Option<Tick> {
        self.due
    }

    /// Logs the summary of a minute that is over.
    pub fn flush_due(&mut self, now: Tick) {
        if self.due.is_some_and(|due| now >= due) {
            self.flush();
        }
    }

    /// Logs the summary of the current minute and ends the minute.
    pub fn flush(&mut self) {
        let minute = std::mem::take(self);
        // The minute ends, also if the log level suppresses the line.
        if minute.due.is_some() && is_enabled(LogLevel::Info) {
            logger::write_record(LogLevel::Info, &minute.record());
        }
    }

    fn record(&self) -> Record {
        let fronted =
            self.counts.iter().take(FRONTED).fold(0, |sum: u32, n| sum.saturating_add(*n));
        let no_room = self.counts.last().copied().unwrap_or(0);
        let fronted = fronted.saturating_sub(no_room);
        let mut record = Record::new(fields!("probe-summary", fronted = fronted));
        for (bucket, count) in BUCKETS.iter().zip(&self.counts) {
            record.push(bucket, FieldKind::Number, count);
        }
        record.push("from_networks", FieldKind::Number, &self.networks.len());
        if self.has_more_networks {
            record.push("more_networks", FieldKind::Number, &true);
        }
        record
    }
}

/// The fields of the line. The last one counts again those of the first [`FRONTED`] that found no
/// free slot.
pub(crate) const BUCKETS: [&str; 10] = [
    "wrong_key",
    "no_sni",
    "foreign_sni",
    "not_tls",
    "unfinished",
    "replay",
    "silent",
    "bad_header",
    "listed",
    "no_room",
];
/// Buckets of probes that are connected to the front.
const FRONTED: usize = 7;
const MINUTE: Duration = Duration::from_secs(60);
/// Eight bytes each.
const NETWORKS_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_minute_begins_with_the_first_and_is_logged_in_one_line() {
        let mut summary = ProbeSummary::default();
        assert_eq!(summary.due(), None);
        summary.count("wrong_key", addr("192.0.2.1"), Tick(5));
        summary.count("wrong_key", addr("::ffff:192.0.2.200"), Tick(9));
        summary.count("no_sni", addr("192.0.3.1"), Tick(10));
        summary.count("no_room", addr("192.0.3.1"), Tick(10));
        summary.count("silent", addr("2001:db8:1:2::3"), Tick(11));
        summary.count("replay", addr("2001:db8:1:9::3"), Tick(12));
        assert_eq!(summary.due(), Some(Tick(5) + MINUTE));
        assert_eq!(
            summary.record().to_string(),
            "event=probe-summary fronted=4 wrong_key=2 no_sni=1 foreign_sni=0 not_tls=0 \
             unfinished=0 replay=1 silent=1 bad_header=0 listed=0 no_room=1 from_networks=3"
        );
        summary.flush_due(Tick(4) + MINUTE);
        assert!(summary.due().is_some());
        summary.flush_due(Tick(5) + MINUTE);
        assert_eq!(summary.due(), None, "an idle daemon has no timer");
        summary.count("listed", addr("192.0.2.1"), Tick(70_000));
        assert!(summary.record().to_string().ends_with("listed=1 no_room=0 from_networks=1"));
        assert!(
            summary.record().to_string().starts_with("event=probe-summary fronted=0 wrong_key=0 ")
        );
    }

    #[test]
    fn a_flood_from_everywhere_is_bounded() {
        let mut summary = ProbeSummary::default();
        for bits in 0..100_000u32 {
            summary.count("not_tls", IpAddr::from((bits << 8).to_be_bytes()), Tick(0));
        }
        assert_eq!(summary.networks.len(), NETWORKS_MAX);
        assert!(summary.record().to_string().ends_with("from_networks=256 more_networks=true"));
    }
}

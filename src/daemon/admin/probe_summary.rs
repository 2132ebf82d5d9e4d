//! Counts probes for one line of the log per minute. A minute begins with the first probe, so an
//! idle daemon has no timer for it.

use std::net::IpAddr;
use std::time::Duration;

use crate::io::clock::Tick;
use crate::proto::client_hello::Reject;
use crate::util::client_prefix::ClientPrefix;

/// The kind of a probe. The order is that of the fields in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProbeKind {
    /// A hello that matches no key.
    WrongKey,
    /// A hello without a host name.
    NoSni,
    /// A hello with a host name that no secret has.
    ForeignSni,
    /// Bytes that are not an acceptable TLS ClientHello.
    NotTls,
    /// An incomplete hello.
    Unfinished,
    /// A hello that was received before.
    Replay,
    /// No byte at all.
    Silent,
    /// A malformed PROXY protocol header.
    BadHeader,
    /// A connection that the blocklist or the allowlist refuses.
    Listed,
    /// A connection at the limit of fronted sessions.
    NoRoom,
}

impl ProbeKind {
    /// The kind of probe that a rejected hello is; `None` if a user with a problem sent it.
    pub fn of(why: Reject) -> Option<Self> {
        Some(match why {
            Reject::WrongKey => Self::WrongKey,
            Reject::NoSni => Self::NoSni,
            Reject::ForeignSni => Self::ForeignSni,
            Reject::Truncated | Reject::TooSlow => Self::Unfinished,
            Reject::Replay => Self::Replay,
            Reject::NotTls
            | Reject::Version
            | Reject::RecordTooLong
            | Reject::NotHello
            | Reject::HelloTooLong
            | Reject::TooManyRecords
            | Reject::Malformed
            | Reject::NoCipher => Self::NotTls,
            Reject::ClockOff { .. } | Reject::Throttled | Reject::Disabled => return None,
        })
    }

    /// Whether the proxy connects such a client to the front.
    fn is_fronted(self) -> bool {
        !matches!(self, Self::Silent | Self::BadHeader | Self::Listed | Self::NoRoom)
    }
}

/// The counts of the current minute, if one has begun.
#[derive(Default)]
pub struct ProbeSummary {
    /// The end of the minute.
    due: Option<Tick>,
    counts: [u32; NAMES.len()],
    /// The networks of the clients ([`ClientPrefix::to_bits`]) in ascending order, at most
    /// [`NETWORKS_MAX`].
    networks: Vec<u64>,
    has_more_networks: bool,
}

impl ProbeSummary {
    /// Counts a probe; the first one begins the minute.
    pub fn count(&mut self, kind: ProbeKind, addr: IpAddr, now: Tick) {
        self.due.get_or_insert(now + MINUTE);
        if let Some(count) = self.counts.get_mut(kind as usize) {
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
        if minute.due.is_some() {
            log::info!("{}", minute.line());
        }
    }

    fn line(&self) -> String {
        let fronted: u32 = NAMES
            .iter()
            .zip(self.counts)
            .filter(|((kind, _), _)| kind.is_fronted())
            .fold(0, |sum: u32, (_, count)| sum.saturating_add(count));
        let no_room = self.counts.get(ProbeKind::NoRoom as usize).copied().unwrap_or(0);
        let mut line = format!("event=probe-summary fronted={}", fronted.saturating_sub(no_room));
        for ((_, name), count) in NAMES.iter().zip(self.counts) {
            line.push_str(&format!(" {name}={count}"));
        }
        line.push_str(&format!(" from_networks={}", self.networks.len()));
        if self.has_more_networks {
            line.push_str(" more_networks=true");
        }
        line
    }
}

/// In the order of [`ProbeKind`].
const NAMES: [(ProbeKind, &str); 10] = [
    (ProbeKind::WrongKey, "wrong_key"),
    (ProbeKind::NoSni, "no_sni"),
    (ProbeKind::ForeignSni, "foreign_sni"),
    (ProbeKind::NotTls, "not_tls"),
    (ProbeKind::Unfinished, "unfinished"),
    (ProbeKind::Replay, "replay"),
    (ProbeKind::Silent, "silent"),
    (ProbeKind::BadHeader, "bad_header"),
    (ProbeKind::Listed, "listed"),
    (ProbeKind::NoRoom, "no_room"),
];
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
    fn the_table_is_in_the_order_of_the_kinds() {
        for (at, (kind, name)) in NAMES.iter().enumerate() {
            assert_eq!(*kind as usize, at, "{name}");
        }
    }

    #[test]
    fn a_minute_begins_with_the_first_and_is_logged_in_one_line() {
        let mut summary = ProbeSummary::default();
        assert_eq!(summary.due(), None);
        summary.count(ProbeKind::WrongKey, addr("192.0.2.1"), Tick(5));
        summary.count(ProbeKind::WrongKey, addr("::ffff:192.0.2.200"), Tick(9));
        summary.count(ProbeKind::NoSni, addr("192.0.3.1"), Tick(10));
        summary.count(ProbeKind::NoRoom, addr("192.0.3.1"), Tick(10));
        summary.count(ProbeKind::Silent, addr("2001:db8:1:2::3"), Tick(11));
        summary.count(ProbeKind::Replay, addr("2001:db8:1:9::3"), Tick(12));
        assert_eq!(summary.due(), Some(Tick(5) + MINUTE));
        assert_eq!(
            summary.line(),
            "event=probe-summary fronted=3 wrong_key=2 no_sni=1 foreign_sni=0 not_tls=0 \
             unfinished=0 replay=1 silent=1 bad_header=0 listed=0 no_room=1 from_networks=3"
        );
        summary.flush_due(Tick(4) + MINUTE);
        assert!(summary.due().is_some());
        summary.flush_due(Tick(5) + MINUTE);
        assert_eq!(summary.due(), None, "an idle daemon has no timer");
        summary.count(ProbeKind::Listed, addr("192.0.2.1"), Tick(70_000));
        assert!(summary.line().ends_with("listed=1 no_room=0 from_networks=1"));
        assert!(summary.line().starts_with("event=probe-summary fronted=0 wrong_key=0 "));
    }

    #[test]
    fn a_flood_from_everywhere_is_bounded() {
        let mut summary = ProbeSummary::default();
        for bits in 0..100_000u32 {
            summary.count(ProbeKind::NotTls, IpAddr::from((bits << 8).to_be_bytes()), Tick(0));
        }
        assert_eq!(summary.networks.len(), NETWORKS_MAX);
        assert!(summary.line().ends_with("from_networks=256 more_networks=true"));
    }
}

//! What strangers have done within a minute, for one line of the log. A minute begins with the
//! first of them, so an idle daemon is never woken for it.

use std::net::IpAddr;

use crate::io::clock::Tick;
use crate::proto::client_hello::Reject;
use crate::util::client_prefix::ClientPrefix;

/// What a stranger may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProbeKind {
    /// A hello that none of the keys opens.
    WrongKey,
    /// A hello without a name.
    NoSni,
    /// A hello for a site that none of the secrets names.
    ForeignSni,
    /// Something that no client of ours says.
    NotTls,
    /// A hello that did not end.
    Unfinished,
    /// A hello that was here before.
    Replay,
    /// Not a word.
    Silent,
    /// A PROXY protocol header that is none.
    BadHeader,
    /// Coming from an address that a list does not let in.
    Listed,
    /// Coming when too many were being led to the site.
    NoRoom,
}

impl ProbeKind {
    /// What a suspicion means, if a stranger has roused it and not a person with a problem.
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

    /// Whether it leads to the site.
    fn is_fronted(self) -> bool {
        !matches!(self, Self::Silent | Self::BadHeader | Self::Listed | Self::NoRoom)
    }
}

/// The minute that runs, if one does.
#[derive(Default)]
pub struct ProbeSummary {
    until: Option<Tick>,
    counts: [u32; NAMES.len()],
    /// Where they came from, in ascending order, at most [`MOST_NETWORKS`].
    networks: Vec<u64>,
    has_more: bool,
}

impl ProbeSummary {
    /// Notes a deed, and begins a minute if none runs.
    pub fn note(&mut self, deed: ProbeKind, addr: IpAddr, now: Tick) {
        self.until.get_or_insert(Tick(now.0 + MINUTE_MS));
        if let Some(count) = self.counts.get_mut(deed as usize) {
            *count = count.saturating_add(1);
        }
        let network = ClientPrefix::of(addr).to_bits();
        match self.networks.binary_search(&network) {
            Err(at) if self.networks.len() < MOST_NETWORKS => self.networks.insert(at, network),
            Err(_) => self.has_more = true,
            Ok(_) => {}
        }
    }

    /// When the minute is over.
    pub fn due(&self) -> Option<Tick> {
        self.until
    }

    /// Tells of a minute that is over.
    pub fn turn(&mut self, now: Tick) {
        if self.until.is_some_and(|until| now >= until) {
            self.tell();
        }
    }

    /// Tells of the minute that runs.
    pub fn tell(&mut self) {
        let minute = std::mem::take(self);
        // The minute is over, whether the level lets its line through or not.
        if minute.until.is_some() {
            log::info!("{}", minute.line());
        }
    }

    fn line(&self) -> String {
        let fronted: u32 = NAMES
            .iter()
            .zip(self.counts)
            .filter(|((deed, _), _)| deed.is_fronted())
            .fold(0, |sum: u32, (_, count)| sum.saturating_add(count));
        let no_room = self.counts.get(ProbeKind::NoRoom as usize).copied().unwrap_or(0);
        let mut line = format!("event=probe-summary fronted={}", fronted.saturating_sub(no_room));
        for ((_, name), count) in NAMES.iter().zip(self.counts) {
            line.push_str(&format!(" {name}={count}"));
        }
        line.push_str(&format!(" from_networks={}", self.networks.len()));
        if self.has_more {
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
const MINUTE_MS: u64 = 60_000;
/// Two kilobytes, for as long as the minute lasts.
const MOST_NETWORKS: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_table_is_in_the_order_of_the_deeds() {
        for (at, (deed, name)) in NAMES.iter().enumerate() {
            assert_eq!(*deed as usize, at, "{name}");
        }
    }

    #[test]
    fn a_minute_begins_with_the_first_and_is_told_in_one_line() {
        let mut strangers = ProbeSummary::default();
        assert_eq!(strangers.due(), None);
        strangers.note(ProbeKind::WrongKey, addr("192.0.2.1"), Tick(5));
        strangers.note(ProbeKind::WrongKey, addr("::ffff:192.0.2.200"), Tick(9));
        strangers.note(ProbeKind::NoSni, addr("192.0.3.1"), Tick(10));
        strangers.note(ProbeKind::NoRoom, addr("192.0.3.1"), Tick(10));
        strangers.note(ProbeKind::Silent, addr("2001:db8:1:2::3"), Tick(11));
        strangers.note(ProbeKind::Replay, addr("2001:db8:1:9::3"), Tick(12));
        assert_eq!(strangers.due(), Some(Tick(5 + MINUTE_MS)));
        assert_eq!(
            strangers.line(),
            "event=probe-summary fronted=3 wrong_key=2 no_sni=1 foreign_sni=0 not_tls=0 unfinished=0 \
             replay=1 silent=1 bad_header=0 listed=0 no_room=1 from_networks=3"
        );
        strangers.turn(Tick(4 + MINUTE_MS));
        assert!(strangers.due().is_some());
        strangers.turn(Tick(5 + MINUTE_MS));
        assert_eq!(strangers.due(), None, "nobody is woken for nothing");
        strangers.note(ProbeKind::Listed, addr("192.0.2.1"), Tick(70_000));
        assert!(strangers.line().ends_with("listed=1 no_room=0 from_networks=1"));
        assert!(strangers.line().starts_with("event=probe-summary fronted=0 wrong_key=0 "));
    }

    #[test]
    fn a_flood_from_everywhere_is_bounded() {
        let mut strangers = ProbeSummary::default();
        for bits in 0..100_000u32 {
            strangers.note(ProbeKind::NotTls, IpAddr::from((bits << 8).to_be_bytes()), Tick(0));
        }
        assert_eq!(strangers.networks.len(), MOST_NETWORKS);
        assert!(strangers.line().ends_with("from_networks=256 more_networks=true"));
    }
}

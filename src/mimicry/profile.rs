//! What the origins look like, and an answer drawn alike (spec: protocol 15.2 to 15.5). Nothing
//! here is wrong before an origin has been seen: then there are safe defaults.

use std::collections::VecDeque;

use crate::accounts::users::HostId;
use crate::proto::server_flight::Choice;
use crate::proto::server_hello::{ExtensionOrder, NOISE_MAX};
use crate::util::drbg::Drbg;

/// One profile per distinct host of the secrets.
pub struct Profiles {
    list: Vec<Profile>,
    /// Where a host that the secrets do not name would be looked up, which never happens.
    unknown: Profile,
}

impl Profiles {
    /// Nothing known of `hosts` hosts. `drbg` makes the one thing by which our answers differ
    /// from those of another proxy of the same long-winded host.
    pub fn new(hosts: usize, drbg: &mut Drbg) -> Self {
        Self { list: (0..hosts).map(|_| Profile::new(drbg)).collect(), unknown: Profile::new(drbg) }
    }

    /// Forgets what is known of a host, which may be one more than before.
    pub fn reset(&mut self, host: HostId, drbg: &mut Drbg) {
        while self.list.len() <= host.index() {
            self.list.push(Profile::new(drbg));
        }
        *self.get_mut(host) = Profile::new(drbg);
    }

    /// What is known of a host.
    pub fn get(&self, host: HostId) -> &Profile {
        self.list.get(host.index()).unwrap_or(&self.unknown)
    }

    /// The same, to add to.
    pub fn get_mut(&mut self, host: HostId) -> &mut Profile {
        self.list.get_mut(host.index()).unwrap_or(&mut self.unknown)
    }
}

/// One answer of an origin, as seen from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrontSample {
    /// The suites of TLS 1.3 in the order in which they were offered.
    pub offered: [u16; 3],
    /// What it chose.
    pub choice: Choice,
    /// Bytes of all encrypted records together.
    pub flight: u32,
    /// From our SYN to its ServerHello, in microseconds.
    pub delay_us: u64,
}

/// What is known of one origin.
#[derive(Debug, Default)]
pub struct Profile {
    /// The latest looks, the newest last.
    looks: VecDeque<FrontSample>,
    /// Lengths of the flight that a visit to a page of this host met; the newest last.
    visits: VecDeque<u32>,
    /// The longest flight of ours, where the origin's is longer than clients bear.
    ceiling: u32,
}

impl Profile {
    fn new(drbg: &mut Drbg) -> Self {
        Self { ceiling: NOISE_MAX as u32 - drbg.u32_below(CEILING_SPREAD), ..Self::default() }
    }

    /// Adds a look; the oldest makes room.
    pub fn learn(&mut self, look: FrontSample) {
        keep_latest(&mut self.looks, look);
    }

    /// Adds the length of the flight that another client than a Chrome was sent. It counts only
    /// while there is no look: certificates may be compressed for one and not for the other.
    pub fn learn_page_flight(&mut self, flight: u32) {
        if flight > 0 {
            keep_latest(&mut self.visits, flight);
        }
    }

    /// The latest look.
    pub fn latest(&self) -> Option<&FrontSample> {
        self.looks.back()
    }

    /// The suite for a client that offers these of TLS 1.3, its favourite first. That is what the
    /// origin did when it was offered the same; else the client's favourite, if that is the
    /// origin's rule; else the origin's choice. `None` = the client offers none.
    pub fn cipher(&self, offered: &[u16]) -> Option<u16> {
        let favourite = *offered.first()?;
        let Some(latest) = self.looks.back() else { return Some(favourite) };
        if let Some(same) = self.looks.iter().rfind(|look| look.offered == offered) {
            return Some(same.choice.cipher);
        }
        let is_obliging = self.looks.iter().all(|look| look.choice.cipher == look.offered[0]);
        let is_proved = self.looks.iter().any(|look| look.offered[0] != latest.offered[0]);
        if (is_obliging && is_proved) || !offered.contains(&latest.choice.cipher) {
            return Some(favourite);
        }
        Some(latest.choice.cipher)
    }

    /// Whether the origin takes X25519MLKEM768; until that is known, as most sites do.
    pub fn is_hybrid(&self) -> bool {
        self.looks.back().is_none_or(|look| look.choice.hybrid)
    }

    /// The order of the extensions in its ServerHello.
    pub fn order(&self) -> ExtensionOrder {
        self.looks.back().map_or(ExtensionOrder::default(), |look| look.choice.order)
    }

    /// A length for the encrypted flight of one answer, 1 to 10,240 bytes: one of those seen
    /// lately, so that it varies as much as the origin's, and not at all if that does not.
    pub fn flight_len(&self, drbg: &mut Drbg) -> usize {
        let (looks, visits) = (self.looks.len(), self.visits.len());
        let seen = match (looks, visits) {
            (0, 0) => FLIGHT_LEAST + drbg.u32_below(FLIGHT_SPREAD),
            (0, _) => pick(&self.visits, drbg).copied().unwrap_or(FLIGHT_LEAST),
            _ => pick(&self.looks, drbg).map_or(FLIGHT_LEAST, |look| look.flight),
        };
        (self.bearable(seen) as usize).clamp(1, NOISE_MAX)
    }

    /// A time from the acceptance of a hello to its answer, as the origin takes it, in
    /// microseconds and at most two seconds. `None` = the origin is so near that nobody could
    /// tell, or unknown.
    pub fn delay_us(&self, drbg: &mut Drbg) -> Option<u64> {
        let slow = self.looks.iter().filter(|look| look.delay_us > NEAR_US).count();
        // The median is above a bound when more than half of all are.
        if slow * 2 <= self.looks.len() {
            return None;
        }
        pick(&self.looks, drbg).map(|look| look.delay_us.min(DELAY_MAX_US))
    }

    /// A flight that is longer than clients bear keeps its small variance below a ceiling of this
    /// host's own: the same round number everywhere would be a mark.
    fn bearable(&self, seen: u32) -> u32 {
        if seen <= NOISE_MAX as u32 {
            return seen;
        }
        let flights = self.looks.iter().map(|look| look.flight).chain(self.visits.iter().copied());
        let longest = flights.max().unwrap_or(seen);
        self.ceiling - (longest - seen.min(longest)).min(VARIANCE_MAX)
    }
}

fn keep_latest<T>(list: &mut VecDeque<T>, item: T) {
    if list.len() == KEPT {
        list.pop_front();
    }
    list.push_back(item);
}

fn pick<'a, T>(list: &'a VecDeque<T>, drbg: &mut Drbg) -> Option<&'a T> {
    list.get(drbg.u32_below(list.len() as u32) as usize)
}

/// Looks kept per host: those of the last three rounds.
const KEPT: usize = 9;
/// The reference draws the length of the third record from 2500..4699 bytes.
const FLIGHT_LEAST: u32 = 2500;
const FLIGHT_SPREAD: u32 = 2200;
/// How far below 10,240 bytes ceilings lie.
const CEILING_SPREAD: u32 = 1024;
/// Signatures vary by a few bytes; certificates that vary by more are different ones.
const VARIANCE_MAX: u32 = 64;
const NEAR_US: u64 = 3_000;
const DELAY_MAX_US: u64 = 2_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    const A: [u16; 3] = [0x1301, 0x1302, 0x1303];
    const B: [u16; 3] = [0x1302, 0x1301, 0x1303];
    const C: [u16; 3] = [0x1303, 0x1301, 0x1302];

    fn look(offered: [u16; 3], cipher: u16) -> FrontSample {
        let choice = Choice { cipher, hybrid: false, order: ExtensionOrder::ShareFirst };
        FrontSample { offered, choice, flight: 3000, delay_us: 1_000 }
    }

    fn profile(looks: &[FrontSample]) -> Profile {
        let mut profiles = Profiles::new(0, &mut Drbg::new([1; 48]));
        looks.iter().for_each(|look| profiles.unknown.learn(*look));
        profiles.unknown
    }

    fn of_flights(flights: &[u32]) -> Profile {
        let looks: Vec<FrontSample> =
            flights.iter().map(|flight| FrontSample { flight: *flight, ..look(A, A[0]) }).collect();
        profile(&looks)
    }

    /// The distinct lengths of many answers.
    fn drawn(profile: &Profile) -> Vec<usize> {
        let mut drbg = Drbg::new([2; 48]);
        let mut lengths: Vec<usize> = (0..500).map(|_| profile.flight_len(&mut drbg)).collect();
        lengths.sort_unstable();
        lengths.dedup();
        lengths
    }

    #[test]
    fn without_a_look_there_are_defaults() {
        let profile = profile(&[]);
        assert_eq!((profile.cipher(&C), profile.cipher(&[])), (Some(0x1303), None));
        assert!(profile.is_hybrid());
        assert_eq!(profile.order(), ExtensionOrder::VersionsFirst);
        let lengths = drawn(&profile);
        assert!(lengths.len() > 300 && lengths.iter().all(|len| (2500..4700).contains(len)));
        assert_eq!(profile.delay_us(&mut Drbg::new([2; 48])), None);
    }

    #[test]
    fn the_latest_look_decides_group_and_order() {
        let mut profile = profile(&[look(A, 0x1301)]);
        assert!(!profile.is_hybrid());
        assert_eq!(profile.order(), ExtensionOrder::ShareFirst);
        let choice = Choice { cipher: 0x1301, hybrid: true, order: ExtensionOrder::VersionsFirst };
        profile.learn(FrontSample { choice, ..look(A, 0x1301) });
        assert!(profile.is_hybrid());
        assert_eq!(profile.order(), ExtensionOrder::VersionsFirst);
    }

    #[test]
    fn the_cipher_is_the_origins_where_the_client_offers_it() {
        let stubborn = profile(&[look(A, 0x1302), look(B, 0x1302)]);
        assert_eq!([A, B, C].map(|list| stubborn.cipher(&list)), [Some(0x1302); 3]);
        assert_eq!(stubborn.cipher(&[0x1303, 0x1301]), Some(0x1303));

        let obliging = profile(&[look(A, 0x1301), look(B, 0x1302)]);
        let favourites = [A, B, C].map(|list| obliging.cipher(&list));
        assert_eq!(favourites, [Some(0x1301), Some(0x1302), Some(0x1303)]);

        let unproved = profile(&[look(A, 0x1301)]);
        assert_eq!(unproved.cipher(&C), Some(0x1301));
    }

    #[test]
    fn flights_vary_as_much_as_the_origins() {
        assert_eq!(drawn(&of_flights(&[3953, 3953, 3953])), [3953]);
        assert_eq!(drawn(&of_flights(&[2931, 2932, 2930, 2932])), [2930, 2931, 2932]);
        assert_eq!(drawn(&of_flights(&[1])), [1]);
        let mut many = of_flights(&[5000]);
        (0..KEPT).for_each(|_| many.learn(FrontSample { flight: 6000, ..look(A, A[0]) }));
        assert_eq!(drawn(&many), [6000], "old looks are forgotten");
    }

    #[test]
    fn a_flight_too_long_for_clients_is_clamped_and_keeps_its_variance() {
        let lengths = drawn(&of_flights(&[13_004, 13_003, 13_004]));
        let [low, high] = lengths[..] else { panic!("{lengths:?}") };
        assert!(high - low == 1 && (9_217..=NOISE_MAX).contains(&high), "{lengths:?}");
        assert_eq!(drawn(&of_flights(&[10_240])), [10_240]);
        let mixed = drawn(&of_flights(&[32_000, 3_000, 11_000]));
        assert!(mixed.len() == 3 && mixed[0] == 3_000 && mixed[2] - mixed[1] == 64, "{mixed:?}");
    }

    #[test]
    fn two_hosts_have_ceilings_of_their_own() {
        let profiles = Profiles::new(8, &mut Drbg::new([1; 48]));
        let mut ceilings: Vec<u32> = profiles.list.iter().map(|profile| profile.ceiling).collect();
        ceilings.sort_unstable();
        ceilings.dedup();
        assert!(ceilings.len() > 4, "{ceilings:?}");
    }

    #[test]
    fn a_visit_counts_until_there_is_a_look() {
        let mut profile = profile(&[]);
        profile.learn_page_flight(0);
        profile.learn_page_flight(4_100);
        assert_eq!(drawn(&profile), [4_100]);
        profile.learn(look(A, A[0]));
        assert_eq!(drawn(&profile), [3_000]);
    }

    #[test]
    fn only_a_distant_origin_delays() {
        let of_delays = |delays: &[u64]| {
            let looks =
                delays.iter().map(|delay_us| FrontSample { delay_us: *delay_us, ..look(A, A[0]) });
            profile(&looks.collect::<Vec<_>>()).delay_us(&mut Drbg::new([2; 48]))
        };
        assert_eq!(of_delays(&[3_000, 3_000, 90_000]), None);
        assert_eq!(of_delays(&[3_000, 3_001]), None);
        assert_eq!(of_delays(&[40_000, 40_000, 40_000]), Some(40_000));
        assert_eq!(of_delays(&[9_000_000]), Some(2_000_000));
    }
}

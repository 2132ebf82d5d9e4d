//! Profiles of the fronts' TLS answers, and the parameters of our own answers drawn from them
//! (PROTOCOL 15.2 to 15.5). There are safe defaults until a front has been probed.

use std::collections::VecDeque;

use crate::accounts::users::HostId;
use crate::proto::server_flight::Choice;
use crate::proto::server_hello::{ExtensionOrder, NOISE_MAX};
use crate::util::drbg::Drbg;

/// One profile per distinct host of the secrets.
pub struct Profiles {
    list: Vec<Profile>,
    /// For an id without a profile, which does not occur.
    unknown: Profile,
}

impl Profiles {
    /// Empty profiles for `hosts` hosts. `drbg` draws the length limit of each host, so that it
    /// differs from that of other proxies with the same front.
    pub fn new(hosts: usize, drbg: &mut Drbg) -> Self {
        Self { list: (0..hosts).map(|_| Profile::new(drbg)).collect(), unknown: Profile::new(drbg) }
    }

    /// Empties the profile of a host, or adds one for a new host.
    pub fn reset(&mut self, host: HostId, drbg: &mut Drbg) {
        while self.list.len() <= host.index() {
            self.list.push(Profile::new(drbg));
        }
        *self.get_mut(host) = Profile::new(drbg);
    }

    /// The profile of a host.
    pub fn get(&self, host: HostId) -> &Profile {
        self.list.get(host.index()).unwrap_or(&self.unknown)
    }

    /// The profile of a host, to add samples.
    pub fn get_mut(&mut self, host: HostId) -> &mut Profile {
        self.list.get_mut(host.index()).unwrap_or(&mut self.unknown)
    }
}

/// One answer of a front to a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrontSample {
    /// The TLS 1.3 cipher suites in the order in which the probe offered them.
    pub offered: [u16; 3],
    /// The cipher suite, key exchange group and extension order that the front chose.
    pub choice: Choice,
    /// Total length of the encrypted records in bytes.
    pub flight: u32,
    /// Time from our SYN to the ServerHello, in microseconds.
    pub delay_us: u64,
}

/// The samples of one front.
#[derive(Debug, Default)]
pub struct Profile {
    /// The latest probes, the newest last.
    samples: VecDeque<FrontSample>,
    /// Lengths of the certificate flight in page visits to this host, the newest last.
    page_flights: VecDeque<u32>,
    /// Our longest flight if that of the front exceeds [`NOISE_MAX`], in bytes.
    flight_limit: u32,
}

impl Profile {
    fn new(drbg: &mut Drbg) -> Self {
        let flight_limit = NOISE_MAX as u32 - drbg.u32_below(LIMIT_SPREAD);
        Self { flight_limit, ..Self::default() }
    }

    /// Adds the result of a probe; drops the oldest when full.
    pub fn learn(&mut self, sample: FrontSample) {
        keep_latest(&mut self.samples, sample);
    }

    /// Adds the length of a flight that was sent to our TLS client in a page visit. It is used only
    /// while there is no probe, since a front may compress its certificate for the browser that
    /// probes and users imitate, and not for our client.
    pub fn learn_page_flight(&mut self, flight: u32) {
        if flight > 0 {
            keep_latest(&mut self.page_flights, flight);
        }
    }

    /// The latest probe.
    pub fn latest(&self) -> Option<&FrontSample> {
        self.samples.back()
    }

    /// The cipher suite for a client that offers these TLS 1.3 suites, in its order of preference;
    /// `None` if it offers none. In this order: what the front chose when it was offered the same
    /// list; the client's first, if the front follows the client's preference; what the front chose
    /// last, if the client offers it; the client's first.
    pub fn cipher(&self, offered: &[u16]) -> Option<u16> {
        let preferred = *offered.first()?;
        let Some(latest) = self.samples.back() else { return Some(preferred) };
        if let Some(same) = self.samples.iter().rfind(|sample| sample.offered == offered) {
            return Some(same.choice.cipher);
        }
        // A front that always chose the first suite follows the client only if the first suite was
        // not always the same one.
        let is_first = self.samples.iter().all(|s| s.choice.cipher == s.offered[0]);
        let is_varied = self.samples.iter().any(|s| s.offered[0] != latest.offered[0]);
        if (is_first && is_varied) || !offered.contains(&latest.choice.cipher) {
            return Some(preferred);
        }
        Some(latest.choice.cipher)
    }

    /// Whether the front accepts X25519MLKEM768; `true` without a probe, as most sites do.
    pub fn is_hybrid(&self) -> bool {
        self.samples.back().is_none_or(|sample| sample.choice.hybrid)
    }

    /// The order of the extensions in the ServerHello of the front.
    pub fn order(&self) -> ExtensionOrder {
        self.samples.back().map_or(ExtensionOrder::default(), |sample| sample.choice.order)
    }

    /// A length for the encrypted flight of one answer, 1 to 10,240 bytes: one of those seen
    /// lately, so that it varies exactly as much as that of the front.
    pub fn flight_len(&self, drbg: &mut Drbg) -> usize {
        let len = match (self.samples.len(), self.page_flights.len()) {
            (0, 0) => FLIGHT_MIN + drbg.u32_below(FLIGHT_SPREAD),
            (0, _) => pick(&self.page_flights, drbg).copied().unwrap_or(FLIGHT_MIN),
            _ => pick(&self.samples, drbg).map_or(FLIGHT_MIN, |sample| sample.flight),
        };
        (self.limited(len) as usize).clamp(1, NOISE_MAX)
    }

    /// The time from the acceptance of a hello to its answer that imitates the front, in
    /// microseconds, at most two seconds. `None` = the front is unknown, or so near that its delay
    /// cannot be observed.
    pub fn delay_us(&self, drbg: &mut Drbg) -> Option<u64> {
        // The median exceeds a bound if more than half of all samples do.
        let distant = self.samples.iter().filter(|sample| sample.delay_us > NEAR_US).count();
        if distant * 2 <= self.samples.len() {
            return None;
        }
        pick(&self.samples, drbg).map(|sample| sample.delay_us.min(DELAY_MAX_US))
    }

    /// Shortens a flight that is longer than clients accept. The small variance between flights is
    /// kept, below a random limit per host: the same round number on every proxy would be a
    /// signature.
    fn limited(&self, len: u32) -> u32 {
        if len <= NOISE_MAX as u32 {
            return len;
        }
        let flights = self.samples.iter().map(|sample| sample.flight);
        let longest = flights.chain(self.page_flights.iter().copied()).max().unwrap_or(len);
        self.flight_limit - (longest - len.min(longest)).min(VARIANCE_MAX)
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

/// Samples kept per host: three probe rounds of three probes each.
const KEPT: usize = 9;
/// mtg-multi draws the length of its third record from 2500 to 4699 bytes.
const FLIGHT_MIN: u32 = 2500;
const FLIGHT_SPREAD: u32 = 2200;
/// How far below [`NOISE_MAX`] the random limits can lie, in bytes.
const LIMIT_SPREAD: u32 = 1024;
/// Largest variance in bytes: signatures vary by a few bytes; a larger difference means another
/// certificate.
const VARIANCE_MAX: u32 = 64;
/// A front with a median delay up to this, in microseconds, is not imitated.
const NEAR_US: u64 = 3_000;
const DELAY_MAX_US: u64 = 2_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    const A: [u16; 3] = [0x1301, 0x1302, 0x1303];
    const B: [u16; 3] = [0x1302, 0x1301, 0x1303];
    const C: [u16; 3] = [0x1303, 0x1301, 0x1302];

    fn sample(offered: [u16; 3], cipher: u16) -> FrontSample {
        let choice = Choice { cipher, hybrid: false, order: ExtensionOrder::ShareFirst };
        FrontSample { offered, choice, flight: 3000, delay_us: 1_000 }
    }

    fn profile(samples: &[FrontSample]) -> Profile {
        let mut profiles = Profiles::new(0, &mut Drbg::new([1; 48]));
        samples.iter().for_each(|sample| profiles.unknown.learn(*sample));
        profiles.unknown
    }

    fn of_flights(flights: &[u32]) -> Profile {
        let samples: Vec<FrontSample> = flights
            .iter()
            .map(|flight| FrontSample { flight: *flight, ..sample(A, A[0]) })
            .collect();
        profile(&samples)
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
    fn without_a_probe_there_are_defaults() {
        let profile = profile(&[]);
        assert_eq!((profile.cipher(&C), profile.cipher(&[])), (Some(0x1303), None));
        assert!(profile.is_hybrid());
        assert_eq!(profile.order(), ExtensionOrder::VersionsFirst);
        let lengths = drawn(&profile);
        assert!(lengths.len() > 300 && lengths.iter().all(|len| (2500..4700).contains(len)));
        assert_eq!(profile.delay_us(&mut Drbg::new([2; 48])), None);
    }

    #[test]
    fn the_latest_probe_decides_group_and_order() {
        let mut profile = profile(&[sample(A, 0x1301)]);
        assert!(!profile.is_hybrid());
        assert_eq!(profile.order(), ExtensionOrder::ShareFirst);
        let choice = Choice { cipher: 0x1301, hybrid: true, order: ExtensionOrder::VersionsFirst };
        profile.learn(FrontSample { choice, ..sample(A, 0x1301) });
        assert!(profile.is_hybrid());
        assert_eq!(profile.order(), ExtensionOrder::VersionsFirst);
    }

    #[test]
    fn the_cipher_is_that_of_the_front_if_the_client_offers_it() {
        let fixed = profile(&[sample(A, 0x1302), sample(B, 0x1302)]);
        assert_eq!([A, B, C].map(|list| fixed.cipher(&list)), [Some(0x1302); 3]);
        assert_eq!(fixed.cipher(&[0x1303, 0x1301]), Some(0x1303));

        let following = profile(&[sample(A, 0x1301), sample(B, 0x1302)]);
        let chosen = [A, B, C].map(|list| following.cipher(&list));
        assert_eq!(chosen, [Some(0x1301), Some(0x1302), Some(0x1303)]);

        let unknown = profile(&[sample(A, 0x1301)]);
        assert_eq!(unknown.cipher(&C), Some(0x1301));
    }

    #[test]
    fn flights_vary_as_much_as_those_of_the_front() {
        assert_eq!(drawn(&of_flights(&[3953, 3953, 3953])), [3953]);
        assert_eq!(drawn(&of_flights(&[2931, 2932, 2930, 2932])), [2930, 2931, 2932]);
        assert_eq!(drawn(&of_flights(&[1])), [1]);
        let mut many = of_flights(&[5000]);
        (0..KEPT).for_each(|_| many.learn(FrontSample { flight: 6000, ..sample(A, A[0]) }));
        assert_eq!(drawn(&many), [6000], "old samples are dropped");
    }

    #[test]
    fn a_flight_too_long_for_clients_is_limited_and_keeps_its_variance() {
        let lengths = drawn(&of_flights(&[13_004, 13_003, 13_004]));
        let [low, high] = lengths[..] else { panic!("{lengths:?}") };
        assert!(high - low == 1 && (9_217..=NOISE_MAX).contains(&high), "{lengths:?}");
        assert_eq!(drawn(&of_flights(&[10_240])), [10_240]);
        let mixed = drawn(&of_flights(&[32_000, 3_000, 11_000]));
        assert!(mixed.len() == 3 && mixed[0] == 3_000 && mixed[2] - mixed[1] == 64, "{mixed:?}");
    }

    #[test]
    fn hosts_have_different_flight_limits() {
        let profiles = Profiles::new(8, &mut Drbg::new([1; 48]));
        let mut limits: Vec<u32> =
            profiles.list.iter().map(|profile| profile.flight_limit).collect();
        limits.sort_unstable();
        limits.dedup();
        assert!(limits.len() > 4, "{limits:?}");
    }

    #[test]
    fn a_page_visit_counts_until_there_is_a_probe() {
        let mut profile = profile(&[]);
        profile.learn_page_flight(0);
        profile.learn_page_flight(4_100);
        assert_eq!(drawn(&profile), [4_100]);
        profile.learn(sample(A, A[0]));
        assert_eq!(drawn(&profile), [3_000]);
    }

    #[test]
    fn only_a_distant_front_delays() {
        let of_delays = |delays: &[u64]| {
            let samples = delays
                .iter()
                .map(|delay_us| FrontSample { delay_us: *delay_us, ..sample(A, A[0]) });
            profile(&samples.collect::<Vec<_>>()).delay_us(&mut Drbg::new([2; 48]))
        };
        assert_eq!(of_delays(&[3_000, 3_000, 90_000]), None);
        assert_eq!(of_delays(&[3_000, 3_001]), None);
        assert_eq!(of_delays(&[40_000, 40_000, 40_000]), Some(40_000));
        assert_eq!(of_delays(&[9_000_000]), Some(2_000_000));
    }
}

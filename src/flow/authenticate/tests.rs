//! Turns of the gate: how many a hello takes must not tell what is wrong with it.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::*;
use crate::accounts::users::ConfiguredUser;
use crate::limits::throttle::Throttle;
use crate::proto::chrome_hello;
use crate::proto::secret::Secret;

const HOST: &[u8] = b"front.example";
const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
const NOW_S: u64 = 1_800_000_000;
/// Three slices and a bit.
const PEOPLE: u8 = 50;

fn secrets() -> Vec<(String, Secret)> {
    (0..PEOPLE).map(|i| (format!("{i:03}"), Secret::new([i; 16], HOST).unwrap())).collect()
}

/// The first user stands first in the order of trials.
fn people() -> Users {
    Users::new(secrets().iter().map(|(name, secret)| ConfiguredUser {
        name,
        secret,
        enabled: true,
    }))
}

/// A hello that opens with `key`, said at `clock`.
fn hello(key: u8, clock: u64) -> Vec<u8> {
    let mut rng = fastrand::Rng::with_seed(u64::from(key));
    let suites = [0x1302, 0x1301, 0x1303];
    let mut wire = chrome_hello::write(HOST, suites, &mut |bytes| rng.fill(bytes)).wire;
    wire[11..43].fill(0);
    let mut mac = Hmac::<Sha256>::new_from_slice(&[key; 16]).unwrap();
    mac.update(&wire);
    let mut digest: [u8; 32] = mac.finalize().into_bytes().into();
    for (byte, clock) in digest[28..].iter_mut().zip((clock as u32).to_le_bytes()) {
        *byte ^= clock;
    }
    wire[11..43].copy_from_slice(&digest);
    wire
}

struct House {
    users: Users,
    replay: Replay,
    throttle: Throttle,
    misses: HelloRateLimit,
}

impl House {
    fn new(most_connections: u32) -> Self {
        let throttle = Throttle::new(most_connections, PEOPLE.into());
        let misses = HelloRateLimit::default();
        Self { users: people(), replay: Replay::new(1 << 20), throttle, misses }
    }

    /// The verdict and after how many turns it fell.
    fn verdict(&mut self, hello: &[u8]) -> (AuthVerdict, u32) {
        let mut gate = Authenticator::default();
        for turns in 1.. {
            let mut book = AuthContext {
                users: &self.users,
                replay: Some(&mut self.replay),
                throttle: Some(&mut self.throttle),
                misses: &mut self.misses,
                now_ms: 0,
                unix_s: Some(NOW_S),
                tolerance_s: 120,
            };
            match gate.check(hello, HERE, &mut book) {
                AuthVerdict::KeysLeft => {}
                verdict => return (verdict, turns),
            }
        }
        unreachable!("a gate that never decides")
    }

    /// Why a hello is fronted, for whom, and after how many turns.
    fn refusal(&mut self, hello: &[u8]) -> (Reject, bool, u32) {
        match self.verdict(hello) {
            (AuthVerdict::Front { why, user, .. }, turns) => (why, user.is_some(), turns),
            (verdict, _) => panic!("{verdict:?}"),
        }
    }
}

/// Spec: protocol 15.16. A replay that is found at the first key must not be fronted sooner than
/// a hello that fits none.
#[test]
fn a_replay_takes_as_many_turns_as_a_wrong_key() {
    let mut house = House::new(1_000);
    let turns = u32::from(PEOPLE).div_ceil(KEYS_PER_CHECK as u32);
    assert_eq!(house.refusal(&hello(200, NOW_S)), (Reject::WrongKey, false, turns));
    for key in [0, 20, PEOPLE - 1] {
        let hello = hello(key, NOW_S);
        assert!(matches!(house.verdict(&hello), (AuthVerdict::Admit(_), _)));
        assert_eq!(house.refusal(&hello), (Reject::Replay, true, turns), "{key}");
        assert_eq!(house.refusal(&hello), (Reject::Replay, true, turns), "{key}");
    }
}

#[test]
fn a_wrong_clock_and_a_full_share_take_as_many_turns_as_a_wrong_key() {
    let mut house = House::new(1);
    let turns = u32::from(PEOPLE).div_ceil(KEYS_PER_CHECK as u32);
    let off = Reject::ClockOff { off_s: -3600 };
    assert_eq!(house.refusal(&hello(0, NOW_S - 3600)), (off, true, turns));
    let first = house.users.candidates(house.users.first_host(), HERE).next().unwrap();
    house.users.add_session(first, HERE, 0);
    house.throttle.recompute(house.users.connections());
    assert_eq!(house.refusal(&hello(0, NOW_S)), (Reject::Throttled, true, turns));
}

#[test]
fn a_disabled_user_is_known_and_takes_as_many_turns_as_a_wrong_key() {
    let mut house = House::new(1_000);
    let secrets = secrets();
    let people = secrets.iter().enumerate();
    house.users.reload(people.map(|(at, (name, secret))| ConfiguredUser {
        name,
        secret,
        enabled: at > 0,
    }));
    let turns = u32::from(PEOPLE).div_ceil(KEYS_PER_CHECK as u32);
    assert_eq!(house.refusal(&hello(0, NOW_S)), (Reject::Disabled, true, turns));
    assert_eq!(house.refusal(&hello(0, NOW_S)), (Reject::Disabled, true, turns), "no replay");
    assert!(matches!(house.verdict(&hello(1, NOW_S)), (AuthVerdict::Admit(_), 1)));
}

#[test]
fn a_flood_shortens_the_trials_of_a_replay_as_it_does_those_of_strangers() {
    let mut house = House::new(1_000);
    let known = hello(0, NOW_S);
    assert!(matches!(house.verdict(&known), (AuthVerdict::Admit(_), 1)));
    while !house.misses.is_limited(HERE, 0) {
        house.misses.record_failure(HERE, 0);
    }
    assert_eq!(house.refusal(&hello(200, NOW_S)), (Reject::WrongKey, false, 1));
    assert_eq!(house.refusal(&known), (Reject::Replay, true, 1));
}

#[test]
fn an_admission_says_what_the_answer_may_choose_from() {
    let mut house = House::new(1_000);
    let (AuthVerdict::Admit(admission), 2) = house.verdict(&hello(20, NOW_S)) else {
        panic!("not admitted in the second turn");
    };
    assert_eq!(admission.suites, [0x1302, 0x1301, 0x1303]);
    assert!(admission.hybrid && admission.x25519);
    assert_eq!(house.users.host_name(admission.host), HOST);
}

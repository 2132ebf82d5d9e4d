//! The number of calls that a hello takes must not reveal why it is rejected.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::*;
use crate::accounts::users::ConfiguredUser;
use crate::limits::throttle::Throttle;
use crate::proto::chrome_hello;
use crate::proto::secret::Secret;
use crate::util::memory::{Budget, Class};

const HOST: &[u8] = b"front.example";
const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
const NOW_S: u64 = 1_800_000_000;
/// More than three slices.
const USERS: u8 = 100;

fn secrets() -> Vec<(String, Secret)> {
    (0..USERS).map(|i| (format!("{i:03}"), Secret::new([i; 16], HOST).unwrap())).collect()
}

/// The key of the first user is tried first.
fn users() -> Users {
    Users::new(secrets().iter().map(|(name, secret)| ConfiguredUser {
        name,
        secret,
        enabled: true,
    }))
}

/// A hello made with `key` when the client's clock showed `clock`.
fn hello(key: u8, clock: u64) -> Vec<u8> {
    changed_hello(key, clock, |_| {})
}

/// The same without a server name: its extension gets a number that has no meaning.
fn nameless_hello(key: u8, clock: u64) -> Vec<u8> {
    changed_hello(key, clock, |wire| {
        let at = wire.windows(HOST.len()).position(|part| part == HOST).unwrap();
        wire[at - 9..at - 7].fill(0x1a);
    })
}

fn changed_hello(key: u8, clock: u64, change: impl Fn(&mut [u8])) -> Vec<u8> {
    let mut rng = fastrand::Rng::with_seed(u64::from(key));
    let suites = [0x1302, 0x1301, 0x1303];
    let mut wire = chrome_hello::write(HOST, suites, &mut |bytes| rng.fill(bytes)).wire;
    wire[11..43].fill(0);
    change(&mut wire);
    let mut mac = Hmac::<Sha256>::new_from_slice(&[key; 16]).unwrap();
    mac.update(&wire);
    let mut digest: [u8; 32] = mac.finalize().into_bytes().into();
    for (byte, clock) in digest[28..].iter_mut().zip((clock as u32).to_le_bytes()) {
        *byte ^= clock;
    }
    wire[11..43].copy_from_slice(&digest);
    wire
}

struct Fixture {
    users: Users,
    replay: Replay,
    throttle: Throttle,
    places: Throttle,
    hello_rate: NetworkRate,
    account: Rc<Account>,
}

impl Fixture {
    fn new(most_connections: u32) -> Self {
        let throttle = Throttle::new(most_connections, USERS.into());
        let hello_rate = NetworkRate::default();
        let places = Throttle::new(u32::MAX, USERS.into());
        let account = Account::of_class(&Budget::new(1 << 20), Class::Unauthenticated);
        Self {
            users: users(),
            replay: Replay::new(1 << 20, 0),
            throttle,
            places,
            hello_rate,
            account,
        }
    }

    /// The verdict, and the number of calls until then.
    fn verdict(&mut self, hello: &[u8]) -> (AuthVerdict, u32) {
        let mut authenticator = Authenticator::default();
        for calls in 1.. {
            let mut context = AuthContext {
                users: &self.users,
                replay: Some(&mut self.replay),
                throttle: Some(&mut self.throttle),
                places: &mut self.places,
                hello_rate: &mut self.hello_rate,
                now_ms: 0,
                unix_s: Some(NOW_S),
                started: Some(Duration::from_secs(NOW_S - 300)),
                tolerance_s: 120,
                account: &self.account,
            };
            match authenticator.check(hello, HERE, &mut context) {
                AuthVerdict::KeysLeft => {}
                verdict => return (verdict, calls),
            }
        }
        unreachable!("no verdict")
    }

    /// Why a hello is rejected, whether its user is known, and the number of calls.
    fn refusal(&mut self, hello: &[u8]) -> (Reject, bool, u32) {
        match self.verdict(hello) {
            (AuthVerdict::Front { why, user, .. }, calls) => (why, user.is_some(), calls),
            (verdict, _) => panic!("{verdict:?}"),
        }
    }
}

/// PROTOCOL 15.16. A replay that matches the first key must not be rejected sooner than a
/// hello that matches no key.
#[test]
fn a_replay_takes_as_many_calls_as_a_wrong_key() {
    let mut fixture = Fixture::new(1_000);
    let calls = u32::from(USERS).div_ceil(KEYS_PER_CHECK as u32);
    assert_eq!(fixture.refusal(&hello(200, NOW_S)), (Reject::WrongKey, false, calls));
    for key in [0, 20, USERS - 1] {
        let hello = hello(key, NOW_S);
        assert!(matches!(fixture.verdict(&hello), (AuthVerdict::Admit(_), _)));
        assert_eq!(fixture.refusal(&hello), (Reject::Replay, true, calls), "{key}");
        assert_eq!(fixture.refusal(&hello), (Reject::Replay, true, calls), "{key}");
    }
}

/// A probe without a name is refused after a few calls, whatever the number of users.
#[test]
fn without_a_name_the_likeliest_keys_are_tried() {
    let mut fixture = Fixture::new(1_000);
    assert_eq!(fixture.refusal(&nameless_hello(200, NOW_S)), (Reject::NoSni, false, 4));
    assert!(matches!(fixture.verdict(&nameless_hello(5, NOW_S)), (AuthVerdict::Admit(_), 1)));
    assert_eq!(fixture.refusal(&nameless_hello(5, NOW_S)), (Reject::Replay, true, 4));
    let last = USERS - 1;
    assert_eq!(fixture.refusal(&nameless_hello(last, NOW_S)), (Reject::NoSni, false, 4));
    let (AuthVerdict::Admit(admission), _) = fixture.verdict(&hello(last, NOW_S)) else {
        panic!("the name makes the search complete");
    };
    fixture.users.add_session(admission.user, HERE, 0);
    let again = fixture.verdict(&nameless_hello(last, NOW_S + 1));
    assert!(matches!(again, (AuthVerdict::Admit(_), 1)), "this address is known");
}

#[test]
fn a_wrong_clock_and_a_throttled_user_take_as_many_calls_as_a_wrong_key() {
    let mut fixture = Fixture::new(1);
    let calls = u32::from(USERS).div_ceil(KEYS_PER_CHECK as u32);
    let off = Reject::ClockOff { off_s: -3600 };
    assert_eq!(fixture.refusal(&hello(0, NOW_S - 3600)), (off, true, calls));
    let first = fixture.users.candidates(fixture.users.first_host(), HERE).next().unwrap();
    fixture.users.add_session(first, HERE, 0);
    fixture.throttle.recompute(fixture.users.connections());
    assert_eq!(fixture.refusal(&hello(0, NOW_S)), (Reject::Throttled, true, calls));
}

#[test]
fn a_disabled_user_is_known_and_takes_as_many_calls_as_a_wrong_key() {
    let mut fixture = Fixture::new(1_000);
    let secrets = secrets();
    let configured = secrets.iter().enumerate();
    fixture.users.reload(configured.map(|(at, (name, secret))| ConfiguredUser {
        name,
        secret,
        enabled: at > 0,
    }));
    let calls = u32::from(USERS).div_ceil(KEYS_PER_CHECK as u32);
    assert_eq!(fixture.refusal(&hello(0, NOW_S)), (Reject::Disabled, true, calls));
    assert_eq!(fixture.refusal(&hello(0, NOW_S)), (Reject::Disabled, true, calls), "no replay");
    assert!(matches!(fixture.verdict(&hello(1, NOW_S)), (AuthVerdict::Admit(_), 1)));
}

#[test]
fn a_flood_limits_the_keys_tried_for_a_replay_as_for_a_wrong_key() {
    let mut fixture = Fixture::new(1_000);
    let known = hello(0, NOW_S);
    assert!(matches!(fixture.verdict(&known), (AuthVerdict::Admit(_), 1)));
    while !fixture.hello_rate.is_limited(HERE, 0) {
        fixture.hello_rate.record(HERE, 0);
    }
    assert_eq!(fixture.refusal(&hello(200, NOW_S)), (Reject::WrongKey, false, 1));
    assert_eq!(fixture.refusal(&known), (Reject::Replay, true, 1));
}

#[test]
fn an_admission_has_what_the_client_offers() {
    let mut fixture = Fixture::new(1_000);
    let (AuthVerdict::Admit(admission), 2) = fixture.verdict(&hello(20, NOW_S)) else {
        panic!("not admitted in the second call");
    };
    assert_eq!(admission.suites, [0x1302, 0x1301, 0x1303]);
    assert!(admission.hybrid && admission.x25519);
    assert_eq!(fixture.users.host_name(admission.host), HOST);
}

//! Draws a scenario from a seed: settings, people, plans, faults.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use fastrand::Rng;
use mtbox::config::settings::{
    FrontSettings, PreferIp, ReplaySettings, Settings, ShapeSettings, ThrottleSettings, Timeouts,
    UserSettings,
};
use mtbox::proto::secret::Secret;

use crate::client::{Member, Plan};
use crate::hub::Faults;
use crate::peer::{Ending, Habits};
use crate::play::wall;
use crate::protocol;
use crate::server::FRONTS;

/// What kind of trouble a run is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mix {
    /// Honest sessions over a bad network and a tiny pool.
    Honest,
    /// Readers that stop, with a tiny pool.
    Stalls,
    /// Resets from either side at any moment.
    Resets,
    /// Peers that stop in the middle of something and never say another word.
    Silence,
    /// Strangers of all kinds, and fronts that answer, stall or are our own listener.
    Strangers,
    /// Dials that are refused, slow, or never answered, and names without an address.
    Dials,
    /// More people than places: concurrency and throttle.
    Crowd,
    /// The daemon leaves in the middle.
    Drain,
}

/// Everything that a run is made of.
#[derive(Debug, Clone)]
pub struct Scene {
    /// What it is about.
    pub mix: Mix,
    /// The daemon's settings.
    pub settings: Settings,
    /// Blocks of the pool.
    pub blocks: usize,
    /// Records per read.
    pub slots: usize,
    /// Sessions at once.
    pub most_sessions: usize,
    /// Fronted sessions at once, if not the daemon's own choice.
    pub front_cap: Option<u32>,
    /// The network.
    pub faults: Faults,
    /// The clients and their other ends.
    pub plans: Vec<Plan>,
    /// When the daemon is told to leave.
    pub drain_at: Option<u64>,
    /// Longest time of a name lookup.
    pub names_ms: u64,
    /// So many percent of the lookups fail.
    pub bad_names: u32,
    /// Our own listeners.
    pub own_binds: Vec<SocketAddr>,
}

/// Draws the scenario of a seed.
pub fn draw(mix: Mix, seed: u64) -> Scene {
    let mut rng = Rng::with_seed(seed ^ 0x5ce0e);
    let rng = &mut rng;
    let users = people(rng);
    let faults = Faults {
        dribble: rng.u32(0..60),
        short_write: rng.u32(0..30),
        lies: rng.u32(0..15),
        hurry: rng.u32(0..40),
        latency_ms: rng.u64(0..20),
        bad_dials: if mix == Mix::Dials { 85 } else { 0 },
        slow_dials_ms: if mix == Mix::Dials { 900 } else { rng.u64(0..100) },
        window: (500, 40_000),
        first_window: FIRST_WINDOW,
        sabotage: None,
    };
    let throttle = ThrottleSettings {
        max_connections: rng.u32(1..6),
        check_interval: Duration::from_millis(rng.u64(500..6_000)),
    };
    let bare = bare();
    let settings = Settings {
        users,
        binds: vec![SocketAddr::from(([192, 0, 2, 1], 443))],
        concurrency: 64,
        prefer_ip: PreferIp::PreferIpv4,
        time_skew: Duration::from_secs(120),
        fallback_on_unknown_dc: rng.bool(),
        front: FrontSettings {
            host: rng.bool().then(|| format!("10.{FRONTS}.0.1")),
            ..bare.front.clone()
        },
        throttle: (mix == Mix::Crowd).then_some(throttle),
        timeouts: Timeouts {
            tcp: Duration::from_millis(rng.u64(1_000..5_000)),
            idle: Duration::from_millis(rng.u64(60_000..600_000)),
            handshake: Duration::from_millis(rng.u64(8_000..15_000)),
            ..bare.timeouts
        },
        re_encrypt: rng.bool(),
        coalesce_reads: false,
        replay: Some(ReplaySettings { max_bytes: 4_096 }),
        shape: (rng.u32(0..3) > 0).then(|| ShapeSettings { always: rng.bool(), drs: rng.bool() }),
        dc_overrides: (1..=5)
            .map(|dc| (dc, [3, 2, 1].map(|last| addr(dc as u8, last)).to_vec()))
            .collect(),
        ..bare
    };
    let own = mix == Mix::Strangers && rng.u32(0..10) == 0;
    let mut scene = Scene {
        mix,
        settings,
        blocks: [2, 3, 8][rng.usize(0..3)],
        slots: rng.usize(1..=8),
        most_sessions: if mix == Mix::Crowd { rng.usize(1..8) } else { 64 },
        front_cap: (mix == Mix::Crowd).then(|| rng.u32(0..4)),
        faults,
        plans: Vec::new(),
        drain_at: (mix == Mix::Drain).then(|| [rng.u64(1..4_000), 15_000][rng.usize(0..2)]),
        names_ms: if mix == Mix::Dials { 12_000 } else { rng.u64(0..300) },
        bad_names: if mix == Mix::Dials { 30 } else { 0 },
        own_binds: own.then(|| SocketAddr::from(([10, FRONTS, 0, 1], 443))).into_iter().collect(),
    };
    let clients = rng.usize(1..=if mix == Mix::Crowd { 14 } else { 6 });
    for number in 0..clients {
        let plan = plan(mix, rng, &scene, seed ^ (number as u64 + 1) << 32);
        scene.plans.push(plan);
    }
    scene
}

/// What a file that says next to nothing means.
fn bare() -> Settings {
    let secret = format!("ee{}{}", "11".repeat(16), "61".repeat(4));
    let text = format!("bind-to = \"192.0.2.1:443\"\nsecret = \"{secret}\"\n");
    let loaded = mtbox::config::load::load(text.as_bytes(), "scene");
    loaded.unwrap_or_else(|complaints| panic!("{complaints:?}")).settings
}

/// One to forty people of one to three hosts: more than one slice of keys.
fn people(rng: &mut Rng) -> Vec<UserSettings> {
    let hosts = rng.usize(1..=3);
    let count = if rng.bool() { rng.usize(1..=4) } else { rng.usize(17..=40) };
    let person = |at: usize| {
        let mut key = [at as u8 + 1; 16];
        rng.fill(&mut key[1..]);
        let secret = Secret::new(key, format!("h{}.example", at % hosts).as_bytes());
        UserSettings { name: format!("u{at:02}"), secret: secret.expect("a host"), enabled: true }
    };
    (0..count).map(person).collect()
}

fn plan(mix: Mix, rng: &mut Rng, scene: &Scene, seed: u64) -> Plan {
    let starts = rng.u64(0..3_000);
    let strangers = match mix {
        Mix::Strangers => 80,
        Mix::Crowd => 35,
        _ => 15,
    };
    let is_member = rng.u32(0..100) >= strangers;
    let own_front = !scene.own_binds.is_empty();
    let (member, opening) = if is_member {
        let user = rng.usize(0..scene.settings.users.len());
        let member = member(rng, scene, user, starts);
        let pieces = if rng.bool() { 1 } else { rng.usize(1..=10) };
        let opening = protocol::in_records(&member.hello, pieces);
        (Some(member), opening)
    } else {
        (None, strange_opening(rng, scene, starts))
    };
    let mut plan = Plan {
        starts,
        member,
        opening,
        dc: rng.i16(1..=5) * if rng.bool() { 1 } else { -1 },
        up: rng.usize(1..60_000),
        down: rng.usize(1..120_000),
        record: [100, 2_878, 16_384, 30_000][rng.usize(0..4)],
        garbles_at: None,
        hasty: false,
        habits: habits(rng),
        server: habits(rng),
        doom: (None, None),
        guaranteed: true,
        turned_away: false,
        seed,
    };
    if rng.u32(0..4) == 0 {
        // Crumbs, too short for records of their own.
        (plan.down, plan.server.mouthful) = (rng.usize(1..3_000), 6);
    }
    (plan.habits.ending, plan.server.ending) = [
        (Ending::Fin, Ending::AwaitFin),
        (Ending::AwaitFin, Ending::Fin),
        (Ending::Fin, Ending::Fin),
    ][rng.usize(0..3)];
    match mix {
        Mix::Honest => {
            if plan.member.is_some() && rng.u32(0..6) == 0 {
                turn_away(rng, &mut plan, scene);
            }
        }
        Mix::Stalls => stall(rng, &mut plan),
        Mix::Resets => reset(rng, &mut plan),
        Mix::Silence => fall_silent(rng, &mut plan),
        Mix::Strangers => {
            if rng.u32(0..3) == 0 {
                fall_silent(rng, &mut plan);
            }
            plan.guaranteed &= !own_front;
        }
        // A member can always reach its DC in the end; a front's name may have no address.
        Mix::Dials => plan.guaranteed = plan.member.is_some(),
        Mix::Crowd => plan.guaranteed = false,
        Mix::Drain => {
            if rng.u32(0..3) == 0 {
                fall_silent(rng, &mut plan);
            }
            plan.guaranteed = false;
            // Sleepy readers, so that something is unsent when the end comes.
            plan.up *= 4;
            (plan.habits.nap, plan.server.nap) = ((15, 700), (15, 700));
        }
    }
    plan
}

fn habits(rng: &mut Rng) -> Habits {
    Habits {
        mouthful: [50, 1_400, 20_000][rng.usize(0..3)],
        bite: [700, 9_000, 60_000][rng.usize(0..3)],
        think: (rng.u32(0..10), rng.u64(1..60)),
        nap: (rng.u32(0..3), rng.u64(1..1_000)),
        ending: Ending::Fin,
        cut_off: None,
    }
}

fn member(rng: &mut Rng, scene: &Scene, user: usize, starts: u64) -> Member {
    let secret = &scene.settings.users[user].secret;
    let host = String::from_utf8_lossy(secret.host()).into_owned();
    let (clock, hybrid) = (wall(starts).unix_s as u32, rng.bool());
    let hello = protocol::hello(rng, secret.key(), &host, clock, hybrid);
    Member { user, key: *secret.key(), hello }
}

/// What strangers say first. The rest of what they say is noise.
fn strange_opening(rng: &mut Rng, scene: &Scene, starts: u64) -> Vec<u8> {
    let clock = wall(starts).unix_s as u32;
    let hello = protocol::hello(rng, &[0x77; 16], "h0.example", clock, rng.clone().bool());
    match rng.u32(0..6) {
        0 => b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        1 => hello,
        2 => hello[..rng.usize(1..hello.len())].to_vec(),
        3 => protocol::hello(rng, &[0x77; 16], "elsewhere.example", clock, false),
        4 => {
            // A hello of ours from yesterday.
            let secret = &scene.settings.users[0].secret;
            let host = String::from_utf8_lossy(secret.host()).into_owned();
            protocol::hello(rng, secret.key(), &host, clock - 86_400, true)
        }
        _ => vec![rng.u8(..)],
    }
}

/// Asks for a DC that there is not, or sends a record that is none.
fn turn_away(rng: &mut Rng, plan: &mut Plan, scene: &Scene) {
    (plan.guaranteed, plan.turned_away) = (false, true);
    plan.habits.ending = Ending::AwaitFin;
    if rng.bool() && !scene.settings.fallback_on_unknown_dc {
        (plan.dc, plan.up) = (77, rng.usize(1..2_000));
    } else {
        plan.garbles_at = Some(rng.usize(0..plan.up));
    }
}

fn stall(rng: &mut Rng, plan: &mut Plan) {
    plan.guaranteed = false;
    for habits in [&mut plan.habits, &mut plan.server] {
        match rng.u32(0..4) {
            0 => habits.nap = (20, 20_000),
            1 => habits.nap = (5, 90_000),
            2 => (habits.ending, habits.cut_off) = (Ending::Deaf, Some(rng.usize(1..90_000))),
            _ => {}
        }
    }
    plan.down *= 3;
}

fn reset(rng: &mut Rng, plan: &mut Plan) {
    plan.guaranteed = false;
    match rng.u32(0..6) {
        0 => plan.habits.cut_off = Some(rng.usize(1..9_000)),
        1 => plan.server.cut_off = Some(rng.usize(1..90_000)),
        2 => plan.doom.0 = Some(rng.u32(1..60)),
        3 => plan.doom.1 = Some(rng.u32(1..60)),
        4 => plan.hasty = true,
        _ => plan.garbles_at = Some(rng.usize(0..plan.up)),
    }
    let endings = [Ending::Reset, Ending::Close];
    if rng.u32(0..3) > 0 {
        plan.habits.ending = endings[rng.usize(0..2)];
    }
    if rng.u32(0..3) > 0 {
        plan.server.ending = endings[rng.usize(0..2)];
    }
}

fn fall_silent(rng: &mut Rng, plan: &mut Plan) {
    plan.guaranteed = false;
    let endings = [Ending::Mute, Ending::Deaf];
    if rng.bool() {
        plan.habits.ending = endings[rng.usize(0..2)];
        plan.habits.cut_off = match rng.u32(0..4) {
            0 => Some(rng.usize(0..plan.opening.len())),
            1 => Some(plan.opening.len() + rng.usize(0..80)),
            2 => Some(rng.usize(1..60_000)),
            _ => None,
        };
    } else {
        plan.server.ending = endings[rng.usize(0..2)];
        plan.server.cut_off = rng.bool().then(|| rng.usize(0..90_000));
    }
    plan.hasty = rng.u32(0..4) == 0;
}

fn addr(dc: u8, last: u8) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::new(10, 0, dc, last), 443))
}

/// More than an answer or an opening: a fresh socket takes those at once.
const FIRST_WINDOW: usize = 40_000;

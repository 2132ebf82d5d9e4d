//! Draws a run from a seed: settings, users, plans, faults.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use fastrand::Rng;
use mtbox::config::settings::{
    DnsSettings, FrontSettings, NameServer, PreferIp, ReplaySettings, Settings, ShapeSettings,
    ThrottleSettings, Timeouts, UserSettings,
};
use mtbox::flow::authenticate::KEYS_PER_CHECK;
use mtbox::proto::secret::Secret;

use crate::client::{Credentials, Plan};
use crate::dns::{self, DnsFaults};
use crate::driver::wall;
use crate::everything;
use crate::network::Faults;
use crate::peer::{Behaviour, Ending};
use crate::protocol;
use crate::server::FRONTS;

/// The subject of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mix {
    /// Honest sessions over a bad network and a tiny pool.
    Honest,
    /// Readers that stop, with a tiny pool.
    Stalls,
    /// Resets from either side at any moment.
    Resets,
    /// Peers that stop within a record or a handshake and never write again.
    Silence,
    /// Probes of all kinds, and fronts that answer, stall or are our own listener.
    Probes,
    /// Dials that are refused, slow, or never answered, and names without an address.
    Dials,
    /// More sessions than allowed: concurrency and throttle.
    Crowd,
    /// Silent and half-sent probes of one network and a user with many sessions take all places.
    /// Other users are served.
    Siege,
    /// The daemon drains in the middle of the run.
    Drain,
    /// All parts: DNS servers that lie, proxies that stall, list servers, admin pages, statsd,
    /// reloads that move everything, drain.
    Everything,
}

/// Everything that a run is drawn from.
#[derive(Debug, Clone)]
pub struct Script {
    /// The subject.
    pub mix: Mix,
    /// The seed of the run.
    pub seed: u64,
    /// The daemon's settings.
    pub settings: Settings,
    /// Blocks of the pool.
    pub blocks: usize,
    /// Records per read.
    pub slots: usize,
    /// Sessions at once.
    pub most_sessions: usize,
    /// Limit of fronted sessions; `None` = the daemon's default.
    pub front_cap: Option<u32>,
    /// Faults of the network.
    pub faults: Faults,
    /// One plan per client.
    pub plans: Vec<Plan>,
    /// When the drain begins, in virtual milliseconds.
    pub drain_at: Option<u64>,
    /// Behaviour of the DNS server.
    pub dns: DnsFaults,
    /// The front is our own listener.
    pub own_front: bool,
    /// Some proxies say yes and lead nowhere.
    pub proxies_lie: bool,
    /// The run lasts at least this many virtual milliseconds.
    pub lasts_ms: u64,
}

/// Draws the script of a seed.
pub fn draw(mix: Mix, seed: u64) -> Script {
    let mut rng = Rng::with_seed(seed ^ 0x5ce0e);
    let rng = &mut rng;
    let mut users = draw_users(rng);
    while mix == Mix::Siege && users.len() < 2 {
        users = draw_users(rng);
    }
    if mix == Mix::Siege {
        // All keys are tried in one slice: clients have addresses of their own then.
        users.truncate(KEYS_PER_CHECK);
    }
    let faults = Faults {
        partial_arrival: rng.u32(0..60),
        short_write: rng.u32(0..30),
        spurious_readiness: rng.u32(0..15),
        concurrent_progress: rng.u32(0..40),
        latency_ms: rng.u64(0..20),
        bad_dials: if mix == Mix::Dials { 85 } else { 0 },
        slow_dials_ms: if mix == Mix::Dials { 900 } else { rng.u64(0..100) },
        slow_us: 0,
        accept_errors: 0,
        window: (500, 40_000),
        first_window: FIRST_WINDOW,
        defect: None,
    };
    let throttle = ThrottleSettings {
        max_connections: rng.u32(1..6),
        check_interval: Duration::from_millis(rng.u64(500..6_000)),
    };
    let bare = bare();
    let own = mix == Mix::Probes && rng.u32(0..10) == 0;
    let own_bind = own.then(|| SocketAddr::from(([203, FRONTS, 0, 1], 443)));
    let settings = Settings {
        users,
        binds: [SocketAddr::from(([192, 0, 2, 1], 443))].into_iter().chain(own_bind).collect(),
        dns: DnsSettings { server: NameServer::Udp(dns::server_addr()), bootstrap: None },
        dc_list: None,
        concurrency: 64,
        prefer_ip: PreferIp::PreferIpv4,
        time_skew: Duration::from_secs(120),
        fallback_on_unknown_dc: rng.bool(),
        front: FrontSettings {
            host: rng.bool().then(|| format!("203.{FRONTS}.0.1")),
            probe: false,
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
    let mut script = Script {
        mix,
        seed,
        settings,
        blocks: if mix == Mix::Siege { 64 } else { [2, 3, 8][rng.usize(0..3)] },
        slots: rng.usize(1..=8),
        most_sessions: match mix {
            Mix::Crowd => rng.usize(1..8),
            Mix::Siege => rng.usize(48..57),
            _ => 64,
        },
        front_cap: matches!(mix, Mix::Crowd | Mix::Siege).then(|| rng.u32(0..4)),
        faults,
        plans: Vec::new(),
        drain_at: (mix == Mix::Drain).then(|| [rng.u64(1..4_000), 15_000][rng.usize(0..2)]),
        dns: DnsFaults {
            delay_ms: if mix == Mix::Dials { 4_000 } else { rng.u64(0..300) },
            no_address: if mix == Mix::Dials { 30 } else { 0 },
            lies: 0,
        },
        own_front: own,
        proxies_lie: false,
        lasts_ms: 0,
    };
    if mix == Mix::Everything {
        everything::apply(rng, &mut script);
    }
    let clients = match mix {
        Mix::Crowd => rng.usize(1..=14),
        Mix::Siege => rng.usize(90..=120),
        _ => rng.usize(1..=6),
    };
    for number in 0..clients {
        let plan = plan(mix, rng, &script, seed ^ (number as u64 + 1) << 32);
        script.plans.push(plan);
    }
    script
}

/// The settings of a minimal config file.
fn bare() -> Settings {
    let secret = format!("ee{}{}", "11".repeat(16), "61".repeat(4));
    let text = format!("bind-to = \"192.0.2.1:443\"\nsecret = \"{secret}\"\n");
    let loaded = mtbox::config::load::load(text.as_bytes(), "sim");
    loaded.unwrap_or_else(|complaints| panic!("{complaints:?}")).settings
}

/// One to forty users of one to three hosts; more than 16 keys are tried in slices.
fn draw_users(rng: &mut Rng) -> Vec<UserSettings> {
    let hosts = rng.usize(1..=3);
    let count = if rng.bool() { rng.usize(1..=4) } else { rng.usize(17..=40) };
    let user = |at: usize| {
        let mut key = [at as u8 + 1; 16];
        rng.fill(&mut key[1..]);
        let secret = Secret::new(key, format!("h{}.example", at % hosts).as_bytes());
        UserSettings { name: format!("u{at:02}"), secret: secret.expect("a host"), enabled: true }
    };
    (0..count).map(user).collect()
}

fn plan(mix: Mix, rng: &mut Rng, script: &Script, seed: u64) -> Plan {
    let starts = rng.u64(0..3_000);
    let probes = match mix {
        Mix::Probes => 80,
        Mix::Crowd => 35,
        _ => 15,
    };
    let is_member = rng.u32(0..100) >= probes;
    let own_front = script.own_front;
    let (credentials, opening) = if is_member {
        let user = rng.usize(0..script.settings.users.len());
        let credentials = credentials(rng, script, user, starts);
        let pieces = if rng.bool() { 1 } else { rng.usize(1..=10) };
        let opening = protocol::in_records(&credentials.hello, pieces);
        (Some(credentials), opening)
    } else {
        (None, probe_opening(rng, script, starts))
    };
    // The cache of recent addresses uses a secret hash. With many keys it decides in how many
    // slices they are tried, so all clients have one address then; otherwise a run would not be
    // reproducible.
    let is_sliced = script.settings.users.len() > KEYS_PER_CHECK;
    let octet = if is_sliced { 0 } else { script.plans.len() as u8 / 2 };
    let mut plan = Plan {
        starts,
        from: SocketAddr::from(([198, 51, 100, octet], 4_000)),
        credentials,
        opening,
        dc: rng.i16(1..=5) * if rng.bool() { 1 } else { -1 },
        up: rng.usize(1..60_000),
        down: rng.usize(1..120_000),
        record: [100, 2_878, 16_384, 16_500][rng.usize(0..4)],
        bad_record_at: None,
        early_fin: false,
        client: behaviour(rng),
        server: behaviour(rng),
        reset_after: (None, None),
        must_complete: true,
        must_be_refused: false,
        seed,
    };
    if rng.u32(0..4) == 0 {
        // Chunks too short for records of their own.
        (plan.down, plan.server.write_chunk) = (rng.usize(1..3_000), 6);
    }
    (plan.client.ending, plan.server.ending) = [
        (Ending::Fin, Ending::AwaitFin),
        (Ending::AwaitFin, Ending::Fin),
        (Ending::Fin, Ending::Fin),
    ][rng.usize(0..3)];
    match mix {
        Mix::Honest => {
            if plan.credentials.is_some() && rng.u32(0..6) == 0 {
                make_refused(rng, &mut plan, script);
            }
        }
        Mix::Stalls => stall(rng, &mut plan),
        Mix::Resets => reset(rng, &mut plan),
        Mix::Silence => fall_silent(rng, &mut plan),
        Mix::Probes => {
            if rng.u32(0..3) == 0 {
                fall_silent(rng, &mut plan);
            }
            plan.must_complete &= !own_front;
        }
        // A user can always reach its DC in the end; the name of a front may have no address.
        Mix::Dials => plan.must_complete = plan.credentials.is_some(),
        Mix::Crowd => plan.must_complete = false,
        Mix::Siege => besiege(rng, &mut plan, script),
        Mix::Everything => {
            match rng.u32(0..12) {
                0 => stall(rng, &mut plan),
                1 => fall_silent(rng, &mut plan),
                2 => reset(rng, &mut plan),
                _ => {}
            }
            let is_user = plan.credentials.is_some();
            // A lie about the front's name ends the session of a probe.
            let is_led_astray = if is_user { script.proxies_lie } else { script.dns.lies > 0 };
            // Without descriptors, those that the front serves make room.
            let makes_room = !is_user && script.faults.accept_errors > 0;
            plan.must_complete &= script.drain_at.is_none() && !is_led_astray && !makes_room;
            plan.starts = rng.u64(0..20_000);
            if let Some(credentials) = &mut plan.credentials {
                let user = credentials.user;
                *credentials = self::credentials(rng, script, user, plan.starts);
                plan.opening = credentials.hello.clone();
            }
        }
        Mix::Drain => {
            if rng.u32(0..3) == 0 {
                fall_silent(rng, &mut plan);
            }
            plan.must_complete = false;
            // Slow readers, so that bytes are unsent when the drain begins.
            plan.up *= 4;
            (plan.client.read_pause, plan.server.read_pause) = ((15, 700), (15, 700));
        }
    }
    plan
}

fn behaviour(rng: &mut Rng) -> Behaviour {
    Behaviour {
        write_chunk: [50, 1_400, 20_000][rng.usize(0..3)],
        read_chunk: [700, 9_000, 60_000][rng.usize(0..3)],
        write_pause: (rng.u32(0..10), rng.u64(1..60)),
        read_pause: (rng.u32(0..3), rng.u64(1..1_000)),
        ending: Ending::Fin,
        send_limit: None,
    }
}

fn credentials(rng: &mut Rng, script: &Script, user: usize, starts: u64) -> Credentials {
    let secret = &script.settings.users[user].secret;
    let host = String::from_utf8_lossy(secret.host()).into_owned();
    let (clock, hybrid) = (wall(starts).unix_s as u32, rng.bool());
    let hello = protocol::hello(rng, secret.key(), &host, clock, hybrid);
    Credentials { user, key: *secret.key(), hello }
}

/// The first bytes of a probe. The rest is noise.
fn probe_opening(rng: &mut Rng, script: &Script, starts: u64) -> Vec<u8> {
    let clock = wall(starts).unix_s as u32;
    let hello = protocol::hello(rng, &[0x77; 16], "h0.example", clock, rng.clone().bool());
    match rng.u32(0..6) {
        0 => b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        1 => hello,
        2 => hello[..rng.usize(1..hello.len())].to_vec(),
        3 => protocol::hello(rng, &[0x77; 16], "elsewhere.example", clock, false),
        4 => {
            // A valid hello of yesterday.
            let secret = &script.settings.users[0].secret;
            let host = String::from_utf8_lossy(secret.host()).into_owned();
            protocol::hello(rng, secret.key(), &host, clock - 86_400, true)
        }
        _ => vec![rng.u8(..)],
    }
}

/// The first clients are users whom the attack must not harm; the others take places.
fn besiege(rng: &mut Rng, plan: &mut Plan, script: &Script) {
    let number = script.plans.len();
    let users = script.settings.users.len();
    if number < 3 {
        (plan.up, plan.down) = (rng.usize(1..8_000), rng.usize(1..20_000));
        plan.starts = rng.u64(500..3_000);
        plan.from = SocketAddr::from(([198, 18, number as u8, 1], 4_000));
        let user = 1 + number % (users - 1);
        let credentials = credentials(rng, script, user, plan.starts);
        plan.opening = credentials.hello.clone();
        (plan.credentials, plan.must_complete) = (Some(credentials), true);
        return;
    }
    plan.must_complete = false;
    plan.client.ending = Ending::Stall;
    (plan.up, plan.down) = (rng.usize(1..3_000), rng.usize(1..6_000));
    plan.starts = rng.u64(0..3_000);
    plan.from = SocketAddr::from(([203, 0, 113, rng.u8(1..)], 4_000));
    if rng.bool() {
        let credentials = credentials(rng, script, 0, plan.starts);
        plan.opening = credentials.hello.clone();
        plan.credentials = Some(credentials);
        plan.from = SocketAddr::from(([198, 51, 100, rng.u8(1..)], 4_000));
        plan.client.read_pause = (20, 20_000);
    } else {
        plan.credentials = None;
        plan.opening = probe_opening(rng, script, plan.starts);
        let most = if rng.bool() { 1 } else { plan.opening.len() };
        plan.client.send_limit = Some(rng.usize(0..most));
    }
}

/// Asks for an unknown DC, or sends a malformed record.
fn make_refused(rng: &mut Rng, plan: &mut Plan, script: &Script) {
    (plan.must_complete, plan.must_be_refused) = (false, true);
    plan.client.ending = Ending::AwaitFin;
    if rng.bool() && !script.settings.fallback_on_unknown_dc {
        (plan.dc, plan.up) = (77, rng.usize(1..2_000));
    } else {
        plan.bad_record_at = Some(rng.usize(0..plan.up));
    }
}

fn stall(rng: &mut Rng, plan: &mut Plan) {
    plan.must_complete = false;
    for behaviour in [&mut plan.client, &mut plan.server] {
        match rng.u32(0..4) {
            0 => behaviour.read_pause = (20, 20_000),
            1 => behaviour.read_pause = (5, 90_000),
            2 => {
                (behaviour.ending, behaviour.send_limit) =
                    (Ending::Stall, Some(rng.usize(1..90_000)))
            }
            _ => {}
        }
    }
    plan.down *= 3;
}

fn reset(rng: &mut Rng, plan: &mut Plan) {
    plan.must_complete = false;
    match rng.u32(0..6) {
        0 => plan.client.send_limit = Some(rng.usize(1..9_000)),
        1 => plan.server.send_limit = Some(rng.usize(1..90_000)),
        2 => plan.reset_after.0 = Some(rng.u32(1..60)),
        3 => plan.reset_after.1 = Some(rng.u32(1..60)),
        4 => plan.early_fin = true,
        _ => plan.bad_record_at = Some(rng.usize(0..plan.up)),
    }
    let endings = [Ending::Reset, Ending::Close];
    if rng.u32(0..3) > 0 {
        plan.client.ending = endings[rng.usize(0..2)];
    }
    if rng.u32(0..3) > 0 {
        plan.server.ending = endings[rng.usize(0..2)];
    }
}

fn fall_silent(rng: &mut Rng, plan: &mut Plan) {
    plan.must_complete = false;
    let endings = [Ending::StopWriting, Ending::Stall];
    if rng.bool() {
        plan.client.ending = endings[rng.usize(0..2)];
        plan.client.send_limit = match rng.u32(0..4) {
            0 => Some(rng.usize(0..plan.opening.len())),
            1 => Some(plan.opening.len() + rng.usize(0..80)),
            2 => Some(rng.usize(1..60_000)),
            _ => None,
        };
    } else {
        plan.server.ending = endings[rng.usize(0..2)];
        plan.server.send_limit = rng.bool().then(|| rng.usize(0..90_000));
    }
    plan.early_fin = rng.u32(0..4) == 0;
}

fn addr(dc: u8, last: u8) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::new(10, 0, dc, last), 443))
}

/// More than an answer or an opening: a new socket accepts those at once.
const FIRST_WINDOW: usize = 40_000;

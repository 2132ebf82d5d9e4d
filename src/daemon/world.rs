//! Everything that a session may use besides itself. Handed to `step` as one `&mut`, so that the
//! two borrows of the scheduler (one session, the world) never meet.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use crate::accounts::recorder::{Cause, Detail, Recorder};
use crate::accounts::totals::Totals;
use crate::accounts::users::{ConfiguredUser, HostId, UserId, Users};
use crate::config::HAS_TLS;
use crate::config::settings::{Settings, UserSettings};
use crate::daemon::admin::counters::Counters;
use crate::daemon::admin::probe_summary::{ProbeKind, ProbeSummary};
use crate::daemon::fetch::dc_list::DcList;
use crate::daemon::fetch::front_probe::FrontProbes;
use crate::daemon::fetch::ip_lists::IpLists;
use crate::daemon::fetch::schedule::{Job, Schedule};
#[cfg(feature = "tls")]
use crate::daemon::fetch::tls_client::TlsRoots;
use crate::daemon::fetch::{self, FetchTask};
use crate::daemon::resolver::dns_cache::DnsCache;
use crate::daemon::session::server_hello::KeyShares;
use crate::daemon::upstream::addresses::BadAddresses;
use crate::daemon::upstream::proxies::Upstreams;
use crate::flow::authenticate::AuthContext;
use crate::flow::transform::{SLOT_COUNT, SLOT_LEN};
use crate::io::clock::{Tick, Wall};
use crate::io::logger::RateLimitedLog;
use crate::io::pool::Pool;
use crate::io::wheel::Wheel;
use crate::limits::hello_rate_limit::HelloRateLimit;
use crate::limits::replay::Replay;
use crate::limits::throttle::Throttle;
use crate::mimicry::calibrate::Fit;
use crate::mimicry::profile::Profiles;
use crate::mimicry::shaper::Pace;
use crate::util::client_prefix::ClientPrefix;
use crate::util::drbg::Drbg;

/// The shared half of the daemon.
pub struct World {
    /// What the operator wrote.
    pub settings: Rc<Settings>,
    /// The people and their counters.
    pub users: Users,
    /// Their totals over all restarts, when configured; kept by `state.rs`.
    pub ledger: Option<Totals>,
    /// Fair share of connections, when configured.
    pub throttle: Option<Throttle>,
    /// Hellos seen before, unless switched off.
    pub replay: Option<Replay>,
    /// Networks that try to make us try keys.
    pub misses: HelloRateLimit,
    /// Blocks for bytes that could not be written yet: the bound of our memory.
    pub pool: Pool,
    /// One deadline per session and a few of our own, see [`wheel_key`].
    pub wheel: Wheel,
    /// Where every read lands first.
    pub scratch: Vec<u8>,
    /// Records per read that this machine can afford, 1..=[`SLOT_COUNT`].
    pub slots: usize,
    /// Random bytes for keys, noise and shuffles.
    pub drbg: Drbg,
    /// Key shares made in idle turns.
    pub shares: KeyShares,
    /// What the sites look like that answers imitate.
    pub profiles: Profiles,
    /// How far the looks at them have come.
    pub scouts: FrontProbes,
    /// The pace of downloads that begin now.
    pub pace: Pace,
    /// Learns a better one in idle turns, see [`World::refine`].
    pub fit: Fit,
    /// Host names and their addresses.
    pub names: DnsCache,
    /// Addresses that failed lately.
    pub bad: BadAddresses,
    /// The ways to Telegram.
    pub routes: Upstreams,
    /// What Telegram says of its addresses.
    pub dc_list: DcList,
    /// Who may connect at all.
    pub lists: IpLists,
    /// What has to be fetched when.
    pub agenda: Schedule,
    /// Errands that wait for a place.
    pub errands: VecDeque<Box<dyn FetchTask>>,
    /// Visits of the present round to each page whose pace is learned.
    #[cfg(feature = "tls")]
    pub visits: Vec<u32>,
    /// Whose certificates we believe.
    #[cfg(feature = "tls")]
    pub trust: TlsRoots,
    /// Numbers that no user owns.
    pub meter: Counters,
    /// Why people were refused lately.
    pub recorder: Recorder,
    /// Sessions that could not read because the pool was empty, oldest first.
    pub starved: VecDeque<u32>,
    /// Bytes of half-received hellos, bounded by [`World::hello_room`].
    pub hello_bytes: usize,
    /// Most sessions at once.
    pub session_cap: u32,
    /// Fronted sessions that live now.
    pub fronted: u32,
    /// Most fronted sessions at once.
    pub front_cap: u32,
    /// When a session was last on the way from accept to the relay.
    pub greeted: Tick,
    /// Our own listeners, to refuse fronting to ourselves.
    pub own_binds: Vec<SocketAddr>,
    /// The round's monotonic time.
    pub now: Tick,
    /// The round's wall time.
    pub wall: Wall,
    /// The wall time of tick 0.
    pub started: Duration,
    /// Folds repeated log lines.
    pub folded: RateLimitedLog,
    /// What strangers have done since the log was last told.
    pub strangers: ProbeSummary,
    /// We are leaving: no new reads.
    pub draining: bool,
}

impl World {
    /// A world with everything empty. `seed` makes the random bytes; `most_buffers` is the pool's
    /// bound in blocks.
    pub fn new(settings: Rc<Settings>, seed: [u8; 48], most_buffers: usize, slots: usize) -> Self {
        let users = Users::new(people(&settings));
        let throttle =
            settings.throttle.map(|t| Throttle::new(t.max_connections, settings.users.len()));
        let replay = settings
            .replay
            .map(|r| Replay::new(usize::try_from(r.max_bytes).unwrap_or(usize::MAX)));
        let (mut drbg, hosts) = (Drbg::new(seed), users.hosts().count());
        Self {
            users,
            ledger: None,
            throttle,
            replay,
            misses: HelloRateLimit::default(),
            pool: Pool::new(most_buffers),
            wheel: Wheel::new(),
            scratch: vec![0; SLOT_LEN * slots.clamp(1, SLOT_COUNT)],
            slots: slots.clamp(1, SLOT_COUNT),
            profiles: Profiles::new(hosts, &mut drbg),
            scouts: FrontProbes::new(hosts),
            drbg,
            shares: KeyShares::default(),
            pace: Pace::default(),
            fit: Fit::default(),
            names: DnsCache::default(),
            bad: BadAddresses::default(),
            routes: Upstreams::new(&settings),
            dc_list: DcList::default(),
            lists: IpLists::new(&settings),
            agenda: Schedule::default(),
            errands: VecDeque::new(),
            #[cfg(feature = "tls")]
            visits: Vec::new(),
            #[cfg(feature = "tls")]
            trust: TlsRoots::default(),
            meter: Counters::default(),
            recorder: Recorder::default(),
            starved: VecDeque::new(),
            hello_bytes: 0,
            session_cap: 0,
            fronted: 0,
            front_cap: 0,
            greeted: Tick(0),
            own_binds: Vec::new(),
            now: Tick(0),
            wall: Wall::default(),
            started: Duration::ZERO,
            folded: RateLimitedLog::default(),
            strangers: ProbeSummary::default(),
            draining: false,
            settings,
        }
    }

    /// Takes the time of a new round. The start's wall time stays as it is unless the clock has
    /// been set meanwhile.
    pub fn set_time(&mut self, now: Tick, wall: Wall) {
        (self.now, self.wall) = (now, wall);
        let since_1970 = Duration::new(wall.unix_s, wall.nanos);
        let started = since_1970.saturating_sub(Duration::from_millis(now.0));
        if started.abs_diff(self.started) > CLOCK_SET {
            self.started = started;
        }
    }

    /// The wall time of a tick, since 1970.
    pub fn wall_of(&self, at_ms: u64) -> Duration {
        self.started + Duration::from_millis(at_ms)
    }

    /// Blocks that a running session may still take. An eighth of the pool is kept back for what
    /// must be written without a read before it: answers and openings of new sessions.
    pub fn spare_blocks(&self) -> usize {
        self.pool.available().saturating_sub(self.pool.capacity() / 8)
    }

    /// How many records a read may ask for so that whatever a write leaves over has a place;
    /// 0 = none, the session has to wait for a block. Half of what is free at most, so that one
    /// session cannot take the last blocks of all.
    pub fn records_to_read(&self) -> usize {
        match self.spare_blocks() {
            0 => 0,
            free => (free / 2).clamp(1, self.slots),
        }
    }

    /// Most bytes of half-received hellos at once.
    pub fn hello_room(&self) -> usize {
        (self.pool.capacity() * crate::io::pool::BLOCK_LEN / 2).max(64 * 1024)
    }

    /// Keeps `n` bytes of the scratch block in `seen`, the start of a connection, and counts what
    /// that costs. `false` = all half-received hellos together are too large.
    pub fn keep(&mut self, seen: &mut Vec<u8>, n: usize) -> bool {
        let before = seen.capacity();
        seen.reserve_exact(n);
        seen.extend_from_slice(&self.scratch[..n]);
        self.hello_bytes += seen.capacity() - before;
        self.hello_bytes <= self.hello_room()
    }

    /// Unsent bytes hold three quarters of the pool: stalled readers get less patience.
    pub fn is_tight(&self) -> bool {
        self.pool.in_use() * 4 >= self.pool.capacity() * 3
    }

    /// The gate's view of the world.
    pub fn book(&mut self) -> AuthContext<'_> {
        let unix_s = (!self.is_without_clock()).then_some(self.wall.unix_s);
        AuthContext {
            unix_s,
            users: &self.users,
            replay: self.replay.as_mut(),
            throttle: self.throttle.as_mut(),
            hello_rate: &mut self.misses,
            now_ms: self.now.0,
            tolerance_s: self.settings.time_skew.as_secs(),
        }
    }

    /// Our own clock is earlier than this program, so it cannot be right.
    pub fn is_without_clock(&self) -> bool {
        self.wall.unix_s < crate::daemon::BUILT_UNIX_S
    }

    /// Where the strangers of a host are led: a name or a literal address, and a port.
    pub fn site(&self, host: HostId) -> (String, u16) {
        let front = &self.settings.front;
        let own_name = || String::from_utf8_lossy(self.users.host_name(host)).into_owned();
        (front.host.clone().unwrap_or_else(own_name), front.port)
    }

    /// Asks for an errand to be run. One that finds the queue full has failed.
    pub fn order(&mut self, errand: Box<dyn FetchTask>) {
        if self.errands.len() < fetch::MOST_WAITING {
            self.errands.push_back(errand);
        } else {
            errand.settle(Err("too much to fetch at once".to_owned()), self);
        }
    }

    /// A job of the agenda is done, well or not, and comes again; see [`Schedule::done`].
    pub fn done(&mut self, job: Job, well: bool, period: Duration) {
        let period_ms = period.as_millis() as u64;
        self.agenda.done(job, well, period_ms, self.now, &mut self.drbg);
    }

    /// Makes one key share for the stock, if it wants one.
    pub fn refill_shares(&mut self) {
        self.shares.refill(&mut self.drbg);
    }

    /// Looks at a few of the durations in [`World::fit`], if a fit is under way. New downloads
    /// use what it finds.
    pub fn refine(&mut self) {
        // Nothing is ever learned without TLS, so that the mathematics need not be there.
        if HAS_TLS && let Some(pace) = self.fit.step() {
            self.pace = pace;
            let (k, lambda_ms, durations) = (pace.k(), pace.lambda_ms(), self.fit.len());
            log::info!("event=pacing-fit k={k:.4} lambda_ms={lambda_ms:.4} durations={durations}");
        }
    }

    /// Notes for the log what a stranger has done.
    pub fn stranger(&mut self, deed: ProbeKind, addr: IpAddr) {
        // What nobody reads is not counted, and wakes nobody.
        if log::log_enabled!(log::Level::Info) {
            self.strangers.note(deed, addr, self.now);
        }
    }

    /// When the log has to be told something even if nothing comes.
    pub fn due_to_tell(&self) -> Option<Tick> {
        self.folded.next_due().into_iter().chain(self.strangers.due()).min()
    }

    /// Tells the log what was folded or summed up and is due.
    pub fn tell(&mut self) {
        self.folded.flush_due(self.now);
        self.strangers.turn(self.now);
    }

    /// Tells the log whatever it does not know yet; for the end of the program.
    pub fn tell_all(&mut self) {
        self.folded.flush_all(self.now);
        self.strangers.tell();
    }

    /// ` user="NAME"` for a line of the log, or nothing.
    pub fn whose(&self, user: Option<UserId>) -> String {
        user.map_or_else(String::new, |id| format!(" user={:?}", self.users.get(id).name()))
    }

    /// Notes why a user was kept out or lost a session.
    pub fn note(&mut self, user: UserId, cause: Cause, detail: Detail) {
        if cause.is_refusal() {
            self.users.get_mut(user).refused += 1;
        }
        self.recorder.note(Some(user), cause, detail, self.now.0);
    }

    /// Notes why a stranger was turned away.
    pub fn note_stranger(&mut self, addr: IpAddr, cause: Cause) {
        self.recorder.note(None, cause, Detail::network(addr), self.now.0);
    }

    /// Notes what is wrong with the site that strangers are led to.
    pub fn note_site(&mut self, cause: Cause, detail: Detail) {
        self.recorder.note(None, cause, detail, self.now.0);
    }

    /// A client address as it may appear in a log: /24 or /48 unless the operator asked for all.
    pub fn shown(&self, addr: IpAddr) -> String {
        if self.settings.log_addresses {
            return addr.to_string();
        }
        ClientPrefix::of(addr).to_string()
    }
}

/// The users of the config.
pub fn people(settings: &Settings) -> impl Iterator<Item = ConfiguredUser<'_>> {
    let users = settings.users.iter();
    users.map(|UserSettings { name, secret, enabled }| ConfiguredUser {
        name,
        secret,
        enabled: *enabled,
    })
}

/// The wheel key of a session; key 0 is [`TIMER_THROTTLE`].
pub fn wheel_key(session: u32) -> u32 {
    session + 1
}

/// The wheel key of the throttle's next look.
pub const TIMER_THROTTLE: u32 = 0;

/// A difference of the clocks that drift does not explain.
const CLOCK_SET: Duration = Duration::from_secs(2);

//! An errand under way: its line, what has been said, and how long it may take. Whoever runs
//! errands, the daemon or a command, has one of these beside each.

use crate::daemon::fetch::connection::{Connection, ConnectionState};
use crate::daemon::fetch::{FetchTask, TaskStep, WireEvent};
use crate::daemon::shared::World;
use crate::io::clock::Tick;
use crate::io::readiness::Readiness;
use crate::io::wire::MioNet;

/// The way of one errand.
pub struct TaskRun {
    line: Connection,
    /// Events come with it.
    token: usize,
    opened: bool,
    awake: bool,
    /// When it has stood still for too long.
    stale: Tick,
    /// When it ends whatever comes.
    until: Tick,
}

impl TaskRun {
    /// Sets out; events come with `token`.
    pub fn start(errand: &dyn FetchTask, token: usize, world: &World) -> Self {
        let until = Tick(world.time.now.0 + TOTAL_MS);
        let line = Connection::new(errand.target(), token).with_preface(errand.preface());
        let mut trip = Self { line, token, opened: false, awake: true, stale: until, until };
        trip.is_moving(errand, world);
        trip
    }

    /// Notes what the poller says about the line.
    pub fn on_ready(&mut self, fresh: Readiness) {
        self.line.on_ready(fresh);
        self.awake = true;
    }

    /// What it waits for, such as a name, has come.
    pub fn wake(&mut self) {
        self.awake = true;
    }

    /// Whether it can go on without waiting.
    pub fn is_awake(&self) -> bool {
        self.awake
    }

    /// When it must be looked at even if nothing comes.
    pub fn due(&self) -> Tick {
        let due = self.stale.min(self.until);
        self.line.due().map_or(due, |line| due.min(line))
    }

    /// Goes one bounded step further, if there is a reason to. `None` = it is not over.
    pub fn turn(
        &mut self,
        errand: &mut dyn FetchTask,
        world: &mut World,
        net: &mut MioNet,
    ) -> Option<Result<(), String>> {
        let due = self.line.due().is_some_and(|due| world.time.now >= due);
        let late = world.time.now >= self.stale || world.time.now >= self.until;
        if !std::mem::take(&mut self.awake) && !due && !late {
            return None;
        }
        match self.step(errand, world, net) {
            TaskStep::More if late => Some(Err("too slow".to_owned())),
            TaskStep::More => {
                self.awake = self.line.has_more();
                None
            }
            TaskStep::Again => {
                self.set_out(errand, world);
                None
            }
            TaskStep::Done => Some(Ok(())),
            TaskStep::Failed(why) => Some(Err(why)),
        }
    }

    /// A new line, for an errand that was sent elsewhere.
    fn set_out(&mut self, errand: &dyn FetchTask, world: &World) {
        self.line = Connection::new(errand.target(), self.token).with_preface(errand.preface());
        (self.opened, self.awake) = (false, true);
        self.is_moving(errand, world);
    }

    fn is_moving(&mut self, errand: &dyn FetchTask, world: &World) {
        let patience = world.settings.timeouts.http.as_millis() as u64;
        self.stale = Tick(world.time.now.0 + errand.patience_ms().unwrap_or(patience));
    }

    /// At most one read of a few kilobytes.
    fn step(
        &mut self,
        errand: &mut dyn FetchTask,
        world: &mut World,
        net: &mut MioNet,
    ) -> TaskStep {
        let mut heard = Vec::new();
        let mut watch = |sight: WireEvent<'_>, at_us: u64| errand.watch(sight, at_us);
        let mut state = self.line.step(world, net, &mut heard, &mut watch);
        if state == ConnectionState::Open && !self.opened {
            self.opened = true;
            self.line.say(&errand.open());
            let mut watch = |sight: WireEvent<'_>, at_us: u64| errand.watch(sight, at_us);
            state = self.line.step(world, net, &mut heard, &mut watch);
            self.is_moving(errand, world);
        }
        let mut step = TaskStep::More;
        if !heard.is_empty() {
            self.is_moving(errand, world);
            step = errand.take(&heard);
        }
        match (step, state) {
            (TaskStep::More, ConnectionState::Ended) => errand.end(),
            (TaskStep::More, ConnectionState::Failed(why)) => TaskStep::Failed(why),
            (step, _) => step,
        }
    }
}

/// However steadily it moves, an errand ends after ten minutes.
const TOTAL_MS: u64 = 600_000;

//! A running task: its connection and its deadlines. The daemon's runner and the commands have one
//! of these for each task.

use std::time::Duration;

use crate::daemon::fetch::connection::{Connection, ConnectionState};
use crate::daemon::fetch::task::{FetchError, FetchTask, TaskStep, WireEvent};
use crate::daemon::upstream::outbound::ConnectContext;
use crate::io::clock::Tick;
use crate::io::readiness::Readiness;
use crate::io::wire::Net;

/// The run of one task.
pub struct TaskRun<N: Net> {
    connection: Connection<N>,
    /// The first of the poll tokens of the connection.
    first_token: usize,
    /// The task's request was queued.
    requested: bool,
    awake: bool,
    /// The deadline of the next byte.
    idle_until: Tick,
    /// The deadline of the whole task.
    until: Tick,
}

/// `None` = the task has not ended.
pub type TaskOutcome = Option<Result<(), FetchError>>;

impl<N: Net> TaskRun<N> {
    /// Starts a task. Its connection uses `first_token` and the next one.
    pub fn start(task: &dyn FetchTask, first_token: usize, context: &ConnectContext<'_>) -> Self {
        let until = context.now + TOTAL;
        Self {
            connection: connection(task, first_token),
            first_token,
            requested: false,
            awake: true,
            idle_until: idle_until(task, context),
            until,
        }
    }

    /// Records an event of the poller for the socket with this offset from the first token.
    pub fn on_ready(&mut self, offset: usize, ready: Readiness) {
        self.connection.on_ready(offset, ready);
        self.awake = true;
    }

    /// Records that a lookup of the task has ended.
    pub fn wake(&mut self) {
        self.awake = true;
    }

    /// Whether the next poll may do something.
    pub fn is_awake(&self) -> bool {
        self.awake
    }

    /// The next deadline.
    pub fn due(&self) -> Tick {
        let due = self.idle_until.min(self.until);
        self.connection.due().map_or(due, |connection| due.min(connection))
    }

    /// Does one bounded step after an event or a deadline.
    pub fn poll(
        &mut self,
        task: &mut dyn FetchTask,
        context: &mut ConnectContext<'_>,
        net: &mut N,
    ) -> TaskOutcome {
        let is_due = self.connection.due().is_some_and(|due| context.now >= due);
        let is_late = context.now >= self.idle_until || context.now >= self.until;
        if !std::mem::take(&mut self.awake) && !is_due && !is_late {
            return None;
        }
        match self.step(task, context, net) {
            TaskStep::More if is_late => {
                let fault = self.connection.time_out(context);
                Some(Err(fault.unwrap_or(FetchError::TooSlow)))
            }
            TaskStep::More => {
                self.awake = self.connection.has_more();
                None
            }
            TaskStep::Reconnect => {
                self.connection = connection(task, self.first_token);
                (self.requested, self.awake) = (false, true);
                self.idle_until = idle_until(task, context);
                None
            }
            TaskStep::Done => Some(Ok(())),
            TaskStep::Failed(error) => Some(Err(error)),
        }
    }

    /// At most one read of a few kilobytes.
    fn step(
        &mut self,
        task: &mut dyn FetchTask,
        context: &mut ConnectContext<'_>,
        net: &mut N,
    ) -> TaskStep {
        let mut inbox = Vec::new();
        let mut observer = |event: WireEvent<'_>, at_us: u64| task.observe(event, at_us);
        let mut state = self.connection.step(context, net, &mut inbox, &mut observer);
        if state == ConnectionState::Open && !self.requested {
            self.requested = true;
            self.connection.queue(&task.request());
            let mut observer = |event: WireEvent<'_>, at_us: u64| task.observe(event, at_us);
            state = self.connection.step(context, net, &mut inbox, &mut observer);
            self.idle_until = idle_until(task, context);
        }
        let mut step = TaskStep::More;
        if !inbox.is_empty() {
            self.idle_until = idle_until(task, context);
            step = task.push_bytes(&inbox);
        }
        match (step, state) {
            (TaskStep::More, ConnectionState::Closed) => task.finish(),
            (TaskStep::More, ConnectionState::Failed(error)) => TaskStep::Failed(error),
            (step, _) => step,
        }
    }
}

fn connection<N: Net>(task: &dyn FetchTask, first_token: usize) -> Connection<N> {
    Connection::new(task.target(), first_token).with_preface(task.preface())
}

fn idle_until(task: &dyn FetchTask, context: &ConnectContext<'_>) -> Tick {
    context.now + task.idle_timeout().unwrap_or(context.settings.timeouts.http)
}

/// The limit for a task that keeps receiving bytes.
const TOTAL: Duration = Duration::from_secs(600);

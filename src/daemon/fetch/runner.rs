//! Runs a few tasks at a time: those of the daemon beside the sessions, or those of a command.

use std::collections::VecDeque;

use crate::daemon::fetch::task::{FetchError, FetchTask};
use crate::daemon::fetch::task_run::TaskRun;
use crate::daemon::upstream::connect::SOCKETS;
use crate::daemon::upstream::outbound::ConnectContext;
use crate::io::clock::Tick;
use crate::io::readiness::Readiness;
use crate::io::wire::Net;

/// The owner of a task.
pub trait HasTask {
    /// The task.
    fn task(&mut self) -> &mut dyn FetchTask;
}

/// The running tasks, `MAX` at most.
pub struct TaskRunner<T, N: Net, const MAX: usize = TASKS_AT_ONCE> {
    running: [Option<RunningTask<T, N>>; MAX],
}

struct RunningTask<T, N: Net> {
    task: T,
    run: TaskRun<N>,
}

/// Tasks that wait for a free slot.
pub struct TaskQueue<T> {
    waiting: VecDeque<T>,
    /// Tasks that were pushed while the queue was full; the next poll reports their failure.
    rejected: Vec<T>,
}

/// A task that has ended, and how.
pub type FinishedTask<T> = (T, Result<(), FetchError>);

impl<T, N: Net, const MAX: usize> Default for TaskRunner<T, N, MAX> {
    fn default() -> Self {
        Self { running: std::array::from_fn(|_| None) }
    }
}

impl<T> Default for TaskQueue<T> {
    fn default() -> Self {
        Self { waiting: VecDeque::new(), rejected: Vec::new() }
    }
}

impl<T> TaskQueue<T> {
    /// A queue of these tasks, as many as there are.
    pub fn of(tasks: impl Iterator<Item = T>) -> Self {
        Self { waiting: tasks.collect(), rejected: Vec::new() }
    }

    /// Adds a task. If the queue is full, the task fails with [`FetchError::QueueFull`].
    pub fn push(&mut self, task: T) {
        match self.waiting.len() < WAITING_MAX {
            true => self.waiting.push_back(task),
            false => self.rejected.push(task),
        }
    }

    /// The number of waiting tasks.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether no task is waiting.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

impl<T: HasTask, N: Net, const MAX: usize> TaskRunner<T, N, MAX> {
    /// Records an event of the poller; `offset` counts from the runner's first token.
    pub fn on_ready(&mut self, offset: usize, ready: Readiness) {
        if let Some(Some(running)) = self.running.get_mut(offset / SOCKETS) {
            running.run.on_ready(offset % SOCKETS, ready);
        }
    }

    /// Records that a lookup has ended; `offset` counts from the runner's first token.
    pub fn wake(&mut self, offset: usize) {
        if let Some(Some(running)) = self.running.get_mut(offset / SOCKETS) {
            running.run.wake();
        }
    }

    /// The earliest deadline.
    pub fn due(&self) -> Option<Tick> {
        self.running.iter().flatten().map(|running| running.run.due()).min()
    }

    /// Starts waiting tasks, does one bounded step of each task that was woken, and returns the
    /// tasks that have ended. `first_token` is the first of [`TOKENS`].
    pub fn poll(
        &mut self,
        queue: &mut TaskQueue<T>,
        context: &mut ConnectContext<'_>,
        net: &mut N,
        first_token: usize,
    ) -> Vec<FinishedTask<T>> {
        let rejected = queue.rejected.drain(..);
        let mut finished: Vec<FinishedTask<T>> =
            rejected.map(|task| (task, Err(FetchError::QueueFull))).collect();
        for (at, slot) in self.running.iter_mut().enumerate() {
            if slot.is_none()
                && let Some(mut task) = queue.waiting.pop_front()
            {
                let run = TaskRun::start(task.task(), first_token + at * SOCKETS, context);
                *slot = Some(RunningTask { task, run });
            }
            let Some(RunningTask { task, run }) = slot else { continue };
            let Some(outcome) = run.poll(task.task(), context, net) else { continue };
            finished.extend(slot.take().map(|running| (running.task, outcome)));
        }
        finished
    }

    /// Drops running and waiting tasks without reporting them.
    pub fn cancel(&mut self, queue: &mut TaskQueue<T>, is_cancelled: impl Fn(&T) -> bool) {
        for slot in &mut self.running {
            if slot.as_ref().is_some_and(|running| is_cancelled(&running.task)) {
                *slot = None;
            }
        }
        queue.waiting.retain(|task| !is_cancelled(task));
        queue.rejected.retain(|task| !is_cancelled(task));
    }

    /// The running tasks.
    pub fn tasks(&self) -> impl Iterator<Item = &T> {
        self.running.iter().flatten().map(|running| &running.task)
    }

    /// The number of running tasks.
    pub fn count(&self) -> usize {
        self.running.iter().flatten().count()
    }

    /// Whether the next poll can do work without an event.
    pub fn has_work(&self, queue: &TaskQueue<T>) -> bool {
        let has_room = self.running.iter().any(Option::is_none);
        self.running.iter().flatten().any(|running| running.run.is_awake())
            || (has_room && !queue.waiting.is_empty())
            || !queue.rejected.is_empty()
    }
}

/// Tasks of the daemon that run at once.
pub const TASKS_AT_ONCE: usize = 4;
/// Tokens that the runner uses.
pub const TOKENS: usize = TASKS_AT_ONCE * SOCKETS;
/// Most waiting tasks. Jobs are scheduled apart, so more would be a fault of the schedule.
const WAITING_MAX: usize = 32;

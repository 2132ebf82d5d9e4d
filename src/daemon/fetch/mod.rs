//! Everything that is fetched from the outside: lists, Telegram's addresses, looks at origins.
//! A few at a time beside the sessions, each with a deadline, none ever in anybody's way.
//!
//! An [`FetchTask`] knows what to say and what to make of the answer; `line.rs` knows the way;
//! `agenda.rs` says what is due. To add a kind: implement the trait, give it a
//! [`Job`]. Commands run theirs without the daemon, see `alone.rs`.

pub mod connection;
pub mod dc_list;
pub mod front_probe;
pub mod http_get;
pub mod ip_lists;
#[cfg(feature = "tls")]
pub mod page_timing;
pub mod schedule;
pub mod standalone;
pub mod state;
mod task_run;
#[cfg(feature = "tls")]
pub mod tls_client;

use crate::daemon::fetch::connection::{FetchRoute, HostOrAddr};
use crate::daemon::fetch::schedule::Job;
use crate::daemon::fetch::task_run::TaskRun;
use crate::daemon::shared::World;
use crate::io::clock::Tick;
use crate::io::readiness::Readiness;
use crate::io::wire::MioNet;

/// One thing to fetch. Bytes in, bytes out; no socket.
pub trait FetchTask {
    /// Where to go.
    fn target(&self) -> FetchTarget;

    /// What to say before everything else, TLS included; rarely anything.
    fn preface(&self) -> Vec<u8> {
        Vec::new()
    }

    /// What to say once the line stands.
    fn open(&mut self) -> Vec<u8>;

    /// Bytes have come.
    fn take(&mut self, bytes: &[u8]) -> TaskStep;

    /// The peer has said its last byte.
    fn end(&mut self) -> TaskStep;

    /// The connection is being made (`Start`), stands, or has brought these bytes, TLS still
    /// around them; for those who look at how a site answers.
    /// `at_us` counts microseconds since the latest `Start`.
    fn watch(&mut self, _sight: WireEvent<'_>, _at_us: u64) {}

    /// What of the agenda it does; it is dropped when that is forgotten.
    fn job(&self) -> Option<Job> {
        None
    }

    /// How long it may stand still, in milliseconds; `None` = `network.timeout.http`.
    fn patience_ms(&self) -> Option<u64> {
        None
    }

    /// It is over; on to what follows from it. A command that runs its own errands looks at them
    /// instead.
    fn settle(self: Box<Self>, _outcome: Result<(), String>, _world: &mut World) {}
}

/// What an errand may watch.
pub enum WireEvent<'a> {
    /// The connection is being made from now on.
    Start,
    /// Bytes as they came from the socket.
    Bytes(&'a [u8]),
    /// We are sending.
    Sent,
}

/// Where an errand goes.
pub struct FetchTarget {
    /// Host and port.
    pub place: HostOrAddr,
    /// The name that the certificate must have; `None` = no TLS.
    pub tls: Option<String>,
    /// By which way.
    pub via: FetchRoute,
}

/// What an errand wants next.
#[derive(Debug, PartialEq, Eq)]
pub enum TaskStep {
    /// More bytes.
    More,
    /// Nothing: it has what it wanted.
    Done,
    /// A new line, to its new [`FetchTask::target`].
    Again,
    /// Nothing: there is no use in it. Says why.
    Failed(String),
}

/// The errands that run.
#[derive(Default)]
pub struct TaskRunner {
    running: [Option<RunningTask>; MOST_ERRANDS],
}

struct RunningTask {
    errand: Box<dyn FetchTask>,
    trip: TaskRun,
}

impl TaskRunner {
    /// Notes what the poller says about a line.
    pub fn on_ready(&mut self, place: usize, fresh: Readiness) {
        if let Some(Some(running)) = self.running.get_mut(place) {
            running.trip.on_ready(fresh);
        }
    }

    /// A name that the line at this place waits for has been found.
    pub fn wake(&mut self, place: usize) {
        if let Some(Some(running)) = self.running.get_mut(place) {
            running.trip.wake();
        }
    }

    /// The earliest deadline.
    pub fn due(&self) -> Option<Tick> {
        self.running.iter().flatten().map(|running| running.trip.due()).min()
    }

    /// Starts what waits in the world and takes each errand that was woken one bounded step
    /// further. `base` is the token of the first place.
    pub fn turn(&mut self, world: &mut World, net: &mut MioNet, base: usize) {
        for place in 0..self.running.len() {
            if self.running[place].is_none()
                && let Some(errand) = world.fetch.queue.pop_front()
            {
                let trip = TaskRun::start(&*errand, base + place, world);
                self.running[place] = Some(RunningTask { errand, trip });
            }
            let Some(RunningTask { errand, trip }) = &mut self.running[place] else { continue };
            let Some(outcome) = trip.turn(&mut **errand, world, net) else { continue };
            if let Some(running) = self.running[place].take() {
                running.errand.settle(outcome, world);
            }
        }
    }

    /// Drops the errands of jobs that were forgotten, running or waiting, without a word to them.
    pub fn cancel(&mut self, gone: &[Job], world: &mut World) {
        let is_gone = |errand: &dyn FetchTask| errand.job().is_some_and(|job| gone.contains(&job));
        for place in &mut self.running {
            if place.as_ref().is_some_and(|running| is_gone(&*running.errand)) {
                *place = None;
            }
        }
        world.fetch.queue.retain(|errand| !is_gone(&**errand));
    }

    /// How many run.
    pub fn count(&self) -> usize {
        self.running.iter().flatten().count()
    }

    /// Whether there is something to do without waiting.
    pub fn has_work(&self, world: &World) -> bool {
        let has_room = self.running.iter().any(Option::is_none);
        self.running.iter().flatten().any(|running| running.trip.is_awake())
            || (has_room && !world.fetch.queue.is_empty())
    }
}

/// Errands at a time.
pub const MOST_ERRANDS: usize = 4;
/// Errands that wait at most; more would mean that the agenda is broken.
pub const MOST_WAITING: usize = 32;

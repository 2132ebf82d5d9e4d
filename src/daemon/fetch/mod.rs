//! Everything that is fetched: IP lists, Telegram's addresses, front probes, page timings. A few
//! tasks at a time run beside the sessions, each with a deadline.
//!
//! `schedule.rs` decides when a [`Job`] is due. Its task ([`task::FetchTask`]) is pure: bytes in,
//! bytes out. `runner.rs` runs tasks over a `Connection`. When a task has ended, `finish`
//! applies its outcome to the shared state.

mod advise;
pub mod background;
pub mod connection;
pub mod dc_list;
pub mod front_probe;
pub mod guidance;
pub mod http_get;
pub mod ip_lists;
#[cfg(feature = "tls")]
pub mod page_timing;
pub mod runner;
pub mod schedule;
pub mod socket;
pub mod standalone;
pub mod state;
pub mod task;
pub mod task_run;
#[cfg(feature = "tls")]
pub mod tls_client;

use std::rc::Rc;
use std::time::Duration;

use crate::accounts::users::{HostId, ReloadChange, Users};
use crate::config::settings::Settings;
use crate::daemon::admin::telemetry::Telemetry;
use crate::daemon::fetch::ip_lists::ListEvent;
use crate::daemon::fetch::ip_lists::lists::IpLists;
use crate::daemon::time::Time;
use crate::daemon::upstream::outbound::{ConnectContext, Outbound};
use crate::io::wire::Net;
use crate::mimicry::Mimicry;
use crate::util::drbg::Drbg;
use crate::util::memory::Account;
use advise::AdviceContext;
use background::BackgroundTask;
use front_probe::{FrontProbeTask, FrontProbes, ProbeContext};
use ip_lists::load::IpListTask;
use runner::{FinishedTask, TaskRunner};
use schedule::{Job, JobResult};
use state::FetchState;

/// The parts of the daemon that background fetches use and change.
pub struct FetchContext<'a> {
    /// What to fetch, and the periods.
    pub settings: &'a Settings,
    /// The time of this round.
    pub time: Time,
    /// Generates random waits and orders.
    pub drbg: &'a mut Drbg,
    /// A buffer for one read.
    pub scratch: &'a mut [u8],
    /// What the connections hold is charged to it.
    pub account: &'a Rc<Account>,
    /// The hosts of the secrets.
    pub users: &'a Users,
    /// Receives fetched lists.
    pub lists: &'a mut IpLists,
    /// Receives samples of fronts and the timing of pages.
    pub mimicry: &'a mut Mimicry,
    /// Receives published addresses; used by the connections.
    pub outbound: &'a mut Outbound,
    /// Schedule and queue.
    pub fetch: &'a mut FetchState,
    /// For the log.
    pub telemetry: &'a mut Telemetry,
}

impl FetchContext<'_> {
    fn plan_fronts(&mut self, hosts: &[HostId]) {
        let (schedule, now) = (&mut self.fetch.schedule, self.time.now);
        front_probe::plan(hosts, self.settings, schedule, self.drbg, now);
    }

    fn advice<'a, N>(&'a mut self, net: &'a mut N) -> (AdviceContext<'a, N>, &'a mut FrontProbes) {
        let (settings, users, dns) = (self.settings, self.users, &mut self.outbound.dns);
        let profiles = &self.mimicry.profiles;
        let context = AdviceContext { settings, users, dns, profiles, net };
        (context, &mut self.fetch.front_probes)
    }

    #[cfg(feature = "tls")]
    fn plan_pages(&mut self) {
        let FetchState { schedule, page_rounds, .. } = &mut *self.fetch;
        page_timing::plan(self.settings, page_rounds, schedule, self.drbg, self.time.now);
    }

    /// The wall clock, since 1970.
    fn wall(&self) -> Duration {
        self.time.wall_of(self.time.now.0)
    }

    fn finish_job(&mut self, result: JobResult) {
        self.fetch.schedule.finish(result, self.time.now, self.drbg);
    }
}

/// Schedules all jobs at the start.
pub fn plan(context: &mut FetchContext<'_>) {
    let now = context.time.now;
    dc_list::plan(context.settings, &mut context.fetch.schedule, now);
    ip_lists::reload::plan(context.lists, &mut context.fetch.schedule, now);
    let hosts: Vec<HostId> = context.users.hosts().collect();
    context.plan_fronts(&hosts);
    #[cfg(feature = "tls")]
    context.plan_pages();
}

/// Applies new settings; `context` has them already. Only the jobs whose settings have changed are
/// scheduled again. Returns the jobs that were removed; their tasks have to be cancelled.
pub fn reload(
    context: &mut FetchContext<'_>,
    before: &Settings,
    change: &ReloadChange,
) -> Vec<Job> {
    let (settings, now) = (context.settings, context.time.now);
    let FetchState { schedule, front_probes, .. } = &mut *context.fetch;
    // A loop is looked for again.
    let has_moved = context.outbound.front_loops.forget() || before.front != settings.front;
    let (new_hosts, mut removed) =
        front_probe::reload(has_moved, change, context.users, front_probes, schedule);
    for host in &new_hosts {
        context.mimicry.profiles.reset(*host, context.drbg);
    }
    context.plan_fronts(&new_hosts);
    let schedule = &mut context.fetch.schedule;
    match ip_lists::reload::has_changed(before, settings) {
        true => {
            removed.extend(ip_lists::reload::reload(settings, context.lists, schedule, now));
        }
        false => ip_lists::reload::refresh(context.lists, schedule, now),
    }
    if before.dc_list != settings.dc_list {
        let list = &mut context.outbound.dc_list;
        removed.extend(dc_list::reload(settings, list, schedule, now));
    }
    let latest = now + settings.page_timing.interval;
    #[cfg(feature = "tls")]
    {
        let has_shape = |settings: &Settings| settings.shape.is_some();
        if before.page_timing.pages != settings.page_timing.pages
            || has_shape(before) != has_shape(settings)
        {
            removed.extend(page_timing::reload(context.mimicry, schedule));
            context.plan_pages();
        }
        let schedule = &mut context.fetch.schedule;
        schedule.bring_forward(&|job| matches!(job, Job::PageTiming(_)), latest);
    }
    let schedule = &mut context.fetch.schedule;
    schedule.bring_forward(&|job| matches!(job, Job::FrontProbe(_)), latest);
    removed
}

/// Starts the jobs that are due, continues the running tasks, and does one step of file work.
/// `first_token` is the token of the runner's first slot.
pub fn poll<N: Net>(
    context: &mut FetchContext<'_>,
    runner: &mut TaskRunner<BackgroundTask, N>,
    net: &mut N,
    first_token: usize,
) {
    if let Some(host) = context.outbound.front_loops.take_wanted() {
        let (schedule, now) = (&mut context.fetch.schedule, context.time.now);
        schedule.bring_forward(&|job| job == Job::FrontProbe(host), now);
    }
    // Each job at most once: one that were due again at once would keep the loop here.
    for _ in 0..context.fetch.schedule.count() {
        let Some(job) = context.fetch.schedule.start_next(context.time.now) else { break };
        start(job, context, net);
    }
    let mut connect = ConnectContext {
        now: context.time.now,
        settings: context.settings,
        outbound: context.outbound,
        drbg: context.drbg,
        log: &mut context.telemetry.log,
        account: context.account,
        first_buffers: None,
    };
    let finished = runner.poll(&mut context.fetch.queue, &mut connect, net, first_token);
    runner.tasks().for_each(|task| end_hello(task, false, context));
    for task in finished {
        end_hello(&task.0, true, context);
        finish(task, context, net);
    }
    let wall = context.wall();
    match ip_lists::poll(context.lists, wall, context.scratch, context.telemetry) {
        Some(ListEvent::Fetch(task)) => push_list(task, context),
        Some(ListEvent::Finished(result)) => context.finish_job(result),
        None => {}
    }
}

/// The hello of a probe is no longer on its way if the front has answered or the probe `is_over`.
fn end_hello(task: &BackgroundTask, is_over: bool, context: &mut FetchContext<'_>) {
    if let BackgroundTask::FrontProbe(task) = task
        && (is_over || task.is_answered())
    {
        let loops = &mut context.outbound.front_loops;
        loops.end(task.on_the_way().0, task.is_answered(), context.time.now.0);
    }
}

fn push_list(task: Box<IpListTask>, context: &mut FetchContext<'_>) {
    context.fetch.queue.push(BackgroundTask::IpList(task));
}

fn start<N: Net>(job: Job, context: &mut FetchContext<'_>, net: &mut N) {
    let settings = context.settings;
    let task = match job {
        Job::DcPage(page) => dc_list::DcListTask::new(page, settings)
            .map(|task| BackgroundTask::DcList(Box::new(task))),
        Job::IpList(source) => {
            ip_lists::load::begin(context.lists, source);
            None
        }
        Job::FrontProbe(host)
            if context.outbound.front_loops.leads_back(host, context.time.now.0) =>
        {
            let period = settings.page_timing.interval;
            context.finish_job(JobResult { job, is_ok: false, period });
            None
        }
        Job::FrontProbe(host) => {
            let (mut advice, probes) = context.advice(net);
            advice.look_up_hosts();
            let v6 = advice.v6_to_look_at(host, probes);
            let probes = &context.fetch.front_probes;
            let task = FrontProbeTask::new(host, probes, settings, context.users, context.drbg);
            let (id, hello) = task.on_the_way();
            context.outbound.front_loops.begin(id, hello, host);
            context.outbound.front_loops.sent(id);
            Some(BackgroundTask::FrontProbe(Box::new(task.only_to(v6))))
        }
        #[cfg(feature = "tls")]
        Job::PageTiming(page) => page_timing::PageTimingTask::new(page, settings)
            .map(|task| BackgroundTask::PageTiming(Box::new(task))),
    };
    task.into_iter().for_each(|task| context.fetch.queue.push(task));
}

fn finish<N: Net>(
    (task, outcome): FinishedTask<BackgroundTask>,
    context: &mut FetchContext<'_>,
    net: &mut N,
) {
    let wall = context.wall();
    let (settings, users) = (context.settings, context.users);
    let telemetry = &mut *context.telemetry;
    let result = match task {
        BackgroundTask::DcList(task) => {
            Some(task.apply(outcome, &mut context.outbound.dc_list, telemetry))
        }
        BackgroundTask::IpList(task) => task.apply(outcome, context.lists, wall, telemetry),
        BackgroundTask::FrontProbe(task) => {
            let host = task.host();
            let probes = &mut context.fetch.front_probes;
            let profiles = &mut context.mimicry.profiles;
            let result =
                task.apply(outcome, probes, profiles, telemetry, &ProbeContext { settings, users });
            let (mut advice, probes) = context.advice(net);
            let awaits_v6 = !advice.v6_to_look_at(host, probes).is_empty();
            probes.set_awaits_v6(host, awaits_v6);
            advice.give(probes);
            Some(result)
        }
        #[cfg(feature = "tls")]
        BackgroundTask::PageTiming(task) => {
            let rounds = &mut context.fetch.page_rounds;
            Some(task.apply(outcome, settings, users, rounds, context.mimicry, telemetry))
        }
    };
    if let Some(result) = result {
        context.finish_job(result);
    }
}

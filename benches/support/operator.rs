//! Requests of the operator. With 1,000 users: how long the loop is busy with a reload, with
//! `/stats`, with `/explain` and with `/metrics`. With 5,000 users: for what part of a second it is
//! busy while 4,000 requests for `/stats` wait. Nothing else runs meanwhile, so the CPU time of the
//! daemon is the time during which the loop does nothing else.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::faketls::User;
use super::options::{Options, Outcome};
use super::process::{Daemon, Plan};
use super::report::{Report, median, verdict};
use super::{proc, sockets};

const USERS: usize = 1_000;
/// Users whose secret changes at each reload.
const CHANGED: usize = 20;
const MANY_USERS: usize = 5_000;
/// Fewer than the queue of a listener holds.
const WAITING: usize = 4_000;

/// Measures each of them several times. Times have no gate.
pub fn measure(options: &Options, report: &mut Report) -> Outcome<()> {
    let mut random = fastrand::Rng::with_seed(getrandom::u64()?);
    let mut users = User::random(USERS, &mut random);
    let api = sockets::free_port()?;
    let metrics = sockets::free_port()?;
    let head = format!("api-bind-to = \"127.0.0.1:{api}\"\n");
    let more = format!(
        "[stats.prometheus]\nenabled = true\nper-user = true\nbind-to = \"127.0.0.1:{metrics}\"\n"
    );
    let rounds = if options.short { 7 } else { 31 };

    let plan = Plan { head: head.clone(), more: more.clone(), ..Plan::new(&users, 1, 64) };
    let daemon = Daemon::start(&plan)?;
    println!("{USERS} users, {rounds} rounds each; CPU by {}", proc::cpu_source());
    let questions = [
        ("stats_ms", api, "/stats"),
        ("explain_ms", api, "/explain/user0500"),
        ("metrics_ms", metrics, "/"),
    ];
    for (key, port, path) in questions {
        let mut costs = Vec::new();
        for _ in 0..rounds {
            costs.push(cost(&daemon, || get(port, path))?);
        }
        report_cost(key, &costs, report)?;
    }
    let mut costs = Vec::new();
    for round in 0..rounds {
        for user in users.iter_mut().skip(round * CHANGED % USERS).take(CHANGED) {
            user.clone_from(&User::random(1, &mut random)[0]);
        }
        let plan = Plan { head: head.clone(), more: more.clone(), ..Plan::new(&users, 1, 64) };
        daemon.rewrite(&plan)?;
        costs.push(cost(&daemon, || {
            daemon.reload()?;
            proc::await_true("the config is not reloaded", || {
                Ok(daemon.log()?.matches("event=reloaded").count() > round)
            })
        })?);
    }
    report_cost("reload_ms", &costs, report)?;
    drop(daemon);
    waiting_requests(options, report)
}

/// Measures while thousands of requests wait, one second after the other.
fn waiting_requests(options: &Options, report: &mut Report) -> Outcome<()> {
    sockets::raise_descriptor_limit()?;
    let users = User::random(MANY_USERS, &mut fastrand::Rng::with_seed(getrandom::u64()?));
    let api = sockets::free_port()?;
    let head = format!("api-bind-to = \"127.0.0.1:{api}\"\n");
    let daemon = Daemon::start(&Plan { head, ..Plan::new(&users, 1, 64) })?;
    proc::await_rest(daemon.pid())?;
    let seconds = if options.short { 4 } else { 16 };
    let (is_over, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    let mut costs = Vec::new();
    thread::scope(|scope| -> Outcome<()> {
        let begun = Instant::now();
        let mut before = proc::cpu_ns(daemon.pid())?;
        let requests: Vec<TcpStream> =
            (0..WAITING).map(|_| request(api)).collect::<Outcome<_>>()?;
        scope.spawn(|| {
            let is_wanted = |_: &TcpStream| !is_over.load(Ordering::Relaxed);
            for mut stream in requests.into_iter().take_while(is_wanted) {
                let mut answer = Vec::new();
                let is_answer = stream.read_to_end(&mut answer).is_ok();
                let is_good = is_answer && answer.starts_with(b"HTTP/1.0 200 ");
                answered.fetch_add(usize::from(is_good), Ordering::Relaxed);
            }
        });
        for second in 1..=seconds {
            let at = begun + Duration::from_secs(second);
            thread::sleep(at.saturating_duration_since(Instant::now()));
            let now = proc::cpu_ns(daemon.pid())?;
            costs.push(now.saturating_sub(before) as f64 / 1e6);
            before = now;
        }
        is_over.store(true, Ordering::Relaxed);
        Ok(())
    })?;
    let answered = answered.into_inner();
    println!("{MANY_USERS} users, {WAITING} requests: {answered} answered in {seconds} s");
    if answered == 0 {
        return Err("no request was answered".into());
    }
    report_cost("waiting_requests_ms", &costs, report)
}

/// A request for `/stats` that ends with FIN.
fn request(port: u16) -> Outcome<TcpStream> {
    let mut stream = sockets::dial(Ipv4Addr::LOCALHOST, port)?;
    stream.write_all(b"GET /stats HTTP/1.0\r\n\r\n")?;
    stream.shutdown(Shutdown::Write)?;
    Ok(stream)
}

/// CPU time of the daemon for `action`, from idle to idle, in milliseconds.
fn cost(daemon: &Daemon, action: impl FnOnce() -> Outcome<()>) -> Outcome<f64> {
    let before = proc::await_rest(daemon.pid())?;
    action()?;
    let after = proc::await_rest(daemon.pid())?;
    Ok(after.saturating_sub(before) as f64 / 1e6)
}

fn report_cost(key: &str, costs: &[f64], report: &mut Report) -> Outcome<()> {
    let (value, target) = (median(costs), report.target(key)?);
    println!("{key}: {value:.2}, target {target}: {}", verdict(value, target));
    report.note(key, value);
    Ok(())
}

/// One HTTP request; the response must be 200 with a body.
fn get(port: u16, path: &str) -> Outcome<()> {
    let is_good = page(Ipv4Addr::LOCALHOST, port, path)?.len() > 100;
    if is_good { Ok(()) } else { Err(format!("{path}: no good answer").into()) }
}

/// The body of a page, requested from the address `source`; the response must be 200.
pub fn page(source: Ipv4Addr, port: u16, path: &str) -> Outcome<String> {
    let mut stream: TcpStream = sockets::dial(source, port)?;
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let body = answer.split_once("\r\n\r\n").filter(|_| answer.starts_with("HTTP/1.0 200 "));
    Ok(body.ok_or_else(|| format!("{path}: no good answer"))?.1.to_owned())
}

//! Requests of the operator with 1,000 users: how long the loop is busy with a reload, with
//! `/stats`, with `/explain` and with `/metrics`. Nothing else runs meanwhile, so the CPU time of
//! the daemon is the time during which the loop does nothing else.

use std::io::{Read, Write};
use std::net::Ipv4Addr;
use std::net::TcpStream;

use super::faketls::User;
use super::options::{Options, Outcome};
use super::process::{Daemon, Plan};
use super::report::{Report, median, verdict};
use super::{proc, sockets};

const USERS: usize = 1_000;
/// Users whose secret changes at each reload.
const CHANGED: usize = 20;

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
    report_cost("reload_ms", &costs, report)
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

//! The roles of helper processes.

use super::options::Outcome;
use super::siege::{attacker, origin};
use super::{answerer, bulk, copy, environment, fairness, flood, lists};

/// Runs a role until its work is done or its standard input ends.
pub fn run(arguments: &[String]) -> Outcome<()> {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["probe"] => environment::probe(),
        ["copy", dc_port] => copy::run(dc_port.parse()?),
        ["bulk", flows, send_each] => bulk::run_dc(flows.parse()?, send_each.parse()?),
        ["answerer", after, reply] => answerer::run(after.parse()?, reply.parse()?),
        ["flood", port, window_ms, networks] => {
            flood::run_role(port.parse()?, window_ms.parse()?, networks.parse()?)
        }
        ["source"] => fairness::run_source(),
        ["echo"] => lists::run_echo(),
        ["attack", key, port, secret, ramp_ms] => {
            attacker::run(key, port.parse()?, secret, ramp_ms.parse()?)
        }
        ["origin", what] => origin::run(*what == "site"),
        ["page", path] => lists::run_page(path.as_ref()),
        other => Err(format!("no such role: {other:?}").into()),
    }
}

//! The harness of the benchmarks. The binary of a benchmark is every process except the daemon:
//! with `role NAME ...` it is one of the helper processes, otherwise it measures. Start reading at
//! `relay.rs`, `fairness.rs`, `handshake.rs`, `flood.rs`, `lists.rs`, `operator.rs`, `siege/`,
//! `start.rs` or `memory.rs`: each is one measurement.

mod answerer;
mod bulk;
mod copy;
mod environment;
mod fairness;
mod faketls;
mod flood;
mod handshake;
mod helper;
mod lists;
mod memory;
mod operator;
mod options;
mod proc;
mod process;
mod relay;
mod report;
mod roles;
mod siege;
mod sockets;
mod start;

use std::process::ExitCode;

use options::{Options, Outcome};
use report::Report;

/// Runs the benchmark called `name`, or the role of a helper. This is the whole program.
pub fn main(name: &str) -> ExitCode {
    // Cargo passes `--bench` to every benchmark.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let outcome = match arguments.split_first() {
        Some((first, rest)) if first == "role" => roles::run(rest).map(|()| true),
        _ => run_benchmark(name, &arguments),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{name}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Measures and reports; `false` = a gate is broken.
fn run_benchmark(name: &str, arguments: &[String]) -> Outcome<bool> {
    let options = Options::parse(arguments)?;
    let environment = environment::enter(arguments)?;
    sockets::raise_descriptor_limit()?;
    println!("{name}: {environment}");
    let mut report = Report::new()?;
    match name {
        "relay" => relay::measure(&options, &mut report)?,
        "fairness" => fairness::measure(&options, &mut report)?,
        "flood" => flood::measure(&options, &mut report)?,
        "handshake" => handshake::measure(&options, &mut report)?,
        "lists" => lists::measure(&options, &mut report)?,
        "start" => start::measure(&options, &mut report)?,
        "operator" => operator::measure(&options, &mut report)?,
        "siege" => siege::measure(&options, &environment, &mut report)?,
        _ => memory::measure(&options, &mut report)?,
    }
    if let Some(path) = &options.json {
        std::fs::write(path, report.to_json()).map_err(|e| format!("{path}: {e}"))?;
    }
    Ok(!options.gate || report.gates_hold())
}

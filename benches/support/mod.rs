//! The harness that the benchmarks share. The benchmark's binary plays every part but the
//! daemon: run with `role NAME ...` it becomes one of the helper processes, else the conductor.
//! Start reading at `relay.rs`, `handshake.rs`, `flood.rs`,
//! `lists.rs`, `operator.rs`, `start.rs` or `memory.rs`: each is one measurement.

mod answerer;
mod bulk;
mod copy;
mod faketls;
mod flood;
mod handshake;
mod lists;
mod memory;
mod operator;
mod proc;
mod process;
mod relay;
mod report;
mod role;
mod sockets;
mod stage;
mod start;

use std::error::Error;
use std::process::ExitCode;

use report::Report;

/// What may fail: anything, and then the run has no result.
pub type Outcome<T> = Result<T, Box<dyn Error>>;

/// What the command line asks for.
pub struct Options {
    /// Seconds instead of minutes: fewer rounds, smaller volumes.
    pub short: bool,
    /// Fail when a gated number is over its gate.
    pub gate: bool,
    /// Where to write the numbers as one flat JSON object.
    pub json: Option<String>,
}

/// Runs the benchmark called `name`, or a helper's role; the whole program.
pub fn main(name: &str) -> ExitCode {
    // Cargo passes `--bench` to every benchmark.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let played = match arguments.split_first() {
        Some((first, rest)) if first == "role" => role::play(rest).map(|()| true),
        _ => conduct(name, &arguments),
    };
    match played {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{name}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Measures and reports; `false` when a gate is broken.
fn conduct(name: &str, arguments: &[String]) -> Outcome<bool> {
    let options = parse(arguments)?;
    let stage = stage::enter(arguments)?;
    sockets::raise_descriptor_limit()?;
    println!("{name}: {stage}");
    let mut report = Report::new()?;
    match name {
        "relay" => relay::measure(&options, &mut report)?,
        "flood" => flood::measure(&options, &mut report)?,
        "handshake" => handshake::measure(&options, &mut report)?,
        "lists" => lists::measure(&options, &mut report)?,
        "start" => start::measure(&options, &mut report)?,
        "operator" => operator::measure(&options, &mut report)?,
        _ => memory::measure(&options, &mut report)?,
    }
    if let Some(path) = &options.json {
        std::fs::write(path, report.to_json()).map_err(|e| format!("{path}: {e}"))?;
    }
    Ok(!options.gate || report.gates_hold())
}

fn parse(arguments: &[String]) -> Outcome<Options> {
    let mut options = Options { short: false, gate: false, json: None };
    let mut left = arguments.iter();
    while let Some(argument) = left.next() {
        match argument.as_str() {
            "--short" => options.short = true,
            "--gate" => options.gate = true,
            "--json" => options.json = Some(left.next().ok_or("--json needs a file")?.clone()),
            other => {
                return Err(format!("{other}: only --short, --gate and --json FILE").into());
            }
        }
    }
    Ok(options)
}

//! The command line of a benchmark, and the result type of the harness.

use std::error::Error;

/// A result of a step. Any error ends the run.
pub type Outcome<T> = Result<T, Box<dyn Error>>;

/// The options of the command line.
pub struct Options {
    /// Fewer rounds and smaller volumes: seconds instead of minutes.
    pub short: bool,
    /// Fail when a gated number is over its gate.
    pub gate: bool,
    /// The file for the results, as one flat JSON object.
    pub json: Option<String>,
}

impl Options {
    /// Parses the arguments after those of Cargo.
    pub fn parse(arguments: &[String]) -> Outcome<Self> {
        let mut options = Self { short: false, gate: false, json: None };
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
}

//! The command line: parses the arguments, runs the command, and maps its outcome to an exit code.

mod access;
mod admin_client;
pub mod args;
mod atomic_file;
mod check;
mod commands;
mod config_file;
mod doctor;
mod egress_summary;
mod explain;
pub mod failure;
mod generate_secret;
pub mod help;
mod local_addr;
mod log_flags;
mod output;
mod public_addrs;
mod public_ip;
mod qr;
mod quickstart;
mod run;
mod secret_text;
mod simple_run;
mod stats;
mod uci;
pub mod user;

use std::ffi::OsString;
use std::process::ExitCode;

use args::Invocation;
pub use commands::COMMANDS;
use failure::{ERROR, Failure, SUCCESS, USAGE};
use output::{print, report};

use crate::io::rlimit;

/// Runs the command that the arguments of the process name. Returns the exit code.
pub fn main() -> ExitCode {
    rlimit::forbid_core_dumps();
    ExitCode::from(dispatch(std::env::args_os().skip(1)))
}

fn dispatch(arguments: impl Iterator<Item = OsString>) -> u8 {
    let (command, outcome) = match args::read(COMMANDS, arguments) {
        Ok(Invocation::Version) => {
            print(&format!("{}\n", help::version()));
            return SUCCESS;
        }
        Ok(Invocation::Help(None)) => {
            print(&help::overview());
            return SUCCESS;
        }
        Ok(Invocation::Help(Some(command))) => {
            print(&help::of(command));
            return SUCCESS;
        }
        Ok(Invocation::Run(command, args)) => (Some(command), (command.run)(&args)),
        Err((command, fault)) => (command, Err(Failure::Usage(fault))),
    };
    match outcome {
        Ok(()) => SUCCESS,
        Err(Failure::Usage(line)) => {
            report(&format!("error: {line}"));
            // Scripts expect other codes from `check` and `uci` than from the rest.
            command.map_or(USAGE, |command| command.usage_code)
        }
        Err(Failure::Errors(lines)) => {
            lines.iter().for_each(|line| report(&format!("error: {line}")));
            ERROR
        }
        Err(Failure::Reported) => ERROR,
        Err(Failure::Exit(code)) => code,
    }
}

//! Parses the arguments, runs the command, and maps its outcome to an exit code.
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    mtbox::cli::main()
}

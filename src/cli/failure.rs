//! How a command fails, and the exit codes.

/// Why a command failed.
#[derive(Debug, PartialEq, Eq)]
pub enum Failure {
    /// The arguments are wrong. One line.
    Usage(String),
    /// The arguments are right, but the command failed. One error per line.
    Errors(Vec<String>),
    /// The command failed and has already reported the errors.
    Reported,
    /// The command has reported everything and chooses its exit code.
    Exit(u8),
}

impl Failure {
    /// A failure with a single error line.
    pub fn error(line: impl Into<String>) -> Self {
        Self::Errors(vec![line.into()])
    }
}

pub(super) const SUCCESS: u8 = 0;
pub(super) const ERROR: u8 = 1;
/// Wrong arguments of `check` and `uci`, and input that they cannot read.
pub(super) const CHECK_USAGE: u8 = 2;
/// Wrong arguments of all other commands, as in mtg-multi (COMPATIBILITY 4.1).
pub const USAGE: u8 = 80;

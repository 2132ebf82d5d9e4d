//! The log flags of the commands that run the proxy. They override the config file, also after a
//! reload.

use crate::cli::args::{Flag, ParsedArgs};
use crate::cli::failure::Failure;
use crate::config::partial::PartialSettings;
use crate::config::settings::LogChoice;
use crate::config::value::{LOG_FORMAT, LOG_LEVEL, LOG_TO};

pub(super) const LEVEL: Flag =
    Flag::with_value(None, "log-level", "WORD", "what to log: error, warn, info or debug");
pub(super) const FORMAT: Flag =
    Flag::with_value(None, "log-format", "WORD", "format of log lines: text or json");
pub(super) const TO: Flag =
    Flag::with_value(None, "log-to", "WORD", "log destination: stderr, syslog or journal");

/// Parses the log flags. `None` in the result = the config file decides.
pub(super) fn read(args: &ParsedArgs) -> Result<LogChoice, Failure> {
    let mut partial = PartialSettings::default();
    for (flag, choices) in [(LEVEL, LOG_LEVEL), (FORMAT, LOG_FORMAT), (TO, LOG_TO)] {
        let Some(word) = args.text(flag.long)? else { continue };
        let choice = choices.iter().find(|(choice, _)| choice.eq_ignore_ascii_case(word));
        let (_, set) = choice.ok_or_else(|| {
            let words: Vec<&str> = choices.iter().map(|(choice, _)| *choice).collect();
            let (long, words) = (flag.long, words.join(", "));
            Failure::Usage(format!("--{long}: unknown word; write one of {words}"))
        })?;
        set(&mut partial);
    }
    Ok(LogChoice { level: partial.log_level, format: partial.log_format, to: partial.log_to })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::{self, Command, Invocation};

    const TABLE: &[Command] = &[Command { flags: &[LEVEL], ..Command::named("run") }];

    #[test]
    fn a_word_that_is_none_is_a_usage_error_that_names_the_words() {
        let words = ["run", "--log-level", "loud"];
        let Ok(Invocation::Run(_, args)) = args::read(TABLE, words.iter().map(Into::into)) else {
            panic!("{words:?}");
        };
        let Err(Failure::Usage(fault)) = read(&args) else { panic!("it was accepted") };
        assert_eq!(fault, "--log-level: unknown word; write one of error, warn, info, debug");
    }
}

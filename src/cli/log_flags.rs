//! The log flags of the commands that run the proxy. They override the config file, also after a
//! reload.

use crate::cli::args::{Flag, ParsedArgs};
use crate::cli::failure::Failure;
use crate::config::draft::SettingsDraft;
use crate::config::keys::{LOG_FORMAT, LOG_LEVEL, LOG_TO};
use crate::config::settings::LogChoice;
use crate::config::value::{Choices, choose};

pub(super) const LEVEL: Flag =
    Flag::with_value(None, "log-level", "WORD", "what to log: error, warn, info or debug");
pub(super) const FORMAT: Flag =
    Flag::with_value(None, "log-format", "WORD", "format of log lines: text or json");
pub(super) const TO: Flag =
    Flag::with_value(None, "log-to", "WORD", "log destination: stderr, syslog or journal");

/// Parses the log flags. `None` in the result = the config file decides.
pub(super) fn read(args: &ParsedArgs) -> Result<LogChoice, Failure> {
    let mut draft = SettingsDraft::default();
    let mut is_given = |flag: &Flag, choices: Choices| -> Result<bool, Failure> {
        let Some(word) = args.text(flag.long)? else { return Ok(false) };
        let usage = |words| format!("--{}: unknown word; write one of {words}", flag.long);
        choose(choices, word, &mut draft).map_err(|words| Failure::Usage(usage(words)))?;
        Ok(true)
    };
    let (level, format, to) =
        (is_given(&LEVEL, LOG_LEVEL)?, is_given(&FORMAT, LOG_FORMAT)?, is_given(&TO, LOG_TO)?);
    let log = draft.settings.log;
    Ok(LogChoice {
        level: level.then_some(log.level),
        format: format.then_some(log.format),
        to: to.then_some(log.to),
    })
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

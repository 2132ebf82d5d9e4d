//! What the flags of the commands that run say of the log. They win over the file, whatever a
//! reload brings.

use super::Failure;
use crate::cli::args::{Flag, ParsedArgs};
use crate::config::partial::PartialSettings;
use crate::config::settings::LogChoice;
use crate::config::value::{LOG_FORMAT, LOG_LEVEL, LOG_TO};

/// `--log-level`.
pub const LEVEL: Flag =
    Flag::with_value(None, "log-level", "WORD", "what to log: error, warn, info or debug");
/// `--log-format`.
pub const FORMAT: Flag =
    Flag::with_value(None, "log-format", "WORD", "how a line of the log looks: text or json");
/// `--log-to`.
pub const TO: Flag =
    Flag::with_value(None, "log-to", "WORD", "where the log goes: stderr, syslog or journal");

/// What was given of them.
pub fn read(given: &ParsedArgs) -> Result<LogChoice, Failure> {
    let mut draft = PartialSettings::default();
    for (flag, choices) in [(LEVEL, LOG_LEVEL), (FORMAT, LOG_FORMAT), (TO, LOG_TO)] {
        let Some(word) = given.text(flag.long)? else { continue };
        let choice = choices.iter().find(|(choice, _)| choice.eq_ignore_ascii_case(word));
        let (_, set) = choice.ok_or_else(|| {
            let words: Vec<&str> = choices.iter().map(|(choice, _)| *choice).collect();
            let (long, words) = (flag.long, words.join(", "));
            Failure::Usage(format!("--{long}: unknown word; write one of {words}"))
        })?;
        set(&mut draft);
    }
    Ok(LogChoice { level: draft.log_level, format: draft.log_format, to: draft.log_to })
}

#[cfg(test)]
mod tests {
    use super::super::args::{self, Invocation};
    use super::*;
    use crate::config::settings::{LogFormat, LogLevel, LogSettings, LogTo};

    fn choice(words: &[&str]) -> Result<LogChoice, Failure> {
        match args::read(words.iter().map(Into::into)) {
            Ok(Invocation::Run(_, given)) => read(&given),
            Ok(_) | Err(_) => panic!("{words:?}"),
        }
    }

    #[test]
    fn every_command_that_runs_has_them_and_they_win_over_the_file() {
        for command in [&["run", "a"][..], &["simple-run", "b", "s"], &["quickstart"]] {
            let none = choice(command).unwrap();
            let file = LogSettings { to: LogTo::Syslog, ..LogSettings::default() };
            assert_eq!(none.apply_to(file), file);
            let flags = ["--log-level=Warn", "--log-format", "json", "--log-to=journal"];
            let all = choice(&[command, &flags].concat()).unwrap();
            let wanted =
                LogSettings { level: LogLevel::Warn, format: LogFormat::Json, to: LogTo::Journal };
            assert_eq!(all.apply_to(file), wanted);
        }
    }

    #[test]
    fn a_word_that_is_none_is_a_usage_error_that_names_the_words() {
        let Err(Failure::Usage(fault)) = choice(&["run", "a", "--log-level", "loud"]) else {
            panic!("it was heard");
        };
        assert_eq!(fault, "--log-level: unknown word; write one of error, warn, info, debug");
    }
}

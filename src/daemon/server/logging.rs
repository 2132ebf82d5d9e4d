//! What the settings say of the log, in the words of the sink.

use log::LevelFilter;

use crate::config::settings::{LogFormat, LogLevel, LogSettings, LogTo};
use crate::io::logger::{self, Format, Manner, To};

/// Sets the log up, or anew.
pub fn settle(settings: &LogSettings) {
    logger::init(&Manner {
        level: match settings.level {
            LogLevel::Error => LevelFilter::Error,
            LogLevel::Warn => LevelFilter::Warn,
            LogLevel::Info => LevelFilter::Info,
            LogLevel::Debug => LevelFilter::Debug,
        },
        format: match settings.format {
            LogFormat::Text => Format::Text,
            LogFormat::Json => Format::Json,
        },
        to: match settings.to {
            LogTo::Stderr => To::Stderr,
            LogTo::Syslog => To::Syslog,
            LogTo::Journal => To::Journal,
        },
    });
}

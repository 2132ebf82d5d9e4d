//! What the settings say of the log, in the words of the sink.

use log::LevelFilter;

use crate::config::settings::{LogFormat, LogLevel, LogSettings, LogTo};
use crate::io::logger::{self, LogConfig, LogLineFormat, LogTarget};

/// Sets the log up, or anew.
pub fn settle(settings: &LogSettings) {
    logger::init(&LogConfig {
        level: match settings.level {
            LogLevel::Error => LevelFilter::Error,
            LogLevel::Warn => LevelFilter::Warn,
            LogLevel::Info => LevelFilter::Info,
            LogLevel::Debug => LevelFilter::Debug,
        },
        format: match settings.format {
            LogFormat::Text => LogLineFormat::Text,
            LogFormat::Json => LogLineFormat::Json,
        },
        to: match settings.to {
            LogTo::Stderr => LogTarget::Stderr,
            LogTo::Syslog => LogTarget::Syslog,
            LogTo::Journal => LogTarget::Journal,
        },
    });
}

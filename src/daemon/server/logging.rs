//! Applies the log settings of the config to the logger.

use log::LevelFilter;

use crate::config::settings::{LogFormat, LogLevel, LogSettings, LogTo};
use crate::io::logger::{self, LogConfig, LogLineFormat, LogTarget};

/// Sets the level, the format and the target of the log, at start and after a reload.
pub(super) fn apply(settings: &LogSettings) {
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

//! Applies the log settings of the config to the logger.

use crate::config::settings::{LogFormat, LogLevel, LogSettings, LogTo};
use crate::io::logger::{self, Level, LogConfig, LogLineFormat, LogTarget};

/// Sets the level, the format and the target of the log, at start and after a reload.
pub(super) fn apply(settings: &LogSettings) {
    logger::init(&LogConfig {
        level: match settings.level {
            LogLevel::Error => Level::Error,
            LogLevel::Warn => Level::Warn,
            LogLevel::Info => Level::Info,
            LogLevel::Debug => Level::Debug,
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

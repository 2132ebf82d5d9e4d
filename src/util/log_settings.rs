//! What is logged, how and where.

/// `log-level`, `log-format` and `log-to`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LogSettings {
    /// Least severe level that is logged.
    pub level: LogLevel,
    /// The format of a line.
    pub format: LogFormat,
    /// The target.
    pub to: LogTo,
}

/// `log-level`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogLevel {
    /// Something does not work.
    Error = 1,
    /// Something needs the operator's attention.
    Warn,
    /// Events of interest to the operator.
    #[default]
    Info,
    /// The events of every connection.
    Debug,
}

impl LogLevel {
    /// The name in lower case.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
        }
    }
}

/// `log-format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// `key=value` pairs.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// `log-to`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogTo {
    /// Standard error.
    #[default]
    Stderr,
    /// syslog, through `/dev/log`.
    Syslog,
    /// The journal of systemd.
    Journal,
}

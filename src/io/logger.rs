//! The log. One event is one line, `event=NAME key=value`, written as text or as JSON to standard
//! error, to syslog or to the systemd journal. This module does not decide which events are worth a
//! line.

mod datagram;
mod journal;
mod json;
mod rate_limit;
pub mod record;
pub mod sink;
mod syslog;

pub use rate_limit::RateLimitedLog;
pub(crate) use record::fields;
pub use record::{FieldKind, LogFields, Maybe, Record};
pub(crate) use sink::event;
pub use sink::{init, is_enabled, lost_lines, write, write_record};

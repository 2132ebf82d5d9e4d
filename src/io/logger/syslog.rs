//! A log line in the format of syslog's local socket (RFC 3164 4.1). busybox, OpenWrt's logd,
//! rsyslog and journald accept it.

use std::time::{Duration, UNIX_EPOCH};

use crate::util::log_settings::LogLevel;

/// One message, without a line end. The time is in UTC. Most daemons replace it with their own
/// time, but some misparse a message without a time. `unix_s` is before the year 10000.
pub fn message(level: LogLevel, unix_s: u64, pid: u32, line: &str) -> String {
    let priority = DAEMON * 8 + severity(level);
    let time = UNIX_EPOCH + Duration::from_secs(unix_s);
    let date = humantime::format_rfc3339_seconds(time).to_string();
    let part = |range| date.get(range).unwrap_or_default();
    let (month, day, time) = (part(5..7), part(8..10).trim_start_matches('0'), part(11..19));
    let month = month.parse::<usize>().ok().and_then(|month| MONTHS.get(month.checked_sub(1)?));
    let month = month.copied().unwrap_or_default();
    format!("<{priority}>{month} {day:>2} {time} mtbox[{pid}]: {line}")
}

/// Severity of a level (RFC 3164 4.1.1, table 2).
pub fn severity(level: LogLevel) -> u32 {
    match level {
        LogLevel::Error => 3,
        LogLevel::Warn => 4,
        LogLevel::Info => 6,
        LogLevel::Debug => 7,
    }
}

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// Facility "system daemons" (RFC 3164 4.1.1, table 1).
const DAEMON: u32 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_what_rfc_3164_says() {
        assert_eq!(
            message(LogLevel::Info, 1_800_000_000, 1234, "event=a"),
            "<30>Jan 15 08:00:00 mtbox[1234]: event=a"
        );
        assert_eq!(
            message(LogLevel::Error, 1_772_323_199, 1, "event=a"),
            "<27>Feb 28 23:59:59 mtbox[1]: event=a"
        );
        assert!(message(LogLevel::Warn, 0, 1, "").starts_with("<28>Jan  1 00:00:00 "));
        assert!(message(LogLevel::Debug, 951_782_400, 1, "").starts_with("<31>Feb 29 "));
    }

    #[test]
    fn every_day_of_a_century_has_its_date() {
        for day in 0..36_525u64 {
            let at = UNIX_EPOCH + Duration::from_secs(day * 86_400);
            let date = humantime::format_rfc3339_seconds(at).to_string();
            let text = message(LogLevel::Info, day * 86_400, 1, "");
            let (month, day) = (&text[4..7], text[8..10].trim_start().parse::<usize>().unwrap());
            let names = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep"];
            let number: usize = date[5..7].parse().unwrap();
            let name = names.into_iter().chain(["Oct", "Nov", "Dec"]).nth(number - 1).unwrap();
            assert_eq!((name, day), (month, date[8..10].parse().unwrap()), "{date}");
        }
    }
}

//! A log line in the format of syslog's local socket (RFC 3164 4.1). busybox, OpenWrt's logd,
//! rsyslog and journald accept it.

use crate::io::logger::record::Level;

/// One message, without a line end. The time is in UTC. Most daemons replace it with their own
/// time, but some misparse a message without a time.
pub fn message(level: Level, unix_s: u64, pid: u32, line: &str) -> String {
    let priority = DAEMON * 8 + severity(level);
    let (day, second) = (unix_s / 86_400, unix_s % 86_400);
    let (month, day) = month_and_day(day);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("<{priority}>{month} {day:>2} {hour:02}:{minute:02}:{second:02} mtbox[{pid}]: {line}")
}

/// Severity of a level (RFC 3164 4.1.1, table 2).
pub fn severity(level: Level) -> u32 {
    match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug => 7,
    }
}

/// Name of the month and day of the month, from days since 1970. An era of 400 years has 146097
/// days. In years that start in March the month is a linear function of the day.
fn month_and_day(days: u64) -> (&'static str, u64) {
    // 719468 days lie between 1 March of year 0 and 1 January 1970.
    let day_of_era = (days + 719_468) % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    (MONTHS.get(month as usize).copied().unwrap_or("Jan"), day)
}

/// The computed year starts in March, so that the leap day is its last day.
const MONTHS: [&str; 12] =
    ["Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec", "Jan", "Feb"];

/// Facility "system daemons" (RFC 3164 4.1.1, table 1).
const DAEMON: u32 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_what_rfc_3164_says() {
        assert_eq!(
            message(Level::Info, 1_800_000_000, 1234, "event=a"),
            "<30>Jan 15 08:00:00 mtbox[1234]: event=a"
        );
        assert_eq!(
            message(Level::Error, 1_772_323_199, 1, "event=a"),
            "<27>Feb 28 23:59:59 mtbox[1]: event=a"
        );
        assert!(message(Level::Warn, 0, 1, "").starts_with("<28>Jan  1 00:00:00 "));
        assert!(message(Level::Debug, 951_782_400, 1, "").starts_with("<31>Feb 29 "));
    }

    #[test]
    fn every_day_of_a_century_has_its_date() {
        for day in 0..36_525u64 {
            let at = std::time::UNIX_EPOCH + std::time::Duration::from_secs(day * 86_400);
            let date = humantime::format_rfc3339_seconds(at).to_string();
            let (month, day) = month_and_day(day);
            let names = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep"];
            let number: usize = date[5..7].parse().unwrap();
            let name = names.into_iter().chain(["Oct", "Nov", "Dec"]).nth(number - 1).unwrap();
            assert_eq!((name, day), (month, date[8..10].parse().unwrap()), "{date}");
        }
    }
}

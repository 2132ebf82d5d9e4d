//! Parsers for durations and sizes (COMPATIBILITY 3.2.1 and 3.2.2): sums of numbers with units,
//! such as `1h30m` or `1.5mib`, with the syntax of mtg-multi.

use std::time::Duration;

/// Parses a duration of at most 292 years: units `ns us ms s m h`, in any case, with blanks
/// anywhere; also `0` without a unit, and a plus sign. Negative durations are refused.
pub fn duration(text: &str) -> Result<Duration, &'static str> {
    let nanos = sum(&without_blanks(text), TIME_UNITS);
    nanos.map(Duration::from_nanos).ok_or(NOT_A_DURATION)
}

/// Parses a size in bytes below 8 EiB: units `b kb mb gb tb pb eb` or `b kib mib gib ..`, all
/// powers of 1024, in any case. The two families cannot be mixed. Fractions of a byte are dropped.
pub fn bytes(text: &str) -> Result<u64, &'static str> {
    let text = without_blanks(text);
    sum(&text, BINARY_UNITS).or_else(|| sum(&text, SHORT_UNITS)).ok_or(NOT_BYTES)
}

/// Parses a bit rate in units `bit kbit mbit gbit`, all powers of 1000 as in tc(8), in any case.
/// Returns bytes per second; 0 is 0.
pub fn bit_rate(text: &str) -> Result<u32, &'static str> {
    match sum(&without_blanks(text), RATE_UNITS).ok_or(NOT_A_RATE)? {
        0 => Ok(0),
        1..RATE_MIN => Err("too low; write at least 256kbit"),
        bits => u32::try_from(bits / 8).map_err(|_| "too high; write at most 30gbit"),
    }
}

/// The shortest text of a duration, such as `6h`.
pub(super) fn duration_text(time: Duration) -> String {
    text(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX), TIME_UNITS)
}

/// The shortest text of a size, such as `128kib`.
pub(super) fn bytes_text(bytes: u64) -> String {
    text(bytes, BINARY_UNITS)
}

/// The amount in the largest unit that divides it.
fn text(amount: u64, units: &[(&str, u64)]) -> String {
    let divides = |unit: &&(&str, u64)| amount > 0 && amount.is_multiple_of(unit.1);
    match units.iter().rev().find(divides) {
        Some((unit, scale)) => format!("{}{unit}", amount / scale),
        None => "0".to_owned(),
    }
}

fn without_blanks(text: &str) -> String {
    text.replace([' ', '\t'], "").to_ascii_lowercase()
}

/// Parses an optional sign, then `0` or groups of a decimal number and a unit. `None` if the text
/// is anything else, or if the sum is negative or exceeds 63 bits.
fn sum(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let (negative, unsigned) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if unsigned == "0" {
        return Some(0);
    }
    let (mut total, mut rest) = group(unsigned, units)?;
    while !rest.is_empty() {
        let (amount, after) = group(rest, units)?;
        total = total.checked_add(amount)?;
        rest = after;
    }
    (i64::try_from(total).is_ok() && (total == 0 || !negative)).then_some(total)
}

/// Parses one number with its unit; also returns the rest of the text.
fn group<'a>(text: &'a str, units: &[(&str, u64)]) -> Option<(u64, &'a str)> {
    let (whole, rest) = digits(text);
    let (fraction, rest) = rest.strip_prefix('.').map_or(("", rest), digits);
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let end = rest.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(rest.len());
    let (unit, rest) = rest.split_at_checked(end)?;
    let (_, scale) = units.iter().find(|(name, _)| *name == unit)?;
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let amount = whole.checked_mul(*scale)?.checked_add(fraction_of(fraction, *scale))?;
    Some((amount, rest))
}

fn digits(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text.split_at_checked(end).unwrap_or((text, ""))
}

/// `0.fraction` times `scale`, rounded down. `scale` is at most 2^60, so nine times it fits 64
/// bits.
fn fraction_of(fraction: &str, scale: u64) -> u64 {
    let digits = fraction.bytes().rev().map(|digit| u64::from(digit - b'0'));
    digits.fold(0, |rest, digit| (digit * scale + rest) / 10)
}

/// In nanoseconds. The micro sign is U+00B5 or U+03BC.
const TIME_UNITS: &[(&str, u64)] = &[
    ("ns", 1),
    ("us", 1_000),
    ("\u{b5}s", 1_000),
    ("\u{3bc}s", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

const BINARY_UNITS: &[(&str, u64)] = &[
    ("b", 1),
    ("kib", 1 << 10),
    ("mib", 1 << 20),
    ("gib", 1 << 30),
    ("tib", 1 << 40),
    ("pib", 1 << 50),
    ("eib", 1 << 60),
];

const SHORT_UNITS: &[(&str, u64)] = &[
    ("b", 1),
    ("kb", 1 << 10),
    ("mb", 1 << 20),
    ("gb", 1 << 30),
    ("tb", 1 << 40),
    ("pb", 1 << 50),
    ("eb", 1 << 60),
];

const RATE_UNITS: &[(&str, u64)] =
    &[("bit", 1), ("kbit", 1_000), ("mbit", 1_000_000), ("gbit", 1_000_000_000)];
/// Bits per second. With less, a handshake with its key shares would take seconds.
const RATE_MIN: u64 = 256_000;

const NOT_A_RATE: &str = "not a bit rate; write a number with a unit, such as 80mbit";
const NOT_A_DURATION: &str = "not a duration; write numbers with units, such as 10s or 1h30m";
const NOT_BYTES: &str = "not a size; write a number with a unit, such as 512kib or 1mib";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_sums_of_numbers_and_units() {
        for (text, nanos) in [
            ("0", 0),
            ("-0s", 0),
            ("+5s", 5_000_000_000),
            ("1M", 60_000_000_000),
            ("1MS", 1_000_000),
            (" 1 h\t30 m ", 5_400_000_000_000),
            ("1.5h", 5_400_000_000_000),
            (".5s", 500_000_000),
            ("5.s", 5_000_000_000),
            ("0s1ns", 1),
            ("3us", 3_000),
            ("3µs", 3_000),
            ("3μs", 3_000),
            ("2562047h", 2_562_047 * 3_600_000_000_000),
            ("0.1234567890123456789999s", 123_456_789),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_nanos(nanos)), "{text}");
        }
        for text in [
            "",
            "5",
            "-1s",
            "2562048h",
            "1d",
            "s",
            ".s",
            "1.2.3s",
            "--1s",
            "5 seconds",
            "1e3s",
            "99999999999999999999999s",
            "+",
            "-",
            "0x1s",
            "٣s",
        ] {
            assert_eq!(duration(text), Err(NOT_A_DURATION), "{text}");
        }
    }

    #[test]
    fn bit_rates_are_powers_of_1000_within_bounds() {
        for (text, bytes_per_s) in [
            ("0", 0),
            ("80mbit", 10_000_000),
            ("1.5 Mbit", 187_500),
            ("256kbit", 32_000),
            ("8000000bit", 1_000_000),
            ("30gbit", 3_750_000_000),
        ] {
            assert_eq!(bit_rate(text), Ok(bytes_per_s), "{text}");
        }
        for text in ["", "80", "80mb", "80mbit/s", "-1mbit", "80mbps"] {
            assert_eq!(bit_rate(text), Err(NOT_A_RATE), "{text}");
        }
        for text in ["1bit", "255999bit", "35gbit"] {
            assert!(bit_rate(text).is_err_and(|fault| fault.contains("too")), "{text}");
        }
    }

    #[test]
    fn sizes_are_powers_of_1024_and_families_do_not_mix() {
        for (text, want) in [
            ("0", 0),
            ("0b", 0),
            ("0.3b", 0),
            ("1kib512b", 1536),
            ("1kb1b", 1025),
            ("1 MB", 1 << 20),
            ("1.5mib", 1_572_864),
            ("7.9eib", 9_108_079_886_394_091_110),
            ("+4KB", 4096),
        ] {
            assert_eq!(bytes(text), Ok(want), "{text}");
        }
        for text in ["", "1", "1k", "1m", "1mib1kb", "-1b", "1e3b", "8eib", "8eb", "kb", "1bb"] {
            assert_eq!(bytes(text), Err(NOT_BYTES), "{text}");
        }
    }
}

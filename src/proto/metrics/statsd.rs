//! statsd lines in three dialects, packed into datagrams (COMPATIBILITY 6.6). A gauge is sent as
//! its value, a counter as its increase. mtg-multi sends gauges as `+1` and `-1`, which drift after
//! the first lost datagram.

use crate::proto::metrics::family::{Family, Sample};

/// Notation of labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// `name:1|c|#label:value,label:value`.
    Datadog,
    /// `name,label=value,label=value:1|c`.
    Influxdb,
    /// `name;label=value;label=value:1|c`.
    Graphite,
}

/// One line without line feed. `value` is the value of a gauge or the increase of a counter.
pub fn line(
    dialect: Dialect,
    prefix: &str,
    family: &Family<'_>,
    sample: &Sample<'_>,
    value: u64,
) -> String {
    let kind = if family.kind.is_counter() { 'c' } else { 'g' };
    let mut out = String::new();
    if !prefix.is_empty() {
        out.push_str(prefix);
        out.push('.');
    }
    out.push_str(family.name);
    let (before, between, equals) = match dialect {
        Dialect::Datadog => ("|#", ',', ':'),
        Dialect::Influxdb => (",", ',', '='),
        Dialect::Graphite => (";", ';', '='),
    };
    let mut labels = String::new();
    for (at, (name, value)) in sample.labels.iter().enumerate() {
        match at {
            0 => labels.push_str(before),
            _ => labels.push(between),
        }
        labels.push_str(name);
        labels.push(equals);
        labels.extend(value.chars().map(|c| escape(dialect, c)));
    }
    match dialect {
        Dialect::Datadog => format!("{out}:{value}|{kind}{labels}"),
        _ => format!("{out}{labels}:{value}|{kind}"),
    }
}

/// Replaces characters that would end a label by underscores. Unless labels follow the number,
/// collectors split a line at its first colon, so colons of IPv6 addresses and ports become dashes;
/// mtg-multi keeps them.
fn escape(dialect: Dialect, c: char) -> char {
    match c {
        ':' if dialect != Dialect::Datadog => '-',
        ',' | ';' | '|' | '=' | '#' | '@' => '_',
        c if c.is_control() || c.is_whitespace() => '_',
        c => c,
    }
}

/// Packs lines into datagrams of at most 1432 bytes, separated by line feeds. Returns each
/// datagram with the values of its lines. Drops a longer line, which only a hostile label can
/// cause.
pub fn pack<T>(lines: impl IntoIterator<Item = (String, T)>) -> Vec<(String, Vec<T>)> {
    let mut datagrams: Vec<(String, Vec<T>)> = Vec::new();
    for (line, value) in lines.into_iter().filter(|(line, _)| line.len() <= DATAGRAM) {
        match datagrams.last_mut() {
            Some((text, values)) if text.len() + 1 + line.len() <= DATAGRAM => {
                text.push('\n');
                text.push_str(&line);
                values.push(value);
            }
            _ => datagrams.push((line, vec![value])),
        }
    }
    datagrams
}

/// Largest payload in bytes of a UDP datagram that fits in an Ethernet frame, as statsd clients use
/// it.
const DATAGRAM: usize = 1432;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::metrics::family::MetricKind;

    fn written(dialect: Dialect, labels: &[(&'static str, &str)], kind: MetricKind) -> String {
        let labels = labels.iter().map(|(name, value)| (*name, (*value).into())).collect();
        let sample = Sample { labels, value: 5 };
        let family = Family::of("traffic", kind, "", []);
        line(dialect, "mtg", &family, &sample, 5)
    }

    #[test]
    fn the_three_dialects_are_those_of_mtg_multi() {
        let labels = [("telegram_ip", "10.0.0.10"), ("dc", "4"), ("direction", "to_client")];
        for (dialect, wanted) in [
            (Dialect::Datadog, "mtg.traffic:5|c|#telegram_ip:10.0.0.10,dc:4,direction:to_client"),
            (Dialect::Influxdb, "mtg.traffic,telegram_ip=10.0.0.10,dc=4,direction=to_client:5|c"),
            (Dialect::Graphite, "mtg.traffic;telegram_ip=10.0.0.10;dc=4;direction=to_client:5|c"),
        ] {
            assert_eq!(written(dialect, &labels, MetricKind::OldCounter), wanted);
        }
        assert_eq!(written(Dialect::Datadog, &[], MetricKind::Gauge), "mtg.traffic:5|g");
        assert_eq!(written(Dialect::Influxdb, &[], MetricKind::Gauge), "mtg.traffic:5|g");
        let hostile = [("list", "a,b|c\n#=;d")];
        let hostile = written(Dialect::Graphite, &hostile, MetricKind::Gauge);
        assert_eq!(hostile, "mtg.traffic;list=a_b_c____d:5|g");
    }

    #[test]
    fn the_first_colon_of_a_line_stands_before_its_number() {
        let labels = [("telegram_ip", "2001:db8::7")];
        for (dialect, wanted) in [
            (Dialect::Datadog, "mtg.traffic:5|g|#telegram_ip:2001:db8::7"),
            (Dialect::Influxdb, "mtg.traffic,telegram_ip=2001-db8--7:5|g"),
            (Dialect::Graphite, "mtg.traffic;telegram_ip=2001-db8--7:5|g"),
        ] {
            assert_eq!(written(dialect, &labels, MetricKind::Gauge), wanted);
        }
    }

    #[test]
    fn datagrams_are_filled_and_never_too_long() {
        let lines: Vec<String> = (0..200).map(|at| format!("mtg.number_{at}:1|c")).collect();
        let all = lines.iter().cloned().chain(["x".repeat(DATAGRAM + 1)]);
        let (datagrams, numbers): (Vec<String>, Vec<Vec<usize>>) =
            pack(all.zip(0..)).into_iter().unzip();
        assert!(datagrams.len() == 3 && datagrams.iter().all(|one| one.len() <= DATAGRAM));
        assert!(!datagrams.iter().any(|one| one.ends_with('\n')));
        assert_eq!(datagrams.join("\n"), lines.join("\n"));
        for (datagram, numbers) in datagrams.iter().zip(&numbers) {
            assert_eq!(datagram.lines().count(), numbers.len());
        }
        assert_eq!(numbers.concat(), (0..200).collect::<Vec<_>>());
    }
}

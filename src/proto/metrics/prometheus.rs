//! The Prometheus text format 0.0.4: for each name a `HELP` and a `TYPE` line, then the samples,
//! with labels in alphabetical order.

use crate::proto::metrics::family::{Family, MetricKind, Sample};
use crate::util::order::sorted;

/// The whole page. Unless empty, `prefix` and an underscore precede each name.
pub fn page(prefix: &str, families: &[Family<'_>]) -> String {
    let mut out = String::with_capacity(families.len() * 160);
    for family in families {
        let name = full_name(prefix, family.name);
        write(&mut out, &name, family);
        if family.kind == MetricKind::OldCounter {
            write(&mut out, &format!("{name}_total"), family);
        }
    }
    out
}

/// The name of a metric on the page.
pub fn full_name(prefix: &str, name: &str) -> String {
    match prefix {
        "" => name.to_owned(),
        _ => format!("{prefix}_{name}"),
    }
}

/// Appends a family under its full name.
pub fn write(out: &mut String, name: &str, family: &Family<'_>) {
    let kind = if family.kind.is_counter() { "counter" } else { "gauge" };
    out.push_str(&format!("# HELP {name} {}\n# TYPE {name} {kind}\n", family.help));
    family.samples.iter().for_each(|sample| write_sample(out, name, sample));
}

/// Appends a sample of the family that was written last.
pub fn write_sample(out: &mut String, name: &str, sample: &Sample<'_>) {
    out.push_str(name);
    let labels: Vec<_> = sample.labels.iter().collect();
    let labels = sorted(&labels, &|a, b| a.0.cmp(b.0));
    for (at, (label, value)) in labels.into_iter().enumerate() {
        out.push(if at == 0 { '{' } else { ',' });
        out.push_str(label);
        out.push_str("=\"");
        escape(out, value);
        out.push('"');
    }
    if !sample.labels.is_empty() {
        out.push('}');
    }
    out.push_str(&format!(" {}\n", sample.value));
}

fn escape(out: &mut String, value: &str) {
    for c in value.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            c => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_labels_and_values_have_the_form_of_the_format() {
        let samples = [
            Sample::with("telegram_ip", "::1", 7).and("dc", "2"),
            Sample::with("telegram_ip", "a\"b\\c\nd", 8).and("dc", "3"),
        ];
        let families = [
            Family::of("open", MetricKind::Gauge, "What is open.", samples),
            Family::one("seen", MetricKind::OldCounter, 3, "What was seen."),
        ];
        let wanted = r#"# HELP mtg_open What is open.
# TYPE mtg_open gauge
mtg_open{dc="2",telegram_ip="::1"} 7
mtg_open{dc="3",telegram_ip="a\"b\\c\nd"} 8
# HELP mtg_seen What was seen.
# TYPE mtg_seen counter
mtg_seen 3
# HELP mtg_seen_total What was seen.
# TYPE mtg_seen_total counter
mtg_seen_total 3
"#;
        assert_eq!(page("mtg", &families), wanted);
        assert!(page("", &families).starts_with("# HELP open "));
    }
}

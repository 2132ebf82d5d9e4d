//! Numbers with names and labels, and how they are written for those who collect them: the text of
//! Prometheus in `prometheus.rs`, the datagrams of statsd in `statsd.rs` (COMPATIBILITY 6.5, 6.6).

pub mod prometheus;
pub mod statsd;

use std::borrow::Cow;

/// All numbers of one name.
pub struct Family<'a> {
    /// Without a prefix: letters, digits and underscores.
    pub name: &'static str,
    /// How it moves.
    pub kind: MetricKind,
    /// One sentence.
    pub help: &'static str,
    /// The numbers; no two with the same labels.
    pub samples: Vec<Sample<'a>>,
}

/// How a number moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricKind {
    /// Up and down.
    Gauge,
    /// Only up, from 0 at start. Its name ends in `_total`.
    Counter,
    /// A counter whose name the reference gave it, without `_total`; served under both names.
    OldCounter,
}

impl MetricKind {
    /// Whether it only goes up.
    pub fn is_counter(self) -> bool {
        self != Self::Gauge
    }
}

/// One number.
pub struct Sample<'a> {
    /// Names and values, in the order in which statsd has them.
    pub labels: Vec<(&'static str, Cow<'a, str>)>,
    /// The number itself.
    pub value: u64,
}

impl<'a> Family<'a> {
    /// A number without labels.
    pub fn one(name: &'static str, kind: MetricKind, value: u64, help: &'static str) -> Self {
        Self { name, kind, help, samples: vec![Sample { labels: Vec::new(), value }] }
    }

    /// Numbers with labels.
    pub fn of(
        name: &'static str,
        kind: MetricKind,
        help: &'static str,
        samples: impl IntoIterator<Item = Sample<'a>>,
    ) -> Self {
        Self { name, kind, help, samples: samples.into_iter().collect() }
    }
}

impl<'a> Sample<'a> {
    /// A number with one label.
    pub fn with(name: &'static str, value: impl Into<Cow<'a, str>>, number: u64) -> Self {
        Self { labels: vec![(name, value.into())], value: number }
    }

    /// The same with another label behind.
    pub fn and(mut self, name: &'static str, value: impl Into<Cow<'a, str>>) -> Self {
        self.labels.push((name, value.into()));
        self
    }
}

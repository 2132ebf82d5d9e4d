//! Metric families: numbers with a name, labels and a help text.

use std::borrow::Cow;

/// All samples of one metric name.
pub struct Family<'a> {
    /// The name without prefix: letters, digits and underscores.
    pub name: &'static str,
    /// Gauge or counter.
    pub kind: MetricKind,
    /// One sentence.
    pub help: &'static str,
    /// The samples; no two with the same labels.
    pub samples: Vec<Sample<'a>>,
}

/// Type of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricKind {
    /// A number that goes up and down.
    Gauge,
    /// A number that only goes up, from 0 at the start. Its name ends in `_total`.
    Counter,
    /// A counter with mtg-multi's name, which lacks `_total`. Prometheus gets it under both names.
    OldCounter,
}

impl MetricKind {
    /// Whether it is a counter of either kind.
    pub fn is_counter(self) -> bool {
        self != Self::Gauge
    }
}

/// One number.
pub struct Sample<'a> {
    /// Label names and values, in the order of statsd.
    pub labels: Vec<(&'static str, Cow<'a, str>)>,
    /// The number.
    pub value: u64,
}

impl<'a> Family<'a> {
    /// A family with one sample without labels.
    pub fn one(name: &'static str, kind: MetricKind, value: u64, help: &'static str) -> Self {
        Self { name, kind, help, samples: vec![Sample { labels: Vec::new(), value }] }
    }

    /// A family with labelled samples.
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
    /// A sample with one label.
    pub fn with(label: &'static str, text: impl Into<Cow<'a, str>>, value: u64) -> Self {
        Self { labels: vec![(label, text.into())], value }
    }

    /// Appends a label.
    pub fn and(mut self, label: &'static str, text: impl Into<Cow<'a, str>>) -> Self {
        self.labels.push((label, text.into()));
        self
    }
}

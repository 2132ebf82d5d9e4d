//! Metrics and their formats: the text format of Prometheus and the datagrams of statsd
//! (COMPATIBILITY 6.5, 6.6).

mod family;
pub mod prometheus;
pub mod statsd;

pub use family::{Family, MetricKind, Sample};

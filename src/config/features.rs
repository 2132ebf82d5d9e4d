//! The features of this build: the full flavour has all of them, the mini flavour none.

/// Whether this build has a TLS client, for `https` URLs and encrypted DNS.
pub const HAS_TLS: bool = cfg!(feature = "tls");

/// Whether this build exports metrics to Prometheus and statsd. `/stats` is always available.
pub const HAS_METRICS: bool = cfg!(feature = "metrics");

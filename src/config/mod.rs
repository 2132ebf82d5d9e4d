//! The file that the operator writes, from text to [`settings::Settings`].
//!
//! [`keys::KEYS`] names every key; [`load`] reads a file by it; [`render`] prints it for people.

pub mod addresses;
pub mod edit;
pub mod key;
pub mod keys;
pub mod load;
pub mod partial;
pub mod render;
pub mod report;
pub mod settings;
pub mod suggest;
mod tables;
pub mod uci;
pub mod units;
pub mod urls;
pub mod value;

/// Whether this build can speak TLS as a client; the mini flavour cannot.
pub const HAS_TLS: bool = cfg!(feature = "tls");

/// Whether this build can tell Prometheus and statsd; the mini flavour has `/stats` alone.
pub const HAS_METRICS: bool = cfg!(feature = "metrics");

//! The judge of the built program: a client, a Telegram DC and a TLS origin of our own, the binary
//! between them, and scenarios that read like traces.
//!
//! Nothing here uses the library, so a mistake in the product cannot hide behind the same mistake
//! in its test. Every socket is on loopback. Waiting means polling a condition with a deadline.
#![forbid(unsafe_code)]

mod support;

mod e2e {
    mod binds;
    mod crowd;
    mod dialling;
    mod doctor;
    mod doctor_as_censor;
    mod doctor_sites;
    mod encrypted_names;
    mod explain;
    mod fetching;
    mod fronting;
    mod half_close;
    mod handshake;
    mod hostile;
    mod idle;
    mod judge;
    mod likeness;
    mod limits;
    mod list_copies;
    mod list_sources;
    mod lists;
    mod logs;
    mod memory;
    mod metrics;
    mod mirror;
    mod names;
    mod people;
    mod privacy;
    mod prober;
    mod proxy_protocol;
    #[cfg(feature = "tls")]
    mod raids;
    mod records;
    mod relay;
    mod reload;
    mod reload_crowd;
    mod rights;
    mod shape;
    mod signals;
    mod sockets;
    mod stats;
    mod statsd;
    mod throttle;
    mod timeouts;
    mod totals;
    mod upstream;
    mod users;
}

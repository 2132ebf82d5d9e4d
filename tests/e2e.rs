//! End-to-end tests: the built program between clients, Telegram DCs, fronts and other servers of
//! these tests.
//!
//! Nothing here uses the library, so that a mistake of the product is not repeated in its test.
//! Every socket is on loopback. To wait is to poll a condition with a time limit.
#![forbid(unsafe_code)]

mod support;

mod e2e {
    mod answer_profile;
    mod binds;
    mod dead_ends;
    mod dial_rate;
    mod dialling;
    mod doctor;
    mod doctor_as_censor;
    mod doctor_fronts;
    mod doctor_names;
    mod encrypted_dns;
    mod evict;
    mod explain;
    mod fetching;
    mod front_loops;
    mod fronted_close;
    mod fronting;
    mod guidance;
    mod half_close;
    mod handshake;
    mod haproxy;
    mod host_names;
    mod hostile;
    mod idle;
    mod limits;
    mod list_copies;
    mod list_sources;
    mod lists;
    mod logs;
    mod many_sessions;
    mod memory;
    mod metrics;
    #[cfg(feature = "tls")]
    mod page_load;
    mod page_timing;
    mod privacy;
    mod privileges;
    mod prober;
    mod proxy_protocol;
    mod rate;
    mod records;
    mod relay;
    mod reload;
    mod reload_under_load;
    mod restart;
    mod self_check;
    mod shape;
    mod siege;
    mod signals;
    mod sockets;
    mod stats;
    mod statsd;
    mod throttle;
    mod time_wait;
    mod timeouts;
    mod totals;
    mod upstream;
    mod user_command;
    mod users;
}

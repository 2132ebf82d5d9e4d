//! Limits on connections and work: fair share, rate limits, replay store, IP lists, circuit
//! breaker, write budget. Deterministic: time and randomness are parameters.

pub mod circuit_breaker;
pub mod hello_rate_limit;
pub mod ip_list;
pub mod read_coalescing;
pub mod replay;
pub mod throttle;
pub mod write_budget;

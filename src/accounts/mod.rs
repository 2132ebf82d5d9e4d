//! The users, their counters and totals, and why they were refused. Deterministic.

pub mod recorder;
pub mod totals;
pub mod users;

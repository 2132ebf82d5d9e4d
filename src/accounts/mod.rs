//! The users, their counters and totals, and the causes of refusals and broken sessions.
//! Deterministic: time is a parameter.

pub mod recorder;
pub mod totals;
pub mod users;

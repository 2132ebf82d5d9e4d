//! Who may, and how much. Deterministic; time and randomness are parameters.

pub mod breaker;
pub mod budget;
pub mod by_name;
pub mod calibrate;
pub mod drbg;
pub mod iplist;
pub mod ledger;
pub mod misses;
pub mod moderation;
pub mod profile;
pub mod recorder;
pub mod replay;
pub mod shaper;
pub mod slowsort;
pub mod throttle;
pub mod users;
pub mod visit;

//! What answers and downloads imitate: the ServerHello and the certificate flight of the front,
//! and the record timing of a web site. Deterministic: time and randomness are parameters.

pub mod calibrate;
pub mod page_timing;
pub mod profile;
pub mod shaper;

//! What the answer and the pace of a download imitate. Deterministic.

pub mod calibrate;
pub mod page_timing;
pub mod profile;
pub mod shaper;

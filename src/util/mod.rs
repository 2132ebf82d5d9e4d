//! General-purpose building blocks.

pub mod cidr;
pub mod client_prefix;
pub mod drbg;
pub mod host_port;
pub mod incremental_sort;
pub mod json;
pub mod log_settings;
pub mod memory;
pub mod order;
pub mod sorted_map;
pub mod spelling;

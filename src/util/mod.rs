//! Building blocks that know nothing of proxies.

pub mod drbg;
pub mod incremental_sort;
pub mod sorted_map;

//! The configuration file: from TOML text to [`settings::Settings`].
//!
//! [`keys::KEYS`] is the table of all keys, each with its default and its setter. [`load`] reads a
//! file by it, `finish` checks combinations of keys, and [`render`] prints it as documentation.

pub mod addresses;
pub mod draft;
pub mod edit;
pub mod features;
mod field;
mod finish;
mod guard;
pub mod key;
pub mod keys;
pub mod load;
pub mod render;
pub mod report;
pub mod settings;
mod suggest;
mod tables;
mod toml_fault;
mod toml_item;
pub mod uci;
pub mod units;
pub mod urls;
pub mod value;

pub use features::{HAS_METRICS, HAS_TLS};

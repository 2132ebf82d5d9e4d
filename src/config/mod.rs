//! The file that the operator writes, from text to [`settings::Settings`].

pub mod settings;

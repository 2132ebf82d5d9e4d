//! Converts OpenWrt's config file, `/etc/config/mtbox`, to TOML. [`grammar`] parses the file,
//! [`mapping`] writes TOML by the table of keys, and the loader checks the result. Diagnostics of
//! the loader are translated to sections and options of the OpenWrt file, which the operator edits.

pub mod grammar;
pub mod mapping;

use crate::config::load;
use crate::config::report::{Diagnostic, Severity};
use mapping::TomlWriter;

/// The result of a conversion.
#[derive(Debug)]
pub struct GeneratedConfig {
    /// The TOML; `None` if there are errors.
    pub toml: Option<String>,
    /// The errors, one line each, without secrets.
    pub errors: Vec<String>,
    /// The warnings, one line each, without secrets.
    pub warnings: Vec<String>,
}

/// Converts the content of a file. `file` is its path and `package` the UCI package name, for
/// messages.
pub fn convert(bytes: &[u8], file: &str, package: &str) -> GeneratedConfig {
    let at_line = |line: usize, fault: &str| GeneratedConfig {
        toml: None,
        errors: vec![format!("{file}:{line}: {fault}")],
        warnings: Vec::new(),
    };
    let text = match str::from_utf8(bytes) {
        Ok(text) => text,
        Err(fault) => {
            let before = bytes.get(..fault.valid_up_to()).unwrap_or_default();
            let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
            return at_line(line, "not UTF-8; write this line again");
        }
    };
    match grammar::parse(text) {
        Ok(sections) => check(mapping::write(&sections, file, package), file),
        Err(error) => at_line(error.line, error.fault),
    }
}

/// Loads the TOML, and translates the diagnostics.
fn check(written: TomlWriter, file: &str) -> GeneratedConfig {
    let with_file = |text: &String| format!("{file}: {text}");
    let mut errors: Vec<String> = written.errors.iter().map(with_file).collect();
    let mut warnings: Vec<String> = written.warnings.iter().map(with_file).collect();
    let loaded = load::load(written.toml.as_bytes(), file);
    let diagnostics = match &loaded {
        Ok(loaded) => &loaded.warnings,
        Err(diagnostics) => diagnostics,
    };
    for Diagnostic { line, severity, text, .. } in diagnostics {
        let list = if *severity == Severity::Error { &mut errors } else { &mut warnings };
        match written.translate(*line, text) {
            Some(message) => list.push(with_file(&message)),
            // Without a line of its own, it can be the consequence of an error above.
            None if written.errors.is_empty() => list.push(with_file(&written.translate_key(text))),
            None => {}
        }
    }
    let toml = (loaded.is_ok() && errors.is_empty()).then_some(written.toml);
    GeneratedConfig { toml, errors, warnings }
}

#[cfg(test)]
mod tests;

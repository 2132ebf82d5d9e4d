//! The config of OpenWrt, `/etc/config/mtbox`, as TOML. [`grammar`] reads the file, [`mapping`]
//! writes TOML of it by the table of keys, and the loader judges the result; what it complains of
//! is told in the words of the file that people edit.

pub mod grammar;
pub mod mapping;

use crate::config::load;
use crate::config::report::{Diagnostic, Severity};
use mapping::TomlWriter;

/// What was made of a file.
#[derive(Debug)]
pub struct GeneratedConfig {
    /// The TOML, if it can be used.
    pub toml: Option<String>,
    /// Why it cannot; one line each, never with a secret.
    pub errors: Vec<String>,
    /// What will surprise; one line each.
    pub warnings: Vec<String>,
}

/// Turns the bytes of a file into TOML. `file` is its path and `package` the last part of that,
/// for the complaints.
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
            return at_line(line, "not UTF-8; type this line anew");
        }
    };
    match grammar::parse(text) {
        Ok(sections) => judged(mapping::write(&sections, file, package), file),
        Err((line, fault)) => at_line(line, fault),
    }
}

/// Loads what was written.
fn judged(page: TomlWriter, file: &str) -> GeneratedConfig {
    let named = |text: &String| format!("{file}: {text}");
    let mut errors: Vec<String> = page.errors.iter().map(named).collect();
    let mut warnings: Vec<String> = page.warnings.iter().map(named).collect();
    let loaded = load::load(page.toml.as_bytes(), file);
    let complaints = match &loaded {
        Ok(loaded) => &loaded.warnings,
        Err(complaints) => complaints,
    };
    for Diagnostic { line, severity, text, .. } in complaints {
        let list = if *severity == Severity::Error { &mut errors } else { &mut warnings };
        match page.place_of(*line, text) {
            Some(told) => list.push(named(&told)),
            // What belongs to no line may well follow from a mistake that was told already.
            None if page.errors.is_empty() => list.push(named(&page.by_key(text))),
            None => {}
        }
    }
    let toml = (loaded.is_ok() && errors.is_empty()).then_some(page.toml);
    GeneratedConfig { toml, errors, warnings }
}

#[cfg(test)]
mod tests;

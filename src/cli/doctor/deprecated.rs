//! What the loader has to say about the file: old names, keys without effect, odd values.

use crate::cli::doctor::context::CheckContext;
use crate::cli::doctor::findings::Section;

/// One line per warning, with its place.
pub fn check(patient: &mut CheckContext) -> Vec<Section> {
    let mut section = Section::new("deprecated", "Deprecated options");
    for warning in &patient.warnings {
        // What is wrong stands before the first semicolon, what to do behind it.
        let (text, remedy) = warning.text.split_once("; ").unwrap_or((&warning.text, ""));
        let place = format!("{}:{}:{}", warning.file, warning.line, warning.column);
        let finding = section.warn(format!("{place}: {text}"));
        finding.remedy(if remedy.is_empty() { "look at this line" } else { remedy });
    }
    if section.is_empty() {
        section.ok("no old names, nothing without effect");
    }
    vec![section]
}

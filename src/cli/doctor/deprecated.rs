//! The loader's warnings about the config file: old names, keys without effect, unusual values.

use crate::cli::doctor::context::CheckContext;
use crate::cli::doctor::findings::Section;

pub(super) fn check(context: &mut CheckContext) -> Vec<Section> {
    let mut section = Section::new("deprecated", "Deprecated options");
    for warning in &context.warnings {
        // Diagnostics have the form "problem; remedy".
        let (text, remedy) = warning.text.split_once("; ").unwrap_or((&warning.text, ""));
        let position = format!("{}:{}:{}", warning.file, warning.line, warning.column);
        let finding = section.warn(format!("{position}: {text}"));
        finding.remedy(if remedy.is_empty() { "correct this line" } else { remedy });
    }
    if section.is_empty() {
        section.ok("no old names and no keys without effect");
    }
    vec![section]
}

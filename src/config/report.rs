//! Diagnostics: errors and warnings about a config file, with their position.

use std::fmt;

/// Whether a diagnostic makes the file unusable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The file cannot be used.
    Error,
    /// The file can be used, but a part of it has no effect or another one than it seems.
    Warning,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
        })
    }
}

/// One diagnostic. Its display is `FILE:LINE:COL: error|warning: what is wrong; what to do`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// The name of the file, as the operator wrote it.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// Error or warning.
    pub severity: Severity,
    /// What is wrong and what to do, in one line. Contains no secrets or passwords.
    pub text: String,
}

impl Diagnostic {
    /// `FILE:LINE:COL: what is wrong; what to do`, for output that shows the severity elsewhere.
    pub fn without_severity(&self) -> String {
        format!("{}:{}:{}: {}", self.file, self.line, self.column, self.text)
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, column, severity, text } = self;
        write!(f, "{file}:{line}:{column}: {severity}: {text}")
    }
}

/// Collects the diagnostics of a file. Keeps at most 100 errors and 100 warnings: no reader needs
/// more, and a hostile file must not fill the memory.
#[derive(Debug, Default)]
pub struct Diagnostics {
    list: Vec<PendingDiagnostic>,
    /// Number of errors, including those that were not kept.
    errors: usize,
    /// Number of warnings, including those that were not kept.
    warnings: usize,
    /// The offset of the value of each key in the file.
    keys: Vec<(&'static str, usize)>,
}

/// A diagnostic with a byte offset instead of line and column.
#[derive(Debug)]
pub struct PendingDiagnostic {
    /// Offset in the text, in bytes.
    pub at: usize,
    /// Error or warning.
    pub severity: Severity,
    /// As [`Diagnostic::text`].
    pub text: String,
}

impl Diagnostics {
    /// Reports an error at a byte offset.
    pub fn error(&mut self, at: usize, text: impl Into<String>) {
        self.errors += 1;
        if self.errors <= KEPT_MAX {
            self.list.push(PendingDiagnostic { at, severity: Severity::Error, text: text.into() });
        }
    }

    /// Reports a warning at a byte offset.
    pub fn warn(&mut self, at: usize, text: impl Into<String>) {
        self.warnings += 1;
        if self.warnings <= KEPT_MAX {
            self.list.push(PendingDiagnostic {
                at,
                severity: Severity::Warning,
                text: text.into(),
            });
        }
    }

    /// Records the byte offset of the value of a key. Returns the offset recorded before, if the
    /// file has the key twice.
    pub(super) fn record_key(&mut self, path: &'static str, at: usize) -> Option<usize> {
        match self.keys.iter_mut().find(|(known, _)| *known == path) {
            Some((_, known_at)) => Some(std::mem::replace(known_at, at)),
            None => {
                self.keys.push((path, at));
                None
            }
        }
    }

    /// Reports an error at the value of a key.
    pub(super) fn error_at_key(&mut self, path: &'static str, text: &str) {
        self.error(self.offset_of(path), format!("{path}: {text}"));
    }

    /// Reports a warning at the value of a key.
    pub(super) fn warn_at_key(&mut self, path: &'static str, text: &str) {
        self.warn(self.offset_of(path), format!("{path}: {text}"));
    }

    fn offset_of(&self, path: &str) -> usize {
        self.keys.iter().find(|(known, _)| *known == path).map_or(0, |(_, at)| *at)
    }

    /// Whether an error about the value of this key, or of an entry of it, was reported.
    pub(super) fn has_error_about(&self, path: &str) -> bool {
        let mut errors = self.list.iter().filter(|one| one.severity == Severity::Error);
        errors
            .any(|one| one.text.strip_prefix(path).is_some_and(|rest| rest.starts_with([':', ','])))
    }

    /// Whether an error was reported, kept or not.
    pub(super) fn has_errors(&self) -> bool {
        self.errors > 0
    }

    /// Whether further warnings are not kept.
    pub(super) fn is_at_warning_limit(&self) -> bool {
        self.warnings >= KEPT_MAX
    }

    /// The diagnostics in the order in which they were reported.
    pub fn into_pending(self) -> Vec<PendingDiagnostic> {
        self.list
    }

    /// The diagnostics in the order of the file, whose name and text are given.
    pub(super) fn into_diagnostics(self, file: &str, text: &str) -> Vec<Diagnostic> {
        // An insertion sort of at most 200 entries: the sort of the standard library would add
        // 8 KB of code.
        let mut sorted: Vec<PendingDiagnostic> = Vec::with_capacity(self.list.len());
        for one in self.list {
            let key = (one.at, one.severity);
            sorted.insert(sorted.partition_point(|other| (other.at, other.severity) <= key), one);
        }
        let diagnostic = |one: PendingDiagnostic| {
            let (line, column) = line_and_column(text, one.at);
            let file = file.to_string();
            Diagnostic { file, line, column, severity: one.severity, text: one.text }
        };
        sorted.into_iter().map(diagnostic).collect()
    }
}

/// A name from the file for use in a message: in quotes, with control characters escaped. A name of
/// 22 characters or more is replaced by its length, since it may be a misplaced secret.
pub(super) fn printable_name(name: &str) -> String {
    match name.chars().count() {
        count if count < SECRET_MIN => format!("{name:?}"),
        count => format!("(a name of {count} characters)"),
    }
}

/// Line and column of a byte offset, both from 1; the column in characters.
fn line_and_column(text: &str, at: usize) -> (usize, usize) {
    let at = (0..=at.min(text.len())).rfind(|at| text.is_char_boundary(*at)).unwrap_or(0);
    let before = text.get(..at).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or(before).chars().count() + 1;
    (line, column)
}

/// The key of a secret alone has 22 characters in base64.
const SECRET_MIN: usize = 22;

/// Diagnostics of one severity that are kept.
const KEPT_MAX: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_columns_count_from_one() {
        for (at, want) in [(0, (1, 1)), (3, (1, 4)), (4, (2, 1)), (8, (2, 3)), (99, (2, 4))] {
            assert_eq!(line_and_column("abc\nöäü", at), want, "{at}");
        }
    }

    #[test]
    fn errors_are_kept_although_the_list_is_full_of_warnings() {
        let mut report = Diagnostics::default();
        (0..1000).for_each(|_| report.warn(0, "odd"));
        report.error(7, "bad");
        assert!(report.has_errors() && report.is_at_warning_limit());
        let diagnostics = report.into_diagnostics("a.toml", "0123456789");
        assert_eq!(diagnostics.len(), KEPT_MAX + 1);
        assert_eq!(diagnostics[KEPT_MAX].to_string(), "a.toml:1:8: error: bad");
        assert_eq!(diagnostics[KEPT_MAX].without_severity(), "a.toml:1:8: bad");
    }
}

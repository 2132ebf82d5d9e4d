//! What the loader has to say about a file, and where in the file.

use std::fmt;

/// Does it stop the program?
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The file cannot be used.
    Error,
    /// The file can be used, though something in it will surprise.
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

/// One complaint; prints `FILE:LINE:COL: error|warning: what is wrong; what to do`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// The file as the operator named it.
    pub file: String,
    /// Counted from 1.
    pub line: usize,
    /// In characters, counted from 1.
    pub column: usize,
    /// Error or warning.
    pub severity: Severity,
    /// What is wrong and what to do; one line, and never a secret or a password.
    pub text: String,
}

impl Diagnostic {
    /// `FILE:LINE:COL: what is wrong; what to do`, for readers who know the severity.
    pub fn plain(&self) -> String {
        format!("{}:{}:{}: {}", self.file, self.line, self.column, self.text)
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, column, severity, text } = self;
        write!(f, "{file}:{line}:{column}: {severity}: {text}")
    }
}

/// Collects complaints while a file is read; keeps at most 100 of each severity.
#[derive(Debug, Default)]
pub struct Diagnostics {
    notes: Vec<PendingDiagnostic>,
    errors: usize,
    warnings: usize,
    /// Where the values of keys stand; there are no more of them than there are keys.
    found: Vec<(&'static str, usize)>,
}

/// A complaint whose place is still a byte offset.
#[derive(Debug)]
pub struct PendingDiagnostic {
    /// Offset in bytes into the text that is read.
    pub at: usize,
    /// Error or warning.
    pub severity: Severity,
    /// As in [`Diagnostic`].
    pub text: String,
}

impl Diagnostics {
    /// Notes an error at a byte offset.
    pub fn error(&mut self, at: usize, text: impl Into<String>) {
        self.errors += 1;
        if self.errors <= MOST {
            self.notes.push(PendingDiagnostic { at, severity: Severity::Error, text: text.into() });
        }
    }

    /// Notes a warning at a byte offset.
    pub fn warn(&mut self, at: usize, text: impl Into<String>) {
        self.warnings += 1;
        if self.warnings <= MOST {
            self.notes.push(PendingDiagnostic {
                at,
                severity: Severity::Warning,
                text: text.into(),
            });
        }
    }

    /// Remembers where the value of a key stands. `false` = the key stood elsewhere before.
    pub fn record_key(&mut self, path: &'static str, at: usize) -> bool {
        match self.found.iter_mut().find(|(known, _)| *known == path) {
            Some((_, place)) => {
                *place = at;
                false
            }
            None => {
                self.found.push((path, at));
                true
            }
        }
    }

    /// Notes an error about a key, where its value stands.
    pub fn error_at_key(&mut self, path: &'static str, text: &str) {
        self.error(self.place_of(path), format!("{path}: {text}"));
    }

    /// Notes a warning about a key, where its value stands.
    pub fn warn_at_key(&mut self, path: &'static str, text: &str) {
        self.warn(self.place_of(path), format!("{path}: {text}"));
    }

    fn place_of(&self, path: &str) -> usize {
        self.found.iter().find(|(known, _)| *known == path).map_or(0, |(_, at)| *at)
    }

    /// Was any error noted, kept or not?
    pub fn has_errors(&self) -> bool {
        self.errors > 0
    }

    /// Would another warning only be counted?
    pub fn is_at_warning_limit(&self) -> bool {
        self.warnings >= MOST
    }

    /// The notes in the order in which they were made.
    pub fn into_pending(self) -> Vec<PendingDiagnostic> {
        self.notes
    }

    /// The complaints in the order of the file.
    pub fn into_diagnostics(self, file: &str, text: &str) -> Vec<Diagnostic> {
        // At most 200 notes: the library's sort would be 8 KB of code for them.
        let mut sorted: Vec<PendingDiagnostic> = Vec::with_capacity(self.notes.len());
        for note in self.notes {
            let place = (note.at, note.severity);
            sorted.insert(sorted.partition_point(|n| (n.at, n.severity) <= place), note);
        }
        let complaint = |note: PendingDiagnostic| {
            let (line, column) = place(text, note.at);
            let file = file.to_string();
            Diagnostic { file, line, column, severity: note.severity, text: note.text }
        };
        sorted.into_iter().map(complaint).collect()
    }
}

/// A name from the file as a message may show it: quoted, without control characters. A long one
/// is only counted, since it may be a secret that stands where a name belongs.
pub fn printable_name(name: &str) -> String {
    match name.chars().count() {
        count if count < SECRET_LEN => format!("{name:?}"),
        count => format!("(a name of {count} characters)"),
    }
}

/// Line and column of a byte offset, both from 1; the column in characters.
fn place(text: &str, at: usize) -> (usize, usize) {
    let at = (0..=at.min(text.len())).rfind(|at| text.is_char_boundary(*at)).unwrap_or(0);
    let before = text.get(..at).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or(before).chars().count() + 1;
    (line, column)
}

/// A key alone has 22 characters in base64.
const SECRET_LEN: usize = 22;

/// A person reads no more of one severity, and a hostile file must not fill the memory.
const MOST: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_counts_lines_and_characters_from_one() {
        for (at, want) in [(0, (1, 1)), (3, (1, 4)), (4, (2, 1)), (8, (2, 3)), (99, (2, 4))] {
            assert_eq!(place("abc\nöäü", at), want, "{at}");
        }
    }

    #[test]
    fn errors_count_although_the_list_is_full_of_warnings() {
        let mut report = Diagnostics::default();
        (0..1000).for_each(|_| report.warn(0, "odd"));
        report.error(7, "bad");
        assert!(report.has_errors() && report.is_at_warning_limit());
        let complaints = report.into_diagnostics("a.toml", "0123456789");
        assert_eq!(complaints.len(), MOST + 1);
        assert_eq!(complaints[MOST].to_string(), "a.toml:1:8: error: bad");
        assert_eq!(complaints[MOST].plain(), "a.toml:1:8: bad");
    }
}

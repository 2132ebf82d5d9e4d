//! What a check has found: sections of lines, each with a verdict and, where something can be
//! done, a remedy. Printed for people with the signs of the reference (spec: cli 4), or as JSON.

use crate::cli::json::Json;

/// How a line has turned out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckStatus {
    /// Well.
    Ok,
    /// It works, but not as it should.
    Warning,
    /// It does not work.
    Failed,
    /// The check itself could not be made; counts as failed.
    Unknown,
    /// The check was not wanted, or there is nothing to check.
    Skipped,
}

impl CheckStatus {
    fn sign(self) -> &'static str {
        match self {
            Self::Ok => "✅",
            Self::Warning => "⚠️",
            Self::Failed => "❌",
            Self::Unknown => "‼️",
            Self::Skipped => "⏭",
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Failed => "failed",
            Self::Unknown => "could-not-run",
            Self::Skipped => "skipped",
        }
    }
}

/// One line.
#[derive(Debug)]
pub struct Finding {
    verdict: CheckStatus,
    text: String,
    remedy: Option<String>,
    facts: Vec<(String, Json)>,
}

impl Finding {
    /// Says what to do about it, or what would be better still.
    pub fn remedy(&mut self, remedy: impl Into<String>) -> &mut Self {
        self.remedy = Some(remedy.into());
        self
    }

    /// Adds a field for machines.
    pub fn fact(&mut self, name: &str, value: Json) -> &mut Self {
        self.facts.push((name.to_owned(), value));
        self
    }
}

/// The lines of one check under a title.
#[derive(Debug)]
pub struct Section {
    id: &'static str,
    title: String,
    findings: Vec<Finding>,
}

impl Section {
    /// Nothing has been found yet. `id` is for machines and never changes.
    pub fn new(id: &'static str, title: impl Into<String>) -> Self {
        Self { id, title: title.into(), findings: Vec::new() }
    }

    /// Adds a line that is well.
    pub fn ok(&mut self, text: impl Into<String>) -> &mut Finding {
        self.add(CheckStatus::Ok, text.into())
    }

    /// Adds a warning.
    pub fn warn(&mut self, text: impl Into<String>) -> &mut Finding {
        self.add(CheckStatus::Warning, text.into())
    }

    /// Adds a failure.
    pub fn fail(&mut self, text: impl Into<String>) -> &mut Finding {
        self.add(CheckStatus::Failed, text.into())
    }

    /// Adds a check that could not be made, and why.
    pub fn unknown(&mut self, what: &str, why: &str) -> &mut Finding {
        self.add(CheckStatus::Unknown, format!("{what}: {why}"))
    }

    /// Adds a check that was not made.
    pub fn skip(&mut self, text: impl Into<String>) -> &mut Finding {
        self.add(CheckStatus::Skipped, text.into())
    }

    /// Whether nothing has been found.
    pub fn is_empty(&self) -> bool {
        self.findings.is_empty()
    }

    /// The verdicts of all lines.
    pub fn verdicts(&self) -> impl Iterator<Item = CheckStatus> {
        self.findings.iter().map(|finding| finding.verdict)
    }

    /// For people: the title, then two blanks before each line.
    pub fn print(&self) -> String {
        let mut out = format!("{}\n", self.title);
        for (at, finding) in self.findings.iter().enumerate() {
            out.push_str(&format!("  {} {}\n", finding.verdict.sign(), plain(&finding.text)));
            // Lines in a row that want the same share one remedy.
            let next = self.findings.get(at + 1).and_then(|next| next.remedy.as_ref());
            if let Some(remedy) = finding.remedy.as_ref().filter(|own| next != Some(own)) {
                out.push_str(&format!("     → {}\n", plain(remedy)));
            }
        }
        out
    }

    /// For machines.
    pub fn json(self) -> Json {
        let results = self.findings.into_iter().map(|finding| {
            let mut fields = vec![
                ("verdict".to_owned(), Json::text(finding.verdict.word())),
                ("text".to_owned(), Json::Text(finding.text)),
            ];
            fields.extend(finding.remedy.map(|text| ("remedy".to_owned(), Json::Text(text))));
            fields.extend(finding.facts);
            Json::Object(fields)
        });
        Json::object([
            ("check", Json::text(self.id)),
            ("title", Json::Text(self.title)),
            ("results", Json::List(results.collect())),
        ])
    }

    fn add(&mut self, verdict: CheckStatus, text: String) -> &mut Finding {
        let finding = Finding { verdict, text, remedy: None, facts: Vec::new() };
        let at = self.findings.len();
        self.findings.push(finding);
        &mut self.findings[at]
    }
}

/// The verdict of all: 0 = all is well, 1 = something failed, 2 = there are warnings at most.
pub fn exit_code(verdicts: impl Iterator<Item = CheckStatus>) -> u8 {
    verdicts.fold(0, |code, verdict| match (verdict, code) {
        (CheckStatus::Failed | CheckStatus::Unknown, _) | (_, 1) => 1,
        (CheckStatus::Warning, _) => 2,
        _ => code,
    })
}

/// What a server or a file says must not move a terminal's cursor.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_is_a_title_and_lines_with_signs_and_remedies() {
        let mut section = Section::new("x", "Title");
        section.ok("fine").fact("ms", Json::Number(3));
        section.warn("odd\u{1b}[2J\n").remedy("do that");
        section.fail("bad").remedy("mend it");
        section.fail("bad too").remedy("mend it");
        section.unknown("it", "broken");
        section.skip("not now");
        let want = "Title\n  ✅ fine\n  ⚠️ odd\u{fffd}[2J\u{fffd}\n     → do that\n  ❌ bad\n  \
                    ❌ bad too\n     → mend it\n  ‼️ it: broken\n  ⏭ not now\n";
        assert_eq!(section.print(), want);
        let json = section.json().print();
        assert!(json.contains("\"check\": \"x\"") && json.contains("\"ms\": 3"), "{json}");
        assert!(json.contains("\"verdict\": \"could-not-run\""), "{json}");
    }

    #[test]
    fn the_worst_line_decides_the_exit_code() {
        use CheckStatus::{Failed, Ok, Skipped, Unknown, Warning};
        let code = |list: &[CheckStatus]| exit_code(list.iter().copied());
        assert_eq!(code(&[]), 0);
        assert_eq!(code(&[Ok, Skipped]), 0);
        assert_eq!(code(&[Ok, Warning, Ok]), 2);
        assert_eq!(code(&[Warning, Failed, Warning]), 1);
        assert_eq!(code(&[Unknown, Ok, Warning]), 1);
    }
}

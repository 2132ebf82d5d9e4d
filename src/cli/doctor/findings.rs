//! The findings of a check, each with a status and, if there is something to do, a remedy. Printed
//! as text with the signs of mtg-multi (COMPATIBILITY 4.4), or as JSON.

use crate::util::json::{Fields, Json};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CheckStatus {
    Ok,
    /// It works, but not as it should.
    Warning,
    Failed,
    /// The check could not run. Counts as failed.
    Unknown,
    /// An option turned the check off, or there is nothing to check.
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

#[derive(Debug)]
pub(super) struct Finding {
    status: CheckStatus,
    text: String,
    remedy: Option<String>,
    facts: Fields<'static>,
}

impl Finding {
    /// Sets the remedy, or for an `Ok` the possible improvement.
    pub(super) fn remedy(&mut self, remedy: impl Into<String>) -> &mut Self {
        self.remedy = Some(remedy.into());
        self
    }

    /// Adds a field to the JSON.
    pub(super) fn fact(&mut self, name: &'static str, value: Json<'static>) -> &mut Self {
        self.facts.push((name, value));
        self
    }
}

/// The findings of one check, or of one subject of it.
#[derive(Debug)]
pub(super) struct Section {
    id: &'static str,
    title: String,
    findings: Vec<Finding>,
}

impl Section {
    /// `id` is the name of the check in the JSON, a public interface.
    pub(super) fn new(id: &'static str, title: impl Into<String>) -> Self {
        Self { id, title: title.into(), findings: Vec::new() }
    }

    pub(super) fn ok(&mut self, text: impl Into<String>) -> &mut Finding {
        self.add(CheckStatus::Ok, text.into())
    }

    pub(super) fn warn(&mut self, text: impl Into<String>) -> &mut Finding {
        self.add(CheckStatus::Warning, text.into())
    }

    pub(super) fn fail(&mut self, text: impl Into<String>) -> &mut Finding {
        self.add(CheckStatus::Failed, text.into())
    }

    /// `subject` could not be checked because of `cause`.
    pub(super) fn unknown(&mut self, subject: &str, cause: &str) -> &mut Finding {
        self.add(CheckStatus::Unknown, format!("{subject}: {cause}"))
    }

    pub(super) fn skip(&mut self, text: impl Into<String>) -> &mut Finding {
        self.add(CheckStatus::Skipped, text.into())
    }

    /// The texts of the findings that are not in order.
    pub(super) fn problems(&self) -> impl Iterator<Item = &str> {
        let is_problem =
            |finding: &&Finding| !matches!(finding.status, CheckStatus::Ok | CheckStatus::Skipped);
        self.findings.iter().filter(is_problem).map(|finding| finding.text.as_str())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.findings.is_empty()
    }

    pub(super) fn statuses(&self) -> impl Iterator<Item = CheckStatus> {
        self.findings.iter().map(|finding| finding.status)
    }

    /// The title, then the findings, indented by two spaces.
    pub(super) fn print(&self) -> String {
        let mut out = format!("{}\n", self.title);
        for (at, finding) in self.findings.iter().enumerate() {
            out.push_str(&format!("  {} {}\n", finding.status.sign(), printable(&finding.text)));
            // Consecutive findings with the same remedy share it.
            let next = self.findings.get(at + 1).and_then(|next| next.remedy.as_ref());
            if let Some(remedy) = finding.remedy.as_ref().filter(|own| next != Some(own)) {
                out.push_str(&format!("     → {}\n", printable(remedy)));
            }
        }
        out
    }

    pub(super) fn json(self) -> Json<'static> {
        let results = self.findings.into_iter().map(|finding| {
            let mut fields =
                vec![("verdict", finding.status.word().into()), ("text", finding.text.into())];
            fields.extend(finding.remedy.map(|text| ("remedy", text.into())));
            fields.extend(finding.facts);
            Json::Object(fields)
        });
        Json::Object(vec![
            ("check", self.id.into()),
            ("title", self.title.into()),
            ("results", Json::List(results.collect())),
        ])
    }

    fn add(&mut self, status: CheckStatus, text: String) -> &mut Finding {
        let finding = Finding { status, text, remedy: None, facts: Vec::new() };
        let at = self.findings.len();
        self.findings.push(finding);
        &mut self.findings[at]
    }
}

/// 0 = no problem, 1 = at least one failure, 2 = warnings only.
pub(super) fn exit_code(statuses: impl Iterator<Item = CheckStatus>) -> u8 {
    statuses.fold(0, |code, status| match (status, code) {
        (CheckStatus::Failed | CheckStatus::Unknown, _) | (_, 1) => 1,
        (CheckStatus::Warning, _) => 2,
        _ => code,
    })
}

/// Text from a server or a file must not contain escape sequences for the terminal.
pub(super) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_prints_a_title_and_findings_with_signs_and_remedies() {
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
        let json = format!("{:#}", section.json());
        assert!(json.contains("\"check\": \"x\"") && json.contains("\"ms\": 3"), "{json}");
        assert!(json.contains("\"verdict\": \"could-not-run\""), "{json}");
    }

    #[test]
    fn the_worst_finding_decides_the_exit_code() {
        use CheckStatus::{Failed, Ok, Skipped, Unknown, Warning};
        let code = |list: &[CheckStatus]| exit_code(list.iter().copied());
        assert_eq!(code(&[]), 0);
        assert_eq!(code(&[Ok, Skipped]), 0);
        assert_eq!(code(&[Ok, Warning, Ok]), 2);
        assert_eq!(code(&[Warning, Failed, Warning]), 1);
        assert_eq!(code(&[Unknown, Ok, Warning]), 1);
    }
}

//! Formats text with the man macros (groff_man(7)) that both groff and mandoc support.

/// Builds a man page.
pub struct Page(String);

impl Page {
    /// Starts the page with this name in this section of the manual.
    pub fn new(name: &str, section: u8) -> Self {
        let (title, version) = (name.to_uppercase(), env!("CARGO_PKG_VERSION"));
        Self(format!(
            ".\\\" {}\n.TH {} {section} \"\" \"mtbox {version}\" \"mtbox\"\n",
            super::ORIGIN,
            plain(&title),
        ))
    }

    /// Adds a section heading.
    pub fn section(&mut self, title: &str) {
        self.line(&format!(".SH {}", plain(title)));
    }

    /// Adds a subsection heading.
    pub fn subsection(&mut self, title: &str) {
        self.line(&format!(".SS {}", plain(title)));
    }

    /// Adds a paragraph. Text in backticks becomes bold.
    pub fn paragraph(&mut self, text: &str) {
        self.gap();
        self.fill(text);
    }

    /// Adds a term, which may contain font escapes, and its description.
    pub fn item(&mut self, term: &str, text: &str) {
        self.line(".TP");
        self.line(term);
        self.fill(text);
    }

    /// Adds lines that are not filled.
    pub fn example(&mut self, lines: &[&str]) {
        self.gap();
        self.line(".RS 4\n.EX");
        for line in lines {
            self.line(&guard(&plain(line)));
        }
        self.line(".EE\n.RE");
    }

    /// Adds a line without escaping it.
    pub fn line(&mut self, line: &str) {
        self.0.push_str(line);
        self.0.push('\n');
    }

    /// Returns the text of the page.
    pub fn finish(self) -> String {
        self.0
    }

    /// Separates paragraphs. A heading already adds its own space.
    fn gap(&mut self) {
        let last = self.0.lines().last().unwrap_or_default();
        if !last.starts_with(".SH") && !last.starts_with(".SS") {
            self.line(".PP");
        }
    }

    /// Adds text in short lines, so that a diff of two versions stays small.
    fn fill(&mut self, text: &str) {
        let text = marked(text);
        let mut line = String::new();
        for word in text.split_whitespace() {
            if !line.is_empty() && line.len() + 1 + word.len() > COLUMNS {
                self.line(&guard(&line));
                line.clear();
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        self.line(&guard(&line));
    }
}

/// Formats the text in bold.
pub fn bold(text: &str) -> String {
    format!("\\fB{}\\fR", plain(text))
}

/// Formats the text in italics.
pub fn italic(text: &str) -> String {
    format!("\\fI{}\\fR", plain(text))
}

/// Escapes every character that is special in roff. Hyphens stay hyphens, so that copied commands
/// work.
pub fn plain(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\e"),
            '-' => out.push_str("\\-"),
            '\'' => out.push_str("\\(aq"),
            '`' => out.push_str("\\(ga"),
            '"' => out.push_str("\\(dq"),
            '~' => out.push_str("\\(ti"),
            '^' => out.push_str("\\(ha"),
            c if c.is_ascii() => out.push(c),
            c => out.push_str(&format!("\\[u{:04X}]", u32::from(c))),
        }
    }
    out
}

/// Escapes the text like [`plain`] and makes text in backticks bold.
fn marked(text: &str) -> String {
    let parts = text.split('`').enumerate();
    parts.map(|(at, part)| if at % 2 == 1 { bold(part) } else { plain(part) }).collect()
}

/// Protects a dot at the start of a line, which roff reads as a request.
fn guard(line: &str) -> String {
    if line.starts_with('.') { format!("\\&{line}") } else { line.to_string() }
}

const COLUMNS: usize = 78;

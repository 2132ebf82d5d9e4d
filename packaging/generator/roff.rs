//! Text in the man macros (groff_man(7)), so that groff and mandoc both read it without complaint.

/// A man page in the making.
pub struct Page(String);

impl Page {
    /// Begins a page: its name and section.
    pub fn new(name: &str, section: u8) -> Self {
        let (title, version) = (name.to_uppercase(), env!("CARGO_PKG_VERSION"));
        Self(format!(
            ".\\\" {}\n.TH {} {section} \"\" \"mtbox {version}\" \"mtbox\"\n",
            super::ORIGIN,
            plain(&title),
        ))
    }

    /// A headline.
    pub fn section(&mut self, title: &str) {
        self.line(&format!(".SH {}", plain(title)));
    }

    /// A headline below it.
    pub fn subsection(&mut self, title: &str) {
        self.line(&format!(".SS {}", plain(title)));
    }

    /// A paragraph; what stands in backticks is bold.
    pub fn paragraph(&mut self, text: &str) {
        self.gap();
        self.fill(text);
    }

    /// A term, which may hold fonts already, and what it means.
    pub fn item(&mut self, term: &str, text: &str) {
        self.line(".TP");
        self.line(term);
        self.fill(text);
    }

    /// Lines to be shown as they are.
    pub fn example(&mut self, lines: &[&str]) {
        self.gap();
        self.line(".RS 4\n.EX");
        for line in lines {
            self.line(&guard(&plain(line)));
        }
        self.line(".EE\n.RE");
    }

    /// A line as it is.
    pub fn line(&mut self, line: &str) {
        self.0.push_str(line);
        self.0.push('\n');
    }

    /// The whole text.
    pub fn finish(self) -> String {
        self.0
    }

    /// Between paragraphs; a headline brings its own.
    fn gap(&mut self) {
        let last = self.0.lines().last().unwrap_or_default();
        if !last.starts_with(".SH") && !last.starts_with(".SS") {
            self.line(".PP");
        }
    }

    /// Text in short lines, for who compares two versions of the page.
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

/// In bold.
pub fn bold(text: &str) -> String {
    format!("\\fB{}\\fR", plain(text))
}

/// In italics.
pub fn italic(text: &str) -> String {
    format!("\\fI{}\\fR", plain(text))
}

/// Nothing in here means anything to roff, and no hyphen becomes a dash that cannot be copied.
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

/// As [`plain`], and what stands in backticks is bold.
fn marked(text: &str) -> String {
    let parts = text.split('`').enumerate();
    parts.map(|(at, part)| if at % 2 == 1 { bold(part) } else { plain(part) }).collect()
}

/// A dot at the start of a line is a command.
fn guard(line: &str) -> String {
    if line.starts_with('.') { format!("\\&{line}") } else { line.to_string() }
}

const COLUMNS: usize = 78;

//! Tokens of blanked code: names, `::` and single characters. Enough to follow paths and to find
//! declarations.

use std::ops::Range;

/// A name, `::` or one character, and its byte offset.
#[derive(Clone, Copy, Debug)]
pub struct Token<'a> {
    pub at: usize,
    pub text: &'a str,
}

impl Token<'_> {
    /// A name or keyword (or a number: the rules do not need the difference).
    pub fn is_name(&self) -> bool {
        self.text.starts_with(in_name)
    }
}

fn in_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Splits code whose comments and literals are blank.
pub fn tokens(code: &str) -> Vec<Token<'_>> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(first) = code[at..].chars().next() {
        let rest = &code[at..];
        let length = if in_name(first) {
            rest.find(|c| !in_name(c)).unwrap_or(rest.len())
        } else if rest.starts_with("::") {
            2
        } else {
            first.len_utf8()
        };
        if !first.is_whitespace() {
            found.push(Token { at, text: &rest[..length] });
        }
        at += length;
    }
    found
}

/// A module written out in a file, `mod name { … }`, as a range of token indices.
pub struct InlineModule<'a> {
    pub name: &'a str,
    pub body: Range<usize>,
}

/// Every inline module of a file, outer ones first.
pub fn inline_modules<'a>(tokens: &[Token<'a>]) -> Vec<InlineModule<'a>> {
    let mut found = Vec::new();
    for (index, window) in tokens.windows(3).enumerate() {
        if window[0].text == "mod" && window[1].is_name() && window[2].text == "{" {
            let body = index + 3..closing_brace(tokens, index + 2);
            found.push(InlineModule { name: window[1].text, body });
        }
    }
    found
}

/// The index of the brace that closes the one at `open`; the end for an open block.
pub fn closing_brace(tokens: &[Token], open: usize) -> usize {
    let mut depth = 0usize;
    for (index, token) in tokens.iter().enumerate().skip(open) {
        match token.text {
            "{" => depth += 1,
            "}" => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            return index;
        }
    }
    tokens.len()
}

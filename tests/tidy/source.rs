//! One Rust file as the rules see it: the text, the comments, and the code with comments, literals
//! and test modules blanked out, so that a rule about code ignores prose. A small lexer, not a
//! parser.

/// A file, read four ways. Line numbers agree among them, and offsets in ASCII text.
pub struct Source {
    /// The path below the root, with forward slashes.
    pub name: String,
    /// The text as it is on disk.
    pub text: String,
    /// The text with everything but comments replaced by spaces.
    pub comments: String,
    /// The text with comments and the insides of literals replaced by spaces.
    pub code: String,
    /// `code` without what is compiled for tests only.
    pub product: String,
}

impl Source {
    /// Reads `text`; never fails, for broken Rust does not reach this test.
    pub fn new(name: &str, text: &str) -> Self {
        let (code, comments) = split_prose(text);
        let is_test_file = name.ends_with("/tests.rs") || name.contains("/tests/");
        let product = if is_test_file { String::new() } else { blank_tests(&code) };
        Self { name: name.to_owned(), text: text.to_owned(), comments, code, product }
    }

    /// The folder below `src/`, which is the layer; `None` for `lib.rs`, `main.rs` and the rest.
    pub fn layer(&self) -> Option<&str> {
        let (layer, _) = self.name.strip_prefix("src/")?.split_once('/')?;
        Some(layer)
    }
}

/// The line (from 1) on which byte `at` of `text` stands.
pub fn line_of(text: &str, at: usize) -> usize {
    text.bytes().take(at).filter(|&byte| byte == b'\n').count() + 1
}

/// Byte offsets at which `word` stands in `code` and is not part of a longer name.
pub fn words<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let in_name = |c: char| c.is_alphanumeric() || c == '_';
    let closed_start = word.starts_with(in_name);
    let closed_end = word.ends_with(in_name);
    code.match_indices(word).map(|(at, _)| at).filter(move |&at| {
        let before = code[..at].chars().next_back().is_some_and(in_name);
        let after = code[at + word.len()..].chars().next().is_some_and(in_name);
        let continues = (closed_start && before) || (closed_end && after);
        !continues
    })
}

/// The code, with comments and the insides of string and character literals replaced by spaces,
/// and the comments, with everything else replaced by spaces.
fn split_prose(text: &str) -> (String, String) {
    let chars: Vec<char> = text.chars().collect();
    let (mut code, mut comments) = (String::new(), String::new());
    let blank = |c: char| if c == '\n' { '\n' } else { ' ' };
    let mut at = 0;
    while at < chars.len() {
        let rest = &chars[at..];
        let length = match rest {
            ['/', '/', ..] => rest.iter().position(|&c| c == '\n').unwrap_or(rest.len()),
            ['/', '*', ..] => block_comment(rest),
            ['"', ..] => quoted(rest, '"'),
            ['\'', ..] => char_literal(rest),
            ['r', ..] if !in_word(&chars, at) => raw_string(rest),
            _ => 0,
        };
        let is_comment = matches!(rest, ['/', '/' | '*', ..]);
        for &c in &rest[..length.min(rest.len())] {
            code.push(blank(c));
            comments.push(if is_comment { c } else { blank(c) });
        }
        if length == 0 {
            code.push(rest[0]);
            comments.push(blank(rest[0]));
        }
        at += length.max(1);
    }
    (code, comments)
}

/// Whether the character before `at` continues a name, so that `r` there opens no raw string.
/// `br"..."` counts as an opening.
fn in_word(chars: &[char], at: usize) -> bool {
    let Some(before) = at.checked_sub(1).map(|i| chars[i]) else { return false };
    let lone_b = before == 'b' && !in_word(chars, at - 1);
    (before.is_alphanumeric() || before == '_') && !lone_b
}

fn block_comment(rest: &[char]) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < rest.len() {
        match &rest[at..] {
            ['/', '*', ..] => (depth, at) = (depth + 1, at + 2),
            ['*', '/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn quoted(rest: &[char], quote: char) -> usize {
    let mut at = 1;
    while at < rest.len() && rest[at] != quote {
        at += if rest[at] == '\\' { 2 } else { 1 };
    }
    at + 1
}

/// A lifetime has no closing quote after its first character; it is code and stays.
fn char_literal(rest: &[char]) -> usize {
    match rest {
        ['\'', '\\', ..] | ['\'', _, '\'', ..] => quoted(rest, '\''),
        _ => 0,
    }
}

fn raw_string(rest: &[char]) -> usize {
    let hashes = rest[1..].iter().take_while(|&&c| c == '#').count();
    if rest.get(1 + hashes) != Some(&'"') {
        return 0;
    }
    let body = 2 + hashes;
    let closes = |at: &usize| {
        rest[*at] == '"'
            && rest[at + 1..].iter().take(hashes).filter(|&&c| c == '#').count() == hashes
    };
    (body..rest.len()).find(closes).map_or(rest.len(), |at| at + 1 + hashes)
}

/// Blanks each item behind `#[cfg(test)]`, up to its closing brace or semicolon.
fn blank_tests(code: &str) -> String {
    const MARK: &str = "#[cfg(test)]";
    let mut out = String::with_capacity(code.len());
    let mut rest = code;
    while let Some(at) = rest.find(MARK) {
        let (kept, item) = rest.split_at(at);
        out.push_str(kept);
        let length = MARK.len() + item_length(&item[MARK.len()..]);
        out.extend(item[..length].chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
        rest = &item[length..];
    }
    out.push_str(rest);
    out
}

/// Bytes up to the end of the next item: the first `;` outside brackets, or the brace that closes
/// the first one, or a `,` that is not among generic parameters (a field or a variant).
fn item_length(code: &str) -> usize {
    let (mut brackets, mut angles) = (0usize, 0usize);
    let mut before = ' ';
    for (at, c) in code.char_indices() {
        match c {
            '{' | '(' | '[' => brackets += 1,
            '}' | ')' | ']' => brackets = brackets.saturating_sub(1),
            '<' if brackets == 0 => angles += 1,
            '>' if brackets == 0 && !matches!(before, '-' | '=') => {
                angles = angles.saturating_sub(1);
            }
            _ => {}
        }
        before = c;
        if brackets == 0 && (matches!(c, ';' | '}') || (c == ',' && angles == 0)) {
            return at + 1;
        }
    }
    code.len()
}

#[cfg(test)]
mod tests {
    use super::{Source, words};

    #[test]
    fn comments_and_literals_are_no_code() {
        let text = "a /* b /* c */ d */ e // f\n\"g \\\" h\" 'i' '\\'' r#\"j \" k\"# br\"l\" m<'n>";
        let source = Source::new("x.rs", text);
        let left: String = source.code.split_whitespace().collect();
        assert_eq!(left, "aebm<'n>");
        let comments: String = source.comments.split_whitespace().collect();
        assert_eq!(comments, "/*b/*c*/d*///f");
        for view in [&source.code, &source.comments] {
            assert_eq!(view.lines().count(), text.lines().count());
        }
    }

    #[test]
    fn a_name_that_ends_in_r_opens_no_raw_string() {
        let code = Source::new("x.rs", "for x in bar\"hidden\" { seen }").code;
        assert!(code.contains("bar") && code.contains("seen") && !code.contains("hidden"));
    }

    #[test]
    fn test_items_are_no_product_but_what_follows_is() {
        let text = "fn a() {}\n#[cfg(test)]\nmod tests {\n fn b() { {} }\n}\nfn c() {}\n\
                    #[cfg(test)]\nmod more;\nfn d(x: [u8; 2]) {}\n\
                    #[cfg(test)]\nfn e<A, B>() -> C { a < b }\nfn f() {}";
        let source = Source::new("src/proto/x.rs", text);
        let kept = ["fn a", "fn b", "fn c", "more", "fn d", "fn e", "C {", "fn f"]
            .map(|name| source.product.contains(name));
        assert_eq!(kept, [true, false, true, false, true, false, false, true]);
        assert!(Source::new("src/proto/x/tests.rs", "fn a() {}").product.is_empty());
    }

    #[test]
    fn a_word_is_not_found_inside_a_longer_one() {
        assert_eq!(words("unsafe_code unsafe", "unsafe").collect::<Vec<_>>(), [12]);
        assert_eq!(words("x.unwrap() y.unwrap_or()", ".unwrap()").collect::<Vec<_>>(), [1]);
    }
}

//! What to do about a line that is not TOML. Names the usual mistakes, and never repeats the value,
//! which may be a secret.

use crate::config::edit::is_bare;
use crate::config::keys::KEYS;
use crate::config::report::printable_name;
use crate::config::value::ValueKind;
use crate::util::spelling::nearest;

/// What is wrong and what to do, for the syntax error at byte `at` of the file; `None` if the
/// mistake is not a usual one.
pub(super) fn remedy(text: &str, at: usize) -> Option<String> {
    let at = (0..=at.min(text.len())).rfind(|at| text.is_char_boundary(*at))?;
    let (before, after) = text.split_at(at);
    if let Some(found) = after.chars().next().and_then(odd_character) {
        return Some(found.to_owned());
    }
    let start = before.rfind('\n').map_or(0, |end| end + 1);
    let line = text.get(start..)?.lines().next()?.trim();
    if let Some((table, rest)) = line.strip_prefix('[').and_then(|rest| rest.split_once(']'))
        && !rest.trim_start().starts_with(['#', ']'])
        && !rest.trim().is_empty()
        && !table.contains('=')
    {
        let is_known = table.split('.').all(|part| is_bare(part.trim()));
        let table = if is_known { table } else { "TABLE" };
        return Some(format!("write [{table}] on a line of its own, and the rest below it"));
    }
    let Some((name, value)) = line.split_once('=') else {
        let is_yaml = line.split_once(':').is_some_and(|(name, _)| is_bare(name.trim()));
        return is_yaml.then(|| "write NAME = VALUE, with = instead of :".to_owned());
    };
    let (name, value) = (name.trim(), value.trim());
    if !name.starts_with(['"', '\'']) && !name.split('.').all(|part| is_bare(part.trim())) {
        let is_ours = || nearest(name, KEYS.iter().map(|key| key.split().1)).is_some();
        return Some(if name.ends_with(':') {
            "write NAME = VALUE, with = alone".to_owned()
        } else if name.starts_with("export ") {
            "remove the word export".to_owned()
        } else if is_ours() {
            "a character of this name only looks like a plain one; type the name again".to_owned()
        } else {
            format!("put the name in quotes: {} = …", printable_name(name))
        });
    }
    let is_safe = kind_of(name).is_some() || !printable_name(name).starts_with('(');
    let shown = if is_safe { name } else { "NAME" };
    match value.chars().next() {
        None => Some("no value after =; write one, or remove the line".to_owned()),
        Some('"' | '\'') if odd_character(value.chars().last()?).is_some() => {
            odd_character(value.chars().last()?).map(str::to_owned)
        }
        Some('"' | '\'') if value.matches(['"', '\'']).count() % 2 == 1 => {
            Some("the closing quote is missing".to_owned())
        }
        Some('"' | '\'' | '{') => None,
        Some('[') if value.contains(['"', '\'']) => None,
        Some('[') => Some(format!("put each entry in quotes: {shown} = [\"…\"]")),
        Some(first) if odd_character(first).is_some() => odd_character(first).map(str::to_owned),
        Some(_) => Some(match kind_of(name) {
            Some(ValueKind::Flag(..)) => format!("write {shown} = true or {shown} = false"),
            Some(ValueKind::Count(..) | ValueKind::Port(..) | ValueKind::Number(..)) => {
                format!("write a whole number: {shown} = …")
            }
            Some(kind)
                if kind.is_list()
                    && !matches!(kind, ValueKind::Addresses(_) | ValueKind::Ips(_)) =>
            {
                format!("put each entry in quotes: {shown} = [\"…\"]")
            }
            _ => format!("put the value in quotes: {shown} = \"…\""),
        }),
    }
}

/// What to do about a character that only looks like a plain one.
fn odd_character(found: char) -> Option<&'static str> {
    match found {
        '\u{201c}'..='\u{201f}'
        | '\u{2018}'..='\u{201b}'
        | '«'
        | '»'
        | '‹'
        | '›'
        | '″'
        | '′'
        | '`'
        | '´'
        | '❝'
        | '❞'
        | '＂' => Some("this is not a plain quote; write \""),
        '\u{feff}'
        | '\u{ad}'
        | '\u{180e}'
        | '\u{200b}'..='\u{200f}'
        | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}'
        | '\0' => Some("an invisible character; delete it"),
        _ if found.is_whitespace() && !found.is_ascii() => {
            Some("this is not a plain blank, such as one copied from a web page; type a blank")
        }
        _ => None,
    }
}

/// The grammar of the key with this name, in any table.
fn kind_of(name: &str) -> Option<ValueKind> {
    let name = name.rsplit('.').next()?.trim();
    KEYS.iter().find(|key| key.split().1.eq_ignore_ascii_case(name)).map(|key| key.kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usual_mistakes_have_a_remedy() {
        let quotes = "this is not a plain quote; write \"";
        for (line, at, want) in [
            ("bind-to = 0.0.0.0:443", 14, "put the value in quotes: bind-to = \"…\""),
            ("secret = 7kOj", 9, "put the value in quotes: secret = \"…\""),
            ("debug = yes", 8, "write debug = true or debug = false"),
            ("concurrency = many", 14, "write a whole number: concurrency = …"),
            ("мама = \"ee\"", 0, "put the name in quotes: \"мама\" = …"),
            ("a = “ee”", 4, quotes),
            ("a = „ee“", 4, quotes),
            ("a =\u{a0}\"ee\"", 3, "this is not a plain blank"),
            ("\u{feff}a = 1", 0, "an invisible character"),
            ("bind-to: \"0.0.0.0:443\"", 7, "write NAME = VALUE, with = instead of :"),
            ("bind-to = [0.0.0.0:443]", 11, "put each entry in quotes: bind-to = [\"…\"]"),
            ("secret = \"ee", 9, "the closing quote is missing"),
            ("secret =", 8, "no value after ="),
            ("bind–to = 1", 4, "a character of this name only looks like a plain one"),
            ("bind-to := 1", 9, "write NAME = VALUE, with = alone"),
            ("export A=1", 7, "remove the word export"),
            ("disabled-users = ivan", 17, "put each entry in quotes: disabled-users = [\"…\"]"),
            ("a = \"ee”", 4, quotes),
            ("a = ＂ee＂", 4, quotes),
            ("\u{ad}a = 1", 0, "an invisible character"),
            ("[secrets] a = \"ee\"", 10, "write [secrets] on a line of its own"),
        ] {
            let text = format!("debug = true\n{line}\n[secrets]\n");
            let found = remedy(&text, 13 + at).unwrap();
            assert!(found.starts_with(want), "{line}: {found}");
        }
        assert_eq!(remedy("a = \"ee\"\n", 0), None);
        assert_eq!(remedy("", 9), None);
    }

    #[test]
    fn values_and_long_names_are_not_repeated() {
        let secret = "7gARIjNEVWZ3iJmqu8zd7v9leGFtcGxlLm9yZw";
        for line in [format!("a = {secret}"), format!("{secret}+ = 1"), format!("{secret} = x")] {
            assert!(!remedy(&line, 4).unwrap().contains(secret), "{line}");
        }
    }
}

//! One name, one type: no two types of `src` share a name.

use std::collections::BTreeMap;

use crate::source::{Source, line_of};
use crate::tokens::{closing_brace, inline_modules, tokens};

/// Structs, enums, traits, unions and module-level aliases that are declared more than once.
pub fn shared_names(sources: &[Source]) -> Vec<String> {
    let mut places: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for source in sources {
        for (at, name) in declared_types(&source.product) {
            let place = format!("{}:{}", source.name, line_of(&source.product, at));
            places.entry(name).or_default().push(place);
        }
    }
    places.retain(|_, places| places.len() > 1);
    places
        .into_iter()
        .map(|(name, places)| {
            format!("{}: type `{name}` also in {}", places[0], places[1..].join(", "))
        })
        .collect()
}

fn declared_types(code: &str) -> Vec<(usize, &str)> {
    let tokens = tokens(code);
    let modules = inline_modules(&tokens);
    let mut found = Vec::new();
    let mut block_end = 0;
    for (index, pair) in tokens.windows(2).enumerate() {
        let [keyword, name] = pair else { continue };
        let is_module_body = modules.iter().any(|module| module.body.start == index + 1);
        if keyword.text == "{" && index >= block_end && !is_module_body {
            block_end = closing_brace(&tokens, index);
        }
        let declares = match keyword.text {
            "struct" | "enum" | "trait" => true,
            "union" => name.text.starts_with(char::is_uppercase),
            "type" => index >= block_end,
            _ => false,
        };
        if declares && name.is_name() {
            found.push((keyword.at, name.text));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaints(first: &str, second: &str) -> Vec<String> {
        shared_names(&[Source::new("src/a.rs", first), Source::new("src/b.rs", second)])
    }

    #[test]
    fn a_second_type_of_one_name_is_refused() {
        for second in [
            "struct Place;",
            "pub(crate) enum Place<T> { A(T) }",
            "trait Place {}",
            "union Place { a: u8 }",
            "type Place = u8;",
            "mod inner { type Place = u8; }",
            "fn f() { struct Place; }",
        ] {
            let found = complaints("\npub struct Place { x: u8 }", second);
            assert_eq!(found, ["src/a.rs:2: type `Place` also in src/b.rs:1"], "{second}");
        }
    }

    #[test]
    fn other_names_tests_and_associated_types_are_allowed() {
        for second in [
            "struct Places;",
            "// struct Place;\nconst X: &str = \"enum Place\";",
            "impl Iterator for X { type Place = u8; }",
            "trait Net { type Place; fn f(); }",
            "#[cfg(test)]\nmod tests { struct Place; }",
            "fn f(place: Place, r#type: u8) { let union = Place; }",
        ] {
            assert_eq!(complaints("pub struct Place;", second), [""; 0], "{second}");
        }
    }
}

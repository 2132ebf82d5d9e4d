//! Hostile files and random bytes: short answers, no panic.

use mtbox::config::load;
use mtbox::config::units;
use proptest::prelude::*;

use super::{diagnostics_below, diagnostics_of};

#[test]
fn a_file_of_unknown_keys_has_a_bounded_answer() {
    let flood: String = (0..30_000).map(|n| format!("nonsense-number-{n} = 1\n")).collect();
    let found = diagnostics_below(&flood);
    assert_eq!(found.len(), 100);
    let deep = format!("a = {}{}", "[".repeat(10_000), "]".repeat(10_000));
    assert!(diagnostics_of(&deep)[0].contains("invalid TOML"));
}

#[test]
fn many_listeners_and_users_are_checked_in_good_time() {
    let binds: String = (1..=60_000).map(|port| format!("\"1.1.1.1:{port}\",")).collect();
    assert_eq!(diagnostics_of(&format!("bind-to = [{binds}]")).len(), 1, "no user");
    let secret = "7gARIjNEVWZ3iJmqu8zd7v9leGFtcGxlLm9yZw";
    let users: String = (0..18_000).map(|n| format!("u{n} = \"{secret}\"\n")).collect();
    let found = diagnostics_of(&format!("bind-to = \"[::]:1\"\n[secrets]\n{users}"));
    assert_eq!(found.len(), 100, "as many warnings as are kept");
}

proptest! {
    #[test]
    fn no_bytes_make_the_loader_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = load::load(&bytes, "a.toml");
    }

    #[test]
    fn no_change_to_a_valid_file_makes_the_loader_panic(
        at in any::<prop::sample::Index>(),
        len in 0..40_usize,
        new in "\\PC{0,12}",
    ) {
        let whole = include_str!("../data/config/maximal.toml");
        let start = boundary(whole, at.index(whole.len()));
        let end = boundary(whole, (start + len).min(whole.len()));
        let text = [&whole[..start], &new, &whole[end..]].concat();
        if let Err(diagnostics) = load::load(text.as_bytes(), "a.toml") {
            let lines = text.lines().count();
            for diagnostic in diagnostics {
                prop_assert!((1..=lines + 1).contains(&diagnostic.line), "{diagnostic}");
                prop_assert!(!diagnostic.text.contains('\n') && !diagnostic.text.contains(":pw@"));
            }
        }
    }

    #[test]
    fn no_text_makes_the_units_panic(text in "[0-9a-zµ. +-]{0,24}") {
        let _ = (units::duration(&text), units::bytes(&text));
    }
}

fn boundary(text: &str, at: usize) -> usize {
    (0..=at).rfind(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

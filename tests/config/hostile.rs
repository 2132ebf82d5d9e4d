//! Files that mean harm, or are not files at all: brief answers, no panic.

use mtbox::config::load;
use mtbox::config::units;
use proptest::prelude::*;

use super::{said, said_of};

#[test]
fn a_flood_of_nonsense_is_answered_briefly() {
    let flood: String = (0..30_000).map(|n| format!("nonsense-number-{n} = 1\n")).collect();
    let said = said(&flood);
    assert_eq!(said.len(), 100);
    let deep = format!("a = {}{}", "[".repeat(10_000), "]".repeat(10_000));
    assert!(said_of(&deep)[0].contains("not TOML"));
}

#[test]
fn a_crowd_of_listeners_and_users_is_judged_in_good_time() {
    let binds: String = (1..=60_000).map(|port| format!("\"1.1.1.1:{port}\",")).collect();
    assert_eq!(said_of(&format!("bind-to = [{binds}]")).len(), 1, "no user");
    let secret = "7gARIjNEVWZ3iJmqu8zd7v9leGFtcGxlLm9yZw";
    let users: String = (0..18_000).map(|n| format!("u{n} = \"{secret}\"\n")).collect();
    let said = said_of(&format!("bind-to = \"[::]:1\"\n[secrets]\n{users}"));
    assert_eq!(said.len(), 100, "as many warnings as are kept");
}

proptest! {
    #[test]
    fn no_bytes_bring_the_loader_down(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = load::load(&bytes, "a.toml");
    }

    #[test]
    fn no_change_to_a_whole_file_brings_the_loader_down(
        at in any::<prop::sample::Index>(),
        len in 0..40_usize,
        new in "\\PC{0,12}",
    ) {
        let whole = include_str!("../data/config/maximal.toml");
        let start = boundary(whole, at.index(whole.len()));
        let end = boundary(whole, (start + len).min(whole.len()));
        let text = [&whole[..start], &new, &whole[end..]].concat();
        if let Err(complaints) = load::load(text.as_bytes(), "a.toml") {
            let lines = text.lines().count();
            for complaint in complaints {
                prop_assert!((1..=lines + 1).contains(&complaint.line), "{complaint}");
                prop_assert!(!complaint.text.contains('\n') && !complaint.text.contains(":pw@"));
            }
        }
    }

    #[test]
    fn no_text_brings_the_units_down(text in "[0-9a-zµ. +-]{0,24}") {
        let _ = (units::duration(&text), units::bytes(&text));
    }
}

fn boundary(text: &str, at: usize) -> usize {
    (0..=at).rfind(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

//! Every edit changes its own line and no other.

use proptest::prelude::*;

use super::Edit::{Add, Disable, Enable, Remove, Rotate};
use super::*;
use crate::config::load;

const ONE: &str = "ee00112233445566778899aabbccddeeff6578616d706c652e6f7267";
const TWO: &str = "ee11112233445566778899aabbccddeeff6578616d706c652e6f7267";

fn done(text: &str, edit: Edit<'_>) -> String {
    apply(text, edit).unwrap_or_else(|why| panic!("{edit:?}: {why}"))
}

/// The lines that only one of the texts has.
fn changed<'a>(before: &'a str, after: &'a str) -> (Vec<&'a str>, Vec<&'a str>) {
    let lines = |text: &'a str| text.split_inclusive('\n').collect::<Vec<&str>>();
    let (mut old, mut new) = (lines(before), lines(after));
    while !old.is_empty() && !new.is_empty() && old[0] == new[0] {
        old.remove(0);
        new.remove(0);
    }
    while !old.is_empty() && !new.is_empty() && old.last() == new.last() {
        old.pop();
        new.pop();
    }
    (old, new)
}

fn users(text: &str) -> Vec<(String, bool)> {
    let loaded = load::load(text.as_bytes(), "a.toml").unwrap_or_else(|e| panic!("{e:?}: {text}"));
    loaded.settings.users.into_iter().map(|user| (user.name, user.enabled)).collect()
}

fn file() -> String {
    format!(
        "# head\nbind-to = \"[::]:443\"   # here\n\n[network]\n\tdns = \"udp://9.9.9.9\"\n\n\
         [secrets] # users\n# bob is my brother\nbob   =   '{ONE}'   # since 2020\n\n\
         \"zoé x\" = \"{TWO}\"\n# the end"
    )
}

#[test]
fn a_new_user_is_one_line_after_the_last_user() {
    let before = file();
    let after = done(&before, Add("al-1", ONE));
    assert_eq!(changed(&before, &after), (vec![], vec![&*format!("al-1 = \"{ONE}\"\n")]));
    let after = done(&before, Add("a b\"c\\d", ONE));
    assert_eq!(changed(&before, &after).1, [format!("\"a b\\\"c\\\\d\" = \"{ONE}\"\n")]);
    assert_eq!(users(&after)[0].0, "a b\"c\\d");
}

#[test]
fn one_line_is_removed_and_the_comments_around_it_stay() {
    let before = file();
    let after = done(&before, Remove("bob"));
    let line = format!("bob   =   '{ONE}'   # since 2020\n");
    assert_eq!(changed(&before, &after), (vec![&*line], vec![]));
    let why = apply(&after, Remove("zoé x")).unwrap_err();
    assert_eq!(why, EditError::LastUser("zoé x".to_owned()));
    assert_eq!(apply(&before, Remove("eve")), Err(EditError::Unknown("eve".to_owned())));
}

#[test]
fn only_the_secret_between_the_quotes_changes() {
    let before = file();
    let after = done(&before, Rotate("bob", TWO));
    let line = format!("bob   =   \"{TWO}\"   # since 2020\n");
    assert_eq!(changed(&before, &after).1, [line]);
}

#[test]
fn the_list_of_disabled_users_is_created_and_grows_and_shrinks() {
    let before = file();
    let one = done(&before, Disable("bob"));
    assert_eq!(changed(&before, &one), (vec![], vec!["disabled-users = [\"bob\"]\n"]));
    let two = done(&one, Disable("zoé x"));
    assert_eq!(changed(&one, &two).1, ["disabled-users = [\"bob\", \"zoé x\"]\n"]);
    assert_eq!(users(&two), [("bob".to_owned(), false), ("zoé x".to_owned(), false)]);
    assert_eq!(apply(&two, Disable("bob")), Err(EditError::Disabled("bob".to_owned())));
    let back = done(&two, Enable("bob"));
    assert_eq!(changed(&two, &back).1, ["disabled-users = [\"zoé x\"]\n"]);
    assert_eq!(changed(&two, &done(&two, Enable("zoé x"))).1, ["disabled-users = [\"bob\"]\n"]);
    let without = done(&two, Remove("bob"));
    assert_eq!(users(&without), [("zoé x".to_owned(), false)], "both places");
    assert_eq!(apply(&back, Enable("bob")), Err(EditError::NotDisabled("bob".to_owned())));
    let list = before.replace("[network]", "disabled-users = [\n  \"bob\", # away\n]\n[network]");
    let more = done(&list, Disable("zoé x"));
    assert_eq!(changed(&list, &more).1, ["  \"bob\", \"zoé x\", # away\n"]);
}

#[test]
fn a_single_secret_moves_to_the_table_and_keeps_its_name() {
    let before = format!("bind-to = \"[::]:443\"\nsecret = \"{ONE}\" # mine\n[throttle]\n");
    let after = done(&before, Add("bob", TWO));
    assert_eq!(users(&after), [("bob".to_owned(), true), ("default".to_owned(), true)]);
    assert!(after.ends_with(&format!("\n[secrets]\ndefault = \"{ONE}\"\nbob = \"{TWO}\"\n")));
    assert!(!after.contains("secret = "));
    assert_eq!(apply(&before, Add("default", TWO)), Err(EditError::Exists("default".to_owned())));
    let rotated = done(&before, Rotate("default", TWO));
    assert_eq!(changed(&before, &rotated).1, [format!("secret = \"{TWO}\" # mine\n")]);
    let off = done(&before, Disable("default"));
    assert_eq!(users(&off), [("default".to_owned(), false)]);
}

#[test]
fn empty_and_dotted_tables_and_other_line_ends_are_kept() {
    let empty = "bind-to = \"[::]:443\"\n[secrets]\n# no user yet\n[throttle]\n";
    let after = done(empty, Add("bob", ONE));
    assert_eq!(changed(empty, &after), (vec![], vec![&*format!("bob = \"{ONE}\"\n")]));
    assert!(after.contains("[secrets]\nbob"));
    let dotted = format!("Secrets.bob = \"{ONE}\"\nbind-to = \"[::]:443\"\n");
    let after = done(&dotted, Add("al", TWO));
    assert_eq!(changed(&dotted, &after).1, [format!("Secrets.al = \"{TWO}\"\n")]);
    assert_eq!(users(&after).len(), 2);
    let windows = file().replace('\n', "\r\n");
    let after = done(&windows, Add("al", ONE));
    assert_eq!(changed(&windows, &after).1, [format!("al = \"{ONE}\"\r\n")]);
    let open = format!("bind-to = \"[::]:443\"\n[secrets]\nbob = \"{ONE}\"");
    assert!(done(&open, Add("al", TWO)).ends_with(&format!("\nal = \"{TWO}\"\n")));
    let inline = format!("secrets = {{ bob = \"{ONE}\" }}\nbind-to = \"[::]:443\"\n");
    assert_eq!(apply(&inline, Add("al", TWO)), Err(EditError::SecretsNotATable));
}

#[test]
fn invalid_names_are_refused() {
    for name in ["", "a\nb", "a\u{7f}", &"x".repeat(65)] {
        assert_eq!(apply(&file(), Add(name, ONE)), Err(EditError::BadName));
    }
    assert_eq!(apply(&file(), Add("bob", ONE)), Err(EditError::Exists("bob".to_owned())));
    assert!(matches!(apply("[secrets\n", Add("bob", ONE)), Err(EditError::NotToml(_))));
}

proptest! {
    /// Any sequence of edits keeps every other line, and leaves the expected users.
    #[test]
    fn any_edits_keep_every_other_line(
        steps in proptest::collection::vec((0..5_u8, 0..6_usize), 0..40),
        windows in any::<bool>(),
    ) {
        let names = ["bob", "zoé x", "al", "a.b", "q\"", "-"];
        let secrets: Vec<String> =
            (0..names.len()).map(|at| ONE.replace("ee00", &format!("ee0{}", at + 2))).collect();
        let mut text = if windows { file().replace('\n', "\r\n") } else { file() };
        let mut model = vec![("bob".to_owned(), true), ("zoé x".to_owned(), true)];
        for (kind, at) in steps {
            let name = names[at];
            let known = model.iter().position(|(other, _)| other == name);
            let edit = match kind {
                0 => Add(name, &secrets[at]),
                1 => Remove(name),
                2 => Rotate(name, &secrets[at]),
                3 => Disable(name),
                _ => Enable(name),
            };
            let may = match (kind, known) {
                (0, known) => known.is_none(),
                (1, Some(_)) => model.len() > 1,
                (2, Some(_)) => true,
                (3, Some(at)) => model[at].1,
                (4, Some(at)) => !model[at].1,
                _ => false,
            };
            let outcome = apply(&text, edit);
            prop_assert_eq!(outcome.is_ok(), may, "{:?}: {:?}", edit, outcome);
            let Ok(after) = outcome else { continue };
            match (kind, known) {
                (0, _) => model.push((name.to_owned(), true)),
                (1, Some(at)) => drop(model.remove(at)),
                (3 | 4, Some(at)) => model[at].1 = kind == 4,
                _ => {}
            }
            model.sort();
            prop_assert_eq!(&users(&after), &model);
            let is_own = |line: &&str| line.contains("ee0") || line.contains("ee1")
                || line.contains("disabled-users");
            let others = |text: &str| -> Vec<String> {
                let lines = text.lines();
                lines.filter(|line| !is_own(line)).map(str::to_owned).collect()
            };
            prop_assert_eq!(others(&text), others(&after));
            text = after;
        }
    }
}

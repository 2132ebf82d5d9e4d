//! Properties of the parser of `/etc/config` files.

use std::path::Path;

use mtbox::config::load::load;
use mtbox::config::uci::convert;
use mtbox::config::uci::grammar::{UciOption, UciSection, parse};
use proptest::collection::vec;
use proptest::prelude::*;

use super::SECRET;

/// Prints sections as `uci export` does.
fn printed(sections: &[UciSection]) -> String {
    let quoted = |text: &str| format!("'{}'", text.replace('\'', r"'\''"));
    let mut out = "package mtbox\n".to_owned();
    for section in sections {
        out.push_str(&format!("\nconfig {}", section.kind));
        if !section.name.is_empty() {
            out.push_str(&format!(" {}", quoted(&section.name)));
        }
        out.push('\n');
        for option in &section.options {
            let verb = if option.is_list { "list" } else { "option" };
            for value in &option.values {
                out.push_str(&format!("\t{verb} {} {}\n", option.name, quoted(value)));
            }
        }
    }
    out.push('\n');
    out
}

fn any_option() -> impl Strategy<Value = UciOption> {
    let option = ("[a-z0-9_]{1,12}", "[^\0]{1,20}").prop_map(|(name, value)| UciOption {
        name,
        values: vec![value],
        is_list: false,
    });
    let list = ("[a-z0-9_]{1,12}", vec("[^\0]{0,20}", 1..4)).prop_map(|(name, values)| UciOption {
        name,
        values,
        is_list: true,
    });
    prop_oneof![option, list]
}

/// Sections that libuci would not merge: with different names, and different options in each.
fn any_sections() -> impl Strategy<Value = Vec<UciSection>> {
    let section = ("[a-z]{1,8}", "[a-zA-Z0-9_]{0,8}", vec(any_option(), 0..6));
    vec(section, 0..6).prop_map(|drawn| {
        let mut sections: Vec<UciSection> = Vec::new();
        for (kind, name, drawn) in drawn {
            let mut options: Vec<UciOption> = Vec::new();
            for option in drawn {
                if options.iter().all(|other| other.name != option.name) {
                    options.push(option);
                }
            }
            if name.is_empty() || sections.iter().all(|other| other.name != name) {
                sections.push(UciSection { kind, name, options });
            }
        }
        sections
    })
}

proptest! {
    #[test]
    fn no_bytes_make_it_fail(bytes in vec(any::<u8>(), 0..400)) {
        let made = convert(&bytes, "/etc/config/mtbox", "mtbox");
        prop_assert_eq!(made.toml.is_none(), !made.errors.is_empty());
    }

    #[test]
    fn no_text_makes_it_fail(text in "[a-z'\"\\\\#; \n\t]{0,200}") {
        let _ = parse(&text);
        let text = format!("config user x\n{text}");
        let made = convert(text.as_bytes(), "/etc/config/mtbox", "mtbox");
        for line in made.errors.iter().chain(&made.warnings) {
            prop_assert!(!line.contains('\n'), "{}", line);
        }
    }

    #[test]
    fn what_uci_prints_is_read_back(sections in any_sections()) {
        let text = printed(&sections);
        prop_assert_eq!(parse(&text), Ok(sections), "{}", text);
    }

    #[test]
    fn any_name_reaches_the_settings(name in "[^\0]{1,16}") {
        let section = UciSection {
            kind: "user".to_owned(),
            name: String::new(),
            options: [("name", name.as_str()), ("secret", SECRET), ("enabled", "0")]
                .map(|(name, value)| UciOption {
                    name: name.to_owned(),
                    values: vec![value.to_owned()],
                    is_list: false,
                })
                .into(),
        };
        let made = convert(printed(&[section]).as_bytes(), "/etc/config/mtbox", "mtbox");
        let fits = name.len() <= 64 && !name.chars().any(char::is_control);
        prop_assert_eq!(made.toml.is_some(), fits, "{:?}", made);
        if let Some(toml) = made.toml {
            let users = load(toml.as_bytes(), "a.toml").unwrap().settings.users;
            prop_assert_eq!((users[0].name.as_str(), users[0].enabled), (name.as_str(), false));
        }
    }

    #[test]
    fn any_path_reaches_the_settings(path in "/[^\0]{1,30}") {
        let text = |name: &str, value: &str| UciOption {
            name: name.to_owned(),
            values: vec![value.to_owned()],
            is_list: false,
        };
        let section = |kind: &str, name: &str, options| UciSection {
            kind: kind.to_owned(),
            name: name.to_owned(),
            options,
        };
        let sections = [
            section("mtbox", "main", vec![text("pid_file", &path)]),
            section("user", "me", vec![text("secret", SECRET)]),
        ];
        let made = convert(printed(&sections).as_bytes(), "/etc/config/mtbox", "mtbox");
        if let Some(toml) = made.toml {
            let settings = load(toml.as_bytes(), "a.toml").unwrap().settings;
            prop_assert_eq!(settings.pid_file.as_deref(), Some(Path::new(&path)));
        } else {
            let place = "/etc/config/mtbox: section 'main', option pid_file: ";
            prop_assert!(made.errors.iter().all(|line| line.starts_with(place)), "{:?}", made);
        }
    }
}

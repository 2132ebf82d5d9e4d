//! The man pages are well-formed and complete, and groff reads them without a warning.

use mtbox::cli::COMMANDS;
use mtbox::config::keys::KEYS;

use super::{finds_nothing, read, run};

const PAGES: [&str; 2] = ["mtbox.1", "mtbox.toml.5"];

#[test]
fn man_reads_the_pages_without_a_warning() {
    for page in PAGES {
        let options = ["-man", "-ww", "-Tutf8", "-z", "-K", "utf8"];
        finds_nothing("groff", &[&options[..], &[page]].concat());
    }
}

/// Does not require groff.
#[test]
fn the_pages_hold_nothing_but_the_macros_of_man_in_their_order() {
    const MACROS: &[&str] =
        &["TH", "SH", "SS", "PP", "TP", "RS", "RE", "EX", "EE", "BR", "br", "\\\""];
    for page in PAGES {
        let text = read(page);
        let mut open = Vec::new();
        let mut titles = Vec::new();
        for (at, line) in text.lines().enumerate() {
            assert!(line.is_ascii(), "{page}:{}: {line}", at + 1);
            let Some(request) = line.strip_prefix('.') else {
                assert!(!line.is_empty() && !line.starts_with('\''), "{page}:{}: {line}", at + 1);
                continue;
            };
            let name = request.split(' ').next().unwrap();
            assert!(MACROS.contains(&name), "{page}:{}: {line}", at + 1);
            match name {
                "SH" => titles.push(request[3..].to_string()),
                "RS" | "EX" => open.push(name),
                "RE" => assert_eq!(open.pop(), Some("RS"), "{page}:{}", at + 1),
                "EE" => assert_eq!(open.pop(), Some("EX"), "{page}:{}", at + 1),
                _ => {}
            }
        }
        assert!(open.is_empty(), "{page}: {open:?}");
        assert!(text.lines().nth(1).unwrap().starts_with(".TH "), "{page}");
        assert_eq!(titles.first().map(String::as_str), Some("NAME"), "{page}");
        assert_eq!(titles.last().map(String::as_str), Some("SEE ALSO"), "{page}");
    }
}

#[test]
fn the_page_of_the_program_names_every_command_and_flag() {
    let text = shown("mtbox.1");
    for command in COMMANDS.iter().filter(|command| !command.is_hidden) {
        let (_, rest) = text.split_once(&format!("\n   mtbox {}\n", command.name)).expect(&text);
        let part = rest.split("\n   mtbox ").next().unwrap();
        assert!(words(part).contains(&words(command.about)), "{}", command.name);
        for flag in command.flags {
            assert!(part.contains(&format!("--{}", flag.long)), "{} {}", command.name, flag.long);
            assert!(words(part).contains(&words(flag.doc)), "{} {}", command.name, flag.long);
        }
        for example in command.examples {
            assert!(part.contains(example), "{}: {example}", command.name);
        }
    }
}

#[test]
fn the_page_of_the_config_names_every_key_with_its_default_and_what_it_does() {
    let text = words(&shown("mtbox.toml.5"));
    for key in KEYS {
        let Some(instead) = key.instead else {
            assert!(text.contains(&words(&key.doc.replace('`', ""))), "{}", key.path);
            let (_, name) = key.split();
            let default = if key.is_unset() { "For example:" } else { "Default:" };
            assert!(text.contains(&words(&format!("{default} {}", key.value()))), "{}", key.path);
            assert!(key.is_whole_table() || text.contains(&format!(" {name} = ")), "{}", key.path);
            continue;
        };
        assert!(
            text.contains(&format!(" {} Instead: {}", key.path, words(instead))),
            "{}",
            key.path
        );
    }
}

/// The rendered page. Without groff, the source without its font escapes.
fn shown(page: &str) -> String {
    // -P-cbou: no colours, bold or underlines; -rHY=0 -rLL: no hyphens, wide lines.
    let options = ["-man", "-Tutf8", "-Kutf8", "-P-cbou", "-rHY=0", "-rLL=240n", page];
    if let Some(output) = run("groff", &options) {
        return String::from_utf8(output.stdout).unwrap();
    }
    let source = read(page);
    let lines = source.lines().map(|line| match line.strip_prefix(".SS ") {
        Some(title) => format!("   {title}"),
        None => line.to_string(),
    });
    let mut text = lines.collect::<Vec<String>>().join("\n").replace("[u2026]", "…");
    for (escape, letter) in ESCAPES {
        text = text.replace(escape, letter);
    }
    text
}

const ESCAPES: &[(&str, &str)] = &[
    ("\\fB", ""),
    ("\\fI", ""),
    ("\\fR", ""),
    ("\\&", ""),
    ("\\-", "-"),
    ("\\(aq", "'"),
    ("\\(ga", "`"),
    ("\\(dq", "\""),
    ("\\(ti", "~"),
    ("\\(ha", "^"),
    ("\\e", "\\"),
    ("\\…", "…"),
];

/// Replaces line ends and runs of blanks by single blanks.
fn words(text: &str) -> String {
    text.replace('`', "").split_whitespace().collect::<Vec<&str>>().join(" ")
}

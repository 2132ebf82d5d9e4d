//! Rules for one file, each a function from a source to complaints of the form
//! `file:line: what is wrong`. The tests below prove that each rule can fail.

use crate::source::{Source, line_of, words};

/// A longer file is split by topic.
const MOST_LINES: usize = 600;

/// As in `rustfmt.toml`, which does not check literals and comments.
const MOST_COLUMNS: usize = 100;

/// Each layer and the layers below it that it may import. The root files of the crate belong to no
/// layer.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("util", &[]),
    ("proto", &["util"]),
    ("io", &["util"]),
    ("accounts", &["proto", "util"]),
    ("limits", &["accounts", "proto", "util"]),
    ("mimicry", &["accounts", "proto", "util"]),
    ("flow", &["accounts", "limits", "mimicry", "proto", "util"]),
    ("config", &["proto", "util"]),
    ("daemon", &["accounts", "config", "flow", "io", "limits", "mimicry", "proto", "util"]),
    ("cli", &["accounts", "config", "daemon", "flow", "io", "limits", "mimicry", "proto", "util"]),
];

/// Layers without input and output: time and randomness are parameters.
const PURE: &[&str] = &["util", "proto", "accounts", "limits", "mimicry", "flow", "config"];

/// What a pure layer must not name, wherever it was imported from.
const IMPURE: &[&str] =
    &["Instant::now", "SystemTime", "TcpStream", "TcpListener", "UdpSocket", "getrandom", "log::"];

/// Where the daemon may name the operating system; everywhere else it uses `Net` and the time of
/// the round, so that the simulation sees all of it.
const MAY_USE_SYSTEM: &[&str] = &["src/daemon/server/", "src/daemon/fetch/standalone.rs"];

/// What the rest of the daemon must not name.
const SYSTEM: &[&str] = &[
    "MioNet",
    "MioWire",
    "mio::",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "UnixStream",
    "Instant::now",
    "SystemTime::now",
];

/// Calls that can end the process. Input from a peer must not reach one, so there are none.
const PANICS: &[&str] = &[".unwrap()", ".expect(", "panic!", "todo!", "unimplemented!", "dbg!"];

/// Home folders of the machine that built something. In two halves, so that this file passes.
const HOMES: &[&str] = &[concat!("/ro", "ot/"), concat!("/ho", "me/")];

/// Marks of unfinished work.
const UNFINISHED: &[&str] = &[concat!("TO", "DO"), concat!("FIX", "ME")];

/// At most 600 lines of at most 100 columns, and a `//!` comment first.
pub fn shape(source: &Source) -> Vec<String> {
    let mut complaints = Vec::new();
    let lines = source.text.lines().count();
    if lines > MOST_LINES {
        complaints.push(format!("{}:{lines}: more than {MOST_LINES} lines", source.name));
    }
    if !source.text.starts_with("//!") {
        complaints.push(format!("{}:1: no `//!` head", source.name));
    }
    for (index, line) in source.text.lines().enumerate() {
        let columns = line.chars().count();
        if columns > MOST_COLUMNS {
            complaints.push(format!("{}:{}: {columns} columns", source.name, index + 1));
        }
    }
    complaints
}

/// A file names only its own layer and those that the table allows, in tests too.
pub fn layers(source: &Source) -> Vec<String> {
    let Some(own) = source.layer() else { return Vec::new() };
    let Some((_, allowed)) = MAY_IMPORT.iter().find(|(layer, _)| *layer == own) else {
        return vec![format!("{}:1: `{own}` is not a layer", source.name)];
    };
    let mut complaints = Vec::new();
    for (at, target) in crate_paths(&source.code) {
        let is_layer = MAY_IMPORT.iter().any(|(layer, _)| *layer == target);
        if is_layer && target != own && !allowed.contains(&target) {
            let line = line_of(&source.code, at);
            complaints.push(format!("{}:{line}: `{own}` must not use `{target}`", source.name));
        }
    }
    complaints
}

/// Pure layers: no clock, no randomness, no socket, no log.
pub fn purity(source: &Source) -> Vec<String> {
    if !source.layer().is_some_and(|layer| PURE.contains(&layer)) {
        return Vec::new();
    }
    forbid(source, IMPURE, "in a pure layer")
}

/// The daemon below its loop: no clock, and no socket but those of `Net`.
pub fn simulated(source: &Source) -> Vec<String> {
    let is_exempt = MAY_USE_SYSTEM.iter().any(|place| source.name.starts_with(place));
    if !source.name.starts_with("src/daemon/") || is_exempt {
        return Vec::new();
    }
    forbid(source, SYSTEM, "below the loop of the daemon")
}

/// No call that panics outside tests.
pub fn panics(source: &Source) -> Vec<String> {
    forbid(source, PANICS, "outside tests")
}

/// `unsafe` appears only in `forbid(unsafe_code)`.
pub fn unsafety(source: &Source) -> Vec<String> {
    let plain = words(&source.code, "unsafe");
    let allowed = words(&source.code, "unsafe_code")
        .filter(|&at| !source.code[..at].trim_end().ends_with("forbid("));
    let at_line = |at| format!("{}:{}: unsafe", source.name, line_of(&source.code, at));
    plain.chain(allowed).map(at_line).collect()
}

/// No home folders and no unfinished work in any published text.
pub fn leftovers(name: &str, text: &str) -> Vec<String> {
    let homes = HOMES.iter().flat_map(|home| text.match_indices(home));
    let unfinished = UNFINISHED.iter().flat_map(|word| words(text, word).map(|at| (at, *word)));
    homes
        .chain(unfinished)
        .map(|(at, what)| format!("{name}:{}: {what}", line_of(text, at)))
        .collect()
}

fn forbid(source: &Source, banned: &[&str], why: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    for word in banned {
        for at in words(&source.product, word) {
            let line = line_of(&source.product, at);
            complaints.push(format!("{}:{line}: `{word}` {why}", source.name));
        }
    }
    complaints
}

/// The first name of every path from the root of the crate, with its offset: `crate::a`,
/// `crate::{a::b, c}`, and `super::super::a`, which may start at the root too.
fn crate_paths(code: &str) -> Vec<(usize, &str)> {
    let starts = words(code, "crate::").map(|at| at + "crate::".len());
    let climbs = words(code, "super::super::").map(|at| at + "super::super::".len());
    let mut found = Vec::new();
    for start in starts.chain(climbs) {
        match code[start..].strip_prefix('{') {
            None => found.push((start, first_name(&code[start..]))),
            Some(group) => {
                for (offset, entry) in group_entries(group) {
                    found.push((start + 1 + offset, first_name(entry.trim_start())));
                }
            }
        }
    }
    found
}

fn first_name(path: &str) -> &str {
    let end = path.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(path.len());
    &path[..end]
}

/// The entries of an import group, read from behind its opening brace.
fn group_entries(group: &str) -> Vec<(usize, &str)> {
    let mut entries = Vec::new();
    let (mut depth, mut start) = (0usize, 0);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                entries.push((start, &group[start..at]));
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                entries.push((start, &group[start..at]));
                start = at + 1;
            }
            _ => {}
        }
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(name: &str, text: &str) -> Source {
        Source::new(name, text)
    }

    #[test]
    fn a_layer_above_is_refused_and_a_layer_below_is_not() {
        let bad = [
            ("src/proto/tls.rs", "use crate::accounts::users::User;"),
            ("src/io/pool.rs", "fn f() { crate::proto::tls::f() }"),
            ("src/flow/authenticate.rs", "use crate::{\n    accounts::users,\n    io::pool,\n};"),
            ("src/accounts/users.rs", "use super::super::daemon::Shared;"),
            ("src/config/load.rs", "#[cfg(test)]\nmod tests { use crate::cli; }"),
            ("src/daemon/mod.rs", "use crate::cli;"),
            ("src/other/mod.rs", ""),
        ];
        for (name, text) in bad {
            assert_eq!(layers(&source(name, text)).len(), 1, "{name}: {text}");
        }
        let good = [
            ("src/flow/authenticate.rs", "use crate::{accounts::{io, users}, proto::tls};"),
            ("src/daemon/mod.rs", "use crate::io::pool; use super::step;"),
            ("src/proto/tls.rs", "// crate::daemon is above\nuse crate::proto::bytes;"),
            ("src/lib.rs", "use crate::cli;"),
        ];
        for (name, text) in good {
            assert_eq!(layers(&source(name, text)), [""; 0], "{name}: {text}");
        }
    }

    #[test]
    fn clocks_sockets_randomness_and_logs_are_refused_in_pure_layers_only() {
        for text in [
            "let now = Instant::now();",
            "use std::time::SystemTime;",
            "std::net::TcpStream::connect(to);",
            "use std::net::{IpAddr, TcpStream};",
            "getrandom::fill(&mut x);",
            "log::debug!(\"x\");",
        ] {
            assert!(!purity(&source("src/limits/x.rs", text)).is_empty(), "{text}");
            assert!(purity(&source("src/io/x.rs", text)).is_empty(), "{text}");
            let in_tests = format!("#[cfg(test)]\nmod tests {{ fn f() {{ {text} }} }}");
            assert!(purity(&source("src/limits/x.rs", &in_tests)).is_empty(), "{text}");
        }
        assert!(
            purity(&source("src/flow/x.rs", "// log::debug!\nuse std::net::IpAddr;")).is_empty()
        );
        assert!(purity(&source("src/flow/x.rs", "let x = catalog::find();")).is_empty());
    }

    #[test]
    fn the_system_is_refused_below_the_loop_of_the_daemon_only() {
        let uses = [
            "use mio::Registry;",
            "use crate::io::mio_net::MioNet;",
            "std::net::TcpStream::connect(to);",
            "let now = Instant::now();",
        ];
        for text in uses {
            assert_eq!(simulated(&source("src/daemon/round.rs", text)).len(), 1, "{text}");
            assert!(simulated(&source("src/daemon/server/mod.rs", text)).is_empty(), "{text}");
            assert!(simulated(&source("src/io/mio_net.rs", text)).is_empty(), "{text}");
        }
        assert!(simulated(&source("src/daemon/round.rs", "wire: N::Wire, SystemTime")).is_empty());
    }

    #[test]
    fn panics_are_refused_outside_tests() {
        for call in ["x.unwrap()", "x.expect(\"y\")", "panic!()", "todo!()", "dbg!(x)"] {
            let product = format!("fn f() {{ {call}; }}\n");
            assert_eq!(panics(&source("src/io/x.rs", &product)).len(), 1, "{call}");
            let test = format!("#[cfg(test)]\nmod tests {{ {product} }}\n");
            assert!(panics(&source("src/io/x.rs", &test)).is_empty(), "{call}");
        }
        assert_eq!(panics(&source("src/io/x.rs", "unimplemented!()")).len(), 1);
        assert!(panics(&source("src/io/x.rs", "x.unwrap_or(1); // panic!")).is_empty());
    }

    #[test]
    fn unsafe_is_refused_unless_it_is_being_forbidden() {
        let bad = ["fn f() { unsafe { g() } }", "#![allow(unsafe_code)]"];
        for text in bad {
            assert_eq!(unsafety(&source("src/io/x.rs", text)).len(), 1, "{text}");
        }
        let good = "#![forbid(unsafe_code)]\n// nothing unsafe here\nlet x = \"unsafe\";";
        assert!(unsafety(&source("src/lib.rs", good)).is_empty());
    }

    #[test]
    fn long_files_long_lines_and_files_without_a_head_are_refused() {
        let long_line = format!("//! x\n{}\n", "é".repeat(MOST_COLUMNS + 1));
        let long_file = format!("//! x\n{}", "\n".repeat(MOST_LINES));
        for text in ["fn f() {}", &long_line, &long_file] {
            assert_eq!(shape(&source("src/x.rs", text)).len(), 1);
        }
        let largest = format!("//! x\n{}\n", "é".repeat(MOST_COLUMNS));
        assert!(shape(&source("src/x.rs", &largest)).is_empty());
    }

    #[test]
    fn homes_and_unfinished_work_are_refused_with_their_line() {
        for word in HOMES.iter().chain(UNFINISHED) {
            let text = format!("fine\nsee {word}x y\n").replace(&format!("{word}x"), word);
            assert_eq!(leftovers("a.md", &text), [format!("a.md:2: {word}")]);
        }
        let inside_a_longer_word = UNFINISHED[0].repeat(2);
        assert!(leftovers("a.md", &inside_a_longer_word).is_empty());
    }
}
